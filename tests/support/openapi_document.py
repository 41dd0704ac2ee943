#!/usr/bin/python3
"""Prints docs/openapi.yaml as the C source of the document that the daemon serves (src/http/api/openapi.h).

    openapi_document.py docs/openapi.yaml >openapi_json.c
"""
import base64
import hashlib
import json
import pathlib
import sys

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LINE = 96


def load(path):
    """The description as Python has it; merge keys and aliases are resolved."""
    return yaml.load(pathlib.Path(path).read_text(), LOADER)


def as_json(description):
    """The bytes that the daemon serves."""
    return json.dumps(description, ensure_ascii=False, separators=(",", ":")).encode()


def etag(document):
    digest = hashlib.blake2b(document, digest_size=12).digest()
    return f'"{base64.urlsafe_b64encode(digest).decode()}"'


def literal(data):
    """Bytes inside a C string literal. A question mark might begin a trigraph."""
    return "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}" for byte in data)


def source(document):
    lines = [f'    "{literal(document[start:start + LINE])}"' for start in range(0, len(document), LINE)]
    return "\n".join(['#include "http/api/openapi.h"', "", "const char openapi_json[] =", *lines, ";",
                      f"const size_t openapi_json_length = {len(document)};",
                      f'const char openapi_etag[] = "{literal(etag(document).encode())}";', ""])


if __name__ == "__main__":
    sys.stdout.write(source(as_json(load(sys.argv[1]))))

"""Holds every answer that a test receives to docs/openapi.yaml: its status, headers, content type and body.

An answer that the description does not know fails the test that received it; the message names operation, status and
the place in the body. Objects may have no members but those described, though clients are asked to ignore others.

Most answers look like earlier ones, so a body is validated once for each shape: names, types, words, and lengths and
characters of texts.
"""
import collections
import json
import pathlib
import re
import sys
import threading

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parents[2]
DESCRIPTION = ROOT / "docs/openapi.yaml"
PROBLEM = "application/problem+json"
# HTTP's own: OpenAPI does not describe them.
HTTP_HEADERS = {"date", "content-length", "content-type", "connection", "keep-alive"}
WORD = re.compile(r"[a-z_]{1,32}")
CLASSES = {**dict.fromkeys(map(ord, "0123456789"), "0"), **dict.fromkeys(map(ord, "abcdef"), "a"),
           **dict.fromkeys(map(ord, "ghijklmnopqrstuvwxyz"), "g"), **dict.fromkeys(map(ord, "ABCDEF"), "A"),
           **dict.fromkeys(map(ord, "GHIJKLMNOPQRSTUVWXYZ"), "G")}


class Undescribed(AssertionError):
    """An answer that is not as the description says."""


def shape(value):
    """What decides whether a value is as its schema says."""
    if isinstance(value, str):
        if WORD.fullmatch(value):
            return value
        return len(value), value[:3], "".join(sorted(set(value.translate(CLASSES))))
    if isinstance(value, dict):
        return tuple((name, shape(part)) for name, part in value.items())
    if isinstance(value, list):
        return ("[]", *dict.fromkeys(map(shape, value)), min(len(value), 2))
    if isinstance(value, bool) or value is None:
        return value, "word"
    return type(value).__name__, value < 0, int(value).bit_length()


class Body:
    """One schema, and the shapes that passed it."""

    def __init__(self, schema):
        self.validator = jsonschema.Draft202012Validator(schema)
        self.passed = set()

    def fault(self, value):
        """None, or the place and what is wrong there."""
        key = shape(value)
        if key in self.passed:
            return None
        errors = list(self.validator.iter_errors(value))
        if not errors:
            self.passed.add(key)
            return None
        # A member that is wrong counts as unevaluated, too: that says less.
        telling = [error for error in errors if error.validator != "unevaluatedProperties"]
        error = jsonschema.exceptions.best_match(telling or errors)
        return f"{error.json_path}: {error.message[:400]}"


class Response:
    """A described response: what its headers and bodies must be."""

    def __init__(self, contract, where, response):
        response = contract.resolve(response)
        self.where = where
        headers = {name.lower(): contract.resolve(header) for name, header in response.get("headers", {}).items()}
        self.headers = {name: contract.schema(header["schema"], True) for name, header in headers.items()}
        self.required = {name for name, header in headers.items() if header.get("required")}
        self.checks = {name: Body(schema) for name, schema in self.headers.items()}
        self.bodies = {media: Body(contract.schema(content["schema"], True))
                       for media, content in response.get("content", {}).items()}

    def header_fault(self, answer):
        present = {name.lower(): value.strip() for name, value in answer.headers}
        for name, value in present.items():
            if name in HTTP_HEADERS:
                continue
            if name not in self.headers:
                return f"header {name}: is not described"
            whole = self.headers[name].get("type") == "integer" and re.fullmatch(r"-?\d+", value)
            fault = self.checks[name].fault(int(value) if whole else value)
            if fault:
                return f"header {name}: {fault}"
        missing = self.required - present.keys()
        return f"header {min(missing)}: is missing" if missing else None

    def body_fault(self, answer, sends_body):
        media = (answer.header("Content-Type") or "").split(";")[0]
        if not media and answer.body.startswith(b"<html>"):
            media = "text/html"  # the HTTP library's own refusals do not say so
        if not self.bodies and (media or answer.body):
            return f"a body of {media or 'no type'}, where none is described"
        if not sends_body:
            return f"{len(answer.body)} bytes, where none may be" if answer.body else None
        if not self.bodies:
            return None
        if media not in self.bodies:
            return f"content type {media or 'none'} is not described, only {', '.join(self.bodies)}"
        if not media.endswith("json"):
            return None if answer.body else "the body is empty"
        try:
            value = json.loads(answer.body)
        except ValueError as error:
            return f"no JSON: {error}"
        return self.bodies[media].fault(value) or (problem_fault(answer, value) if media == PROBLEM else None)


def problem_fault(answer, problem):
    """What no schema says: members that repeat each other, and those that only one error lacks."""
    if problem["status"] != answer.status:
        return f"$.status: {problem['status']} is not that of the answer"
    if problem["type"] != f"/problems/{problem['code']}":
        return f"$.type: {problem['type']} is not that of the code {problem['code']}"
    if problem.get("request_id") != answer.header("X-Request-Id"):
        return "$.request_id: is not X-Request-Id"
    if problem["code"] != "overloaded" and not ("detail" in problem and "request_id" in problem):
        return "$: lacks detail or request_id"
    return None


class Contract:
    def __init__(self):
        sys.path.insert(0, str(ROOT / "tests/support"))
        import openapi_document
        self.description = openapi_document.load(DESCRIPTION)
        self.any_path = self.description["x-any-path"]
        self.exact, self.patterns = {}, []
        for path, item in self.description["paths"].items():
            if "{" in path:
                pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))
                if "x-any-path-below" in item:
                    pattern = pattern.removesuffix("[^/]+") + ".*"
                self.patterns.append((re.compile(pattern), path, item))
            else:
                self.exact[path] = path, item
        self.responses = {}
        self.lock = threading.Lock()
        self.counts = collections.Counter()
        self.broken = []

    # --- the description ---

    def resolve(self, node):
        while "$ref" in node:
            target = self.description
            for word in node["$ref"].removeprefix("#/").split("/"):
                target = target[word]
            node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
        return node

    def schema(self, node, whole):
        """A schema without references; an object that it describes whole has no other members."""
        node = dict(self.resolve(node))
        for word in ("example", "description"):
            node.pop(word, None)
        for word in ("allOf", "oneOf", "anyOf"):
            if word in node:
                node[word] = [self.schema(part, False) for part in node[word]]
        if "properties" in node:
            node["properties"] = {name: self.schema(part, True) for name, part in node["properties"].items()}
        for word in ("items", "additionalProperties"):
            if isinstance(node.get(word), dict):
                node[word] = self.schema(node[word], True)
        combined = node.keys() & {"allOf", "oneOf", "anyOf"}
        if whole and "additionalProperties" not in node and ("properties" in node or combined):
            node["unevaluatedProperties" if combined else "additionalProperties"] = False
        return node

    # --- answers ---

    def find_path(self, target):
        target = re.sub(r"^https?://[^/?]+", "", target, flags=re.IGNORECASE).partition("?")[0]
        if target in self.exact:
            return self.exact[target]
        return next(((path, item) for pattern, path, item in self.patterns if pattern.fullmatch(target)),
                    (None, {}))

    def candidates(self, method, path, item, ops):
        """(name, responses) of what may answer, the closest first."""
        operation = item.get("get" if method == "HEAD" else method.lower())
        if "x-any-method" in item.get("get", {}):
            operation = item["get"]
        if ops and "servers" not in item:
            operation = None
        if method == "OPTIONS":
            yield "OPTIONS *", self.any_path["options"]["responses"]
        if operation:
            yield f"{method} {path}", operation["responses"]
        if not operation or "servers" in item:  # an operation of another method, or of the other listener
            yield f"{method} of any path", self.any_path["responses"]

    def find_response(self, method, target, status, ops):
        path, item = self.find_path(target)
        key = method, path, status, ops
        if key not in self.responses:
            found = None
            for word in (str(status), "default") if status >= 400 else (str(status),):
                for where, responses in self.candidates(method, path, item, ops):
                    if found is None and word in responses:
                        found = Response(self, f"{where}: {status}", responses[word])
            self.responses[key] = found
        return self.responses[key] or f"{method} {path or target}: {status}"

    def hold(self, method, target, answer, ops=False):
        """Raises Undescribed if the answer to this call is not as described; counts it otherwise. `ops`: surely of the
        listener for operations."""
        response = self.find_response(method, target, answer.status, ops)
        if isinstance(response, str):
            fault, where = "the status is not described", response
        else:
            sends_body = method != "HEAD" and answer.status not in (204, 304)
            fault, where = response.header_fault(answer) or response.body_fault(answer, sends_body), response.where
        if fault is None:
            with self.lock:
                self.counts[where] += 1
            return
        message = f"docs/openapi.yaml does not describe this answer: {where}: {fault}\n{answer}"
        self.broken.append(message)
        raise Undescribed(message)

    def take_broken(self):
        """What was found since the last call; a test may have swallowed the exception."""
        broken, self.broken = self.broken, []
        return broken

    def summary(self):
        described = sum(len(operation["responses"]) for item in self.description["paths"].values()
                        for method, operation in item.items() if isinstance(operation, dict) and "responses" in operation)
        return (f"{sum(self.counts.values())} answers agree with docs/openapi.yaml: {len(self.counts)} kinds,"
                f" by operation and status; {described} are described")


CONTRACT = Contract()

"""Holds docs/openapi.yaml to the code: its routes, scopes, query parameters and body limits to tbl/routes.h, its codes to
tbl/errors.h, the members of bodies to the tables of the handlers, those of policies to tbl/policy.h. Both ways."""
import ast
import pathlib
import re
import subprocess
import sys

import house

NAME = "docs/openapi.yaml"
METHODS = ("get", "put", "post", "delete", "patch", "options")
# The unit that a member has in JSON is that of the option, but for these texts of the configuration.
KINDS = {"SECONDS": "integer", "INT": "integer", "BYTES": "integer", "ENUM": "string", "FLAGS": "array",
         "BOOL": "boolean", "FLAG": "boolean"}
JSON_KINDS = {"JSON_TEXT": "string", "JSON_ID": "string", "JSON_ANY_TEXT": "string", "JSON_DECORATION": "string",
              "JSON_BOOLEAN": "boolean", "JSON_TRISTATE": "boolean", "JSON_INT": "integer", "JSON_TEXT_ARRAY": "array",
              "JSON_MEMBERS": "object", "JSON_ANY_OBJECT": "object"}
BOUNDED = {"JSON_TEXT": ("minLength", "maxLength"), "JSON_ID": ("minLength", "maxLength"),
           "JSON_INT": ("minimum", "maximum"), "JSON_TEXT_ARRAY": (None, "maxItems")}
INT64_MAX = 2**63 - 1


# --- the description ------------------------------------------------------------------------------

class Description:
    def __init__(self, root):
        sys.path.insert(0, str(root / "tests/support"))
        import openapi_document
        self.root = openapi_document.load(root / NAME)
        any_path = self.root["x-any-path"]
        self.operations = {(method.upper(), path): operation for path, item in self.root["paths"].items()
                           for method, operation in item.items() if method in METHODS}
        for method, path in [key for key in self.operations if "x-any-method" in self.operations[key]]:
            self.operations["*", path] = self.operations.pop((method, path))
        self.operations["OPTIONS", "*"] = any_path["options"]
        self.any_path = any_path

    def resolve(self, node):
        """What a node says, its reference followed; members beside the reference count, too."""
        while "$ref" in node:
            target = self.root
            for word in node["$ref"].removeprefix("#/").split("/"):
                target = target[word]
            node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
        return node

    def row_path(self, path):
        """The path as a row has it: the last segment may stand for any path below."""
        return re.sub(r"/\{path\}$", "/*", path) if "x-any-path-below" in self.root["paths"].get(path, {}) else path

    def parameters(self, path, operation, place):
        own = self.root["paths"].get(path, {}).get("parameters", [])
        return {parameter["name"]: parameter
                for parameter in map(self.resolve, [*own, *operation.get("parameters", [])])
                if parameter["in"] == place}

    def schema(self, node):
        """A schema without its references, and without the null that stands for absence."""
        node = self.resolve(node)
        for word in ("oneOf", "anyOf"):
            real = [one for one in node.get(word, ()) if one != {"type": "null"}]
            if len(real) == 1 and len(node[word]) == 2:
                node = {**self.resolve(real[0]), **{key: value for key, value in node.items() if key != word}}
        return node

    def responses(self):
        """(where, status, response) of every one."""
        places = [(f"{method} {path}", operation["responses"]) for (method, path), operation in self.operations.items()]
        places.append(("x-any-path", self.any_path["responses"]))
        for where, responses in places:
            for status, response in responses.items():
                yield where, status, self.resolve(response)

    def codes(self, response):
        """The error codes of a response, [] if it is none."""
        media = response.get("content", {}).get("application/problem+json")
        return media["schema"]["properties"]["code"]["enum"] if media else []

    def oauth_words(self, response):
        """The same for errors of OAuth (RFC 6749, section 5.2)."""
        schema = response.get("content", {}).get("application/json", {}).get("schema", {})
        return schema.get("properties", {}).get("error", {}).get("enum", [])


def type_of(schema):
    kinds = schema.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else [kind for kind in kinds if kind != "null"]
    return kinds[0] if len(kinds) == 1 else None


# --- the code -------------------------------------------------------------------------------------

def arguments(text):
    """The arguments of a macro's call; commas in strings and in parentheses separate nothing."""
    result, depth, quoted, part = [], 0, False, ""
    for at, char in enumerate(text):
        if char == '"' and text[at - 1] != "\\":
            quoted = not quoted
        depth += 0 if quoted else (char in "({[") - (char in ")}]")
        if char == "," and not depth and not quoted:
            result.append(part.strip())
            part = ""
        else:
            part += char
    return [*result, part.strip()]


def table(root, name, macro):
    """The rows of a table: a list of the arguments of each."""
    text = (root / "include/tbl" / name).read_text()
    return [arguments(row) for row in re.findall(rf"^{macro}\((.*)\)$", text, re.MULTILINE)]


def unquoted(text):
    return None if text == "NULL" else ast.literal_eval(text)


class Constants:
    """Values of macros and enumerators, as far as they are plain arithmetic."""

    def __init__(self, root):
        self.known = {"INT32_MAX": "2147483647", "INT64_MAX": str(INT64_MAX)}
        for folder in ("include", "src"):
            for path in (root / folder).rglob("*.[ch]"):
                self.known.update(dict(house.constants(path.read_text())))

    def value(self, text):
        for _ in range(8):
            text = re.sub(r"\b(\d+)[UL]+\b", r"\1", re.sub(r"\b[A-Z][A-Z0-9_]*\b", self.replace, text))
        assert re.fullmatch(r"[\d\s*+()-]+", text), f"not plain arithmetic: {text}"
        return eval(text)  # digits and operators only

    def replace(self, match):
        return self.known.get(match[0], match[0])


def braces(text, start):
    """What stands between the brace at `start` and its partner."""
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return text[start + 1:at]
    raise ValueError("a brace is not closed")


def read_fields(body):
    """Rows of a table for json_read(): name -> designated initializers."""
    fields, at = {}, 0
    while (at := body.find("{", at)) >= 0:
        row = braces(body, at)
        at += len(row) + 2
        members = dict(part.lstrip(".").split(" = ", 1) for part in arguments(" ".join(row.split())) if part)
        members = {name: re.sub(r"^\((.*)\)$", r"\1", value) for name, value in members.items()}
        fields[members["name"].strip('"')] = members
    return fields


class Handlers:
    """The tables of bodies by the handler that reads them, as the preprocessor leaves them."""

    def __init__(self, root, flags):
        self.tables, self.of = {}, {}
        for path in sorted((root / "src/http").rglob("*.c")):
            if re.search(r"(api_read_body|oauth_read_form)\(", path.read_text()):
                self.read(subprocess.run(["gcc", "-E", "-P", *flags, str(path)], cwd=root, check=True,
                                         capture_output=True, text=True).stdout)

    def read(self, text):
        for found in re.finditer(r"static const struct (?:json|form)_field (\w+)\[\] = \{", text):
            self.tables[found[1]] = read_fields(braces(text, found.end() - 1))
        for found in re.finditer(r"^enum handled (\w+)\(struct request \*request\)\s*\{", text, re.MULTILINE):
            call = re.search(r"(?:api_read_body|oauth_read_form)\(request, (\(\(void \*\)0\)|\w+), (.*?), ",
                             braces(text, found.end() - 1))
            if call:
                self.of[found[1]] = self.fields(call[1], call[2])

    def fields(self, name, count):
        fields = self.tables.get(name, {})
        return dict(list(fields.items())[:int(count)]) if count.isdigit() else fields


# --- comparisons ----------------------------------------------------------------------------------

def differences(where, what, described, coded):
    described, coded = set(described), set(coded)
    for extra in sorted(described - coded):
        yield f"{NAME}: {where} has the {what} {extra}, which the code has not"
    for missing in sorted(coded - described):
        yield f"{NAME}: {where} lacks the {what} {missing}"


def unequal(where, what, described, coded):
    if described != coded:
        yield f"{NAME}: {where}: {what} is {described}, in the code {coded}"


def routes_of(root):
    """(method, path) -> row."""
    names = ("door", "errors", "plane", "method", "path", "handler", "query", "access", "scope", "body")
    rows = [dict(zip(names, ["api", "PROBLEM", *row])) for row in table(root, "routes.h", "ROUTE")]
    rows += [dict(zip(names, row)) for row in table(root, "routes.h", "DOOR")]
    return {(unquoted(row["method"]), unquoted(row["path"])): row for row in rows}


def route_violations(description, routes, scopes):
    described = {(method, description.row_path(path)): path for method, path in description.operations}
    yield from differences("paths", "route", map(" ".join, described), map(" ".join, routes))
    for (method, row_path), row in routes.items():
        path = described.get((method, row_path))
        operation = description.operations.get((method, path))
        if operation is None:
            continue
        where = f"{method} {path}"
        if unquoted(row["query"]) is not None:
            yield from differences(where, "query parameter", description.parameters(path, operation, "query"),
                                   unquoted(row["query"]).split())
        yield from differences(where, "path parameter", description.parameters(path, operation, "path"),
                               re.findall(r"\{(\w+)\}", path))
        yield from format_violations(description, where, operation, row["errors"])
        listener = "OPS" if description.root["paths"].get(path, {}).get("servers") else "MAIN"
        yield from unequal(where, "the listener", listener, row["plane"])
        body = operation.get("requestBody")
        limit = "server.body_limit" if row["body"] == "-1" else int(row["body"])
        yield from unequal(where, "x-body-limit", body["x-body-limit"] if body else 0, limit)
        yield from security_violations(where, operation, row, scopes, "clientCertificate" in
                                       description.root["components"]["securitySchemes"])


def format_violations(description, where, operation, errors):
    """The errors of a call have one format; only a listener that is full never asks for the path."""
    for status, response in operation["responses"].items():
        response = description.resolve(response)
        if (errors == "OAUTH" and status[0] in "45" and not description.oauth_words(response)) or \
                (errors == "PROBLEM" and description.oauth_words(response)):
            yield f"{NAME}: {where}: {status} has not the format {errors}"


# The credentials that each kind of call takes; a client certificate stands for a service key.
WAYS = {"PUBLIC": [()], "REFRESH": [(), ("serviceKey",)], "SERVICE": [("serviceKey",)],
        "TOKEN": [("accessToken",), ("sessionCookie",), ("serviceKey", "sessionToken")],
        "SERVICE_TOKEN": [("serviceKey", "sessionToken")], "CLIENT": [(), ("serviceKey",), ("clientBasic",)],
        "HOLDER": [(), ("serviceKey",), ("clientBasic",)], "GATEWAY": [(), ("accessToken",), ("sessionCookie",)]}


def security_violations(where, operation, row, scopes, certificates):
    """The kinds of credentials, and the scope of a service key."""
    ways = operation.get("security", [])
    wanted = {frozenset(way) for way in WAYS[row["access"]]}
    if certificates:
        wanted |= {way - {"serviceKey"} | {"clientCertificate"} for way in wanted if "serviceKey" in way}
    described = {frozenset(way) for way in ways} or {frozenset()}
    yield from unequal(where, "security", sorted(map(sorted, described)), sorted(map(sorted, wanted)))
    given = {scope for way in ways for kind, needed in way.items() for scope in needed}
    scope = set() if row["scope"] == "NONE" else {scopes[word.strip()] for word in row["scope"].split("|")}
    yield from unequal(where, "the scope", sorted(given), sorted(scope))


def oauth_words(root):
    """The words for errors that OAuth clients get (problem.c), and of them those that are codes of ours."""
    text = (root / "src/http/exchange/problem.c").read_text()
    text = text[text.index("oauth_word_of(enum err err)\n{"):]
    text = text[:text.index("\n}\n")]
    cases = re.search(r"((?:case ERR_\w+:\s*)+)return err_code\(err\);", text)[1]
    codes = {unquoted(row[3]) for row in table(root, "errors.h", "ERROR") if f"ERR_{row[0]}:" in cases}
    return set(re.findall(r'"(\w+)"', text)) | codes, codes


def error_violations(root, description, errors):
    """Every code stands at the status that it has, and each is some operation's."""
    words, own = oauth_words(root)
    used = {word for _, _, response in description.responses() for word in description.oauth_words(response)}
    yield from differences("OAuth", "error", used, words)
    found = {(status, code) for status, code in errors if code in own & used}
    for where, status, response in description.responses():
        for code in description.codes(response):
            pairs = {(row_status, code) for row_status, row_code in errors if row_code == code}
            here = pairs if status == "default" else {(int(status), code)} & pairs
            if not here:
                yield f"{NAME}: {where} has {code} at {status}, which tbl/errors.h has not"
            found |= here
        headers = {401: "WWW-Authenticate", 405: "Allow", 429: "Retry-After", 503: "Retry-After"}
        header = headers.get(int(status)) if status.isdigit() and description.codes(response) else None
        if header and header not in response["headers"]:
            yield f"{NAME}: {where}: {status} lacks the header {header}"
    for status, code in sorted(set(errors) - found):
        yield f"{NAME}: no operation has {code} at {status}"


def bound_violations(where, schema, field, constants):
    bounds = BOUNDED.get(field["kind"], (None, None))
    if field["kind"].startswith("FORM_"):
        bounds = (None, "maxLength") if field["kind"] == "FORM_TEXT" else bounds
    for keyword, side in zip(bounds, ("minimum", "maximum")):
        if keyword:
            coded = constants.value(field.get(side, "0"))
            yield from unequal(where, keyword, schema.get(keyword), None if coded == INT64_MAX else coded)


def body_violations(where, description, schema, fields, handlers, constants):
    schema = description.schema(schema)
    members = schema.get("properties", {})
    yield from differences(where, "member", members, fields)
    required = {name for name, field in fields.items() if field.get("required") in ("1", "true")}
    is_form = any(field["kind"].startswith("FORM_") for field in fields.values())
    if not is_form:
        yield from unequal(where, "required", sorted(schema.get("required", [])), sorted(required))
    yield from unequal(where, "additionalProperties", schema.get("additionalProperties"), is_form)
    for name in members.keys() & fields.keys():
        member, field, at = description.schema(members[name]), fields[name], f"{where}, {name}"
        yield from unequal(at, "the type", type_of(member), JSON_KINDS.get(field["kind"], "string"))
        yield from bound_violations(at, member, field, constants)
        if field["kind"] == "JSON_MEMBERS":
            yield from body_violations(at, description, member, handlers.tables[field["members"]], handlers, constants)


def request_violations(root, description, routes, flags):
    handlers, constants = Handlers(root, flags), Constants(root)
    assert handlers.of, "no handler reads a body?"
    for (method, path), row in routes.items():
        operation = description.operations.get((method, path))
        fields = handlers.of.get(f"{row['door']}_{row['handler']}")
        if operation is None or fields is None or "requestBody" not in operation:
            continue
        where = f"the body of {method} {path}"
        for media in operation["requestBody"]["content"].values():
            yield from body_violations(where, description, media["schema"], fields, handlers, constants)
        required = any(field.get("required") in ("1", "true") for field in fields.values())
        if required:
            yield from unequal(where, "required", operation["requestBody"]["required"], True)


def options_of(root):
    """Field of struct conf -> what bounds its value, and its default, as JSON has them."""
    result = {}
    for kind, row in re.findall(r"^OPTION_(\w+)\((.*)\)$", (root / "include/tbl/options.h").read_text(), re.MULTILINE):
        section, name, *rest = arguments(row)
        if kind in ("INT", "BYTES", "SECONDS"):
            facts = {"default": int(rest[0]), "minimum": int(rest[1]), "maximum": int(rest[2])}
        elif kind == "ENUM":
            facts = {"enum": unquoted(rest[1]).split("|"), "default": rest[2]}
        elif kind == "FLAGS":
            facts = {"enum": unquoted(rest[0]).split("|"), "default": int(rest[1])}
        elif kind == "BOOL":
            facts = {"default": rest[0] == "true"}
        else:
            continue
        result[f"{section}_{name}"] = facts
    return result


def enum_default(word, words):
    """The word that an enumerator such as OVERFLOW_EVICT_OLDEST means: its name ends in it."""
    return next((one for one in sorted(words, key=len, reverse=True) if word.lower().endswith(one.replace("-", "_"))),
                word)


def policy_member(kind, facts):
    """The keywords that a schema must have."""
    if kind in ("SECONDS", "INT", "BYTES"):
        return facts
    if kind == "ENUM":
        return {"enum": facts["enum"], "default": enum_default(facts["default"], facts["enum"])}
    if kind == "FLAGS":
        words = facts["enum"]
        return {"items": words, "default": [word for bit, word in enumerate(words) if facts["default"] >> bit & 1]}
    return {}


def policy_violations(root, description):
    schemas, options = description.root["components"]["schemas"], options_of(root)
    settings, override = schemas["PolicySettings"], schemas["PolicyOverride"]["properties"]
    paths, overridden = [], []
    for row in table(root, "policy.h", "POLICY_MEMBER"):
        kind, path, _, option, _, say = row[0], unquoted(row[1]), *row[2:6]
        if kind == "kind" or kind not in KINDS:
            continue
        paths.append(path)
        if say in ("SMALLEST", "LARGEST"):
            overridden.append(path)
        schema = settings
        for word in path.split("."):
            schema = schema.get("properties", {}).get(word)
            if schema is None:
                break
        if schema is None:
            yield f"{NAME}: PolicySettings lacks {path}"
            continue
        where = f"PolicySettings, {path}"
        yield from unequal(where, "the type", schema["type"], KINDS[kind])
        for keyword, value in policy_member(kind, options[option]).items():
            present = schema.get(keyword)
            yield from unequal(where, keyword, present["enum"] if keyword == "items" else present, value)
            if path in override and keyword in ("minimum", "maximum", "enum"):
                yield from unequal(f"PolicyOverride, {path}", keyword, override[path].get(keyword), value)
    leaves = [f"{name}.{inner}" if inner else name for name, schema in settings["properties"].items()
              for inner in schema.get("properties", {"": None})]
    tables = ["roles", "device_types"]
    yield from differences("PolicySettings", "member", leaves, paths + tables)
    yield from differences("PolicyOverride", "member", override, overridden)
    yield from differences("Policy", "required member", schemas["Policy"]["required"],
                           {path.split(".")[0] for path in paths + tables})


def readiness_violations(root, description):
    text = (root / "src/http/api/readiness.c").read_text()
    rows = text[text.index("} rows[] = {"):text.index("enum { ROWS")]
    checks = description.root["components"]["schemas"]["Readiness"]["properties"]["checks"]
    coded = re.findall(r'\{"(\w+)", check_', rows)
    yield from differences("Readiness", "check", checks["properties"], coded)
    yield from differences("Readiness", "required check", checks["required"], coded)


def text_violations(root, description):
    """Facts that stand in sentences."""
    version = re.search(r"^VERSION +:= (\S+)", (root / "Makefile").read_text(), re.MULTILINE)[1]
    yield from unequal("info", "version", description.root["info"]["version"], version)
    key = description.root["components"]["securitySchemes"]["serviceKey"]["description"]
    for _, name, _ in table(root, "scopes.h", "SCOPE"):
        if f"`{unquoted(name)}`" not in key:
            yield f"{NAME}: serviceKey does not name the scope {unquoted(name)}"


def violations(root, flags):
    root = pathlib.Path(root)
    description, routes = Description(root), routes_of(root)
    scopes = {row[0]: unquoted(row[1]) for row in table(root, "scopes.h", "SCOPE")}
    errors = [(int(row[2]), unquoted(row[3])) for row in table(root, "errors.h", "ERROR")]
    yield from route_violations(description, routes, scopes)
    yield from error_violations(root, description, errors)
    yield from request_violations(root, description, routes, flags)
    yield from policy_violations(root, description)
    yield from readiness_violations(root, description)
    yield from text_violations(root, description)

"""The description of the interface, and how the daemon serves it."""

import json

import jsonschema
import pytest
import yaml

from checks import check_problem
from client import Client, RawSocket
from contract import DESCRIPTION
from raw_http import head

VALIDATOR = jsonschema.Draft202012Validator


def parts(node, name):
    """Every value of this name, at whatever depth."""
    if isinstance(node, dict):
        if name in node:
            yield node[name]
        for value in node.values():
            yield from parts(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from parts(value, name)


def test_the_served_document_is_the_file(shared):
    answer = shared.call("GET", "/openapi.json")
    assert answer.status == 200 and answer.header("Content-Type") == "application/json", answer
    assert answer.json == yaml.safe_load(DESCRIPTION.read_text())
    assert answer.header("Cache-Control") == "public, max-age=300"
    compact = json.dumps(answer.json, ensure_ascii=False, separators=(",", ":"))
    assert answer.body.decode() == compact


def test_head_and_conditions_spare_the_body(shared):
    answer = shared.call("GET", "/openapi.json")
    seen = shared.call("HEAD", "/openapi.json")
    assert (seen.status, seen.body) == (200, b"")
    assert int(seen.header("Content-Length")) == len(answer.body)
    tag = answer.header("ETag")
    for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        known = shared.call("GET", "/openapi.json", headers={"If-None-Match": condition})
        assert (known.status, known.body, known.header("ETag")) == (304, b"", tag), condition
        assert known.header("Cache-Control") == "public, max-age=300"
    assert shared.call("GET", "/openapi.json", headers={"If-None-Match": '"other"'}).body == answer.body
    malformed = shared.call("GET", "/openapi.json", headers={"If-None-Match": "other"})
    check_problem(malformed, 400, "header_invalid")
    assert malformed.header("Cache-Control") == "no-store"


def test_all_nodes_have_the_same_tag(shared):
    tags = {shared.call("GET", "/openapi.json", node=node).header("ETag") for node in range(3)}
    assert len(tags) == 1, tags


def test_it_is_public_and_on_the_main_listener_alone(shared):
    assert shared.call("GET", "/openapi.json", None, "sk_" + "x" * 43).status == 200
    check_problem(shared.call("GET", "/openapi.json?tenant=a"), 400, "query_invalid")
    check_problem(shared.call("POST", "/openapi.json", {}), 405, "method_not_allowed")
    check_problem(shared.node.ops.call("GET", "/openapi.json"), 404, "not_found")


def test_it_comes_over_a_unix_socket(start, workspace):
    path = str(workspace / "openapi.sock")
    daemon = start(server__unix_socket=path)
    answer = Client(unix=path).call("GET", "/openapi.json")
    assert answer.body == daemon.call("GET", "/openapi.json").body


@pytest.mark.parametrize("size", range(3600, 8000, 200))
def test_it_comes_whole_whatever_room_the_headers_leave(shared, size):
    """The head of the answer may have to bypass the HTTP library."""
    whole = len(shared.call("GET", "/openapi.json").body)
    with RawSocket(shared.node.port) as raw:
        raw.send(head("GET", "/openapi.json", "Connection: close", "X-Filler: " + "f" * size))
        answer = raw.answer()
    if answer.status == 200:
        assert len(answer.body) == whole
    else:
        assert answer.status == 431, answer


def test_a_client_that_reads_slowly_gets_all_of_it(shared):
    with RawSocket(shared.node.port, receive_buffer=2048) as raw:
        raw.send(head("GET", "/openapi.json"))
        raw.send(head("GET", "/openapi.json"))
        first, second = raw.answer(), raw.answer()
    assert first.body == second.body == shared.call("GET", "/openapi.json").body


def test_who_asks_for_problems_gets_them_from_the_oauth_endpoints_too(shared):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for path in ("/oauth2/introspect", "/oauth2/revoke", "/oauth2/token"):
        for accept in ("application/problem+json", "application/json;q=0.5, Application/Problem+JSON"):
            answer = shared.call("POST", path, b"token=x", "sk_" + "x" * 43, {**form, "Accept": accept})
            check_problem(answer, 401, "key_invalid")
            check_problem(shared.call("PUT", path, headers={"Accept": accept}), 405, "method_not_allowed")
        for accept in (None, "*/*", "application/json"):
            answer = shared.call("POST", path, b"token=x", "sk_" + "x" * 43, {**form, "Accept": accept})
            assert (answer.status, answer.json["error"]) == (401, "invalid_client"), answer
            assert answer.header("Content-Type") == "application/json"


def test_every_schema_is_one_of_json_schema_2020_12(shared):
    description = shared.call("GET", "/openapi.json").json
    assert description["openapi"].startswith("3.1.")
    schemas = [*description["components"]["schemas"].values(), *parts(description, "schema")]
    for schema in schemas:
        VALIDATOR.check_schema(schema)
    assert len(schemas) > 100


def test_every_reference_leads_somewhere(shared):
    description = shared.call("GET", "/openapi.json").json
    for reference in set(parts(description, "$ref")):
        target = description
        for word in reference.removeprefix("#/").split("/"):
            target = target[word]
        assert target is not None, reference


def test_every_example_is_as_its_schema_says(shared):
    """Also those inside of other schemas; placeholders for secrets (…) are no values."""
    description = shared.call("GET", "/openapi.json").json
    resolver = jsonschema.RefResolver("", description)
    checked = 0
    for name, schema in description["components"]["schemas"].items():
        if "example" in schema:
            VALIDATOR(schema, resolver=resolver).validate(schema["example"])
            checked += 1
    for content in parts(description, "content"):
        for media in content.values():
            if "example" in media:
                VALIDATOR(media["schema"], resolver=resolver).validate(media["example"])
                checked += 1
    assert checked > 50, checked

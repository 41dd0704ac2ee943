"""POST /v1/login: its answer, its fields, its refusals."""

import pytest

from checks import ACCESS_TOKEN, REFRESH_TOKEN, SESSION_ID, check_problem
from daemon import ADMIN, SERVICE, now, unique

LOGIN_MEMBERS = {"tenant", "user_id", "session_id", "access_token", "token_type", "expires_in",
                 "refresh_token", "refresh_expires_in", "device", "new_device", "new_location",
                 "replaced"}


def test_a_wrong_tenant_is_told_where_it_stood(shared):
    wrong = {"user_id": unique(), "tenant": "Acme"}
    check_problem(shared.call("POST", "/v1/login", wrong, ADMIN), 400, "body_invalid")
    del wrong["tenant"]
    answer = shared.call("POST", "/v1/login?tenant=Acme", wrong, ADMIN)
    assert "tenant" in check_problem(answer, 400, "query_invalid")["detail"]


def test_login_answers_with_every_member_of_the_contract(shared):
    user = unique()
    answer = shared.try_login(user, device={"id": "d-1", "type": "phone", "name": "Ann's phone"})
    assert answer.status == 201, answer
    body = answer.json
    assert set(body) == LOGIN_MEMBERS, set(body) ^ LOGIN_MEMBERS
    assert body["tenant"] == "default"
    assert body["user_id"] == user
    assert SESSION_ID.fullmatch(body["session_id"])
    assert ACCESS_TOKEN.fullmatch(body["access_token"])
    assert REFRESH_TOKEN.fullmatch(body["refresh_token"])
    assert body["token_type"] == "Bearer"
    assert 7198 <= body["expires_in"] <= 7200
    assert 604798 <= body["refresh_expires_in"] <= 604800
    assert body["device"] == {"id": "d-1", "type": "phone", "name": "Ann's phone"}
    assert body["new_device"] is True
    assert body["new_location"] is False
    assert body["replaced"] == []


def test_login_is_json_and_not_to_be_stored(shared):
    answer = shared.try_login(unique())
    assert answer.header("Cache-Control") == "no-store"
    assert answer.header("Content-Type").split(";")[0] == "application/json"


def test_login_needs_no_more_than_a_user_id(shared):
    body = shared.login()
    assert shared.is_alive(body["access_token"])


def test_every_login_gives_tokens_of_its_own(shared):
    user = unique()
    bodies = [shared.login(user) for _ in range(5)]
    for member in ("access_token", "refresh_token", "session_id"):
        assert len({body[member] for body in bodies}) == 5


def test_the_session_shows_what_the_login_said(shared):
    user = unique()
    body = shared.login(user, roles=["admin", "editor"], attributes={"color": "blue", "n": [1, 2]},
                        device={"id": "d", "type": "browser", "name": "Firefox"})
    before = now()
    session = shared.validate(body["access_token"]).json
    assert session["roles"] == ["admin", "editor"]
    assert session["attributes"] == {"color": "blue", "n": [1, 2]}
    assert session["device"] == {"id": "d", "type": "browser", "name": "Firefox"}
    assert before - 5 <= session["created_at"] <= before + 1


def test_a_user_id_may_be_any_clean_utf8_text(shared):
    for user in ("ünï-ço∂é", "a b", "x" * 128, "quote\"back\\slash", "用户"):
        body = shared.login(user + "" if len(user) == 128 else unique(user))
        assert shared.validate(body["access_token"]).json["user_id"] == body["user_id"]


HOSTILE = ['","device":{"id":"x', '"}],"active":true,"x":[{"', "\\", '\\"', '{"device":{}}', "},{",
           ',"session_id":"0000000000000000', "\u2028</script>", "%s%n%00", "\U0001f600"]


def test_text_that_looks_like_json_stays_text_everywhere(shared):
    for text in HOSTILE:
        user = unique(text)
        device = {"id": text, "type": text, "name": text}
        login = shared.login(user, device=device, roles=[text], user_agent=text,
                             attributes={text: {text: [text]}})
        assert login["device"] == device
        session = shared.validate(login["access_token"]).json
        assert session["user_id"] == user
        assert session["device"] == device
        assert session["roles"] == [text]
        assert session["attributes"] == {text: {text: [text]}}
        assert session["session_id"] == login["session_id"]
        entry = shared.call("GET", "/v1/devices", None, login["access_token"]).json["devices"][0]
        assert entry["device"] == device
        assert entry["user_agent"] == text
        again = shared.login(user, device=device)
        assert [entry["device"] for entry in again["replaced"]] == [device]


def test_attributes_come_back_as_they_were_given(shared):
    attributes = {"int": -9007199254740993, "big": 2**62, "real": 1.5, "null": None, "yes": True,
                  "nested": {"a": [{"b": []}, {}]}, "": "empty name", "text": "\u00e9\t\n\u0001"}
    login = shared.login(attributes=attributes)
    assert shared.validate(login["access_token"]).json["attributes"] == attributes
    assert shared.refresh(login["refresh_token"]).status == 200
    assert shared.validate(login["access_token"]).json["attributes"] == attributes


def test_a_known_device_is_not_new_again(shared):
    user = unique()
    assert shared.login(user, device={"id": "d1"})["new_device"] is True
    assert shared.login(user, device={"id": "d1"})["new_device"] is False
    assert shared.login(user, device={"id": "d2"})["new_device"] is True


def test_a_login_with_the_device_of_a_living_session_replaces_it(shared):
    user = unique()
    first = shared.login(user, device={"id": "same", "type": "phone"})
    other = shared.login(user, device={"id": "other", "type": "phone"})
    second = shared.login(user, device={"id": "same", "type": "phone"})
    assert [entry["session_id"] for entry in second["replaced"]] == [first["session_id"]]
    entry = second["replaced"][0]
    assert set(entry) == {"session_id", "device", "reason"}
    assert entry["device"]["id"] == "same"
    assert entry["reason"] == "replaced"
    dead = shared.validate(first["access_token"])
    assert dead.status == 401 and dead.json["reason"] == "replaced"
    assert shared.is_alive(other["access_token"])
    assert shared.is_alive(second["access_token"])


def test_sessions_without_a_device_id_do_not_replace_each_other(shared):
    user = unique()
    first = shared.login(user, device={"type": "phone"})
    second = shared.login(user, device={"type": "phone"})
    assert second["replaced"] == []
    assert shared.is_alive(first["access_token"])


def test_the_sessions_of_one_user_are_seen_by_all_nodes(shared):
    body = shared.login(node=0)
    assert shared.is_alive(body["access_token"], node=1)
    assert shared.is_alive(body["access_token"], node=2)


BAD_BODIES = {
    "no body": b"",
    "not JSON": b"{user_id: 1}",
    "cut JSON": b'{"user_id": "a"',
    "bytes behind the object": b'{"user_id": "a"} {}',
    "an array": b'["user_id"]',
    "a string": b'"user_id"',
    "null": b"null",
    "missing user_id": b"{}",
    "empty user_id": b'{"user_id": ""}',
    "user_id too long": b'{"user_id": "' + b"x" * 129 + b'"}',
    "user_id of a wrong type": b'{"user_id": 7}',
    "user_id null": b'{"user_id": null}',
    "user_id with a control character": b'{"user_id": "a\\u0007b"}',
    "user_id with a raw control character": b'{"user_id": "a\x07b"}',
    "user_id with NUL": b'{"user_id": "a\\u0000b"}',
    "user_id with DEL": b'{"user_id": "a\\u007fb"}',
    "user_id with C1 control": b'{"user_id": "a\\u0085b"}',
    "invalid UTF-8": b'{"user_id": "a\xff"}',
    "overlong UTF-8": b'{"user_id": "a\xc0\xaf"}',
    "UTF-8 surrogate": b'{"user_id": "a\xed\xa0\x80"}',
    "unpaired surrogate escape": b'{"user_id": "a\\ud800"}',
    "unknown field": b'{"user_id": "a", "userid": "b"}',
    "duplicate field": b'{"user_id": "a", "user_id": "b"}',
    "unknown field of device": b'{"user_id": "a", "device": {"ident": "x"}}',
    "device of a wrong type": b'{"user_id": "a", "device": "phone"}',
    "device id of a wrong type": b'{"user_id": "a", "device": {"id": 1}}',
    "roles of a wrong type": b'{"user_id": "a", "roles": "admin"}',
    "role of a wrong type": b'{"user_id": "a", "roles": [1]}',
    "too many roles": b'{"user_id": "a", "roles": [' + b",".join([b'"r"'] * 33) + b"]}",
    "attributes of a wrong type": b'{"user_id": "a", "attributes": [1]}',
    "remember of a wrong type": b'{"user_id": "a", "remember": "yes"}',
    "deep nesting": b'{"user_id": "a", "attributes": {"a":' + b"[" * 5000 + b"]" * 5000 + b"}}",
    "tenant of a wrong form": b'{"user_id": "a", "tenant": "Default"}',
    "tenant too long": b'{"user_id": "a", "tenant": "' + b"a" * 64 + b'"}',
    "tenant with a slash": b'{"user_id": "a", "tenant": "a/b"}',
    "empty tenant": b'{"user_id": "a", "tenant": ""}',
}


@pytest.mark.parametrize("what", BAD_BODIES)
def test_a_bad_login_body_is_refused_with_400(shared, what):
    answer = shared.call("POST", "/v1/login", BAD_BODIES[what], ADMIN)
    check_problem(answer, 400, "body_invalid")


@pytest.mark.parametrize("body,name", [
    ({"user_id": 7}, "user_id"),
    ({}, "user_id"),
    ({"user_id": "a", "userid": "b"}, "userid"),
    ({"user_id": "a", "remember": 1}, "remember"),
    ({"user_id": "a", "device": {"ident": "x"}}, "ident"),
])
def test_a_wrong_body_names_the_field(shared, body, name):
    problem = check_problem(shared.call("POST", "/v1/login", body, SERVICE), 400, "body_invalid")
    assert name in problem["detail"]


def test_attributes_larger_than_4_kib_are_refused(shared):
    fits = shared.try_login(unique(), attributes={"a": "x" * 4000})
    assert fits.status == 201, fits
    answer = shared.try_login(unique(), attributes={"a": "x" * 4097})
    assert answer.status in (400, 413), answer
    check_problem(answer, answer.status, answer.code)


@pytest.mark.parametrize("agent, kept", [
    ("", None), ("x", "x"), ("x" * 512, "x" * 512), ("x" * 513, "x" * 512),
    ("x" * 511 + "\u20ac", "x" * 511), ("\U0001f600" * 1000, "\U0001f600" * 128)],
    ids=["empty", "short", "512 bytes", "513 bytes", "cut in a character", "of long characters"])
def test_no_client_is_locked_out_for_its_user_agent(shared, agent, kept):
    user, name = unique(), unique("agent")
    answer = shared.call("POST", "/v1/login", {"user_id": user, "user_agent": agent}, SERVICE,
                         {"X-Request-Id": name, "User-Agent": "account-service"})
    assert answer.status == 201, answer
    assert shared.devices(user)["devices"][0]["user_agent"] == kept
    assert shared.node.audit_of(name)["user_agent.original"] == (kept or "account-service")


def test_a_user_agent_with_control_characters_is_refused(shared):
    answer = shared.try_login(unique(), user_agent="x" * 600 + "\n")
    assert "user_agent" in check_problem(answer, 400, "body_invalid")["detail"]


def test_a_refused_login_makes_no_session(shared):
    user = unique()
    shared.call("POST", "/v1/login", {"user_id": user, "oops": 1}, SERVICE)
    assert shared.devices(user)["total"] == 0


def test_thirty_two_roles_are_allowed(shared):
    roles = [f"role{n}" for n in range(32)]
    body = shared.login(roles=roles)
    assert shared.validate(body["access_token"]).json["roles"] == roles


def test_login_with_a_bad_address_is_refused_or_kept_out(shared):
    answer = shared.try_login(unique(), ip="not an address")
    check_problem(answer, 400, "body_invalid")

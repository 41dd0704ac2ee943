"""POST /v1/login: its answer, its fields, its refusals."""

from urllib.parse import quote

import pytest

from checks import ACCESS_TOKEN, LOGIN_MEMBERS, REFRESH_TOKEN, SESSION_ID, check_problem
from daemon import ADMIN, SERVICE, now, unique



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
    assert 1798 <= body["idle_expires_in"] <= 1860
    assert body["device"] == {"id": "d-1", "type": "phone", "name": "Ann's phone"}
    assert body["new_device"] is True
    assert body["new_location"] is False
    assert body["replaced"] == []


@pytest.mark.parametrize("remember", [False, True])
def test_every_pair_says_when_idle_ends_it_as_validation_does(shared, remember):
    def issued(call):
        before, pair, after = now(), call(), now()
        until = shared.validate(pair["access_token"]).json["idle_expires_at"]
        assert before - 1 <= until - pair["idle_expires_in"] <= after + 1
        if remember:  # there is no such end
            assert abs(pair["idle_expires_in"] - pair["refresh_expires_in"]) <= 1
        return pair
    login = issued(lambda: shared.login(remember=remember))
    issued(lambda: shared.refresh(login["refresh_token"]).json)


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
    for user in ("ünï-ço∂é", "a b", "quote\"back\\slash", "用户"):
        body = shared.login(unique(user))
        assert shared.validate(body["access_token"]).json["user_id"] == body["user_id"]


@pytest.mark.parametrize("filler", ["x", "\"", "\\", "\U0001f600", "%"])
def test_a_user_id_of_255_bytes_works_in_every_call_and_on_record(shared, filler):
    user, name = unique(), unique("long")
    user += filler * ((255 - len(user)) // len(filler.encode()))
    user += "x" * (255 - len(user.encode()))
    path = f"/v1/users/{quote(user, safe='')}"
    login = shared.call("POST", "/v1/login", {"user_id": user, "device": {"id": "d"}}, SERVICE,
                        {"X-Request-Id": name})
    assert login.status == 201, login
    assert shared.node.audit_of(name)["user.id"] == user
    token = login.json["access_token"]
    for _ in range(2):  # from Redis, from memory
        assert shared.validate(token).json["user_id"] == user
    assert shared.call("GET", path, None, SERVICE).json["user_id"] == user
    assert shared.call("GET", path + "/devices", None, SERVICE).json["total"] == 1
    assert shared.refresh(login.json["refresh_token"]).json["user_id"] == user
    assert shared.call("POST", path + "/freeze", {}, SERVICE, {"X-Request-Id": name + "f"}).json["ended"] == 1
    assert shared.node.audit_of(name + "f")["user.id"] == user
    assert shared.call("POST", path + "/unfreeze", None, SERVICE).status == 200
    users = shared.call("GET", "/v1/tenants/default/sessions?page_size=100", None, SERVICE).json
    assert users["total_size"] >= 0
    check_problem(shared.call("GET", f"/v1/users/{'x' * 256}", None, SERVICE), 400, "bad_request")


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
    "user_id too long": b'{"user_id": "' + b"x" * 256 + b'"}',
    "user_agent with NUL": b'{"user_id": "a", "user_agent": "a\\u0000b"}',
    "half a surrogate pair": b'{"user_id": "a", "device": {"name": "\\udc00"}}',
    "NUL behind a literal": b'{"user_id": "a", "remember": true\0}',
    "NUL behind a number": b'{"user_id": "a", "attributes": {"n": 1\0}}',
    "NUL behind the object": b'{"user_id": "a"}\0',
    "null for a role": b'{"user_id": "a", "roles": [null]}',
    "device id with a control character": b'{"user_id": "a", "device": {"id": "a\\tb"}}',
    "empty device id": b'{"user_id": "a", "device": {"id": ""}}',
    "device type with a control character": b'{"user_id": "a", "device": {"type": "a\\tb"}}',
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
    ({"user_id": "a", "user_agent": "x\0"}, "user_agent"),
    ({"user_id": "a", "device": {"name": "x\0"}}, "device.name"),
    ({"user_id": "a", "device": {"fingerprint": "\ud800"}}, "device.fingerprint"),
    ({"user_id": "a\ud800"}, "user_id"),
    ({"user_id": "a", "attributes": {"deep": {"er": ["\0"]}}}, "attributes.deep.er"),
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


@pytest.mark.parametrize("text, kept", [
    ("a\tb", "a b"), ("a\r\nb\x7f", "a b"), ("\x85a\x9fb", "a b"), ("\t", None), ("", None),
    ("x" * 1000, "x" * 128), ("x" * 127 + "\u20ac", "x" * 127)],
    ids=["TAB", "CR LF DEL", "C1", "nothing else", "empty", "too long", "cut in a character"])
def test_texts_that_decorate_are_cleaned_and_the_login_goes_on(shared, text, kept):
    user = unique()
    answer = shared.try_login(user, user_agent=text, device={"name": text, "fingerprint": text})
    assert answer.status == 201, answer
    assert answer.json["device"] == ({"name": kept} if kept else {})
    agent = shared.devices(user)["devices"][0]["user_agent"]
    assert agent == (kept if len(text) < 128 else text[:512])
    for fingerprint in (text, kept):
        body = {"token": answer.json["access_token"], "device_fingerprint": fingerprint or ""}
        assert shared.call("POST", "/v1/validate", body, SERVICE).json["active"]


def test_null_for_an_optional_member_means_absent(shared):
    user = unique()
    answer = shared.try_login(user, roles=None, device=None, ip=None, user_agent=None, cookie=None,
                              attributes=None, remember=None, second_factor=None, tenant=None)
    assert answer.status == 201, answer
    session = shared.validate(answer.json["access_token"]).json
    assert (session["roles"], session["device"], session["attributes"]) == ([], {}, {})
    token, path = answer.json["access_token"], f"/v1/users/{user}"
    body = {"token": token, "ip": None, "device_fingerprint": None, "touch": None}
    assert shared.call("POST", "/v1/validate", body, SERVICE).json["active"]
    body = {"refresh_token": answer.json["refresh_token"], "ip": None, "device_fingerprint": None,
            "cookie": None}
    assert shared.call("POST", "/v1/refresh", body).status == 200
    assert shared.call("POST", path + "/freeze", {"reason": None, "until": None}, SERVICE).status == 200
    assert shared.call("POST", path + "/unfreeze", {"reason": None}, SERVICE).status == 200
    body = {"reason": None, "keep_session": None}
    assert shared.call("POST", path + "/logout-all", body, SERVICE).status == 200


@pytest.mark.parametrize("body", [b"", b"  \n", b"null", b" null ", b"{}", b"{ }"])
def test_bodies_that_say_nothing_are_taken_where_nothing_must_be_said(shared, body):
    user = unique()
    token = shared.login(user)["access_token"]
    for path, bearer in ((f"/v1/users/{user}/logout-all", SERVICE), (f"/v1/users/{user}/freeze", SERVICE),
                         (f"/v1/users/{user}/unfreeze", SERVICE), ("/v1/logout", token)):
        assert shared.call("POST", path, body, bearer).status == 200
    assert shared.call("POST", "/v1/logout-all", body, shared.login(user)["access_token"]).json["ended"] == 1


def test_a_refused_login_makes_no_session(shared):
    user = unique()
    shared.call("POST", "/v1/login", {"user_id": user, "oops": 1}, SERVICE)
    assert shared.devices(user)["total"] == 0


def test_thirty_two_roles_are_allowed(shared):
    roles = [f"role{n}" for n in range(32)]
    body = shared.login(roles=roles)
    assert shared.validate(body["access_token"]).json["roles"] == roles


ADDRESSES = {
    "203.0.113.7:4711": "203.0.113.7",
    " 203.0.113.7 ": "203.0.113.7",
    "::FFFF:203.0.113.7": "203.0.113.7",
    "2001:DB8:0:0::7": "2001:db8::7",
    "[2001:db8::7]": "2001:db8::7",
    "[2001:DB8::7]:443": "2001:db8::7",
    "fe80::7%eth0": "fe80::7",
    "1.1.1.1, 203.0.113.7": "203.0.113.7",
    "203.0.113.7,": "203.0.113.7",
    "": None,
    "unknown": None,
    "not an address": None,
    "203.0.113.7, unknown": None,
    "300.1.1.1": None,
    "\t": None,
}


@pytest.mark.parametrize("told", ADDRESSES)
def test_an_address_is_read_as_proxies_write_it_and_kept_in_one_spelling(shared, told):
    user, name, address = unique(), unique("ip"), ADDRESSES[told]
    first = shared.login(user, ip="192.0.2.1")
    calls = [("login", "/v1/login", {"user_id": user}),
             ("validate", "/v1/validate", {"token": first["access_token"]}),
             ("refresh", "/v1/refresh", {"refresh_token": first["refresh_token"]})]
    for call, path, body in calls:
        answer = shared.call("POST", path, {**body, "ip": told}, ADMIN, {"X-Request-Id": name + call})
        assert answer.status in (200, 201), answer
        line = shared.node.audit_of(name + call)
        assert line["source.ip"] == (address or "127.0.0.1")
        noted = told.strip() if told.strip() and not address else None
        assert line.get("sessiond.unreadable_ip") == noted
    shown = {entry["session_id"]: entry["ip"] for entry in shared.devices(user)["devices"]}
    assert shown.pop(first["session_id"]) == (address or "192.0.2.1")
    assert list(shown.values()) == [address]

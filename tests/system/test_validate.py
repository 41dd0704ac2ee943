"""GET and POST /v1/validate: living, dead, foreign and made-up tokens."""


import pytest

from checks import check_dead, check_problem
from daemon import ACME, ADMIN, SERVICE, now, unique
from redis_servers import wait_until
from tokens import MALFORMED, flip_bit, never_issued

SESSION_MEMBERS = {"active", "tenant", "user_id", "session_id", "roles", "device", "attributes",
                   "created_at", "expires_at", "idle_expires_at", "source", "stale"}


def check_session(session, login):
    assert set(session) == SESSION_MEMBERS, set(session) ^ SESSION_MEMBERS
    assert session["active"] is True
    assert session["tenant"] == login["tenant"]
    assert session["user_id"] == login["user_id"]
    assert session["session_id"] == login["session_id"]
    assert session["roles"] == []
    assert session["attributes"] == {}
    assert session["source"] in ("cache", "redis")
    assert session["stale"] is False
    created = session["created_at"]
    assert created == (int(session["session_id"], 16) >> 22) // 1000 and abs(created - now()) <= 60
    assert session["expires_at"] == created + 7200
    assert created + 1800 <= session["idle_expires_at"] <= now() + 1861


def test_the_holder_of_a_token_sees_the_session(shared):
    login = shared.login()
    answer = shared.validate(login["access_token"])
    assert answer.status == 200, answer
    check_session(answer.json, login)
    assert "Set-Cookie" not in dict(answer.headers)


def test_a_service_sees_the_session_of_a_token(shared):
    login = shared.login()
    answer = shared.check(login["access_token"])
    assert answer.status == 200, answer
    check_session(answer.json, login)


def test_a_service_may_present_the_token_in_x_session_token(shared):
    login = shared.login()
    answer = shared.call("GET", "/v1/validate", None, SERVICE,
                         {"X-Session-Token": login["access_token"]})
    assert answer.status == 200, answer
    check_session(answer.json, login)


def test_the_answer_never_shows_a_token(shared):
    login = shared.login()
    for answer in (shared.validate(login["access_token"]), shared.check(login["access_token"])):
        assert login["access_token"].encode() not in answer.body
        assert login["refresh_token"].encode() not in answer.body


@pytest.mark.parametrize("token", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_not_even_token_shaped_is_malformed(shared, token):
    answer = shared.check(token)
    assert answer.status == 200, answer
    assert answer.json == {"active": False, "reason": "malformed"}


def test_a_token_that_was_never_issued_is_unknown(shared):
    token = never_issued()
    assert shared.check(token).json == {"active": False, "reason": "unknown"}
    check_dead(shared.validate(token), "unknown")


def test_a_malformed_bearer_is_refused_with_401(shared):
    for token in ("sa_short", "sa_" + "A" * 59 + "!"):
        answer = shared.validate(token)
        assert answer.status == 401, answer
        check_problem(answer, 401, answer.code)


def test_a_token_with_any_bit_flipped_is_refused(shared):
    token = shared.login()["access_token"]
    for bit in range(45 * 8):
        answer = shared.check(flip_bit(token, bit))
        assert answer.status == 200, answer
        assert answer.json == {"active": False, "reason": "unknown"}, bit
    check_dead(shared.validate(flip_bit(token, 200)), "unknown")
    assert shared.is_alive(token)


def test_a_refresh_token_is_no_access_token(shared):
    login = shared.login()
    answer = shared.validate(login["refresh_token"])
    assert answer.status == 401, answer
    assert shared.check(login["refresh_token"]).json["active"] is False
    swapped = "sa_" + login["refresh_token"][3:]
    assert shared.check(swapped).json == {"active": False, "reason": "unknown"}


def test_validate_without_a_token_asks_for_credentials(shared):
    check_problem(shared.call("GET", "/v1/validate"), 401, "credentials_missing")


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "Basic YTpi", "sa_abc", "Bearer a b"])
def test_an_odd_authorization_header_is_refused(shared, value):
    answer = shared.call("GET", "/v1/validate", headers={"Authorization": value})
    assert answer.status in (400, 401), answer
    check_problem(answer, answer.status, answer.code)


def test_the_word_bearer_is_taken_in_any_case(shared):
    token = shared.login()["access_token"]
    for word in ("bearer", "BEARER"):
        answer = shared.call("GET", "/v1/validate", headers={"Authorization": f"{word} {token}"})
        assert answer.status == 200, answer


def test_a_token_in_the_url_is_not_accepted(shared):
    token = shared.login()["access_token"]
    for name in ("access_token", "token"):
        answer = shared.call("GET", f"/v1/validate?{name}={token}")
        assert answer.status in (400, 401), answer


def test_a_wrong_service_key_is_401_and_never_a_verdict_on_the_token(shared):
    token = shared.login()["access_token"]
    answer = shared.check(token, key="sk_" + "A" * 43)
    check_problem(answer, 401, "key_invalid")
    answer = shared.call("POST", "/v1/validate", {"token": token})
    check_problem(answer, 401, "credentials_missing")


def test_a_token_of_a_foreign_tenant_is_403_for_a_bound_key(shared):
    token = shared.login()["access_token"]
    check_problem(shared.check(token, key=ACME), 403, "tenant_forbidden")


def test_a_token_is_unknown_under_another_tenant_named_by_an_unbound_key(shared):
    token = shared.login()["access_token"]
    answer = shared.call("POST", "/v1/validate?tenant=acme", {"token": token}, ADMIN)
    assert answer.status == 200, answer
    assert answer.json == {"active": False, "reason": "unknown"}
    answer = shared.call("POST", "/v1/validate?tenant=default", {"token": token}, ADMIN)
    assert answer.json["active"] is True


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"token": 1}',
                                  b'{"token": "sa_' + b"A" * 5000 + b'"}', b'{"token": null}',
                                  b'{"token": "x", "more": 1}', b'{"token":"x","touch":"no"}',
                                  b'{"token":"x","token":"y"}', b'{"token":"\xff"}'])
def test_a_bad_validate_body_is_refused_with_400(shared, body):
    answer = shared.call("POST", "/v1/validate", body, SERVICE)
    check_problem(answer, 400, "body_invalid")


def test_all_nodes_refuse_a_token_that_ended_on_one(shared):
    login = shared.login()
    for node in range(3):
        assert shared.is_alive(login["access_token"], node)
    assert shared.call("POST", "/v1/logout", None, login["access_token"], node=0).status == 200
    check_dead(shared.validate(login["access_token"]), "logged_out", "self")
    for node in (1, 2):
        wait_until(lambda: not shared.is_alive(login["access_token"], node), 1, "the news is here")
        check_dead(shared.refused(login["access_token"], node), "logged_out", "self")


def test_two_users_with_the_same_name_in_two_tenants_are_two_users(shared):
    user = unique()
    one = shared.login(user)
    two = shared.login(user, key=ACME)
    assert two["tenant"] == "acme"
    assert shared.devices(user)["total"] == 1
    assert shared.devices(user, key=ACME)["total"] == 1
    answer = shared.call("POST", f"/v1/users/{user}/logout-all", {}, ACME)
    assert answer.json["sessions"] == [two["session_id"]]
    assert shared.is_alive(one["access_token"])

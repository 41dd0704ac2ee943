"""POST /v1/refresh: rotation, the grace window, reuse."""

import time

import pytest

from checks import ACCESS_TOKEN, REFRESH_TOKEN, check_dead, check_problem
from daemon import ACME, SERVICE, Daemon, unique
from test_login import LOGIN_MEMBERS
from test_validate import flip_bit, never_issued

PAIR = ("access_token", "refresh_token")


def pair(answer):
    assert answer.status == 200, answer
    return tuple(answer.json[name] for name in PAIR)


@pytest.fixture(scope="module")
def short_grace(workspace, cluster):
    daemon = Daemon(workspace / "short-grace", cluster, policy__refresh_grace=2)
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


def test_refresh_answers_as_login_with_a_new_pair(shared):
    login = shared.login(unique(), device={"id": "d", "type": "phone", "name": "n"})
    answer = shared.refresh(login["refresh_token"])
    assert answer.status == 200, answer
    body = answer.json
    assert set(body) == LOGIN_MEMBERS, set(body) ^ LOGIN_MEMBERS
    assert answer.header("Cache-Control") == "no-store"
    for name in ("tenant", "user_id", "session_id", "device"):
        assert body[name] == login[name]
    assert ACCESS_TOKEN.fullmatch(body["access_token"])
    assert REFRESH_TOKEN.fullmatch(body["refresh_token"])
    assert body["access_token"] != login["access_token"]
    assert body["refresh_token"] != login["refresh_token"]
    assert 7198 <= body["expires_in"] <= 7200
    assert body["replaced"] == []
    assert shared.is_alive(body["access_token"])


def test_the_same_pair_comes_again_inside_the_grace_window_from_any_node(shared):
    login = shared.login()
    first = pair(shared.refresh(login["refresh_token"], node=0))
    for node in (0, 1, 2):
        assert pair(shared.refresh(login["refresh_token"], node=node)) == first
    assert shared.is_alive(first[0])


def test_the_access_token_before_stays_valid_inside_the_grace_window(shared):
    login = shared.login()
    shared.refresh(login["refresh_token"])
    assert shared.is_alive(login["access_token"])


def test_a_chain_of_refreshes_keeps_one_session(shared):
    user = unique()
    login = shared.login(user)
    token = login["refresh_token"]
    seen = {token}
    for _ in range(10):
        token = pair(shared.refresh(token))[1]
        assert token not in seen
        seen.add(token)
    assert [d["session_id"] for d in shared.devices(user)["devices"]] == [login["session_id"]]


def test_after_the_grace_window_the_used_token_is_reuse_and_ends_the_session(short_grace):
    login = short_grace.login()
    new = pair(short_grace.refresh(login["refresh_token"]))
    assert short_grace.is_alive(login["access_token"])
    time.sleep(3.2)
    check_dead(short_grace.validate(login["access_token"]), "expired")
    assert short_grace.is_alive(new[0])
    answer = short_grace.refresh(login["refresh_token"])
    problem = check_problem(answer, 401, "refresh_invalid")
    assert problem["reason"] == "reuse"
    check_dead(short_grace.validate(new[0]), "refresh_reuse")
    problem = check_problem(short_grace.refresh(new[1]), 401, "refresh_invalid")
    assert problem["reason"] == "refresh_reuse"


def test_once_the_successor_was_used_the_old_token_is_reuse_at_once(shared):
    login = shared.login()
    second = pair(shared.refresh(login["refresh_token"]))
    third = pair(shared.refresh(second[1]))
    problem = check_problem(shared.refresh(login["refresh_token"], node=1), 401, "refresh_invalid")
    assert problem["reason"] == "reuse"
    for node in range(3):
        check_dead(shared.validate(third[0], node), "refresh_reuse")


def test_reuse_ends_only_the_session_of_the_token(shared):
    user = unique()
    first, other = shared.login(user), shared.login(user)
    second = pair(shared.refresh(first["refresh_token"]))
    pair(shared.refresh(second[1]))
    assert shared.refresh(first["refresh_token"]).status == 401
    assert shared.is_alive(other["access_token"])


def test_refresh_of_an_ended_session_says_why(shared):
    user = unique()
    login = shared.login(user)
    shared.kick(user, login["session_id"], headers={"X-Operator": "alice@example.com"})
    problem = check_problem(shared.refresh(login["refresh_token"]), 401, "refresh_invalid")
    assert problem["reason"] == "kicked"
    assert problem["actor"] == "alice@example.com"
    assert isinstance(problem["ended_at"], int)


def test_made_up_and_altered_refresh_tokens_are_unknown(shared):
    login = shared.login()
    for token in [never_issued("sr_")] + [flip_bit(login["refresh_token"], bit)
                                          for bit in range(0, 360, 7)]:
        problem = check_problem(shared.refresh(token), 401, "refresh_invalid")
        assert problem["reason"] == "unknown"
    assert shared.refresh(login["refresh_token"]).status == 200


@pytest.mark.parametrize("token", ["x", "sr_", "sa_" + "A" * 60, "sr_" + "A" * 59])
def test_what_is_no_refresh_token_is_malformed(shared, token):
    problem = check_problem(shared.refresh(token), 401, "refresh_invalid")
    assert problem["reason"] == "malformed"


def test_an_access_token_does_not_refresh(shared):
    login = shared.login()
    check_problem(shared.refresh(login["access_token"]), 401, "refresh_invalid")
    problem = check_problem(shared.refresh("sr_" + login["access_token"][3:]), 401,
                            "refresh_invalid")
    assert problem["reason"] == "unknown"


@pytest.mark.parametrize("body", [b"", b"{}", b"{", b'{"refresh_token": 5}',
                                  b'{"refresh_token": "x", "token": "y"}'])
def test_a_bad_refresh_body_is_refused_with_400(shared, body):
    check_problem(shared.call("POST", "/v1/refresh", body), 400, "body_invalid")


def test_a_service_of_another_tenant_may_not_refresh(shared):
    login = shared.login()
    answer = shared.call("POST", "/v1/refresh", {"refresh_token": login["refresh_token"]}, ACME)
    assert answer.status in (401, 403), answer
    assert shared.refresh(login["refresh_token"]).status == 200


def test_a_service_may_refresh_for_its_user(shared):
    login = shared.login()
    answer = shared.call("POST", "/v1/refresh", {"refresh_token": login["refresh_token"]}, SERVICE)
    assert answer.status == 200, answer


def test_without_a_grace_window_the_second_use_is_reuse(start):
    daemon = start(policy__refresh_grace=0)
    login = daemon.login()
    new = pair(daemon.refresh(login["refresh_token"]))
    time.sleep(1.2)
    problem = check_problem(daemon.refresh(login["refresh_token"]), 401, "refresh_invalid")
    assert problem["reason"] == "reuse"
    assert not daemon.is_alive(new[0])


def test_a_repeat_inside_the_window_survives_a_restart_of_the_daemon(start):
    daemon = start()
    login = daemon.login()
    first = pair(daemon.refresh(login["refresh_token"]))
    daemon.stop()
    daemon.start()
    assert pair(daemon.refresh(login["refresh_token"])) == first

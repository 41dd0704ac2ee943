"""POST /v1/login/verify for a active session: the new pair, the one before, the ends of both."""

import concurrent.futures
import threading
import time

import pytest

from checks import ACCESS_TOKEN, LOGIN_MEMBERS, REFRESH_TOKEN, check_dead, check_problem, first_refusal
from clocks import DrivenTime
from daemon import ADMIN, SERVICE, unique
from redis_servers import SingleRedis
from scripted_redis import ScriptedRedis
from verification import CAFE, HOME, OFFICE, bound_daemon, seen_from, step_up, verify

PAIR = ("access_token", "refresh_token")


@pytest.fixture(scope="module")
def stepup(workspace, cluster):
    yield from bound_daemon(workspace, cluster, "step-up-tokens", 2, policy__bind_ip="verify",
                            policy__bind_device="verify", policy__verify_method="otp")


@pytest.fixture(scope="module")
def short_grace(workspace, cluster):
    yield from bound_daemon(workspace, cluster, "step-up-grace", 1, policy__bind_ip="verify",
                            policy__verify_method="otp", policy__refresh_grace=2)


@pytest.fixture(scope="module")
def no_grace(workspace, cluster):
    yield from bound_daemon(workspace, cluster, "step-up-no-grace", 1, policy__bind_ip="verify",
                            policy__verify_method="otp", policy__refresh_grace=0)


def pair(body):
    return tuple(body[name] for name in PAIR)


def refresh(daemon, token, ip, node=0, **fields):
    body = {"refresh_token": token, "ip": ip, **fields}
    return daemon.call("POST", "/v1/refresh", body, SERVICE, node=node)


def strong_login(daemon, **fields):
    """A login with a second factor: a step-up adds nothing to its strength."""
    return daemon.login(second_factor=True, **fields)


def ask(daemon, token, ip=OFFICE, node=0):
    """A service's answer to a challenge, once the user has typed the code."""
    told = step_up(daemon, token, node=node, ip=ip)
    return told["challenge_id"], told["otp"]


def verified(daemon, token, ip=OFFICE, node=0):
    answer = verify(daemon, *ask(daemon, token, ip, node), node=node)
    assert answer.status == 200, answer
    return answer.json


def assert_reuse(answer):
    assert check_problem(answer, 401, "refresh_invalid")["reason"] == "reuse"


def test_a_verification_answers_as_login_with_a_new_pair(stepup):
    user = unique()
    login = stepup.login(user, ip=HOME, device={"id": "d", "type": "phone", "name": "n"})
    answer = verify(stepup, *ask(stepup, login["access_token"]))
    assert answer.status == 200, answer
    body = answer.json
    assert set(body) == LOGIN_MEMBERS | {"verified"} and body["verified"] is True
    assert answer.header("Cache-Control") == "no-store" and answer.header("Set-Cookie") is None
    for name in ("tenant", "user_id", "session_id", "device"):
        assert body[name] == login[name]
    assert ACCESS_TOKEN.fullmatch(body["access_token"])
    assert REFRESH_TOKEN.fullmatch(body["refresh_token"])
    assert not set(pair(body)) & set(pair(login))
    assert 7198 <= body["expires_in"] <= 7200 and 604798 <= body["refresh_expires_in"] <= 604800
    assert (body["new_device"], body["new_location"], body["replaced"]) == (False, False, [])
    assert [entry["session_id"] for entry in stepup.devices(user)["devices"]] == [login["session_id"]]


@pytest.mark.parametrize("node", [0, 1])
def test_the_new_pair_is_good_from_both_places_and_so_is_the_old_one_for_the_grace(stepup, node):
    login = strong_login(stepup, ip=HOME)
    body = verified(stepup, login["access_token"])
    for token in (body["access_token"], login["access_token"]):
        for ip in (HOME, OFFICE):
            assert seen_from(stepup, token, ip, node=node).status == 200
        check_problem(seen_from(stepup, token, CAFE, node=node), 401, "verification_required")
    assert refresh(stepup, body["refresh_token"], HOME, node).status == 200


def test_whoever_lost_the_answer_gets_the_same_pair_by_a_refresh(stepup):
    login = strong_login(stepup, ip=HOME)
    body = verified(stepup, login["access_token"])
    for node, ip in ((0, HOME), (1, OFFICE), (0, OFFICE)):
        again = refresh(stepup, login["refresh_token"], ip, node)
        assert again.status == 200 and pair(again.json) == pair(body)
    following = refresh(stepup, body["refresh_token"], OFFICE, 1)
    assert following.status == 200 and seen_from(stepup, following.json["access_token"], HOME).status == 200
    assert pair(refresh(stepup, body["refresh_token"], HOME).json) == pair(following.json)


def test_the_pair_before_ends_with_the_grace_and_is_reuse_then(short_grace):
    login = strong_login(short_grace, ip=HOME)
    began = time.monotonic()
    body = verified(short_grace, login["access_token"])
    answer = seen_from(short_grace, login["access_token"], HOME)
    assert answer.status == 200 or time.monotonic() - began > 1.9, answer
    old = first_refusal(lambda: seen_from(short_grace, login["access_token"], HOME), 5, "it is over")
    check_dead(old, "expired")
    assert seen_from(short_grace, body["access_token"], HOME).status == 200
    assert_reuse(first_refusal(lambda: refresh(short_grace, login["refresh_token"], HOME), 3, "the grace is over"))
    check_dead(seen_from(short_grace, body["access_token"], OFFICE), "refresh_reuse")


def test_without_a_grace_nothing_of_the_pair_before_is_left(no_grace):
    """A holder of the tokens before (session fixation) has no moment."""
    login = strong_login(no_grace, ip=HOME)
    body = verified(no_grace, login["access_token"])
    check_dead(seen_from(no_grace, login["access_token"], HOME), "expired")
    assert seen_from(no_grace, body["access_token"], OFFICE).status == 200
    assert_reuse(refresh(no_grace, login["refresh_token"], HOME))


def test_the_verification_of_a_second_place_rotates_again(stepup):
    login = strong_login(stepup, ip=HOME)
    token = login["access_token"]
    office, cafe = ask(stepup, token, OFFICE), ask(stepup, token, CAFE, node=1)
    first = verify(stepup, *office).json
    second = verify(stepup, *cafe, node=1).json
    assert len({*pair(login), *pair(first), *pair(second)}) == 6
    for node in (0, 1):
        for ip in (HOME, OFFICE, CAFE):
            assert seen_from(stepup, second["access_token"], ip, node=node).status == 200
            assert seen_from(stepup, first["access_token"], ip, node=node).status == 200
        check_dead(seen_from(stepup, token, HOME, node=node), "expired")
    assert pair(refresh(stepup, first["refresh_token"], CAFE).json) == pair(second)


def test_parallel_verifications_of_many_places_end_in_one_living_session(stepup):
    user = unique()
    token = stepup.login(user, ip=HOME)["access_token"]
    places = [f"203.0.{n}.9" for n in range(8)]
    asked = [ask(stepup, token, ip, n % 2) for n, ip in enumerate(places)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: verify(stepup, *asked[n], node=n % 2), range(8)))
    assert [answer.status for answer in answers] == [200] * 8
    assert len({pair(answer.json) for answer in answers}) == 8
    good = [answer.json["access_token"] for answer in answers
            if seen_from(stepup, answer.json["access_token"], HOME).status == 200]
    assert len(good) == 2, "the last pair, and the one before in its grace"
    for node in (0, 1):
        for ip in places + [HOME]:
            assert seen_from(stepup, good[0], ip, node=node).status == 200
    assert stepup.devices(user)["total"] == 1


def test_a_challenge_gives_one_pair_however_many_answer_it(stepup):
    asked = ask(stepup, stepup.login(ip=HOME)["access_token"])
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda n: verify(stepup, *asked, node=n % 2), range(5)))
    assert sorted(answer.status for answer in answers) == [200, 410, 410, 410, 410]


def end_by(daemon, how, user, login):
    if how == "logged out":
        return daemon.call("POST", "/v1/logout", None, login["access_token"])
    if how == "kicked":
        return daemon.kick(user, login["session_id"])
    if how == "all logged out":
        return daemon.call("POST", f"/v1/users/{user}/logout-all", None, SERVICE)
    return daemon.call("POST", f"/v1/users/{user}/freeze", None, SERVICE)


@pytest.mark.parametrize("how", ["logged out", "kicked", "all logged out", "frozen"])
def test_a_session_that_ended_meanwhile_gets_no_tokens(stepup, how):
    user = unique()
    login = stepup.login(user, ip=HOME)
    asked = ask(stepup, login["access_token"])
    assert end_by(stepup, how, user, login).status == 200
    problem = check_problem(verify(stepup, *asked), 410, "challenge_over")
    assert "access_token" not in problem
    assert stepup.devices(user)["total"] == 0
    if how == "frozen":
        assert stepup.call("POST", f"/v1/users/{user}/unfreeze", None, SERVICE).status == 200


def test_a_tenant_that_was_logged_out_meanwhile_gets_no_tokens(stepup):
    tenant = unique("bank")
    login = stepup.call("POST", "/v1/login", {"user_id": "alice", "tenant": tenant, "ip": HOME}, ADMIN)
    told = stepup.check(login.json["access_token"], ADMIN, ip=OFFICE).json
    assert stepup.call("POST", f"/v1/tenants/{tenant}/logout-all", None, ADMIN).status == 200
    body = {"challenge_id": told["challenge_id"], "code": told["otp"]}
    for node in (0, 1):
        check_problem(stepup.call("POST", "/v1/login/verify", body, ADMIN, node=node), 410,
                      "challenge_over")


@pytest.mark.parametrize("landed", [True, False])
def test_a_write_whose_answer_was_lost_is_not_done_twice(start, tmp_path, landed):
    """The connection breaks under the write: one step was made, whichever of two it was."""
    redis = SingleRedis(tmp_path / "redis").start()
    armed = threading.Event()

    def script(words, ask):
        if armed.is_set() and words[0] == b"EVALSHA" and words[3].startswith(b"sd:u:"):
            armed.clear()
            if landed:
                ask(words)
            raise EOFError
        return None
    fake = ScriptedRedis(redis.port, script)
    try:
        daemon = start(redis=fake, redis__mode="standalone", redis__wait_timeout=0,
                       policy__bind_ip="verify", policy__verify_method="otp",
                       server__trusted_proxies="127.0.0.0/8")
        login = strong_login(daemon, ip=HOME)
        asked = ask(daemon, login["access_token"])
        armed.set()
        answer = verify(daemon, *asked)
        assert answer.status == 200 and not armed.is_set(), answer
        for token in (login["access_token"], answer.json["access_token"]):
            assert seen_from(daemon, token, OFFICE).status == 200
        again = refresh(daemon, login["refresh_token"], HOME)
        assert again.status == 200 and pair(again.json) == pair(answer.json)
    finally:
        fake.stop()
        redis.stop()


def test_the_access_token_that_was_over_gets_no_grace_and_times_begin_anew(tmp_path):
    """Times are those of a refresh, whatever was left of the old ones."""
    with DrivenTime(tmp_path) as driven:
        daemon = driven.daemon(policy__bind_ip="verify", policy__verify_method="otp",
                               policy__access_ttl="100s", policy__refresh_grace=20,
                               server__trusted_proxies="127.0.0.0/8")
        login = daemon.login(ip=HOME)
        asked = ask(daemon, login["access_token"])
        driven.go_to(driven.now() + 101)
        body = verify(daemon, *asked).json
        assert body["expires_in"] == 100
        check_dead(seen_from(daemon, login["access_token"], HOME), "expired")
        assert seen_from(daemon, body["access_token"], HOME).status == 200


def test_the_cookie_comes_if_the_answer_asks_for_it(stepup):
    login = stepup.login(ip=HOME, cookie=True)
    challenge_id, code = ask(stepup, login["access_token"])
    answer = stepup.call("POST", "/v1/login/verify",
                         {"challenge_id": challenge_id, "code": code, "cookie": True}, SERVICE)
    assert answer.status == 200, answer
    assert answer.json["set_cookie"] == [answer.header("Set-Cookie")]
    assert "=" + answer.json["access_token"] + ";" in answer.header("Set-Cookie")


def test_no_log_shows_the_tokens(stepup):
    login = stepup.login(ip=HOME)
    answer = verify(stepup, *ask(stepup, login["access_token"]))
    line = stepup.node.audit_of(answer.header("X-Request-Id"))
    assert line["event.action"] == "verify-login" and line["event.outcome"] == "success"
    assert line["sessiond.session_id"] == login["session_id"]
    text = stepup.node.audit.read_text() + stepup.node.log_text()
    for token in pair(login) + pair(answer.json):
        assert token not in text and token[30:50] not in text

"""Sessions bound to the network and the device of their login: off, log, verify, strict."""

import concurrent.futures
import signal

import pytest

from checks import check_problem
from client import Client
from daemon import ADMIN, SERVICE, Daemon, unique
from redis_servers import SingleRedis, wait_until
from verification import (CAFE, HOME, HOME6, NEIGHBOUR, NEIGHBOUR6, OFFICE, OFFICE6, bound_daemon, seen_from,
                          step_up, verify)



@pytest.fixture(scope="module")
def strict(workspace, cluster):
    yield from bound_daemon(workspace, cluster, "strict", 2, policy__bind_ip="strict",
                            policy__bind_device="strict")


@pytest.fixture(scope="module")
def stepup(workspace, cluster):
    yield from bound_daemon(workspace, cluster, "step-up", 2, policy__bind_ip="verify",
                            policy__bind_device="verify", policy__verify_method="otp")


@pytest.fixture(scope="module")
def logging(workspace, cluster):
    yield from bound_daemon(workspace, cluster, "logging", 1, policy__bind_ip="log",
                            policy__bind_device="log")


def assert_bound(answer, reason="binding"):
    problem = check_problem(answer, 401, "token_invalid")
    assert problem["reason"] == reason
    assert "invalid_token" in answer.header("WWW-Authenticate")


def wait_for_memory(ask):
    """On a busy machine the tracking that keeps memory fresh may be late."""
    wait_until(lambda: ask().json["source"] == "cache", 10, "memory answers")


@pytest.mark.parametrize("node", [0, 1])
def test_strict_refuses_another_network_cached_or_not(strict, node):
    token = strict.login(ip=HOME)["access_token"]
    assert_bound(seen_from(strict, token, OFFICE, node=node))
    assert seen_from(strict, token, HOME, node=node).status == 200
    wait_for_memory(lambda: seen_from(strict, token, NEIGHBOUR, node=node))
    assert seen_from(strict, token, "::ffff:" + NEIGHBOUR, node=node).status == 200
    assert_bound(seen_from(strict, token, OFFICE, node=node))
    assert seen_from(strict, token, HOME, node=node).status == 200


def test_strict_tells_a_service_why(strict):
    token = strict.login(ip=HOME, device={"id": "d", "fingerprint": "f"})["access_token"]
    assert strict.check(token).json["active"] is True
    assert strict.check(token, ip=NEIGHBOUR, device_fingerprint="f").json["active"] is True
    for fields in ({"ip": OFFICE}, {"device_fingerprint": "g"}, {"ip": HOME, "device_fingerprint": "g"}):
        assert strict.check(token, **fields).json == {"active": False, "reason": "binding"}


def test_strict_refuses_another_fingerprint_and_none(strict):
    token = strict.login(ip=HOME, device={"id": "d", "fingerprint": "f"})["access_token"]
    for node in (0, 1, 0):
        assert seen_from(strict, token, HOME, "f", node).status == 200
        assert_bound(seen_from(strict, token, HOME, "g", node))
        assert_bound(seen_from(strict, token, HOME, None, node))


def test_a_session_without_fingerprint_is_bound_to_none(strict):
    token = strict.login(ip=HOME)["access_token"]
    assert seen_from(strict, token, HOME, "f").status == 200
    assert seen_from(strict, token, HOME).status == 200


@pytest.mark.parametrize("home, other", [(HOME, HOME6), (HOME6, HOME)])
def test_another_family_is_refused_and_does_not_lock_out(strict, home, other):
    token = strict.login(ip=home)["access_token"]
    for node in (0, 1, 0):
        assert_bound(seen_from(strict, token, other, node=node), "binding_family")
        assert seen_from(strict, token, home, node=node).status == 200
    assert strict.check(token, ip=other).json == {"active": False, "reason": "binding_family"}
    assert_bound(seen_from(strict, token, OFFICE if home == HOME else OFFICE6))


def test_a_client_that_refreshes_from_another_family_stays_in(strict):
    """As a phone in a dual-stack network: it may use either family from one call to the next."""
    login = strict.login(ip=HOME)
    assert_bound(seen_from(strict, login["access_token"], HOME6), "binding_family")
    good = strict.call("POST", "/v1/refresh", {"refresh_token": login["refresh_token"]}, None,
                       {"X-Forwarded-For": HOME6})
    assert good.status == 200, good
    token = good.json["access_token"]
    for address in (HOME6, HOME, NEIGHBOUR6, NEIGHBOUR):
        for node in (0, 1):
            assert seen_from(strict, token, address, node=node).status == 200
    for node in (0, 1):
        assert_bound(seen_from(strict, token, OFFICE6, node=node))
        assert_bound(seen_from(strict, token, OFFICE, node=node))


def test_a_login_without_an_address_adopts_the_first(strict):
    token = strict.login()["access_token"]
    assert seen_from(strict, token, HOME).status == 200
    assert seen_from(strict, token, NEIGHBOUR, node=1).status == 200
    assert_bound(seen_from(strict, token, OFFICE))
    assert_bound(seen_from(strict, token, HOME6), "binding_family")


def test_strict_refuses_who_comes_over_the_unix_socket_without_an_address(workspace, cluster):
    path = str(workspace / "bound.sock")
    daemon = Daemon(workspace / "bound-unix", cluster, server__unix_socket=path,
                    policy__bind_ip="strict")
    try:
        daemon.start()
        assert "bound_sessions_without_address" in daemon.node.log_text()
        token, client = daemon.login(ip=HOME)["access_token"], Client(unix=path)

        def seen(forwarded_for=None):
            headers = {"Authorization": f"Bearer {token}"}
            if forwarded_for:
                headers["X-Forwarded-For"] = forwarded_for
            return client.call("GET", "/v1/validate", headers=headers)
        assert_bound(seen())
        assert_bound(seen(HOME))
        daemon.node.write_config(server__trusted_proxies="unix")
        daemon.node.signal(signal.SIGHUP)
        wait_until(lambda: seen(HOME).status == 200, 5, "the socket's X-Forwarded-For is believed")
        assert_bound(seen())
        assert_bound(seen(OFFICE))
        assert_bound(seen(HOME6), "binding_family")
        daemon.stop()
    finally:
        daemon.kill()


def test_what_a_user_does_himself_is_bound_too(strict):
    user = unique()
    login = strict.login(user, ip=HOME)
    other = strict.login(user, ip=HOME)
    token, away = login["access_token"], {"X-Forwarded-For": OFFICE}
    for method, path in (("GET", "/v1/devices"), ("DELETE", f"/v1/devices/{other['session_id']}"),
                         ("POST", "/v1/logout-all")):
        assert_bound(strict.call(method, path, None, token, away))
    assert strict.call("GET", "/v1/devices", None, token, {"X-Forwarded-For": HOME}).status == 200
    assert strict.devices(user)["total"] == 2
    assert strict.call("POST", "/v1/logout", None, token, away).status == 200
    assert strict.devices(user)["total"] == 1


def test_a_refresh_is_bound_and_widens_nothing(strict):
    login = strict.login(ip=HOME)
    token = login["refresh_token"]
    away = strict.call("POST", "/v1/refresh", {"refresh_token": token, "ip": OFFICE}, SERVICE)
    assert check_problem(away, 401, "refresh_invalid")["reason"] == "binding"
    # Without a key a claimed address does not count: the connection does.
    lie = strict.call("POST", "/v1/refresh", {"refresh_token": token, "ip": HOME}, None,
                      {"X-Forwarded-For": OFFICE})
    assert check_problem(lie, 401, "refresh_invalid")["reason"] == "binding"
    good = strict.call("POST", "/v1/refresh", {"refresh_token": token, "ip": HOME6}, SERVICE)
    assert good.status == 200
    token = good.json["access_token"]
    assert seen_from(strict, token, NEIGHBOUR6).status == 200
    assert seen_from(strict, token, HOME).status == 200
    assert_bound(seen_from(strict, token, OFFICE))


def test_another_network_needs_a_verification_and_the_old_one_goes_on(stepup):
    login = stepup.login(second_factor=True, ip=HOME)
    token = login["access_token"]
    answer = seen_from(stepup, token, OFFICE)
    problem = check_problem(answer, 401, "verification_required")
    assert 'error="insufficient_user_authentication"' in answer.header("WWW-Authenticate")
    assert "otp" not in problem, "the code is not for whoever holds the token"
    assert seen_from(stepup, token, HOME).status == 200

    told = step_up(stepup, token, node=1, ip=OFFICE)
    assert told["challenge_id"] == problem["challenge_id"]
    wrong = f"{(int(told['otp']) + 1) % 1000000:06d}"
    assert verify(stepup, told["challenge_id"], wrong).json["attempts_left"] == 4
    check_problem(seen_from(stepup, token, OFFICE), 401, "verification_required")

    done = verify(stepup, told["challenge_id"], told["otp"])
    assert done.status == 200, done
    assert done.json["verified"] is True and done.json["session_id"] == login["session_id"]
    for node in (0, 1):
        assert seen_from(stepup, token, OFFICE, node=node).status == 200
        assert seen_from(stepup, token, HOME, node=node).status == 200
        check_problem(seen_from(stepup, token, CAFE, node=node), 401, "verification_required")
    check_problem(verify(stepup, told["challenge_id"], told["otp"]), 410, "challenge_over")


def test_another_device_needs_a_verification_of_its_own(stepup):
    token = stepup.login(second_factor=True, ip=HOME, device={"id": "d", "fingerprint": "f"})["access_token"]
    told = step_up(stepup, token, ip=HOME, device_fingerprint="g")
    other = step_up(stepup, token, ip=HOME, device_fingerprint="h")
    assert told["challenge_id"] != other["challenge_id"] and told["otp"]
    assert verify(stepup, told["challenge_id"], told["otp"]).status == 200
    for node in (0, 1):
        assert seen_from(stepup, token, HOME, "g", node).status == 200
        assert seen_from(stepup, token, HOME, "f", node).status == 200
        check_problem(seen_from(stepup, token, HOME, "h", node), 401, "verification_required")


def test_a_device_without_a_fingerprint_is_verified_once(stepup):
    user = unique()
    login = stepup.login(user, ip=HOME, device={"id": "d", "fingerprint": "f"})
    token = login["access_token"]
    asked = check_problem(seen_from(stepup, token, HOME), 401, "verification_required")
    told = step_up(stepup, token, node=1, ip=HOME, device_fingerprint="")
    assert told["challenge_id"] == asked["challenge_id"]
    token = verify(stepup, told["challenge_id"], told["otp"]).json["access_token"]
    for node in (0, 1):
        for _ in range(2):
            seen = seen_from(stepup, token, HOME, node=node)
            assert seen.status == 200, seen
        wait_for_memory(lambda: seen_from(stepup, token, HOME, node=node))
        assert stepup.call("GET", "/v1/devices", None, token, {"X-Forwarded-For": HOME},
                           node=node).status == 200
        assert seen_from(stepup, token, HOME, "f", node).status == 200
        assert stepup.check(token, node=node, ip=HOME, device_fingerprint="").json["active"] is True
        check_problem(seen_from(stepup, token, HOME, "g", node), 401, "verification_required")


def test_a_refresh_says_that_there_is_no_fingerprint(stepup):
    login = stepup.login(second_factor=True, ip=HOME, device={"id": "d", "fingerprint": "f"})
    body = {"refresh_token": login["refresh_token"], "ip": HOME, "device_fingerprint": ""}
    asked = check_problem(stepup.call("POST", "/v1/refresh", body, SERVICE), 401,
                          "verification_required")
    assert verify(stepup, asked["challenge_id"], asked["otp"]).status == 200
    assert stepup.call("POST", "/v1/refresh", body, SERVICE, node=1).status == 200


def test_a_challenge_is_about_what_differs(stepup):
    """Whether the caller also shows what is known already makes no other challenge of it."""
    token = stepup.login(ip=HOME, device={"id": "d", "fingerprint": "f"})["access_token"]
    asked = check_problem(seen_from(stepup, token, OFFICE, "f"), 401, "verification_required")
    assert step_up(stepup, token, ip=OFFICE)["challenge_id"] == asked["challenge_id"]
    told = step_up(stepup, token, ip=OFFICE, device_fingerprint="f")
    assert told["challenge_id"] == asked["challenge_id"]
    other = step_up(stepup, token, ip=HOME, device_fingerprint="g")
    assert step_up(stepup, token, device_fingerprint="g")["challenge_id"] == other["challenge_id"]


def test_a_session_without_fingerprint_stays_bound_to_none(stepup):
    token = stepup.login(ip=HOME)["access_token"]
    told = step_up(stepup, token, ip=OFFICE, device_fingerprint="g")
    token = verify(stepup, told["challenge_id"], told["otp"]).json["access_token"]
    for node in (0, 1):
        for fingerprint in ("g", "h", None):
            assert seen_from(stepup, token, HOME, fingerprint, node).status == 200
            assert seen_from(stepup, token, OFFICE, fingerprint, node).status == 200


def test_a_refresh_from_elsewhere_waits_for_the_verification(stepup):
    login = stepup.login(second_factor=True, ip=HOME)
    body = {"refresh_token": login["refresh_token"], "ip": OFFICE}
    asked = check_problem(stepup.call("POST", "/v1/refresh", body, SERVICE), 401,
                          "verification_required")
    assert verify(stepup, asked["challenge_id"], asked["otp"]).status == 200
    fresh = stepup.call("POST", "/v1/refresh", body, SERVICE)
    assert fresh.status == 200
    for ip in (HOME, OFFICE):
        assert seen_from(stepup, fresh.json["access_token"], ip).status == 200


def test_tries_for_one_place_do_not_come_back_with_each_call(stepup):
    token = stepup.login(ip=HOME)["access_token"]
    told = step_up(stepup, token, ip=OFFICE)
    for left in (4, 3, 2, 1, 0):
        wrong = f"{(int(told['otp']) + 1 + left) % 1000000:06d}"
        assert verify(stepup, told["challenge_id"], wrong).json["attempts_left"] == left
    again = step_up(stepup, token, ip=OFFICE)
    assert again["challenge_id"] == told["challenge_id"] and again["attempts"] == 0
    check_problem(verify(stepup, told["challenge_id"], told["otp"]), 410, "challenge_over")


def pending(cluster):
    return sum(cluster.each_master(
        lambda node: sum(key.startswith(b"sd:c:") for key in node.keys())))


def test_a_token_cannot_fill_redis_with_challenges(stepup, cluster):
    user = unique()
    token = stepup.login(user, ip=HOME, device={"id": "d", "fingerprint": "f"})["access_token"]
    before = pending(cluster)
    told = step_up(stepup, token, ip=OFFICE, device_fingerprint="f")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: seen_from(stepup, token, HOME, f"forged-{n}"), range(200)))
    begun = [answer for answer in answers if answer.status == 401]
    assert pending(cluster) - before == 1 + len(begun) == 10
    for answer in answers:
        if answer.status != 401:
            check_problem(answer, 429, "too_many_challenges")
            assert 1 <= int(answer.header("Retry-After")) <= 30, answer
    check_problem(stepup.check(token, ip=CAFE), 429, "too_many_challenges")
    # Challenges that exist go on, and so do the old location, other users, and a node that has begun none.
    again = step_up(stepup, token, ip=OFFICE, device_fingerprint="f")
    assert again["challenge_id"] == told["challenge_id"]
    assert seen_from(stepup, token, HOME, "f").status == 200
    step_up(stepup, stepup.login(ip=HOME)["access_token"], ip=OFFICE)
    step_up(stepup, token, node=1, ip=CAFE)
    assert verify(stepup, told["challenge_id"], told["otp"]).status == 200


def test_asking_for_what_is_pending_begins_nothing(stepup):
    login = stepup.login(ip=HOME)
    asked = [step_up(stepup, login["access_token"], ip=OFFICE)["challenge_id"] for _ in range(30)]
    assert len(set(asked)) == 1
    step_up(stepup, login["access_token"], ip=CAFE)


def test_who_was_slower_to_be_adopted_is_asked_to_verify(workspace, cluster, monkeypatch):
    """The first address of all is adopted, another one is somebody else's: maybe the user's.
    In memory that is not zero at first, as after some days of work."""
    monkeypatch.setenv("MALLOC_PERTURB_", "85")
    daemons = bound_daemon(workspace, cluster, "step-up-race", 1, policy__bind_ip="verify")
    daemon = next(daemons)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            token = daemon.login()["access_token"]
            answers = pool.map(lambda n: seen_from(daemon, token, f"2001:db8:{n}::1"), range(10, 18))
            codes = sorted(answer.json.get("code", "adopted") for answer in answers)
            assert codes == ["adopted"] + 7 * ["verification_required"], codes
    assert next(daemons, None) is None


@pytest.mark.parametrize("one,other", [("203.0.113.9", "203.0.113.77"),
                                       ("2001:db8:2::9", "2001:db8:2:ffff::1")])
def test_a_place_is_a_network_not_an_address(stepup, one, other):
    token = stepup.login(second_factor=True, ip=HOME)["access_token"]
    told = step_up(stepup, token, ip=HOME6)
    assert verify(stepup, told["challenge_id"], told["otp"]).status == 200
    token = stepup.login(second_factor=True, ip=HOME)["access_token"]
    told = step_up(stepup, token, ip=one)
    wrong = f"{(int(told['otp']) + 1) % 1000000:06d}"
    assert verify(stepup, told["challenge_id"], wrong).json["attempts_left"] == 4
    again = step_up(stepup, token, node=1, ip=other)
    assert again["challenge_id"] == told["challenge_id"] and again["attempts"] == 4
    assert verify(stepup, told["challenge_id"], told["otp"]).status == 200
    for ip in (one, other):
        assert stepup.check(token, ip=ip).json["active"] is True


def test_a_dead_session_is_not_verified(stepup):
    login = stepup.login(ip=HOME)
    told = step_up(stepup, login["access_token"], ip=OFFICE)
    assert stepup.call("POST", "/v1/logout", None, login["access_token"]).status == 200
    check_problem(verify(stepup, told["challenge_id"], told["otp"]), 410, "challenge_over")


def test_log_lets_all_pass_and_tells_the_audit(logging):
    token = logging.login(ip=HOME, device={"id": "d", "fingerprint": "f"})["access_token"]
    expected = [(HOME, "f", None), (OFFICE, "f", "ip"), (HOME, "g", "device"),
                (OFFICE, None, "ip device"), (HOME6, "f", "family"), (HOME6, "g", "family device")]
    for ip, fingerprint, word in expected:
        answer = seen_from(logging, token, ip, fingerprint)
        assert answer.status == 200
        line = logging.node.audit_of(answer.header("X-Request-Id"))
        assert line.get("sessiond.binding") == word, (ip, fingerprint)
    wait_for_memory(lambda: seen_from(logging, token, ip, fingerprint))


def test_strict_refusals_are_in_the_audit(strict):
    token = strict.login(ip=HOME)["access_token"]
    refused = seen_from(strict, token, OFFICE)
    line = strict.node.audit_of(refused.header("X-Request-Id"))
    assert line["sessiond.binding"] == "ip" and line["event.reason"] == "binding"
    assert line["source.ip"] == OFFICE and line["user.id"]


def test_by_default_nobody_is_asked_where_he_is(shared):
    login = shared.login(ip=HOME, device={"id": "d", "fingerprint": "f"})
    token = login["access_token"]
    for ip in (OFFICE, HOME6, OFFICE6, HOME, CAFE):
        for node in (0, 1, 2):
            assert shared.check(token, node=node, ip=ip, device_fingerprint="g").json["active"] is True
    assert shared.refresh(login["refresh_token"], ip=OFFICE6).status == 200


def test_a_policy_binds_living_sessions_on_all_nodes(shared):
    tenant = unique("bank")
    login = shared.call("POST", "/v1/login", {"user_id": "alice", "tenant": tenant, "ip": HOME}, ADMIN)
    token = login.json["access_token"]

    def word(node, ip):
        answer = shared.check(token, ADMIN, node, ip=ip).json
        return answer.get("reason", "good")

    def set_policy(mode):
        policy = shared.call("PUT", f"/v1/tenants/{tenant}/policy", {"bind": {"ip": mode}}, ADMIN)
        assert policy.status == 200, policy

    for node in (0, 1, 2):
        assert word(node, OFFICE) == "good"
    for mode, expected in (("strict", "binding"), ("verify", "verification_required"), ("log", "good"),
                           ("off", "good")):
        set_policy(mode)
        for node in (0, 1, 2):
            wait_until(lambda node=node: word(node, OFFICE) == expected, 2, f"{mode} on node {node}")
            assert word(node, HOME) == "good"


def test_while_redis_is_away_only_known_places_are_vouched_for(start, tmp_path):
    redis = SingleRedis(tmp_path / "redis")
    redis.start()
    try:
        daemon = start(redis=redis, redis__mode="standalone", policy__bind_ip="strict",
                       server__trusted_proxies="127.0.0.0/8")
        token = daemon.login(ip=HOME)["access_token"]
        assert seen_from(daemon, token, HOME).status == 200
    finally:
        redis.stop()
    wait_until(lambda: seen_from(daemon, token, HOME).json["stale"], 2, "the outage is noticed")
    for ip, status in ((HOME, 200), (OFFICE, 503), (HOME6, 503), (NEIGHBOUR, 200)):
        answer = seen_from(daemon, token, ip)
        assert answer.status == status, answer
        assert status != 200 or answer.json["stale"] is True

"""POST /v1/refresh: rotation, the grace window, reuse."""

import threading
import time

import pytest

from checks import ACCESS_TOKEN, LOGIN_MEMBERS, REFRESH_TOKEN, check_dead, check_problem, first_refusal
from daemon import ACME, SERVICE, Daemon, unique
from redis_servers import SingleRedis, wait_until
from scripted_redis import ScriptedRedis
from tokens import flip_bit, never_issued
from verification import CAFE, HOME, HOME6, NEIGHBOUR, OFFICE

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
    began = time.monotonic()
    new = pair(short_grace.refresh(login["refresh_token"]))
    assert short_grace.is_alive(login["access_token"]) or time.monotonic() - began > 1.9
    check_dead(first_refusal(lambda: short_grace.validate(login["access_token"]), 5, "it is over"), "expired")
    assert short_grace.is_alive(new[0])
    answer = first_refusal(lambda: short_grace.refresh(login["refresh_token"]), 3, "the grace is over")
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
        check_dead(shared.refused(third[0], node), "refresh_reuse")


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
    answer = first_refusal(lambda: daemon.refresh(login["refresh_token"]), 3, "there is no grace")
    problem = check_problem(answer, 401, "refresh_invalid")
    assert problem["reason"] == "reuse"
    assert not daemon.is_alive(new[0])


def test_a_repeat_inside_the_window_survives_a_restart_of_the_daemon(start):
    daemon = start()
    login = daemon.login()
    first = pair(daemon.refresh(login["refresh_token"]))
    daemon.stop()
    daemon.start()
    assert pair(daemon.refresh(login["refresh_token"])) == first


@pytest.fixture(scope="module")
def watched(workspace, cluster):
    """Node 0 tells of repetitions from elsewhere, node 1 refuses them, node 2 binds networks, too."""
    daemon = Daemon(workspace / "watched", cluster, 3, server__trusted_proxies="127.0.0.0/8")
    daemon.nodes[1].write_config(server__trusted_proxies="127.0.0.0/8",
                                 policy__refresh_repeat="refuse")
    daemon.nodes[2].write_config(server__trusted_proxies="127.0.0.0/8", policy__bind_ip="log")
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


def told(daemon, token, node=0, **fields):
    """The answer to a service's refresh, and its audit line."""
    answer = daemon.call("POST", "/v1/refresh", {"refresh_token": token, **fields}, SERVICE, node=node)
    return answer, daemon.nodes[node].audit_of(answer.header("X-Request-Id"))


def by_user(daemon, token, ip, node):
    answer = daemon.call("POST", "/v1/refresh", {"refresh_token": token}, None,
                         {"X-Forwarded-For": ip}, node=node)
    return answer, daemon.nodes[node].audit_of(answer.header("X-Request-Id"))


def repeat_alerts(node, session):
    return [line["source.ip"] for line in node.audit_lines()
            if line.get("rule.name") == "refresh_repeated" and line["sessiond.session_id"] == session]


def check_alerted_alone(daemon, node, token_and_fields, session):
    """Earlier calls with the session raised no alert; this one does. In order, so it is the first."""
    token, fields = token_and_fields
    told(daemon, token, node, **fields)
    wait_until(lambda: repeat_alerts(daemon.nodes[node], session), 10, "an alert")
    assert repeat_alerts(daemon.nodes[node], session) == [fields["ip"]]


def a_rotation(daemon, node=0, **fields):
    login = daemon.login(ip=HOME, device={"id": "d", "fingerprint": "f"})
    answer, line = told(daemon, login["refresh_token"], node, **fields)
    assert "sessiond.repeated" not in line
    return login, pair(answer)


def test_a_repetition_is_marked_in_its_audit_line_and_alerted_from_elsewhere_alone(watched):
    login, given = a_rotation(watched, ip=HOME, device_fingerprint="f")
    same = [{}, {"ip": HOME}, {"ip": HOME, "device_fingerprint": ""},
            {"ip": NEIGHBOUR, "device_fingerprint": "f"}, {"ip": HOME6}]
    for fields in same:
        answer, line = told(watched, login["refresh_token"], **fields)
        assert pair(answer) == given
        assert line["sessiond.repeated"] is True and line["event.outcome"] == "success"
    answer, line = by_user(watched, login["refresh_token"], CAFE, 0)
    assert pair(answer) == given and line["sessiond.repeated"] is True
    check_alerted_alone(watched, 0, (login["refresh_token"], {"ip": OFFICE}), login["session_id"])
    assert pair(watched.refresh(login["refresh_token"])) == given


def test_a_repetition_with_another_fingerprint_is_alerted(watched):
    login, given = a_rotation(watched, ip=HOME, device_fingerprint="f")
    check_alerted_alone(watched, 0, (login["refresh_token"], {"ip": HOME, "device_fingerprint": "g"}),
                        login["session_id"])


def test_a_repetition_is_compared_with_where_the_refresh_came_from_not_with_the_login(watched):
    login, given = a_rotation(watched, ip=OFFICE)
    answer, line = told(watched, login["refresh_token"], ip=OFFICE)
    assert pair(answer) == given and line["sessiond.repeated"] is True
    check_alerted_alone(watched, 0, (login["refresh_token"], {"ip": HOME}), login["session_id"])


def test_a_refused_repetition_ends_nothing(watched):
    login, given = a_rotation(watched, node=1, ip=HOME)
    assert pair(told(watched, login["refresh_token"], 1, ip=NEIGHBOUR)[0]) == given
    answer, line = told(watched, login["refresh_token"], 1, ip=OFFICE)
    assert check_problem(answer, 401, "refresh_invalid")["reason"] == "repeated"
    assert line["sessiond.repeated"] is True and line["event.reason"] == "repeated"
    wait_until(lambda: repeat_alerts(watched.nodes[1], login["session_id"]) == [OFFICE], 10, "an alert")
    assert watched.is_alive(given[0]) and watched.is_alive(login["access_token"])
    assert pair(told(watched, login["refresh_token"], 1, ip=HOME)[0]) == given
    following = pair(told(watched, given[1], 1, ip=OFFICE)[0])
    assert watched.is_alive(following[0])


def test_where_networks_are_bound_a_users_own_repetition_is_compared_too(watched):
    login = watched.login(ip=HOME)
    answer, line = by_user(watched, login["refresh_token"], HOME, 2)
    given = pair(answer)
    assert pair(by_user(watched, login["refresh_token"], NEIGHBOUR, 2)[0]) == given
    answer, line = by_user(watched, login["refresh_token"], OFFICE, 2)
    assert pair(answer) == given
    assert line["sessiond.repeated"] is True and line["sessiond.binding"] == "ip"
    wait_until(lambda: repeat_alerts(watched.nodes[2], login["session_id"]), 10, "an alert")
    assert repeat_alerts(watched.nodes[2], login["session_id"]) == [OFFICE]


def test_a_refresh_whose_own_write_was_in_doubt_is_no_repetition(start, workspace):
    """It reads its own work then: from a network that is not noted it would be one from elsewhere."""
    redis = SingleRedis(workspace / "redis-refresh-doubt").start()
    armed = threading.Event()

    def script(words, ask):
        if armed.is_set() and words[0] == b"EVALSHA" and words[3].startswith(b"sd:u:"):
            armed.clear()
            ask(words)
            raise EOFError
        return None
    fake = ScriptedRedis(redis.port, script)
    try:
        daemon = start(redis=fake, redis__mode="standalone", redis__wait_timeout=0,
                       policy__bind_ip="log", policy__refresh_repeat="refuse")
        login = daemon.login(ip=HOME)
        armed.set()
        answer, line = told(daemon, login["refresh_token"], ip=OFFICE)
        assert not armed.is_set()
        given = pair(answer)
        assert line["sessiond.binding"] == "ip" and "sessiond.repeated" not in line
        again, line = told(daemon, login["refresh_token"], ip=HOME)
        assert pair(again) == given and line["sessiond.repeated"] is True
    finally:
        fake.stop()
        redis.stop()

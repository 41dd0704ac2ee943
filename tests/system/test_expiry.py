"""Times: access, refresh, idle and absolute ends, remember, renewal.

All sessions are made first and grow old together: the waiting is done once. Limits are 10 seconds,
the least that the configuration takes; a second of clock skew is allowed for on both sides."""

import json
import time

import pytest

from checks import check_dead, check_ended, check_problem
from client import RawSocket
from daemon import SERVICE, Daemon, now

POLICIES = {
    "access": dict(access_ttl=10, refresh_ttl=600, idle_timeout=600, refresh_grace=5),
    "refresh": dict(access_ttl=10, refresh_ttl=10, idle_timeout=600, refresh_grace=5),
    "sliding": dict(idle_timeout=10, renew="sliding"),
    "fixed": dict(idle_timeout=10, renew="fixed"),
    "absolute": dict(access_ttl=10, refresh_ttl=10, idle_timeout=10, absolute_timeout=15,
                     refresh_grace=5),
}


class Timeline:
    """Sessions under each policy; `at(second)` waits until that second after their login."""

    def __init__(self, daemons, cluster):
        self.daemons = daemons
        self.keys_before = set(lifetimes(cluster))
        self.logins = {}
        self.begun = time.monotonic()

    def login(self, name, policy, **fields):
        self.logins[name] = self.daemons[policy].login(**fields)

    def at(self, second):
        time.sleep(max(0.0, self.begun + second - time.monotonic()))


def lifetimes(cluster):
    """Every key in Redis with the milliseconds that it has left, -1 for ever."""
    return {key: left for keys in cluster.each_master(
        lambda node: [(key, node.call("PTTL", key)) for key in node.keys()]) for key, left in keys}


def begin_slow_validation(daemon, token):
    """Sends the head of POST /v1/validate; a call of what it returns sends the body."""
    body = json.dumps({"token": token}).encode()
    raw = RawSocket(daemon.node.port)
    raw.send(f"POST /v1/validate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SERVICE}\r\n"
             f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode())

    def finish():
        with raw:
            raw.send(body)
            return raw.answer()
    return finish


def play(daemons, cluster):
    """Makes the sessions, uses some of them on the way, and ends 12.5 seconds after the logins."""
    line = Timeline(daemons, cluster)
    for policy in POLICIES:
        line.login(policy, policy)
    line.login("remembered", "sliding", remember=True)
    line.login("untouched", "sliding")
    line.login("looked at", "sliding")
    line.login("fixed and refreshed", "fixed")
    line.login("unused until its absolute end", "absolute")
    line.at(6)
    for policy in ("sliding", "fixed"):
        assert daemons[policy].is_alive(line.logins[policy]["access_token"])
    answer = daemons["sliding"].check(line.logins["looked at"]["access_token"], touch=False)
    assert answer.json["active"] is True
    line.refreshed_fixed = daemons["fixed"].refresh(
        line.logins["fixed and refreshed"]["refresh_token"]).json
    line.refreshed_absolute = daemons["absolute"].refresh(
        line.logins["absolute"]["refresh_token"]).json
    line.at(8.5)
    line.early = {name: daemons[name].validate(line.logins[name]["access_token"]).status
                  for name in POLICIES if name != "absolute"}
    finish_slow_validation = begin_slow_validation(daemons["access"],
                                                   line.logins["access"]["access_token"])
    line.at(12.5)
    line.slow = finish_slow_validation()
    line.late = {
        "access": daemons["access"].validate(line.logins["access"]["access_token"]),
        "access refresh": daemons["access"].refresh(line.logins["access"]["refresh_token"]),
        "access after its refresh": daemons["access"].validate(
            line.logins["access"]["access_token"]),
        "refresh": daemons["refresh"].refresh(line.logins["refresh"]["refresh_token"]),
        "sliding": daemons["sliding"].validate(line.logins["sliding"]["access_token"]),
        "remembered": daemons["sliding"].validate(line.logins["remembered"]["access_token"]),
        "untouched": daemons["sliding"].validate(line.logins["untouched"]["access_token"]),
        "untouched refresh": daemons["sliding"].refresh(
            line.logins["untouched"]["refresh_token"]),
        "looked at": daemons["sliding"].validate(line.logins["looked at"]["access_token"]),
        "fixed refreshed": daemons["fixed"].validate(line.refreshed_fixed["access_token"]),
        "absolute": daemons["absolute"].validate(line.refreshed_absolute["access_token"]),
    }
    line.at(17)
    line.late["absolute end"] = daemons["absolute"].validate(
        line.refreshed_absolute["access_token"])
    line.late["absolute refresh"] = daemons["absolute"].refresh(
        line.refreshed_absolute["refresh_token"])
    return line


@pytest.fixture(scope="module")
def line(workspace, cluster):
    daemons = {}
    try:
        for name, policy in POLICIES.items():
            options = {f"policy__{option}": value for option, value in policy.items()}
            daemons[name] = Daemon(workspace / f"expiry-{name}", cluster, **options).start()
        yield play(daemons, cluster)
        for daemon in daemons.values():
            daemon.stop()
    finally:
        for daemon in daemons.values():
            daemon.kill()


def test_sessions_live_before_their_time_is_over(line):
    assert line.early == {"access": 200, "refresh": 200, "sliding": 200, "fixed": 200}


def test_login_tells_the_life_of_both_tokens(line):
    assert 8 <= line.logins["access"]["expires_in"] <= 10
    assert 598 <= line.logins["access"]["refresh_expires_in"] <= 600


def test_an_access_token_expires(line):
    check_dead(line.late["access"], "expired")


def test_an_expired_access_token_does_not_come_back_with_a_refresh(line):
    check_dead(line.late["access after its refresh"], "expired")


def test_an_expired_access_token_still_logs_out_after_a_refresh(line):
    answer = line.daemons["access"].call("POST", "/v1/logout", None,
                                         line.logins["access"]["access_token"])
    check_ended(answer, [line.logins["access"]["session_id"]])


def test_a_body_that_comes_slowly_does_not_turn_the_clock_back(line):
    assert line.slow.status == 200, line.slow
    assert line.slow.json == {"active": False, "reason": "expired"}


def test_the_refresh_token_outlives_the_access_token(line):
    assert line.late["access refresh"].status == 200, line.late["access refresh"]


def test_a_refresh_token_expires(line):
    problem = check_problem(line.late["refresh"], 401, "refresh_invalid")
    assert problem["reason"] == "expired"


def test_use_restarts_the_idle_time_when_renewal_is_sliding(line):
    assert line.late["sliding"].status == 200, line.late["sliding"]


def test_an_unused_session_ends_as_idle(line):
    check_dead(line.late["untouched"], "idle")


def test_the_idle_end_is_the_end_of_the_refresh_token_too(line):
    problem = check_problem(line.late["untouched refresh"], 401, "refresh_invalid")
    assert problem["reason"] == "idle"


def test_a_look_without_touch_is_no_use(line):
    check_dead(line.late["looked at"], "idle")


def test_use_does_not_restart_the_idle_time_when_renewal_is_fixed(line):
    answer = line.daemons["fixed"].validate(line.logins["fixed"]["access_token"])
    check_dead(answer, "idle")


def test_a_refresh_restarts_the_idle_time_also_when_renewal_is_fixed(line):
    assert line.late["fixed refreshed"].status == 200, line.late["fixed refreshed"]


def test_a_remembered_session_has_no_idle_end(line):
    answer = line.late["remembered"]
    assert answer.status == 200, answer
    session = answer.json
    assert session["idle_expires_at"] is None or session["idle_expires_at"] > now() + 600000


def test_refreshes_do_not_move_the_absolute_end(line):
    assert line.late["absolute"].status == 200, line.late["absolute"]
    assert line.refreshed_absolute["expires_in"] <= 10
    assert line.refreshed_absolute["refresh_expires_in"] <= 10
    check_dead(line.late["absolute end"], "expired")
    problem = check_problem(line.late["absolute refresh"], 401, "refresh_invalid")
    assert problem["reason"] == "expired"


def test_expired_sessions_are_not_listed(line):
    for name, policy in (("absolute", "absolute"), ("untouched", "sliding")):
        user = line.logins[name]["user_id"]
        assert line.daemons[policy].devices(user)["total"] == 0, name


def test_everything_in_redis_expires_by_itself(line, cluster):
    """But freezes without an end and what tenants have set: tests before left such on the cluster."""
    new = {key: left for key, left in lifetimes(cluster).items() if key not in line.keys_before}
    endless = [key for key, left in new.items() if left == -1]
    assert not endless, endless[:5]
    assert new


def test_a_session_shows_when_it_ends(line):
    session = line.late["sliding"].json
    assert session["expires_at"] - session["created_at"] in range(7199, 7202)
    assert session["idle_expires_at"] <= now() + 11

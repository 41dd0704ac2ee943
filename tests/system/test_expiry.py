"""Times: access, refresh, idle and absolute ends, remember, renewal.

All sessions are made first and grow old together, in a time that passes as the test says."""

import json

import pytest

from checks import check_dead, check_ended, check_problem
from client import RawSocket, Redis
from clocks import DrivenTime
from daemon import SERVICE

POLICIES = {
    "access": dict(access_ttl=100, refresh_ttl=6000, idle_timeout=6000, refresh_grace=50),
    "refresh": dict(access_ttl=100, refresh_ttl=100, idle_timeout=6000, refresh_grace=50),
    "sliding": dict(idle_timeout=100, renew="sliding"),
    "fixed": dict(idle_timeout=100, renew="fixed"),
    "absolute": dict(access_ttl=100, refresh_ttl=100, idle_timeout=100, absolute_timeout=150,
                     refresh_grace=50),
}


class Timeline:
    """Sessions under each policy."""

    def __init__(self, daemons, keys_before):
        self.daemons = daemons
        self.keys_before = keys_before
        self.logins = {}

    def login(self, name, policy, **fields):
        self.logins[name] = self.daemons[policy].login(**fields)


def lifetimes(redis):
    """Every key in Redis with the milliseconds that it has left, -1 for ever."""
    with Redis(redis.port) as node:
        return {key: node.call("PTTL", key) for key in node.keys()}


def begin_slow_validation(daemon, token):
    """Sends the head of POST /v1/validate, which is there when the body is asked for; a call of what
    it returns sends the body."""
    body = json.dumps({"token": token}).encode()
    raw = RawSocket(daemon.node.port)
    raw.send(f"POST /v1/validate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SERVICE}\r\n"
             f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
             "Expect: 100-continue\r\n\r\n".encode())
    assert raw.answer().status == 100

    def finish():
        with raw:
            raw.send(body)
            return raw.answer()
    return finish


def play(driven, daemons):
    """Makes the sessions, uses some of them on the way, and ends when those that were not used are
    idle: ten seconds are the interval in which a use would not have been written."""
    line = Timeline(daemons, set(lifetimes(driven.redis)))
    for policy in POLICIES:
        line.login(policy, policy)
    line.login("remembered", "sliding", remember=True)
    line.login("untouched", "sliding")
    line.login("looked at", "sliding")
    line.login("used at once", "sliding")
    line.login("fixed and refreshed", "fixed")
    line.login("unused until its absolute end", "absolute")
    made = driven.now()
    assert daemons["sliding"].is_alive(line.logins["used at once"]["access_token"])
    driven.go_to(made + 60)
    for policy in ("sliding", "fixed"):
        assert daemons[policy].is_alive(line.logins[policy]["access_token"])
    answer = daemons["sliding"].check(line.logins["looked at"]["access_token"], touch=False)
    assert answer.json["active"] is True
    line.refreshed_fixed = daemons["fixed"].refresh(
        line.logins["fixed and refreshed"]["refresh_token"]).json
    line.refreshed_absolute = daemons["absolute"].refresh(
        line.logins["absolute"]["refresh_token"]).json
    driven.go_to(made + 80)
    line.early = {name: daemons[name].validate(line.logins[name]["access_token"]).status
                  for name in POLICIES if name != "absolute"}
    finish_slow_validation = begin_slow_validation(daemons["access"],
                                                   line.logins["access"]["access_token"])
    line.shown = daemons["sliding"].check(line.logins["used at once"]["access_token"],
                                          touch=False).json["idle_expires_at"]
    driven.go_to(line.shown - 2)
    driven.clock.elapse(line.shown + 0.1 - driven.now())
    line.promised = daemons["sliding"].check(line.logins["used at once"]["access_token"],
                                             touch=False)
    line.promised_by = driven.now()
    driven.go_to(made + 121)
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
    driven.go_to(made + 170)
    line.late["absolute end"] = daemons["absolute"].validate(
        line.refreshed_absolute["access_token"])
    line.late["absolute refresh"] = daemons["absolute"].refresh(
        line.refreshed_absolute["refresh_token"])
    return line


@pytest.fixture(scope="module")
def line(workspace):
    with DrivenTime(workspace / "expiry") as driven:
        daemons = {}
        for name, policy in POLICIES.items():
            options = {f"policy__{option}": value for option, value in policy.items()}
            daemons[name] = driven.daemon(**options)
        line = play(driven, daemons)
        line.driven = driven
        yield line


def test_sessions_live_before_their_time_is_over(line):
    assert line.early == {"access": 200, "refresh": 200, "sliding": 200, "fixed": 200}


def test_login_tells_the_life_of_both_tokens(line):
    assert 98 <= line.logins["access"]["expires_in"] <= 100
    assert 5998 <= line.logins["access"]["refresh_expires_in"] <= 6000


def test_an_access_token_expires(line):
    check_dead(line.late["access"], "expired")


def test_an_expired_access_token_does_not_come_back_with_a_refresh(line):
    check_dead(line.late["access after its refresh"], "expired")


def test_an_expired_access_token_still_logs_out_after_a_refresh(line):
    answer = line.daemons["access"].call("POST", "/v1/logout", None,
                                         line.logins["access"]["access_token"])
    check_ended(answer, [line.logins["access"]["session_id"]], "accepted")


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


def test_in_the_second_that_was_shown_as_its_idle_end_a_session_is_alive(line):
    if line.promised.json["active"] or line.promised_by < line.shown + 1:  # else the second was over meanwhile
        assert line.promised.json["active"] is True, line.promised
        assert line.promised.json["idle_expires_at"] == line.shown


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
    assert session["idle_expires_at"] is None or session["idle_expires_at"] > line.driven.now() + 600000


def test_refreshes_do_not_move_the_absolute_end(line):
    assert line.late["absolute"].status == 200, line.late["absolute"]
    assert line.refreshed_absolute["expires_in"] <= 100
    assert line.refreshed_absolute["refresh_expires_in"] <= 100
    check_dead(line.late["absolute end"], "expired")
    problem = check_problem(line.late["absolute refresh"], 401, "refresh_invalid")
    assert problem["reason"] == "expired"


def test_expired_sessions_are_not_listed(line):
    for name, policy in (("absolute", "absolute"), ("untouched", "sliding")):
        user = line.logins[name]["user_id"]
        assert line.daemons[policy].devices(user)["total"] == 0, name


def test_everything_in_redis_expires_by_itself(line):
    """But what nodes that have just started left of their keys."""
    left = lifetimes(line.driven.redis)
    endless = {key for key, life in left.items() if life == -1} - line.keys_before
    assert not endless and left.keys() - line.keys_before, endless


def test_a_session_shows_when_it_ends(line):
    session = line.late["sliding"].json
    assert session["expires_at"] - session["created_at"] in range(7199, 7202)
    assert session["idle_expires_at"] <= line.driven.now() + 112

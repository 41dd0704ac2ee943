"""How strongly somebody logged in: auth_time, acr, amr; demands for them; re-authentication; fresh.*."""

import pytest

from checks import LOGIN_MEMBERS, check_dead, check_problem
from daemon import ADMIN, KEYS, SERVICE, now, unique
from redis_servers import wait_until
from verification import HOME, OFFICE, answer_with, bound_daemon, challenge, seen_from, solve, step_up, verify

AUTHENTICATED = "/v1/session/authenticated"
METHODS = ["face", "fpt", "geo", "hwk", "iris", "kba", "mca", "mfa", "otp", "pin", "pop", "pwd", "rba", "retina",
           "sc", "sms", "swk", "tel", "user", "vbm", "wia"]
PAIR = ("access_token", "refresh_token")


@pytest.fixture(scope="module")
def ordered(workspace, cluster):
    yield from bound_daemon(workspace, cluster, "strength", 2, auth__acr_order="bronze silver gold")


@pytest.fixture(scope="module")
def stepup(workspace, cluster):
    yield from bound_daemon(workspace, cluster, "strength-step-up", 2, policy__bind_ip="verify",
                            policy__verify_method="otp")


@pytest.fixture(scope="module")
def verifying(workspace, cluster):
    yield from bound_daemon(workspace, cluster, "strength-verify", 2, policy__verify_on="new_device",
                            policy__verify_method="otp")


def authenticated(daemon, token, key=SERVICE, node=0, query="", **fields):
    return daemon.call("POST", AUTHENTICATED + query, fields, key, {"X-Session-Token": token}, node=node)


def demand(daemon, token, query, node=0):
    return daemon.call("GET", f"/v1/validate?{query}", None, token, node=node)


def strength(session):
    return {name: session[name] for name in ("auth_time", "acr", "amr") if name in session}


def check_too_weak(answer, *parts):
    problem = check_problem(answer, 401, "insufficient_authentication")
    assert problem["reason"] == "insufficient_authentication"
    told = answer.header("WWW-Authenticate")
    assert 'error="insufficient_user_authentication"' in told, told
    for part in parts:
        assert part in told, told
    return told


def other_place(daemon, token, node):
    """A node that has not seen the session, and one that has it in memory."""
    for _ in range(2):
        yield daemon.validate(token, node=node)


# --- what is stated is shown ----------------------------------------------------------------------

def test_a_login_states_it_and_every_answer_about_the_session_shows_it(shared):
    user, at = unique(), now() - 100
    stated = {"auth_time": at, "acr": "urn:example:gold", "amr": ["hwk", "pin"]}
    login = shared.login(user, **stated, attributes={"a": {"acr": "x"}}, roles=["r,\"acr\":\"no\""])
    for node in (0, 1, 2):
        for answer in (shared.validate(login["access_token"], node), shared.check(login["access_token"], node=node)):
            assert strength(answer.json) == stated, answer
            assert answer.json["attributes"] == {"a": {"acr": "x"}}
    (listed,) = shared.devices(user)["devices"]
    assert strength(listed) == stated
    explained = shared.call("POST", "/v1/explain", {"token": login["access_token"]}, ADMIN).json
    assert strength(explained["session"]) == stated


@pytest.mark.parametrize("stated", [{}, {"auth_time": 1}, {"acr": "a"}, {"amr": ["pwd"]}, {"amr": []},
                                    {"auth_time": None, "acr": None, "amr": None}], ids=str)
def test_what_is_not_stated_is_not_shown(shared, stated):
    login = shared.login(**stated)
    shown = {name: value for name, value in stated.items() if value}
    assert strength(shared.validate(login["access_token"]).json) == shown


def test_a_second_factor_adds_mfa(shared):
    login = shared.login(second_factor=True)
    assert strength(shared.validate(login["access_token"]).json) == {"amr": ["mfa"]}
    login = shared.login(second_factor=True, amr=METHODS[:8])
    assert shared.validate(login["access_token"]).json["amr"] == METHODS[:8]
    login = shared.login(second_factor=True, amr=["pwd", "mfa", "pwd"])
    assert shared.validate(login["access_token"]).json["amr"] == ["mfa", "pwd"]


def test_every_word_of_the_rfc_is_known(shared):
    shown = []
    for begin in range(0, len(METHODS), 8):
        login = shared.login(amr=METHODS[begin:begin + 8])
        shown += shared.validate(login["access_token"]).json["amr"]
    assert shown == METHODS


def test_a_refresh_and_other_attributes_leave_it_as_it_is(shared):
    stated = {"auth_time": now() - 9, "acr": "gold", "amr": ["pwd"]}
    login = shared.login(**stated)
    pair = shared.refresh(login["refresh_token"], node=1).json
    assert strength(shared.validate(pair["access_token"], 2).json) == stated
    changed = shared.call("PUT", "/v1/session/attributes", {"n": 1}, pair["access_token"])
    assert changed.status == 200
    session = shared.check(pair["access_token"], node=1).json
    assert strength(session) == stated and session["attributes"] == {"n": 1}


# --- wrong inputs ---------------------------------------------------------------------------------

LONG = "x" * 129
WRONG = [
    ({"auth_time": "now"}, '"auth_time" must be a Unix time in seconds, not in the future'),
    ({"auth_time": 0}, '"auth_time" must be a Unix time in seconds, not in the future'),
    ({"auth_time": 1.5}, '"auth_time" must be a Unix time in seconds, not in the future'),
    ({"auth_time": 9999999999999}, '"auth_time" must be a Unix time in seconds, not in the future'),
    ({"acr": ""}, '"acr" must be 1 to 128 printable ASCII characters without blank, quote and backslash'),
    ({"acr": LONG}, '"acr" must be 1 to 128 printable ASCII characters without blank, quote and backslash'),
    ({"acr": "two words"}, '"acr" must be 1 to 128 printable ASCII characters without blank, quote and backslash'),
    ({"acr": 'a"b'}, '"acr" must be 1 to 128 printable ASCII characters without blank, quote and backslash'),
    ({"acr": "é"}, '"acr" must be 1 to 128 printable ASCII characters without blank, quote and backslash'),
    ({"acr": 1}, '"acr" must be 1 to 128 printable ASCII characters without blank, quote and backslash'),
    ({"amr": METHODS[:9]}, '"amr" must be an array of at most 8 strings of 1 to 128 bytes without control characters'),
    ({"amr": "pwd"}, '"amr" must be an array of at most 8 strings of 1 to 128 bytes without control characters'),
    ({"amr": ["pwd", "password"]}, '"amr" must be an array of at most 8 words of RFC 8176 (face, '),
]


@pytest.mark.parametrize("fields, detail", WRONG, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("path", ["/v1/login", "/v1/login/verify", AUTHENTICATED])
def test_a_wrong_statement_is_refused_with_its_name(shared, path, fields, detail):
    login = shared.login()
    body = {"/v1/login": {"user_id": unique()}, AUTHENTICATED: {},
            "/v1/login/verify": {"challenge_id": "none", "verified": True}}[path]
    answer = shared.call("POST", path, {**body, **fields}, SERVICE, {"X-Session-Token": login["access_token"]})
    problem = check_problem(answer, 400, "body_invalid")
    assert problem["detail"].startswith(detail), problem
    assert shared.validate(login["access_token"]).status == 200


def test_a_time_in_the_future_is_refused_and_one_within_what_clocks_are_apart_is_now(shared):
    answer = shared.try_login(unique(), auth_time=now() + 30)
    assert "not in the future" in check_problem(answer, 400, "body_invalid")["detail"]
    login = shared.login(auth_time=now() + 1)
    assert shared.validate(login["access_token"]).json["auth_time"] <= now()


QUERIES = [
    ("max_age=-1", '"max_age" must be a number of seconds from 0 to 2147483647'),
    ("max_age=soon", '"max_age" must be a number of seconds from 0 to 2147483647'),
    ("max_age=2147483648", '"max_age" must be a number of seconds from 0 to 2147483647'),
    ("max_age=", '"max_age" must be a number of seconds from 0 to 2147483647'),
    ("acr=", '"acr" must be 1 to 128 printable ASCII characters without blank, quote and backslash'),
    ("acr", 'Query parameter "acr" has no value'),
    (f"acr={LONG}", '"acr" must be 1 to 128 printable ASCII characters without blank, quote and backslash'),
    ("acr=a%20b", '"acr" must be 1 to 128 printable ASCII characters without blank, quote and backslash'),
    ("acr=platinum", '"acr" must be one of auth.acr_order (bronze, silver, gold), not "platinum"'),
    ("acr=gold&acr=gold", 'Query parameter "acr" came twice'),
]


@pytest.mark.parametrize("query, detail", QUERIES, ids=lambda value: value[:30])
def test_a_wrong_demand_is_refused_with_its_name(ordered, query, detail):
    login = ordered.login(auth_time=now(), acr="gold")
    assert check_problem(demand(ordered, login["access_token"], query), 400, "query_invalid")["detail"] == detail


BODIES = [
    ({"max_age": -1}, '"max_age" must be an integer from 0 to 2147483647'),
    ({"max_age": "300"}, '"max_age" must be an integer from 0 to 2147483647'),
    ({"acr": ""}, '"acr" must be 1 to 128 printable ASCII characters without blank, quote and backslash'),
    ({"acr": "a b"}, '"acr" must be 1 to 128 printable ASCII characters without blank, quote and backslash'),
    ({"acr": "platinum"}, '"acr" must be one of auth.acr_order (bronze, silver, gold), not "platinum"'),
]


@pytest.mark.parametrize("fields, detail", BODIES, ids=str)
def test_a_wrong_demand_in_a_body_is_refused_with_its_name(ordered, fields, detail):
    login = ordered.login()
    answer = ordered.check(login["access_token"], **fields)
    assert check_problem(answer, 400, "body_invalid")["detail"] == detail


def test_a_class_outside_of_the_order_may_be_stated_and_meets_no_demand(ordered):
    login = ordered.login(acr="platinum", auth_time=now())
    session = ordered.validate(login["access_token"]).json
    assert session["acr"] == "platinum"
    check_too_weak(demand(ordered, login["access_token"], "acr=bronze"), 'acr_values="bronze"')


# --- demands --------------------------------------------------------------------------------------

@pytest.mark.parametrize("node", [0, 1])
def test_a_session_meets_a_demand_or_is_told_what_would_do(ordered, node):
    login = ordered.login(auth_time=now() - 1000, acr="silver")
    token = login["access_token"]
    for _ in range(2):  # from Redis, then from memory
        for query in ("max_age=2000", "acr=silver", "acr=bronze", "max_age=2000&acr=bronze"):
            assert demand(ordered, token, query, node).status == 200
        told = check_too_weak(demand(ordered, token, "max_age=900", node), 'max_age="900"')
        assert "acr_values" not in told
        told = check_too_weak(demand(ordered, token, "acr=gold", node), 'acr_values="gold"')
        assert "max_age" not in told
        check_too_weak(demand(ordered, token, "max_age=2000&acr=gold", node), 'max_age="2000"', 'acr_values="gold"')
        assert ordered.check(token, node=node, max_age=2000, acr="silver").json["active"] is True
        weak = ordered.check(token, node=node, max_age=0, acr="gold")
        assert weak.status == 200
        assert weak.json == {"active": False, "reason": "insufficient_authentication", "max_age": 0, "acr": "gold"}
        weak = ordered.check(token, node=node, acr="gold")
        assert weak.json == {"active": False, "reason": "insufficient_authentication", "acr": "gold"}
    assert ordered.validate(token, node).status == 200


def test_without_a_statement_it_is_too_old_and_too_weak(ordered):
    token = ordered.login()["access_token"]
    check_too_weak(demand(ordered, token, "max_age=2147483647"))
    check_too_weak(demand(ordered, token, "acr=bronze"))


def test_without_an_order_the_class_must_be_the_same(shared):
    token = shared.login(acr="gold")["access_token"]
    assert demand(shared, token, "acr=gold").status == 200
    check_too_weak(demand(shared, token, "acr=silver"), 'acr_values="silver"')


def test_a_dead_token_is_dead_whatever_is_asked(ordered):
    login = ordered.login()
    ordered.call("POST", "/v1/logout", None, login["access_token"])
    check_dead(demand(ordered, login["access_token"], "max_age=1"), "logged_out")


def test_the_reason_is_the_services_own(ordered):
    user = unique()
    login = ordered.login(user)
    answer = ordered.kick(user, login["session_id"], query="?reason=insufficient_authentication")
    check_problem(answer, 400, "query_invalid")


# --- re-authentication ----------------------------------------------------------------------------

def check_over(daemon, login, nodes=2):
    """Neither token of the pair before is good on any node, and none leads to the new pair."""
    for node in range(nodes):
        check_dead(daemon.refused(login["access_token"], node), "expired")


def test_a_re_authentication_gives_a_fresh_pair_and_ends_the_one_before(ordered):
    login = ordered.login(auth_time=now() - 5000, acr="bronze", amr=["pwd"], device={"id": "d", "name": "n"})
    for node in (0, 1):
        assert ordered.validate(login["access_token"], node).status == 200
    stated = {"auth_time": now() - 3, "acr": "gold", "amr": ["hwk", "user"]}
    answer = authenticated(ordered, login["access_token"], **stated)
    assert answer.status == 200, answer
    body = answer.json
    assert set(body) == LOGIN_MEMBERS and answer.header("Cache-Control") == "no-store"
    for name in ("tenant", "user_id", "session_id", "device"):
        assert body[name] == login[name]
    assert not {body[name] for name in PAIR} & {login[name] for name in PAIR}
    check_over(ordered, login)
    for node in (0, 1):
        session = ordered.validate(body["access_token"], node).json
        assert strength(session) == stated
        assert demand(ordered, body["access_token"], "max_age=60&acr=gold", node).status == 200
    assert ordered.refresh(body["refresh_token"], 1).status == 200


def test_the_refresh_token_before_is_refused_and_the_session_lives(ordered):
    login = ordered.login()
    body = authenticated(ordered, login["access_token"]).json
    for node in (0, 1):
        answer = ordered.refresh(login["refresh_token"], node)
        assert check_problem(answer, 401, "refresh_invalid")["reason"] == "expired", answer
        assert ordered.is_alive(body["access_token"], node)
    assert all(body[name].encode() not in answer.body for name in PAIR)


def test_what_is_not_stated_is_not_known_any_more_and_the_time_is_now(ordered):
    login = ordered.login(auth_time=now() - 5000, acr="gold", amr=["hwk"])
    body = authenticated(ordered, login["access_token"]).json
    told = strength(ordered.validate(body["access_token"]).json)
    assert set(told) == {"auth_time"} and now() - 60 <= told["auth_time"] <= now()
    check_too_weak(demand(ordered, body["access_token"], "acr=gold"))


def test_a_second_factor_and_the_cookie(ordered):
    login = ordered.login()
    answer = authenticated(ordered, login["access_token"], second_factor=True, cookie=True)
    assert answer.json["set_cookie"] == [answer.header("Set-Cookie")]
    assert ordered.validate(answer.json["access_token"]).json["amr"] == ["mfa"]


def test_only_a_service_with_the_scope_may_say_so(ordered):
    login = ordered.login()
    token = login["access_token"]
    check_problem(ordered.call("POST", AUTHENTICATED, {}, token), 403, "forbidden")
    check_problem(ordered.call("POST", AUTHENTICATED, {}, SERVICE), 401, "credentials_missing")
    check_problem(ordered.call("POST", AUTHENTICATED, {}, None, {"Cookie": f"__Host-session={token}"}), 401,
                  "credentials_missing")
    check_problem(authenticated(ordered, token, KEYS["only-validate"][0]), 403, "scope_missing")
    check_problem(authenticated(ordered, token, KEYS["acme"][0]), 403, "tenant_forbidden")
    problem = check_problem(authenticated(ordered, token, level="gold"), 400, "body_invalid")
    assert problem["detail"].startswith('"level" is not known here')
    assert ordered.validate(token).status == 200
    assert authenticated(ordered, token, KEYS["only-login"][0]).status == 200
    check_dead(authenticated(ordered, token), "expired")


def test_it_is_on_record(ordered):
    login = ordered.login()
    answer = authenticated(ordered, login["access_token"], acr="gold")
    line = ordered.node.audit_of(answer.header("X-Request-Id"))
    assert line["event.action"] == "authenticate-session" and line["event.outcome"] == "success"
    assert line["sessiond.session_id"] == login["session_id"] and line["user.id"] == login["user_id"]
    for token in (login["access_token"], answer.json["access_token"], answer.json["refresh_token"]):
        assert token[30:50] not in ordered.node.audit.read_text()


# --- verification ---------------------------------------------------------------------------------

def test_a_verified_login_keeps_what_it_stated_and_the_answer_adds_to_it(verifying):
    at = now() - 50
    problem = challenge(verifying, unique(), device={"id": "d"}, auth_time=at, acr="silver", amr=["pwd"])
    login = solve(verifying, problem, node=1)
    told = strength(verifying.validate(login["access_token"]).json)
    assert told in ({"auth_time": at, "acr": "silver", "amr": ["mfa", "pwd"]}, {"amr": ["mfa"]}), told
    problem = challenge(verifying, unique(), device={"id": "d"})
    stated = {"auth_time": at, "acr": "gold", "amr": ["otp", "pwd"]}
    answer = answer_with(verifying, {"challenge_id": problem["challenge_id"], "code": problem["otp"], **stated})
    assert answer.status == 201, answer
    assert strength(verifying.validate(answer.json["access_token"], 1).json) == {**stated, "amr": ["mfa", "otp", "pwd"]}


def ask(daemon, token, ip=OFFICE, node=0):
    told = step_up(daemon, token, node=node, ip=ip)
    return told["challenge_id"], told["otp"]


def test_a_step_up_that_adds_mfa_ends_the_pair_before(stepup):
    at = now() - 500
    login = stepup.login(ip=HOME, auth_time=at, acr="bronze", amr=["pwd"])
    answer = verify(stepup, *ask(stepup, login["access_token"]))
    assert answer.status == 200, answer
    for node in (0, 1):
        wait_until(lambda: seen_from(stepup, login["access_token"], HOME, node=node).status == 401, 5, "it is over")
        session = seen_from(stepup, answer.json["access_token"], OFFICE, node=node).json
        assert strength(session) == {"auth_time": at, "acr": "bronze", "amr": ["mfa", "pwd"]}
    again = stepup.refresh(login["refresh_token"], ip=HOME)
    assert again.status == 401 and answer.json["access_token"].encode() not in again.body


def test_a_step_up_that_adds_nothing_leaves_the_pair_before_its_grace(stepup):
    login = stepup.login(ip=HOME, second_factor=True)
    answer = verify(stepup, *ask(stepup, login["access_token"]))
    assert answer.status == 200, answer
    assert seen_from(stepup, login["access_token"], HOME).status == 200


def test_a_step_up_with_a_time_is_another_authentication(stepup):
    login = stepup.login(ip=HOME, second_factor=True, auth_time=now() - 500, acr="gold", amr=["hwk"])
    challenge_id, code = ask(stepup, login["access_token"])
    at = now()
    answer = answer_with(stepup, {"challenge_id": challenge_id, "code": code, "auth_time": at})
    assert answer.status == 200, answer
    assert strength(seen_from(stepup, answer.json["access_token"], OFFICE).json) == {"auth_time": at, "amr": ["mfa"]}
    wait_until(lambda: seen_from(stepup, login["access_token"], HOME).status == 401, 5, "the pair before is over")


# --- fresh.* --------------------------------------------------------------------------------------

@pytest.fixture
def fresh(start):
    return start(2, policy__fresh_kick=300, policy__fresh_logout_all=60)


def two_devices(daemon, **fields):
    user = unique()
    other = daemon.login(user, device={"id": "other"})
    return user, other, daemon.login(user, device={"id": "mine"}, **fields)


@pytest.mark.parametrize("fields", [{}, {"acr": "gold"}, {"auth_time": 1}], ids=str)
def test_users_kick_only_after_a_recent_authentication(fresh, fields):
    user, other, mine = two_devices(fresh, **fields)
    path = f"/v1/devices/{other['session_id']}"
    check_too_weak(fresh.call("DELETE", path, None, mine["access_token"]), 'max_age="300"')
    check_too_weak(fresh.call("POST", "/v1/logout-all", {}, mine["access_token"]), 'max_age="60"')
    assert len(fresh.devices(user)["devices"]) == 2
    body = authenticated(fresh, mine["access_token"], auth_time=now() - 100).json
    check_too_weak(fresh.call("POST", "/v1/logout-all", {}, body["access_token"]), 'max_age="60"')
    answer = fresh.call("DELETE", path, None, body["access_token"])
    assert answer.status == 200 and answer.json["sessions"] == [other["session_id"]]
    body = authenticated(fresh, body["access_token"]).json
    assert fresh.call("POST", "/v1/logout-all", {}, body["access_token"]).status == 200
    assert fresh.devices(user)["devices"] == []


def test_the_own_session_and_services_need_no_recent_authentication(fresh):
    user, other, mine = two_devices(fresh)
    answer = fresh.call("DELETE", f"/v1/devices/{mine['session_id']}", None, mine["access_token"])
    assert answer.status == 200 and answer.json["ended"] == 1
    assert fresh.kick(user, other["session_id"]).json["ended"] == 1
    _, other, mine = two_devices(fresh)
    headers = {"X-Session-Token": mine["access_token"]}
    answer = fresh.call("DELETE", f"/v1/devices/{other['session_id']}", None, SERVICE, headers)
    assert answer.status == 200 and answer.json["ended"] == 1
    assert fresh.call("POST", "/v1/logout", None, mine["access_token"]).json["ended"] == 1


def test_a_tenant_sets_it_by_its_policy(shared):
    tenant, user = unique("tenant"), unique()
    answer = shared.call("PUT", f"/v1/tenants/{tenant}/policy", {"fresh": {"kick": 5}}, ADMIN)
    assert answer.status == 200 and answer.json["fresh"] == {"kick": 5, "logout_all": 0}
    bad = shared.call("PUT", f"/v1/tenants/{tenant}/policy", {"fresh": {"kick": -1}}, ADMIN)
    assert check_problem(bad, 400, "body_invalid")["detail"].startswith('"fresh.kick" must be')
    other = shared.login(user, key=ADMIN, tenant=tenant)
    mine = shared.login(user, key=ADMIN, tenant=tenant)
    path = f"/v1/devices/{other['session_id']}"
    check_too_weak(shared.call("DELETE", path, None, mine["access_token"]), 'max_age="5"')
    assert shared.call("POST", "/v1/logout-all", {}, mine["access_token"]).status == 200

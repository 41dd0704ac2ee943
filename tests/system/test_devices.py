"""Device lists, kick, logout, logout-all, and the answers to the holder of an ended session's token."""

import pytest

from checks import ANY_TOKEN, check_dead, check_ended, check_problem
from clocks import DrivenTime
from daemon import ACME, ADMIN, KEYS, SERVICE, now, unique
from tokens import never_issued

ENTRY_MEMBERS = {"session_id", "current", "device", "ip", "user_agent", "created_at",
                 "last_seen_at", "expires_at"}


def check_entry(entry):
    assert ENTRY_MEMBERS <= set(entry) <= ENTRY_MEMBERS | {"location"}, set(entry)
    for name in ("created_at", "last_seen_at", "expires_at"):
        assert isinstance(entry[name], int)
    assert abs(entry["created_at"] - now()) <= 60
    assert entry["created_at"] - 1 <= entry["last_seen_at"] <= now() + 1
    assert entry["expires_at"] > now()


def test_a_user_sees_the_own_devices_and_never_a_token(shared):
    user = unique()
    logins = [shared.login(user, device={"id": f"d{n}", "type": "phone", "name": f"Phone {n}"},
                           ip=f"192.0.2.{n}", user_agent=f"Agent/{n}") for n in range(3)]
    answer = shared.call("GET", "/v1/devices", None, logins[1]["access_token"])
    assert answer.status == 200, answer
    assert not ANY_TOKEN.search(answer.body.decode())
    body = answer.json
    assert set(body) == {"devices", "total", "limit"}
    assert body["total"] == 3
    assert body["limit"] == 10
    by_id = {entry["session_id"]: entry for entry in body["devices"]}
    assert set(by_id) == {login["session_id"] for login in logins}
    for n, login in enumerate(logins):
        entry = by_id[login["session_id"]]
        check_entry(entry)
        assert entry["device"] == {"id": f"d{n}", "type": "phone", "name": f"Phone {n}"}
        assert entry["ip"] == f"192.0.2.{n}"
        assert entry["user_agent"] == f"Agent/{n}"
        assert entry["current"] is (n == 1)


def test_a_service_sees_the_devices_of_a_user(shared):
    user = unique()
    login = shared.login(user)
    body = shared.devices(user)
    assert set(body) == {"devices", "total", "limit"}
    assert [entry["session_id"] for entry in body["devices"]] == [login["session_id"]]
    assert body["devices"][0]["current"] is False
    check_entry(body["devices"][0])


def test_a_service_may_ask_with_the_users_token(shared):
    login = shared.login()
    answer = shared.call("GET", "/v1/devices", None, SERVICE,
                         {"X-Session-Token": login["access_token"]})
    assert answer.status == 200, answer
    assert answer.json["devices"][0]["current"] is True


def test_a_user_without_sessions_has_an_empty_list(shared):
    body = shared.devices(unique())
    assert body["devices"] == [] and body["total"] == 0


def test_user_ids_in_paths_are_percent_decoded(shared):
    user = unique("a b/ü%")
    login = shared.login(user)
    quoted = "".join(f"%{byte:02X}" for byte in user.encode())
    body = shared.devices(quoted)
    assert [entry["session_id"] for entry in body["devices"]] == [login["session_id"]]


@pytest.mark.parametrize("path", ["/v1/users/%00", "/v1/users/a%00b/devices", "/v1/users/%ff",
                                  "/v1/users/a%0ab", "/v1/users/" + "x" * 256, "/v1/users/%zz"])
def test_a_bad_user_id_in_a_path_is_refused(shared, path):
    answer = shared.call("GET", path, None, SERVICE)
    assert answer.status in (400, 404), answer
    check_problem(answer, answer.status, answer.code)


def test_the_user_summary_counts_devices(shared):
    user = unique()
    for _ in range(2):
        shared.login(user)
    answer = shared.call("GET", f"/v1/users/{user}", None, SERVICE)
    assert answer.status == 200, answer
    body = answer.json
    assert set(body) == {"tenant", "user_id", "frozen", "frozen_reason", "devices", "not_before"}
    assert body["user_id"] == user
    assert body["frozen"] is False
    assert body["frozen_reason"] is None
    assert body["devices"] == 2


def test_the_user_summary_of_nobody_is_an_empty_one(shared):
    user = unique()
    answer = shared.call("GET", f"/v1/users/{user}", None, SERVICE)
    assert answer.status == 200, answer
    assert answer.json["devices"] == 0


def test_a_user_kicks_an_own_device(shared):
    user = unique()
    one, two = shared.login(user), shared.login(user)
    answer = shared.call("DELETE", f"/v1/devices/{two['session_id']}", None, one["access_token"])
    check_ended(answer, [two["session_id"]])
    check_dead(shared.validate(two["access_token"]), "kicked", "self")
    assert shared.is_alive(one["access_token"])
    assert shared.devices(user)["total"] == 1


def test_a_user_cannot_kick_the_device_of_another(shared):
    mine, other = shared.login(), shared.login()
    answer = shared.call("DELETE", f"/v1/devices/{other['session_id']}", None,
                         mine["access_token"])
    check_problem(answer, 404, "session_not_found")
    assert shared.is_alive(other["access_token"])


@pytest.mark.parametrize("session", ["0123456789abcdef", "x", "0" * 17, "ZZZZZZZZZZZZZZZZ"])
def test_kicking_an_unknown_session_is_404(shared, session):
    login = shared.login()
    answer = shared.call("DELETE", f"/v1/devices/{session}", None, login["access_token"])
    assert answer.status == 404, answer
    check_problem(answer, 404, answer.code)
    answer = shared.kick(login["user_id"], session)
    assert answer.status == 404, answer


def test_a_service_kicks_and_the_holder_learns_who_and_when(shared):
    user = unique()
    login = shared.login(user)
    before = now()
    answer = shared.kick(user, login["session_id"], headers={"X-Operator": "alice@example.com"})
    check_ended(answer, [login["session_id"]])
    for node in range(3):
        problem = check_dead(shared.refused(login["access_token"], node), "kicked",
                             "alice@example.com")
        assert before - 1 <= problem["ended_at"] <= now() + 1
        body = shared.check(login["access_token"], node=node).json
        assert body == {"active": False, "reason": "kicked", "actor": "alice@example.com",
                        "ended_at": problem["ended_at"]}


def test_without_an_operator_the_actor_is_the_name_of_the_key(shared):
    user = unique()
    login = shared.login(user)
    shared.kick(user, login["session_id"])
    check_dead(shared.validate(login["access_token"]), "kicked", "service")


def test_kicking_twice_is_404_the_second_time(shared):
    user = unique()
    login = shared.login(user)
    assert shared.kick(user, login["session_id"]).status == 200
    check_problem(shared.kick(user, login["session_id"]), 404, "session_not_found")


def test_the_callers_own_word_is_the_reason_of_a_kick(shared):
    user = unique()
    login = shared.login(user)
    assert shared.kick(user, login["session_id"], query="?reason=stolen_phone").status == 200
    check_dead(shared.validate(login["access_token"]), "stolen_phone", "service")


@pytest.mark.parametrize("word", ["Stolen", "a-b", "x" * 33, "", "a%20b"])
def test_a_reason_of_a_wrong_form_is_refused(shared, word):
    user = unique()
    login = shared.login(user)
    answer = shared.kick(user, login["session_id"], query=f"?reason={word}")
    check_problem(answer, 400, "query_invalid")
    assert shared.is_alive(login["access_token"])


def test_logout_ends_the_session_of_the_token(shared):
    user = unique()
    one, two = shared.login(user), shared.login(user)
    answer = shared.call("POST", "/v1/logout", None, one["access_token"])
    check_ended(answer, [one["session_id"]])
    check_dead(shared.validate(one["access_token"]), "logged_out", "self")
    assert shared.is_alive(two["access_token"])


def by_header(token):
    return token, {}


def by_cookie(token):
    return None, {"Cookie": f"__Host-session={token}", "Sec-Fetch-Site": "same-origin"}


def by_service(token):
    return SERVICE, {"X-Session-Token": token}


BEARERS = [by_header, by_cookie, by_service]


def log_in_and_refresh(shared, user, times):
    """All pairs of one session, the oldest first."""
    pairs = [shared.login(user)]
    for _ in range(times):
        pairs.append(shared.refresh(pairs[-1]["refresh_token"]).json)
    return pairs


@pytest.mark.parametrize("bearer", BEARERS)
@pytest.mark.parametrize("generation", range(4))
@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_every_token_of_the_family_logs_its_session_out(shared, kind, generation, bearer):
    user = unique()
    other = shared.login(user)
    pairs = log_in_and_refresh(shared, user, 3)
    key, headers = bearer(pairs[generation][kind])
    answer = shared.call("POST", "/v1/logout", None, key, headers)
    check_ended(answer, [pairs[0]["session_id"]])
    for node in range(3):
        check_dead(shared.refused(pairs[3]["access_token"], node), "logged_out")
    check_problem(shared.refresh(pairs[3]["refresh_token"]), 401, "refresh_invalid")
    assert shared.is_alive(other["access_token"])


@pytest.mark.parametrize("bearer", BEARERS)
def test_an_old_token_kicks_its_own_session_and_no_other(shared, bearer):
    user = unique()
    other = shared.login(user)
    pairs = log_in_and_refresh(shared, user, 3)
    key, headers = bearer(pairs[0]["access_token"])
    check_dead(shared.call("DELETE", f"/v1/devices/{other['session_id']}", None, key, headers),
               "expired")
    own = f"/v1/devices/{pairs[0]['session_id']}"
    check_ended(shared.call("DELETE", own, None, key, headers), [pairs[0]["session_id"]])
    check_dead(shared.validate(pairs[3]["access_token"]), "kicked")
    check_dead(shared.call("DELETE", own, None, key, headers), "kicked")
    assert shared.is_alive(other["access_token"])


@pytest.mark.parametrize("body", [None, {"keep_current": True}])
def test_an_old_token_does_not_log_the_other_devices_out(shared, body):
    user = unique()
    other = shared.login(user)
    pairs = log_in_and_refresh(shared, user, 2)
    check_dead(shared.call("POST", "/v1/logout-all", body, pairs[0]["access_token"]), "expired")
    assert shared.is_alive(other["access_token"]) and shared.is_alive(pairs[2]["access_token"])


def test_a_refresh_token_is_good_for_a_logout_alone(shared):
    login = shared.login()
    token = login["refresh_token"]
    for method, path in (("GET", "/v1/validate"), ("GET", "/v1/devices"),
                         ("POST", "/v1/logout-all"),
                         ("DELETE", f"/v1/devices/{login['session_id']}")):
        check_dead(shared.call(method, path, None, token), "malformed")
    assert shared.is_alive(login["access_token"])


def test_logout_can_be_repeated(shared):
    login = shared.login()
    assert shared.call("POST", "/v1/logout", None, login["access_token"]).status == 200
    for _ in range(2):
        check_ended(shared.call("POST", "/v1/logout", None, login["access_token"]), [])
    check_dead(shared.validate(login["access_token"]), "logged_out", "self")


def test_logout_of_a_token_never_issued_ends_nothing(shared):
    check_ended(shared.call("POST", "/v1/logout", None, never_issued()), [])


def test_a_service_logs_its_user_out(shared):
    login = shared.login()
    answer = shared.call("POST", "/v1/logout", None, SERVICE,
                         {"X-Session-Token": login["access_token"]})
    check_ended(answer, [login["session_id"]])
    assert not shared.is_alive(login["access_token"])


def test_logout_all_of_a_user_ends_every_session(shared):
    user = unique()
    logins = [shared.login(user) for _ in range(3)]
    answer = shared.call("POST", "/v1/logout-all", {}, logins[0]["access_token"])
    check_ended(answer, [login["session_id"] for login in logins])
    for login in logins:
        check_dead(shared.validate(login["access_token"]), "logged_out", "self")


def test_logout_all_without_a_body_ends_every_session(shared):
    user = unique()
    logins = [shared.login(user) for _ in range(2)]
    answer = shared.call("POST", "/v1/logout-all", None, logins[0]["access_token"])
    check_ended(answer, [login["session_id"] for login in logins])


def test_logout_all_can_keep_the_current_session(shared):
    user = unique()
    logins = [shared.login(user) for _ in range(3)]
    answer = shared.call("POST", "/v1/logout-all", {"keep_current": True},
                         logins[1]["access_token"])
    check_ended(answer, [logins[0]["session_id"], logins[2]["session_id"]])
    assert shared.is_alive(logins[1]["access_token"])
    assert not shared.is_alive(logins[0]["access_token"])


def test_a_service_ends_all_sessions_with_a_reason(shared):
    user = unique()
    logins = [shared.login(user) for _ in range(3)]
    answer = shared.call("POST", f"/v1/users/{user}/logout-all", {"reason": "password_changed"},
                         SERVICE, {"X-Operator": "bob@example.com"})
    check_ended(answer, [login["session_id"] for login in logins])
    for node, login in enumerate(logins):
        check_dead(shared.refused(login["access_token"], node), "password_changed",
                   "bob@example.com")


def test_a_service_may_keep_one_session(shared):
    user = unique()
    one, two = shared.login(user), shared.login(user)
    answer = shared.call("POST", f"/v1/users/{user}/logout-all",
                         {"keep_session": one["session_id"]}, SERVICE)
    check_ended(answer, [two["session_id"]])
    assert shared.is_alive(one["access_token"])


def test_after_logout_all_the_user_can_log_in_again(shared):
    user = unique()
    old = shared.login(user)
    shared.call("POST", f"/v1/users/{user}/logout-all", {}, SERVICE)
    new = shared.login(user)
    assert shared.is_alive(new["access_token"])
    assert not shared.is_alive(old["access_token"])


def test_after_logout_all_no_refresh_token_works(shared):
    user = unique()
    old = shared.login(user)
    shared.call("POST", f"/v1/users/{user}/logout-all", {"reason": "stolen"}, SERVICE)
    problem = check_problem(shared.refresh(old["refresh_token"]), 401, "refresh_invalid")
    assert problem["reason"] == "stolen"


def test_logout_all_of_a_user_without_sessions_ends_nothing(shared):
    check_ended(shared.call("POST", f"/v1/users/{unique()}/logout-all", {}, SERVICE), [])


@pytest.mark.parametrize("body", [b'{"reason": "Bad Word"}', b'{"reason": 1}', b"[]",
                                  b'{"keep_session": 5}', b'{"keep_session": "xyz"}',
                                  b'{"keep": "x"}', b'{"reason": "' + b"x" * 33 + b'"}'])
def test_a_bad_logout_all_body_is_refused(shared, body):
    user = unique()
    login = shared.login(user)
    answer = shared.call("POST", f"/v1/users/{user}/logout-all", body, SERVICE)
    check_problem(answer, 400, "body_invalid")
    assert shared.is_alive(login["access_token"])


def test_a_dead_token_may_not_list_kick_or_end_all(shared):
    user = unique()
    dead, other = shared.login(user), shared.login(user)
    shared.call("POST", "/v1/logout", None, dead["access_token"])
    token = dead["access_token"]
    check_dead(shared.call("GET", "/v1/devices", None, token), "logged_out", "self")
    check_dead(shared.call("DELETE", f"/v1/devices/{other['session_id']}", None, token),
               "logged_out")
    check_dead(shared.call("POST", "/v1/logout-all", {}, token), "logged_out")
    assert shared.is_alive(other["access_token"])


def test_users_may_do_only_what_self_service_allows(start):
    daemon = start(policy__self_service="devices")
    user = unique()
    one, two = daemon.login(user), daemon.login(user)
    token = one["access_token"]
    assert daemon.call("GET", "/v1/devices", None, token).status == 200
    answer = daemon.call("DELETE", f"/v1/devices/{two['session_id']}", None, token)
    check_problem(answer, 403, "forbidden")
    check_problem(daemon.call("POST", "/v1/logout-all", {}, token), 403, "forbidden")
    assert daemon.is_alive(two["access_token"])
    assert daemon.call("POST", "/v1/logout", None, token).status == 200


# Scopes and tenants.

CALLS = {
    "login": ("POST", "/v1/login", {"user_id": "someone"}),
    "validate": ("POST", "/v1/validate", {"token": "sa_x"}),
    "user": ("GET", "/v1/users/someone", None),
    "list": ("GET", "/v1/users/someone/devices", None),
    "kick": ("DELETE", "/v1/users/someone/devices/0123456789abcdef", None),
    "end": ("POST", "/v1/users/someone/logout-all", {}),
}
NEEDS = {"login": "login", "validate": "validate", "user": "manage", "list": "manage",
         "kick": "manage", "end": "manage"}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("key", ["only-login", "only-validate", "only-manage", "only-policy"])
def test_a_key_does_only_what_its_scopes_allow(shared, call, key):
    method, path, body = CALLS[call]
    answer = shared.call(method, path, body, KEYS[key][0])
    if KEYS[key][1] == NEEDS[call]:
        assert answer.status in (200, 201, 404), answer
    else:
        problem = check_problem(answer, 403, "scope_missing")
        words = f'The service key "{key}" lacks the scope of this call: {NEEDS[call]}'
        assert problem["detail"] == words, problem


@pytest.mark.parametrize("call", CALLS)
def test_no_service_call_works_without_a_key_or_with_a_users_token(shared, call):
    method, path, body = CALLS[call]
    check_problem(shared.call(method, path, body), 401, "credentials_missing")
    token = shared.login()["access_token"]
    answer = shared.call(method, path, body, token)
    assert answer.status in (401, 403), answer
    check_problem(answer, answer.status, answer.code)


@pytest.mark.parametrize("call", CALLS)
def test_a_key_gets_403_for_another_tenant_whatever_it_asks(shared, call):
    method, path, body = CALLS[call]
    if call == "login":
        answer = shared.call(method, path, {**body, "tenant": "default"}, ACME)
    else:
        answer = shared.call(method, path + "?tenant=default", body, ACME)
    check_problem(answer, 403, "tenant_forbidden")


def test_a_key_may_name_its_own_tenant(shared):
    body = shared.login(key=ACME, tenant="acme")
    assert body["tenant"] == "acme"


USER_CALLS = {
    "user": ("GET", "/v1/users/{}", None),
    "devices": ("GET", "/v1/users/{}/devices", None),
    "history": ("GET", "/v1/users/{}/history", None),
    "kick": ("DELETE", "/v1/users/{}/devices/{}", None),
    "logout-all": ("POST", "/v1/users/{}/logout-all", {}),
    "freeze": ("POST", "/v1/users/{}/freeze", {}),
    "unfreeze": ("POST", "/v1/users/{}/unfreeze", None),
}


@pytest.mark.parametrize("call", USER_CALLS)
def test_an_unbound_key_that_forgets_the_tenant_is_asked_for_it(shared, call):
    """It would mean the namesake in `default`."""
    method, path, body = USER_CALLS[call]
    user = unique()
    here, there = shared.login(user), shared.login(user, key=ADMIN, tenant="globex")
    path = path.format(user, here["session_id"])
    problem = check_problem(shared.call(method, path, body, ADMIN), 400, "query_invalid")
    assert '"tenant" is missing' in problem["detail"]
    assert shared.is_alive(here["access_token"]) and shared.is_alive(there["access_token"])
    answer = shared.call(method, path + "?tenant=default", body, ADMIN)
    assert answer.status == 200, answer
    if call != "devices":
        assert answer.json["tenant"] == "default"


def test_what_ended_names_the_tenant_also_to_users_and_bound_keys(shared):
    user = unique()
    acme, default = shared.login(user, key=ACME), shared.login(user)
    calls = [("/v1/logout", acme["access_token"], "acme"),
             ("/v1/logout-all", default["access_token"], "default"),
             (f"/v1/users/{user}/logout-all?tenant=globex", ADMIN, "globex"),
             (f"/v1/users/{user}/logout-all", ACME, "acme"),
             ("/v1/tenants/globex/logout-all", ADMIN, "globex")]
    for path, bearer, tenant in calls:
        answer = shared.call("POST", path, None, bearer)
        assert answer.status == 200 and answer.json["tenant"] == tenant, answer
    assert shared.call("POST", "/v1/logout", None, "sa_" + "A" * 60).json["tenant"] is None


def test_an_unbound_key_names_the_tenant_and_default_is_that_of_logins(shared):
    user = unique()
    assert shared.login(user, key=ADMIN)["tenant"] == "default"
    assert shared.login(user, key=ADMIN, tenant="globex")["tenant"] == "globex"
    answer = shared.call("GET", f"/v1/users/{user}/devices?tenant=globex", None, ADMIN)
    assert answer.json["total"] == 1


def test_sessions_of_one_tenant_cannot_be_ended_from_another(shared):
    user = unique()
    login = shared.login(user)
    check_problem(shared.kick(user, login["session_id"], key=ACME), 404, "session_not_found")
    check_ended(shared.call("POST", f"/v1/users/{user}/logout-all", {}, ACME), [])
    answer = shared.call("POST", "/v1/logout", None, ACME,
                         {"X-Session-Token": login["access_token"]})
    check_problem(answer, 403, "tenant_forbidden")
    assert shared.is_alive(login["access_token"])


OPERATORS = {
    "Latin-1": ("J\xfcrgen", "J\xfcrgen"),
    "UTF-8": ("J\xc3\xbcrgen", "J\xfcrgen"),
    "too long": ("x" * 1000, "x" * 128),
    "TAB": ("a\tb", "a b"),
    "empty": ("", "service"),
    "a credential": (f"by {SERVICE}", "by sk_[redacted]"),
}


@pytest.mark.parametrize("what", OPERATORS)
def test_a_kick_by_an_operator_with_an_odd_name_is_done_and_recorded(shared, what):
    told, kept = OPERATORS[what]
    login, name = shared.login(), unique("operator")
    answer = shared.kick(login["user_id"], login["session_id"],
                         headers={"X-Operator": told, "X-Request-Id": name})
    check_ended(answer, [login["session_id"]])
    line = shared.node.audit_of(name)
    assert (line["sessiond.actor"], line.get("sessiond.operator", kept)) == (kept, kept)
    check_dead(shared.validate(login["access_token"]), "kicked", kept)


def history(daemon, user, key=SERVICE, node=0):
    answer = daemon.call("GET", f"/v1/users/{user}/history", None, key, node=node)
    assert answer.status == 200, answer
    assert not ANY_TOKEN.search(answer.body.decode())
    assert (answer.json["tenant"], answer.json["user_id"]) == ("default", user)
    return answer.json["sessions"]


def test_history_tells_of_ended_sessions_why_by_whom_and_when(shared):
    user = unique()
    assert history(shared, user) == []
    first, second, third, alive = (shared.login(user, device={"id": f"d{n}"}) for n in range(4))
    assert history(shared, user) == []
    before = now()
    shared.kick(user, first["session_id"], headers={"X-Operator": "alice"}, query="?reason=stolen")
    shared.call("POST", "/v1/logout", None, second["access_token"])
    shared.login(user, device={"id": "d2"})
    told = {entry["session_id"]: entry for entry in history(shared, user, node=1)}
    assert {key: (entry["reason"], entry["actor"]) for key, entry in told.items()} == {
        first["session_id"]: ("stolen", "alice"), second["session_id"]: ("logged_out", "self"),
        third["session_id"]: ("replaced", "service")}
    for entry in told.values():
        assert before <= entry["ended_at"] <= now() + 1
        assert before - 30 <= entry["created_at"] <= entry["ended_at"]
    ends = [entry["ended_at"] for entry in history(shared, user)]
    assert ends == sorted(ends, reverse=True)
    assert shared.is_alive(alive["access_token"])


def test_history_tells_of_sessions_whose_time_is_over(tmp_path):
    user = unique()
    with DrivenTime(tmp_path) as driven:
        daemon = driven.daemon(policy__idle_timeout="100s")
        login = daemon.login(user, device={"id": "d"})
        assert history(daemon, user) == []
        driven.go_to(driven.now() + 112)
        entry, = history(daemon, user)
        assert entry["ended_at"] <= driven.now()
    assert (entry["session_id"], entry["reason"], entry["actor"]) == (login["session_id"], "idle", None)
    assert entry["device"] == {"id": "d"}


OWN_WORDS = ["malformed", "unknown", "expired", "idle", "replaced", "frozen", "refresh_reuse", "reuse",
             "repeated", "revoked", "binding", "binding_family", "verification_required",
             "insufficient_authentication", "new_location", "new_device", "wrong_codes"]


@pytest.mark.parametrize("word", OWN_WORDS)
def test_no_caller_may_give_a_word_that_the_service_says_of_its_own(shared, word):
    user = unique()
    login = shared.login(user)
    path = f"/v1/users/{user}"
    calls = [("DELETE", f"{path}/devices/{login['session_id']}?reason={word}", None, SERVICE, "query_invalid"),
             ("DELETE", f"/v1/devices/{login['session_id']}?reason={word}", None, login["access_token"],
              "query_invalid"),
             ("POST", f"{path}/logout-all", {"reason": word}, SERVICE, "body_invalid"),
             ("POST", f"{path}/freeze", {"reason": word}, SERVICE, "body_invalid"),
             ("POST", f"{path}/unfreeze", {"reason": word}, SERVICE, "body_invalid"),
             ("POST", "/v1/tenants/default/logout-all", {"reason": word}, ADMIN, "body_invalid")]
    for method, target, body, bearer, code in calls:
        problem = check_problem(shared.call(method, target, body, bearer), 400, code)
        assert f'"reason" must not be "{word}"' in problem["detail"], problem
    assert shared.is_alive(login["access_token"])


@pytest.mark.parametrize("word", ["kicked", "logged_out", "password_changed", "fraud", "key_invalid"])
def test_words_for_what_callers_do_are_theirs(shared, word):
    login = shared.login()
    answer = shared.kick(login["user_id"], login["session_id"], query=f"?reason={word}")
    check_ended(answer, [login["session_id"]])
    check_dead(shared.validate(login["access_token"]), word)

"""Device lists, kick, logout, logout-all, and what the holder of a dead token is told."""

import pytest

from checks import ANY_TOKEN, check_dead, check_ended, check_problem
from daemon import ACME, ADMIN, KEYS, SERVICE, now, unique
from test_validate import never_issued

ENTRY_MEMBERS = {"session_id", "current", "device", "ip", "user_agent", "created_at",
                 "last_seen_at", "expires_at"}


def check_entry(entry):
    assert ENTRY_MEMBERS <= set(entry) <= ENTRY_MEMBERS | {"location"}, set(entry)
    for name in ("created_at", "last_seen_at", "expires_at"):
        assert isinstance(entry[name], int)
    assert abs(entry["created_at"] - now()) <= 10
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
                                  "/v1/users/a%0ab", "/v1/users/" + "x" * 129, "/v1/users/%zz"])
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
    assert set(body) == {"user_id", "frozen", "frozen_reason", "devices", "not_before"}
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
        problem = check_dead(shared.validate(login["access_token"], node), "kicked",
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
        check_dead(shared.validate(login["access_token"], node), "password_changed",
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


def test_an_unbound_key_names_the_tenant_and_default_is_default(shared):
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


def test_a_bad_operator_name_is_refused(shared):
    user = unique()
    login = shared.login(user)
    answer = shared.kick(user, login["session_id"], headers={"X-Operator": "x" * 5000})
    assert answer.status in (400, 431), answer
    assert shared.is_alive(login["access_token"])

"""Policies of tenants: the calls, what they refuse, in force everywhere, and kept in an outage; and
the end of all sessions of a tenant."""

import json
import re
import signal
import time

import pytest

from bounds import at_most
from checks import check_dead, check_ended, check_problem
from client import Redis
from clocks import DrivenTime
from daemon import ALL_SCOPES, KEYS, Daemon, new_key, unique
from machine import clock
from parallel import at_once
from probes import FULL
from redis_servers import SLOW, SingleRedis, wait_until
from tenants import MERGE, Tenant

ETAG = re.compile(r'"[A-Za-z0-9_-]{16}"')


@pytest.fixture
def tenant(shared):
    return Tenant(shared)


def idles_after(daemon, token, wanted, node=0):
    """Whether the session's idle time is this. The idle end that is shown counts the interval within which uses are not
    written, a minute here, from the last use that was: the login, or one since."""
    answer = daemon.validate(token, node)
    assert answer.status == 200, answer
    ends = answer.json["idle_expires_at"] - wanted - 60
    return answer.json["created_at"] <= ends <= int(time.time()) + 1


# --- the calls ---

def test_a_tenant_that_said_nothing_has_the_defaults(tenant):
    answer = tenant.call("GET")
    assert answer.status == 200 and ETAG.fullmatch(answer.header("ETag")), answer
    assert answer.header("Content-Type").split(";")[0] == "application/json"
    policy = answer.json
    assert policy["idle_timeout"] == 1800 and policy["access_ttl"] == 7200
    assert policy["bind"] == {"ip": "off", "device": "off"} and policy["force_logout"] is True
    assert policy["roles"] == {} and policy["device_types"] == {}
    other = Tenant(tenant.daemon)
    assert other.get() == policy and other.call("GET").header("ETag") != answer.header("ETag")


def test_put_patch_and_delete_answer_with_what_is_in_force(tenant):
    defaults, tags = tenant.get(), [tenant.call("GET").header("ETag")]
    shown = [tenant.put(idle_timeout=7200, roles={"staff": {"idle_timeout": 3600}}),
             tenant.patch(max_devices=3, roles={"guest": {"max_devices": 1}}),
             tenant.patch(idle_timeout=None, roles={"staff": None}),
             tenant.put(overflow="reject"),
             tenant.call("DELETE")]
    wanted = [
        {"idle_timeout": 7200, "roles": {"staff": {"idle_timeout": 3600}}},
        {"idle_timeout": 7200, "max_devices": 3,
         "roles": {"staff": {"idle_timeout": 3600}, "guest": {"max_devices": 1}}},
        {"max_devices": 3, "roles": {"guest": {"max_devices": 1}}},
        {"overflow": "reject"},
        {},
    ]
    for answer, changed in zip(shown, wanted):
        assert answer.status == 200 and answer.json == {**defaults, **changed}, answer
        tags.append(answer.header("ETag"))
    assert all(ETAG.fullmatch(tag) for tag in tags), tags
    assert all(before != after for before, after in zip(tags, tags[1:])), tags
    assert tenant.call("GET").header("ETag") == tags[-1] == tags[0]
    assert tenant.get() == defaults


def test_what_is_shown_can_be_put_back(tenant):
    shown = tenant.put(idle_timeout=900, verify={"on": ["new_device"], "method": "otp"},
                       device_types={"tv": {"idle_timeout": 86400, "max_devices": 2}}).json
    again = tenant.call("PUT", shown)
    assert again.status == 200 and again.json == shown, again


# --- wrong input ---

WRONG = [
    ('{"idel_timeout":900}', ["idel_timeout"]),
    ('{"bind":{"ips":"off"}}', ["bind.ips"]),
    ('{"roles":{"staff":{"overflow":"reject"}}}', ["overflow"]),
    ('{"idle_timeout":9}', ["idle_timeout", "9", "10"]),
    ('{"max_devices":1001}', ["max_devices", "1001", "1000"]),
    ('{"max_devices":"3"}', ["max_devices"]),
    ('{"overflow":"evict"}', ["overflow", "evict_oldest", "reject"]),
    ('{"verify":{"on":["new_moon"]}}', ["verify.on", "new_moon", "new_device"]),
    ('{"force_logout":1}', ["force_logout"]),
    ('{"idle_timeout":null}', ["idle_timeout"]),
    ('{"idle_timeout":3600,"idle_timeout":7200}', ["idle_timeout"]),
    ('{"absolute_timeout":600,"access_ttl":500,"idle_timeout":900}',
     ["idle_timeout", "900", "absolute_timeout", "600"]),
    ('[]', []),
    ('{"idle_timeout":900', []),
    ('', []),
]


@pytest.mark.parametrize("body, words", WRONG, ids=[body[:40] or "empty" for body, _ in WRONG])
def test_a_wrong_policy_is_refused_whole_and_named(tenant, body, words):
    kept = tenant.put(max_devices=7)
    answer = tenant.call("PUT", body.encode())
    problem = check_problem(answer, 400, "body_invalid")
    for word in words:
        assert word in problem["detail"], problem
    assert tenant.call("GET").header("ETag") == kept.header("ETag")


def test_a_patch_is_judged_as_a_whole_with_what_is_there(tenant):
    tenant.put(absolute_timeout=3600, access_ttl=600, idle_timeout=1800)
    problem = check_problem(tenant.call("PATCH", {"absolute_timeout": 900}), 400, "body_invalid")
    assert "absolute_timeout" in problem["detail"], problem
    check_problem(tenant.call("PATCH", b"[1]"), 400, "body_invalid")
    check_problem(tenant.call("PATCH", b""), 400, "body_invalid")
    assert tenant.patch(absolute_timeout=900, idle_timeout=600).json["absolute_timeout"] == 900


def test_a_policy_that_is_too_long_is_refused(tenant):
    long = {"roles": {f"r{n}" + "x" * 120: {"idle_timeout": 600 + n, "absolute_timeout": 86400,
                                          "renew": "sliding"} for n in range(64)}}
    assert tenant.call("PUT", long).status == 200
    longer = json.dumps({**long, "overflow": "reject"}).ljust(16385).encode()
    check_problem(tenant.call("PUT", longer), 413, "too_large")
    # Patch by patch there is no end to it either.
    more = {"device_types": {f"t{n}" + "x" * 120: {"idle_timeout": 600, "renew": "fixed"}
                             for n in range(64)}}
    answer = tenant.call("PATCH", more)
    assert answer.status == 400 or answer.status == 413, answer
    assert answer.json["code"] in ("body_invalid", "too_large"), answer
    assert tenant.get()["device_types"] == {}


def test_the_type_of_the_body_is_checked(tenant):
    for method, kind in [("PUT", "application/merge-patch+json"), ("PUT", "text/plain"),
                         ("PATCH", "application/json"), ("PATCH", "application/json-patch+json")]:
        answer = tenant.call(method, b"{}", **{"Content_Type": kind})
        check_problem(answer, 415, "unsupported_media_type")
        accepted = "application/merge-patch+json" if method == "PATCH" else None
        assert answer.header("Accept-Patch") == accepted, answer
    answer = tenant.call("PATCH", b"{}", Content_Type="application/merge-patch+json; charset=utf-8")
    assert answer.status == 200, answer


def test_the_name_of_the_tenant_is_checked(shared):
    for name in ("Shop", ".x", "a%20b", "x" * 64, "%C3%A9"):
        for method in ("GET", "PUT", "DELETE"):
            answer = Tenant(shared, name).call(method, b"{}" if method == "PUT" else None)
            assert "tenant" in check_problem(answer, 400, "bad_request")["detail"], answer
    answer = shared.call("POST", "/v1/tenants/shop/policy", {}, KEYS["admin"][0])
    check_problem(answer, 405, "method_not_allowed")
    assert {"GET", "PUT", "PATCH", "DELETE"} <= set(answer.header("Allow").split(", ")), answer
    answer = shared.call("GET", "/v1/tenants/shop/policy?x=1", None, KEYS["admin"][0])
    check_problem(answer, 400, "query_invalid")


# --- who may ---

def test_only_keys_with_the_scope_and_of_the_tenant_may(shared):
    user = shared.login()
    calls = [("GET", "policy", None, {}), ("PUT", "policy", {"max_devices": 4}, {}),
             ("PATCH", "policy", {"max_devices": 4}, MERGE), ("DELETE", "policy", None, {}),
             ("POST", "logout-all", {}, {})]
    for method, call, body, headers in calls:
        for name, bearer, status, code in [
                ("default", KEYS["service"][0], 403, "scope_missing"),
                ("acme", KEYS["acme"][0], 403, "scope_missing"),
                ("acme", KEYS["only-policy"][0], 403, "tenant_forbidden"),
                ("none-such", KEYS["only-policy"][0], 403, "tenant_forbidden"),
                ("default", None, 401, "credentials_missing"),
                ("default", "sk_" + "x" * 43, 401, "key_invalid"),
                ("default", user["access_token"], 403, "forbidden")]:
            answer = shared.call(method, f"/v1/tenants/{name}/{call}", body, bearer, headers)
            check_problem(answer, status, code)
    own = Tenant(shared, "default", KEYS["only-policy"][0])
    assert own.get()["max_devices"] == 10 and shared.is_alive(user["access_token"])


# --- conditions ---

def test_the_end_of_all_sessions_may_have_a_condition(tenant):
    tag = tenant.put(max_devices=3).header("ETag")
    token = tenant.login()["access_token"]
    check_problem(tenant.end_all({}, If_Match='"x"'), 412, "precondition_failed")
    assert tenant.daemon.is_alive(token)
    assert tenant.end_all({}, If_Match=tag).status == 200
    assert not tenant.daemon.is_alive(token)


def test_a_condition_that_does_not_hold_is_412(tenant):
    first = tenant.put(max_devices=3).header("ETag")
    similar = first[:-2] + ('A"' if first[-2] != "A" else 'B"')
    for condition in ('"x"', f"W/{first}", f'"x", W/{first}', similar):
        for method, body in [("PUT", {}), ("PATCH", {}), ("DELETE", None)]:
            answer = tenant.call(method, body, If_Match=condition)
            check_problem(answer, 412, "precondition_failed")
    for condition in ("x", '"x', "", '"a" "b"x'):
        answer = tenant.call("DELETE", If_Match=condition)
        check_problem(answer, 400, "header_invalid")
    assert tenant.get()["max_devices"] == 3
    second = tenant.call("PATCH", {"max_devices": 4}, If_Match=f'"x", {first}')
    assert second.status == 200, second
    check_problem(tenant.call("PUT", {}, If_Match=first), 412, "precondition_failed")
    assert tenant.call("PUT", {"max_devices": 5}, If_Match="*").status == 200
    assert tenant.get()["max_devices"] == 5


def test_who_has_what_is_in_force_is_told_304(tenant):
    """RFC 9110 section 13.1.2: any tag of the list, weak ones too; 304 has the tag and no body."""
    old, tag = (tenant.put(max_devices=n).header("ETag") for n in (3, 4))
    length = len(tenant.call("GET").body)
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = tenant.call("GET", If_None_Match=known)
        assert (answer.status, answer.body) == (304, b""), answer
        assert answer.header("ETag") == tag and answer.header("Content-Type") is None, answer
        assert answer.header("Cache-Control") == "no-store", answer
        assert answer.header("Content-Length") == str(length), "that of a 200, or none"
        line = tenant.daemon.node.audit_of(answer.header("X-Request-Id"))
        assert line["event.outcome"] == "success", line
        assert line["http.response.status_code"] == 304, line
    for known in (old, f'"x", W/{old}', '"' + tag[2:]):
        answer = tenant.call("GET", If_None_Match=known)
        assert answer.status == 200 and answer.json["max_devices"] == 4, answer
    for known in ("x", tag[:-1], ""):
        problem = check_problem(tenant.call("GET", If_None_Match=known), 400, "header_invalid")
        assert "If-None-Match" in problem["detail"], problem
    labels = {"route": "/v1/tenants/{tenant}/policy", "method": "GET", "status": "304"}
    assert tenant.daemon.node.metric("sessiond_http_requests_total", **labels) >= 4, labels
    # Changes take it for no condition.
    assert tenant.call("PUT", {"max_devices": 5}, If_None_Match="*").status == 200


def test_of_parallel_changes_with_one_condition_one_is_made(tenant):
    tag = tenant.put(max_devices=3).header("ETag")
    answers = at_once(9, lambda n: tenant.call("PATCH", {"max_devices": 100 + n}, node=n % 3,
                                               If_Match=tag))
    made = [n for n, answer in enumerate(answers) if answer.status == 200]
    assert len(made) == 1, answers
    assert all(answer.status == 412 for n, answer in enumerate(answers) if n not in made), answers
    assert tenant.get(node=made[0] % 3)["max_devices"] == 100 + made[0]


def test_of_parallel_patches_none_is_lost(tenant):
    answers = at_once(12, lambda n: tenant.call(
        "PATCH", {"roles": {f"role{n}": {"max_devices": 1 + n}}}, node=n % 3))
    assert all(answer.status == 200 for answer in answers), answers
    wanted = {f"role{n}": {"max_devices": 1 + n} for n in range(12)}
    for node in range(3):
        wait_until(lambda: tenant.get(node)["roles"] == wanted, 2, f"node {node} has every patch")


# --- in force ---

def test_the_shop_lengthens_its_sessions_for_a_sale_and_shortens_them_again(tenant):
    daemon, others = tenant.daemon, Tenant(tenant.daemon)
    token, foreign = tenant.login()["access_token"], others.login()["access_token"]
    for timeout in (7200, 1800, 7200):
        tenant.patch(idle_timeout=timeout)
        for node in range(3):
            wait_until(lambda: idles_after(daemon, token, timeout, node), 1,
                       f"{timeout} s are in force for a active session on node {node}")
            assert idles_after(daemon, foreign, 1800, node)
    tenant.patch(idle_timeout=None)
    wait_until(lambda: idles_after(daemon, token, 1800, 2), 1, "the default again")


@pytest.fixture
def driven(tmp_path):
    with DrivenTime(tmp_path / "driven") as driven:
        driven.daemon(3)
        yield driven


def test_a_shorter_time_ends_living_sessions_and_a_longer_one_saves_them(driven):
    tenant = Tenant(driven.daemons[0])
    daemon = tenant.daemon
    short, long = tenant.login(roles=["guest"]), tenant.login(roles=["staff"])
    saved = tenant.login(roles=["guest"])
    for node in range(3):
        assert all(daemon.is_alive(login["access_token"], node) for login in (short, long, saved))
    tenant.put(refresh_grace=5, roles={"guest": {"idle_timeout": 10, "access_ttl": 10}})

    def lives_from_login(login, node):
        session = daemon.validate(login["access_token"], node).json
        return session["expires_at"] - session["created_at"]
    for node in range(3):
        wait_until(lambda: lives_from_login(short, node) == 10, 1, "the short time is in force")
        assert lives_from_login(long, node) == 7200
    driven.clock.elapse(8)
    tenant.put(roles={"guest": {"idle_timeout": 20}})
    assert all(daemon.is_alive(saved["access_token"], node) for node in range(3))
    tenant.put(refresh_grace=5, roles={"guest": {"idle_timeout": 600, "access_ttl": 10}})
    driven.clock.elapse(3)
    for node in range(3):
        check_dead(daemon.validate(short["access_token"], node), "expired")
        assert daemon.is_alive(long["access_token"], node)
    tenant.call("DELETE")
    wait_until(lambda: daemon.is_alive(saved["access_token"], 1), 1, "its time is back")


def test_roles_and_device_types_differ(tenant):
    daemon = tenant.daemon
    tenant.put(idle_timeout=1200, roles={"staff": {"idle_timeout": 3600}, "guest": {"idle_timeout": 600}},
               device_types={"tv": {"idle_timeout": 900, "max_devices": 1}}, max_devices=5)
    wanted = [({}, 1200), ({"roles": ["staff"]}, 3600), ({"roles": ["staff", "guest"]}, 600),
              ({"device": {"id": "d1", "type": "tv"}}, 900),
              ({"roles": ["staff"], "device": {"id": "d2", "type": "tv"}}, 900)]
    for fields, seconds in wanted:
        token = tenant.login(**fields)["access_token"]
        assert idles_after(daemon, token, seconds), fields
    user = unique()
    first = tenant.login(user, device={"id": "tv1", "type": "tv"})
    second = tenant.login(user, device={"id": "tv2", "type": "tv"})
    assert [gone["session_id"] for gone in second["replaced"]] == [first["session_id"]], second


def test_limits_of_devices_are_of_the_tenant(tenant):
    tenant.put(max_devices=1, overflow="reject")
    user = unique()
    tenant.login(user, device={"id": "one"})
    answer = tenant.daemon.try_login(user, tenant.key, tenant=tenant.name, device={"id": "two"})
    check_problem(answer, 409, "device_limit")
    tenant.put(max_devices=1, overflow="evict_oldest")
    tenant.login(user, device={"id": "two"})


def test_a_change_is_in_force_on_the_other_nodes_within_a_second(tenant):
    """200 changes with SESSIOND_TEST_FULL=1, else 20."""
    daemon, times = tenant.daemon, []
    token = tenant.login()["access_token"]
    for change in range(200 if FULL else 20):
        wanted = 1801 + change * 7
        origin = change % 3
        tenant.patch(node=origin, idle_timeout=wanted)
        begun = clock()
        for node in {0, 1, 2} - {origin}:
            wait_until(lambda: tenant.get(node)["idle_timeout"] == wanted, 5, "in force")
            assert idles_after(daemon, token, wanted, node), "for the active session"
        times.append(clock() - begun)
    times.sort()
    p99 = times[int(len(times) * 0.99) - (1 if len(times) < 100 else 0)]
    print(f"{len(times)} changes: median {times[len(times) // 2] * 1000:.1f} ms, "
          f"p99 {p99 * 1000:.1f} ms, worst {times[-1] * 1000:.1f} ms")
    at_most(p99, 1 * SLOW, "p99 until a change of policy is in force everywhere")


def test_policies_are_sealed_in_redis(tenant, cluster):
    tenant.put(roles={"very-secret-role": {"max_devices": 1}})
    dump = cluster.dump()
    assert not any(b"very-secret-role" in part or tenant.name.encode() in part for part in dump)
    assert any(key.startswith(b"sd:p:{") for key in dump)


def test_a_change_is_on_record(tenant):
    answer = tenant.call("PATCH", {"max_devices": 2}, X_Operator="alice@example.com")
    line = tenant.daemon.node.audit_of(answer.header("X-Request-Id"))
    assert line["event.action"] == "set-policy" and line["event.outcome"] == "success", line
    assert line["organization.id"] == tenant.name, line
    shown = tenant.call("GET")
    line = tenant.daemon.node.audit_of(shown.header("X-Request-Id"))
    assert line["event.action"] == "show-policy", line


# --- everyone out ---

def test_everyone_of_a_tenant_is_logged_out_on_every_node(tenant):
    daemon, others = tenant.daemon, Tenant(tenant.daemon)
    stranger = others.login()["access_token"]
    logins = [tenant.login(node=n % 3) for n in range(6)]
    for login in logins:
        assert all(daemon.is_alive(login["access_token"], node) for node in range(3))
    answer = tenant.end_all({"reason": "incident"}, X_Operator="alice@example.com")
    check_ended(answer, [])
    assert answer.json["durability"] == "replicated", answer
    for login in logins:
        check_dead(daemon.validate(login["access_token"]), "incident", "alice@example.com")
        for node in (1, 2):
            wait_until(lambda: not daemon.is_alive(login["access_token"], node), 1, "dead there too")
            check_dead(daemon.refused(login["access_token"], node), "incident",
                       "alice@example.com")
        answer = daemon.refresh(login["refresh_token"], node=1)
        assert check_problem(answer, 401, "refresh_invalid")["reason"] == "incident"
    assert all(daemon.is_alive(stranger, node) for node in range(3))
    for node in range(3):
        again = tenant.login(logins[0]["user_id"], node=node)
        for other in range(3):
            assert daemon.is_alive(again["access_token"], other), "a new login lives"
    assert {session["session_id"] for session in daemon.call(
        "GET", f"/v1/users/{logins[1]['user_id']}/devices?tenant={tenant.name}", None,
        tenant.key).json["devices"]} == set()


def test_a_second_logout_all_ends_what_was_logged_in_between(tenant):
    daemon = tenant.daemon
    for _ in range(3):
        token = tenant.login()["access_token"]
        assert daemon.is_alive(token)
        check_ended(tenant.end_all(), [])
        check_dead(daemon.validate(token), "logged_out", "admin")
    assert tenant.get()["max_devices"] == 10, "the policy is another matter"


def test_a_wrong_logout_all_is_refused(tenant):
    for body in ({"reason": "Bad Word"}, {"reason": ""}, {"why": "x"}, [], {"reason": "x" * 33}):
        check_problem(tenant.end_all(body), 400, "body_invalid")
    check_problem(tenant.end_all({}, If_Match='"x"'), 412, "precondition_failed")


def test_keys_of_a_tenant_that_may_not_force_logouts(start):
    keys = {"platform": (new_key(), ALL_SCOPES, "*"), "own": (new_key(), ALL_SCOPES, "shop")}
    daemon = start(keys=keys)
    platform = Tenant(daemon, "shop", keys["platform"][0])
    own = Tenant(daemon, "shop", keys["own"][0])
    platform.put(force_logout=False)
    first, second = own.login("ann"), own.login("ann")
    sessions = (first["session_id"], second["session_id"])
    forbidden = [("DELETE", f"/v1/users/ann/devices/{sessions[0]}", None),
                 ("POST", "/v1/users/ann/logout-all", {}),
                 ("POST", "/v1/users/ann/freeze", {}),
                 ("POST", "/v1/tenants/shop/logout-all", {})]
    for method, path, body in forbidden:
        problem = check_problem(daemon.call(method, path, body, own.key), 403, "forbidden")
        assert "force_logout" in problem["detail"], problem
    assert daemon.is_alive(first["access_token"]) and daemon.is_alive(second["access_token"])
    answer = daemon.call("DELETE", forbidden[0][1] + "?tenant=shop", None, platform.key)
    check_ended(answer, [sessions[0]], durability=None)
    check_ended(platform.end_all(), [])
    check_dead(daemon.validate(second["access_token"]), "logged_out", "platform")
    platform.put(force_logout=True)
    check_ended(own.end_all(), [])


def test_a_key_of_a_tenant_leaves_alone_what_belongs_to_the_platform(start):
    """Limits that protect the other tenants, and the right to end sessions: repeated, left out or
    deleted by the tenant's own key they stay as the platform has set them; another value is 403."""
    keys = {"platform": (new_key(), ALL_SCOPES, "*"), "own": (new_key(), ALL_SCOPES, "shop")}
    daemon = start(keys=keys, policy__logins_per_user_per_minute=50)
    platform, own = (Tenant(daemon, "shop", keys[name][0]) for name in ("platform", "own"))
    limits = {"rate": {"requests_per_second": 900, "burst": 950, "logins_per_user_per_minute": 50, "authz": 0},
              "cache_quota": 65536, "force_logout": False}
    platform.put(rate={"requests_per_second": 900, "burst": 950}, cache_quota=65536,
                 force_logout=False, idle_timeout=900)

    def limits_hold(policy):
        return {name: policy[name] for name in limits} == limits
    wishes = [("rate.requests_per_second", {"rate": {"requests_per_second": 1000}}, "900 to 1000"),
              ("rate.requests_per_second", {"rate": {"requests_per_second": 1, "burst": 1}}, "to 1"),
              ("rate.burst", {"rate": {"requests_per_second": 900, "burst": 951}}, "951"),
              ("rate.logins_per_user_per_minute", {"rate": {"logins_per_user_per_minute": 0}}, "50"),
              ("cache_quota", {"cache_quota": 0}, "65536 to 0"),
              ("force_logout", {"force_logout": True}, "false to true")]
    taken_back = [("rate.requests_per_second", {"rate": None}, "900 to 0"),
                  ("rate.burst", {"rate": {"burst": None}}, "950 to 0"),
                  ("cache_quota", {"cache_quota": None}, "to 0"),
                  ("force_logout", {"force_logout": None}, "to true")]
    before = own.call("GET").header("ETag")
    for calls, methods in ((wishes, ("PUT", "PATCH")), (taken_back, ("PATCH",))):
        for member, body, words in calls:
            for method in methods:
                answer = own.call(method, {**body, "max_devices": 4})
                problem = check_problem(answer, 403, "forbidden")
                assert f'"{member}" belongs to the platform' in problem["detail"], problem
                assert words in problem["detail"], problem
                line = daemon.node.audit_of(answer.header("X-Request-Id"))
                assert line["event.outcome"] == "failure", line
    assert own.call("GET").header("ETag") == before

    # A policy as shown can be edited and put back, with the condition too.
    shown = own.get()
    answer = own.call("PUT", {**shown, "max_devices": 4}, If_Match=before)
    assert answer.status == 200 and answer.json == {**shown, "max_devices": 4}, answer
    # Only the tenant's own members are left out or deleted.
    for answer, wanted in [(own.put(max_devices=3), (3, 1800)),
                           (own.patch(idle_timeout=600, force_logout=False), (3, 600)),
                           (own.call("DELETE"), (10, 1800))]:
        assert answer.status == 200 and limits_hold(answer.json), answer
        assert (answer.json["max_devices"], answer.json["idle_timeout"]) == wanted, answer
    problem = check_problem(own.end_all(), 403, "forbidden")
    assert "force_logout" in problem["detail"], problem

    # The platform's key changes, leaves out and deletes.
    assert platform.patch(cache_quota=1).json["cache_quota"] == 1
    assert own.put().json["cache_quota"] == 1
    assert platform.put(max_devices=3).json["cache_quota"] == 0
    platform.put(**limits)
    assert platform.call("DELETE").json["force_logout"] is True
    check_ended(own.end_all(), [])


def test_whoever_repeats_the_platforms_default_gets_tomorrows(start):
    keys = {"platform": (new_key(), ALL_SCOPES, "*"), "own": (new_key(), ALL_SCOPES, "shop")}
    daemon = start(keys=keys)
    own = Tenant(daemon, "shop", keys["own"][0])
    assert own.put(**own.get()).json["rate"]["requests_per_second"] == 0
    daemon.node.write_config(policy__requests_per_second=500)
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: own.get()["rate"]["requests_per_second"] == 500, 5, "the reload")
    assert own.get()["idle_timeout"] == 1800


# --- without Redis ---

@pytest.fixture
def lonely(tmp_path):
    """A node on a Redis of its own, which can be stopped."""
    redis = SingleRedis(tmp_path / "redis")
    daemon = Daemon(tmp_path / "node", redis.start(), redis__mode="standalone",
                    redis__wait_timeout=0)
    try:
        daemon.redis = redis
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()
        redis.stop()


def test_the_last_known_policy_holds_in_an_outage_and_over_a_restart_in_it(lonely):
    shop, out = Tenant(lonely, "shop"), Tenant(lonely, "out")
    tag = shop.put(idle_timeout=4000, max_devices=2).header("ETag")
    token, dead = shop.login()["access_token"], out.login()["access_token"]
    assert lonely.is_alive(token) and lonely.is_alive(dead)
    assert out.end_all({"reason": "incident"}).status == 200
    check_dead(lonely.validate(dead), "incident", "admin")
    lonely.redis.stop()
    for restarted in (False, True):
        if restarted:
            lonely.stop()
            lonely.start("/livez")
        wait_until(lambda: lonely.validate(token).json.get("stale") is True, 3, "stale, but alive")
        assert idles_after(lonely, token, 4000)
        answer = shop.call("GET")
        assert answer.status == 200 and answer.json["idle_timeout"] == 4000, answer
        assert answer.header("ETag") == tag
        check_dead(lonely.validate(dead), "incident", "admin")
        for method, body in [("PUT", {}), ("PATCH", {"max_devices": 3}), ("DELETE", None)]:
            answer = shop.call(method, body)
            check_problem(answer, 503, answer.code)
            assert answer.code.startswith("store_"), answer
        answer = shop.end_all()
        check_problem(answer, 503, answer.code)
        check_problem(Tenant(lonely, "never-met").call("GET"), 503, answer.code)
    assert (lonely.node.directory / "cache.tenants").stat().st_mode & 0o777 == 0o600


def test_what_redis_loses_of_a_tenant_is_written_again(lonely):
    tenant, other = Tenant(lonely, "shop"), Tenant(lonely, "other")
    token = tenant.login()["access_token"]
    before = tenant.put(max_devices=2)
    with Redis(lonely.redis.port) as redis:
        key, = [key for key in redis.keys() if key.startswith(b"sd:p:")]
        old = redis.call("GET", key)
        assert tenant.end_all({"reason": "incident"}).status == 200
        check_dead(lonely.validate(token), "incident")
        lost = redis.call("GET", key)
        for gone in (old, None):
            redis.call(*(("SET", key, gone) if gone else ("DEL", key)))
            for _ in range(20):
                check_dead(lonely.validate(token), "incident", "admin")

            def is_back():
                assert tenant.get()["max_devices"] == 2
                return redis.call("GET", key) not in (gone, None)
            wait_until(is_back, 3, "the lost state is in Redis again")
    assert lost != old and tenant.call("GET").header("ETag") == before.header("ETag")
    assert lonely.node.metric("sessiond_store_behind_total") >= 2
    # Nothing comes of nothing.
    assert other.get()["max_devices"] == 10
    lonely.node.stop()
    (lonely.node.directory / "cache.tenants").unlink()
    lonely.start()
    check_dead(lonely.validate(token), "incident", "admin")


def test_a_damaged_file_of_tenants_is_told_and_ignored(start):
    daemon = start()
    shop = Tenant(daemon)
    shop.put(max_devices=2)
    daemon.stop()
    path = daemon.node.directory / "cache.tenants"
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(bytes(raw))
    daemon.start()
    told = [line for line in daemon.node.log_text().splitlines() if "snapshot_ignored" in line]
    assert len(told) == 1 and "cache.tenants" in told[0], told
    assert shop.get()["max_devices"] == 2


def test_a_kick_for_a_tenant_whose_policy_is_unknown_tidies_up_nothing(tmp_path):
    """The policy does not open, and node 1 has never seen it: the kick is the journal's, in force at
    once, and the replay brings it to Redis without judging the user's other session by defaults."""
    redis = SingleRedis(tmp_path / "redis").start()
    daemon = Daemon(tmp_path / "daemon", redis, count=2, redis__mode="standalone",
                    redis__wait_timeout=0, policy__idle_timeout=10)
    try:
        daemon.start()
        tenant = Tenant(daemon)
        assert tenant.call("PUT", {"idle_timeout": 3600}).status == 200
        kicked, other = (daemon.try_login("alice", tenant.key, tenant=tenant.name).json
                         for _ in range(2))
        with Redis(redis.port) as server:
            key, = [key for key in server.keys() if key.startswith(b"sd:p:")]
            server.call("SET", key, b"\x01\x01no record")
        path = f"/v1/users/alice/devices/{kicked['session_id']}?tenant={tenant.name}"
        answer = daemon.call("DELETE", path, None, tenant.key, node=1)
        check_ended(answer, [kicked["session_id"]], "pending")
        for node in (1, 0):
            wait_until(lambda: daemon.validate(kicked["access_token"], node).status == 401, 10,
                       f"node {node} refuses it")
        check_dead(daemon.validate(kicked["access_token"], 0), "kicked")
        assert daemon.is_alive(other["access_token"], 0)
    finally:
        daemon.kill()
        redis.stop()

"""Quotas of one tenant: users, sessions, bytes of a session, and how long they live."""

import time

import pytest

from checks import check_problem
from clocks import DrivenTime
from daemon import ALL_SCOPES, new_key, unique
from parallel import at_once
from redis_servers import wait_until
from tenants import Tenant

@pytest.fixture(scope="module")
def platform(shared):
    return lambda **members: tenant_of(shared, members)


def tenant_of(daemon, members):
    tenant = Tenant(daemon)
    tenant.put(**members)
    return tenant


@pytest.fixture(scope="module")
def driven(workspace):
    with DrivenTime(workspace / "quota") as driven:
        driven.daemon(policy__max_devices=10)
        yield driven


@pytest.fixture
def aging(driven):
    """The same where count_again() ends the time for which the node goes by what it has counted."""
    def make(**members):
        return tenant_of(driven.daemons[0], members)
    make.count_again = lambda: driven.clock.elapse(2)
    return make


def try_login(tenant, user, node=0, **fields):
    return tenant.daemon.try_login(user, tenant.key, node, tenant=tenant.name, **fields)


def refused(answer, words):
    problem = check_problem(answer, 409, "tenant_quota")
    for word in words:
        assert word in problem["detail"], problem
    return problem


def decide(tenant, user, what="freeze", **body):
    return tenant.daemon.call("POST", f"/v1/users/{user}/{what}?tenant={tenant.name}", body, tenant.key)


def kick(tenant, user, session):
    answer = tenant.daemon.call("DELETE", f"/v1/users/{user}/devices/{session}?tenant={tenant.name}", None, tenant.key)
    assert answer.status == 200, answer


def test_a_user_more_than_quota_users_is_refused_with_the_number(platform):
    tenant = platform(quota={"users": 3})
    users = [unique() for _ in range(3)]
    sessions = [tenant.login(user)["session_id"] for user in users]
    refused(try_login(tenant, unique()), ["3 users", '"quota.users"', "allows 3"])
    # Users who are there may log in again; none was logged out for the one who was refused.
    tenant.login(users[0])
    answers = [tenant.daemon.call("GET", f"/v1/users/{user}/devices?tenant={tenant.name}", None, tenant.key).json
               for user in users]
    assert [answer["total"] for answer in answers] == [2, 1, 1]
    # A user who goes makes room, as soon as the node counts again.
    kick(tenant, users[1], sessions[1])
    wait_until(lambda: try_login(tenant, unique()).status == 201, 10, "there is room")
    wait_until(lambda: try_login(tenant, unique()).status == 409, 10, "it is used up again")


def test_a_session_more_than_quota_sessions_is_refused_but_for_one_in_anothers_place(aging):
    tenant = aging(quota={"sessions": 3}, max_devices=2)
    user, other = unique(), unique()
    first = tenant.login(user, device={"id": "d1"})
    tenant.login(user, device={"id": "d2"})
    tenant.login(other, device={"id": "d1"})
    refused(try_login(tenant, unique()), ["3 sessions", '"quota.sessions"', "allows 3"])
    refused(try_login(tenant, other, device={"id": "d2"}), ["3 sessions"])
    # The same device again, and a third one in place of the oldest.
    assert tenant.login(user, device={"id": "d1"})["replaced"][0]["session_id"] == first["session_id"]
    last = tenant.login(user, device={"id": "d3"})
    assert len(last["replaced"]) == 1
    aging.count_again()
    refused(try_login(tenant, unique()), ["3 sessions"])
    kick(tenant, user, last["session_id"])
    wait_until(lambda: try_login(tenant, other, device={"id": "d2"}).status == 201, 10, "there is room")


def test_parallel_logins_at_one_node_do_not_go_beyond_the_quota(platform):
    tenant = platform(quota={"users": 10})
    tenant.login(unique())
    answers = at_once(40, lambda _: try_login(tenant, unique()).status)
    assert answers.count(201) == 9 and answers.count(409) == 31, answers


def test_every_node_knows_what_the_others_have_let_in(platform):
    tenant = platform(quota={"users": 4, "sessions": 4})
    for _ in range(4):
        tenant.login(node=0)
    wait_until(lambda: try_login(tenant, unique(), node=1).status == 409, 10, "node 1 has counted")
    wait_until(lambda: try_login(tenant, unique(), node=2).status == 409, 10, "node 2 has counted")


def test_the_end_of_all_sessions_of_a_user_and_of_the_tenant_makes_room(platform):
    tenant = platform(quota={"sessions": 4})
    user = unique()
    for _ in range(4):
        tenant.login(user)
    refused(try_login(tenant, user), ["4 sessions"])
    answer = tenant.daemon.call("POST", f"/v1/users/{user}/logout-all?tenant={tenant.name}", {}, tenant.key)
    assert answer.status == 200 and answer.json["ended"] == 4, answer
    wait_until(lambda: try_login(tenant, user).status == 201, 10, "there is room")
    for _ in range(3):
        tenant.login(user)
    refused(try_login(tenant, user), ["4 sessions"])
    assert tenant.end_all().status == 200
    wait_until(lambda: try_login(tenant, user).status == 201, 10, "there is room")


def test_another_tenant_s_quota_is_its_own(platform):
    full, other = platform(quota={"users": 1}), platform(quota={"users": 1})
    full.login()
    refused(try_login(full, unique()), ["1 users"])
    other.login()


def test_a_tenant_s_own_key_sets_neither_quotas_nor_limits_but_lives_within_them(start):
    keys = {"platform": (new_key(), ALL_SCOPES, "*"), "own": (new_key(), ALL_SCOPES, "shop")}
    daemon = start(keys=keys)
    platform, own = (Tenant(daemon, "shop", keys[name][0]) for name in ("platform", "own"))
    platform.put(quota={"users": 5, "sessions": 9},
                 limits={"access_ttl": 3600, "refresh_ttl": 86400, "idle_timeout": 900, "absolute_timeout": 43200,
                         "session_bytes": 600})
    for member, body in [("quota.users", {"quota": {"users": 6}}), ("quota.sessions", {"quota": {"sessions": 0}}),
                         ("limits.access_ttl", {"limits": {"access_ttl": 3601}}),
                         ("limits.session_bytes", {"limits": {"session_bytes": 1000}})]:
        problem = check_problem(own.call("PATCH", body), 403, "forbidden")
        assert f'"{member}" belongs to the platform' in problem["detail"], problem
    for name, value in [("access_ttl", 3601), ("refresh_ttl", 86401), ("idle_timeout", 901),
                        ("absolute_timeout", 43201)]:
        for body in ({name: value}, {"roles": {"vip": {name: value}}}, {"device_types": {"tv": {name: value}}}):
            problem = check_problem(own.call("PATCH", body), 400, "body_invalid")
            assert f'must be no longer than "limits.{name}" ({value - 1})' in problem["detail"], problem
    shown = own.get()
    assert (shown["access_ttl"], shown["refresh_ttl"]) == (3600, 86400), "the defaults give way"
    assert (shown["idle_timeout"], shown["absolute_timeout"]) == (900, 43200)
    login = own.login()
    assert login["expires_in"] == 3600 and login["refresh_expires_in"] <= 43200, login
    assert own.call("PUT", {**shown, "idle_timeout": 60}).status == 200


@pytest.mark.parametrize("fields, name", [
    ({"attributes": {"a": "x" * 500}}, "attributes"),
    ({"roles": [f"role-{n:020}" for n in range(30)]}, "roles"),
    ({"device": {"id": "d", "name": "n" * 128, "type": "t" * 60}, "roles": ["r" * 60, "q" * 100, "s" * 120],
      "attributes": {"a": "y" * 150}}, "roles")])
def test_a_session_that_holds_too_much_is_refused_and_the_member_named(platform, fields, name):
    tenant = platform(limits={"session_bytes": 480})
    problem = check_problem(try_login(tenant, unique(), **fields), 400, "body_invalid")
    assert problem["detail"].startswith(f'"{name}" takes ') and '"limits.session_bytes"' in problem["detail"], problem
    assert "is 480" in problem["detail"]


def test_attributes_that_grow_beyond_the_limit_of_a_session_are_refused(platform):
    tenant = platform(limits={"session_bytes": 480})
    token = tenant.login(attributes={"a": "x" * 300})["access_token"]
    call = tenant.daemon.call
    answer = call("PATCH", "/v1/session/attributes", {"b": "y" * 200}, token,
                  {"Content-Type": "application/merge-patch+json"})
    problem = check_problem(answer, 413, "too_large")
    assert '"attributes"' in problem["detail"] and "is 480" in problem["detail"], problem
    assert call("GET", "/v1/session/attributes", None, token).json == {"a": "x" * 300}


def test_freezes_of_made_up_users_count_as_users_until_they_are_lifted(platform):
    tenant = platform(quota={"users": 3})
    users = [unique() for _ in range(3)]
    assert [decide(tenant, user).status for user in users] == [200] * 3
    refused(decide(tenant, unique()), ["3 users", "frozen", '"quota.users"', "allows 3"])
    refused(try_login(tenant, unique()), ["3 users"])
    # A frozen user may be frozen again, for as long as is said then.
    assert decide(tenant, users[0], reason="fraud", until=int(time.time()) + 3600).status == 200
    assert decide(tenant, users[1], "unfreeze").status == 200
    wait_until(lambda: decide(tenant, unique()).status == 200, 10, "there is room")
    wait_until(lambda: decide(tenant, unique()).status == 409, 10, "it is used up again")


def test_a_user_with_a_session_can_always_be_frozen_and_keeps_his_place(aging):
    tenant = aging(quota={"users": 3})
    users = [unique() for _ in range(3)]
    for user in users:
        tenant.login(user)
    refused(decide(tenant, unique()), ["3 users"])
    for user in users:
        assert decide(tenant, user).json["ended"] == 1
    aging.count_again()
    refused(decide(tenant, unique()), ["3 users"])
    refused(try_login(tenant, unique()), ["3 users"])
    assert decide(tenant, users[0], "unfreeze").status == 200
    wait_until(lambda: try_login(tenant, users[0]).status == 201, 10, "there is room")
    aging.count_again()
    refused(try_login(tenant, unique()), ["3 users"])


def test_freezes_that_are_lifted_do_not_pile_up_beyond_as_many_again(platform):
    tenant = platform(quota={"users": 4})
    users = []

    def is_full():
        users.append(unique())
        frozen = decide(tenant, users[-1])
        if frozen.status == 200:
            assert decide(tenant, users[-1], "unfreeze").status == 200
        return frozen.status == 409 and "lifted" in frozen.json["detail"]
    wait_until(is_full, 15, "as many are remembered as the quota allows")
    refused(decide(tenant, unique()), ["lifted", "within a year", '"quota.users"', "allows 4"])
    refused(decide(tenant, unique(), "unfreeze"), ["lifted"])
    # Neither those who are remembered nor who has a session is kept from being frozen.
    assert decide(tenant, users[0]).status == 200
    user = unique()
    tenant.login(user)
    assert decide(tenant, user).json["ended"] == 1


def test_a_freeze_that_runs_out_is_remembered_but_takes_nobodys_place(platform):
    tenant = platform(quota={"users": 1})
    until = [0]

    def is_frozen():
        until[0] = int(time.time()) + 3
        return decide(tenant, unique(), until=until[0]).status == 200
    wait_until(is_frozen, 15, "it is asked before it is over")
    answer = try_login(tenant, unique())
    if time.time() < until[0]:
        refused(answer, ["1 users"])
    wait_until(lambda: try_login(tenant, unique()).status == 201, 15, "it ran out")


def test_a_login_that_waits_for_a_second_verification_counts_as_a_session(aging):
    tenant = aging(quota={"sessions": 3}, verify={"on": ["new_device"], "method": "otp"})
    waiting = [check_problem(try_login(tenant, unique(), device={"id": "d"}), 403, "verification_required")
               for _ in range(3)]
    aging.count_again()
    refused(try_login(tenant, unique(), device={"id": "d"}), ["3 sessions", "additional verification", "allows 3"])
    for problem in waiting:
        body = {"challenge_id": problem["challenge_id"], "code": problem["otp"]}
        answer = tenant.daemon.call("POST", f"/v1/login/verify?tenant={tenant.name}", body, tenant.key)
        assert answer.status == 201, "it has its place"
    aging.count_again()
    problem = refused(try_login(tenant, unique(), device={"id": "d"}), ["3 sessions"])
    end = tenant.daemon.call("POST", "/v1/logout", None, answer.json["access_token"])
    assert end.status == 200, problem
    wait_until(lambda: try_login(tenant, unique(), device={"id": "d"}).status == 403, 10, "the challenge is gone")


def test_one_user_alone_does_not_fill_the_quota_with_verifications(platform):
    """Though the sessions would come in the place of one that is there."""
    tenant = platform(quota={"sessions": 4}, verify={"on": ["new_location"], "method": "otp"})
    user = unique()
    tenant.login(user, device={"id": "d"}, second_factor=True)
    statuses = [try_login(tenant, user, device={"id": "d"}, ip=f"192.0.{n}.1").status for n in range(6)]
    assert statuses == [403] * 3 + [409] * 3, statuses


def test_refusals_are_counted_and_tell_an_alert_once(start):
    daemon = start()
    tenant, other = Tenant(daemon), Tenant(daemon)
    tenant.put(quota={"users": 1})
    other.put(quota={"sessions": 1})
    tenant.login()
    other.login()
    for _ in range(3):
        refused(try_login(tenant, unique()), ["1 users"])
    refused(decide(tenant, unique()), ["1 users"])
    refused(try_login(other, unique()), ["1 sessions"])
    assert daemon.node.metric("sessiond_quota_users_refused_total") == 4
    assert daemon.node.metric("sessiond_quota_sessions_refused_total") == 1
    # One at once for each tenant; what came meanwhile would follow when the minute is over.
    wait_until(lambda: len(alerts(daemon)) == 2, 10, "the alerts are told")
    first, second = alerts(daemon)
    assert (first["organization.id"], second["organization.id"]) == (tenant.name, other.name)
    assert "1 users" in first["event.reason"] and "quota.sessions" in second["event.reason"]


def alerts(daemon):
    return [line for line in daemon.node.audit_lines() if line.get("rule.name") == "tenant_quota"]


def test_a_tenant_without_a_quota_is_not_counted(platform, cluster):
    tenant = platform()
    cluster.reset_statistics()
    tenant.login()
    assert decide(tenant, unique()).status == 200
    assert "zcount" not in cluster.command_counts()
    tenant.put(quota={"users": 5})
    assert decide(tenant, tenant.login()["user_id"]).status == 200
    assert cluster.command_counts()["zcount"] >= 17
    kinds = {key[:4] for node in cluster.each_master(lambda node: node.keys()) for key in node}
    assert {b"sd:f", b"sd:i"} <= kinds

"""The audit line of an ended token names its tenant and user, and nothing else does."""

from urllib.parse import quote

import pytest

from checks import check_ended, first_refusal
from daemon import ADMIN, Daemon, unique
from faults import kill_9
from redis_servers import Cluster, wait_until

HERE, ELSEWHERE = 0, 1  # the sessions are ended through the first node; the other learns of it


def kick(daemon, login, node=HERE):
    check_ended(daemon.kick(quote(login["user_id"]), login["session_id"], ADMIN, node,
                            f"?tenant={login['tenant']}"), [login["session_id"]], durability=None)


def kick_elsewhere(daemon, login):
    kick(daemon, login, ELSEWHERE)


def end(daemon, login, path, key, body=None):
    answer = daemon.call("POST", path.format(user=quote(login["user_id"]), **login), {} if body is None else body, key)
    assert answer.status in (200, 202, 204), answer


def log_out(daemon, login):
    end(daemon, login, "/v1/logout", login["access_token"])


def log_out_all(daemon, login):
    end(daemon, login, "/v1/users/{user}/logout-all?tenant={tenant}", ADMIN)


def log_out_all_of_own(daemon, login):
    end(daemon, login, "/v1/logout-all", login["access_token"])


def log_out_tenant(daemon, login):
    end(daemon, login, "/v1/tenants/{tenant}/logout-all", ADMIN)


def freeze(daemon, login):
    end(daemon, login, "/v1/users/{user}/freeze?tenant={tenant}", ADMIN, {"reason": "fraud"})


def log_in_again(daemon, login):
    daemon.login(login["user_id"], key=ADMIN, tenant=login["tenant"], device={"id": "phone"})


def use_refresh_token_twice(daemon, login):
    assert daemon.refresh(login["refresh_token"]).status == 200
    assert first_refusal(lambda: daemon.refresh(login["refresh_token"]), 5, "the grace is over").status == 401


WAYS = [kick, kick_elsewhere, log_out, log_out_all, log_out_all_of_own, freeze, log_in_again,
        log_out_tenant, use_refresh_token_twice]


def log_in(daemon):
    return daemon.login(unique("dead\"é"), key=ADMIN, tenant=unique("tenant"),
                        device={"id": "phone"})


def line_of(daemon, node, call):
    name = unique("names")
    answer = call({"X-Request-Id": name})
    assert answer.status == 401, answer
    return answer, daemon.nodes[node].audit_of(name)


def check_named(daemon, node, login):
    calls = [
        lambda headers: daemon.validate(login["access_token"], node, headers),
        lambda headers: daemon.call("POST", "/v1/refresh", {"refresh_token": login["refresh_token"]},
                                    None, headers, node),
        lambda headers: daemon.call("GET", "/v1/devices", None, login["access_token"], headers, node),
        lambda headers: daemon.call("GET", "/v1/session/attributes", None,
                                    login["access_token"], headers, node),
    ]
    for call in calls:
        answer, line = line_of(daemon, node, call)
        found = {name: line.get(name) for name in ("organization.id", "user.id",
                                                   "sessiond.session_id")}
        assert found == {"organization.id": login["tenant"], "user.id": login["user_id"],
                         "sessiond.session_id": login["session_id"]}, (node, line)
        assert login["user_id"] not in answer.body.decode(), "only the audit line tells"
        assert login["tenant"] not in answer.body.decode()


def check_named_everywhere(daemon, login):
    for node in (HERE, ELSEWHERE):
        wait_until(lambda: not daemon.is_alive(login["access_token"], node), 5, "the node has heard")
    for node in (HERE, ELSEWHERE):
        check_named(daemon, node, login)


@pytest.fixture(scope="module")
def daemon(workspace, cluster):
    nodes = Daemon(workspace / "names", cluster, count=2, policy__max_devices=10,
                   policy__refresh_grace="1s")
    try:
        yield nodes.start()
        nodes.stop()
    finally:
        nodes.kill()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_session_that_every_node_has_seen(daemon, way):
    login = log_in(daemon)
    for node in (HERE, ELSEWHERE):
        assert daemon.is_alive(login["access_token"], node)
    way(daemon, login)
    check_named_everywhere(daemon, login)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_session_that_no_node_has_seen_since_its_login(daemon, way):
    login = log_in(daemon)
    way(daemon, login)
    check_named_everywhere(daemon, login)


def test_a_node_without_memory_is_told_by_redis(start):
    """The journal, the tenant or a tombstone ended the session: no record is left."""
    daemon = start(cache__bytes=0, cache__snapshot="")
    for way in (kick, log_out_tenant, freeze):
        login = log_in(daemon)
        way(daemon, login)
        check_named(daemon, HERE, login)


def test_a_session_whose_time_is_over(start):
    daemon = start(count=2, policy__idle_timeout="10s")
    logins = [log_in(daemon) for _ in range(2)]
    assert daemon.is_alive(logins[0]["access_token"], HERE)
    for login in logins:
        wait_until(lambda: daemon.check(login["access_token"], ADMIN, touch=False).json["active"] is False,
                   30, "idle")
        check_named_everywhere(daemon, login)


def test_a_revocation_while_redis_is_away(tmp_path):
    """Named by the session that memory has, or by the call that ended it; after Redis is back by
    what is there."""
    cluster = Cluster(tmp_path / "cluster")
    daemon = Daemon(tmp_path / "daemon", cluster, 2, policy__max_devices=10)
    try:
        cluster.start()
        daemon.start()
        ways = [kick, log_out, log_out_all, freeze]
        seen = [log_in(daemon) for _ in ways]
        unseen = [log_in(daemon) for _ in (kick, log_out_all, freeze)]
        for login in seen:
            for node in (HERE, ELSEWHERE):
                assert daemon.is_alive(login["access_token"], node)
        for port in cluster.ports:
            kill_9(port)
        wait_until(lambda: daemon.validate(seen[0]["access_token"]).json.get("stale"), 3, "stale")
        for way, login in zip(ways, seen):
            way(daemon, login)
            check_named(daemon, HERE, login)
        for way, login in zip((kick, log_out_all, freeze), unseen):
            way(daemon, login)
            check_named(daemon, HERE, login)
        cluster.start()
        for login in seen + unseen:
            check_named_everywhere(daemon, login)
        daemon.stop()
    finally:
        daemon.kill()
        cluster.stop()

"""The commands that a call costs Redis, and the calls that cost none."""

from daemon import SERVICE, unique
from redis_view import commands, quiet
from tokens import MALFORMED, flip_bit, never_issued



def test_tokens_never_issued_or_altered_cause_no_command(start, cluster, shared):
    daemon = start()
    login = daemon.login()
    foreign = shared.login()
    access, refresh = login["access_token"], login["refresh_token"]
    assert daemon.is_alive(access)
    shared_before = quiet(cluster, daemon, shared)
    cluster.reset_statistics()
    for bit in range(0, 360):
        assert daemon.validate(flip_bit(access, bit)).status == 401
    for bit in range(0, 360, 9):
        assert daemon.refresh(flip_bit(refresh, bit)).status == 401
        assert daemon.check(flip_bit(access, bit)).json["active"] is False
    for _ in range(50):
        made_up = never_issued()
        assert daemon.validate(made_up).status == 401
        assert daemon.check(made_up).json["reason"] == "unknown"
        assert daemon.call("GET", "/v1/devices", None, made_up).status == 401
        assert daemon.call("POST", "/v1/logout", None, made_up).status == 200
        assert daemon.call("POST", "/v1/logout-all", {}, made_up).status == 401
        assert daemon.refresh(never_issued("sr_")).status == 401
    for token in MALFORMED:
        assert daemon.check(token).json["reason"] == "malformed"
    assert daemon.validate(foreign["access_token"]).status == 401
    assert daemon.validate("sa_" + refresh[3:]).status == 401
    assert commands(cluster) == {}
    assert shared_before, "the commands before were counted"
    assert daemon.node.metric("sessiond_tokens_rejected_total") >= 500


def test_refused_requests_cause_no_command(start, cluster):
    daemon = start()
    daemon.login()
    quiet(cluster, daemon)
    cluster.reset_statistics()
    for _ in range(20):
        daemon.try_login(unique(), key="sk_" + "A" * 43)
        daemon.call("POST", "/v1/login", b"{", SERVICE)
        daemon.call("GET", "/v1/nothing", None, SERVICE)
        daemon.call("PUT", "/v1/login", None, SERVICE)
        daemon.call("GET", "/v1/validate")
    assert commands(cluster) == {}


def test_a_validation_costs_one_read_and_touches_are_coalesced(start, cluster):
    daemon = start()
    token = daemon.login()["access_token"]
    daemon.is_alive(token)
    quiet(cluster, daemon)
    cluster.reset_statistics()
    for _ in range(50):
        assert daemon.is_alive(token)
    counts = quiet(cluster, daemon)
    reads = sum(count for name, count in counts.items() if name in ("hmget", "hget", "hgetall"))
    assert reads <= 50, counts
    writes = counts.get("evalsha", 0) + counts.get("eval", 0) + counts.get("hset", 0)
    assert writes <= 2, counts


def test_no_call_scans(start, cluster):
    daemon = start()
    cluster.reset_statistics()
    user = unique()
    login = daemon.login(user)
    daemon.devices(user)
    daemon.call("GET", f"/v1/users/{user}", None, SERVICE)
    daemon.refresh(login["refresh_token"])
    daemon.kick(user, login["session_id"])
    daemon.call("POST", f"/v1/users/{user}/logout-all", {}, SERVICE)
    counts = cluster.command_counts()
    for name in ("scan", "keys", "hscan", "zscan", "smembers", "mget", "mset"):
        assert name not in counts, counts

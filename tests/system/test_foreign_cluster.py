"""The addresses of a Redis Cluster come to belong to another one: nothing there is believed."""

import json

import pytest

from client import Redis, key_slot
from daemon import Daemon, unique
from faults import TIMES
from redis_servers import Cluster, ProxiedCluster, wait_until

SESSIONS = 30


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    """The right one, behind proxies, and another one."""
    home = tmp_path_factory.mktemp("clusters")
    right, other = ProxiedCluster(home / "right"), Cluster(home / "other")
    try:
        yield right.start(), other.start()
    finally:
        right.stop()
        other.stop()


def lead_to(right, target, ports=None):
    """From now on `target` answers at the addresses of the right cluster (of these nodes)."""
    for here, there in zip(right.ports, target.ports):
        if ports is None or here in ports:
            right.proxies[here].target = there
            for kind in ("client", "watch"):
                right.proxies[here].cut_now(kind)


@pytest.fixture
def daemon(clusters, tmp_path):
    right, other = clusters
    other.each_master(lambda node: node.call("FLUSHALL"))
    daemon = Daemon(tmp_path / "daemon", right, 2, outage__grace="1h", redis__map_refresh="1s",
                    **TIMES)
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()
        lead_to(right, right)


def state(daemon):
    answer = daemon.node.ops.call("GET", "/readyz")
    return answer.status, json.loads(answer.body)


def log_in(daemon):
    """Sessions that node 0 has in memory and node 1 has never seen."""
    sessions = [daemon.login(unique()) for _ in range(SESSIONS)]
    for session in sessions:
        assert daemon.validate(session["access_token"]).status == 200
    return sessions


def wait_until_well(daemon, sessions):
    def well():
        answers = [daemon.validate(s["access_token"], node=node)
                   for s in sessions for node in range(2)]
        assert not [a for a in answers if a.status == 401], answers
        return all(a.status == 200 and not a.json["stale"] for a in answers)
    wait_until(well, 20, "every session is known to live")
    wait_until(lambda: daemon.try_login(unique()).status == 201, 20, "logins work")


def is_told(daemon, words):
    status, body = state(daemon)
    assert status == 200, body
    return body["checks"]["store"] == "warn" and words in body["why"]["store"]


def keys_of(cluster):
    return sum(cluster.each_master(lambda node: len(node.keys())))


def test_a_cluster_in_the_place_of_ours_is_not_believed(daemon, clusters):
    right, other = clusters
    sessions = log_in(daemon)
    lead_to(right, other)
    seen = []

    def all_is_said():
        for session in sessions:
            seen.append(daemon.validate(session["access_token"]))
            seen.append(daemon.validate(session["access_token"], node=1))
        assert daemon.try_login(unique()).status == 503
        return is_told(daemon, "answers for another Redis Cluster")
    wait_until(all_is_said, 20, "/readyz says that the cluster is another one")
    for _ in range(3):
        all_is_said()
    assert {answer.status for answer in seen} == {200, 503}, seen
    assert keys_of(other) == 0
    assert daemon.node.metric("sessiond_store_maps_foreign_total") > 0
    told = daemon.node.log_text().count(" store_foreign ")
    assert 1 <= told <= 2 * len(right.ports), "once a server, and again if it says another thing"
    in_memory = daemon.validate(sessions[0]["access_token"])
    assert in_memory.status == 200 and in_memory.json["stale"], in_memory

    lead_to(right, right)
    wait_until_well(daemon, sessions)
    wait_until(lambda: state(daemon)[1]["checks"]["store"] == "pass", 40, "all is well")
    assert keys_of(other) == 0


def test_a_single_server_of_another_cluster_gets_no_calls(daemon, clusters):
    right, other = clusters
    sessions = log_in(daemon)
    master = next(iter(right.shards()))
    lead_to(right, other, [master])
    seen = []

    def some_are_unknown():
        seen.extend(daemon.validate(s["access_token"], node=1) for s in sessions)
        return any(answer.status == 503 for answer in seen[-SESSIONS:])
    wait_until(some_are_unknown, 10, "some sessions cannot be read")
    for _ in range(5):
        some_are_unknown()
        daemon.try_login(unique())
    assert {answer.status for answer in seen} <= {200, 503}, seen
    assert is_told(daemon, "is another node of Redis Cluster") and keys_of(other) == 0
    lead_to(right, right)
    wait_until_well(daemon, sessions)


def test_a_copy_of_our_cluster_is_taken_over(daemon, clusters):
    right, other = clusters
    sessions = log_in(daemon)
    owners = {slot: Redis(other.owner(slot)[0]) for slot in (0, 8000, 16000)}

    def owner(key):
        slot = key_slot(key)
        return owners[0 if slot < 5461 else 8000 if slot < 10923 else 16000]

    def copy(node):
        for key in node.keys():
            value = node.call("DUMP", key)
            ttl = max(node.call("PTTL", key), 0)
            owner(key).call("RESTORE", key, ttl, value, "REPLACE")
    right.each_master(copy)
    lead_to(right, other)
    wait_until_well(daemon, sessions)
    user = unique()
    daemon.login(user)
    assert any(user_keys for user_keys in other.each_master(lambda node: node.keys()))
    assert " store_map_changed " in daemon.node.log_text()

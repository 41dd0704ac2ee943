"""Device lists from replicas of the own zone; everything else from masters."""

import os
import signal

import pytest

from bounds import at_most
from checks import check_dead, check_ended
from client import Redis
from daemon import unique
from machine import clock
from redis_servers import SLOW, process_id, wait_until

USERS = 30


def replicas(cluster):
    found = []
    for port in cluster.ports:
        with Redis(port) as node:
            if node.info("replication")["role"] == "slave":
                found.append(port)
    assert len(found) == 3, found
    return found


def forget_counts(cluster):
    for port in cluster.ports:
        with Redis(port) as node:
            node.call("CONFIG", "RESETSTAT")


def counts(ports):
    total = {}
    for port in ports:
        with Redis(port) as node:
            for name, count in node.command_counts().items():
                total[name] = total.get(name, 0) + count
    return total


def masters(cluster):
    return [port for port in cluster.ports if port not in replicas(cluster)]


def lists_replicas(port):
    with Redis(port) as node:
        return all(len(entry) > 3 for entry in node.call("CLUSTER", "SLOTS"))


@pytest.fixture
def near(start, cluster):
    """CLUSTER SLOTS leaves out replicas that have received nothing yet; masters ping them every 10 s."""
    wait_until(lambda: all(map(lists_replicas, cluster.ports)), 30, "the replicas are in the map")
    return start(redis__near_replicas="127.0.0.0/8")


def test_lists_come_from_replicas_and_nothing_else_does(near, cluster):
    users = [unique() for _ in range(USERS)]
    logins = {user: [near.login(user, device={"id": f"d{n}"}) for n in range(2)] for user in users}
    assert near.devices(users[0])["total"] == 2
    forget_counts(cluster)
    for user in users:
        listed = {device["session_id"] for device in near.devices(user)["devices"]}
        assert listed == {login["session_id"] for login in logins[user]}
    asked = replicas(cluster)
    assert counts(asked).get("hgetall", 0) == USERS, counts(asked)
    assert counts(masters(cluster)).get("hgetall", 0) == 0
    assert counts(asked).get("readonly", 0) <= 3
    for user in users:
        kept, kicked = logins[user]
        assert near.is_alive(kept["access_token"])
        assert near.refresh(kept["refresh_token"]).status == 200
        check_ended(near.kick(user, kicked["session_id"]), [kicked["session_id"]])
        check_dead(near.validate(kicked["access_token"]), "kicked", "service")
    served = counts(asked)
    assert served["hgetall"] == USERS, served
    # Redis replicates the commands in scripts, never scripts or reads.
    for name in ("hmget", "hget", "get", "eval", "evalsha"):
        assert name not in served, served


def test_without_the_option_replicas_are_not_asked(start, cluster):
    daemon = start()
    user = unique()
    daemon.login(user)
    forget_counts(cluster)
    for _ in range(5):
        assert daemon.devices(user)["total"] == 1
    assert "hgetall" not in counts(replicas(cluster))
    assert "readonly" not in counts(replicas(cluster))


def test_replicas_of_another_zone_are_not_asked(start, cluster):
    daemon = start(redis__near_replicas="10.0.0.0/8 ::1")
    user = unique()
    daemon.login(user)
    forget_counts(cluster)
    assert daemon.devices(user)["total"] == 1
    assert "hgetall" not in counts(replicas(cluster))


def test_a_reload_takes_the_networks_over(start, cluster):
    daemon = start()
    user = unique()
    daemon.login(user)
    forget_counts(cluster)
    daemon.node.write_config(redis__near_replicas="127.0.0.1")
    daemon.node.signal(signal.SIGHUP)

    def asked():
        assert daemon.devices(user)["total"] == 1
        return counts(replicas(cluster)).get("hgetall", 0) > 0
    wait_until(asked, 5, "a list from a replica")


def test_frozen_replicas_cost_a_part_of_the_time(near, cluster):
    users = [unique() for _ in range(6)]
    for user in users:
        near.login(user)
        assert near.devices(user)["total"] == 1
    frozen = [process_id(port) for port in replicas(cluster)]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        for user in users:
            began = clock()
            assert near.devices(user)["total"] == 1
            at_most(clock() - began, 0.4 * SLOW, "a list with frozen replicas")
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    wait_until(cluster.is_whole, 20, "the cluster is whole")


def test_lists_work_with_every_replica_dead(start, cluster):
    # Redis leaves dead replicas out of the map: the next one that is fetched has them again.
    near = start(redis__near_replicas="127.0.0.0/8", redis__map_refresh="1s")
    users = [unique() for _ in range(6)]
    for user in users:
        near.login(user)
        assert near.devices(user)["total"] == 1
    try:
        for port in replicas(cluster):
            os.kill(process_id(port), signal.SIGKILL)
        for user in users:
            began = clock()
            assert near.devices(user)["total"] == 1
            at_most(clock() - began, 0.4 * SLOW, "a list with dead replicas")
    finally:
        cluster.start()
        wait_until(cluster.is_whole, 30, "the cluster is whole")
    forget_counts(cluster)

    def asked():
        for user in users:
            assert near.devices(user)["total"] == 1
        return counts(replicas(cluster)).get("hgetall", 0) > 0
    wait_until(asked, 10, "lists from replicas again")

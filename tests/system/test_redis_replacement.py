"""Redis is replaced under the service that runs: node by node, emptied, or created again as a whole."""

import contextlib
import json
import shutil
import subprocess
import time

import pytest

from client import Redis, RedisError
from daemon import Daemon, unique
from faults import TIMES
from redis_servers import ROOT, Cluster, wait_until

GONE = (OSError, ConnectionError, RedisError)


@pytest.fixture
def cluster(tmp_path):
    servers = Cluster(tmp_path / "cluster")
    try:
        yield servers.start()
    finally:
        servers.stop()


@pytest.fixture
def daemon(cluster, tmp_path):
    daemon = Daemon(tmp_path / "daemon", cluster, 2, outage__grace="1h", redis__map_refresh="1s",
                    **TIMES)
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


def tell(port, *words):
    with Redis(port) as node:
        return node.call(*words)


def replication(port):
    with Redis(port) as node:
        return node.info("replication")


def ids_of(cluster):
    return {tell(port, "CLUSTER", "MYID") for port in cluster.ports}


def answers(port):
    try:
        return tell(port, "PING") == "PONG"
    except GONE:
        return False


def end_process(port):
    with contextlib.suppress(*GONE):
        tell(port, "SHUTDOWN", "NOSAVE", "NOW")
    wait_until(lambda: not answers(port), 10, "the old node has gone")


def start_empty(cluster, port):
    """A new node, unknown to all, at the address of one that has gone."""
    home = cluster.directory / f"node-{cluster.ports.index(port) + 1}"
    shutil.rmtree(home)
    home.mkdir()
    subprocess.run(["redis-server", str(ROOT / "conf" / "redis.conf"), "--port", str(port), "--dir",
                    str(home), "--daemonize", "yes", "--pidfile", str(home / "redis.pid"),
                    "--logfile", str(home / "redis.log"), "--shutdown-timeout", "0"],
                   check=True, stdout=subprocess.DEVNULL)
    wait_until(lambda: answers(port), 10, "the new node answers")


def hand_over(port):
    """A master becomes a replica. The other masters may refuse the first attempt."""
    heir = int(replication(port)["slave0"].split("port=")[1].split(",")[0])
    asked = [0]

    def is_replica():
        if time.monotonic() - asked[0] > 6:
            asked[0] = time.monotonic()
            with contextlib.suppress(RedisError):
                tell(heir, "CLUSTER", "FAILOVER")
        return replication(port)["role"] == "slave"
    wait_until(is_replica, 60, "the master has handed over")


def replace(cluster, port):
    if replication(port)["role"] == "master":
        hand_over(port)
    master = replication(port)["master_port"]
    old, its_master = tell(port, "CLUSTER", "MYID"), tell(int(master), "CLUSTER", "MYID")
    end_process(port)
    for other in cluster.ports:
        if other != port:
            with contextlib.suppress(RedisError):  # the others have introduced it
                tell(other, "CLUSTER", "FORGET", old.decode())
    start_empty(cluster, port)
    tell(port, "CLUSTER", "MEET", "127.0.0.1", master)

    def replicates():
        with contextlib.suppress(RedisError):
            return tell(port, "CLUSTER", "REPLICATE", its_master.decode()) == "OK"
    wait_until(replicates, 20, "the new node knows its master")
    wait_until(cluster.is_whole, 40, "the cluster is whole")


def rebuild(cluster):
    for port in cluster.ports:
        end_process(port)
    for port in cluster.ports:
        start_empty(cluster, port)
    subprocess.run(["redis-cli", "--cluster", "create", *cluster.nodes(), "--cluster-replicas", "1",
                    "--cluster-yes"], check=True, stdout=subprocess.DEVNULL)
    wait_until(cluster.is_whole, 40, "the cluster is whole")


def all_log_in(daemon, nodes=(0, 1)):
    return all(daemon.try_login(unique(), node=node).status == 201
               for node in nodes for _ in range(10))


def is_told(daemon, node, words):
    body = json.loads(daemon.nodes[node].ops.call("GET", "/readyz").body)
    return words in body["why"].get("store", "")


def test_every_node_of_redis_is_replaced_in_its_place(daemon, cluster):
    sessions = [daemon.login() for _ in range(20)]
    before = ids_of(cluster)
    for port in cluster.ports:
        replace(cluster, port)
        seen = [daemon.validate(session["access_token"], node=node).status
                for session in sessions for node in range(2)]
        assert set(seen) <= {200, 503}, (port, seen)
        wait_until(lambda: all_log_in(daemon), 20, "logins work")
    assert not before & ids_of(cluster)
    for session in sessions:
        wait_until(lambda s=session: [daemon.validate(s["access_token"], node=node).status
                                      for node in range(2)] == [200, 200], 10, "all live")
    for node in range(2):
        wait_until(lambda n=node: not is_told(daemon, n, "another"), 40, "all is well")


def test_an_emptied_redis_is_used_at_once(daemon, cluster):
    session = daemon.login()
    cluster.each_master(lambda node: node.call("FLUSHALL"))
    wait_until(lambda: all_log_in(daemon), 20, "logins work")
    for node in range(2):
        wait_until(lambda n=node: not daemon.is_alive(session["access_token"], n), 10, "it is gone")


def test_a_redis_that_was_made_anew_says_that_nodes_are_to_be_restarted(daemon, cluster):
    daemon.login()
    rebuild(cluster)
    for node in range(2):
        wait_until(lambda n=node: is_told(daemon, n, "restart all nodes"), 60, "it says so")
        assert daemon.try_login(unique(), node=node).status == 503
    for node in daemon.nodes:
        node.stop()
        node.start()
    wait_until(lambda: all_log_in(daemon), 20, "logins work")

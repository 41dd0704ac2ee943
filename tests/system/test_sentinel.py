"""Sentinel mode: one master, one replica, three sentinels; the master dies, and its successor serves."""

import json
import os
import signal
import subprocess
import time

import pytest

from checks import check_dead, check_ended
from client import Redis, RedisError
from daemon import SERVICE, unique
from redis_servers import free_port, process_id, wait_until

SENTINELS = 3
PASSWORD = "of-the-sentinels"


class SentinelGroup:
    """Processes in directories of their own; `nodes` are the sentinels, for redis.nodes."""

    def __init__(self, directory):
        self.directory = directory
        self.servers = [free_port(), free_port()]
        self.sentinels = [free_port() for _ in range(SENTINELS)]
        self.processes = {}

    def nodes(self):
        return [f"127.0.0.1:{port}" for port in self.sentinels]

    def spawn(self, port, lines, *flags):
        home = self.directory / str(port)
        home.mkdir(parents=True, exist_ok=True)
        config = home / "redis.conf"
        if not config.exists():
            common = [f"port {port}", "bind 127.0.0.1", f"dir {home}", f"logfile {home}/redis.log"]
            config.write_text("\n".join(common + lines) + "\n")
        self.processes[port] = subprocess.Popen(["redis-server", str(config), *flags],
                                                stdout=subprocess.DEVNULL)

    def start_server(self, port, master=None):
        lines = ["save \"\"", "appendonly yes", "repl-diskless-sync-delay 0",
                 "repl-ping-replica-period 1"]
        self.spawn(port, lines + ([f"replicaof 127.0.0.1 {master}"] if master else []))
        wait_until(lambda: self.answers(port), 10, f"redis on {port} answers")

    def answers(self, port, password=None):
        try:
            with Redis(port, password) as node:
                return node.call("PING") == "PONG"
        except (OSError, RedisError):
            return False

    def start(self):
        first, second = self.servers
        self.start_server(first)
        self.start_server(second, first)
        wait_until(lambda: self.info(second).get("master_link_status") == "up", 10, "in step")
        for port in self.sentinels:
            self.start_sentinel(port, first)
        wait_until(self.is_known, 20, "the sentinels know each other and the replica")
        return self

    def start_sentinel(self, port, master):
        self.spawn(port, [f"requirepass {PASSWORD}", f"sentinel sentinel-pass {PASSWORD}",
                          f"sentinel monitor mymaster 127.0.0.1 {master} 2",
                          "sentinel down-after-milliseconds mymaster 600",
                          "sentinel failover-timeout mymaster 3000"], "--sentinel")

    def start_stale(self):
        """A sentinel of another master, which serves as well; the ports of both."""
        sentinel, master = free_port(), free_port()
        self.start_server(master)
        self.start_sentinel(sentinel, master)
        wait_until(lambda: self.answers(sentinel, PASSWORD), 10, "the stale sentinel answers")
        return sentinel, master

    def info(self, port):
        with Redis(port) as node:
            return node.info("replication")

    def is_known(self):
        """Every sentinel sees the two others and the replica."""
        for port in self.sentinels:
            try:
                with Redis(port, PASSWORD) as sentinel:
                    row = sentinel.call("SENTINEL", "MASTER", "mymaster")
            except (OSError, RedisError):
                return False
            facts = {text(row[i]): text(row[i + 1]) for i in range(0, len(row), 2)}
            if facts["num-other-sentinels"] != "2" or facts["num-slaves"] != "1":
                return False
        return True

    def master(self):
        """The port that says of itself that it is the master."""
        return next(port for port in self.servers if self.role(port) == "master")

    def role(self, port):
        try:
            return self.info(port)["role"]
        except (OSError, RedisError):
            return None

    def kill(self, port):
        self.processes[port].kill()
        self.processes[port].wait()

    def stop(self):
        for process in self.processes.values():
            process.kill()
            process.wait()


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


@pytest.fixture
def group(tmp_path):
    servers = SentinelGroup(tmp_path / "sentinel")
    try:
        yield servers.start()
    finally:
        servers.stop()


def in_sentinel_mode(directory):
    password = directory / "sentinel-password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)
    return dict(redis__mode="sentinel", outage__grace="1h",
                redis__sentinel_password_file=str(password))


@pytest.fixture
def daemon(group, start, tmp_path):
    return start(redis=group, count=2, **in_sentinel_mode(tmp_path))


def node_states(node):
    """{port: breaker, watched} of the servers in the map."""
    body = json.loads(node.ops.call("GET", "/readyz").body)
    return {entry["node"].rsplit(":", 1)[1]: entry for entry in body["store"]["nodes"]}


def wait_for_master(daemon, port, seconds=20):
    """Both nodes of the daemon use this server and hear of its changes."""
    for node in daemon.nodes:
        def follows():
            states = node_states(node)
            return list(states) == [str(port)] and states[str(port)]["watched"]
        wait_until(follows, seconds, f"the node follows the master on {port}")


def wait_for_login(daemon, user, seconds=20):
    def login():
        answer = daemon.call("POST", "/v1/login", {"user_id": user}, SERVICE)
        assert answer.status in (200, 201, 503), answer
        return answer.status != 503 and answer.json
    return wait_until(login, seconds, "logins work again")


def test_the_successor_of_a_dead_master_serves_and_the_kicked_stay_dead(daemon, group):
    user = unique()
    kept, kicked = daemon.login(user), daemon.login(user)
    first = group.master()
    wait_for_master(daemon, first)
    assert daemon.validate(kept["access_token"]).status == 200
    ended = daemon.call("DELETE", f"/v1/users/{user}/devices/{kicked['session_id']}", None, SERVICE)
    check_ended(ended, [kicked["session_id"]])
    check_dead(daemon.validate(kicked["access_token"]), "kicked", "service")
    # The kick was heard, and the user's other sessions were read again.
    wait_until(lambda: daemon.validate(kept["access_token"]).json["source"] == "cache", 3,
               "the other session is in memory again")

    group.kill(first)
    during = daemon.validate(kept["access_token"])
    assert during.status == 200, during
    check_dead(daemon.validate(kicked["access_token"]), "kicked", "service")
    begun = time.monotonic()
    again = wait_for_login(daemon, user)
    print(f"logins worked again {time.monotonic() - begun:.1f} s after the master was killed")

    second = next(port for port in group.servers if port != first)
    assert group.master() == second
    wait_for_master(daemon, second)
    assert daemon.validate(again["access_token"]).status == 200
    after = daemon.validate(kept["access_token"])
    assert after.status == 200 and after.json["stale"] is False, after
    check_dead(daemon.validate(kicked["access_token"]), "kicked", "service")


def test_an_old_master_that_comes_back_is_not_believed(daemon, group):
    user = unique()
    kicked = daemon.login(user)
    first = group.master()
    wait_for_master(daemon, first)
    os.kill(process_id(first), signal.SIGSTOP)
    wait_for_login(daemon, unique())
    second = next(port for port in group.servers if port != first)
    ended = daemon.call("DELETE", f"/v1/users/{user}/devices/{kicked['session_id']}", None, SERVICE)
    check_ended(ended, [kicked["session_id"]], durability=None)
    os.kill(group.processes[first].pid, signal.SIGCONT)

    def is_a_replica():
        for node in range(len(daemon.nodes)):
            check_dead(daemon.refused(kicked["access_token"], node=node), "kicked", "service")
        return group.role(first) == "slave"
    wait_until(is_a_replica, 20, "the old master is a replica")
    wait_for_master(daemon, second)
    check_dead(daemon.validate(kicked["access_token"]), "kicked", "service")


def test_one_sentinel_of_another_master_is_outvoted(group, start, tmp_path):
    stale, other = group.start_stale()
    nodes = [f"127.0.0.1:{stale}"] + group.nodes()[:2]
    daemon = start(redis=group, count=2, redis__nodes=" ".join(nodes), **in_sentinel_mode(tmp_path))
    user = unique()
    session = daemon.login(user)
    wait_for_master(daemon, group.master())
    assert daemon.validate(session["access_token"], node=1).status == 200
    check_ended(daemon.kick(user, session["session_id"], node=1), [session["session_id"]])
    check_dead(daemon.validate(session["access_token"]), "kicked", "service")
    # Most of those that are listed are gone: what is left is no word to go by.
    for port in group.sentinels[:2]:
        group.kill(port)
    for node in daemon.nodes:
        wait_until(lambda: "store_map_unreachable" in node.log_text(), 10, "no majority any more")
    assert daemon.validate(daemon.login()["access_token"], node=1).status == 200
    with Redis(other) as server:
        assert server.call("DBSIZE") == 0


def test_sentinels_may_die_one_after_the_other(daemon, group):
    for port in group.sentinels[:2]:
        group.kill(port)
    user = unique()
    session = daemon.login(user)
    assert daemon.validate(session["access_token"]).status == 200
    wait_for_master(daemon, group.master())

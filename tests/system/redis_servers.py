"""The Redis servers that the tests run against: a real cluster, a single server, and a fake."""

import contextlib
import os
import pathlib
import random
import socket
import subprocess
import threading
import time

import machine
from client import Redis, RedisError
from machine import clock
from proxy import ProxyLoop

ROOT = pathlib.Path(__file__).resolve().parents[2]
SLOW = float(os.environ.get("SESSIOND_TEST_SLOW", "1"))
# Below the ephemeral range, so that no outgoing connection takes one meanwhile. A run keeps what it
# has claimed to its end, about a thousand, and several runs share them.
PORTS = [*range(3000, 7000), *range(9000, 12000)]
claims = []


def claim(port):
    """True if the port is ours from now on: an abstract socket of its name, which the kernel gives
    to one process and takes back at its end, tells runs beside each other."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0sessiond-test-port-{port}")
    except OSError:
        name.close()
        return False
    claims.append(name)
    return True


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port():
    for port in random.sample(PORTS, len(PORTS)):
        if is_free(port) and claim(port):
            return port
    raise AssertionError("all ports are in use or claimed by runs of the tests")


def free_cluster_ports():
    """The first of six ports whose bus ports (+ 10000) are free as well."""
    while True:
        first = random.randrange(13000, 21000, 10)
        ports = range(first, first + 6)
        if all(is_free(p) and is_free(p + 10000) for p in ports) and claim(first):
            return first


def comes_true(condition, seconds):
    """Polls until the condition holds; its value, the last one if it does not hold in time. The seconds are
    of the clock that stands still while the machine keeps us waiting, but it is given up at ten times as
    many."""
    end, given_up = clock() + seconds * SLOW, time.monotonic() + 10 * seconds * SLOW
    while not (value := condition()) and clock() < end and time.monotonic() < given_up:
        time.sleep(0.02)  # what is waited for needs the processor
    return value


def wait_until(condition, seconds, what):
    """Polls until the condition holds and returns its value; `what` is a text, or a function that gives it."""
    value = comes_true(condition, seconds)
    assert value, f"after {seconds * SLOW:.0f} s still not: {what() if callable(what) else what}"
    return value


def for_a_while(seconds, pause=0.02, least=1):
    """Yields again and again for so many seconds, `least` times at least: for calls that go on while something
    happens, and what holds for each of them. It proves nothing about what did not happen."""
    end, count = time.monotonic() + seconds, 0
    while count < least or time.monotonic() < end:
        yield count
        count += 1
        time.sleep(pause)  # the pace of the load: without it the caller takes the processor from what is tested


class Cluster:
    """Three masters and three replicas, started by the script that `make run` uses."""

    SCRIPT = ROOT / "tests" / "support" / "redis_cluster.sh"

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        machine.homes.add(self.directory)
        self.first = free_cluster_ports()
        self.ports = list(range(self.first, self.first + 6))

    def environment(self):
        return dict(os.environ, REDIS_PORT=str(self.first), DIR=str(self.directory))

    def run(self, verb):
        environment = self.environment()
        result = subprocess.run([str(self.SCRIPT), verb], env=environment, text=True, timeout=120,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert result.returncode == 0, f"{self.SCRIPT.name} {verb}: {result.stdout}"

    def start(self):
        self.run("up")
        return self

    def stop(self):
        self.run("down")

    def nodes(self):
        return [f"127.0.0.1:{port}" for port in self.ports]

    def masters(self):
        """A connection to each master; the caller closes them (or leaves that to the process)."""
        found = []
        for port in self.ports:
            try:
                node = Redis(port)
            except OSError:
                continue
            if node.info("replication")["role"] == "master":
                found.append(node)
            else:
                node.close()
        return found

    def each_master(self, function):
        results = []
        for node in self.masters():
            with node:
                results.append(function(node))
        return results

    def reset_statistics(self):
        self.each_master(lambda node: node.call("CONFIG", "RESETSTAT"))

    def command_counts(self):
        total = {}
        for counts in self.each_master(Redis.command_counts):
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
        return total

    def dump(self):
        """All keys and values of all masters as one list of byte strings."""
        found = []
        for node in self.masters():
            with node:
                for key in node.keys():
                    found.append(key)
                    found += [part for part in node.content(key) or [] if part is not None]
        return found

    def owner(self, slot):
        """(port, node id) of the master that serves a slot."""
        with Redis(self.ports[0]) as node:
            for first, last, master, *_ in node.call("CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return master[1], master[2].decode()
        raise AssertionError(f"nobody serves slot {slot}")

    def is_whole(self):
        """True if every node agrees that all is well and every master has a replica in step."""
        for port in self.ports:
            try:
                with Redis(port) as node:
                    if node.info("cluster").get("cluster_enabled") != "1":
                        return False
                    if b"cluster_state:ok" not in node.call("CLUSTER", "INFO"):
                        return False
                    if b"fail" in node.call("CLUSTER", "NODES"):
                        return False
                    link = node.info("replication")
                    if link["role"] == "master" and int(link["connected_slaves"]) < 1:
                        return False
                    if link["role"] == "slave" and link["master_link_status"] != "up":
                        return False
            except (OSError, RedisError):
                return False
        return True


class ProxiedCluster(Cluster):
    """The same with a proxy before every node: each announces its proxy's port, so that clients and
    replicas go through it. `ports` are those of the nodes, for tests that want to talk past it."""

    def __init__(self, directory):
        super().__init__(directory)
        self.announced = free_cluster_ports()
        self.loop = ProxyLoop()
        self.proxies = {}
        for number, port in enumerate(self.ports):
            self.proxies[port] = self.loop.proxy(self.announced + number, port)

    def environment(self):
        return dict(super().environment(), ANNOUNCE=str(self.announced))

    def stop(self):
        super().stop()
        self.loop.stop()

    def nodes(self):
        return [f"127.0.0.1:{self.proxies[port].port}" for port in self.ports]

    def shards(self):
        """{port of a master: ports of its replicas} as the first node that answers knows it."""
        for port in self.ports:
            try:
                with Redis(port, timeout=1) as node:
                    ranges = node.call("CLUSTER", "SLOTS")
            except (OSError, RedisError):
                continue
            return {self.real(master[1]): [self.real(replica[1]) for replica in replicas]
                    for _, _, master, *replicas in ranges}
        raise AssertionError("no node answers")

    def real(self, announced):
        return self.ports[announced - self.announced]

    def owner(self, slot):
        for port in self.ports:
            try:
                with Redis(port, timeout=1) as node:
                    ranges = node.call("CLUSTER", "SLOTS")
            except (OSError, RedisError):
                continue
            for first, last, master, *_ in ranges:
                if first <= slot <= last:
                    return self.real(master[1]), master[2].decode()
        raise AssertionError(f"nobody serves slot {slot}")

    def heal(self):
        for proxy in self.proxies.values():
            proxy.heal()

    @contextlib.contextmanager
    def fault(self, name, whom="all", **arguments):
        """The fault at every node's proxy."""
        for proxy in self.proxies.values():
            proxy.inject(name, whom, **arguments)
        try:
            yield self
        finally:
            self.heal()

    def hits(self, name):
        return sum(proxy.hits[name] for proxy in self.proxies.values())

    def make_whole(self, seconds=20):
        """Ends all faults, starts what was killed, and waits until all is well."""
        self.heal()
        self.start()
        wait_until(self.is_whole, seconds, "the cluster is whole")


def process_id(port):
    with Redis(port) as node:
        return int(node.info("server")["process_id"])


class SingleRedis:
    """One plain redis-server."""

    def __init__(self, directory, password=None, environment=None):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.password = password
        self.environment = environment
        self.process = None

    def start(self, *options):
        """Starts on what SAVE has left in the directory, if anything."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                   "--appendonly", "no", "--dir", str(self.directory), "--logfile", "redis.log",
                   *options]
        if self.password:
            command += ["--requirepass", self.password]
        self.process = subprocess.Popen(command, env=self.environment)
        wait_until(self.answers, 10, "redis-server answers")
        return self

    def answers(self):
        try:
            with Redis(self.port, self.password) as node:
                return node.call("PING") == "PONG"
        except (OSError, ConnectionError):
            return False

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def nodes(self):
        return [f"127.0.0.1:{self.port}"]


class FakeRedis:
    """A TCP server that answers every read with the same bytes, or with nothing at all."""

    def __init__(self, reply):
        self.reply = reply
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            while connection.recv(65536):
                if self.reply:
                    connection.sendall(self.reply)
        except OSError:
            pass

    def stop(self):
        self.listener.close()
        for connection in self.open:
            connection.close()

    def nodes(self):
        return [f"127.0.0.1:{self.port}"]

"""A Redis server that leads to others: who gets the password, and how soon all is well again."""

import concurrent.futures
import itertools
import re
import socket
import threading
import time

import pytest

from daemon import Daemon, password_file, unique
from faults import TIMES
from redis_servers import SingleRedis, wait_until
from scripted_redis import ScriptedRedis, array, slot_map

PASSWORD = "not-for-strangers"
CALLS = 120
KEYED = {b"GET", b"HMGET", b"HGETALL", b"EVALSHA", b"EVAL"}


class Strangers:
    """Every address of 127.0.0.0/8 at one port: who was connected to, and what came.

    With `silent` no server accepts, so that connections neither come up nor fail."""

    def __init__(self, silent=False):
        self.listener = socket.create_server(("0.0.0.0", 0), backlog=1 if silent else 1024)
        self.port = self.listener.getsockname()[1]
        self.connected, self.told, self.numbers = set(), set(), itertools.count()
        if silent:
            self.fillers = [self.fill() for _ in range(8)]
        else:
            threading.Thread(target=self.accept, daemon=True).start()

    def fill(self):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", self.port))
        return filler

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.listen, args=(connection,), daemon=True).start()

    def listen(self, connection):
        address = connection.getsockname()[0]
        self.connected.add(address)
        with connection:
            while data := connection.recv(4096):
                if PASSWORD.encode() in data:
                    self.told.add(address)
                connection.sendall(b"+OK\r\n" * sum(map(data.count, (b"PING", b"AUTH", b"MYID"))))

    def address(self):
        """Another one each time: a map that names a master twice has one master fewer."""
        number = next(self.numbers)
        return f"127.{1 + number // 64516}.{number // 254 % 254}.{1 + number % 254}"

    def stop(self):
        self.listener.close()


class Seed:
    """The one configured node: masters of all slots, until it is set to lead astray."""

    def __init__(self, target):
        self.map = self.answer = None
        self.server = ScriptedRedis(target, self.script)
        self.good_map = slot_map((0, 16383, self.server.port))

    def script(self, words, _):
        if words[:2] == [b"CLUSTER", b"SLOTS"]:
            return self.map or self.good_map
        if self.answer and words[0] in KEYED:
            return self.answer()
        return None

    def maps_asked(self):
        return sum(words[:2] == [b"CLUSTER", b"SLOTS"] for words in self.server.seen)


def ranges(masters, replicas, port, host, kin):
    """CLUSTER SLOTS with so many masters, and so many replicas of the first; one alone has an id."""
    ids = ["%040d" % kin]

    def node():
        return bytearray(array(host(), port, *[ids.pop()] if ids else []))
    parts, share = [], 16384 // masters
    for i in range(masters):
        last = 16383 if i == masters - 1 else (i + 1) * share - 1
        nodes = [node() for _ in range(1 + (replicas if i == 0 else 0))]
        parts.append(bytearray(array(i * share, last, *nodes)))
    return array(*parts)


@pytest.fixture
def single(tmp_path):
    server = SingleRedis(tmp_path / "redis", PASSWORD)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def seed(single):
    seed = Seed(single.port)
    yield seed
    seed.server.stop()


@pytest.fixture
def daemon(seed, tmp_path):
    daemon = Daemon(tmp_path / "daemon", seed.server, redis__map_refresh="1s",
                    redis__password_file=password_file(tmp_path / "password", PASSWORD),
                    **{**TIMES, "redis__wait_timeout": 0})
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


def storm(daemon):
    """Many logins at once; the statuses."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return [answer.status for answer in
                pool.map(lambda _: daemon.try_login(unique("astray")), range(CALLS))]


def seconds_until_well(daemon):
    begun = time.monotonic()
    wait_until(lambda: daemon.try_login(unique("well")).status == 201, 10, "logins work again")
    return time.monotonic() - begun


@pytest.mark.parametrize("word", ["MOVED", "ASK"])
def test_no_stranger_gets_the_password_by_a_redirection(daemon, seed, word):
    strangers = Strangers()
    seen = set()

    def answer():
        seen.add(address := strangers.address())
        return f"-{word} 1 {address}:{strangers.port}\r\n".encode()
    seed.answer = answer
    statuses = storm(daemon)
    seed.answer = None
    seconds = seconds_until_well(daemon)
    strangers.stop()
    print(f"{word}: {CALLS} calls, {len(seen)} addresses named, {len(strangers.connected)} "
          f"connected to, {len(strangers.told)} got the password, well after {seconds:.2f} s")
    assert set(statuses) == {503}, statuses
    assert len(seen) >= CALLS
    assert not strangers.connected and not strangers.told
    assert daemon.node.metric("sessiond_store_redirects_refused_total") >= CALLS
    assert "store_redirect_refused" in daemon.node.log_text()


@pytest.mark.parametrize("masters, replicas", [(16384, 0), (1, 65000)])
def test_a_map_beyond_all_bounds_is_refused_and_calls_go_on(daemon, seed, masters, replicas):
    strangers = Strangers()
    asked = seed.maps_asked()
    seed.map = ranges(masters, replicas, strangers.port, strangers.address, seed.server.port)
    wait_until(lambda: seed.maps_asked() >= asked + 2, 20, "the map was asked for twice")
    statuses = storm(daemon)
    seed.map = None
    asked = seed.maps_asked()
    seconds = seconds_until_well(daemon)
    wait_until(lambda: seed.maps_asked() > asked, 20, "the map is still asked for")
    strangers.stop()
    print(f"{masters} masters, {replicas} replicas: {statuses.count(201)} of {CALLS} logins, "
          f"{len(strangers.told)} addresses got the password, well after {seconds:.2f} s")
    assert set(statuses) == {201}, statuses
    assert not strangers.connected and not strangers.told
    # A sanitizer may take longer to read it than a map may take.
    assert re.search("store_map_refused|store_map_unreachable .*reason=store_timeout", daemon.node.log_text())


@pytest.mark.parametrize("masters, replicas", [(1000, 0), (1, 3900)])
def test_nodes_that_hang_do_not_hold_up_the_next_map(daemon, seed, masters, replicas):
    strangers = Strangers(silent=True)
    false_map = ranges(masters, replicas, strangers.port, strangers.address, seed.server.port)
    if masters == 1:
        # The master is the true one, its replicas are not.
        master = array("127.0.0.1", seed.server.port, "%040d" % seed.server.port)
        false_master = b"*3\r\n" + false_map.split(b"*3\r\n")[1].split(b"*2\r\n")[0]
        false_map = false_map.replace(false_master, master, 1)
    seed.map = false_map
    wait_until(lambda: f"masters={masters} " in daemon.node.log_text().rsplit("map_changed", 1)[-1],
               20, "the false map is in force")
    if masters == 1:
        wait_until(lambda: daemon.node.metric("sessiond_store_map_refreshes_total") > 2, 20, "maps")
    enough = masters if masters > 1 else daemon.node.metric("sessiond_store_connects_total") + 1
    wait_until(lambda: daemon.node.metric("sessiond_store_connects_total") >= enough, 20,
               "the nodes that hang are connected to")
    refreshes = daemon.node.metric("sessiond_store_map_refreshes_total")
    seed.map = None
    seconds = seconds_until_well(daemon)
    wait_until(lambda: daemon.node.metric("sessiond_store_map_refreshes_total") >= refreshes + 2,
               10, "maps are fetched")
    strangers.stop()
    print(f"{masters} masters and {replicas} replicas that hang: well after {seconds:.2f} s")



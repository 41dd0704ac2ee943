"""The proxy of the fault tests: every fault does what it says, and says how often."""

import select
import socket
import struct
import threading
import time

import pytest

from bounds import at_most
from client import Redis
from machine import clock
from proxy import FAULTS, HELD_BACK, ProxyLoop
from redis_servers import SLOW, ProxiedCluster, free_port, wait_until


class Echo:
    """Sends everything back."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.heard = b""
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            while data := connection.recv(65536):
                self.heard += data
                connection.sendall(data)
        except OSError:
            pass
        connection.close()


@pytest.fixture(scope="module")
def loop():
    proxies = ProxyLoop()
    yield proxies
    proxies.stop()


@pytest.fixture
def echo():
    server = Echo()
    yield server
    server.listener.close()


@pytest.fixture
def proxy(loop, echo):
    proxy = loop.proxy(free_port(), echo.port)
    yield proxy
    proxy.heal()


@pytest.fixture
def client(proxy):
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def exchange(client, data):
    """Sends bytes and reads as many."""
    client.sendall(data)
    found = b""
    while len(found) < len(data):
        part = client.recv(65536)
        if not part:
            break
        found += part
    return found


def segments_received(client):
    """tcpi_data_segs_in of Linux' struct tcp_info."""
    return struct.unpack_from("I", client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 152)[0]


def is_silent(client, seconds=0.1):
    client.settimeout(seconds)
    try:
        return client.recv(1) is None
    except socket.timeout:
        return True
    finally:
        client.settimeout(5)


def test_without_a_fault_all_bytes_pass(client, proxy):
    data = bytes(range(256)) * 8000
    threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
    found = b""
    while len(found) < len(data):
        found += client.recv(65536)
    assert found == data
    assert not proxy.hits


def test_the_end_of_one_side_is_passed_on(client, proxy):
    assert exchange(client, b"x") == b"x"
    client.shutdown(socket.SHUT_WR)
    assert client.recv(10) == b""
    wait_until(lambda: proxy.count("client") == 0, 2, "the connection is gone")


def test_delay_holds_replies_back(client, proxy):
    assert exchange(client, b"x") == b"x"
    with proxy.fault("delay", ms=120, jitter=20):
        begun, fair = time.monotonic(), clock()
        assert exchange(client, b"hello") == b"hello"
        assert time.monotonic() - begun >= 0.1
        at_most(clock() - fair, 0.15 + 0.1 * SLOW, "an exchange that is delayed by 120 ms")
    assert proxy.hits["delay"] == 1
    fair = clock()
    exchange(client, b"again")
    at_most(clock() - fair, 0.1 * SLOW, "an exchange without a fault")


def test_delayed_replies_keep_their_order(client, proxy):
    with proxy.fault("delay", ms=20, jitter=20):
        for number in range(20):
            client.sendall(b"%02d" % number)
            wait_until(lambda: proxy.hits["delay"] > number, 2, "it is delayed on its own")
        found = b""
        while len(found) < 40:
            found += client.recv(100)
    assert found == b"".join(b"%02d" % number for number in range(20))


@pytest.mark.parametrize("fault, end", [("cut", b""), ("reset", ConnectionResetError)])
def test_cut_and_reset_end_connections_that_speak(client, proxy, echo, fault, end):
    with proxy.fault(fault):
        client.sendall(b"hello")
        if end == b"":
            assert client.recv(10) == b""
        else:
            with pytest.raises(end):
                client.recv(10)
    assert proxy.hits[fault] == 1 and echo.heard == b""


@pytest.mark.parametrize("reset", [False, True])
def test_connections_can_be_ended_at_once(client, proxy, reset):
    exchange(client, b"x")
    assert proxy.cut_now(reset=reset) == 1
    try:
        assert client.recv(10) == b"" and not reset
    except ConnectionResetError:
        assert reset


def test_half_open_leaves_everybody_waiting_and_loses_nothing(client, proxy):
    with proxy.fault("half_open"):
        client.sendall(b"hello")
        assert is_silent(client)
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=1) as late:
            late.sendall(b"me too")
            assert is_silent(late)
        assert proxy.hits["half_open"] >= 2
    assert client.recv(10) == b"hello"


def test_slices_arrive_one_after_the_other(client, proxy):
    with proxy.fault("slice", size=1):
        before = segments_received(client)
        assert exchange(client, b"hello world") == b"hello world"
    assert segments_received(client) - before > 3 and proxy.hits["slice"] == 10


def test_limit_cuts_inside_a_reply(client, proxy):
    with proxy.fault("limit", size=7):
        assert exchange(client, b"abcd") == b"abcd"
        assert exchange(client, b"efgh") == b"efg"
        assert client.recv(10) == b""
    assert proxy.hits["limit"] == 1


def test_garbage_stands_before_a_reply_or_over_it(client, proxy):
    with proxy.fault("garbage", data=b"##"):
        client.sendall(b"hello")
        assert client.recv(100) == b"##hello"
    with proxy.fault("garbage", data=b"##", insert=False):
        client.sendall(b"hello")
        assert client.recv(100) == b"##llo"
    assert proxy.hits["garbage"] == 2


def test_a_black_hole_takes_everything_and_its_victims_end_with_it(client, proxy, echo):
    with proxy.fault("blackhole"):
        client.sendall(b"hello")
        assert is_silent(client)
        assert proxy.hits["blackhole"] == 1 and echo.heard == b""
    assert client.recv(10) == b""


def test_a_fault_may_be_for_one_kind_of_connections(client, proxy, echo):
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as replica:
        hello = b"*1\r\n$4\r\nPING\r\n"
        assert exchange(replica, hello) == hello
        with proxy.fault("blackhole", whom="replication"):
            assert exchange(client, b"hello") == b"hello"
            replica.sendall(b"*3\r\n$8\r\nREPLCONF\r\n")
            assert is_silent(replica)
            assert proxy.count("replication") == 1 and proxy.count("client") == 1
        assert replica.recv(10) == b""
        assert exchange(client, b"hello") == b"hello"
        client.sendall(b"*3\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n")
        wait_until(lambda: proxy.count("watch") == 1, 1, "the kind of the connection is known")


def test_refuse_takes_no_new_connections_and_keeps_the_old_ones(client, proxy):
    exchange(client, b"x")
    with proxy.fault("refuse"):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port), timeout=1)
        assert exchange(client, b"hello") == b"hello"
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=1) as late:
        assert exchange(late, b"x") == b"x"
    assert proxy.hits["refuse"] == 1


def test_a_target_that_is_gone_ends_the_connection(loop):
    proxy = loop.proxy(free_port(), free_port())
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        try:
            assert client.recv(10) == b""
        except ConnectionResetError:
            pass


def test_a_reader_that_does_not_read_stops_the_writer_and_loses_nothing(client, proxy):
    data = b"x" * 64_000_000  # more than the kernel's buffers between here, the server and here may grow to
    sender = threading.Thread(target=client.sendall, args=(data,), daemon=True)
    client.settimeout(None)  # it is of all that is sent
    sender.start()

    def held():
        return max((channel.held for c in proxy.connections for channel in c.channels), default=0)
    wait_until(lambda: held() > HELD_BACK, 10, "more than is held back")
    wait_until(lambda: not select.select([], [client], [], 0)[1], 10, "the writer is stopped")
    found = most = 0
    while found < len(data):
        most = max(most, held())
        found += len(client.recv(1 << 16))
    assert most < 3_000_000, most
    sender.join(5)


def test_no_fault_is_without_a_test():
    text = open(__file__).read()
    assert all(f'"{name}"' in text for name in FAULTS)


def test_a_proxied_cluster_replicates_through_its_proxies(workspace):
    cluster = ProxiedCluster(workspace / "proxied")
    try:
        cluster.start()
        wait_until(lambda: all(cluster.shards().values()), 10, "every master has a replica")
        for master, (replica,) in cluster.shards().items():
            proxy = cluster.proxies[master]
            assert proxy.count("replication") == 1
            with Redis(master) as node, proxy.fault("blackhole", whom="replication"):
                assert node.info("replication")["connected_slaves"] == "1"
                assert node.call("WAIT", 1, 50) in (0, 1)
                key = next(f"k{n}" for n in range(1000) if node.call(
                    "CLUSTER", "KEYSLOT", f"k{n}") in slots_of(node))
                node.call("SET", key, "lost")
                assert node.call("WAIT", 1, 100) == 0
                assert proxy.hits["blackhole"] > 0
                with Redis(replica) as other:
                    assert other.info("replication")["master_link_status"] == "up"
        wait_until(cluster.is_whole, 20, "replicas are back in step")
    finally:
        cluster.stop()


def slots_of(node):
    """The slots of a master."""
    name = node.call("CLUSTER", "MYID")
    for first, last, master, *_ in node.call("CLUSTER", "SLOTS"):
        if master[2] == name:
            return range(first, last + 1)
    raise AssertionError("no slots")

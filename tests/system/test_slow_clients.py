"""Clients that are slow, many, or silent; and the limits on connections."""

import os
import socket
import time

import pytest

from bounds import at_most
from checks import check_problem
from client import RawSocket, statuses
from daemon import SERVICE, Daemon, is_instrumented
from machine import clock
from raw_http import head
from redis_servers import SLOW, wait_until


@pytest.fixture(scope="module")
def strict(workspace, cluster):
    daemon = Daemon(workspace / "strict", cluster, server__header_timeout=2,
                    server__body_timeout=2, server__write_timeout=2, server__keepalive_timeout=2)
    try:
        daemon.node.client.idle = daemon.node.ops.idle = 0.5
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


@pytest.fixture(scope="module")
def patient(workspace, cluster):
    """Idle connections live long, half heads do not."""
    daemon = Daemon(workspace / "patient", cluster, server__header_timeout=2, server__body_timeout=120)
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


def drip(raw, data, pause, seconds):
    """Sends one byte a pause until the peer closes: (what it said, seconds it took, the same
    without what the machine kept us waiting)."""
    begun, fair = time.monotonic(), clock()
    for position in range(len(data)):
        if clock() - fair > seconds:
            break
        try:
            raw.send(data[position:position + 1])
        except OSError:
            break
        got, closed = raw.read_for(pause)
        if closed or got:
            return got, time.monotonic() - begun, clock() - fair
    got, closed = raw.closed_within(1)
    assert closed, f"still open after {seconds} s"
    return got, time.monotonic() - begun, clock() - fair


def test_one_header_byte_every_fifth_of_a_second_is_cut_at_the_deadline(strict):
    with RawSocket(strict.node.port) as raw:
        data, passed, seconds = drip(raw, head("GET", "/v1/validate", "X-A: " + "a" * 200), 0.2, 6 * SLOW)
    assert statuses(data) in ([], [408]), data
    assert passed >= 1.5
    at_most(seconds, 4.5 * SLOW, "a request in drops")


def test_one_body_byte_every_fifth_of_a_second_is_cut_at_the_deadline(strict):
    with RawSocket(strict.node.port) as raw:
        raw.send(head("POST", "/v1/login", f"Authorization: Bearer {SERVICE}",
                      "Content-Type: application/json", "Content-Length: 200"))
        data, passed, seconds = drip(raw, b'{"user_id":"' + b"a" * 188, 0.2, 6 * SLOW)
    assert statuses(data) in ([], [408]), data
    assert passed >= 1.5
    at_most(seconds, 4.5 * SLOW, "a request in drops")


def test_chunks_without_end_are_cut_at_the_deadline_and_not_kept(strict):
    def resident():
        with open(f"/proc/{strict.node.process.pid}/statm") as file:
            return int(file.read().split()[1]) * 4096
    before = resident()
    begun = clock()
    with RawSocket(strict.node.port) as raw:
        raw.send(head("POST", "/v1/login", "Transfer-Encoding: chunked",
                      f"Authorization: Bearer {SERVICE}", "Content-Type: application/json"))
        sent, is_cut = 0, False
        try:
            while clock() - begun < 30 * SLOW:
                raw.send((b"4000\r\n" + b" " * 0x4000 + b"\r\n") * 16)
                sent += 0x4000 * 16
        except OSError:
            is_cut = True
        assert is_cut, "still taken"
        at_most(clock() - begun, 6 * SLOW, "a body without end")
    assert sent > 0
    assert resident() - before < 8_000_000 * SLOW


def test_a_connection_without_a_request_is_closed(strict):
    with RawSocket(strict.node.port) as raw:
        data, closed = raw.closed_within(5 * SLOW)
    assert closed and data == b""


@pytest.mark.parametrize("begin", [b"", b"G", b"GET /v1/valid", b"\r\n"])
def test_who_says_no_whole_line_is_cut_long_before_an_idle_connection(patient, begin):
    begun = time.monotonic()
    with RawSocket(patient.node.port) as raw:
        raw.send(begin)
        data, closed = raw.closed_within(12 * SLOW)
        assert closed and time.monotonic() - begun >= 1.5
    assert statuses(data) in ([], [408]), data


@pytest.mark.parametrize("begin", [b"G", b"GET /v1/valid"])
def test_a_half_line_behind_a_request_is_cut_and_an_idle_connection_is_not(patient, begin):
    request = b"\r\n\r\n" + head("POST", "/v1/login", "Content-Length: 3") + b"abc"
    with RawSocket(patient.node.port) as raw, RawSocket(patient.node.port) as idle:
        idle.send(request * 3)
        raw.send(request * 3 + begin)
        data, closed = raw.closed_within(12 * SLOW)
        assert closed and statuses(data) == [401, 401, 401]
        data, closed = idle.closed_within(5)
        assert not closed and statuses(data) == [401, 401, 401]
        idle.send(request)
        assert idle.answer().status == 401


def test_a_kept_alive_connection_is_closed_after_the_pause(strict):
    token = strict.login()["access_token"]
    with RawSocket(strict.node.port) as raw:
        begun = time.monotonic()
        raw.send(head("GET", "/v1/validate", f"Authorization: Bearer {token}"))
        assert raw.answer().status == 200
        _, closed = raw.closed_within(5 * SLOW)
        assert closed and time.monotonic() - begun >= 1.5


def test_a_reader_that_takes_nothing_is_cut(strict):
    token = strict.login(attributes={"a": "x" * 3500})["access_token"]
    request = head("GET", "/v1/validate", f"Authorization: Bearer {token}")
    with RawSocket(strict.node.port, receive_buffer=4096) as raw:
        raw.socket.settimeout(1)
        begun = clock()
        cut = False
        while clock() - begun < 12 * SLOW:
            try:
                raw.send(request * 50)
            except socket.timeout:
                continue
            except OSError:
                cut = True
                break
        assert cut, "a client that reads nothing is still served"
    assert strict.is_alive(token)


@pytest.mark.skipif(is_instrumented(), reason="sanitizers keep what was freed")
def test_memory_of_many_connections_is_given_back_when_they_are_gone(patient):
    def resident():
        with open(f"/proc/{patient.node.process.pid}/statm") as file:
            return int(file.read().split()[1]) * 4096
    before, many = resident(), []
    try:
        for _ in range(1400):
            many.append(RawSocket(patient.node.port))
            many[-1].send(head("POST", "/v1/login", f"Authorization: Bearer {SERVICE}",
                               "Content-Length: 200") + b"{")
        wait_until(lambda: patient.node.metric("sessiond_connections") >= 1400, 10 * SLOW, "all are there")
        grown = resident() - before
    finally:
        for raw in many:
            raw.socket.close()
    assert grown > 1400 * 8192
    wait_until(lambda: resident() - before < grown / 2, 30 * SLOW, "most of the memory is given back")


def test_cut_connections_are_counted(strict):
    assert strict.node.metric("sessiond_connections_cut_total") >= 3


def test_the_sixth_connection_of_one_address_gets_503(start):
    daemon = start(server__max_connections_per_address=5)
    with_room = [RawSocket(daemon.node.port) for _ in range(5)]
    for raw in with_room:
        raw.send(head("GET", "/v1/validate"))
        assert raw.answer().status == 401
    with RawSocket(daemon.node.port) as extra:
        data, closed = extra.closed_within(5)
        assert statuses(data) == [503], data
        assert closed and b"retry-after:" in data.lower()
        assert b"overloaded" in data
    with_room[0].socket.close()
    with_room[1].socket.close()

    def is_served():
        with RawSocket(daemon.node.port) as raw:
            try:
                raw.send(head("GET", "/v1/validate"))
                return raw.answer().status == 401
            except OSError:
                return False
    wait_until(is_served, 3, "room again after connections were closed")
    other = socket.socket()
    other.bind(("127.0.0.2", 0))
    other.connect(("127.0.0.1", daemon.node.port))
    other.sendall(head("GET", "/v1/validate"))
    assert b" 401 " in other.recv(4096)
    other.close()
    for raw in with_room:
        raw.socket.close()
    assert daemon.node.metric("sessiond_connections_refused_total") >= 1


def test_a_connection_over_the_total_gets_503_and_is_closed(start):
    daemon = start(server__max_connections=8)
    sockets = [RawSocket(daemon.node.port) for _ in range(8)]
    for raw in sockets:
        raw.send(head("GET", "/v1/validate"))
        assert raw.answer().status == 401
    with RawSocket(daemon.node.port) as extra:
        data, closed = extra.closed_within(5)
    assert statuses(data) == [503] and closed, data
    assert daemon.node.ops.call("GET", "/livez").status == 200, "the ops listener has its own room"
    for raw in sockets:
        raw.socket.close()


def test_five_thousand_idle_connections_do_not_slow_the_others(start):
    daemon = start(server__max_connections_per_address=6000, server__header_timeout=120)
    descriptors = len(os.listdir(f"/proc/{daemon.node.process.pid}/fd"))
    token = daemon.login()["access_token"]
    sockets = []
    try:
        for _ in range(5000):
            idle = socket.socket()
            idle.connect(("127.0.0.1", daemon.node.port))
            sockets.append(idle)
        wait_until(lambda: daemon.node.metric("sessiond_connections") >= 5000, 10,
                   "5,000 connections are open")
        times = []
        for _ in range(300):
            begun = clock()
            assert daemon.is_alive(token)
            times.append(clock() - begun)
        times.sort()
        at_most(times[296], 0.1 * SLOW, "p99 of a validation beside 5,000 idle connections")
    finally:
        for idle in sockets:
            idle.close()
    wait_until(lambda: daemon.node.metric("sessiond_connections") < 100, 10,
               "the connections are gone")
    assert len(os.listdir(f"/proc/{daemon.node.process.pid}/fd")) < descriptors + 50


def test_slow_connections_hold_nobody_up(strict):
    token = strict.login()["access_token"]
    slow = [RawSocket(strict.node.port) for _ in range(50)]
    for raw in slow:
        raw.send(b"GET /v1/validate HTTP/1.1\r\nHost: x")
    begun = clock()
    for _ in range(50):
        assert strict.is_alive(token)
    at_most(clock() - begun, 1.0 * SLOW, "fifty validations beside slow connections")
    for raw in slow:
        raw.socket.close()
    check_problem(strict.call("GET", "/v1/validate"), 401, "credentials_missing")

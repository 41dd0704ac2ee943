"""Kept-alive connections without ceremony, for measuring and for many requests at once."""

import json
import os
import select
import socket
import time

from bounds import JUDGED
from client import HANGS
from daemon import SERVICE
from machine import clock

# At their whole size some tests take their time: SESSIOND_TEST_FULL=1 wants that.
FULL = os.environ.get("SESSIOND_TEST_FULL", "") not in ("", "0")
PACE = 32  # connections that many requests are spread over


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def in_ms(values):
    """p50, p99 and the largest, in milliseconds, as text."""
    picked = [percentile(values, 0.5), percentile(values, 0.99), max(values)]
    return "p50 {:.2f} ms, p99 {:.2f} ms, max {:.2f} ms".format(*(1000 * x for x in picked))


def request(method, path, bearer=None, body=None, headers=()):
    lines = [f"{method} {path} HTTP/1.1", "Host: x"]
    if bearer:
        lines.append(f"Authorization: Bearer {bearer}")
    data = b"" if body is None else json.dumps(body).encode()
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + data


def validation(token):
    return request("GET", "/v1/validate", token)


def login_of(user, **fields):
    return request("POST", "/v1/login", SERVICE, {"user_id": user, **fields})


def kick_of(login):
    return request("DELETE", f"/v1/users/{login['user_id']}/devices/{login['session_id']}", SERVICE)


class Reply:
    """Status and body; headers are looked up on demand."""

    def __init__(self, head, body):
        self.head, self.body = head, body
        self.status = int(head[9:12])

    @property
    def json(self):
        return json.loads(self.body)

    def header(self, name):
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name.lower():
                return value
        return None

    def __repr__(self):
        return f"<{self.status} {self.head!r} {self.body[:400]!r}>"


class Probe:
    """One connection to a node."""

    def __init__(self, node, timeout=HANGS):
        self.socket = socket.create_connection(("127.0.0.1", node.port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def complete(self):
        """The answer if all of it has come."""
        head, found, rest = self.pending.partition(b"\r\n\r\n")
        if not found:
            return None
        at = head.lower().find(b"content-length: ")
        length = int(head[at + 16:].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(rest) < length:
            return None
        self.pending = rest[length:]
        return Reply(head, rest[:length])

    def receive(self):
        while True:
            reply = self.complete()
            if reply:
                return reply
            self.more()

    def more(self):
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("closed by the node")
        self.pending += data

    def ask(self, data):
        self.send(data)
        return self.receive()

    def timed(self, data):
        """(answer, seconds)."""
        begun = clock()
        reply = self.ask(data)
        return reply, clock() - begun


def ask_all(node, requests):
    """The answers to many requests, in order, some of them in flight at once."""
    probes = [Probe(node) for _ in range(min(PACE, max(1, len(requests))))]
    replies = []
    try:
        for at in range(0, len(requests), len(probes)):
            pairs = list(zip(probes, requests[at:at + len(probes)]))
            for probe, data in pairs:
                probe.send(data)
            replies += [probe.receive() for probe, _ in pairs]
    finally:
        for probe in probes:
            probe.close()
    return replies


def log_in_all(node, users, **fields):
    replies = ask_all(node, [login_of(user, **fields) for user in users])
    assert {reply.status for reply in replies} <= {201}, [r for r in replies if r.status != 201][:2]
    return [reply.json for reply in replies]


def validate_all(node, logins):
    return ask_all(node, [validation(login["access_token"]) for login in logins])


def times_of(node, logins):
    """The time of each validation on an otherwise idle connection; all must be 200."""
    times = []
    with Probe(node) as probe:
        for login in logins:
            reply, seconds = probe.timed(validation(login["access_token"]))
            assert reply.status == 200, reply
            times.append(seconds)
    return times


def quiet_times(node, logins, rounds=25 if JUDGED else 1, size=400):
    """The times of a round with a good p99 (a fifth are better): others use the machine too."""
    found = [times_of(node, logins[at * size % len(logins):][:size]) for at in range(rounds)]
    return sorted(found, key=lambda times: percentile(times, 0.99))[rounds // 5]


def watch_die(kicker, kick, watchers, token, seconds, pause=0):
    """Sends a kick and asks the watchers for the token all the while, until each refuses it; with
    pauses (in seconds) if threads of this process, such as proxies, need time too.

    Returns when the kick was sent and answered, its answer, for each watcher when it first refused
    (None: not in time), and the statuses that each gave after its first refusal."""
    question = validation(token)
    refused, after = {}, {probe: [] for probe in watchers}
    by_socket = {probe.socket: probe for probe in [kicker, *watchers]}
    for probe in watchers:
        probe.send(question)
    sent, answered, answer = clock(), None, None
    kicker.send(kick)
    while answer is None or len(refused) < len(watchers):
        ready, _, _ = select.select(list(by_socket), [], [], 0.05)
        for sock in ready:
            probe = by_socket[sock]
            probe.more()
            reply = probe.complete()
            if reply is None:
                continue
            if probe is kicker:
                answered, answer = clock(), reply
                continue
            if probe in refused:
                after[probe].append(reply.status)
            elif reply.status == 401:
                refused[probe] = clock()
            probe.send(question)
        if clock() - sent > seconds:
            break
        if pause:
            time.sleep(pause)  # the proxies' threads need this process, too
    for probe in watchers:
        last = probe.receive()
        if probe in refused:
            after[probe].append(last.status)
        elif last.status == 401:
            refused[probe] = clock()
    return sent, answered, answer, [refused.get(p) for p in watchers], [after[p] for p in watchers]

"""Heads of requests of every size: each call gets an answer, or is refused before anything happens."""

import collections
import itertools
import json
import os

import pytest

from client import RawSocket, statuses
from daemon import SERVICE, Daemon, unique

STEP = 13 if os.environ.get("SESSIOND_TEST_FULL") else 499
ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def daemons(workspace, cluster):
    """One daemon for each size of the memory for heads: the default, and the bounds."""
    made = {}
    try:
        for memory in (8192, 4096, 1048576):
            made[memory] = Daemon(workspace / f"heads{memory}", cluster, server__head_memory=memory,
                                  browser__origins=ORIGIN, limits__forged_tokens_per_minute=0,
                                  limits__wrong_keys_per_minute=0).start()
        yield made
        for daemon in made.values():
            daemon.stop()
    finally:
        for daemon in made.values():
            daemon.kill()


def one_header(room):
    return ["X-Filler: " + "f" * max(0, room - len("X-Filler: \r\n"))]


def many_headers(room):
    """Lines of 100 bytes, and one that fills up."""
    count = max(0, room // 100 - 1)
    lines = [f"X-{number:04}: " + "f" * 90 for number in range(count)]
    return lines + one_header(room - 100 * count)


def small_headers(room):
    """Lines of 10 bytes: each costs more memory than it has bytes."""
    count = max(0, min(room // 10 - 10, 40))
    return [f"X{number:02}: abc" for number in range(count)] + one_header(room - 10 * count)


def cookies(room):
    return ["Cookie: " + "; ".join(f"c{number:03}=" + "v" * 35
                                   for number in range(max(1, room // 42)))]


def bare_cookie(room):
    return ["Cookie: theme=" + "d" * max(0, room - len("Cookie: theme=\r\n"))]


def origin(room):
    return [f"Origin: {ORIGIN}"] + one_header(room - len(ORIGIN) - 10)


MIXES = [one_header, many_headers, small_headers, cookies, bare_cookie, origin, "target", "empty lines"]


class Calls:
    """Calls of each kind that change something, or only read, each fit to be made once."""

    def __init__(self, daemon):
        self.daemon = daemon

    def session(self):
        return self.daemon.login(unique("heads"))

    def login(self):
        return "POST", "/v1/login", SERVICE, {"user_id": unique("heads")}, 201

    def refresh(self):
        return "POST", "/v1/refresh", None, {"refresh_token": self.session()["refresh_token"]}, 200

    def validate(self):
        return "GET", "/v1/validate", self.session()["access_token"], None, 200

    def head(self):
        return "HEAD", "/v1/validate", self.session()["access_token"], None, 200

    def kick(self):
        user = unique("kicked")
        own = self.daemon.login(user)["session_id"]
        return "DELETE", f"/v1/users/{user}/devices/{own}", SERVICE, None, 200

    def freeze(self):
        return "POST", f"/v1/users/{unique('frozen')}/freeze", SERVICE, {}, 200

    def logout(self):
        return "POST", "/v1/logout", self.session()["access_token"], None, 200

    def attributes(self):
        return ("PUT", "/v1/session/attributes", self.session()["access_token"],
                {"attributes": {"a": "b"}}, 200)

    def devices(self):
        return "GET", f"/v1/users/{unique('nobody')}/devices", SERVICE, None, 200

    def unknown(self):
        return "GET", "/v1/nothing", None, None, 404

    def forged(self):
        return "GET", "/v1/validate", "sa_" + "x" * 60, None, 401


KINDS = [name for name in vars(Calls) if name not in ("session",) and not name.startswith("_")]


def request_of(call, size, mix, chunked):
    """A whole request whose headers have `size` bytes, or as near as its lines allow."""
    method, path, bearer, body, _ = call
    data = json.dumps(body).encode() if body is not None else b""
    lines = ["Host: sessiond"] + ([f"Authorization: Bearer {bearer}"] if bearer else [])
    if body is not None:
        lines += ["Content-Type: application/json",
                  "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(data)}"]
    begin = f"{method} {path} HTTP/1.1"
    room = size - len("\r\n".join([begin, *lines, "", ""]).encode())
    if mix == "target":
        begin = f"{method} {path}?tenant={'t' * max(0, room - 8)} HTTP/1.1"
    elif mix != "empty lines":
        lines += mix(room)
    head = "\r\n".join([begin, *lines, "", ""]).encode()
    if mix == "empty lines":
        head = b"\r\n" * (room // 2) + head
    if chunked and body is not None:
        data = b"%x;extension=1\r\n" % len(data) + data + b"\r\n0\r\nX-Trailer: 1\r\n\r\n"
    return head + data


def ask(daemon, request, behind=b""):
    """The bytes that come back: the headers of one answer, or all if the connection is to be closed."""
    with RawSocket(daemon.node.port) as raw:
        raw.send(request + behind)
        if behind or b"Connection: close" in request:
            return raw.closed_within(10)[0]
        return one_answer(raw)


def one_answer(raw):
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            part = raw.socket.recv(65536)
        except OSError:
            break
        if not part:
            break
        data += part
    return data


def sweep(daemon, memory, kinds, mixes, chunked=False, sizes=None):
    """Answers by code, and the calls without one. Each kind of call meets other sizes."""
    calls, codes, silent = Calls(daemon), collections.Counter(), []
    for number, kind in enumerate(kinds):
        own = sizes or range(3000 + 41 * number % STEP, 9000, STEP)
        for mix, size in itertools.product(mixes, own):
            call = getattr(calls, kind)()
            got = statuses(ask(daemon, request_of(call, size, mix, chunked)))
            where = kind, getattr(mix, "__name__", mix), size
            if not got:
                silent.append(where)
                continue
            codes[got[0]] += 1
            assert got[0] in {call[4], 431, 414} | ({400} if mix == "target" else set()), (where, got)
    print(f"\nhead_memory {memory}: {sum(codes.values()) + len(silent)} requests, "
          f"{dict(sorted(codes.items()))}, without an answer: {len(silent)}")
    return silent


@pytest.mark.parametrize("memory", [8192, 4096])
@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: getattr(mix, "__name__", mix))
def test_a_call_with_a_head_of_any_size_is_answered(daemons, memory, mix):
    silent = sweep(daemons[memory], memory, KINDS, [mix])
    assert not silent, silent[:20]


def test_with_the_most_memory_every_head_is_served(daemons):
    silent = sweep(daemons[1048576], 1048576, ["login", "kick"], [one_header, many_headers, cookies])
    assert not silent, silent[:20]


@pytest.mark.parametrize("memory", [8192, 4096])
def test_a_chunked_call_with_a_head_of_any_size_is_answered(daemons, memory):
    silent = sweep(daemons[memory], memory, ["login", "refresh", "freeze"],
                   [one_header, many_headers, cookies], chunked=True)
    assert not silent, silent[:20]


@pytest.mark.parametrize("mix", [one_header, many_headers, bare_cookie], ids=lambda mix: mix.__name__)
def test_requests_behind_a_large_head_do_not_take_the_room_of_its_answer(daemons, mix):
    daemon, silent = daemons[8192], []
    behind = b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n" * 120
    behind += b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for size in range(300, 7500, STEP * 2 // 3):
        request = request_of(Calls(daemon).login(), size, mix, False)
        got = statuses(ask(daemon, request, behind))
        if got[:1] not in ([201], [431]):
            silent.append((size, got[:3]))
    assert not silent, silent


def test_answers_of_any_kind_are_whole_where_there_is_no_room_for_their_heads(daemons):
    """Answers that are sent past the library equal its own, but for the end of the connection."""
    daemon = daemons[8192]
    token = daemon.login(unique("heads"))["access_token"]
    assert daemon.validate(token).status == 200  # from now on from memory
    for method, path in [("GET", "/v1/validate"), ("HEAD", "/v1/validate"), ("GET", "/v1/devices")]:
        answers = []
        for size in (300, 7500):
            call = method, path, token, None, 200
            data = ask(daemon, request_of(call, size, origin, False).replace(
                b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), b"")
            head, _, body = data.partition(b"\r\n\r\n")
            lines = sorted(line for line in head.decode().split("\r\n")
                           if not line.startswith(("Date:", "X-Request-Id:", "RateLimit")))
            answers.append((lines, len(body) if method == "HEAD" else body))
        assert answers[0] == answers[1], (method, path)


@pytest.mark.parametrize("memory, first", [(8192, 7500), (4096, 3480)])
def test_where_memory_ends_every_size_is_answered(daemons, memory, first):
    """The record of the last header, the mark's own, the body and the answer: each may be what does not fit."""
    sizes = range(first, first + 220, 3)
    silent = sweep(daemons[memory], memory, ["refresh", "freeze"], [one_header], sizes=sizes)
    silent += sweep(daemons[memory], memory, ["refresh"], [one_header], chunked=True, sizes=sizes)
    assert not silent, silent[:20]

"""Clients for the tests: HTTP, raw sockets, and just enough RESP for Redis."""

import http.client
import json
import re
import socket
import threading
import time

from contract import CONTRACT
from machine import clock

# Seconds after which it hangs, on the busiest machine. How long an answer may take is not said by this.
HANGS = 30


REQUEST_LINE = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.[01]\r?\n")


class Answer:
    """An HTTP answer, read whole."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    def header(self, name):
        """The value of a header, None if it is absent; more than one is an error."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} appears {len(values)} times"
        return values[0] if values else None

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The `code` of a problem."""
        return self.json.get("code")

    def __repr__(self):
        return f"<{self.status} {dict(self.headers)} {self.body[:600]!r}>"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Client:
    """One kept-alive connection a thread; nothing is ever sent twice.

    A connection that was unused for `idle` seconds is not used again: the server may be about to
    close it. Answers are held to the description of the interface, unless somebody else gives them."""

    def __init__(self, port=None, unix=None, timeout=HANGS, source=None, idle=20, held=True, ops=False):
        self.port = port
        self.unix = unix
        self.timeout = timeout
        self.source = source
        self.idle = idle
        self.held, self.ops = held, ops
        self.local = threading.local()

    def connection(self):
        connection = getattr(self.local, "connection", None)
        if connection and time.monotonic() - self.local.used < self.idle:
            return connection
        self.close()
        if self.unix:
            connection = UnixConnection(self.unix, self.timeout)
        else:
            source = (self.source, 0) if self.source else None
            connection = http.client.HTTPConnection(
                "127.0.0.1", self.port, timeout=self.timeout, source_address=source)
        self.local.connection = connection
        return connection

    def close(self):
        connection = getattr(self.local, "connection", None)
        if connection:
            connection.close()
        self.local.connection = None

    def call(self, method, path, body=None, bearer=None, headers=None):
        """Sends one request. A dict or list as body goes out as JSON, bytes as they are."""
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        if body is not None and "Content-Type" not in headers:
            headers["Content-Type"] = "application/json"
        if bearer:
            headers["Authorization"] = "Bearer " + bearer
        headers = {name: value for name, value in headers.items() if value is not None}
        connection = self.connection()
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = Answer(response.status, response.getheaders(), response.read())
        except BaseException:
            self.close()
            raise
        self.local.used = time.monotonic()
        if self.held:
            CONTRACT.hold(method, path, answer, self.ops)
        return answer


class RawSocket:
    """Bytes on a TCP connection, for requests that no client library would send.

    Answers to bytes that are plainly one request each are held to the description; where the framing is
    what is tested, nobody could say which answer is whose."""

    def __init__(self, port, timeout=HANGS, receive_buffer=None):
        self.socket = socket.socket(socket.AF_INET)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.socket.close()

    def send(self, data):
        lines = REQUEST_LINE.findall(data)
        self.asked = getattr(self, "asked", [])  # (method, target) without their answer; None once that is unknown
        if self.asked is not None and len(lines) == 1 and data.startswith(lines[0][0]):
            self.asked.append(tuple(word.decode("latin-1") for word in lines[0]))
        else:
            self.asked = None
        self.socket.sendall(data)

    def closed_within(self, seconds):
        """Reads until the peer closes: (everything read, whether it closed in time). The seconds are of
        the clock that stands still while the machine keeps us waiting."""
        data, closed = b"", False
        end, given_up = clock() + seconds, time.monotonic() + 10 * seconds
        while not closed and clock() < end and time.monotonic() < given_up:
            part, closed = self.read_for(min(seconds, 0.2))
            data += part
        return data, closed

    def read_for(self, seconds):
        """Reads for so long, or until the peer closes: (everything read, whether it closed)."""
        data = b""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                part = self.socket.recv(65536)
            except socket.timeout:
                break
            except (ConnectionResetError, BrokenPipeError):
                return data, True
            if not part:
                return data, True
            data += part
        return data, False

    def answer(self, timeout=HANGS):
        """Reads one answer with a Content-Length, leaving later bytes for the next call."""
        self.socket.settimeout(timeout)
        pending = getattr(self, "pending", b"")
        while b"\r\n\r\n" not in pending:
            part = self.socket.recv(65536)
            if not part:
                raise ConnectionError(f"closed after {pending!r}")
            pending += part
        head, _, rest = pending.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = [tuple(line.split(": ", 1)) for line in lines[1:]]
        length = int(dict((k.lower(), v) for k, v in headers).get("content-length", 0))
        while len(rest) < length:
            part = self.socket.recv(65536)
            if not part:
                raise ConnectionError("closed inside a body")
            rest += part
        self.pending = rest[length:]
        answer = Answer(int(lines[0].split()[1]), headers, rest[:length])
        if getattr(self, "asked", None) and answer.status >= 200:
            CONTRACT.hold(*self.asked.pop(0), answer)
        return answer


def statuses(data):
    """The status codes of the answers in a run of bytes, in order."""
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3}) [A-Z]", data)]


class RedisError(Exception):
    pass


class Redis:
    """A blocking RESP2 client of one Redis node."""

    def __init__(self, port, password=None, timeout=10):
        self.port = port
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.file = self.socket.makefile("rb")
        if password:
            self.call("AUTH", password)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        self.file.close()
        self.socket.close()

    def call(self, *words):
        self.socket.sendall(encode_command(words))
        return self.read()

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
        raise ConnectionError(f"unexpected {line!r}")

    def info(self, section):
        lines = self.call("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def keys(self):
        cursor, found = b"0", []
        while True:
            cursor, keys = self.call("SCAN", cursor, "COUNT", 1000)
            found += keys
            if cursor == b"0":
                return found

    def content(self, key):
        """Every byte of a key's value that can be told apart, as one list."""
        kind = self.call("TYPE", key)
        if kind == "hash":
            return self.call("HGETALL", key)
        if kind == "string":
            return [self.call("GET", key)]
        if kind == "zset":
            return self.call("ZRANGE", key, 0, -1)
        return [self.call("DUMP", key)]

    def command_counts(self):
        """Calls of each command since the last CONFIG RESETSTAT."""
        counts = {}
        for name, value in self.info("commandstats").items():
            counts[name.removeprefix("cmdstat_")] = int(value.split("calls=")[1].split(",")[0])
        return counts


def encode_command(words):
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


def key_slot(key):
    """CRC16/XMODEM over the hash tag, modulo 16384 (Redis cluster specification)."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    if start >= 0 and end > start + 1:
        key = key[start + 1:end]
    crc = 0
    for byte in key:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021) & 0xFFFF if crc & 0x8000 else (crc << 1) & 0xFFFF
    return crc % 16384

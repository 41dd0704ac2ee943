"""A receiver of alerts, and what raises some."""

import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import re
import secrets
import socket
import ssl
import threading
import time

import pytest

from daemon import new_key
from redis_servers import free_port, wait_until

ALERT_ID = re.compile(r"alert_[0-9a-f]{32}")


class Post:
    """One alert as it was posted."""

    def __init__(self, headers, body):
        self.headers, self.body = headers, body
        self.id = headers["webhook-id"]
        self.json = json.loads(body)
        self.data = self.json["data"]

    def is_signed_with(self, key):
        signed = b".".join([self.id.encode(), self.headers["webhook-timestamp"].encode(), self.body])
        mac = hmac.new(key, signed, hashlib.sha256).digest()
        return self.headers["webhook-signature"] == "v1," + base64.b64encode(mac).decode()


class Receiver:
    """An HTTP server that takes alerts; `answers` are the statuses it gives, then 204, but 400 to
    alerts about an address in `refused`."""

    def __init__(self, certificate=None):
        self.port = free_port()
        self.certificate = certificate
        self.posts, self.answers = [], []
        self.taken, self.refused = [], set()
        self.redirected = False
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.server = None

    @property
    def url(self):
        return f"http{'s' if self.certificate else ''}://127.0.0.1:{self.port}/alerts"

    def up(self):
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.posts.append(Post(self.headers, body))
                receiver.may_answer.wait(30)
                status = receiver.judge(receiver.posts[-1])
                self.send_response(status)
                self.send_header("Location", receiver.url)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self):
                receiver.redirected = True

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def judge(self, post):
        if post.data.get("address") in self.refused:
            return 400
        status = self.answers.pop(0) if self.answers else 204
        if status == 204:
            self.taken.append(post)
        return status

    def down(self):
        if self.server:
            self.may_answer.set()
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def wait(self, count, seconds=15):
        wait_until(lambda: len(self.posts) >= count, seconds, f"{count} posts")
        return self.posts[:count]


@pytest.fixture
def secret(tmp_path):
    """The file of the secret, and the key."""
    path, key = tmp_path / "webhook-secret", secrets.token_urlsafe(32)
    path.write_text(key + "\n")
    path.chmod(0o600)
    return path, key.encode()


@pytest.fixture
def begin(start, secret):
    """Starts a node whose alerts go to a receiver; X-Forwarded-For names the caller's address."""
    def with_receiver(receiver=None, **options):
        webhook = {"alerts__webhook_url": receiver.url if receiver else "",
                   "alerts__webhook_secret_file": secret[0]}
        return start(server__trusted_proxies="127.0.0.0/8", **webhook, **options)
    return with_receiver


def guess(daemon, address, count, key=None):
    """So many calls with a wrong key from the address."""
    for _ in range(count):
        answer = daemon.call("GET", "/v1/users/x", None, key or new_key(),
                             {"X-Forwarded-For": address})
        assert answer.status in (401, 429), answer


def addresses(count, network=0):
    return [f"198.51.{network}.{n + 1}" for n in range(count)]


class Raw:
    """A receiver that writes these bytes as its answer, and then does nothing."""

    def __init__(self, answer, closes=False):
        self.answer, self.closes = answer, closes
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.posts, self.open = [], []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection = self.listener.accept()[0]
                self.open.append(connection)
                data = b""
                while b'"data"' not in data:
                    data += connection.recv(65536)
                self.posts.append((time.monotonic(), re.search(rb"webhook-id: (\S+)", data)[1]))
            except OSError:
                return
            with contextlib.suppress(OSError):  # who has enough of it closes
                connection.sendall(self.answer)
                if self.closes:
                    connection.close()

    def down(self):
        for each in (self.listener, *self.open):
            each.close()


@pytest.fixture
def raw():
    receivers = []

    def begin(answer, closes=False):
        receivers.append(Raw(answer, closes))
        return receivers[-1]

    yield begin
    for receiver in receivers:
        receiver.down()

"""Gateways get their answers in time, whatever Redis does."""

import collections
import threading

import pytest

from bounds import at_most
from client import Client
from daemon import unique
from faults import frozen
from redis_servers import SingleRedis, wait_until

AUTHZ = "/authz/auth-request"
IN_TIME = 0.2  # Envoy's default timeout; authz.timeout is 0.15


@pytest.fixture
def redis(tmp_path):
    server = SingleRedis(tmp_path / "redis")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def node(start, redis):
    return start(redis=redis, redis__mode="standalone")


class Calls:
    """Calls of gateways with the tokens of some sessions, and what became of them."""

    def __init__(self, daemon, sessions):
        self.daemon, self.sessions = daemon, sessions
        self.names, self.statuses, self.lock = [], collections.Counter(), threading.Lock()

    def call(self, client, number):
        kind, token = self.sessions[number % len(self.sessions)]
        name = f"gateway-{number}"
        answer = client.call("GET", AUTHZ, None, token, {"X-Request-Id": name})
        stale = answer.header("X-Session-Stale") if answer.status == 200 else None
        code = None if answer.status == 200 else answer.code
        if answer.status == 503:
            assert int(answer.header("Retry-After")) >= 1, answer
            assert answer.header("Cache-Control") == "no-store", answer
        with self.lock:
            self.statuses[kind, answer.status, code, bool(stale)] += 1

    def run(self, count, threads):
        def work(first):
            client = Client(port=self.daemon.node.port)
            for number in range(first, count, threads):
                self.call(client, number)
            client.close()
        workers = [threading.Thread(target=work, args=(first,)) for first in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def seconds(self):
        """How long the daemon took for each call, by itself: the test's own scheduling does not count."""
        return [line["event.duration"] / 1e9 for line in self.daemon.node.audit_lines()
                if line.get("http.request.id", "").startswith("gateway-")]


def is_stale(daemon, token):
    answer = daemon.call("GET", AUTHZ, None, token)
    assert answer.status == 200, answer
    return bool(answer.header("X-Session-Stale").strip())


def test_a_thousand_calls_are_answered_in_time_while_redis_hangs(node, redis):
    """Half of them of sessions in memory, half of sessions that it does not know; and once more when memory is
    unverified."""
    known = [node.login(unique())["access_token"] for _ in range(10)]
    unknown = [node.login(unique())["access_token"] for _ in range(10)]
    for token in known:
        assert node.call("GET", AUTHZ, None, token).status == 200
    calls = Calls(node, [pair for both in zip(known, unknown)
                         for pair in zip(("known", "unknown"), both)])
    with frozen(redis.process.pid):
        calls.run(1000, threads=4)
        wait_until(lambda: is_stale(node, known[0]), 10, "memory to go unverified")
        calls.run(1000, threads=4)
    wait_until(lambda: len(calls.seconds()) == 2000, 5, "the lines of all calls")
    slowest = max(calls.seconds())
    print(f"slowest {slowest * 1000:.1f} ms", dict(calls.statuses))
    at_most(slowest, IN_TIME, "the slowest answer to a gateway")
    for (kind, status, code, _), count in calls.statuses.items():
        assert (status == 200) == (kind == "known"), (kind, status, code, count)
        assert code in (None, "store_timeout", "store_unavailable"), (kind, status, code, count)
    assert any(stale for *_, stale in calls.statuses), calls.statuses
    assert calls.statuses["unknown", 503, "store_timeout", False] > 0, calls.statuses
    wait_until(lambda: all(node.call("GET", AUTHZ, None, token).status == 200 for token in known + unknown), 10,
               "all is well again")


def test_the_read_goes_on_and_fills_memory(node, redis):
    """Redis answers after authz.timeout, and before redis.timeout."""
    node.node.write_config(redis__timeout="20s")
    node.stop()
    node.start()
    warm, token = node.login(unique()), node.login(unique())["access_token"]
    assert node.call("GET", AUTHZ, None, warm["access_token"]).status == 200
    hurried = node.node.metric("sessiond_validations_hurried_total")
    with frozen(redis.process.pid):
        answer = node.call("GET", AUTHZ, None, token)
        assert answer.status == 503 and answer.code == "store_timeout", answer
    assert node.node.metric("sessiond_validations_hurried_total") == hurried + 1
    wait_until(lambda: node.call("GET", AUTHZ, None, token).status == 200, 5, "it is known")


def test_a_revoked_session_stays_revoked_while_redis_hangs(node, redis):
    login = node.login(unique())
    token = login["access_token"]
    assert node.call("GET", AUTHZ, None, token).status == 200
    with frozen(redis.process.pid):
        assert node.call("POST", "/v1/logout", None, token).status == 202
        answer = node.call("GET", AUTHZ, None, token)
        assert answer.status == 401 and answer.json["reason"] == "logged_out", answer
    assert node.call("GET", AUTHZ, None, token).status == 401

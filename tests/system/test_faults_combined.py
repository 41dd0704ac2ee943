"""Everything at once: stderr has no reader, the audit disk is full, the webhook hangs, Redis comes and
goes. Calls are answered in time all the same, and none is refused for it."""

import collections
import os
import signal
import threading

from alert_receiver import begin, guess, raw, secret  # noqa: F401 (fixtures)
from bounds import at_most
from broken_disks import fill, full_pipe, small_disk  # noqa: F401
from daemon import unique
from machine import clock
from probes import FULL
from redis_servers import SLOW, SingleRedis, for_a_while, wait_until

SECONDS = 60 if FULL else 4
FLAP = 0.7  # seconds that Redis is there, and is frozen
DEADLINE = 0.5 * SLOW  # redis.timeout
AUDIT_WAIT = 0.1


class Flapping:
    """Freezes a Redis and lets it go on, again and again."""

    def __init__(self, process):
        self.process, self.over = process, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.wait(FLAP):
            self.process.send_signal(signal.SIGSTOP)
            self.over.wait(FLAP)
            self.process.send_signal(signal.SIGCONT)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


class Calls:
    """The callers' view: statuses by kind of call, and the slowest answer."""

    def __init__(self):
        self.statuses = collections.defaultdict(collections.Counter)
        self.slowest = collections.defaultdict(float)

    def make(self, kind, call, *arguments, **named):
        begun = clock()
        answer = call(*arguments, **named)
        self.slowest[kind] = max(self.slowest[kind], clock() - begun)
        self.statuses[kind][answer.status] += 1
        return answer

    def tell(self):
        for kind, statuses in sorted(self.statuses.items()):
            print(f"{kind}: {dict(statuses)}, slowest {self.slowest[kind] * 1000:.0f} ms")


def call_for_a_while(daemon, living):
    """One call after the other; each is answered within its deadline, what a line waits for its place, and
    what a loop is late."""
    seen = Calls()
    for _ in for_a_while(SECONDS):
        seen.make("validate", daemon.validate, living)
        seen.make("login", daemon.try_login, unique())
        seen.make("livez", daemon.node.ops.call, "GET", "/livez")
        seen.make("metrics", daemon.node.ops.call, "GET", "/metrics")
    print()
    seen.tell()
    at_most(max(seen.slowest.values()), DEADLINE + AUDIT_WAIT + 0.4 * SLOW, "the slowest answer")
    assert set(seen.statuses["livez"]) == {200} == set(seen.statuses["metrics"])
    return seen


def test_a_full_pipe_a_full_disk_a_hanging_webhook_and_a_flapping_redis_at_once(
        begin, raw, small_disk, tmp_path):  # noqa: F811
    redis, pipe = SingleRedis(tmp_path / "redis").start(), full_pipe()
    try:
        daemon = begin(raw(b""), begin_now=False, redis=redis, redis__mode="standalone", log__level="debug",
                       alerts__guesses_per_minute=1)
        node = daemon.node
        node.write_config(audit__file=small_disk / "audit.log")
        node.spawn(stderr=pipe[1])
        node.wait_for("/readyz")
        living = daemon.login()["access_token"]
        assert daemon.is_alive(living)
        guess(daemon, "198.51.100.1", 2)  # an alert for the webhook
        with Flapping(redis.process):
            seen = call_for_a_while(daemon, living)
            assert set(seen.statuses["validate"]) == {200} and set(seen.statuses["login"]) <= {201, 503}
            fill(small_disk, 0)
            wait_until(lambda: daemon.try_login(unique()).json.get("code") == "audit_unavailable", 10,
                       "the disk is full")
            seen = call_for_a_while(daemon, living)
            assert set(seen.statuses["validate"]) <= {200, 503} and set(seen.statuses["login"]) == {503}
        fill(small_disk, 32 << 20)
        wait_until(lambda: daemon.try_login(unique()).status == 201, 15, "there is room again")
        assert daemon.is_alive(living)
        node.signal(signal.SIGTERM)
        assert node.process.wait(20 * SLOW) == 0
    finally:
        redis.stop()
        for end in pipe:
            os.close(end)

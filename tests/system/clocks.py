"""Wall clocks that tests set: a wrong one, and a time that is the same for Redis and all nodes."""

import struct
import time

from daemon import Daemon
from faults import BrokenCalls
from redis_servers import SingleRedis, wait_until

WRONG, RIGHT = 1, (0, 2)  # of three nodes: the one whose clock is wrong, and the others


class WrongClock:
    """The clocks of processes: the wall clock `seconds` ahead from now on, and time that passes at once."""

    def __init__(self, directory):
        self.file, self.slept_file = directory / "clock", directory / "slept"
        self.slept = 0
        self.set(0)
        self.elapse(0)
        self.environment = {**BrokenCalls(directory).environment,
                            "SESSIOND_TEST_CLOCK": str(self.file), "SESSIOND_TEST_SLEPT": str(self.slept_file)}

    def set(self, seconds):
        write_number(self.file, int(seconds * 1000))

    def elapse(self, seconds):
        """So much time passes in a moment, as for hosts that were suspended: what is known ages, the wall
        clock goes on, timers and deadlines do not count it."""
        self.slept += int(seconds * 1000)
        write_number(self.slept_file, self.slept)


def write_number(path, number):
    """In place: the processes have mapped the file."""
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.write(struct.pack("=q", number))


def clock_of(node):
    """The node's judgement of its clock at this moment: "pass" or "warn"."""
    return node.ops.call("GET", "/readyz").json["checks"]["clock"]


class DrivenTime:
    """A Redis and daemons for which hours pass in a moment."""

    def __init__(self, directory):
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.ahead, self.daemons = directory, 0, []
        self.clock = WrongClock(directory)
        self.redis = SingleRedis(directory / "redis", environment=self.clock.environment)

    def __enter__(self):
        self.redis.start()
        return self

    def __exit__(self, failed, *unused):
        try:
            for daemon in self.daemons if failed is None else ():
                daemon.stop()
        finally:
            for daemon in self.daemons:
                daemon.kill()
            self.redis.stop()

    def daemon(self, count=1, **options):
        daemon = Daemon(self.directory / f"daemon{len(self.daemons)}", self.redis, count,
                        redis__mode="standalone", redis__wait_timeout=0, **options)
        self.daemons.append(daemon)
        for node in daemon.nodes:
            node.environment = self.clock.environment
        return daemon.start()

    def now(self):
        return time.time() + self.ahead + self.clock.slept / 1000

    def go_to(self, second):
        """Returns when all nodes know that it is this second of now()."""
        self.ahead = max(self.ahead, self.ahead + second - self.now())
        self.clock.set(self.ahead)
        for daemon in self.daemons:
            for node in daemon.nodes:
                wait_until(lambda: clock_of(node) == "pass", 5, "the node has asked Redis for the time")

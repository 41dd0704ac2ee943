"""How long the machine kept a test waiting, so that bounds of time judge the service alone.

Linux counts for each thread how long it ran and how long it stood ready and got no processor
(/proc/PID/schedstat), and for the machine how long its processors were idle. Waits of the threads of this test run
are taken off the time that something took, as far as the processors were busy with others meanwhile: threads that
wait for each other excuse nothing, nor do many that wait at once excuse more than passed."""

import glob
import os
import threading
import time

homes = set()  # directories of Redis clusters, which leave pid files there


def our_processes():
    """This process, its children, and the servers of its clusters, which are nobody's children."""
    yield os.getpid()
    for kin in glob.iglob("/proc/self/task/*/children"):
        yield from read(kin).split()
    for home in homes:
        for path in glob.iglob(f"{home}/node-*/redis.pid"):
            yield from read(path).split()


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:  # it has ended
        return ""


class Account:
    """Time stolen from the threads of this test run since they were first seen, in seconds."""

    FRESH = 0.3  # seconds until new threads are looked for
    PAUSE = 0.005  # between readings, which cost more than a quick answer of the service
    SLICE = 0.25  # a wait is counted when the thread goes on, which may be later than it was stolen

    def __init__(self):
        self.lock = threading.Lock()
        self.files, self.seen = {}, {}
        self.ran, self.waited, self.stolen = 0, 0, 0
        self.looked, self.latest = float("-inf"), float("-inf")
        self.begun = self.latest_read = self.read(time.monotonic())

    def read(self, now):
        """(now, what our threads waited, what others ran): only differences mean anything."""
        if now - self.looked > self.FRESH:
            self.look(now)
        for name in list(self.files):
            self.add(name)
        return now, self.waited / 1e9, os.cpu_count() * now - idle() - self.ran / 1e9

    def look(self, now):
        for process in our_processes():
            for name in glob.iglob(f"/proc/{process}/task/*/schedstat"):
                if name not in self.files:
                    try:
                        self.files[name] = os.open(name, os.O_RDONLY)
                    except OSError:  # it has ended
                        continue
                    self.seen[name] = None
        self.looked = now

    def add(self, name):
        try:
            ran, waited, _ = map(int, os.pread(self.files[name], 100, 0).split())
        except OSError:  # it has ended
            os.close(self.files.pop(name))
            return
        before, self.seen[name] = self.seen[name] or (ran, waited), (ran, waited)
        self.ran += ran - before[0]
        self.waited += waited - before[1]

    def clock(self):
        with self.lock:
            now = time.monotonic()
            if now - self.latest_read[0] > self.PAUSE:
                self.latest_read = self.read(now)
            stolen = stolen_of(*(now - then for now, then in zip(self.latest_read, self.begun)))
            self.latest = max(self.latest, now - self.stolen - stolen)
            if self.latest_read[0] - self.begun[0] > self.SLICE:
                self.stolen, self.begun = self.stolen + stolen, self.latest_read
            return self.latest


def stolen_of(passed, waited, others):
    """The stolen part of each wait is the share that others had of the processors that all waits were for."""
    return min(passed, waited) * min(1, max(0, others) / waited) if waited > 0 else 0


def idle():
    """Seconds that the machine's processors had nothing to do."""
    ticks = read("/proc/stat").split(maxsplit=6)
    return (int(ticks[4]) + int(ticks[5])) / os.sysconf("SC_CLK_TCK")


# Seconds as of time.monotonic(), of a clock that stands still while the machine keeps us waiting. For
# bounds of how long something may take; what must take its time goes by the other.
clock = Account().clock

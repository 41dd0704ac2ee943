#!/usr/bin/python3
"""How late a kick is behind gateways: nginx, HAProxy and Caddy in front of three nodes.

For each gateway, and for the shipped cache, users log in, are let in, are kicked at one of the nodes in turn, and go on
asking. Counted are the time from the sending of the kick to the first refusal, and from its answer to the last request
that was let in; 0 if none was."""
import argparse
import math
import os
import pathlib
import signal
import statistics
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "clients"), str(ROOT / "tests" / "system")]


# So that SIGTERM, like Ctrl-C, ends what was started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--kicks", type=int, default=200, help="of each gateway")
    parser.add_argument("--refusals", type=int, default=9, help="in a row, so that each node has answered")
    return parser.parse_args()


def lateness(gateway, testbed, number, refusals, pause):
    """(seconds from the kick to the first refusal, from its answer to the last request let in, how many were) of one."""
    login = testbed.login()
    token = login["access_token"]
    for _ in range(3):
        verdict = gateway.ask(token)
        assert verdict.status == 200, verdict
    sent = time.monotonic()
    testbed.kick(login, number % testbed.count)
    answered, first, last, allowed, refused = time.monotonic(), None, 0, 0, 0
    while refused < refusals:
        verdict = gateway.ask(token)
        assert verdict.status in (200, 401), verdict
        if verdict.status == 200:
            last, allowed, refused = time.monotonic() - answered, allowed + 1, 0
        else:
            refused += 1
            first = first or time.monotonic() - sent
        time.sleep(pause)
    return first, last, allowed


def measure(gateway, testbed, arguments):
    """The figures of so many kicks; those that a cache makes late run side by side."""
    lanes = 20 if gateway.settles else 1
    found, lock = [], threading.Lock()

    def run(lane):
        for number in range(lane, arguments.kicks, lanes):
            one = lateness(gateway, testbed, number, arguments.refusals, 0.02 if gateway.settles else 0)
            with lock:
                found.append(one)
    threads = [threading.Thread(target=run, args=(lane,)) for lane in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def percentile(values, share):
    return sorted(values)[max(math.ceil(len(values) * share) - 1, 0)]


def report(name, found, kicks):
    assert len(found) == kicks, f"{name}: {kicks - len(found)} kicks came to no end"
    firsts, lasts, counts = zip(*found)
    print(f"{name:<12} {kicks} kicks: refused after {figures(firsts)}; last let in after the answer {figures(lasts)}, "
          f"{sum(1 for count in counts if count)} kicks with any, {sum(counts)} requests", flush=True)


def figures(seconds):
    return f"p50 {statistics.median(seconds) * 1000:.1f} ms, p99 {percentile(seconds, 0.99) * 1000:.1f} ms, most {max(seconds) * 1000:.1f} ms"


def main():
    arguments = parse()
    os.environ.setdefault("SESSIOND_BINARY", str((ROOT / arguments.build / "sessiond").resolve()))
    from gateways import Caddy, CachingNginx, Haproxy, Nginx
    from redis_servers import Cluster
    from testbed import Testbed
    with tempfile.TemporaryDirectory(prefix="sessiond-bench-") as name:
        directory = pathlib.Path(name)
        directory.chmod(0o711)
        cluster = Cluster(directory / "cluster")
        try:
            testbed = Testbed(directory / "testbed", 3, cluster)
            try:
                testbed.start()
                for kind in (Nginx, Haproxy, Caddy, CachingNginx):
                    with kind(testbed) as gateway:
                        report(gateway.name, measure(gateway, testbed, arguments), arguments.kicks)
                testbed.daemon.stop()
            finally:
                testbed.close()
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""How late a kick is behind gateways: nginx, HAProxy and Caddy in front of three nodes.

For each gateway, and for the shipped cache, users log in, are let in, are kicked at one of the nodes in turn, and go on
asking. What counts is when the last request was let in, from the answer to the kick on; 0 if none was."""
import argparse
import math
import os
import pathlib
import statistics
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "clients"), str(ROOT / "tests" / "system")]


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--kicks", type=int, default=200, help="of each gateway")
    parser.add_argument("--refusals", type=int, default=9, help="in a row, so that each node has answered")
    return parser.parse_args()


def lateness(gateway, testbed, number, refusals, pause):
    """(seconds until the last request that was let in, how many were) after one kick."""
    login = testbed.login()
    token = login["access_token"]
    for _ in range(3):
        verdict = gateway.ask(token)
        assert verdict.status == 200, verdict
    testbed.kick(login, number % testbed.count)
    answered, last, allowed, refused = time.monotonic(), 0, 0, 0
    while refused < refusals:
        verdict = gateway.ask(token)
        assert verdict.status in (200, 401), verdict
        if verdict.status == 200:
            last, allowed, refused = time.monotonic() - answered, allowed + 1, 0
        else:
            refused += 1
        time.sleep(pause)
    return last, allowed


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
    late = [seconds * 1000 for seconds, _ in found]
    print(f"{name:<12} {len(found)} kicks: last request let in after p50 {statistics.median(late):.1f} ms, "
          f"p99 {percentile(late, 0.99):.1f} ms, most {max(late):.1f} ms; "
          f"{sum(1 for _, allowed in found if allowed)} kicks with any, {sum(allowed for _, allowed in found)} requests", flush=True)


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

#!/usr/bin/python3
"""A chaos run: clients on three nodes of sessiond, a nemesis, and the judgement of the history.

    chaos.py [--minutes N | --seconds N] [--seed S] [--binary FILE] [--rate CALLS]
             [--only FAULT]… [--keep DIR] [--verbose]

The exit status is 0 if nothing happened that must not happen. A run with the same seed draws the
same faults and the same wishes of the clients; threads and the network still take turns as they
like. Everything that is started is stopped, on Ctrl-C and failures too."""

import argparse
import collections
import json
import pathlib
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))

import daemon as daemons  # noqa: E402
from checker import Limits, Violation, check, explain  # noqa: E402
from clients import ClientProcess, Setting  # noqa: E402
from faults import is_well  # noqa: E402
from history import CHANGES, POLL, Operation  # noqa: E402
from nemesis import FAULTS, Lane, World, schedule  # noqa: E402
from redis_servers import ProxiedCluster, wait_until  # noqa: E402

NODES = 3
GRACE = 3
OPTIONS = {
    "redis__timeout": "500ms", "redis__connect_timeout": "300ms",
    # Lives are short, so that what a run leaves behind does not grow with its length.
    "policy__access_ttl": 240, "policy__refresh_ttl": 300, "policy__idle_timeout": 300,
    "policy__absolute_timeout": 600, "policy__refresh_grace": GRACE, "policy__max_devices": 100,
    "outage__grace": 60, "cache__snapshot_interval": 5, "cache__bytes": "16M",
    "audit__max_bytes": "8M",
}
PAUSES = {"redis": (0.5, 3), "sessiond": (1, 6)}
REST_SECONDS = 60       # for everything to come to rest after the last fault
VIOLATIONS_SHOWN = 10


class Run:
    def __init__(self, arguments, directory):
        self.arguments, self.directory = arguments, directory
        self.cluster = self.daemon = self.clients = None
        self.lanes, self.samples, self.problems = [], [[] for _ in range(NODES)], []
        self.operations, self.origin = [], time.monotonic()

    def say(self, text):
        if self.arguments.verbose:
            print(f"{time.monotonic() - self.origin:7.1f} {text}", flush=True)

    # --- the run ---

    def start(self):
        self.cluster = ProxiedCluster(self.directory / "cluster")
        self.cluster.start()
        wait_until(self.cluster.is_whole, 30, "the cluster is whole")
        self.daemon = daemons.Daemon(self.directory / "sessiond", self.cluster, NODES, **OPTIONS)
        for node in self.daemon.nodes:
            node.spawn(start_new_session=True)
        for node in self.daemon.nodes:
            node.wait_for("/readyz", 20)
        self.world = World(self.cluster, self.daemon.nodes)
        seed, rate = self.arguments.seed, self.arguments.rate
        self.clients = ClientProcess(Setting(
            ports=[node.port for node in self.daemon.nodes],
            ops_ports=[node.ops_port for node in self.daemon.nodes], key=daemons.SERVICE,
            seed=seed, rate=rate, threads=4, sessions=150,
            patience=self.arguments.patience))
        self.clients.ask("start")
        self.lanes = [Lane(self.world, lane, schedule(lane, seed, pauses, self.arguments.only),
                           self.say) for lane, pauses in PAUSES.items()]

    def rage(self):
        self.origin = time.monotonic()
        time.sleep(min(2, self.arguments.seconds / 10))
        for lane in self.lanes:
            lane.start()
        end = self.origin + self.arguments.seconds
        while time.monotonic() < end and not self.problems:
            time.sleep(0.5)
            self.sample_memory()
            for number, status in self.world.died_by_itself().items():
                self.problems.append(f"node {number} ended by itself with {status}:\n"
                                     + self.daemon.nodes[number].log_text()[-3000:])

    def heal(self):
        """Present faults heal, then the clients stop, then everything comes to rest."""
        for lane in self.lanes:
            lane.stopping.set()
        for lane in self.lanes:
            lane.join(180)
            self.problems += lane.errors + ([f"{lane.name} hangs"] if lane.is_alive() else [])
        self.cluster.make_whole(seconds=60)
        time.sleep(1)
        self.problems += [f"clients: {error}" for error in self.clients.ask("stop")]
        end = time.monotonic() + REST_SECONDS
        for number, node in enumerate(self.daemon.nodes):
            for condition, what in (
                    (lambda node=node: is_well(node), "is well again"),
                    (lambda node=node: node.metric("sessiond_journal_unsettled") == 0,
                     "has settled its journal"),
                    (lambda node=node: node.metric("sessiond_breakers_open") == 0,
                     "has closed its breakers")):
                self.expect(condition, max(1, end - time.monotonic()), f"node {number} {what}")

    def expect(self, condition, seconds, what):
        try:
            wait_until(condition, seconds, what)
        except (AssertionError, OSError) as error:
            self.problems.append(str(error))

    def finish(self):
        time.sleep(GRACE + Limits().slack + 0.5)
        self.looked_at = self.clients.ask("finish", 600)
        self.sample_memory()
        self.operations = [Operation(*row) for row in self.clients.ask("history", 300)]
        for node in self.daemon.nodes:
            try:
                node.stop()
            except AssertionError as error:
                self.problems.append(str(error))

    def stop(self):
        """Also in the middle of a failure."""
        for lane in self.lanes:
            lane.stopping.set()
        if self.clients:
            self.clients.end()
        if self.daemon:
            self.daemon.kill()
        if self.cluster:
            self.cluster.stop()

    # --- what is seen of it ---

    def sample_memory(self):
        for samples, node in zip(self.samples, self.daemon.nodes):
            process = node.process
            try:
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                samples.append(int(status.partition("VmRSS:")[2].split()[0]))
            except (AttributeError, OSError, IndexError):
                pass        # it is being restarted

    def read_audit(self):
        """{node: {request id: [(status, durability)]}} of the changes."""
        return {number: changes_on_record(node) for number, node in enumerate(self.daemon.nodes)}

    def faults(self):
        return sorted((fault for lane in self.lanes for fault in lane.done),
                      key=lambda fault: fault.start)

    def judge(self):
        faults = self.faults()
        violations = check(self.operations, Limits(refresh_grace=GRACE), faults, self.read_audit())
        violations += [Violation("run", problem, ()) for problem in self.problems]
        report(self, faults, violations)
        return violations


def changes_on_record(node):
    found = collections.defaultdict(list)
    for path in sorted(node.directory.glob("audit.log*")):
        with open(path, "rb") as lines:
            for line in lines:
                if b'"change-' not in line:
                    continue
                try:
                    flat = daemons.flatten(json.loads(line, object_pairs_hook=daemons.merge))
                except ValueError:
                    continue        # the piece that a crash left; no caller got an answer for it
                found[flat["http.request.id"]].append(
                    (flat["http.response.status_code"], flat.get("sessiond.durability")))
    return found


# --- the report -----------------------------------------------------------------------------------
def outcome(operation):
    if operation.status == 0:
        return "no answer"
    if operation.detail.get("stale_for") is not None:
        return "200 stale"
    if operation.acknowledged and "durability" in operation.detail:
        return f"{operation.status} {operation.detail['durability']}"
    return f"{operation.status} {operation.detail.get('code') or ''}".strip()


def report_operations(operations):
    kinds = collections.defaultdict(collections.Counter)
    for operation in operations:
        kinds[operation.kind][outcome(operation)] += 1
    for kind, counts in kinds.items():
        text = ", ".join(f"{name}: {count}" for name, count in counts.most_common())
        print(f"  {kind:<10} {sum(counts.values()):7d}   {text}")


def report_times(operations):
    times = sorted(o.end - o.start for o in operations if o.status and o.kind != POLL)
    if times:
        p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
        print(f"Answers: p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.0f} ms, "
              f"longest {times[-1] * 1000:.0f} ms (faults and frozen nodes included)")


def report(run, faults, violations):
    changes = sum(o.kind in CHANGES and o.acknowledged for o in run.operations)
    print(f"Operations: {len(run.operations)}, of which {changes} acknowledged changes; "
          f"{run.looked_at} sessions looked at after the run")
    report_operations(run.operations)
    report_times(run.operations)
    print(f"Faults injected: {len(faults)}")
    for kind, count in sorted(collections.Counter(fault.kind for fault in faults).items()):
        print(f"  {count:4d}   {kind}")
    hits = collections.Counter()
    for proxy in run.cluster.proxies.values():
        hits.update(proxy.hits)
    print("  hits at the proxies: " + ", ".join(f"{k} {n}" for k, n in sorted(hits.items())))
    print("Memory (RSS in MB; a restarted node begins anew):")
    for number, samples in enumerate(run.samples):
        if samples:
            tenth = samples[len(samples) // 10]
            middle, last = samples[len(samples) // 2], samples[-1]
            print(f"  node {number}: start {tenth / 1024:.1f}, middle {middle / 1024:.1f}, "
                  f"end {last / 1024:.1f}, most {max(samples) / 1024:.1f}")
    shown = one_of_each(violations)
    for violation in shown[:VIOLATIONS_SHOWN]:
        if violation.operations:
            print("\n  ".join(explain(violation, run.operations, faults, run.origin)))
        else:
            print(f"{violation.rule}: {violation.message}")
    if len(shown) > VIOLATIONS_SHOWN:
        print(f"… and {len(shown) - VIOLATIONS_SHOWN} more sessions")
    for rule, count in collections.Counter(v.rule for v in violations).items():
        print(f"  {count:4d}   {rule}")
    print(f"{len(violations)} violations, seed {run.arguments.seed}")


def one_of_each(violations):
    """The first violation of each rule by each session."""
    found = {}
    for violation in violations:
        last = violation.operations[-1] if violation.operations else None
        found.setdefault((violation.rule, last.session if last else violation.message), violation)
    return list(found.values())


def parse(words):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seconds", type=float, help="instead of minutes")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1000000))
    parser.add_argument("--binary", help="the sessiond to run")
    parser.add_argument("--rate", type=float, default=500, help="calls a second")
    parser.add_argument("--keep", metavar="DIR",
                        help="leave logs, audit files and the history in this new directory")
    parser.add_argument("--patience", type=float, default=80, metavar="SECONDS",
                        help="after the run, for nodes that distrust a Redis that lost changes")
    parser.add_argument("--only", action="append", metavar="FAULT", default=[],
                        choices=[name for lane in FAULTS.values() for name in lane],
                        help="this kind of fault (may be repeated)")
    parser.add_argument("--verbose", action="store_true", help="tell every fault as it ends")
    arguments = parser.parse_args(words)
    if arguments.seconds is None:
        arguments.seconds = arguments.minutes * 60
    return arguments


def main(words):
    arguments = parse(words)
    if arguments.binary:
        daemons.BINARY = str(pathlib.Path(arguments.binary).resolve())
    # A signal that ends us ends our processes; also in the background, where Ctrl-C would be ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    print(f"Chaos: {arguments.seconds:.0f} s, seed {arguments.seed}", flush=True)
    directory = pathlib.Path(arguments.keep or tempfile.mkdtemp(prefix="sessiond-chaos-"))
    if arguments.keep:
        directory.mkdir()   # a new one: what an earlier run left would be taken for this one's
    run = Run(arguments, directory)
    try:
        run.start()
        run.rage()
        run.heal()
        run.finish()
        violations = run.judge()
    finally:
        run.stop()
        if not arguments.keep:
            shutil.rmtree(directory, ignore_errors=True)
    if arguments.keep:
        with open(directory / "history.pickle", "wb") as file:
            pickle.dump(([tuple(o) for o in run.operations], [tuple(f) for f in run.faults()],
                         run.read_audit(), run.origin), file)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

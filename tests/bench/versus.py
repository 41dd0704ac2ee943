"""Two builds of sessiond in turn, in one run: what a change costs.

Each round measures both at each kind of call, the one that goes first taking turns; what counts is the
ratio of the two in the same round. The interval holds the median of such ratios in at least 95 of 100 runs,
whatever their distribution (order statistics, binomial). A change makes it worse if the whole interval
lies above MOST.

The second witness counts instead of timing: instructions in user space, by callgrind, of some thousand calls
less those of the start."""
import contextlib
import math
import pathlib
import re
import statistics
import subprocess

import service
from load import CONNECTIONS, SERVER_CORE, Contender, cpu_of, measure, print_demand, wrk

MOST = 1.03
KINDS = ("cached", "uncached", "login")
COUNTED, MORE = 2000, 8000  # calls under callgrind, and how many more the second time
FEW = 4  # connections then: with more the pings that keep memory fresh wait too long behind them


def interval(values):
    """(low, median, high) of the median, at 95 %."""
    values, count = sorted(values), len(values)
    below = [sum(math.comb(count, k) for k in range(rank)) / 2 ** count for rank in range(count + 1)]
    rank = max((rank for rank in range(1, count // 2 + 1) if below[rank] <= 0.025), default=0)
    if rank == 0:
        raise SystemExit("at least 6 rounds are needed for an interval of 95 %")
    return values[rank - 1], statistics.median(values), values[-rank]


class Build:
    """One binary: a service with its cache, one without."""

    def __init__(self, bench, binary, name, port):
        self.name, self.bench = name, bench
        self.services = {kind: service.Service(binary, bench.directory / f"{name}-{kind}", bench.nodes,
                                               bench.arguments.port + port + 2 * number, 1, options)
                         for number, (kind, options) in enumerate((("cached", None), ("uncached", {"cache.bytes": 0})))}
        self.contenders, self.idle_kib = {}, 0

    def start(self, stack, make_tokens):
        for kind, daemon in self.services.items():
            child, _ = stack.enter_context(daemon.running(SERVER_CORE))
            self.idle_kib = self.idle_kib or service.resident_kib(child.pid)
            self.contenders[kind] = Contender(f"{self.name} {kind}", url_of(daemon, "validate"), child.pid,
                                              daemon.directory / "tokens")
            make_tokens(daemon, self.contenders[kind].tokens)

    def run(self, kind, seconds):
        """CPU µs a call."""
        if kind != "login":
            result = measure(self.contenders[kind], seconds)
        else:
            daemon = self.services["cached"]
            result = cpu_of(self.contenders["cached"],
                            lambda: wrk(url_of(daemon, "login"), seconds, "logins", daemon.key, "versus"))
        for daemon in self.services.values():
            daemon.drop_rotated_audit()
        return result.cpu_us


def url_of(daemon, call):
    return f"http://127.0.0.1:{daemon.port}/v1/{call}"


def instructions(daemon, make_tokens, count):
    """(instructions, validations met in memory) of a whole life with so many validations."""
    out = daemon.directory / "callgrind.out"
    binary = daemon.binary
    daemon.binary = daemon.directory / "under-callgrind"
    daemon.binary.write_text(f"#!/bin/sh\nexec valgrind --tool=callgrind --callgrind-out-file={out} {binary} \"$@\"\n")
    daemon.binary.chmod(0o755)
    try:
        with daemon.running(SERVER_CORE):
            tokens = daemon.directory / "tokens"
            make_tokens(daemon, tokens)
            wrk(url_of(daemon, "validate"), 600, "each", tokens, count, connections=FEW, tolerated=0.01)
            hits = daemon.metric("sessiond_cache_hits_total")
    finally:
        daemon.binary = binary
    return int(re.search(r"^(?:totals|summary): (\d+)", out.read_text(), re.MULTILINE).group(1)), hits


def instructions_of(daemon, make_tokens):
    (one, few), (other, many) = (instructions(daemon, make_tokens, count) for count in (COUNTED, COUNTED + MORE))
    if many - few < 0.99 * MORE:
        raise RuntimeError(f"only {many - few:.0f} of {MORE} were met in memory")
    return (other - one) / MORE


def print_instructions(bench, binaries, make_tokens):
    slow = {"redis.timeout": "10s", "redis.connect_timeout": "5s"}
    daemons = [service.Service(binary, bench.directory / f"{name}-counted", bench.nodes, bench.arguments.port, 1, slow)
               for name, binary in binaries.items()]
    try:
        before, after = (instructions_of(daemon, make_tokens) for daemon in daemons)
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        print(f"instructions a cached validation: not counted ({error})")
        return
    print_demand("instructions a cached validation, after ÷ before", f"{after / before:.3f} "
                 f"({before:.0f}, {after:.0f})", f"at most {MOST}")


def measure_versus(bench, before, make_tokens):
    binaries = {"before": pathlib.Path(before).resolve(), "after": bench.arguments.build / "sessiond"}
    rounds = max(bench.arguments.rounds, 10)
    ratios = {kind: [] for kind in KINDS}
    with contextlib.ExitStack() as stack:
        builds = [Build(bench, binary, name, 4 * number) for number, (name, binary) in enumerate(binaries.items())]
        for build in builds:
            build.start(stack, make_tokens)
        print(f"{rounds} rounds of {bench.arguments.seconds} s each, {CONNECTIONS} connections: CPU, after ÷ before, and its interval of 95 %")
        for number in range(rounds):
            for kind in KINDS:
                order = builds if number % 2 == 0 else builds[::-1]
                cpu = {build.name: build.run(kind, bench.arguments.seconds) for build in order}
                ratios[kind].append(cpu["after"] / cpu["before"])
        for kind in KINDS:
            low, middle, high = interval(ratios[kind])
            print_demand(kind, f"{middle:.3f} ({low:.3f} to {high:.3f}) ", "WORSE" if low > MOST else "not worse")
        for build in builds:
            daemon = build.services["cached"]
            entries, size = daemon.metric("sessiond_cache_entries"), daemon.metric("sessiond_cache_bytes")
            print(f"{build.name}: {size / max(entries, 1):.0f} bytes per cache entry, "
                  f"resident when idle {build.idle_kib / 1024:.1f} MiB", flush=True)
    print_instructions(bench, binaries, make_tokens)

#!/usr/bin/python3
"""Measures sessiond against bare libmicrohttpd, nginx and webdis, all in one run.

The server that is measured has core 0 for itself and one worker; the client and Redis share core 1.
Every round measures every contender once; the table has the medians. All get the same requests (64
connections, kept alive, access tokens drawn at random) and give bodies of the same length:

  bare, fixed    libmicrohttpd, external epoll, one response made at the start and shared
  bare, fresh    the same, a response made for each request, as whose answers differ must
  nginx          return 200
  nginx + Lua    token looked up in a shared dictionary of 1,000, access log
  webdis         GET of one Redis key
  from Redis     sessiond without cache: authentication, read, decryption, audit line, metrics
  cached         sessiond as it comes: the same from memory, 1,000 tokens
  1,000,000      the same with so many sessions in its cache, all asked for

sessiond has the default configuration and the environment that its systemd unit gives it. CPU is user
and system time of the server's processes from /proc, divided by the requests; Redis' time is not in
it. Full load is wrk, which sends a request as soon as the last is answered; at half load requests
come by the clock (paced.c) and wait if the server does.

A use of a session is noted in Redis once a minute. So before the rounds with a million tokens every
one is used when that is due, and the rounds take less than a minute: they compare the cache, not
Redis.

With --before PATH two builds of sessiond are measured against each other, and nothing else (versus.py).

The part "platform", many tenants against one (many_tenants.py), takes about ten minutes at its full
size, so it is measured only if it is named.
"""
import collections
import contextlib
import http.client
import pathlib
import statistics
import subprocess
import sys
import time

import doors
import fairness
import many_tenants
import service
import versus
from load import (CLIENT_CORE, CONNECTIONS, HERE, SERVER_CORE, Contender, Result, cpu_of, measure, on_client_core,
                  print_demand, read_result, wrk)

TOKENS, STARTS = 1000, 5
SMALL_PARTS = ("nginx", "lua", "webdis", "redis", "cached")
PARTS = SMALL_PARTS + ("doors", "million", "fairness")
LONG_PARTS = ("platform",)  # only if asked for
USER = {"roles": ["customer", "beta"], "ip": "198.51.100.7", "user_agent": "Mozilla/5.0 (X11; Linux x86_64) bench/1.0"}


def measure_paced(paced, contender, rate, seconds):
    """Like measure(), with requests by the clock; whatever the contender, the path is /v1/validate."""
    port = contender.url.split(":")[2].partition("/")[0]
    command = on_client_core(paced, port, int(rate), seconds, CONNECTIONS, contender.tokens)
    return cpu_of(contender, lambda: read_result(subprocess.check_output(command, text=True), contender.url))


def fill(template, target, **values):
    text = (HERE / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    target.write_text(text)
    return target


def busy_share():
    """How busy all cores are just now, before anything is started here."""
    def read():
        fields = list(map(int, pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]))
        return sum(fields), fields[3] + fields[4]
    total, idle = read()
    time.sleep(2)
    total_after, idle_after = read()
    return 1 - (idle_after - idle) / (total_after - total)


def make_tokens(daemon, path):
    """Logs 1,000 users in, writes their access tokens; returns the length of a validate answer's body."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
    tokens = [daemon.login(connection, {
        **USER, "user_id": f"user-{number:07d}@example.com",
        "device": {"id": f"device-{number:07d}", "type": "mobile", "name": "Pixel 8 of the house"}})["access_token"]
        for number in range(TOKENS)]
    path.write_text("\n".join(tokens) + "\n")
    connection.request("GET", "/v1/validate", headers={"Authorization": f"Bearer {tokens[0]}"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"validate answered {answer.status}: {body.decode()}")
    return len(body)


def key_on_node(port, value):
    """Sets a key that the node on this port owns."""
    for number in range(1000):
        key = f"bench{number}"
        if subprocess.check_output(["redis-cli", "-p", str(port), "set", key, value], text=True).startswith("OK"):
            return key
    raise RuntimeError(f"the Redis node on port {port} owns no slots")


class Bench:
    """One run: its arguments, its directory, its cluster."""

    def __init__(self, arguments, directory, nodes):
        self.arguments, self.directory, self.nodes = arguments, directory, nodes
        self.results = collections.defaultdict(list)
        self.cached = self.make_service("cached", 0)

    def make_service(self, name, port, options=None):
        return service.Service(self.arguments.build / "sessiond", self.directory / name, self.nodes,
                               self.arguments.port + port, 1, options)

    def wants(self, part):
        return part in (self.arguments.only or PARTS)

    @contextlib.contextmanager
    def running(self, name, daemon):
        """A sessiond as a contender; its tokens are to be made."""
        with daemon.running(SERVER_CORE) as (child, _):
            yield Contender(name, f"http://127.0.0.1:{daemon.port}/v1/validate", child.pid, daemon.directory / "tokens")

    def others(self, stack, tokens, length):
        """Starts everything but sessiond, until the stack is closed; returns the contenders."""
        base, body = self.arguments.port + 6, "x" * length
        bare = self.arguments.build / "tests/bench/bare_responder"
        nginx = fill("nginx.conf", self.directory / "nginx.conf", PORT=base + 2, BODY=body, DIR=self.directory,
                     TOKENS=tokens)
        nginx_command = ["nginx", "-p", self.directory, "-e", self.directory / "nginx.log", "-c", nginx]
        webdis = fill("webdis.json", self.directory / "webdis.json", PORT=base + 3,
                      REDIS_PORT=self.arguments.redis_port, DIR=self.directory)
        key = key_on_node(self.arguments.redis_port, body)
        processes = [
            (base, [bare, base, length, "fixed"], [("bare, fixed", "/v1/validate", True)]),
            (base + 1, [bare, base + 1, length, "fresh"], [("bare, fresh", "/v1/validate", True)]),
            (base + 2, nginx_command, [("nginx", "/v1/validate", self.wants("nginx")),
                                       ("nginx + Lua", "/lua/v1/validate", self.wants("lua"))]),
            (base + 3, ["webdis", webdis], [("webdis", f"/GET/{key}.txt", self.wants("webdis"))]),
        ]
        contenders = []
        for port, command, rows in processes:
            if not any(wanted for _, _, wanted in rows):
                continue
            child = stack.enter_context(service.process(command, self.directory / "others.log", SERVER_CORE))
            service.wait_for(lambda port=port: service.listens(port), 10, f"{rows[0][0]} to listen")
            contenders += [Contender(name, f"http://127.0.0.1:{port}{path}", child.pid, tokens)
                           for name, path, wanted in rows if wanted]
        return contenders

    def rounds(self, contenders, daemons, seconds):
        for _ in range(self.arguments.rounds):
            for contender in contenders:
                self.results[contender.name].append(measure(contender, seconds))
                for daemon in daemons:
                    daemon.drop_rotated_audit()

    def median(self, name):
        return Result(*map(statistics.median, zip(*self.results[name])))


def print_table(bench, names):
    fixed, fresh = bench.median("bare, fixed"), bench.median("bare, fresh")
    print(f"{'':<14}{'requests/s':>11}{'CPU µs':>9}{'p50 µs':>9}{'p99 µs':>9}{'CPU ×fixed':>12}{'CPU ×fresh':>12}")
    for name in names:
        row = bench.median(name)
        print(f"{name:<14}{row.rate:>11.0f}{row.cpu_us:>9.1f}{row.p50_us:>9.0f}{row.p99_us:>9.0f}"
              f"{row.cpu_us / fixed.cpu_us:>12.2f}{row.cpu_us / fresh.cpu_us:>12.2f}", flush=True)


def print_ratios(bench):
    cached = bench.median("cached")
    for name in ("bare, fixed", "bare, fresh"):
        each = [one.cpu_us / other.cpu_us for one, other in zip(bench.results["cached"], bench.results[name])]
        print_demand(f"CPU, cached ÷ {name}", f"{cached.cpu_us / bench.median(name).cpu_us:.2f} "
                     f"({min(each):.2f} to {max(each):.2f})", "at most 1.40; goal 1.25")
    if bench.wants("lua"):
        print_demand("CPU, cached ÷ nginx + Lua", f"{cached.cpu_us / bench.median('nginx + Lua').cpu_us:.2f}", "below 1")
    if bench.wants("webdis") and bench.wants("redis"):
        ratio = bench.median("from Redis").rate / bench.median("webdis").rate
        print_demand("requests/s, from Redis ÷ webdis", f"{ratio:.2f}", "")


def measure_half_load(bench, contenders):
    """Cached and bare at half of what cached can do: the second tells what is the client's and the machine's."""
    rate = bench.median("cached").rate / 2
    paced = bench.arguments.build / "tests/bench/paced"
    for contender in contenders:
        row = measure_paced(paced, contender, rate, bench.arguments.seconds)
        print(f"half load, {rate:.0f}/s by the clock, {contender.name}: p50 {row.p50_us} µs, p99 {row.p99_us} µs, "
              f"CPU {row.cpu_us:.1f} µs", flush=True)


def measure_start(daemon):
    """Medians of several starts: seconds from exec to ready, and resident KiB then."""
    seconds, resident = [], []
    for _ in range(STARTS):
        with daemon.running(SERVER_CORE) as (child, took):
            seconds.append(took)
            resident.append(service.resident_kib(child.pid))
    return statistics.median(seconds), statistics.median(resident)


def measure_logins(bench, contender):
    url = contender.url.replace("validate", "login")
    row = cpu_of(contender, lambda: wrk(url, bench.arguments.seconds, "logins", bench.cached.key, "login"))
    print(f"logins with durable audit: {row.rate:.0f}/s, CPU {row.cpu_us:.1f} µs, p50 {row.p50_us} µs, "
          f"p99 {row.p99_us} µs", flush=True)


def measure_small(bench):
    """Everything with 1,000 tokens."""
    arguments = bench.arguments
    with contextlib.ExitStack() as stack:
        cached = stack.enter_context(bench.running("cached", bench.cached))
        length = make_tokens(bench.cached, cached.tokens)
        bare = contenders = bench.others(stack, cached.tokens, length)
        daemons = [bench.cached]
        if bench.wants("redis"):
            uncached = bench.make_service("uncached", 2, {"cache.bytes": 0})
            contender = stack.enter_context(bench.running("from Redis", uncached))
            make_tokens(uncached, contender.tokens)
            contenders, daemons = contenders + [contender], daemons + [uncached]
        if bench.wants("cached"):
            contenders = contenders + [cached]
        print(f"{arguments.rounds} rounds of {arguments.seconds} s each, {CONNECTIONS} connections, "
              f"{TOKENS} tokens, bodies of {length} bytes\n", flush=True)
        bench.rounds(contenders, daemons, arguments.seconds)
        print_table(bench, [contender.name for contender in contenders])
        print()
        if bench.wants("cached"):
            print_ratios(bench)
            measure_half_load(bench, [cached, bare[1]])
        if not arguments.only:
            measure_logins(bench, cached)


def fill_cache(bench, daemon, contender):
    """Logs a million users in and uses every session."""
    count, begin = bench.arguments.sessions, time.monotonic()
    wrk(contender.url.replace("validate", "login"), 600, "logins", daemon.key, "user", count, contender.tokens,
        connections=4 * CONNECTIONS, tolerated=0.01)
    logged_in = time.monotonic()
    wrk(contender.url, 600, "each", contender.tokens, count, tolerated=0.01)
    end = time.monotonic()
    time.sleep(service.NOTED_SECONDS)
    again = time.monotonic()
    wrk(contender.url, 600, "each", contender.tokens, count, tolerated=0.01)
    daemon.drop_rotated_audit()
    print(f"\n{count:,} logins in {logged_in - begin:.0f} s, their first validations in {end - logged_in:.0f} s, "
          f"their second, once it was due to be noted, in {time.monotonic() - again:.0f} s", flush=True)


def print_memory(daemon, contender):
    entries, cache_bytes = daemon.metric("sessiond_cache_entries"), daemon.metric("sessiond_cache_bytes")
    print_demand("bytes per cache entry", f"{cache_bytes / max(entries, 1):.0f} ({entries:,.0f} entries)",
                 "at most 400; 1,000,000")
    print(f"resident with them: {service.resident_kib(contender.pid) / 1024:.0f} MiB", flush=True)


def measure_million(bench):
    """1,000 tokens and 1,000,000, in turn."""
    daemon = bench.make_service("million", 4, {"cache.bytes": "1G"})
    with bench.running("cached", bench.cached) as small, bench.running("1,000,000", daemon) as large:
        make_tokens(bench.cached, small.tokens)
        fill_cache(bench, daemon, large)
        bench.results.pop("cached", None)
        names = ("sessiond_touches_total", "sessiond_cache_hits_total", "sessiond_cache_misses_total")
        before = [daemon.metric(name) for name in names]
        bench.rounds([small, large], [bench.cached, daemon], min(1, bench.arguments.seconds))
        noted, hits, misses = (daemon.metric(name) - value for name, value in zip(names, before))
        one, other = bench.median(small.name), bench.median(large.name)
        for row, name in ((one, f"{TOKENS:,} tokens"), (other, f"{bench.arguments.sessions:,} tokens")):
            print(f"{name}: {row.rate:.0f}/s, CPU {row.cpu_us:.1f} µs, p50 {row.p50_us:.0f} µs, p99 {row.p99_us:.0f} µs")
        print_demand("requests/s, 1,000,000 tokens ÷ 1,000", f"{other.rate / one.rate:.2f}", "at least 0.85")
        print_demand("CPU, 1,000,000 tokens ÷ 1,000", f"{other.cpu_us / one.cpu_us:.2f}", "")
        print(f"in its rounds: {hits:.0f} hits, {misses:.0f} misses, {noted:.0f} uses noted in Redis")
        if noted > 0.01 * hits:
            print("The machine was too slow to have the uses noted before the rounds: they compare Redis, too.")
        print_memory(daemon, large)


def measure_fairness(bench):
    """One tenant floods, another one is measured."""
    daemon = bench.make_service("fairness", 0)
    with daemon.running(SERVER_CORE):
        ratio = fairness.measure(bench, daemon)
    print_demand("p99 of a tenant, neighbour floods ÷ not", f"{ratio:.2f}", f"at most {fairness.MOST}")


def measure_platform(bench):
    daemon = bench.make_service("platform", 0, many_tenants.OPTIONS)
    many_tenants.measure(daemon, bench.nodes, bench.arguments.tenants, bench.arguments.rounds)


def main():
    parser = service.argument_parser(__doc__, 18300, "first of ten ports", 7301)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each contender in each round")
    parser.add_argument("--sessions", type=int, default=1000000, help="of the large cache")
    parser.add_argument("--tenants", type=int, default=many_tenants.TENANTS, help="of the platform")
    parser.add_argument("--only", nargs="+", choices=PARTS + LONG_PARTS,
                        help="these, and bare libmicrohttpd; platform takes long and is not measured unless it is named")
    parser.add_argument("--before", help="another build's binary: only the two are measured, in turn (versus.py)")
    arguments = parser.parse_args()
    service.check_ports_free(range(arguments.port, arguments.port + 10))
    busy = busy_share()
    if busy > 0.05:
        print(f"The machine is {busy:.0%} busy with other things: do not trust these figures.\n", flush=True)

    with service.scratch_directory(arguments.build) as directory, \
            service.redis_cluster(directory, arguments.redis_port, CLIENT_CORE) as nodes:
        bench = Bench(arguments, directory, nodes)
        if arguments.before:
            versus.measure_versus(bench, arguments.before, make_tokens)
            return
        if any(bench.wants(part) for part in SMALL_PARTS):
            measure_small(bench)
        if bench.wants("doors"):
            doors.measure(bench, make_tokens, fill)
        if bench.wants("million"):
            measure_million(bench)
        if bench.wants("fairness"):
            measure_fairness(bench)
        if bench.wants("platform"):
            measure_platform(bench)
        if not arguments.only:
            seconds, idle_kib = measure_start(bench.make_service("start", 0))
            print(f"exec to ready: {seconds * 1000:.0f} ms; resident when idle: {idle_kib / 1024:.1f} MiB")


if __name__ == "__main__":
    sys.exit(main())

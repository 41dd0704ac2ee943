#!/usr/bin/python3
"""Measures a platform of many tenants, each with a policy of its own, against one tenant with as many sessions.

Both live in one Redis Cluster and one sessiond, with one worker on a core of its own; clients and Redis share the
other. The platform has ten users in each tenant, with one session each; the one tenant has as many users as all of
them together, and a policy too. So only the number of tenants differs. Logins come in a random order, a slice of the
platform's and a slice of the one tenant's in turn; validations in rounds with tokens drawn at random out of all of a
side. Before the rounds of a side each of its sessions is used when that is due to be noted in Redis: the rounds
compare memory. Two million sessions take about ten minutes.
"""
import os
import statistics
import sys
import time

import memory
import service
import tenant_pages
from load import CLIENT_CORE, CONNECTIONS, SERVER_CORE, Contender, cpu_of, measure as measure_validations, print_demand, wrk

TENANTS, USERS = 100000, 10
SLICES = 20  # of the logins of each side: Redis rewriting its log slows whichever is in flight
VISITS, SECONDS = 2, 2  # how often each side has rounds of validations, and how long each takes
PAGES = 2000
OPTIONS = {"cache.bytes": "2G"}
MANY_LOGINS = 4 * CONNECTIONS  # each waits for two disks and a replica
PATIENCE = 300  # seconds for what ends by itself


class Side:
    """The platform or the one tenant, and what was measured of it. Tenants are called after it, with a number."""

    def __init__(self, name, tenant, tenants, daemon, pid):
        self.tenant, self.tenants = tenant, tenants
        self.contender = Contender(name, f"http://127.0.0.1:{daemon.port}/v1/validate", pid,
                                   daemon.directory / f"tokens-{tenant}")
        self.logins, self.validations = [], []
        self.redis_bytes = self.hits = self.noted = 0
        self.last_used = time.monotonic()

    def names(self):
        return [f"{self.tenant}-{number:06d}" for number in range(self.tenants)]


class Platform:
    """One run."""

    def __init__(self, daemon, pid, nodes, tenants, rounds):
        self.daemon, self.pid, self.rounds = daemon, pid, rounds
        self.masters = memory.masters_of(nodes)
        self.sessions = tenants * USERS  # of each side
        self.sides = [Side("platform", "tenant", tenants, daemon, pid), Side("one tenant", "single", 1, daemon, pid)]
        self.idle_kib = service.resident_kib(pid)
        self.policy_bytes = 0

    def in_turn(self, number):
        """Both sides; each is first as often as the other."""
        return self.sides if number % 2 == 0 else self.sides[::-1]

    # --- policies and logins ---

    def set_policies(self):
        many, _ = self.sides
        before = memory.sample(self.masters)
        for side in self.sides:
            row = cpu_of(side.contender, lambda: wrk(side.contender.url, PATIENCE, "policies", self.daemon.key,
                                                     side.tenant, side.tenants, connections=MANY_LOGINS))
            if side is many:
                print(f"\n{many.tenants:,} policies set in {many.tenants / row.rate:.0f} s, {row.rate:.0f}/s, "
                      f"CPU {row.cpu_us:.1f} µs", flush=True)
        self.policy_bytes = memory.growth(before, memory.sample(self.masters)) / many.tenants
        self.daemon.drop_rotated_audit()

    def log_in_slice(self, side, first, count):
        url = side.contender.url.replace("validate", "login")
        return cpu_of(side.contender, lambda: wrk(
            url, PATIENCE, "shuffled", self.daemon.key, side.tenant, count, side.contender.tokens, side.tenants,
            self.sessions, first, connections=MANY_LOGINS))

    def log_in(self):
        count = self.sessions // SLICES
        for number in range(SLICES):
            for side in self.in_turn(number):
                before = memory.sample(self.masters)
                side.logins.append(self.log_in_slice(side, number * count, count))
                side.redis_bytes += memory.growth(before, memory.sample(self.masters))
                side.last_used = time.monotonic()
                self.daemon.drop_rotated_audit()

    # --- pages ---

    def measure_pages(self):
        many, one = self.sides
        pages = tenant_pages.Pages(self.daemon)
        tenant_pages.ask_small(pages, many.names(), PAGES)
        p99 = pages.report("first pages of the platform's tenants")
        print_demand("p99 of a page of a tenant's sessions", f"{p99:.2f} ms", "at most 5 ms")
        tenant_pages.walk(pages, one.names()[0], 20, PAGES)
        pages.report("a walk through the one tenant, 20 users a page")

    # --- validations ---

    def use_all(self, side):
        """Uses every session as soon as that is noted, so that it is not for the next minute."""
        time.sleep(max(0, side.last_used + service.NOTED_SECONDS - time.monotonic()))
        wrk(side.contender.url, PATIENCE, "each", side.contender.tokens, self.sessions)
        side.last_used = time.monotonic()

    def count_uses(self):
        return [self.daemon.metric(name) for name in ("sessiond_cache_hits_total", "sessiond_touches_total")]

    def validate(self):
        for _ in range(VISITS):
            for side in self.sides:
                self.use_all(side)
                hits, noted = self.count_uses()
                side.validations += [measure_validations(side.contender, SECONDS) for _ in range(self.rounds)]
                side.hits, side.noted = (sum(pair) for pair in zip(
                    (side.hits - hits, side.noted - noted), self.count_uses()))
                self.daemon.drop_rotated_audit()

    # --- what is printed ---

    def print_rates(self, what, rows_of):
        """The medians of both sides."""
        rates, cpus = [], []
        for side in self.sides:
            rate, cpu_us, p50, p99 = map(statistics.median, zip(*rows_of(side)))
            print(f"{what}, {side.contender.name + ':':<12}{rate:>8.0f}/s   CPU {cpu_us:.1f} µs   p50 {p50:.0f} µs   "
                  f"p99 {p99:.0f} µs", flush=True)
            rates.append(rate)
            cpus.append(cpu_us)
        each = [many.rate / one.rate for many, one in zip(*map(rows_of, self.sides))]
        print_demand(f"{what}/s, {self.sides[0].tenants:,} tenants ÷ one",
                     f"{rates[0] / rates[1]:.2f} ({min(each):.2f} to {max(each):.2f})", "at least 0.8")
        print_demand(f"CPU of {what}, {self.sides[0].tenants:,} tenants ÷ one", f"{cpus[0] / cpus[1]:.2f}", "")

    def print_noted(self):
        for side in self.sides:
            print(f"in the rounds of the {side.contender.name}: {side.hits:.0f} hits, {side.noted:.0f} uses noted in Redis")

    def print_memory(self):
        for side in self.sides:
            print(f"Redis, {side.contender.name}: {side.redis_bytes / self.sessions:.0f} bytes a session")
        print(f"Redis: {self.policy_bytes:.0f} bytes a policy")
        for what in ("cache_entries", "cache_bytes", "tenants", "tenants_bytes"):
            print(f"sessiond_{what}: {self.daemon.metric('sessiond_' + what):,.0f}")
        print(f"resident with all of them: {service.resident_kib(self.pid) / 1024:.0f} MiB; "
              f"before, {self.idle_kib / 1024:.0f} MiB", flush=True)


def measure(daemon, nodes, tenants, rounds):
    os.sched_setaffinity(0, {CLIENT_CORE})  # pages are asked for from here
    with daemon.running(SERVER_CORE) as (child, _):
        platform = Platform(daemon, child.pid, nodes, tenants, rounds)
        platform.set_policies()
        platform.log_in()
        platform.print_rates("logins", lambda side: side.logins)
        platform.measure_pages()
        platform.validate()
        platform.print_rates("validations", lambda side: side.validations)
        platform.print_noted()
        platform.print_memory()


def main():
    parser = service.argument_parser(__doc__, 18360, "first of two ports", 7361)
    parser.add_argument("--tenants", type=int, default=TENANTS)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    service.check_ports_free(range(arguments.port, arguments.port + 2))
    with service.scratch_directory(arguments.build) as directory, \
            service.redis_cluster(directory, arguments.redis_port, CLIENT_CORE) as nodes:
        daemon = service.Service(arguments.build / "sessiond", directory / "platform", nodes, arguments.port, 1, OPTIONS)
        measure(daemon, nodes, arguments.tenants, arguments.rounds)


if __name__ == "__main__":
    sys.exit(main())

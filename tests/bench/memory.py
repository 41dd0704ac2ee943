#!/usr/bin/python3
"""Measures what a session costs in Redis, everything counted.

On a fresh Redis Cluster with the recommended settings, 100,000 users log in on three devices each,
through a sessiond with its default configuration (encryption on). Then every session is used once
more, so that each also has its time of last use. The cost is the growth of `used_memory` over the
masters, keys of every kind, tables and allocator rounding included, divided by the sessions; what
grows with connections and replication but not with sessions (INFO's client buffers, replication
backlog, AOF buffer) is shown beside it and taken off.
"""
import collections
import json
import multiprocessing
import random
import re
import subprocess
import sys
import time

import pump
import service

# Type, name and user agent of each of a user's devices: as an account service that knows its devices
# tells them, or with what browsers send in User-Agent.
DEVICES = {
    "compact": [("mobile", "iPhone 15", "Safari 17.5 on iOS"),
                ("desktop", "Office", "Firefox 128 on Linux"),
                ("tablet", "Galaxy Tab S9", "Chrome 126 on Android")],
    "browser": [("mobile", "iPhone 15", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 "
                 "(KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"),
                ("desktop", "Office", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
                ("tablet", "Galaxy Tab S9", "Mozilla/5.0 (Linux; Android 14; SM-X710) AppleWebKit/537.36 "
                 "(KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36")],
}
BUFFERS = ("mem_clients_normal", "mem_total_replication_buffers", "mem_aof_buffer")


def request_bytes(method, path, credential, body=b""):
    return (f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {credential}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body


def login_requests(key, users, devices):
    for user in users:
        source = random.Random(user)
        for kind, name, agent in devices:
            yield request_bytes("POST", "/v1/login", key, json.dumps({
                "user_id": f"customer-{user:07d}@example.com", "roles": ["customer", "newsletter"],
                "device": {"id": f"{source.getrandbits(64):016x}", "type": kind, "name": name},
                "ip": f"203.0.{source.randrange(114)}.{source.randrange(256)}", "user_agent": agent}).encode())


def log_in(port, key, users, devices, connections):
    answers = pump.exchange(port, login_requests(key, users, devices), connections, 201)
    return [json.loads(answer)["access_token"] for answer in answers]


def use(port, tokens, connections):
    pump.exchange(port, (request_bytes("GET", "/v1/validate", token) for token in tokens), connections, 200)


def redis(node, *command):
    host, port = node.rsplit(":", 1)
    return subprocess.check_output(["redis-cli", "-h", host, "-p", port, *command], text=True)


def masters_of(nodes):
    return [node for node in nodes.split() if "role:master" in redis(node, "info", "replication")]


def sample(masters):
    """Sums of memory and keys over the masters."""
    total = collections.Counter()
    for node in masters:
        memory = redis(node, "info", "memory")
        total["used_memory"] += int(re.search(r"^used_memory:(\d+)", memory, re.MULTILINE).group(1))
        total["keys"] += int(redis(node, "dbsize"))
        # The backlog is part of the replication buffers.
        total["buffers"] += sum(int(re.search(rf"^{name}:(\d+)", memory, re.MULTILINE).group(1))
                                for name in BUFFERS)
    return total


def kinds(masters):
    """How many keys of each kind there are: the first two parts of their names."""
    count = collections.Counter()
    for node in masters:
        for key in redis(node, "--scan").splitlines():
            count[":".join(key.split(":")[:2])] += 1
    return dict(count)


def growth(before, after):
    """By how many bytes the masters grew, without buffers of connections and replication."""
    return sum(sign * (one["used_memory"] - one["buffers"]) for sign, one in ((-1, before), (1, after)))


def report(what, before, after, sessions):
    grown = after["used_memory"] - before["used_memory"]
    print(f"{what}: used_memory {before['used_memory']:,} -> {after['used_memory']:,} bytes, "
          f"buffers {before['buffers']:,} -> {after['buffers']:,} bytes")
    print(f"  {growth(before, after) / sessions:.1f} bytes a session, "
          f"{grown / sessions:.1f} with buffers of connections and replication", flush=True)


def main():
    parser = service.argument_parser(__doc__, 18320, "first of two ports", 7321)
    parser.add_argument("--users", type=int, default=100000)
    parser.add_argument("--devices", choices=DEVICES, default="compact")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--processes", type=int, default=2, help="of the client")
    arguments = parser.parse_args()
    service.check_ports_free(range(arguments.port, arguments.port + 2))
    devices = DEVICES[arguments.devices]
    sessions = arguments.users * len(devices)
    each = arguments.connections // arguments.processes
    shares = [range(first, arguments.users, arguments.processes) for first in range(arguments.processes)]

    with service.scratch_directory(arguments.build) as directory, \
            service.redis_cluster(directory, arguments.redis_port) as nodes:
        masters = masters_of(nodes)
        daemon = service.Service(arguments.build / "sessiond", directory, nodes, arguments.port, workers=0)
        with daemon.running(), multiprocessing.Pool(arguments.processes) as pool:
            before, start = sample(masters), time.monotonic()
            tokens = pool.starmap(log_in, [(daemon.port, daemon.key, users, devices, each) for users in shares])
            seconds, last_login = time.monotonic() - start, time.monotonic()
            print(f"{arguments.users} users, {sessions} sessions, {arguments.devices} devices; logged in over {arguments.connections} connections "
                  f"in {seconds:.0f} s, {sessions / seconds:.0f}/s", flush=True)
            report("after the logins", before, sample(masters), sessions)
            time.sleep(max(0, last_login + service.NOTED_SECONDS - time.monotonic()))
            pool.starmap(use, [(daemon.port, share, each) for share in tokens])
            time.sleep(1)
            after = sample(masters)
            report("after a use of each", before, after, sessions)
            print(f"keys: {after['keys']}, by kind {kinds(masters)}")


if __name__ == "__main__":
    sys.exit(main())

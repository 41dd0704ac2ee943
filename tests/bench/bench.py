#!/usr/bin/python3
"""Measures sessiond against bare libmicrohttpd, nginx and webdis, all in one run.

Each server has core 0 for itself and one worker; wrk and Redis share core 1. Every round measures
every contender once; the table has the medians. All get the same requests (64 connections, kept
alive, 1,000 access tokens in turn) and give bodies of the same length:

  bare, fixed    libmicrohttpd, external epoll, one response made at the start and shared
  bare, fresh    the same, a response made for each request, as whose answers differ must
  nginx          return 200
  webdis         GET of one Redis key
  sessiond       GET /v1/validate: authentication, read from Redis, decryption, audit line

CPU is user and system time of the server's processes from /proc, divided by the requests; Redis'
time is not in it.
"""
import argparse
import collections
import contextlib
import http.client
import pathlib
import statistics
import subprocess
import sys
import time

import service

HERE = pathlib.Path(__file__).resolve().parent
SERVER_CORE, CLIENT_CORE = 0, 1
CONNECTIONS, TOKENS, STARTS = 64, 1000, 5

Contender = collections.namedtuple("Contender", "name url pid")
Result = collections.namedtuple("Result", "rate cpu_us p50_us p99_us")


def wrk(url, seconds, *arguments):
    """Runs wrk; returns (requests, requests per second, p50 and p99 in µs). Any failed request is an error."""
    output = subprocess.run(
        ["taskset", "-c", str(CLIENT_CORE), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency",
         "-s", HERE / "load.lua", url, "--", *map(str, arguments)],
        check=True, stdout=subprocess.PIPE, text=True).stdout
    line = next(line for line in output.splitlines() if line.startswith("result "))
    requests, duration_us, p50, p99, errors = map(int, line.split()[1:])
    if errors or not requests:
        raise RuntimeError(f"{url}: {errors} of {requests} requests failed\n{output}")
    return requests, requests / duration_us * 1e6, p50, p99


def measure(contender, seconds, tokens):
    before = service.cpu_seconds(contender.pid)
    requests, rate, p50, p99 = wrk(contender.url, seconds, "tokens", tokens)
    cpu = service.cpu_seconds(contender.pid) - before
    return Result(rate, cpu / requests * 1e6, p50, p99)


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
        "user_id": f"user-{number:05d}@example.com", "roles": ["customer", "beta"],
        "device": {"id": f"device-{number:05d}", "type": "mobile", "name": "Pixel 8 of the house"},
        "ip": "198.51.100.7", "user_agent": "Mozilla/5.0 (X11; Linux x86_64) bench/1.0"})["access_token"]
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


@contextlib.contextmanager
def others(arguments, directory, length):
    """Starts everything but sessiond; yields the contenders."""
    base, body = arguments.port + 2, "x" * length
    nginx = fill("nginx.conf", directory / "nginx.conf", PORT=base + 2, BODY=body, DIR=directory)
    webdis = fill("webdis.json", directory / "webdis.json", PORT=base + 3, REDIS_PORT=arguments.redis_port,
                  DIR=directory)
    key = key_on_node(arguments.redis_port, body)
    bare = arguments.build / "tests/bench/bare_responder"
    rows = [
        ("bare, fixed", [bare, base, length, "fixed"], base, "/v1/validate"),
        ("bare, fresh", [bare, base + 1, length, "fresh"], base + 1, "/v1/validate"),
        ("nginx", ["nginx", "-p", directory, "-e", directory / "nginx.log", "-c", nginx], base + 2, "/v1/validate"),
        ("webdis", ["webdis", webdis], base + 3, f"/GET/{key}.txt"),
    ]
    with contextlib.ExitStack() as stack:
        contenders = []
        for name, command, port, path in rows:
            child = stack.enter_context(service.process(command, directory / "others.log", SERVER_CORE))
            service.wait_for(lambda port=port: service.listens(port), 10, f"{name} to listen")
            contenders.append(Contender(name, f"http://127.0.0.1:{port}{path}", child.pid))
        yield contenders


def print_table(results):
    median = {name: Result(*map(statistics.median, zip(*rounds))) for name, rounds in results.items()}
    fixed, fresh, webdis = median["bare, fixed"], median["bare, fresh"], median["webdis"]
    print(f"{'':<14}{'requests/s':>11}{'CPU µs':>9}{'p50 µs':>9}{'p99 µs':>9}{'CPU ×fixed':>12}{'CPU ×fresh':>12}{'rate ×webdis':>14}")
    for name, row in median.items():
        print(f"{name:<14}{row.rate:>11.0f}{row.cpu_us:>9.1f}{row.p50_us:>9.0f}{row.p99_us:>9.0f}"
              f"{row.cpu_us / fixed.cpu_us:>12.2f}{row.cpu_us / fresh.cpu_us:>12.2f}{row.rate / webdis.rate:>14.2f}")


def measure_start(daemon):
    """Medians of several starts: seconds from exec to ready, and resident KiB then."""
    seconds, resident = [], []
    for _ in range(STARTS):
        with daemon.running(SERVER_CORE) as (child, took):
            seconds.append(took)
            resident.append(service.resident_kib(child.pid))
    return statistics.median(seconds), statistics.median(resident)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=lambda name: pathlib.Path(name).resolve(), default="build")
    parser.add_argument("--port", type=int, default=18300, help="first of six ports")
    parser.add_argument("--redis-port", type=int, default=7301)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of each contender in each round")
    arguments = parser.parse_args()
    service.check_ports_free(range(arguments.port, arguments.port + 6))
    busy = busy_share()
    if busy > 0.05:
        print(f"The machine is {busy:.0%} busy with other things: do not trust these figures.\n", flush=True)

    with service.scratch_directory(arguments.build) as directory, \
            service.redis_cluster(directory, arguments.redis_port, CLIENT_CORE) as nodes:
        daemon = service.Service(arguments.build / "sessiond", directory, nodes, arguments.port, workers=1)
        start_seconds, idle_kib = measure_start(daemon)
        tokens = directory / "tokens"
        with daemon.running(SERVER_CORE) as (child, _):
            length = make_tokens(daemon, tokens)
            print(f"{arguments.rounds} rounds of {arguments.seconds} s each, {CONNECTIONS} connections, "
                  f"{TOKENS} tokens, bodies of {length} bytes\n", flush=True)
            results = collections.defaultdict(list)
            with others(arguments, directory, length) as contenders:
                contenders.append(Contender("sessiond", f"http://127.0.0.1:{arguments.port}/v1/validate", child.pid))
                for _ in range(arguments.rounds):
                    for contender in contenders:
                        results[contender.name].append(measure(contender, arguments.seconds, tokens))
            print_table(results)
            before = service.cpu_seconds(child.pid)
            logins, rate, p50, p99 = wrk(f"http://127.0.0.1:{arguments.port}/v1/login", arguments.seconds,
                                         "logins", daemon.key, "login")
            cpu = (service.cpu_seconds(child.pid) - before) / logins * 1e6
            print(f"\nlogins with durable audit: {rate:.0f}/s, CPU {cpu:.1f} µs, p50 {p50} µs, p99 {p99} µs")
        print(f"exec to ready: {start_seconds * 1000:.0f} ms; resident when idle: {idle_kib / 1024:.1f} MiB")


if __name__ == "__main__":
    sys.exit(main())

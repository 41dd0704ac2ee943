"""What the other ways in cost: batches, a gateway's question over TCP and over the Unix socket, nginx that asks.

All from memory, with the tokens of the part before. nginx and sessiond share the server's core, so that what a
question adds is the CPU of both."""
import collections
import contextlib
import subprocess

import service
from load import CONNECTIONS, HERE, SERVER_CORE, Contender, cpu_of, on_client_core, print_demand, read_result, wrk

BATCH = 100
RATE = 8000  # requests a second by the clock, for those that are compared with each other
QUESTION = "/authz/auth-request"

Row = collections.namedtuple("Row", "cpu_us p50_us p99_us")


def paced(bench, server, path, tokens, pids):
    """CPU µs a request of these processes, and latencies, with requests by the clock."""
    command = on_client_core(bench.arguments.build / "tests/bench/paced", server, RATE, bench.arguments.seconds,
                             CONNECTIONS, tokens, path)
    before = sum(map(service.cpu_seconds, pids))
    requests, _, p50, p99 = read_result(subprocess.check_output(command, text=True), path)
    return Row((sum(map(service.cpu_seconds, pids)) - before) / requests * 1e6, p50, p99)


def measure_batches(bench, daemon, contender):
    url = contender.url + "/batch"
    rows = [cpu_of(contender, lambda: wrk(url, bench.arguments.seconds, "batches", daemon.key, contender.tokens, BATCH))
            for _ in range(bench.arguments.rounds)]
    best = min(rows, key=lambda row: row.cpu_us)
    each = sorted(1e6 * BATCH / row.cpu_us for row in rows)
    print_demand(f"tokens a second and core, batches of {BATCH}",
                 f"{each[len(each) // 2]:,.0f} ({each[0]:,.0f} to {each[-1]:,.0f})", "at least 350,000; goal 500,000")
    print(f"a batch of {BATCH}: CPU {best.cpu_us:.0f} µs, p50 {best.p50_us} µs, p99 {best.p99_us} µs", flush=True)


def measure_questions(bench, daemon, contender):
    ways = [("TCP", daemon.port, "/v1/validate"), ("TCP", daemon.port, QUESTION), ("Unix", daemon.socket, QUESTION)]
    for name, server, path in ways:
        row = paced(bench, server, path, contender.tokens, [contender.pid])
        print(f"{path} over {name}, {RATE}/s by the clock: CPU {row.cpu_us:.1f} µs, p50 {row.p50_us} µs, "
              f"p99 {row.p99_us} µs", flush=True)


def measure_nginx(bench, daemon, contender, fill):
    port = bench.arguments.port + 8
    conf = fill("gateway.conf", bench.directory / "gateway.conf", PORT=port, SOCKET=daemon.socket, DIR=bench.directory)
    command = ["nginx", "-p", bench.directory, "-e", bench.directory / "gateway.log", "-c", conf]
    with service.process(command, bench.directory / "others.log", SERVER_CORE) as child:
        service.wait_for(lambda: service.listens(port), 10, "nginx to listen")
        rows = {path: paced(bench, port, path, contender.tokens, [child.pid, contender.pid])
                for path in ("/alone", "/asks", "/caches")}
    alone = rows["/alone"]
    for path, words in (("/asks", "that asks sessiond"), ("/caches", "the same with a cache of one second")):
        row = rows[path]
        print_demand(f"nginx {words}", f"CPU +{row.cpu_us - alone.cpu_us:.1f} µs on {alone.cpu_us:.1f}",
                     f"p99 {row.p99_us} µs, {alone.p99_us} µs without")


def measure(bench, make_tokens, fill):
    socket = bench.directory / "doors.sock"
    daemon = bench.make_service("doors", 0, {"server.unix_socket": socket})
    daemon.socket = socket
    with contextlib.ExitStack() as stack:
        child, _ = stack.enter_context(daemon.running(SERVER_CORE))
        contender = Contender("doors", f"http://127.0.0.1:{daemon.port}/v1/validate", child.pid,
                              daemon.directory / "tokens")
        make_tokens(daemon, contender.tokens)
        wrk(contender.url, 600, "each", contender.tokens, len(contender.tokens.read_text().split()))
        print()
        measure_batches(bench, daemon, contender)
        measure_questions(bench, daemon, contender)
        measure_nginx(bench, daemon, contender, fill)

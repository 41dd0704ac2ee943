"""The noisy neighbour: one tenant floods a node at ten times its rate; what does another one notice?

Both come by the clock (paced.c), so a tenant whose answers are late does not ask less. Rounds with and
without the flood take turns; the table has their medians. The two clients share a core; that of the flood
has the lowest priority there, since it is the server that is measured. The figures include the flood's cost to the
server, its audit lines too."""
import http.client
import json
import statistics
import subprocess
import time

from load import on_client_core, read_result

RATE, FACTOR = 2000, 10  # calls a second that the noisy tenant may make, and how many times as many it makes
QUIET_RATE = 1000
QUIET_CONNECTIONS, NOISY_CONNECTIONS = 16, 64
QUIET_TOKENS, NOISY_TOKENS = 200, 200
HEAD_START = 0.5  # seconds for the flood to use up its burst
MOST = 1.5


def make_tokens(daemon, tenant, count):
    """Logs users of the tenant in; returns the file of their access tokens."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
    tokens = [daemon.login(connection, {"tenant": tenant, "user_id": f"user-{number}"})["access_token"]
              for number in range(count)]
    path = daemon.directory / f"tokens-{tenant}"
    path.write_text("\n".join(tokens) + "\n")
    return path


def limit(daemon, tenant, rate):
    """Gives the tenant a rate by its policy."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
    connection.request("PATCH", f"/v1/tenants/{tenant}/policy",
                       json.dumps({"rate": {"requests_per_second": rate, "burst": rate // 10}}),
                       {"Authorization": f"Bearer {daemon.key}", "Content-Type": "application/merge-patch+json"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"the policy answered {answer.status}: {text.decode()}")


class Fairness:
    """One run: a node, its two tenants, and the clients' program."""

    def __init__(self, bench, daemon):
        self.bench, self.daemon = bench, daemon
        self.quiet = make_tokens(daemon, "quiet", QUIET_TOKENS)
        self.noisy = make_tokens(daemon, "noisy", NOISY_TOKENS)

    def paced(self, rate, seconds, connections, tokens):
        program = self.bench.arguments.build / "tests/bench/paced"
        return on_client_core(program, self.daemon.port, rate, seconds, connections, tokens)

    def measure_quiet(self, seconds):
        """(p50, p99) of the quiet tenant in µs; all its calls must be answered."""
        line = subprocess.check_output(self.paced(QUIET_RATE, seconds, QUIET_CONNECTIONS, self.quiet), text=True)
        return read_result(line, "the quiet tenant")[2:]

    def measure_in_flood(self, seconds):
        """The same while the noisy tenant floods; and its requests a second, and how many of them were refused."""
        refused = self.daemon.metric("sessiond_limited_calls_total")
        command = ["nice", "-n", "19"] + self.paced(FACTOR * RATE, seconds + 2 * HEAD_START, NOISY_CONNECTIONS, self.noisy)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as flood:
            time.sleep(HEAD_START)
            quiet = self.measure_quiet(seconds)
            requests, duration_us = map(int, flood.stdout.readline().split()[1:3])
        refused = self.daemon.metric("sessiond_limited_calls_total") - refused
        return quiet, (requests / duration_us * 1e6, refused / duration_us * 1e6)

    def rounds(self, count, seconds):
        alone, flooded, floods = [], [], []
        self.measure_quiet(1)
        for _ in range(count):
            alone.append(self.measure_quiet(seconds))
            quiet, flood = self.measure_in_flood(seconds)
            flooded.append(quiet)
            floods.append(flood)
            self.daemon.drop_rotated_audit()
        return [[statistics.median(column) for column in zip(*rows)] for rows in (alone, flooded, floods)]


def measure(bench, daemon):
    """Prints the table; returns how many times as long the quiet tenant's p99 is in the flood."""
    fairness = Fairness(bench, daemon)
    limit(daemon, "noisy", RATE)
    seconds = min(3, bench.arguments.seconds)
    alone, flooded, (sent, refused) = fairness.rounds(bench.arguments.rounds, seconds)
    print(f"\na tenant with a rate of {RATE}/s floods with {sent:.0f}/s, {refused:.0f}/s are refused; "
          f"another one validates {QUIET_RATE} times a second", flush=True)
    for name, (p50, p99) in (("without the flood", alone), ("with it", flooded)):
        print(f"{name:<20}p50 {p50:>6.0f} µs   p99 {p99:>6.0f} µs", flush=True)
    return flooded[1] / alone[1]

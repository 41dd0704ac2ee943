"""The clients' side of measurements: they share a core with Redis, the server has one for itself."""
import collections
import pathlib
import signal
import subprocess
import time

import service

HERE = pathlib.Path(__file__).resolve().parent
SERVER_CORE, CLIENT_CORE = 0, 1
CONNECTIONS = 64

Contender = collections.namedtuple("Contender", "name url pid tokens")
Result = collections.namedtuple("Result", "rate cpu_us p50_us p99_us")


def on_client_core(*command):
    return ["taskset", "-c", str(CLIENT_CORE), *map(str, command)]


def read_result(line, what, tolerated=0):
    """(requests, requests per second, p50 and p99 in µs) of a client's line. More failed requests than a share of
    so much are an error."""
    requests, duration_us, p50, p99, errors = map(int, line.split()[1:])
    if not requests or errors > tolerated * requests:
        raise RuntimeError(f"{what}: {errors} of {requests} requests failed")
    return requests, requests / duration_us * 1e6, p50, p99


def wrk(url, seconds, *arguments, connections=CONNECTIONS, tolerated=0):
    """Runs wrk for so long; or until it says that it has all answers, and then the rate is by the time between its
    first request and that."""
    command = on_client_core("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", HERE / "load.lua",
                             url, "--", *arguments)
    said = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            said[line.partition(" ")[0].strip()] = time.monotonic()
            if line == "enough\n":
                child.send_signal(signal.SIGINT)
            if line.startswith("result "):
                requests, rate, p50, p99 = read_result(line, url, tolerated)
                if "enough" in said:
                    rate = requests / (said["enough"] - said["begin"])
                return requests, rate, p50, p99
    raise RuntimeError(f"{url}: wrk ended with status {child.returncode} and no result")


def cpu_of(contender, load):
    """The result of `load`, and the contender's CPU per request in µs meanwhile."""
    before = service.cpu_seconds(contender.pid)
    requests, rate, p50, p99 = load()
    return Result(rate, (service.cpu_seconds(contender.pid) - before) / requests * 1e6, p50, p99)


def measure(contender, seconds):
    return cpu_of(contender, lambda: wrk(contender.url, seconds, "random", contender.tokens))


def print_demand(what, value, demand):
    print(f"{what + ':':<44}{value:<26}{demand}", flush=True)

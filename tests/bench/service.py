"""Shared by the measurements: a Redis Cluster and a sessiond of their own, ended whatever happens."""
import argparse
import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# So that SIGTERM, like Ctrl-C, ends what was started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

SCOPES = "login validate manage policy introspect ops"
NOTED_SECONDS = 61  # after that much a use of a session is written to Redis


def argument_parser(description, port, ports, redis_port):
    """With what every measurement takes; of the description, a module's, the first line."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--build", type=lambda name: pathlib.Path(name).resolve(), default="build")
    parser.add_argument("--port", type=int, default=port, help=ports)
    parser.add_argument("--redis-port", type=int, default=redis_port)
    return parser


@contextlib.contextmanager
def scratch_directory(build):
    """An empty directory under the build directory, so that files lie on the disk of the checkout."""
    build.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=build) as name:
        os.chmod(name, 0o755)  # nginx's worker is not root
        yield pathlib.Path(name)


def unit_environment():
    """Additions of the systemd unit to the environment of the service."""
    unit = (ROOT / "systemd/sessiond.service").read_text()
    return dict(re.findall(r"^Environment=(\w+)=(.*)$", unit, re.MULTILINE))


@contextlib.contextmanager
def process(command, log, core=None, environment=None):
    """Runs a command, pinned to a core if one is given; SIGTERM at the end, SIGKILL 25 s later."""
    pin = ["taskset", "-c", str(core)] if core is not None else []
    with open(log, "ab") as output:
        child = subprocess.Popen(pin + [str(word) for word in command], stdin=subprocess.DEVNULL,
                                 stdout=output, stderr=output, env={**os.environ, **(environment or {})})
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(25)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextlib.contextmanager
def redis_cluster(directory, port, core=None):
    """A fresh cluster; yields its addresses as one string."""
    script = ROOT / "tests/support/redis_cluster.sh"
    environment = {**os.environ, "DIR": str(directory / "redis"), "REDIS_PORT": str(port)}
    pin = ["taskset", "-c", str(core)] if core is not None else []
    try:
        subprocess.run([*pin, script, "up"], env=environment, check=True, stdout=subprocess.DEVNULL)
        yield subprocess.check_output([script, "nodes"], env=environment, text=True).strip()
    finally:
        subprocess.run([script, "down"], env=environment, check=False)


def sections(options):
    """{"a.b": c} as [a] b = c."""
    by_section = {}
    for option, value in options.items():
        section, name = option.split(".")
        by_section.setdefault(section, []).append(f"{name} = {value}\n")
    return "".join(f"[{section}]\n" + "".join(lines) for section, lines in by_section.items())


class Service:
    """A sessiond with the default configuration but for its files, its ports and the given options ("section.name")."""

    def __init__(self, binary, directory, nodes, port, workers, options=None):
        directory.mkdir(exist_ok=True)
        self.binary, self.directory, self.port = binary, directory, port
        self.config = directory / "sessiond.conf"
        keygen = subprocess.check_output([binary, "keygen", "--name", "bench", "--scopes", SCOPES,
                                          "--tenant", "*"], text=True)
        self.key = re.search(r"sk_[\w-]+", keygen).group()
        stanza = "\n".join(line for line in keygen[keygen.index("[key:"):].splitlines() if "sk_" not in line)
        own = {"server.listen": f"127.0.0.1:{port}", "server.ops_listen": f"127.0.0.1:{port + 1}",
               "server.workers": workers, "redis.nodes": nodes, "keys.file": directory / "keys",
               "keys.installation": directory.name.lower(),
               "audit.file": directory / "audit.log", "journal.file": directory / "journal",
               "alerts.file": directory / "alerts",
               "cache.snapshot": directory / "cache", "log.level": "warning"}
        # An older build (--before) does without the options that it does not know.
        known = subprocess.check_output([binary, "--dump-config"], text=True)
        options = {name: value for name, value in {**own, **(options or {})}.items()
                   if re.search(rf"^{name.rpartition('.')[2]} =", known, re.MULTILINE)}
        self.config.write_text(sections(options) + stanza + "\n")
        self.config.chmod(0o600)

    @contextlib.contextmanager
    def running(self, core=None):
        """Yields the process when /readyz answers 200, and the seconds that took since exec."""
        start = time.monotonic()
        with process([self.binary, "--config", self.config], self.directory / "sessiond.log", core,
                     unit_environment()) as child:
            wait_for(lambda: child.poll() is not None or self.ready(), 30, "sessiond to be ready")
            if child.poll() is not None:
                raise RuntimeError(f"sessiond ended: {(self.directory / 'sessiond.log').read_text()}")
            yield child, time.monotonic() - start

    def ready(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port + 1, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def metric(self, name):
        """The value of a metric without labels; 0 if there is none of that name."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port + 1, timeout=10)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else 0

    def drop_rotated_audit(self):
        """Hundreds of thousands of lines a second fill a disk."""
        for rotated in self.directory.glob("audit.log?*"):
            rotated.unlink()

    def login(self, connection, body):
        """Logs in over an http.client connection; returns the answer's body as a dict."""
        connection.request("POST", "/v1/login", json.dumps(body), {
            "Authorization": f"Bearer {self.key}", "Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 201:
            raise RuntimeError(f"login answered {answer.status}: {text.decode()}")
        return json.loads(text)


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.001)


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def check_ports_free(ports):
    for port in ports:
        if listens(port):
            raise SystemExit(f"port {port} is in use; --port and --redis-port choose others")


def resident_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1))


def cpu_seconds(pid):
    """User and system time of a process, all its threads and its direct children that still run."""
    def ticks(stat):
        fields = stat.read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(ticks(pathlib.Path(f"/proc/{one}/stat")) for one in [pid, *children]) / os.sysconf("SC_CLK_TCK")

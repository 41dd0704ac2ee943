"""Runs sessiond: writes its configuration, starts nodes, stops them, reads what they leave."""

import hashlib
import json
import os
import pathlib
import re
import secrets
import signal
import subprocess
import time

from client import HANGS, Client
from redis_servers import ROOT, SLOW, free_port, wait_until

BINARY = os.environ.get("SESSIOND_BINARY", str(ROOT / "build" / "sessiond"))
SANITIZER_WORDS = ("AddressSanitizer", "ThreadSanitizer", "LeakSanitizer", "runtime error:",
                   "UndefinedBehaviorSanitizer")
ALL_SCOPES = "login validate manage policy introspect ops"


# `large_state KEYFILE DIRECTORY ENTRIES REVOCATIONS` writes a snapshot and a journal, as a node leaves them.
LARGE_STATE = pathlib.Path(BINARY).parent / "tests" / "support" / "large_state"


def is_instrumented():
    """Sanitizers reserve memory of their own and end the process their own way."""
    program = pathlib.Path(BINARY).read_bytes()
    return b"__asan_init" in program or b"__tsan_init" in program


def new_key():
    return "sk_" + secrets.token_urlsafe(32)


# The service keys that every daemon of the tests knows: name -> (key, scopes, tenant).
KEYS = {
    "admin": (new_key(), ALL_SCOPES, "*"),
    "service": (new_key(), "login validate manage", "default"),
    "acme": (new_key(), "login validate manage", "acme"),
    "only-login": (new_key(), "login", "default"),
    "only-validate": (new_key(), "validate", "default"),
    "only-manage": (new_key(), "manage", "default"),
    "only-policy": (new_key(), "policy", "default"),
}
ADMIN, SERVICE, ACME = KEYS["admin"][0], KEYS["service"][0], KEYS["acme"][0]


def key_digest(key):
    return hashlib.blake2b(key.encode(), digest_size=32).hexdigest()


def unique(prefix="user"):
    return f"{prefix}-{secrets.token_hex(6)}"


def write_key_file(path, lines=None):
    """A key file as sessiond makes it: one secret for names, numbered keys, the last one newest."""
    lines = lines or [f"names {secrets.token_hex(32)}", f"key 1 {secrets.token_hex(32)}"]
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)
    return lines


def password_file(path, text):
    path.write_text(text)
    path.chmod(0o600)
    return path


def render(options, keys):
    """The INI text of {"section.name": value} and of service keys."""
    sections = {}
    for name, value in options.items():
        section, option = name.split(".", 1)
        sections.setdefault(section, []).append(f"{option} = {value}")
    text = ""
    for section, lines in sections.items():
        text += f"[{section}]\n" + "\n".join(lines) + "\n\n"
    for name, (key, scopes, tenant, *more) in keys.items():
        text += f"[key:{name}]\nhash = {key_digest(key)}\nscopes = {scopes}\ntenant = {tenant}\n"
        text += "".join(f"{line}\n" for line in more) + "\n"
    return text


class Node:
    """One process of sessiond in a directory of its own."""

    def __init__(self, directory, options, keys=None, key_file=None, tcp=True):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port, self.ops_port = free_port(), free_port()
        self.config = self.directory / "sessiond.conf"
        self.audit = self.directory / "audit.log"
        self.log = self.directory / "stderr.log"
        self.key_file = pathlib.Path(key_file or self.directory / "keys")
        self.keys = KEYS if keys is None else keys
        self.options = {
            "server.listen": f"127.0.0.1:{self.port}" if tcp else "",
            "server.ops_listen": f"127.0.0.1:{self.ops_port}",
            "server.workers": 2,
            "keys.file": self.key_file,
            "audit.file": self.audit,
            "journal.file": self.directory / "journal",
            "alerts.file": self.directory / "alerts",
            "cache.snapshot": self.directory / "cache",
            # All tests come from one address, and many of them try what is wrong.
            "limits.wrong_keys_per_minute": 0,
            "limits.forged_tokens_per_minute": 0,
            "redis.timeout": f"{int(500 * SLOW)}ms",
            "redis.connect_timeout": f"{int(300 * SLOW)}ms",
            **options,
        }
        self.process = self.environment = None
        self.client = Client(port=self.port, timeout=HANGS * SLOW)
        self.ops = Client(port=self.ops_port, timeout=HANGS * SLOW, ops=True)
        self.write_config()

    def write_config(self, **changes):
        """Writes the file; changes are given as section__name=value and stay."""
        self.options.update({name.replace("__", "."): value for name, value in changes.items()})
        self.config.write_text(render(self.options, self.keys))

    def spawn(self, environment=None, stdout=None, stderr=None, **popen):
        """Starts the process without waiting for anything."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [BINARY, "--config", str(self.config)], stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log if stderr is None else stderr,
                env=environment or self.environment, **popen)
        return self

    def start(self, path="/readyz", **popen):
        self.spawn(**popen)
        self.wait_for(path)
        return self

    def wait_for(self, path, seconds=10):
        def answers():
            code = self.process.poll()
            assert code is None, f"sessiond ended with {code}: {self.log_text()}"
            try:
                return self.ops.call("GET", path).status == 200
            except OSError:
                return False
        wait_until(answers, seconds, f"{path} answers 200")

    def stop(self, seconds=25):
        """SIGTERM must lead to exit status 0."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"sessiond did not stop: {self.log_text()[-3000:]}") from None
        self.process = None
        self.hang_up()
        assert code == 0, f"sessiond ended with {code}: {self.log_text()[-3000:]}"
        self.check_log()

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.hang_up()

    def hang_up(self):
        """Closes this thread's connections."""
        self.client.close()
        self.ops.close()

    def check_log(self):
        text = self.log_text()
        for word in SANITIZER_WORDS:
            assert word not in text, f"{word} in {self.log}: {text[-6000:]}"

    def signal(self, number):
        self.process.send_signal(number)

    def log_is_written(self):
        """Lines go through a thread of the node, which sleeps when it has written all of them."""
        for task in pathlib.Path(f"/proc/{self.process.pid if self.process else 0}/task").glob("*"):
            try:
                if (task / "comm").read_text() == "log\n":
                    return (task / "stat").read_text().rpartition(")")[2].split()[0] not in "RD"
            except OSError:  # it has ended
                continue
        return True

    def log_text(self):
        wait_until(self.log_is_written, 5, "the log is written")
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def audit_lines(self):
        """Every complete line of the audit file and of its rotated predecessors.

        A piece that a crash left is no line if the next one owns up to it."""
        lines = []
        for path in sorted(self.directory.glob("audit.log*")):
            raw = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
            for number, line in enumerate(raw):
                if not is_owned_up_piece(line, raw[number + 1:number + 2]):
                    lines.append(flatten(json.loads(line, object_pairs_hook=merge)))
        return lines

    def audit_of(self, request_id, seconds=3):
        """The one audit line of a request; validations may reach the file a moment later."""
        def found():
            return [line for line in self.audit_lines()
                    if line.get("http.request.id") == request_id]
        lines = wait_until(found, seconds, f"an audit line of {request_id}")
        assert len(lines) == 1, f"{len(lines)} lines of {request_id}: {lines}"
        return lines[0]

    def metric(self, name, **labels):
        """Sum of a metric's samples that carry the labels."""
        total = 0.0
        for line in self.ops.call("GET", "/metrics").body.decode().splitlines():
            match = re.fullmatch(r"([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)", line)
            if match and match[1] == name:
                if all(f'{key}="{value}"' in (match[2] or "") for key, value in labels.items()):
                    total += float(match[3])
        return total


def reload(node, counter="sessiond_config_reloads_total"):
    before = node.metric(counter)
    node.signal(signal.SIGHUP)
    wait_until(lambda: node.metric(counter) > before, 5, f"{counter} grows")


def is_owned_up_piece(line, following):
    """True if the next line says that this one is so many bytes of a torn line."""
    return (not line.endswith(b"}") and following and b'"recovered"' in following[0]
            and json.loads(following[0])["sessiond.torn_bytes"] == len(line))


def merge(pairs):
    """A JSON object whose repeated members are merged if they are objects, else refused."""
    result = {}
    for name, value in pairs:
        if name in result:
            assert isinstance(value, dict) and isinstance(result[name], dict), f"two {name}"
            result[name] = {**result[name], **value}
        else:
            result[name] = value
    return result


def flatten(line, prefix=""):
    flat = {}
    for name, value in line.items():
        if isinstance(value, dict):
            flat.update(flatten(value, prefix + name + "."))
        else:
            flat[prefix + name] = value
    return flat


class Daemon:
    """One or more nodes on the same Redis with the same keys, and short names for the calls."""

    def __init__(self, directory, redis, count=1, keys=None, key_file=None, tcp=True, **options):
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        if key_file is None:
            key_file = directory / "keys"
            if not key_file.exists():
                write_key_file(key_file)
        # Daemons with keys of their own share one cluster: each is an installation.
        settings = {"redis.nodes": " ".join(redis.nodes()),
                    "keys.installation": secrets.token_hex(8)}
        settings.update({name.replace("__", "."): value for name, value in options.items()})
        self.nodes = [Node(directory / f"node{n}", settings, keys, key_file, tcp)
                      for n in range(count)]

    @property
    def node(self):
        return self.nodes[0]

    def start(self, path="/readyz"):
        for node in self.nodes:
            node.spawn()
        for node in self.nodes:
            node.wait_for(path)
        return self

    def stop(self):
        errors = []
        for node in self.nodes:
            try:
                node.stop()
            except AssertionError as error:
                errors.append(str(error))
        assert not errors, "\n".join(errors)

    def kill(self):
        for node in self.nodes:
            node.kill()

    def call(self, method, path, body=None, bearer=None, headers=None, node=0):
        return self.nodes[node].client.call(method, path, body, bearer, headers)

    def try_login(self, user, key=SERVICE, node=0, headers=None, **fields):
        return self.call("POST", "/v1/login", {"user_id": user, **fields}, key, headers, node)

    def login(self, user=None, **fields):
        answer = self.try_login(user or unique(), **fields)
        assert answer.status == 201, answer
        return answer.json

    def validate(self, token, node=0, headers=None):
        return self.call("GET", "/v1/validate", None, token, headers, node)

    def refused(self, token, node=0):
        """The node's refusal of a token that another node has just ended: it may not have heard yet."""
        wait_until(lambda: self.validate(token, node).status != 200, 5, "the node has heard")
        return self.validate(token, node)

    def check(self, token, key=SERVICE, node=0, **fields):
        return self.call("POST", "/v1/validate", {"token": token, **fields}, key, node=node)

    def refresh(self, token, node=0, **fields):
        return self.call("POST", "/v1/refresh", {"refresh_token": token, **fields}, node=node)

    def is_alive(self, token, node=0):
        """True or False by GET /v1/validate; anything but 200 and 401 is an error."""
        answer = self.validate(token, node)
        assert answer.status in (200, 401), answer
        return answer.status == 200

    def devices(self, user, key=SERVICE, node=0):
        answer = self.call("GET", f"/v1/users/{user}/devices", None, key, node=node)
        assert answer.status == 200, answer
        return answer.json

    def kick(self, user, session, key=SERVICE, node=0, query="", headers=None):
        return self.call("DELETE", f"/v1/users/{user}/devices/{session}{query}", None, key,
                         headers, node)


def now():
    return int(time.time())

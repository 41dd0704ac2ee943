"""Stands for the service manager: runs the daemon as its unit says, on a machine in a directory."""

import os
import pathlib
import random
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import daemon as daemons
from daemon import Daemon, Node
from machine import clock
from redis_servers import wait_until
from unit_file import CREDENTIAL, UNIT, Unit

SANDBOX = pathlib.Path(__file__).with_name("sandbox.py")
DYNAMIC_USERS = range(61184, 65520)
CREDENTIALS = "run/credentials/sessiond.service"
NOTIFY = "run/systemd/notify"
# Options whose defaults are the unit's own places.
PLACES = ("keys.file", "audit.file", "journal.file", "alerts.file", "cache.snapshot")


def allow(path, user, rights):
    """Root's file that one user may read, by an access list, as systemd leaves credentials."""
    entries = [(1, rights, -1), (2, rights, user), (4, 0, -1), (0x10, rights, -1), (0x20, 0, -1)]
    packed = b"".join(struct.pack("<HHI", tag, right, who & 0xFFFFFFFF) for tag, right, who in entries)
    os.chown(path, 0, 0)
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)


def hand_over_credentials(text, etc, directory, user):
    """Does what systemd does with the LoadCredential= lines of a unit, whose files lie in `etc`."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, path in CREDENTIAL.findall(text):
        copy = directory / name
        shutil.copyfile(etc / pathlib.Path(path).relative_to("/etc"), copy)
        allow(copy, user, 4)
    allow(directory, user, 5)


class Machine:
    """A directory with what the service sees as /etc, /run, /usr/local, /var/lib and /var/log."""

    def __init__(self, directory, text=None):
        self.directory = pathlib.Path(directory)
        for place in ("run/systemd", "usr/local/bin", "var/lib", "var/log", "var/tmp", "tmp", "dev"):
            (self.directory / place).mkdir(parents=True)
        for place in ("tmp", "var/tmp"):
            (self.directory / place).chmod(0o1777)
        (self.directory / "inaccessible").mkdir(mode=0)
        (self.directory / "etc/sessiond").mkdir(parents=True)
        for file in pathlib.Path("/etc").iterdir():
            if file.is_file():
                shutil.copy(file, self.directory / "etc")
        shutil.copy(daemons.BINARY, self.directory / "usr/local/bin/sessiond")
        self.unit_path = self.directory / "sessiond.service"
        self.install(text or UNIT.read_text())

    def install(self, text):
        self.unit_path.write_text(text)
        self.unit = Unit(self.unit_path)

    def path(self, inside):
        """The path outside of a path of the service's."""
        for _, link, real in self.unit.directories():
            if inside.startswith(link + "/") or inside == link:
                inside = real + inside[len(link):]
        return self.directory / inside.lstrip("/")

    def make_directories(self):
        """Before a start; what is there belongs to the user that the service gets this time."""
        self.uid = random.choice(DYNAMIC_USERS)
        for name, link, real in self.unit.directories():
            real, link = self.directory / real.lstrip("/"), self.directory / link.lstrip("/")
            real.parent.mkdir(mode=0o700, exist_ok=True)
            real.mkdir(exist_ok=True)
            real.chmod(int(self.unit.one(name + "Mode", "0755"), 8))
            for path in (real, *real.rglob("*")):
                os.chown(path, self.uid, self.uid, follow_symlinks=False)
            if link != real and not link.is_symlink():
                link.symlink_to(real.relative_to(link.parent))

    def environment(self, **more):
        names = {"StateDirectory": "STATE_DIRECTORY", "LogsDirectory": "LOGS_DIRECTORY",
                 "RuntimeDirectory": "RUNTIME_DIRECTORY"}
        return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8",
                **{names[name]: link for name, link, _ in self.unit.directories()},
                **dict(line.split("=", 1) for line in self.unit.all("Environment")), **more}

    def command(self, words):
        return ["/usr/bin/python3", str(SANDBOX), str(self.unit_path), str(self.directory), str(self.uid), *words]

    def run(self, words, **more):
        """A command under the unit's restrictions, to its end."""
        return subprocess.run(self.command(words), env=self.environment(**more), text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


class Journal:
    """Stands for systemd-journald: a stream socket for the service's output."""

    def __init__(self, log):
        self.ours, self.theirs = socket.socketpair()
        self.log = open(log, "ab", buffering=0)
        status = os.fstat(self.theirs.fileno())
        self.name = f"{status.st_dev}:{status.st_ino}"
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        with self.log, self.ours:
            while data := self.ours.recv(65536):
                self.log.write(data)


class Notifications:
    """The messages of the main process, as NotifyAccess=main believes them."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        path.unlink(missing_ok=True)
        self.socket.bind(str(path))
        path.chmod(0o777)
        self.main, self.seen, self.extended, self.longest_silence = None, [], 0, 0
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        heard = None
        while True:
            data, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(12))
            if struct.unpack("3i", ancillary[0][2])[0] != self.main:
                continue
            for word in data.decode().splitlines():
                self.seen.append(word)
                if word.startswith("EXTEND_TIMEOUT_USEC="):
                    self.extended = int(word.split("=")[1]) / 1e6
                if word == "WATCHDOG=1":
                    now = clock()
                    self.longest_silence = max(self.longest_silence, now - (heard or now))
                    heard = now


class ServiceNode(Node):
    """The one node of a machine, with the places that the options have by default."""

    def __init__(self, machine, options):
        self.machine = machine
        super().__init__(machine.directory / "node", options)
        for name in PLACES:
            if name not in options:
                del self.options[name]
        self.config = machine.path("/etc/sessiond/sessiond.conf")
        self.audit = machine.path("/var/log/sessiond/audit.log")
        self.directory = self.audit.parent
        self.write_config()

    def spawn(self, environment=None, stdout=None, stderr=None, **popen):
        machine, unit = self.machine, self.machine.unit
        assert not unit.unknown(), unit.unknown()
        machine.make_directories()
        self.notifications = Notifications(machine.path(NOTIFY))
        self.journal = Journal(self.log)
        more = {"NOTIFY_SOCKET": f"/{NOTIFY}", "JOURNAL_STREAM": self.journal.name,
                "WATCHDOG_USEC": str(unit.seconds("WatchdogSec") * 1000000)}
        if unit.all("LoadCredential"):
            credentials = machine.directory / CREDENTIALS
            shutil.rmtree(credentials, ignore_errors=True)
            lines = "\n".join(f"LoadCredential={value}" for value in unit.all("LoadCredential"))
            hand_over_credentials(lines, machine.directory / "etc", credentials, machine.uid)
            more["CREDENTIALS_DIRECTORY"] = f"/{CREDENTIALS}"
        self.process = subprocess.Popen(machine.command(unit.one("ExecStart").split()),
                                        env=machine.environment(**more), stdin=subprocess.DEVNULL,
                                        stdout=self.journal.theirs, stderr=self.journal.theirs)
        self.notifications.main = self.process.pid
        self.journal.theirs.close()
        return self

    def wait_for_log(self, word):
        wait_until(lambda: word in self.log_text(), 5, f"{word} in {self.log_text()}")

    def is_ready(self):
        assert self.process.poll() is None, f"sessiond ended: {self.log_text()}"
        return "READY=1" in self.notifications.seen

    def start(self, path="/readyz", **popen):
        """As `systemctl start`; returns how long it took."""
        begun = time.monotonic()
        self.spawn()
        wait_until(self.is_ready, self.machine.unit.seconds("TimeoutStartSec"), "READY=1")
        took = time.monotonic() - begun
        self.wait_for(path)
        return took

    def reload(self):
        """As `systemctl reload`: the output of the line that failed, None if all went well."""
        for line in self.machine.unit.all("ExecReload"):
            words = line.replace("$MAINPID", str(self.process.pid)).split()
            done = self.machine.run(words, MAINPID=str(self.process.pid))
            if done.returncode != 0:
                return done.stdout
        return None

    def stop(self, seconds=None):
        """As `systemctl stop`; returns how long it took."""
        if self.process is None:
            return None
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        patience = self.machine.unit.seconds("TimeoutStopSec")
        wait_until(lambda: self.process.poll() is not None, max(patience, self.notifications.extended), "the end")
        took = time.monotonic() - begun
        silence, allowed = self.notifications.longest_silence, self.machine.unit.seconds("WatchdogSec")
        assert silence < allowed, f"no watchdog message for {silence:.1f} s"
        super().stop()
        shutil.rmtree(self.machine.path("/run/sessiond"), ignore_errors=True)
        return took


class Service(Daemon):
    """The daemon of the unit, with the names that tests use for calls."""

    def __init__(self, machine, redis, **options):
        settings = {"redis.nodes": " ".join(redis.nodes()), "keys.installation": f"unit-{time.time_ns()}"}
        settings.update({name.replace("__", "."): value for name, value in options.items()})
        self.machine = machine
        self.nodes = [ServiceNode(machine, settings)]

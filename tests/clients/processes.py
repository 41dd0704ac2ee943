"""Programs that a test starts, as an ordinary user, in directories of their own, and ends by their pid."""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile

from redis_servers import ROOT, SLOW, wait_until

SHIPPED = ROOT / "conf" / "gateways"
NOBODY = 65534
PATH = f"/usr/sbin:{os.environ['PATH']}"


def is_root():
    return os.geteuid() == 0


def user_of(command):
    """Options of Popen that make it nobody's process; none where we are not root, or nobody could not read it."""
    program = pathlib.Path(shutil.which(str(command[0]), path=PATH)).resolve()
    parts = [pathlib.Path(str(word)).resolve() for word in command[1:] if str(word).startswith("/")]
    open_to_all = all(place.stat().st_mode & 0o001 for part in [program, *parts] if part.exists() for place in part.parents)
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if is_root() and open_to_all else {}


@contextlib.contextmanager
def directory_of(name):
    """A directory that the program may write to, gone afterwards."""
    kept = os.environ.get("SESSIOND_TEST_KEEP") or None
    path = pathlib.Path(tempfile.mkdtemp(prefix="sessiond-" + re.sub(r"\W", "-", name) + "-", dir=kept))
    path.chmod(0o755)
    if is_root():
        os.chown(path, NOBODY, NOBODY)
    try:
        yield path
    finally:
        if not kept:
            shutil.rmtree(path, ignore_errors=True)


def write(path, text):
    path.write_text(text)
    path.chmod(0o644)
    return path


def shipped(name, replacements):
    """The text of a file of conf/gateways after what its top says to replace."""
    text = (SHIPPED / name).read_text()
    for old, new in replacements.items():
        assert old in text, f"{name} does not have {old}"
        text = text.replace(old, str(new))
    return text


class Program:
    """One process and its children, which share a process group."""

    def __init__(self, command, directory, environment=None, cwd=None):
        self.command, self.directory = [str(word) for word in command], directory
        self.log = directory / "log"
        self.environment = {"PATH": PATH, "HOME": str(directory), "LC_ALL": "C.UTF-8", **(environment or {})}
        self.cwd = cwd or directory
        self.process = None

    def start(self, port=None, seconds=20):
        """Starts it, and waits until it accepts connections on the port."""
        user = user_of(self.command)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, cwd=self.cwd, env=self.environment, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, start_new_session=True, **user)
        if port:
            try:
                wait_until(lambda: self.accepts(port), seconds, f"{self.command[0]} listens")
            except AssertionError as error:
                self.stop()
                raise AssertionError(f"{error}: {self.text()}") from None
        return self

    def accepts(self, port):
        assert self.process.poll() is None, f"{self.command[0]} ended with {self.process.returncode}: {self.text()}"
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        return False

    def text(self):
        return self.log.read_text(errors="replace")[-4000:]

    def stop(self):
        """SIGTERM, and SIGKILL to what is left of the group."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10 * SLOW)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None


def run(command, directory, environment=None, seconds=120, cwd=None):
    """Runs a program to its end; (exit status, output)."""
    user = user_of(command)
    result = subprocess.run([str(word) for word in command], cwd=cwd or directory, timeout=seconds * SLOW, text=True,
                            env={"PATH": PATH, "HOME": str(directory), "LC_ALL": "C.UTF-8", **(environment or {})},
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **user)
    return result.returncode, result.stdout

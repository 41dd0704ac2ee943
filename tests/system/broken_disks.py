"""Files, disks and pipes that take nothing more."""

import os
import resource
import signal
import subprocess

import pytest


def break_by_directory(node):
    """The file's name becomes a directory: it cannot be opened, whoever we are."""
    node.audit.rename(node.directory / "kept.log")
    node.audit.mkdir()
    node.signal(signal.SIGUSR1)


def mend_directory(node):
    node.audit.rmdir()


def break_by_limit(node):
    """No file of the process may grow: every write fails, as on a full disk."""
    size = node.audit.stat().st_size
    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def mend_limit(node):
    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE,
                     (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


DISK = 64 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 MB; needs root."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", path],
                             stderr=subprocess.DEVNULL, check=False)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def fill(disk, leave):
    """Leaves so many bytes of the disk free."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    used = sum(path.stat().st_size for path in disk.iterdir())
    with open(ballast, "wb") as file:
        for _ in range((DISK - used - leave) >> 16):
            file.write(bytes(1 << 16))


def full_pipe():
    """The ends of a pipe that takes no byte more."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for size in 4096, 1:
        try:
            while True:
                os.write(writing, b"." * size)
        except BlockingIOError:
            pass
    os.set_blocking(writing, True)
    return reading, writing

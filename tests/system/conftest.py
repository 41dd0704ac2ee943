"""Fixtures: one real cluster for the whole run, daemons on it, everything stopped by pid."""

import pathlib
import shutil
import tempfile

import pytest

from daemon import Daemon
from redis_servers import Cluster, SingleRedis


@pytest.fixture(scope="session")
def workspace():
    path = pathlib.Path(tempfile.mkdtemp(prefix="sessiond-test-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(workspace):
    servers = Cluster(workspace / "cluster")
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


@pytest.fixture(scope="session")
def standalone(workspace):
    server = SingleRedis(workspace / "standalone")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def shared(workspace, cluster):
    """Three nodes with the default policy, for tests that need nothing else."""
    daemon = Daemon(workspace / "shared", cluster, count=3, policy__max_devices=10)
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


@pytest.fixture
def start(tmp_path, cluster):
    """Starts daemons of the test's own; they must stop cleanly after it."""
    daemons = []

    def begin(count=1, redis=None, ready="/readyz", begin_now=True, **options):
        directory = tmp_path / f"daemon{len(daemons)}"
        daemon = Daemon(directory, redis or cluster, count, **options)
        daemons.append(daemon)
        return daemon.start(ready) if begin_now else daemon

    try:
        yield begin
        for daemon in daemons:
            daemon.stop()
    finally:
        for daemon in daemons:
            daemon.kill()

"""Fixtures: one real cluster for the whole run, daemons on it, everything stopped by pid. A conftest.py imports
those that its tests need."""

import os
import pathlib
import shutil
import tempfile

import pytest

from daemon import Daemon
from redis_servers import Cluster, SingleRedis


@pytest.fixture(scope="session")
def workspace():
    """Removed after the run; made in the directory SESSIOND_TEST_KEEP and kept, if that is set."""
    kept = os.environ.get("SESSIOND_TEST_KEEP") or None
    path = pathlib.Path(tempfile.mkdtemp(prefix="sessiond-test-", dir=kept))
    yield path
    if not kept:
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
    """Three nodes with the default policy, for tests that need nothing else. Nothing fails here, so that
    they have the patience for a busy machine."""
    daemon = Daemon(workspace / "shared", cluster, count=3, policy__max_devices=10, redis__timeout="10s")
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

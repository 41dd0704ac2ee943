"""Fixtures of the tests with software of others, and the table of what each was seen to do."""
import collections
import os
import pathlib
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

from fixtures import workspace  # noqa: E402, F401
from testbed import Testbed  # noqa: E402

CASES = ("allowed", "denied", "kicked", "away", "overload", "identity", "mixed", "other")


@pytest.fixture(scope="session")
def testbed(workspace):  # noqa: F811
    workspace.chmod(0o711)  # the programs, which run as another user, read certificates and call the socket
    bed = Testbed(workspace / "testbed")
    try:
        yield bed.start()
        bed.stop()
    finally:
        bed.close()


@pytest.fixture(scope="session")
def seconds():
    """How long what goes on for a while goes on: a minute in a long run."""
    return 60 if os.environ.get("LONG") else 3


# --- the table ------------------------------------------------------------------------------------
# A test says with `cell(client, case)` what it belongs to, its parameter `guard` or its marker names the client.
cells = collections.defaultdict(lambda: [0, 0])
totals = collections.Counter()
notes, figures = {}, []
begun = time.monotonic()


def pytest_configure(config):
    config.addinivalue_line("markers", "cell(client, case, note): where it counts in the table")


@pytest.fixture
def figure():
    """Notes a line to be printed below the table."""
    return figures.append


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call" or (report.when == "setup" and not report.passed):
        outcome = "skipped" if report.skipped else "passed" if report.passed else "failed"
    elif report.failed:
        outcome = "failed"
    else:
        return
    totals[outcome] += 1
    client, case, note = place_of(item)
    cells[client, case][0] += outcome == "passed"
    cells[client, case][1] += outcome != "skipped"
    if note or outcome == "skipped":
        notes[client] = note or f"skipped: {report.longrepr[2]}"


def place_of(item):
    """(client, case, note) of a test."""
    marker = item.get_closest_marker("cell")
    given = list(marker.args) if marker else []
    parameter = item.callspec.params.get("client") if hasattr(item, "callspec") else None
    client = getattr(parameter, "name", parameter) if parameter else given.pop(0) if given else "the files"
    case = given.pop(0) if given else "other"
    note = given.pop(0) if given else getattr(parameter, "note", "")
    return client, case, note


def pytest_unconfigure(config):
    """After pytest's own words, so that the count is the last line."""
    if not totals or config.option.collectonly:
        return
    clients = list(dict.fromkeys(client for client, _ in cells))
    width = max(map(len, clients))
    print(f"\n{'client':<{width}} " + " ".join(f"{case:>8}" for case in CASES))
    for client in clients:
        counts = (f"{passed}/{total}" if total else "-" for passed, total in (cells.get((client, case), (0, 0)) for case in CASES))
        print(f"{client:<{width}} " + " ".join(f"{count:>8}" for count in counts) + f"  {notes.get(client, '')}".rstrip())
    print("\n".join(figures))
    print(f"{time.monotonic() - begun:.0f} s")
    if totals["skipped"]:
        print(f"{totals['skipped']} skipped")
    print(f"{totals['passed']} passed, {totals['failed']} failed")

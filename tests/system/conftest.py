"""Which tests a run takes, and what `make repeat` and `make timing` make of them."""

import inspect
import itertools
import os
import pathlib
import types

import pytest
from _pytest.runner import runtestprotocol

import bounds
from contract import CONTRACT
from fixtures import cluster, shared, standalone, start, workspace  # noqa: F401


def take(file):
    """True if the file's tests are for this run: of runs beside each other the first takes them."""
    taken = os.environ.get("SESSIOND_TEST_TAKEN")
    if not taken:
        return True
    try:
        os.close(os.open(pathlib.Path(taken) / file.name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def taken_items(items):
    """A file is taken when the last test of the one before it begins."""
    for file, tests in itertools.groupby(items, lambda item: item.path):
        if take(file):
            yield from tests


def pytest_runtestloop(session):
    """As pytest's own, but for what other runs have taken."""
    if session.testsfailed or session.config.option.collectonly:
        return None
    items = taken_items(session.items)
    item = next(items, None)
    while item:
        following = next(items, None)
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following
    return True


# --- tests that have to do with time --------------------------------------------------------------
# What tests do with time by their own means; wait_until() and its like do not make one.
CLOCKS = {"clock", "monotonic", "perf_counter", "sleep", "for_a_while", "elapse", "go_to", "at_most"}


def pytest_configure(config):
    config.addinivalue_line("markers", "timed: has to do with time (`make repeat`)")
    config.addinivalue_line("markers", "bounded: has bounds of time (`make timing`)")


def pytest_collection_modifyitems(config, items):
    for item in items if config.option.markexpr else ():
        fixtures = itertools.chain(*item._fixtureinfo.name2fixturedefs.values())
        functions = [item.function, *(inspect.unwrap(fixture.func) for fixture in fixtures)]
        if any(uses(function, CLOCKS, "test_", set()) for function in functions):
            item.add_marker("timed")
        if any(uses(function, {"at_most"}, "", set()) for function in functions):
            item.add_marker("bounded")


def names_of(code):
    names = set(code.co_names)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names |= names_of(inner)
    return names


def uses(function, wanted, prefix, seen):
    """Whether a function, or what it names in files of this directory that begin like that, has such a name."""
    file = pathlib.Path(function.__code__.co_filename)
    if function in seen or file.parent != pathlib.Path(__file__).parent or not file.name.startswith(prefix):
        return False
    seen.add(function)
    names = names_of(function.__code__)
    named = [function.__globals__.get(name) for name in names]
    called = [inspect.unwrap(part) for found in named
              for part in (vars(found).values() if inspect.isclass(found) else [found])
              if inspect.isfunction(part)]
    return bool(names & wanted) or any(uses(part, wanted, prefix, seen) for part in called)


def pytest_runtest_protocol(item, nextitem):
    """`make timing`: a test has up to three tries, until each bound has held in one of them."""
    if not bounds.JUDGED:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    held, exceeded = set(), set()
    for turn in range(1, bounds.TRIES + 1):
        if turn > 1:
            item._initrequest()
        bounds.begin()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        lines, now_held, now_exceeded = bounds.report()
        print(f"\n{item.name}, try {turn}", *lines, sep="\n")
        held, exceeded = held | now_held, exceeded | now_exceeded
        if exceeded <= held or any(report.failed for report in reports):
            break
    for report in reports:
        if report.when == "call" and report.passed and not exceeded <= held:
            report.outcome = "failed"
            report.longrepr = f"beyond its bound in each of {bounds.TRIES} tries: {exceeded - held}"
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
# --- the description of the interface ---------------------------------------------------------------
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """An answer that is not described fails the test that received it, in whatever thread."""
    outcome = yield
    broken = CONTRACT.take_broken()
    if broken and outcome.excinfo is None:
        pytest.fail(broken[0], pytrace=False)


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(CONTRACT.summary())

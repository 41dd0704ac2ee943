#!/usr/bin/python3
"""Runs the tests that the Makefile built and counts them.

The last line is `N passed, N failed` over unit checks and system tests; the exit status is 1 if
anything failed. Reports of sanitizers count as failures wherever they come from.
"""
import argparse
import concurrent.futures
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
UNIT_TIMEOUT = 900
SYSTEM_TIMEOUT = 3600
LANES = 2  # tests side by side; unit tests beside system tests are one more
# Files of system tests that take longer than their size says.
LONGEST = ("test_chaos_short", "test_slow_clients", "test_audit_ended_tokens", "test_redis_topology",
           "test_sentinel", "test_invalidation")
SUMMARY = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)$", re.MULTILINE)
# What system tests say of the answers that they received (tests/system/contract.py).
HELD = re.compile(r"^(\d+) answers agree with docs/openapi\.yaml", re.MULTILINE)
# How check and pytest name what failed.
FAILURE = re.compile(r"^(?:[^:\n]+:\d+:[FE]|FAILED |ERROR ).*$", re.MULTILINE)
failures = []  # such lines, to be repeated at the end, where they are found
under_way = []
interrupted = threading.Event()
held = []  # the answers that each lane held to docs/openapi.yaml


def run_unit(program, environment):
    """Runs one check program; returns (passed, failed)."""
    if interrupted.is_set():
        return 0, 0
    start = time.monotonic()
    try:
        result = subprocess.run([program], cwd=ROOT, env=environment, timeout=UNIT_TIMEOUT,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                errors="replace")
        output, status = result.stdout, result.returncode
    except subprocess.TimeoutExpired as expired:
        output, status = (expired.stdout or b"").decode(errors="replace"), "timeout"
    summaries = [tuple(map(int, found)) for found in SUMMARY.findall(output)]
    checks = sum(found[0] for found in summaries)
    failed = sum(found[1] + found[2] for found in summaries)
    passed = checks - failed
    if (status != 0 and not failed) or not checks:
        failed += 1
    print(f"  {pathlib.Path(program).name:<28} {passed:4d} passed  {failed:3d} failed"
          f"  {time.monotonic() - start:6.1f} s", flush=True)
    if failed:
        print(f"{output}\n  exit status {status}", flush=True)
        failures.extend(FAILURE.findall(output) or [f"{program}: exit status {status}"])
    return passed, failed


def lay_out(files, order):
    """The files as the lanes are to take them, each when it is through with one: the longest first, so
    that no lane ends long after the others. With an order they come in another: no test may need
    what another has left, or its absence."""
    files = sorted(files, key=lambda file: (file.stem not in LONGEST, -file.stat().st_size, file.name))
    if order:
        random.Random(order).shuffle(files)
    return files


def select(build, arguments):
    """(unit tests, files of system tests, options of pytest) as the arguments say."""
    units, files = arguments.unit or [], sorted((ROOT / "tests" / "system").glob("test_*.py"))
    if arguments.tests:
        names = {pathlib.Path(test).stem for test in arguments.tests}
        units, files = ([test for test in tests if pathlib.Path(test).stem in names] for tests in (units, files))
        unknown = names - {pathlib.Path(test).stem for test in [*units, *files]}
        if unknown:
            sys.exit(f"there are no such tests: {' '.join(sorted(unknown))}")
    if arguments.timed:
        units = [test for test in units if is_timed(build, test)]
    marked = "timed" if arguments.timed else "bounded" if arguments.timing else ""
    options = [*(["-m", marked] if marked else []), *(["-s"] if arguments.timing else ["--durations=8"])]
    return units, files if arguments.system else [], options


def is_timed(build, program):
    """Whether a unit test drives a clock, asks one, or waits."""
    source = ROOT / f"{(ROOT / program).relative_to(build)}.c"
    return re.search(r"\b(clock_\w+|\w*sleep|session_pass\w*)\(", source.read_text()) is not None


def run_lane(files, options, report, environment):
    """Runs the files of system tests that no other lane has taken (tests/system/conftest.py); returns
    (passed, failed, output)."""
    report.unlink(missing_ok=True)
    command = ["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", *options,
               f"--junitxml={report}", *(str(file) for file in files)]
    pytest = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, text=True,
                              errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    under_way.append(pytest)
    try:
        output, status = pytest.communicate(timeout=SYSTEM_TIMEOUT)[0], pytest.returncode
    except subprocess.TimeoutExpired:
        output, status = end_lane(pytest), "timeout"
    held.extend(map(int, HELD.findall(output)))
    if not report.exists():
        failures.append(f"pytest left no {report.name}, exit status {status}")
        return 0, 1, f"{output}\n  {failures[-1]}\n"
    suites = list(xml.etree.ElementTree.parse(report).getroot().iter("testsuite"))
    total, failed, skipped = (sum(int(suite.get(name)) for suite in suites for name in names)
                              for names in (["tests"], ["failures", "errors"], ["skipped"]))
    if status != 0 and not failed:
        failed += 1
    if failed:
        failures.extend(FAILURE.findall(output) or [f"{report.name}: exit status {status}"])
    return max(total - failed - skipped, 0), failed, output


def end_lane(pytest):
    """SIGINT lets the fixtures stop what they started."""
    os.killpg(pytest.pid, signal.SIGINT)
    try:
        return pytest.communicate(timeout=60)[0]
    except subprocess.TimeoutExpired:
        os.killpg(pytest.pid, signal.SIGKILL)
        return pytest.communicate()[0]


def run_system(build, files, options, lanes, environment, units):
    """Runs the system tests side by side, since most of their time is waiting; a lane more joins when
    the unit tests are through. Returns (passed, failed)."""
    taken = build / "system-taken"
    shutil.rmtree(taken, ignore_errors=True)
    taken.mkdir()
    environment = {**environment, "SESSIOND_BINARY": str(build / "sessiond"),
                   "SESSIOND_TEST_TAKEN": str(taken)}

    def lane(number):
        if number == lanes:
            units.result()
        if interrupted.is_set():
            return 0, 0, ""
        return run_lane(files, options, build / f"system-{number}.xml", environment)
    numbers = range(lanes + 1 if lanes > 1 else 1)
    with concurrent.futures.ThreadPoolExecutor(len(numbers)) as pool:
        futures = [pool.submit(lane, number) for number in numbers]
        results = []
        try:
            for future in futures:
                passed, failed, output = future.result()
                print(output, flush=True)
                results.append((passed, failed))
        except KeyboardInterrupt:
            interrupted.set()
            for pytest in under_way:
                os.killpg(pytest.pid, signal.SIGINT)
            raise
    left = [f"{file.name}: no lane took it" for file in files
            if not (taken / file.name).exists() and "-m" not in options]
    failures.extend(left)
    return [sum(column) for column in zip(*results, (0, len(left)))]


def run_units(programs, lanes, environment):
    """Runs the unit tests; returns (passed, failed)."""
    with concurrent.futures.ThreadPoolExecutor(lanes) as pool:
        results = list(pool.map(lambda program: run_unit(ROOT / program, environment), programs))
    passed, failed = [sum(column) for column in zip(*results or [(0, 1)])]
    print(f"Unit tests: {passed} passed, {failed} failed", flush=True)
    return passed, failed


def sanitizer_reports(prefix):
    """Prints and counts what sanitizers wrote."""
    reports = sorted(prefix.parent.glob(prefix.name + ".*"))
    for report in reports:
        print(f"--- {report}\n{report.read_text(errors='replace')[:6000]}")
        failures.append(f"sanitizer: {report.name}")
    return len(reports)


def without_make(environment):
    """A make that a test starts is no sub-make: BUILD=build/asan of `make asan` would override its own."""
    return {name: value for name, value in environment.items()
            if name not in ("MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS")}


def run_all(build, arguments, environment):
    """Runs what the arguments say once; returns (passed, failed)."""
    programs, files, options = select(build, arguments)
    results = [(0, 0)]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        if programs or not files:
            units = pool.submit(run_units, programs, 1 if files else LANES, environment)
        else:
            units = pool.submit(lambda: (0, 0))
        if files:
            # Other tests would disturb measurements.
            results.append(run_system(build, lay_out(files, arguments.order), options,
                                      1 if arguments.timing else LANES, environment, units))
            print("System tests: {} passed, {} failed".format(*results[-1]))
        results.append(units.result())
    return [sum(column) for column in zip(*results)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--unit", nargs="*", metavar="PROGRAM")
    parser.add_argument("--system", action="store_true")
    parser.add_argument("--order", metavar="SEED", help="system tests in another order")
    parser.add_argument("--tests", nargs="+", metavar="NAME", help="only these unit tests and files of system tests")
    parser.add_argument("--timed", action="store_true", help="only what has to do with time")
    parser.add_argument("--timing", action="store_true", help="judge bounds of time (tests/system/bounds.py)")
    parser.add_argument("--times", type=int, default=1, help="how often all of it is run")
    parser.add_argument("--slow", default="1", help="how many times longer system tests may wait")
    arguments = parser.parse_args()
    # Tests with thousands of connections need more than the usual 1024 files.
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    build = (ROOT / arguments.build).resolve()
    reports = build / "sanitizer-report"
    for old in build.glob(reports.name + ".*"):
        old.unlink()

    # Timeouts of unit tests end what hangs; how long something may take is theirs to assert.
    environment = {**without_make(os.environ), "CK_VERBOSITY": "normal", "CK_TIMEOUT_MULTIPLIER": "5",
                   "PYTHONDONTWRITEBYTECODE": "1",
                   "SESSIOND_TEST_SLOW": arguments.slow}
    options = f"log_path={reports}"
    environment["ASAN_OPTIONS"] = options + ":detect_stack_use_after_return=1"
    environment["UBSAN_OPTIONS"] = options + ":print_stacktrace=1:halt_on_error=0"
    environment["TSAN_OPTIONS"] = (options + ":halt_on_error=0:second_deadlock_stack=1"
                                   f":suppressions={ROOT / 'tests/support/tsan.supp'}")

    if arguments.timing:
        environment["SESSIOND_TEST_TIMING"] = "1"
    start = time.monotonic()
    results = []
    for turn in range(1, arguments.times + 1):
        results.append(run_all(build, arguments, environment))
        if arguments.times > 1:
            print("Turn {}: {} passed, {} failed, {:.0f} s".format(turn, *results[-1], time.monotonic() - start),
                  flush=True)
    passed, failed = (sum(column) for column in zip(*results))
    found = sanitizer_reports(reports)
    if found:
        print(f"Sanitizers: {found} reports")
    failed += found
    for failure in failures:
        print(f"FAILED {failure.removeprefix('FAILED ')[:500]}")
    if held:
        print(f"{sum(held)} answers agree with docs/openapi.yaml")
    print(f"{time.monotonic() - start:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

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
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
UNIT_TIMEOUT = 300
SYSTEM_TIMEOUT = 1800
LANES = 2  # tests side by side
SUMMARY = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)$", re.MULTILINE)
# How check and pytest name what failed.
FAILURE = re.compile(r"^(?:[^:\n]+:\d+:[FE]|FAILED |ERROR ).*$", re.MULTILINE)
failures = []  # such lines, to be repeated at the end, where they are found


def run_unit(program, environment):
    """Runs one check program; returns (passed, failed)."""
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


def split(files, count, order):
    """The files in lanes of about the same size: how long tests are says how long they take. With an
    order the files of a lane and what precedes them are others: no test may need another one, or
    its absence."""
    lanes = [[] for _ in range(count)]
    files = sorted(files, key=lambda file: (-file.stat().st_size, file.name))
    shuffle = random.Random(order).shuffle if order else lambda files: None
    shuffle(files)
    for file in files:
        min(lanes, key=lambda lane: sum(each.stat().st_size for each in lane)).append(file)
    for lane in lanes:
        lane.sort()
        shuffle(lane)
    return lanes


under_way = []


def run_lane(files, binary, report, environment):
    """Runs some files of system tests; returns (passed, failed, output)."""
    report.unlink(missing_ok=True)
    environment = {**environment, "SESSIOND_BINARY": str(binary)}
    command = ["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider",
               "--durations=8", f"--junitxml={report}", *(str(file) for file in files)]
    pytest = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, text=True,
                              errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    under_way.append(pytest)
    try:
        output, status = pytest.communicate(timeout=SYSTEM_TIMEOUT)[0], pytest.returncode
    except subprocess.TimeoutExpired:
        output, status = end_lane(pytest), "timeout"
    if not report.exists():
        failures.append(f"pytest left no {report.name}, exit status {status}")
        return 0, 1, f"{output}\n  {failures[-1]}\n"
    suites = list(xml.etree.ElementTree.parse(report).getroot().iter("testsuite"))
    total, failed, skipped = (sum(int(suite.get(name)) for suite in suites for name in names)
                              for names in (["tests"], ["failures", "errors"], ["skipped"]))
    if (status != 0 and not failed) or not total:
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


def run_system(binary, build, order, environment):
    """Runs the system tests side by side, since most of their time is waiting; returns (passed,
    failed)."""
    lanes = split((ROOT / "tests" / "system").glob("test_*.py"), LANES, order)
    with concurrent.futures.ThreadPoolExecutor(LANES) as pool:
        futures = [pool.submit(run_lane, files, binary, build / f"system-{number}.xml",
                               environment) for number, files in enumerate(lanes)]
        results = []
        try:
            for future in futures:
                passed, failed, output = future.result()
                print(output, flush=True)
                results.append((passed, failed))
        except KeyboardInterrupt:
            for pytest in under_way:
                os.killpg(pytest.pid, signal.SIGINT)
            raise
    return [sum(column) for column in zip(*results)]


def sanitizer_reports(prefix):
    """Prints and counts what sanitizers wrote."""
    reports = sorted(prefix.parent.glob(prefix.name + ".*"))
    for report in reports:
        print(f"--- {report}\n{report.read_text(errors='replace')[:6000]}")
        failures.append(f"sanitizer: {report.name}")
    return len(reports)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--unit", nargs="*", metavar="PROGRAM")
    parser.add_argument("--system", action="store_true")
    parser.add_argument("--order", metavar="SEED", help="system tests in another order")
    parser.add_argument("--slow", default="1", help="how many times longer system tests may wait")
    arguments = parser.parse_args()
    # Tests with thousands of connections need more than the usual 1024 files.
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    build = (ROOT / arguments.build).resolve()
    reports = build / "sanitizer-report"
    for old in build.glob(reports.name + ".*"):
        old.unlink()

    environment = {**os.environ, "CK_VERBOSITY": "normal", "PYTHONDONTWRITEBYTECODE": "1",
                   "SESSIOND_TEST_SLOW": arguments.slow}
    options = f"log_path={reports}"
    environment["ASAN_OPTIONS"] = options + ":detect_stack_use_after_return=1"
    environment["UBSAN_OPTIONS"] = options + ":print_stacktrace=1:halt_on_error=0"
    environment["TSAN_OPTIONS"] = (options + ":halt_on_error=0:second_deadlock_stack=1"
                                   f":suppressions={ROOT / 'tests/tsan.supp'}")

    passed = failed = 0
    start = time.monotonic()
    if arguments.unit is not None:
        print("Unit tests")
        with concurrent.futures.ThreadPoolExecutor(LANES) as pool:
            results = list(pool.map(lambda program: run_unit(ROOT / program, environment),
                                    arguments.unit)) or [(0, 1)]
        unit = [sum(column) for column in zip(*results)]
        print(f"Unit tests: {unit[0]} passed, {unit[1]} failed")
        passed, failed = passed + unit[0], failed + unit[1]
    if arguments.system:
        print("System tests", flush=True)
        system = run_system(build / "sessiond", build, arguments.order, environment)
        print(f"System tests: {system[0]} passed, {system[1]} failed")
        passed, failed = passed + system[0], failed + system[1]
    found = sanitizer_reports(reports)
    if found:
        print(f"Sanitizers: {found} reports")
    failed += found
    for failure in failures:
        print(f"FAILED {failure.removeprefix('FAILED ')[:500]}")
    print(f"{time.monotonic() - start:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

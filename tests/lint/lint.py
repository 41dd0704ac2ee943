#!/usr/bin/python3
"""What `make lint` checks: one function a check, each returns the lines to complain with.

The last line is `N passed, N failed` over the checks; the exit status is 1 if any failed.
`lint.py NAME...` runs only those.
"""
import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time

import acl
import house
import includes
import openapi
import prose
import symbols

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Where the objects are whose symbols are looked at; `make lint` builds them.
BUILD = ROOT / os.environ.get("BUILD", "build")
FUNCTION_LINES = 60


def files(*patterns):
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))


def run(command, **options):
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, **options)


def complaints(command):
    """The output of a tool, if it failed."""
    result = run(command)
    return result.stdout.splitlines() or [f"exit status {result.returncode}"] if result.returncode else []


def c_sources():
    return files("src/**/*.c", "tests/**/*.c")


def preprocessor_flags():
    return shlex.split(run(["make", "-s", "--no-print-directory", "flags"]).stdout)


def in_parallel(check, items):
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [line for lines in pool.map(check, items) for line in lines]


def check_format():
    # The tables of include/tbl are one row a line, however long.
    sources = c_sources() + files("include/*.h", "src/**/*.h", "tests/**/*.h")
    return complaints(["clang-format", "--dry-run", "-Werror", *sources])


def check_includes():
    return list(includes.violations(ROOT))


def check_rooms():
    return [*house.folder_violations(ROOT), *house.map_violations(ROOT)]


def check_constants():
    return list(house.constant_violations(ROOT))


def check_prose():
    return list(prose.violations(ROOT))


def check_circles():
    return list(symbols.circle_violations(ROOT, BUILD))


def check_names():
    return [*symbols.name_violations(ROOT, BUILD), *symbols.shared_name_violations(ROOT)]


def check_acl():
    return list(acl.violations(ROOT))


def check_function_length():
    tags = run(["ctags", "-f", "-", "--output-format=json", "--fields=+ne", "--languages=C",
                "--kinds-C=f", *c_sources()]).stdout
    result = []
    for tag in map(json.loads, tags.splitlines()):
        length = tag["end"] - tag["line"] + 1
        if length > FUNCTION_LINES:
            result.append(f"{tag['path']}:{tag['line']}: {tag['name']}() has {length} lines,"
                          f" {FUNCTION_LINES} are allowed")
    return result


def check_shell():
    return complaints(["shellcheck", ".ci/run", *files("tests/**/*.sh")])


def check_documentation():
    """The scripts beside the tests that compare code with its documents."""
    result = []
    for script in files("tests/lint/*_documented.py"):
        result += complaints([sys.executable, script])
    return result


def check_openapi():
    return list(openapi.violations(ROOT, preprocessor_flags()))


def check_cppcheck():
    return complaints(["cppcheck", "--quiet", "--error-exitcode=1", "--inline-suppr", "--std=c11",
                       f"-j{os.cpu_count()}", "--enable=warning,portability,performance",
                       "--suppressions-list=tests/lint/cppcheck.txt", "--template=gcc", "-Iinclude", "-Isrc",
                       "-D_GNU_SOURCE", *files("src/**/*.c", "tests/bench/*.c", "tests/support/broken_calls.c")])


def check_tidy():
    flags = ["--", "-std=c11", *preprocessor_flags()]

    def tidy(source):
        result = run(["clang-tidy", "--quiet", source, *flags])
        if result.returncode == 0:
            return []
        # The steps that lead to an error are clang-tidy's notes: run it by hand for those.
        return [line for line in result.stdout.splitlines() if ": error:" in line] or [f"{source}: clang-tidy failed"]

    return in_parallel(tidy, files("src/**/*.c", "tests/bench/*.c", "tests/support/broken_calls.c"))


CHECKS = {
    "format": check_format,
    "includes": check_includes,
    "rooms": check_rooms,
    "circles": check_circles,
    "names": check_names,
    "constants": check_constants,
    "prose": check_prose,
    "acl": check_acl,
    "function-length": check_function_length,
    "shell": check_shell,
    "documentation": check_documentation,
    "openapi": check_openapi,
    "cppcheck": check_cppcheck,
    "clang-tidy": check_tidy,
}


def main(names):
    failed = 0
    for name in names or CHECKS:
        start = time.monotonic()
        problems = CHECKS[name]()
        failed += bool(problems)
        print(f"  {name:<16} {'FAILED' if problems else 'ok':<6} {time.monotonic() - start:6.1f} s", flush=True)
        for line in problems:
            print(f"    {line}")
    print(f"{len(names or CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

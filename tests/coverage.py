#!/usr/bin/python3
"""Prints which share of the branches of src the tests took, by file, and of all of them.

`make coverage` builds with gcov's counters under BUILD/coverage and runs the unit tests first. A
branch is one way out of a condition as gcc sees it in unoptimised code; those of assertions do not
count, since they are not meant to be taken.
"""
import argparse
import collections
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def notes_of(build):
    """gcc's notes of each object of the library, and of the helpers of the tests, one of which includes a source."""
    return sorted([*(build / "src").rglob("*.gcno"), *(build / "tests/support").glob("support_*.gcno")])


def count_lines(source, lines, taken):
    text = (ROOT / source).read_text(encoding="utf-8").splitlines()
    for line in lines:
        if "assert(" in text[line["line_number"] - 1]:
            continue
        for number, branch in enumerate(line["branches"]):
            place = (source, line["line_number"], line.get("function_name"), number)
            taken[place] = taken[place] or branch["count"] > 0


def read_object(note, taken):
    """gcov's word on one object; of inline functions of headers each object has its own."""
    told = subprocess.run(["gcov", "--branch-probabilities", "--json-format", "--stdout", note],
                          cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    for document in told.stdout.splitlines():
        for file in json.loads(document)["files"]:
            if file["file"].startswith("src/") and file["file"].endswith(".c"):
                count_lines(file["file"], file["lines"], taken)


def print_table(taken, under):
    all_of, taken_of = collections.Counter(), collections.Counter()
    for place, was_taken in taken.items():
        all_of[place[0]] += 1
        taken_of[place[0]] += was_taken
    for source in sorted(all_of):
        if source.startswith(under):
            print(f"  {source:<40} {taken_of[source]:6d} of {all_of[source]:6d}"
                  f" {100 * taken_of[source] / all_of[source]:6.1f} %")
    total = sum(all_of.values())
    print(f"  {'all of src':<40} {taken_of.total():6d} of {total:6d}"
          f" {100 * taken_of.total() / total:6.1f} %")


def print_missing(taken, source):
    """The branches of one file that were never taken, by line."""
    text = (ROOT / source).read_text(encoding="utf-8").splitlines()
    lines = collections.Counter(place[1] for place, was_taken in taken.items()
                                if place[0] == source and not was_taken)
    for line in sorted(lines):
        print(f"{source}:{line}: {lines[line]} not taken: {text[line - 1].strip()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--under", default="src/", help="only files whose path begins so")
    parser.add_argument("--missing", metavar="FILE", help="what of this file was not taken")
    options = parser.parse_args()
    taken = collections.defaultdict(bool)
    notes = notes_of(options.build)
    if not notes:
        sys.exit(f"{options.build} was not built with --coverage")
    for note in notes:
        read_object(note, taken)
    if options.missing:
        print_missing(taken, options.missing)
    else:
        print_table(taken, options.under)


if __name__ == "__main__":
    main()

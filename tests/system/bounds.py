"""Bounds of how long something may take: answers, percentiles, shares of a processor.

A busy machine breaks them, so `make check` only knows from them that nothing hangs. `make timing` runs the
tests that have some and judges them: a test that exceeds one is run again, up to three times in all, and each
of its bounds must hold in one of the runs (conftest.py)."""

import os

JUDGED = os.environ.get("SESSIOND_TEST_TIMING", "") not in ("", "0")
TRIES = 3
GROSS = 5  # seconds beyond a bound that are a fault on any machine

taken = {}  # what -> [(value, most)] since begin()


def begin():
    taken.clear()


def at_most(value, most, what):
    """The value, in seconds or as a share, is to be no larger than `most`; `what` stands in the report and
    is the same in each try."""
    taken.setdefault(what, []).append((value, most))
    assert value <= most + GROSS, f"{what}: {value:.3f} of {most:.3f}"


def report():
    """(lines with the figures, the bounds that held, those that did not)."""
    lines, held = [], set()
    for what, values in taken.items():
        value, most = max(values, key=lambda pair: pair[0] - pair[1])
        if value <= most:
            held.add(what)
        lines.append(f"  {what}: {value:.4f} of {most:.4f}, {len(values)} times"
                     + ("" if value <= most else ", EXCEEDED"))
    return lines, held, set(taken) - held

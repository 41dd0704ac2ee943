"""Calls that begin at the same moment."""

import threading
from concurrent.futures import ThreadPoolExecutor


def at_once(count, function, just_before=None):
    """Calls function(n) in as many threads, all released at the same moment, just before which all
    stand ready and one of them calls just_before()."""
    gate = threading.Barrier(count, just_before)

    def run(n):
        gate.wait()
        return function(n)
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))

"""A short chaos run: clients on three nodes, faults, and no violation. SESSIOND_CHAOS_SEED draws
another one; `make chaos` runs it for longer."""

import itertools
import os
import signal
import subprocess
import sys

from daemon import BINARY
from redis_servers import ROOT, SLOW

sys.path.insert(0, str(ROOT / "tests" / "chaos"))
from nemesis import FAULTS, schedule  # noqa: E402

SECONDS = 24
SEED = os.environ.get("SESSIOND_CHAOS_SEED", "83")


def test_a_short_run_of_chaos_leaves_no_violation():
    command = [sys.executable, str(ROOT / "tests" / "chaos" / "chaos.py"), "--binary", BINARY,
               "--seconds", str(SECONDS), "--seed", SEED, "--rate", str(int(400 / SLOW)), "--patience", "2"]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as chaos:
        try:
            output, _ = chaos.communicate(timeout=240 * SLOW)
        except subprocess.TimeoutExpired:
            # It stops what it started.
            chaos.send_signal(signal.SIGINT)
            output, _ = chaos.communicate(timeout=60)
    print(output)
    assert chaos.returncode == 0, output
    assert f"0 violations, seed {SEED}" in output, output


def test_a_seed_draws_its_own_schedule_with_every_fault_in_each_round():
    for lane, faults in FAULTS.items():
        rounds = [list(itertools.islice(schedule(lane, seed, (1, 2)), 2 * len(faults)))
                  for seed in (1, 1, 2)]
        assert rounds[0] == rounds[1] != rounds[2]
        for steps in rounds:
            names = [name for _, name, _ in steps]
            assert set(names[:len(faults)]) == set(names[len(faults):]) == set(faults)
            assert all(1 <= pause <= 2 for pause, _, _ in steps)
        one = next(iter(faults))
        assert {name for _, name, _ in
                itertools.islice(schedule(lane, 1, (1, 2), [one]), 5)} == {one}

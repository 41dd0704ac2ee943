"""A short chaos run: clients on three nodes, faults, and no violation. SESSIOND_CHAOS_SEED draws
another one; `make chaos` runs it for longer."""

import os
import signal
import subprocess
import sys

from daemon import BINARY
from redis_servers import ROOT, SLOW

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

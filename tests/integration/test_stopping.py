"""SIGTERM stops a command however it was started."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from cli.main import INTERRUPTED
from tests.integration.train import ROOT

PROGRAM = """
import signal, sys, time
if sys.argv[1] == "ignored":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell's script does for what it starts with &
import cli.app
cli.app.app = lambda: (print("ready", flush=True), time.sleep(60))
from cli.main import run
run()
"""


@pytest.mark.parametrize("how", ["as usual", "ignored"])
def test_sigterm_stops_it(how: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (INTERRUPTED, "valuetrain: stopped\n")

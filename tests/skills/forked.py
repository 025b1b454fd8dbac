"""Model servers that need not import anything: forked from the test's own process, which has done so.

A cold one imports for three seconds. What serves is the same: `serving.main`, in a process of its own, over HTTP on a
port of its own, ended by its closed input. Cold ones are started in `test_serving` and by every drive of
`tests/integration` that serves a model.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import IO, Any, NoReturn

from agents.skills.devsecops import serving


class ForkedServer(subprocess.Popen[str]):
    """In place of `subprocess.Popen` in `agents.skills.devsecops.replica`."""

    def __init__(self, command: Sequence[str], *, stderr: IO[str], **_: Any) -> None:
        assert command[1:3] == ["-m", "agents.skills.devsecops.serving"], command
        there, out = os.pipe()
        into, here = os.pipe()
        pid = os.fork()
        if pid == 0:
            for source, target in ((into, 0), (out, 1), (stderr.fileno(), 2)):
                os.dup2(source, target)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            _serve(command[3:])
        os.close(out)
        os.close(into)
        self.pid, self.args, self.returncode = pid, command, None
        self.stdin, self.stdout, self.stderr = os.fdopen(here, "w"), os.fdopen(there), None
        self._child_created, self._sigint_wait_secs, self._communication_started = True, 0.25, False
        self._waitpid_lock = threading.Lock()


def _serve(arguments: Sequence[str]) -> NoReturn:
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        sys.stdin, sys.stdout, sys.stderr = (
            io.TextIOWrapper(io.FileIO(number, "r" if number == 0 else "w"), line_buffering=True) for number in range(3)
        )
        code = serving.main(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)

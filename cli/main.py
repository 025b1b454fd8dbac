"""Entry point of the `valuetrain` command: nothing but what must hold before anything else is imported."""

from __future__ import annotations

import signal
import sys

INTERRUPTED = 130


def run() -> None:
    """Run the command line. SIGTERM stops it as Ctrl-C does; stopped while still importing, it shows no traceback."""
    try:
        # A script's background jobs ignore SIGINT; SIGTERM must stop them all the same.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
        from cli.app import app

        app()
    except KeyboardInterrupt:
        sys.stderr.write("valuetrain: stopped\n")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    run()

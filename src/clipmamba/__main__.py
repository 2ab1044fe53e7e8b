"""The program: ``clipmamba``, or ``python -m clipmamba``."""

from __future__ import annotations

import signal

# Nothing has begun while the modules load: Ctrl-C ends that at once and without a word.
_before = signal.signal(signal.SIGINT, signal.SIG_DFL)

from clipmamba.cli import main  # noqa: E402

signal.signal(signal.SIGINT, _before)

if __name__ == "__main__":
    main(prog_name="clipmamba")

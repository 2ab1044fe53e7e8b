"""The program: ``clipmamba``, or ``python -m clipmamba``."""

from __future__ import annotations

import signal

# While the modules load there is nothing to clean up: let Ctrl-C end the process silently.
_before = signal.signal(signal.SIGINT, signal.SIG_DFL)

from clipmamba.cli import main  # noqa: E402

signal.signal(signal.SIGINT, _before)

if __name__ == "__main__":
    main(prog_name="clipmamba")

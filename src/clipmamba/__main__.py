"""The program: ``clipmamba``, or ``python -m clipmamba``."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line."""
    # Nothing has begun while the modules load: Ctrl-C ends that at once and without a word.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from clipmamba.cli import main as command

    signal.signal(signal.SIGINT, before)
    command(prog_name="clipmamba")


if __name__ == "__main__":
    main()

"""``python -m clipmamba``."""

from __future__ import annotations

from clipmamba.cli import main

if __name__ == "__main__":
    main(prog_name="clipmamba")

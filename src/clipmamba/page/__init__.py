"""A page in the browser, over the command line's own way of restyling; gradio loads when served."""

from __future__ import annotations

from clipmamba.page.settings import PageSettings, Restyle, Restyled, StoppedError

__all__ = ["PageSettings", "Restyle", "Restyled", "StoppedError"]

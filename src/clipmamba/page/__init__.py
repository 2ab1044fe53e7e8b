"""A web page on top of the command line's restyling; gradio is imported only to serve it."""

from __future__ import annotations

from clipmamba.page.settings import PageSettings, Restyle, Restyled, StoppedError

__all__ = ["PageSettings", "Restyle", "Restyled", "StoppedError"]

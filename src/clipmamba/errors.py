"""Exception types for callers to catch; each message names the remedy."""

from __future__ import annotations

__all__ = ["BackendError", "ClipmambaError", "InputError", "WeightsError"]


class ClipmambaError(Exception):
    """Base class of every error that this package raises deliberately."""


class InputError(ClipmambaError, ValueError):
    """An input can't be used: a file, a prompt, an option."""


class WeightsError(ClipmambaError):
    """Weights are missing, incomplete or do not fit the model."""


class BackendError(ClipmambaError, RuntimeError):
    """A backend requested by name can't run this call."""

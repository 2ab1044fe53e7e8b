"""The few exception types a caller may want to catch; each message names the remedy."""

from __future__ import annotations

__all__ = ["BackendError", "ClipmambaError", "InputError", "WeightsError"]


class ClipmambaError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(ClipmambaError, ValueError):
    """Something the user gave can't be used: a file, a prompt, an option."""


class WeightsError(ClipmambaError):
    """Weights are missing, incomplete or do not fit the model."""


class BackendError(ClipmambaError, RuntimeError):
    """A backend named by the user can't run this call."""

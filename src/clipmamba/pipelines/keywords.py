"""Suggestions for misspelled keyword arguments."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import ParamSpec, TypeVar

_Options = ParamSpec("_Options")
_Result = TypeVar("_Result")


def suggest_keywords(function: Callable[_Options, _Result]) -> Callable[_Options, _Result]:
    """Decorate a function to suggest the nearest keyword when it is called with an unknown one.

    Raises:
        TypeError: The keyword is unknown; the message says "did you mean".
    """
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: _Options.args, **kwargs: _Options.kwargs) -> _Result:
        check_keywords(function.__name__, kwargs, names)
        return function(*args, **kwargs)

    return checked


def check_keywords(function: str, given: Iterable[str], names: Sequence[str]) -> None:
    """Refuse keywords that a function does not have.

    Args:
        function: Its name, for the message.
        given: The keywords of a call.
        names: Those that the function has.

    Raises:
        TypeError: A keyword is unknown; the message says "did you mean".
    """
    for wrong in sorted(set(given) - set(names)):
        close = difflib.get_close_matches(wrong, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"use one of {', '.join(names)}"
        raise TypeError(f"{function}() has no keyword {wrong!r}; {hint}")

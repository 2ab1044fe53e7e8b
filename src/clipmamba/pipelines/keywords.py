"""Suggestions for misspelled keyword arguments."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
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
        for wrong in kwargs.keys() - set(names):
            close = difflib.get_close_matches(wrong, names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"use one of {', '.join(names)}"
            raise TypeError(f"{function.__name__}() has no keyword {wrong!r}; {hint}")
        return function(*args, **kwargs)

    return checked

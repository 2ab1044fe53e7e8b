"""Command line options that all training commands share, made from `LoopConfig`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from clipmamba.train.loop import LoopConfig

Command = TypeVar("Command", bound=Callable[..., Any])

data_option = click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder with style.csv, pairs.csv, content.csv and the pictures they name.",
)

_TYPES: dict[str, Any] = {
    "output": click.Path(file_okay=False, path_type=Path),
    "precision": click.Choice(["bf16", "fp16", "no"]),
}


def loop_options(**defaults: Any) -> Callable[[Command], Command]:
    """Adds every field of `LoopConfig` as an option; the command receives `config`.

    Args:
        defaults: Values for this command that differ from the dataclass's own.
    """
    return dataclass_options(LoopConfig, "config", **defaults)


def dataclass_options(
    cls: type, argument: str = "weights", **defaults: Any
) -> Callable[[Command], Command]:
    """Adds every field of a dataclass as an option; the command receives an instance.

    Args:
        cls: The dataclass: field names and defaults are the options'.
        argument: The command's parameter that receives it.
        defaults: Values that differ from the dataclass's own.
    """
    fields = dataclasses.fields(cls)

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapped(**values: Any) -> Any:
            made = cls(**{field.name: values.pop(field.name) for field in fields})
            return command(**{argument: made}, **values)

        for field in reversed(fields):
            required = field.default is dataclasses.MISSING and field.name not in defaults
            default = None if required else defaults.get(field.name, field.default)
            flag = isinstance(default, bool)
            wrapped = click.option(
                "--" + field.name.replace("_", "-"),
                is_flag=flag,
                type=None if flag else _TYPES.get(field.name, type(default)),
                required=required,
                show_default=not required,
                **({} if required else {"default": default}),  # click takes None for a default
            )(wrapped)
        return wrapped  # type: ignore[return-value]

    return decorate

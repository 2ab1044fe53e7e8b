"""What all training commands share: options made from dataclasses, and one-line errors."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from clipmamba.errors import ClipmambaError
from clipmamba.files import one_line

Command = TypeVar("Command", bound=Callable[..., Any])

Folder = click.Path(file_okay=False, path_type=Path)
ExistingFolder = click.Path(exists=True, file_okay=False, path_type=Path)
ExistingFile = click.Path(exists=True, dir_okay=False, path_type=Path)

data_option = click.option(
    "--data",
    type=ExistingFolder,
    required=True,
    help="Folder with style.csv, pairs.csv, content.csv and the pictures they name; for the "
    "stylizer, it may hold webdataset shards instead, style-*.tar and content-*.tar.",
)

_TYPES: dict[str, Any] = {
    "output": Folder,
    "precision": click.Choice(["auto", "bf16", "fp16", "no"]),
}


class _Refusal(click.ClickException):
    exit_code = 2


class PoliteCommand(click.Command):
    """A command that reports a clipmamba error in one line, with exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ClipmambaError as error:
            raise _Refusal(one_line(error)) from error


class PoliteGroup(click.Group):
    """A group of `PoliteCommand`s."""

    command_class = PoliteCommand


def loop_options(**defaults: Any) -> Callable[[Command], Command]:
    """Add every field of `LoopConfig` as an option; the command receives `config`.

    Args:
        defaults: Defaults of this command that differ from those of the dataclass.
    """
    # needs accelerate and diffusers, which scripts/gpu_hour.py does without
    from clipmamba.train.loop import LoopConfig

    return dataclass_options(LoopConfig, "config", **defaults)


def dataclass_options(
    cls: type, argument: str = "weights", **defaults: Any
) -> Callable[[Command], Command]:
    """Add every field of a dataclass as an option; the command receives an instance.

    Args:
        cls: The dataclass. Its fields give the options' names and defaults, the `Attributes` of
            its docstring their help.
        argument: The command's parameter that receives the instance.
        defaults: Defaults that differ from those of the dataclass.
    """
    fields = dataclasses.fields(cls)
    helps = _attributes(cls)

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
                help=helps.get(field.name),
                **({} if required else {"default": default}),  # to click, None is a default, too
            )(wrapped)
        return wrapped  # type: ignore[return-value]

    return decorate


def _attributes(cls: type) -> dict[str, str]:
    """Return the descriptions in the `Attributes` section of a Google-style docstring."""
    _, _, listed = (inspect.getdoc(cls) or "").partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.+(?:\n {5,}.+)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}

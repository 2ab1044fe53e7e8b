from __future__ import annotations

import dataclasses
from pathlib import Path

import click
from click.testing import CliRunner

from clipmamba.train.loop import LoopConfig
from clipmamba.train.options import dataclass_options, loop_options
from clipmamba.train.stylizer.task import LossWeights


@click.command()
@dataclass_options(LossWeights)
@loop_options(steps=7, learning_rate=0.25)
@click.option("--other", default=1)
def command(weights: LossWeights, config: LoopConfig, other: int) -> None:
    click.echo(repr((weights, config, other)))


def result(*arguments: str) -> str:
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    return done.output.strip()


def test_defaults_are_the_dataclasses_own_or_the_commands():
    expected = (LossWeights(), LoopConfig(Path("x"), steps=7, learning_rate=0.25), 1)
    assert result("--output", "x") == repr(expected)


def test_every_field_is_an_option():
    arguments = ["--output", "x", "--dry-run", "--save-minutes", "2.5", "--precision", "no"]
    expected = LoopConfig(
        Path("x"), steps=7, learning_rate=0.25, dry_run=True, save_minutes=2.5, precision="no"
    )
    assert result(*arguments, "--calm", "3", "--other", "9") == repr(
        (LossWeights(calm=3.0), expected, 9)
    )
    text = result("--help")
    for field in (*dataclasses.fields(LoopConfig), *dataclasses.fields(LossWeights)):
        assert "--" + field.name.replace("_", "-") in text
    assert "wall-clock minutes between checkpoints, the most that a killed run loses" in " ".join(
        text.lower().split()
    )


def test_what_is_wrong_is_said():
    for arguments, word in (
        ([], "--output"),
        (["--output", "x", "--steps", "many"], "--steps"),
        (["--output", "x", "--precision", "int3"], "bf16"),
        (["--output", "x", "--stepz", "3"], "--stepz"),
    ):
        done = CliRunner().invoke(command, arguments)
        assert done.exit_code == 2
        assert word in done.output

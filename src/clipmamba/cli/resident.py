"""``clipmamba stylize`` inside a process that keeps its model loaded, for `clipmamba page`."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from clipmamba.cli.options import spelling_hints
from clipmamba.cli.run import Report, Restyler, read_one, write_one
from clipmamba.cli.stylize import make_batch, stylize
from clipmamba.errors import InputError
from clipmamba.page.settings import Restyled
from clipmamba.pipelines.companions import StyleFinder

if TYPE_CHECKING:
    from clipmamba.pipelines.pipeline import StylizePipeline


def restyle(
    arguments: Sequence[str],
    pipeline: StylizePipeline,
    callback: Callable[[float, int], None],
) -> Restyled:
    """Restyle one photo; the results are those of `clipmamba stylize`, byte for byte.

    Args:
        arguments: the command line after `clipmamba stylize`.
        pipeline: the pipeline that its `--model` and `--device` would load.
        callback: called with the number of pictures done, fractions included, and their total;
            an exception from it stops the work.

    Raises:
        InputError: the command would fail.
    """
    with _remarks() as remarks:
        try:
            with stylize.make_context("stylize", list(arguments)) as context:
                batch = make_batch(**context.params)
        except click.UsageError as error:
            raise InputError(error.format_message()) from error
        remarks += spelling_hints(batch.words)
        photo = batch.jobs[0].photo
        picture = read_one(photo, batch)
        seeds = [job.seed for job in batch.jobs]
        find = StyleFinder(pipeline.prepare, batch.request, seeds, batch.companions)
        make = Restyler(batch, pipeline, find, Report(batch))
        for number, job in enumerate(batch.jobs):

            def tell(done: float, _: int, before: int = number) -> None:
                callback(before + done, len(batch.jobs))

            tell(0, 1)
            write_one(batch, job, make(job, picture, tell))
    files = tuple(job.target for job in batch.jobs if job.target is not None)
    return Restyled(files, tuple(dict.fromkeys(remarks)))


@contextlib.contextmanager
def _remarks() -> Iterator[list[str]]:
    """Collect the warnings that this thread logs inside the block."""
    found: list[str] = []
    here = threading.get_ident()

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == here:
                found.append(record.getMessage())

    logger, handler = logging.getLogger("clipmamba"), Keep(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)

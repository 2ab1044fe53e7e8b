"""Restyle many pictures with one model: read ahead, write behind, report each, survive failures."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from PIL import Image

from clipmamba import __version__
from clipmamba.cli.batch import Batch
from clipmamba.cli.exits import SOME_FAILED, USAGE_ERROR, error_line
from clipmamba.cli.files import Job, Photo
from clipmamba.cli.photos import check_result, read_photo, write_result
from clipmamba.cli.streams import stop_reading
from clipmamba.cli.terminal import plain_warnings, progress, say, status
from clipmamba.errors import InputError
from clipmamba.io.mask import check_shape
from clipmamba.io.memory import memory_errors
from clipmamba.pipelines.companions import FoundStyle, StyleFinder
from clipmamba.pipelines.pipeline import StylizePipeline
from clipmamba.pipelines.refine import Refinement

if TYPE_CHECKING:
    import torch

    from clipmamba.styles.resolve import ResolvedStyle


logger = logging.getLogger("clipmamba")


class Report:
    """Reports each picture on stdout and each failure on stderr, and counts both.

    Args:
        batch: the run to report on.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._count = {"written": 0, "skipped": 0, "failed": 0, "planned": 0}
        self.device: str | None = None
        self.backend: str | None = None
        self.familiarity: float | None = None
        self.unreadable = 0

    def tell(
        self,
        job: Job,
        state: str,
        *,
        size: tuple[int, int] | None = None,
        seconds: float | None = None,
        found: FoundStyle | None = None,
        refinements: Sequence[Refinement] = (),
        error: str | None = None,
    ) -> None:
        """Report one picture: "written", "skipped", "failed" or "planned"."""
        self._count[state] += 1
        if error is not None:
            say(error_line(error), err=True)
        if self._batch.as_json:
            line = {
                "input": str(job.photo),
                "output": None if error is not None else job.output,
                "state": state,
                "size": size,
                "prompt": self._batch.prompt,
                "source": None if found is None else found.source,
                "parts": None if found is None else _rounded(found.shares),
                "drawn": self._batch.drawn(job),
                "finish": self._batch.look.get("finish"),
                "refine": [dataclasses.asdict(done) for done in refinements] or None,
                "model": self._batch.model_name,
                "seed": job.seed,
                "device": self.device,
                "backend": self.backend,
                "familiarity": self.familiarity,
                "seconds": None if seconds is None else round(seconds, 3),
                "error": error,
            }
            say(json.dumps(line))
        elif state == "planned":
            for target in (job.output, *job.masks.values()):
                say(os.fsencode(f"{job.photo} -> {target}"))
        elif state == "written" and job.target is not None:
            say(os.fsencode(job.target))  # bytes can print any file name

    def note_familiarity(self, style: ResolvedStyle) -> None:
        """Record the familiarity of the words; warn once if it is low."""
        if style.familiarity is None or self.familiarity is not None:
            return
        self.familiarity = round(style.familiarity, 3)
        style.warn_if_unfamiliar()

    def close(self) -> int:
        """Summarize a run of several pictures, and return the exit code."""
        count = {state: number for state, number in self._count.items() if number}
        if len(self._batch.jobs) > 1 and (set(count) - {"written", "planned"}):
            parts = ", ".join(f"{number} {state}" for state, number in count.items())
            say(parts, err=True)
        if not count.get("failed"):
            return 0
        return USAGE_ERROR if self.unreadable == len(self._batch.jobs) else SOME_FAILED


def rehearse(batch: Batch) -> int:
    """Report what a run would do; nothing is written and no model is loaded.

    Returns:
        The exit code.
    """
    report = Report(batch)
    for job in batch.jobs:
        missing = job.photo.path is not None and not job.photo.path.exists()
        if missing:
            report.unreadable += 1
            report.tell(job, "failed", error=f"no such file: {job.photo}")
        else:
            report.tell(job, "skipped" if job.skip else "planned")
    return report.close()


def run(batch: Batch) -> int:
    """Make every picture of a batch.

    A second thread reads the next photo and writes the last result. The model is loaded once, after
    the first photo has been read. A failed picture does not stop the rest.

    Returns:
        The exit code.

    Raises:
        WeightsError: the model can't be loaded.
        BackendError: a scan backend was requested by name and can't run.
    """
    report = Report(batch)
    work = [job for job in batch.jobs if not job.skip]
    for job in batch.jobs:
        if job.skip:
            report.tell(job, "skipped")
    groups = [list(jobs) for _, jobs in itertools.groupby(work, key=lambda job: job.photo)]
    with plain_warnings(), _helper() as helper:
        _make_all(batch, groups, report, helper)
    return report.close()


def _make_all(
    batch: Batch, groups: list[list[Job]], report: Report, helper: ThreadPoolExecutor
) -> None:
    restyler: Restyler | None = None
    last: _Writing | _Failure | None = None
    made = 0
    ahead = helper.submit(read_one, groups[0][0].photo, batch) if groups else None
    with contextlib.ExitStack() as stack:
        advance = None
        for index, jobs in enumerate(groups):
            assert ahead is not None
            picture, problem = None, ""
            try:
                picture = ahead.result()
            except InputError as error:
                report.unreadable += len(jobs)
                problem = str(error)
            if index + 1 < len(groups):
                ahead = helper.submit(read_one, groups[index + 1][0].photo, batch)
            if picture is not None and restyler is None:
                with status("loading the model"):
                    pipeline = StylizePipeline.from_pretrained(batch.model, batch.device)
                seeds = list(dict.fromkeys(job.seed for group in groups for job in group))
                with status("preparing the style"):
                    find = StyleFinder(pipeline.prepare, batch.request, seeds, batch.companions)
                restyler = Restyler(batch, pipeline, find, report)
                report.device = str(pipeline.device)
                report.backend = _scan_backend(pipeline.device)
            if advance is None:
                advance = stack.enter_context(progress(sum(map(len, groups))))
            for job in jobs:
                now: _Writing | _Failure = _Failure(job, problem)
                if picture is not None and restyler is not None:
                    now = _make(restyler, job, picture, helper, _from(made, advance))
                if last is not None:
                    last.settle(report)  # keeps the order of the pictures
                last = now
                made += 1
                advance(made)
        if last is not None:
            last.settle(report)


def _from(made: int, advance: Callable[[float], None]) -> Callable[[float, int], None]:
    """Make the pipeline's callback for the picture after `made` others."""
    return lambda done, _: advance(made + done)


@dataclass
class _Writing:
    """A result that is being written."""

    job: Job
    future: Future[str]
    result: RestyledPhoto
    seconds: float

    def settle(self, report: Report) -> None:
        """Wait until it is written, and report it."""
        try:
            state = self.future.result()
        except InputError as error:
            report.tell(self.job, "failed", error=str(error))
        else:
            report.tell(
                self.job,
                state,
                size=self.result.image.size,
                seconds=self.seconds,
                found=self.result.found,
                refinements=self.result.refinements,
            )


@dataclass
class _Failure:
    """A picture that can't be made."""

    job: Job
    problem: str

    def settle(self, report: Report) -> None:
        """Report the failure."""
        report.tell(self.job, "failed", error=self.problem)


def _make(
    restyler: Restyler,
    job: Job,
    picture: Image.Image,
    helper: ThreadPoolExecutor,
    callback: Callable[[float, int], None],
) -> _Writing | _Failure:
    """Restyle one picture and hand it to the writer."""
    started = time.perf_counter()
    try:
        result = restyler(job, picture, callback)
    except InputError as error:
        return _Failure(job, str(error))
    seconds = time.perf_counter() - started
    writing = helper.submit(write_one, restyler.batch, job, result)
    return _Writing(job, writing, result, seconds)


@dataclass(frozen=True)
class RestyledPhoto:
    """One result.

    Attributes:
        image: the picture.
        found: the style for the photo.
        refinements: what was gained, per layer of the style; none without a refinement.
    """

    image: Image.Image
    found: FoundStyle
    refinements: Sequence[Refinement]


@dataclass(frozen=True)
class Restyler:
    """Restyles the pictures of a batch.

    Attributes:
        batch: the run.
        pipeline: the pipeline that restyles.
        find: resolves the style of each picture.
        report: receives the familiarity of the words.
    """

    batch: Batch
    pipeline: StylizePipeline
    find: StyleFinder
    report: Report

    def __call__(
        self, job: Job, picture: Image.Image, callback: Callable[[float, int], None]
    ) -> RestyledPhoto:
        """Restyle one picture.

        Raises:
            InputError: it can't be restyled or written, or does not fit in memory.
            BackendError: a scan backend was requested by name and can't run.
        """
        remedy = "process it in tiles with --tile 512, or reduce it with --max-size"
        with memory_errors(str(job.photo), remedy):
            try:
                check_result(job, self.batch.result_size(picture), self.batch.stream_format)
                found = self.find(picture, job.seed)
                self.report.note_familiarity(found.style)
                for note in found.notes:
                    logger.warning("%s: %s", job.photo, note)
                output = self.pipeline(
                    picture, style=found.style, callback=callback, **self.batch.keywords
                )
            except InputError as error:
                raise InputError(f"{job.photo}: {error}") from error
        if not all(done.kept for done in output.refinements):
            logger.warning("%s: refining found nothing better; the picture is unchanged", job.photo)
        return RestyledPhoto(output.images[0], found, output.refinements)


def read_one(photo: Photo, batch: Batch) -> Image.Image:
    """Read one photo and check that the batch's masks fit it.

    Raises:
        InputError: the photo can't be read, or a mask does not fit.
    """
    picture = read_photo(photo, batch.max_pixels)
    for name, mask in batch.masks.items():
        try:
            check_shape(mask, picture.size, name)
        except InputError as error:
            raise InputError(f"{photo}: {error}") from error
    return picture


def write_one(batch: Batch, job: Job, result: RestyledPhoto) -> str:
    """Write one result with the batch's settings, and its masks if wanted; see `write_result`."""
    for name, mask in result.found.masks.items():
        if name in job.masks:
            write_result(
                replace(job, target=job.masks[name]), mask, exist=batch.exist,
                stream_format="png", metadata="all", quality=None,
                settings={"part": name, "version": __version__},
            )  # fmt: skip
    return write_result(
        job,
        result.image,
        exist=batch.exist,
        stream_format=batch.stream_format,
        metadata=batch.metadata,
        quality=batch.quality,
        settings=batch.settings(job, result.found.source),
    )


def _rounded(shares: Mapping[str, float]) -> dict[str, float] | None:
    return {name: round(share, 4) for name, share in shares.items()} or None


def _scan_backend(device: torch.device) -> str:
    """Name the scan backend that runs a float32 call on this device.

    Raises:
        BackendError: CLIPMAMBA_BACKEND names one that can't run it.
    """
    from clipmamba.ops.selective_scan.dispatch import ordinary_backend

    return ordinary_backend(device)


@contextlib.contextmanager
def _helper() -> Iterator[ThreadPoolExecutor]:
    """Start a worker thread; on an exception, it finishes its task and drops the waiting ones."""
    helper = ThreadPoolExecutor(1)
    try:
        yield helper
    except BaseException:
        stop_reading()
        raise
    finally:
        helper.shutdown(wait=True, cancel_futures=True)

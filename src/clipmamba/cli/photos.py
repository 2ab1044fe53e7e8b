"""One photo in, one result out: files, pipes and standard streams."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from typing import Any

from PIL import Image

from clipmamba.cli.files import Exist, Job, Photo
from clipmamba.cli.streams import is_closed, read_input, read_pipe, write_output
from clipmamba.errors import InputError
from clipmamba.files import ExistsError, reason
from clipmamba.io import read_picture, write_picture
from clipmamba.io.formats import WRITERS, check_size


def read_photo(photo: Photo, max_pixels: int) -> Image.Image:
    """Read a photo from a file, a pipe or standard input.

    :func:`streams.stop_reading` ends a wait for a pipe.

    Raises:
        InputError: see :func:`clipmamba.io.read_picture`.
    """
    if photo.path is None:
        return read_picture(read_input(), max_pixels=max_pixels, name="the standard input")
    if photo.path.exists() and not (photo.path.is_file() or photo.path.is_dir()):
        return read_picture(read_pipe(photo.path), max_pixels=max_pixels, name=str(photo.path))
    return read_picture(photo.path, max_pixels=max_pixels)


def check_result(job: Job, size: tuple[int, int], stream_format: str) -> None:
    """Refuse a result that exceeds its format's limits, before any work.

    Args:
        job: the picture to make.
        size: width and height of the result, in pixels.
        stream_format: format of standard output, as an extension without its dot.

    Raises:
        InputError: a side is too long.
    """
    suffix = f".{stream_format}" if job.target is None else job.target.suffix
    check_size(WRITERS[suffix.lower()], size, job.output if job.target else "the standard output")


def check_stdout(*, as_json: bool, dry_run: bool, show_mask: bool) -> None:
    """Refuse to write a picture to a standard output that can't take it.

    Raises:
        InputError: standard output is closed, a terminal, or used by --json; or masks
            are wanted beside the result.
    """
    if show_mask:
        raise InputError("--show-mask writes files beside the result: give -o a file")
    if dry_run:
        return
    if as_json:
        raise InputError("--json and the picture both need standard output: give -o a file")
    if is_closed("stdout"):
        raise InputError("standard output is closed: give -o a file")
    if sys.stdout.isatty():
        raise InputError("refusing to write an image to a terminal: give -o a file, or redirect it")


def write_result(
    job: Job,
    result: Image.Image,
    *,
    exist: Exist,
    stream_format: str,
    metadata: str,
    quality: int | None,
    settings: Mapping[str, Any] | None,
) -> str:
    """Write a result to its file or to standard output.

    Returns:
        "written", or "skipped" if another program created the file in the meantime and
        `exist` is "skip".

    Raises:
        InputError: it can't be written.
    """
    if job.target is None:
        buffer = io.BytesIO()
        write_picture(
            result,
            buffer,
            file_format=stream_format,
            metadata=metadata,
            quality=quality,
            settings=settings,
        )
        write_output(buffer.getvalue())
        return "written"
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't create {job.target.parent}: {reason(error)}") from error
    try:
        write_picture(
            result,
            job.target,
            overwrite=exist == "overwrite",
            metadata=metadata,
            quality=quality,
            settings=settings,
        )
    except ExistsError:
        if exist != "skip":
            raise
        return "skipped"
    return "written"

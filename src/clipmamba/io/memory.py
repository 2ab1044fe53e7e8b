"""Lack of memory as the failure of one picture, so that the others go on."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from clipmamba.errors import ClipmambaError, InputError

# Torch reports it as a RuntimeError in many words. "memory" alone would match "an illegal memory
# access" too, after which a GPU fails on every picture.
_LACK = re.compile(
    "out of memory|not enough memory|allocate memory|ALLOC_FAILED|Invalid buffer size"
)


@contextlib.contextmanager
def memory_errors(name: str, remedy: str) -> Iterator[None]:
    """Raise a lack of memory, of the computer or the GPU, as an `InputError` about one picture.

    Args:
        name: the picture, for the error message.
        remedy: what the user can do, for the error message.

    Raises:
        InputError: the picture does not fit in memory.
    """
    try:
        yield
    except ClipmambaError:
        raise
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _LACK.search(str(error)):
            raise
        raise InputError(f"{name} does not fit in memory; {remedy}") from error

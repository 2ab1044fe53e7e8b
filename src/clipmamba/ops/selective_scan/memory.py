"""Memory for results, kept from one call to the next.

The allocator hands large memory back to the system at every free, so each scan would meet fresh
pages, which cost up to half as much as the scan itself. Results of some size therefore lie on pages
of their own, the large ones on huge pages; when a tensor goes, its pages wait for the next of their
size. Waiting huge pages are the system's to take whenever it wants memory for anything else.
Smaller results are left to the allocator, which is told once to keep what is freed.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import os
import sys
import weakref
from functools import cache
from threading import Lock

import torch
from torch import Tensor

_OWN = 1 << 20  # bytes from which on pages are kept: below, keeping takes longer than it saves
_LARGE = 8 << 20  # bytes from which on pages are huge
_HUGE_PAGE = 2 << 20
_MOST = 32  # mappings that wait

# glibc trims its heap, at times with every free, until it has seen a large mapping freed; then it
# lets up to twice as much lie (mallopt(3), M_MMAP_THRESHOLD, at most 32 MB). No page is touched.
if sys.platform == "linux":
    torch.empty(31 << 20, dtype=torch.uint8)

_waiting: list[mmap.mmap] = []  # that which waits longest first
_lock = Lock()


def empty(shape: tuple[int, ...] | torch.Size, dtype: torch.dtype = torch.float32) -> Tensor:
    """A dense tensor on the CPU with any values in it, as `torch.empty` gives."""
    elements = math.prod(shape)
    nbytes = elements * dtype.itemsize
    if nbytes < _OWN or sys.platform != "linux":
        return torch.empty(shape, dtype=dtype)
    huge = nbytes >= _LARGE
    page = _HUGE_PAGE if huge else mmap.PAGESIZE
    # One huge page more: a mapping may begin anywhere, and only whole ones count.
    size = (-(-nbytes // page) + huge) * page
    pages = _take(size)
    if pages is None:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if huge:
            _advise(pages, mmap.MADV_HUGEPAGE)
    memory = (ctypes.c_char * size).from_buffer(pages)
    weakref.finalize(memory, _keep, pages).atexit = False
    begin = -ctypes.addressof(memory) % page
    return torch.frombuffer(memory, dtype=dtype, count=elements, offset=begin).view(shape)


def empty_like(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The same with a tensor's shape and order of axes in memory, as `torch.empty_like` gives."""
    plan = torch.empty_like(tensor, device="meta")
    return empty(plan.shape, dtype).as_strided(plan.shape, plan.stride())


# Neither waits for the lock: a finalizer can run in the middle of either, and a fork in the middle
# of another thread's.


def _take(size: int) -> mmap.mmap | None:
    """Pages of this size that wait, if there are any."""
    if _lock.acquire(blocking=False):
        try:
            for place, pages in enumerate(_waiting):
                if len(pages) == size:
                    return _waiting.pop(place)
        finally:
            _lock.release()
    return None


def _keep(pages: mmap.mmap) -> None:
    """Lets pages wait whose tensor is gone, and gives back those that waited longest."""
    if len(pages) >= _LARGE:
        _advise(pages, mmap.MADV_FREE)
    if _lock.acquire(blocking=False):
        try:
            _waiting.append(pages)
            while len(_waiting) > _MOST or sum(map(len, _waiting)) > _most_bytes():
                _waiting.pop(0)
        finally:
            _lock.release()


def _advise(pages: mmap.mmap, advice: int) -> None:
    """Whether the system takes it changes no result: a kernel without huge pages refuses."""
    with contextlib.suppress(OSError):
        pages.madvise(advice)


@cache
def _most_bytes() -> int:
    """A quarter of the machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE // 4

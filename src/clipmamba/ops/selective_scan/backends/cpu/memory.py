"""Memory for results: torch's own, so that they are tensors like any others, but on huge pages.

Fresh memory costs a page fault for every 4 KB, up to half as much as the scan that fills it.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

import torch
from torch import Tensor

_LARGE = 8 << 20  # bytes from which on huge pages are asked for
_HUGE_PAGE = 2 << 20
_LINUX = sys.platform == "linux"
_LIBC = ctypes.CDLL(None) if _LINUX else None

# glibc trims its heap, at times with every free, until it has seen a large mapping freed; then it
# lets up to twice as much lie (mallopt(3), M_MMAP_THRESHOLD, at most 32 MB). No page is touched.
if _LINUX:
    torch.empty(31 << 20, dtype=torch.uint8, device="cpu")


def empty(shape: tuple[int, ...] | torch.Size, dtype: torch.dtype = torch.float32) -> Tensor:
    """A dense tensor on the CPU with any values in it, whatever torch's defaults are."""
    return _on_huge_pages(torch.empty(shape, dtype=dtype, device="cpu"))


def empty_like(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The same with a tensor's shape and order of axes in memory."""
    return _on_huge_pages(torch.empty_like(tensor, dtype=dtype, device="cpu"))


def _on_huge_pages(tensor: Tensor) -> Tensor:
    """Asks for them; whether the system grants it changes no result."""
    if _LIBC is not None and tensor.nbytes >= _LARGE:
        begin = tensor.data_ptr()
        first = -(-begin // _HUGE_PAGE) * _HUGE_PAGE
        size = (begin + tensor.nbytes - first) // _HUGE_PAGE * _HUGE_PAGE
        _LIBC.madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), mmap.MADV_HUGEPAGE)
    return tensor

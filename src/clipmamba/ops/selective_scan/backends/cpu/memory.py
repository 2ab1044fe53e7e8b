"""Memory for results: ordinary torch tensors, but on huge pages.

Fresh memory costs a page fault per 4 KB, which can take half as long as the scan that fills it.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

import torch
from torch import Tensor

_LARGE = 8 << 20  # bytes from which huge pages are requested
_HUGE_PAGE = 2 << 20
_LINUX = sys.platform == "linux"
_LIBC = ctypes.CDLL(None) if _LINUX else None

# glibc trims its heap, sometimes on every free, until it has seen a large mapping freed; then it
# retains up to twice as much (mallopt(3), M_MMAP_THRESHOLD, at most 32 MB). No page is touched.
if _LINUX:
    torch.empty(31 << 20, dtype=torch.uint8, device="cpu")


def empty(shape: tuple[int, ...] | torch.Size, dtype: torch.dtype = torch.float32) -> Tensor:
    """Allocate an uninitialized dense tensor on the CPU, whatever torch's defaults are."""
    return _on_huge_pages(torch.empty(shape, dtype=dtype, device="cpu"))


def empty_like(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Allocate a tensor with the shape and memory format of another."""
    return _on_huge_pages(torch.empty_like(tensor, dtype=dtype, device="cpu"))


def _on_huge_pages(tensor: Tensor) -> Tensor:
    """Request huge pages; results do not depend on whether the system grants them."""
    if _LIBC is not None and tensor.nbytes >= _LARGE:
        begin = tensor.data_ptr()
        first = -(-begin // _HUGE_PAGE) * _HUGE_PAGE
        size = (begin + tensor.nbytes - first) // _HUGE_PAGE * _HUGE_PAGE
        _LIBC.madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), mmap.MADV_HUGEPAGE)
    return tensor

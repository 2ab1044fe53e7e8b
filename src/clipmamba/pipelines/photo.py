"""Pictures of any kind as tensors, and results back as the same kind."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipmamba.errors import InputError
from clipmamba.io.alpha import fill_hidden
from clipmamba.io.color import from_srgb, to_srgb
from clipmamba.io.convert import array_to_tensor, check_range, resize, tensor_to_array
from clipmamba.io.mask import read_mask
from clipmamba.io.picture import read_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

Picture = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray[Any, Any] | Tensor


class Photo(ABC):
    """A picture as a tensor, with what is needed to return a result of the same kind.

    Attributes:
        tensor: sRGB in [0, 1], float32 (B, 3, H, W), on the CPU or the source tensor's device.
        size: Width and height in pixels.
    """

    tensor: Tensor

    @staticmethod
    def open(source: Picture | Photo) -> Photo:
        """Open a picture of any kind.

        Args:
            source: A path, a file's bytes, an open binary file, a PIL image; an array (H, W, 3 or
                4) of unsigned integers or floats in [0, 1]; a float tensor (3, H, W) or
                (B, 3, H, W) in [0, 1]; or a photo, which is returned.

        Raises:
            InputError: The picture can't be read, or has an unsupported type or shape.

        Examples:
            >>> opened = Photo.open(np.zeros((48, 64, 3), np.uint8))
            >>> opened.size, tuple(opened.tensor.shape)
            ((64, 48), (1, 3, 48, 64))
            >>> negative = opened.give_back(1 - opened.tensor)
            >>> negative.dtype, negative.min()
            (dtype('uint8'), np.uint8(255))
        """
        if isinstance(source, Photo):
            return source
        if isinstance(source, Tensor):
            return _TensorPhoto(source)
        if isinstance(source, np.ndarray):
            return _ArrayPhoto(source)
        return _ImagePhoto(_image(source))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.tensor.shape[3], self.tensor.shape[2]

    @property
    def differentiable(self) -> bool:
        """True if a result can carry gradients."""
        return False

    def give_back(self, result: Tensor) -> Any:
        """Convert a result to the kind of picture that was opened.

        Args:
            result: (B, 3, H, W) in [0, 1], of any size. `tensor` itself returns the original
                picture, bit for bit.
        """
        return self._copy() if result is self.tensor else self._like(result)

    @abstractmethod
    def _copy(self) -> Any: ...

    @abstractmethod
    def _like(self, result: Tensor) -> Any: ...


class _TensorPhoto(Photo):
    def __init__(self, source: Tensor):
        if not source.is_floating_point():
            raise InputError(f"a tensor must hold floats in [0, 1], not {source.dtype}")
        if source.ndim not in (3, 4) or source.shape[-3] != 3 or source.numel() == 0:
            shape = tuple(source.shape)
            raise InputError(f"a tensor must be (3, H, W) or (B, 3, H, W), not {shape}")
        check_range(source)
        self._source = source
        self.tensor = (source if source.ndim == 4 else source[None]).to(torch.float32)

    @property
    def differentiable(self) -> bool:
        return True

    def _copy(self) -> Tensor:
        return self._source.clone()

    def _like(self, result: Tensor) -> Tensor:
        shape = (*self._source.shape[:-2], *result.shape[2:])
        return result.to(self._source.device, self._source.dtype).reshape(shape)


class _ArrayPhoto(Photo):
    def __init__(self, source: NDArray[Any]):
        if source.ndim != 3 or source.shape[-1] not in (3, 4):
            raise InputError(f"an array must be (H, W, 3) or (H, W, 4), not {source.shape}")
        self._source = source
        self.tensor = array_to_tensor(source[..., :3])
        if source.shape[-1] == 4:
            opacity = array_to_tensor(source[..., 3:])[0, 0].numpy()
            filled = fill_hidden(self.tensor[0].permute(1, 2, 0).numpy(), opacity)
            self.tensor = array_to_tensor(filled)

    def _copy(self) -> NDArray[Any]:
        return self._source.copy()

    def _like(self, result: Tensor) -> NDArray[Any]:
        colors = tensor_to_array(result, self._source.dtype)
        if self._source.shape[2] == 3:
            return colors
        opacity = self._source[..., 3:]
        if opacity.shape[:2] != colors.shape[:2]:
            smaller = resize(array_to_tensor(opacity), *colors.shape[:2]).clamp(0, 1)
            opacity = tensor_to_array(smaller, self._source.dtype)
        return np.concatenate([colors, opacity], axis=-1)


class _ImagePhoto(Photo):
    def __init__(self, source: Image.Image):
        pixels, self._alpha = to_srgb(source)
        self._source = source
        self.tensor = array_to_tensor(pixels)

    def _copy(self) -> Image.Image:
        return self._source

    def _like(self, result: Tensor) -> Image.Image:
        untouched, alpha = None, self._alpha
        size = (result.shape[3], result.shape[2])
        if size == self.size:
            untouched = (result.cpu() == self.tensor).all(1)[0].numpy()
            untouched = untouched if untouched.any() else None
        elif alpha is not None:
            alpha = alpha.resize(size, Image.Resampling.BOX)
        pixels = tensor_to_array(result, np.dtype(np.float32))
        return from_srgb(pixels, alpha, like=self._source, untouched=untouched)


class Mask:
    """A mask for restyling, read once and resized to each photo.

    Args:
        source: White areas are restyled, black ones keep the photo, gray ones blend. Any kind that
            `Photo.open` takes; arrays and tensors are (H, W), apart from axes of length 1, and
            hold booleans, unsigned integers, floats in [0, 1] or, as from a segmenter, the
            integers 0 and 1.

    Raises:
        InputError: The mask can't be read, or has an unsupported type or shape.
    """

    def __init__(self, source: Picture):
        if isinstance(source, Tensor):
            source = source.detach().cpu()
            while source.ndim > 2 and source.shape[0] == 1:  # channels first
                source = source[0]
            source = (source.float() if source.is_floating_point() else source).numpy()
        if isinstance(source, np.ndarray):
            source = _shades(source)
        self._path = source if isinstance(source, str | os.PathLike) else None
        self._image = _image(source)

    def fit(self, size: tuple[int, int]) -> Tensor:
        """Resize the mask to a photo's (width, height); returns (1, 1, H, W) in [0, 1].

        Raises:
            InputError: The photo has another aspect ratio.
        """
        try:
            return torch.from_numpy(read_mask(self._image, size))[None, None]
        except InputError as error:
            if self._path is None:
                raise
            words = str(error).replace("the mask", f"mask {os.fspath(self._path)}", 1)
            raise InputError(words) from error


def fit_masks(masks: Mask | tuple[Mask, ...], size: tuple[int, int]) -> Tensor:
    """Join masks for a photo of this width and height, (1, 1, H, W) in [0, 1].

    Raises:
        InputError: A mask has another aspect ratio than the photo.
    """
    fitted = [mask.fit(size) for mask in (masks if isinstance(masks, tuple) else (masks,))]
    return torch.cat(fitted).amax(0, keepdim=True)


def _image(source: Any) -> Image.Image:
    if isinstance(source, bytes | bytearray | memoryview):
        source = io.BytesIO(source)
    if not isinstance(source, str | os.PathLike | Image.Image) and not hasattr(source, "read"):
        raise InputError(
            "a picture must be a path, bytes, an open file, a PIL image, an array or a tensor, "
            f"not {type(source).__name__}"
        )
    return read_picture(source)


def _shades(values: NDArray[Any]) -> Image.Image:
    """Convert an array to an 8-bit grayscale image."""
    while values.ndim > 2 and 1 in (values.shape[0], values.shape[-1]):
        values = values[..., 0] if values.shape[-1] == 1 else values[0]
    if values.ndim != 2:
        raise InputError(f"a mask must be (H, W), not {values.shape}")
    if np.issubdtype(values.dtype, np.integer) and values.size and set(np.unique(values)) <= {0, 1}:
        values = values.astype(np.bool_)
    if values.dtype == np.bool_:
        values = values.astype(np.float32)
    shades = array_to_tensor(values[..., None]).clamp(0, 1)
    return Image.fromarray(tensor_to_array(shades, np.dtype(np.uint8))[..., 0])

"""The one line of the house: photo and words in, picture out.

Torch and the models are imported inside the functions: the command line checks its options with
this module and must answer at once.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from PIL import Image

from clipmamba.errors import InputError, WeightsError
from clipmamba.io.picture import from_srgb, read_picture, to_srgb

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from clipmamba.clip import Clip
    from clipmamba.models import Stylizer
    from clipmamba.styles import StylePrior

    Picture = str | os.PathLike[str] | Image.Image | NDArray[Any] | torch.Tensor

MAX_STRENGTH = 1.5
DEFAULT_CLIP = "mini"
_WEIGHTS = Path(__file__).parent.parent / "weights"
_INDEX = "model_index.json"
_DEVICE = re.compile(r"auto|cpu|mps|(cuda|xpu)(:\d+)?")


@dataclass
class StylizeOutput:
    """What a pipeline returns.

    Attributes:
        images: one picture for each input, of the input's kind; for a batch tensor (B, 3, H, W)
            a tensor of that shape.
    """

    images: Any


class StylizePipeline:
    """Restyle pictures with one stylizer, one CLIP and one style prior.

    Args:
        stylizer: the network that bends a photo towards a style point.
        clip: gives words and pictures their point.
        prior: carries a text's point to where pictures of that style lie.

    Raises:
        WeightsError: the stylizer was trained for style points of another width than ``clip``'s.
    """

    def __init__(self, stylizer: Stylizer, clip: Clip, prior: StylePrior) -> None:
        if stylizer.config["style_dim"] != clip.embed_dim:
            raise WeightsError(
                f"the stylizer wants style points of {stylizer.config['style_dim']} numbers, "
                f"CLIP {clip.name!r} gives {clip.embed_dim}; use the CLIP it was trained with"
            )
        self.stylizer = stylizer
        self.clip = clip
        self.prior = prior

    @classmethod
    def from_pretrained(
        cls, path: str | os.PathLike[str] | None = None, device: str = "auto"
    ) -> StylizePipeline:
        """Load a pipeline, frozen and ready.

        Args:
            path: a folder that :meth:`save_pretrained` wrote; None for the default weights.
            device: "auto" (CUDA if there is one, else the CPU), "cpu", "cuda", "cuda:1", "mps".

        Returns:
            The pipeline on ``device``, in float32.

        Raises:
            InputError: there is no such device here.
            WeightsError: weights are missing, damaged or do not fit.
        """
        target = resolve_device(device)
        root = _WEIGHTS if path is None else Path(path)
        clip_name = DEFAULT_CLIP if path is None else check_model(root)

        from clipmamba.clip import Clip
        from clipmamba.models import Stylizer
        from clipmamba.styles import StylePrior

        clip = Clip.from_pretrained(clip_name, device=target)
        prior = StylePrior.load(root / "prior", clip)
        stylizer = Stylizer.from_pretrained(root / "stylizer").to(target)
        return cls(stylizer.eval().requires_grad_(False), clip, prior)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``stylizer/``, ``prior/`` and a ``model_index.json`` that names the CLIP.

        Args:
            folder: created if missing.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.stylizer.save_pretrained(folder / "stylizer")
        self.prior.save(folder / "prior")
        index = {"_class_name": type(self).__name__, "clip": self.clip.name}
        (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    @property
    def device(self) -> torch.device:
        """Where the stylizer computes."""
        return cast("torch.device", next(self.stylizer.parameters()).device)

    def encode_style(
        self,
        prompt: str | None = None,
        style_image: Picture | None = None,
        seed: int | None = None,
    ) -> torch.Tensor:
        """Find the point of a style in CLIP's space.

        Args:
            prompt: words for the style; or
            style_image: a picture that shows it (of several in a tensor, the first).
            seed: another seed gives another, equally fitting, point for the same words.

        Returns:
            (1, E), unit length. Differentiable in a ``style_image`` that is a tensor.

        Raises:
            InputError: neither or both given, an empty prompt, an unreadable picture.
        """
        from clipmamba.styles import Style

        check_request(prompt, style_image, seed=seed)
        if prompt is not None:
            return Style.text(prompt, self.clip, self.prior, seed).embedding[None]
        assert style_image is not None
        with _grad_only_for(style_image):
            return self.clip.encode_image(self._tensor(style_image)[:1])

    def __call__(
        self,
        images: Picture | Sequence[Picture],
        *,
        prompt: str | None = None,
        style_image: Picture | None = None,
        strength: float = 1.0,
        seed: int | None = None,
    ) -> StylizeOutput:
        """Restyle one picture or several.

        Args:
            images: a path, a PIL image, an array (H, W, 3 or 4; unsigned integers, or floats in
                [0, 1]), a float tensor (3, H, W) or (B, 3, H, W) in [0, 1], or a list of these.
            prompt: words for the style; or
            style_image: a picture that shows it.
            strength: 0 gives the photo back unchanged, 1 the full style, up to 1.5 exaggerates.
            seed: chooses among the variants of a prompt; the same seed gives the same bytes.

        Returns:
            Pictures of the inputs' kind, type and size (a path gives a PIL image). Tensors stay
            differentiable down to their pixels.

        Raises:
            InputError: an option or a picture can't be used.
        """
        check_request(prompt, style_image, strength, seed)
        style = self.encode_style(prompt, style_image, seed)
        if isinstance(images, list | tuple):
            return StylizeOutput([self._one(image, style, strength, seed) for image in images])
        picture = self._one(cast("Picture", images), style, strength, seed)
        batched = getattr(picture, "ndim", 0) == 4
        return StylizeOutput(picture if batched else [picture])

    def _one(self, image: Picture, style: torch.Tensor, strength: float, seed: int | None) -> Any:
        """Restyle one picture of any kind; at strength 0 hand out a copy of it."""
        import numpy as np
        import torch

        with _grad_only_for(image):
            if isinstance(image, torch.Tensor):
                photo = self._tensor(image)
                if strength == 0:
                    return image.clone()
                restyled = self._blend(photo, style, strength, seed)
                return restyled.to(image.device, image.dtype).reshape(image.shape)
            if isinstance(image, np.ndarray):
                photo = self._tensor(image)
                if strength == 0:
                    return image.copy()
                from clipmamba.io.convert import tensor_to_array

                result = tensor_to_array(self._blend(photo, style, strength, seed), image.dtype)
                return np.concatenate([result, image[..., 3:]], axis=-1)

            picture = read_picture(image)
            if strength == 0:
                return picture
            pixels, alpha = to_srgb(picture)
            from clipmamba.io.convert import array_to_tensor, tensor_to_array

            photo = array_to_tensor(pixels).to(self.device)
            result = tensor_to_array(self._blend(photo, style, strength, seed), pixels.dtype)
            return from_srgb(result, alpha, like=picture)

    def _blend(
        self, photo: torch.Tensor, style: torch.Tensor, strength: float, seed: int | None
    ) -> torch.Tensor:
        """Compute photo + strength * (restyled - photo), clamped, for (B, 3, H, W)."""
        import torch

        height, width = photo.shape[2:]
        noise = self.stylizer.draw_noise(height, width, int(seed or 0))
        restyled = self.stylizer(photo, style.to(photo).expand(len(photo), -1), noise)
        return torch.lerp(photo, restyled, float(strength)).clamp(0, 1)

    def _tensor(self, image: Picture) -> torch.Tensor:
        """Turn a picture of any kind into float32 (B, 3, H, W) in [0, 1] on our device."""
        import numpy as np
        import torch

        from clipmamba.io.convert import array_to_tensor, check_range

        if isinstance(image, torch.Tensor):
            if not image.is_floating_point():
                raise InputError(f"a tensor must hold floats in [0, 1], not {image.dtype}")
            if image.ndim not in (3, 4) or image.shape[-3] != 3 or image.numel() == 0:
                shape = tuple(image.shape)
                raise InputError(f"a tensor must be (3, H, W) or (B, 3, H, W), not {shape}")
            check_range(image)
            batch = image if image.ndim == 4 else image[None]
            return batch.to(self.device, torch.float32)
        if isinstance(image, np.ndarray):
            if image.ndim != 3 or image.shape[-1] not in (3, 4):
                raise InputError(f"an array must be (H, W, 3) or (H, W, 4), not {image.shape}")
            return array_to_tensor(image[..., :3]).to(self.device)
        pixels, _ = to_srgb(read_picture(image))
        return array_to_tensor(pixels).to(self.device)


def stylize(
    img: Picture,
    text: str | None = None,
    style_image: Picture | None = None,
    strength: float = 1.0,
    seed: int | None = None,
    device: str = "auto",
    model: str | os.PathLike[str] | None = None,
) -> Any:
    """Restyle a picture from words or from another picture.

        stylize("photo.jpg", "ukiyo-e").save("print.png")

    The models stay loaded, so that a second call is fast.

    Args:
        img: a path or PIL image (gives a PIL image), an array (H, W, 3 or 4; gives an array of
            its type) or a float tensor (3, H, W) or (B, 3, H, W) in [0, 1] (gives a tensor,
            differentiable).
        text: words for the style; or
        style_image: a picture that shows it, of any of the kinds above.
        strength: 0 gives the photo back unchanged, 1 the full style, up to 1.5 exaggerates.
        seed: chooses among the variants of a text; the same seed gives the same bytes.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        model: a folder written by :meth:`StylizePipeline.save_pretrained`; None for the default.

    Returns:
        The restyled picture, as large as the photo.

    Raises:
        InputError: an option or a picture can't be used.
        WeightsError: weights are missing or damaged.
    """
    check_request(text, style_image, strength, seed)
    pipeline = _cached_pipeline(
        None if model is None else os.fspath(model), str(resolve_device(device))
    )
    options: dict[str, Any] = {"style_image": style_image, "strength": strength, "seed": seed}
    images = pipeline(img, prompt=text, **options).images
    return images[0] if isinstance(images, list) else images


@lru_cache(maxsize=2)
def _cached_pipeline(model: str | None, device: str) -> StylizePipeline:
    return StylizePipeline.from_pretrained(model, device)


def check_request(
    prompt: str | None,
    style_image: object | None,
    strength: float = 1.0,
    seed: int | None = None,
) -> None:
    """Refuse options that make no sense; needs no torch and no weights.

    Raises:
        InputError: not exactly one of prompt and style image, an empty prompt, a strength outside
            [0, 1.5], a seed that is not a non-negative integer.
    """
    if prompt is None and style_image is None:
        raise InputError("no style given: add a prompt or a style image")
    if prompt is not None and style_image is not None:
        raise InputError("both a prompt and a style image given: choose one")
    if prompt is not None and (not isinstance(prompt, str) or not prompt.strip()):
        raise InputError("the prompt is empty: say a style, for example 'watercolor'")
    in_range = isinstance(strength, Real) and 0 <= float(strength) <= MAX_STRENGTH
    if not in_range or math.isnan(strength):
        raise InputError(f"strength must lie between 0 and {MAX_STRENGTH}, not {strength}")
    if seed is not None and not (isinstance(seed, Integral) and 0 <= int(seed) < 2**63):
        raise InputError(f"seed must be an integer from 0 to 2**63 - 1, not {seed}")


def check_device(name: str) -> None:
    """Refuse a device name that no machine has; needs no torch.

    Raises:
        InputError: not one of auto, cpu, cuda, cuda:N, xpu, mps.
    """
    if not _DEVICE.fullmatch(name):
        raise InputError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:1 or mps")


def resolve_device(name: str = "auto") -> torch.device:
    """Find the device of that name on this machine.

    Args:
        name: "auto" is CUDA if there is one, else the CPU.

    Returns:
        A device that exists.

    Raises:
        InputError: an unknown name, or a device that is not here.
    """
    check_device(name)
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type != "cpu":
        backend = getattr(torch, device.type)
        count = backend.device_count() if backend.is_available() else 0
        if (device.index or 0) >= count:
            raise InputError(f"there is no device {name!r} here; use --device cpu or auto")
    return device


def check_model(folder: Path) -> str:
    """Read a saved pipeline's index; needs no torch.

    Returns:
        The name of the CLIP it was trained with.

    Raises:
        WeightsError: not a folder that :meth:`StylizePipeline.save_pretrained` wrote.
    """
    remedy = "give a folder written by StylizePipeline.save_pretrained"
    if not folder.is_dir():
        raise WeightsError(f"no model folder {folder}; {remedy}")
    try:
        name = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["clip"]
    except FileNotFoundError:
        raise WeightsError(f"no {_INDEX} in {folder}; {remedy}") from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise WeightsError(f"can't use {folder / _INDEX}: it names no clip; {remedy}") from error
    if not isinstance(name, str):
        raise WeightsError(f"can't use {folder / _INDEX}: clip must be a name; {remedy}")
    return name


def _grad_only_for(image: object) -> torch.set_grad_enabled:
    """Give gradients to tensors if the caller wants any; save their memory for all else."""
    import torch

    return torch.set_grad_enabled(torch.is_grad_enabled() and isinstance(image, torch.Tensor))

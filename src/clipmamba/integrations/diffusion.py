"""Diffusion models: one draws a style picture from words, one repaints a result."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmamba.devices import resolve_device
from clipmamba.errors import InputError, WeightsError
from clipmamba.files import reason
from clipmamba.integrations.pretrained import (
    LazyModel,
    check_packages,
    choose_precision,
    short_name,
)
from clipmamba.io import from_srgb, read_picture, write_picture

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

FINISH_STRENGTH = 0.2
WORKING_PIXELS = 1024 * 1024  # larger pictures are reduced to this for repainting
CACHE_VARIABLE = "CLIPMAMBA_CACHE"
CLEAR_EDGE = 0.1  # luma step per pixel from which an edge is fully preserved

_INDEX = "model_index.json"
_REFUSALS = ("nsfw_content_detected", "nsfw_detected", "watermark_detected")  # the latter two: IF
_MULTIPLE = 8  # sides of latents must be divisible by this, for three halvings in a U-Net


class StylePainter:
    """Draws a style picture from words with a diffusers text-to-image pipeline.

        painter = StylePainter("stable-diffusion-v1-5/stable-diffusion-v1-5")
        stylize("photo.jpg", style_image=painter("lowbrow tiki art"))

    Pictures are cached in a folder, with words, seed and model in their EXIF, and never drawn
    twice: the model is loaded only if a picture is not in the cache.

    Args:
        name: A folder or Hub repository.
        device: "auto" (CUDA if available, else the CPU) or any torch device.
        folder: The cache folder; None for `drawn` in `cache_folder()`.
        steps: Denoising steps; None for the pipeline's default. Distilled models need few.
        guidance: Guidance scale; None for the pipeline's default.

    Raises:
        InputError: The package transformers or diffusers is missing.
        WeightsError: The name is invalid.
    """

    def __init__(
        self,
        name: str,
        device: str | torch.device = "auto",
        folder: str | os.PathLike[str] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> None:
        self._options = _given(num_inference_steps=steps, guidance_scale=guidance)
        needs = ["prompt", "num_inference_steps", *self._options]
        what = "painter of styles"
        self._pipeline = _Pipeline(what, name, "AutoPipelineForText2Image", device, needs)
        self.name = name
        self.folder = Path(folder) if folder is not None else cache_folder() / "drawn"

    def file(self, words: str, seed: int | None = None) -> Path:
        """Return the cache path for these words and this seed, drawn yet or not."""
        made_by = [_identity(self.name), words, seed or 0, self._options]
        digest = hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:12]
        shown = re.sub(r"[\W_]+", "-", words.lower()).strip("-")[:40]
        return self.folder / f"{shown}-seed{seed or 0}-{digest}.png"

    def __call__(self, words: str, seed: int | None = None) -> Image.Image:
        """Draw the style picture for words, or read it from the cache.

        Args:
            words: The model's prompt, passed unchanged.
            seed: Each seed draws another picture; None means 0.

        Returns:
            An RGB image of the model's own size.

        Raises:
            InputError: The model's safety checker refuses the picture, or it can't be cached.
            WeightsError: The model is missing, unreachable or damaged.
        """
        file = self.file(words, seed)
        if not file.is_file():
            self._keep(file, self._pipeline(seed, prompt=words, **self._options), words, seed or 0)
        picture = read_picture(file)
        picture.info = {}  # only the style is used
        return picture

    def __str__(self) -> str:
        return short_name(self.name)

    def _keep(self, file: Path, drawn: Tensor, words: str, seed: int) -> None:
        import numpy as np

        from clipmamba.io.convert import tensor_to_array

        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"can't store drawn pictures in {file.parent}: {reason(error)}; set "
                f"{CACHE_VARIABLE} to another folder"
            ) from error
        settings = {"drawn_by": str(self), "prompt": words, "seed": seed, **self._options}
        image = from_srgb(tensor_to_array(drawn, np.dtype(np.float32)))
        write_picture(image, file, overwrite=True, settings=settings)


class Finisher:
    """Repaints a result a little with a diffusers image-to-image pipeline.

        finish = Finisher("stable-diffusion-v1-5/stable-diffusion-v1-5", 0.2)
        stylize("photo.jpg", "oil painting", finish=finish)

    The photo is the guide: the picture is preserved where the photo's luma has an edge, so that
    contours stay in place, and the model paints in between. Pictures may have any size: they are
    padded to a size that the model accepts; those of more than `pixels` pixels are repainted at a
    reduced size, and only the change is upscaled.

    Args:
        name: A folder or Hub repository with a pipeline that diffusers can run from image to
            image.
        strength: Above 0 and at most 1: how much noise the model starts from. Above 0.4 it paints
            a picture of its own.
        device: "auto" (CUDA if available, else the CPU) or any torch device.
        steps: Denoising steps at strength 1; None for the pipeline's default.
        guidance: Guidance scale; None for the pipeline's default.
        pixels: Largest number of pixels passed to the model.

    Raises:
        InputError: The package transformers or diffusers is missing, or `strength` is out of
            range.
        WeightsError: The name is invalid.
    """

    def __init__(
        self,
        name: str,
        strength: float = FINISH_STRENGTH,
        device: str | torch.device = "auto",
        steps: int | None = None,
        guidance: float | None = None,
        pixels: int = WORKING_PIXELS,
    ) -> None:
        if not 0 < strength <= 1:
            raise InputError(
                f"the strength of finish must be above 0 and at most 1, not {strength:g}"
            )
        self._options = _given(guidance_scale=guidance)
        needs = ["prompt", "image", "strength", "num_inference_steps", *self._options]
        self._pipeline = _Pipeline("finisher", name, "AutoPipelineForImage2Image", device, needs)
        self.name = name
        self.strength = strength
        self._steps = steps
        self._pixels = pixels

    def __call__(
        self, photo: Tensor, picture: Tensor, seed: int | None = None, words: str = ""
    ) -> Tensor:
        """Repaint pictures.

        Args:
            photo: The guide, (B, 3, H, W) in [0, 1].
            picture: The pictures to repaint, of the same shape and range.
            seed: Seed of the noise; None means 0.
            words: The model's prompt.

        Returns:
            (B, 3, H, W) in [0, 1], without a gradient.

        Raises:
            InputError: The model's safety checker refuses the result.
            WeightsError: The model is missing, unreachable or damaged.
        """
        import torch

        with torch.no_grad():
            pairs = zip(torch.split(photo, 1), torch.split(picture, 1), strict=True)
            return torch.cat([self._one(*pair, seed, words) for pair in pairs])

    def load(self) -> None:
        """Load the model now, not with the first picture.

        Raises:
            WeightsError: The model is missing, unreachable, damaged or of another kind.
        """
        self._pipeline.load()

    def __str__(self) -> str:
        return f"{short_name(self.name)}:{self.strength:g}"

    def _one(self, photo: Tensor, picture: Tensor, seed: int | None, words: str) -> Tensor:
        from torch.nn import functional as F

        from clipmamba.io.convert import resize

        height, width = picture.shape[2:]
        scale = min(1.0, math.sqrt(self._pixels / (height * width)))
        rows, columns = (max(1, round(side * scale)) for side in (height, width))
        small = resize(picture, rows, columns)
        multiple = self._pipeline.multiple
        padding = (0, -columns % multiple, 0, -rows % multiple)
        padded = F.pad(small, padding, mode="replicate").clamp(0, 1)
        steps = self._steps or self._pipeline.default_steps
        result = self._pipeline(
            seed,
            prompt=words,
            image=padded,
            strength=self.strength,
            num_inference_steps=max(steps, math.ceil(1 / self.strength)),  # run at least one
            **self._options,
        )
        change = result.to(small)[..., :rows, :columns] - small
        change = change * (1 - edges(resize(photo, rows, columns)))
        return (picture + resize(change, height, width)).clamp(0, 1)


def edges(photo: Tensor) -> Tensor:
    """Detect edges in a photo's luma.

    Args:
        photo: (B, 3, H, W) in [0, 1].

    Returns:
        (B, 1, H, W) in [0, 1]: 1 at and beside edges of at least `CLEAR_EDGE`, fading out over two
        pixels.
    """
    import torch
    from torch.nn import functional as F

    from clipmamba.io.convert import luma

    light = F.pad(luma(photo), (1, 1, 1, 1), mode="replicate")
    across = (light[..., 1:-1, 2:] - light[..., 1:-1, :-2]) / 2
    down = (light[..., 2:, 1:-1] - light[..., :-2, 1:-1]) / 2
    found = ((across.square() + down.square()).sqrt() / CLEAR_EDGE).clamp(max=1)
    wider = F.max_pool2d(found, 3, stride=1, padding=1)
    soft = F.avg_pool2d(wider, 3, stride=1, padding=1, count_include_pad=False)
    return torch.maximum(found, soft)


def cache_folder() -> Path:
    """Return this package's cache folder.

    It is `CLIPMAMBA_CACHE` if set, otherwise `clipmamba` in the user's cache folder.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(home) if home else Path.home() / ".cache") / "clipmamba"


class _Pipeline:
    """A diffusers pipeline, loaded with its first picture; makes one picture at a time."""

    def __init__(
        self, what: str, name: str, kind: str, device: str | torch.device, needs: Sequence[str]
    ) -> None:
        check_packages(f"a {what}", ["diffusers", "transformers"], "diffusion")
        self._what, self._name, self._kind = what, name, kind
        self._device, self._needs = device, needs
        libraries = ["diffusers", "transformers"]
        self._model: LazyModel[Any] = LazyModel(what, name, _INDEX, libraries, self._load)

    def load(self) -> None:
        """Load the model, unless it is loaded."""
        self._model.get()

    @property
    def multiple(self) -> int:
        """The number of pixels that sides of pictures must be multiples of."""
        return int(getattr(self._model.get(), "vae_scale_factor", 8)) * _MULTIPLE

    @property
    def default_steps(self) -> int:
        """The pipeline's default number of denoising steps."""
        known = inspect.signature(self._model.get().__call__).parameters
        return int(known["num_inference_steps"].default)

    def __call__(self, seed: int | None, **options: Any) -> Tensor:
        """Run it once.

        Returns:
            (1, 3, H, W) in [0, 1], float32 on the CPU.

        Raises:
            InputError: The safety checker refuses the picture, or it holds NaN.
            WeightsError: The model can't be loaded.
        """
        import torch

        with self._model.running() as run:
            # On the CPU, so that a seed gives the same picture on every device.
            generator = torch.Generator("cpu").manual_seed(seed or 0)
            known = inspect.signature(run.__call__).parameters
            if "image" in options:  # or some pipelines would use another size than the image's
                height, width = options["image"].shape[2:]
                if type(run).__name__.startswith("IF"):  # the only ones that take [-1, 1]
                    options["image"] = 2 * options["image"] - 1
                options |= {
                    name: side
                    for name, side in (("height", height), ("width", width))
                    if name in known
                }
            # With "pt", some pipelines skip their safety checker or return values in [-1, 1].
            output = run(generator=generator, output_type="np", **options)
        if any(any(getattr(output, flags, None) or ()) for flags in _REFUSALS):
            raise InputError(
                f"the safety checker of {self._name} refuses the picture of "
                f"{options['prompt']!r}; change the words or the seed"
            )
        result = torch.from_numpy(output.images).float().permute(0, 3, 1, 2)
        if not result.isfinite().all():
            raise InputError(
                f"{self._name} returned a picture with NaN values, as half precision can; "
                "try another device"
            )
        return result

    def _load(self, name: str, local_files_only: bool) -> Any:
        import diffusers

        device = resolve_device(self._device)
        # This includes the safety checker, if the folder has one.
        pipeline = getattr(diffusers, self._kind).from_pretrained(
            name, dtype=choose_precision(device), local_files_only=local_files_only
        )
        known = inspect.signature(pipeline.__call__).parameters
        problem = f"the {self._what} {name} is a {type(pipeline).__name__}, which"
        if "num_frames" in known:
            raise WeightsError(f"{problem} makes videos; give a model that makes pictures")
        for need in self._needs:
            if need not in known:
                raise WeightsError(f"{problem} has no {need}; give another model")
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(device)


def _given(**options: Any) -> dict[str, Any]:
    """Keep the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def _identity(name: str) -> list[Any]:
    """Identify a model: a folder by its path and the sizes and times of its files.

    A Hub repository is identified by its name, since its version would need network access.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return [name]
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    states = [(path, path.stat()) for path in files]
    return [
        str(folder.resolve()),
        *([str(path.relative_to(folder)), s.st_size, s.st_mtime_ns] for path, s in states),
    ]

"""Diffusion models beside ours: one draws a style picture for words, one repaints our result."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmamba.devices import resolve_device
from clipmamba.errors import InputError
from clipmamba.files import reason
from clipmamba.integrations.pretrained import (
    check_name,
    check_packages,
    choose_precision,
    load_model,
    quiet,
    short_name,
)
from clipmamba.io import from_srgb, read_picture, write_picture

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

FINISH_STRENGTH = 0.2
WORKING_PIXELS = 1024 * 1024  # a larger picture is repainted at this many
CACHE_VARIABLE = "CLIPMAMBA_CACHE"
CLEAR_EDGE = 0.1  # step of brightness from pixel to pixel, of 1, that is held in full

_INDEX = "model_index.json"
_MULTIPLE = 8  # sides of latents: what three halvings of a U-Net take


class StylePainter:
    """Draws a style picture for words, by a text-to-image pipeline of diffusers.

        painter = StylePainter("stable-diffusion-v1-5/stable-diffusion-v1-5")
        stylize("photo.jpg", style_image=painter("lowbrow tiki art"))

    Each picture is kept in a folder, with words, seed and model in its EXIF, and is never drawn
    twice: the model is loaded only for a picture that is not there.

    Args:
        name: A folder, or a hub's repository.
        device: "auto" (CUDA if there is one, else the CPU) or any of torch's.
        folder: Where pictures are kept; None for `drawn` in `cache_folder()`.
        steps: Of denoising; None as the pipeline has it. Distilled models want few.
        guidance: How closely the words are followed; None as the pipeline has it.

    Raises:
        InputError: The package transformers or diffusers is missing.
        WeightsError: There can't be a model of that name.
    """

    def __init__(
        self,
        name: str,
        device: str | torch.device = "auto",
        folder: str | os.PathLike[str] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> None:
        self._pipeline = _Pipeline("painter of styles", name, "AutoPipelineForText2Image", device)
        self.name = name
        self.folder = Path(folder) if folder is not None else cache_folder() / "drawn"
        self._options = _given(num_inference_steps=steps, guidance_scale=guidance)

    def file(self, words: str, seed: int | None = None) -> Path:
        """Where the picture of these words and this seed is kept, drawn yet or not."""
        made_by = [_identity(self.name), words, seed or 0, self._options]
        digest = hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:12]
        shown = re.sub(r"[\W_]+", "-", words.lower()).strip("-")[:40]
        return self.folder / f"{shown}-seed{seed or 0}-{digest}.png"

    def __call__(self, words: str, seed: int | None = None) -> Image.Image:
        """Give the style picture of words.

        Args:
            words: What the model is told, as they are.
            seed: Another seed draws another picture; None is 0.

        Returns:
            An RGB image of the model's own size.

        Raises:
            InputError: The model's safety checker refuses the picture, or it can't be kept.
            WeightsError: The model is missing, out of reach or damaged.
        """
        file = self.file(words, seed)
        if not file.is_file():
            self._keep(file, self._pipeline(seed, prompt=words, **self._options), words, seed or 0)
        picture = read_picture(file)
        picture.info = {}  # a style, nothing else, goes on from it
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
                f"can't keep drawn pictures in {file.parent}: {reason(error)}; name another "
                f"folder in {CACHE_VARIABLE}"
            ) from error
        settings = {"drawn_by": str(self), "prompt": words, "seed": seed, **self._options}
        image = from_srgb(tensor_to_array(drawn, np.dtype(np.float32)))
        write_picture(image, file, overwrite=True, settings=settings)


class Finisher:
    """Repaints a finished picture a little, by an image-to-image pipeline of diffusers.

        finish = Finisher("stable-diffusion-v1-5/stable-diffusion-v1-5", 0.2)
        stylize("photo.jpg", "oil painting", finish=finish)

    The photo is the guide: where its brightness has an edge the picture stays as it is, so that
    contours keep their place, and the model paints what lies between. Pictures of any size: they
    are padded to the sides that the model takes; those of more than `pixels` are repainted smaller
    and only the change is carried to their own size.

    Args:
        name: A folder, or a hub's repository, with a pipeline that diffusers can run from image
            to image.
        strength: Above 0, up to 1: how much noise the model starts from. Above 0.4 it paints a
            picture of its own.
        device: "auto" (CUDA if there is one, else the CPU) or any of torch's.
        steps: Of denoising before `strength` takes its part; None as the pipeline has it.
        guidance: How closely the words are followed; None as the pipeline has it.
        pixels: The most that the model is given at once.

    Raises:
        InputError: The package transformers or diffusers is missing, a strength out of range.
        WeightsError: There can't be a model of that name.
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
                f"the strength of finish must lie above 0 and up to 1, not {strength:g}"
            )
        self._pipeline = _Pipeline("finisher", name, "AutoPipelineForImage2Image", device)
        self.name = name
        self.strength = strength
        self._steps = steps
        self._options = _given(guidance_scale=guidance)
        self._pixels = pixels

    def __call__(
        self, photo: Tensor, picture: Tensor, seed: int | None = None, words: str = ""
    ) -> Tensor:
        """Repaint pictures.

        Args:
            photo: The guide, (B, 3, H, W) in [0, 1].
            picture: What is repainted, of the same shape and range.
            seed: Of the noise; None is 0.
            words: What the model is told.

        Returns:
            (B, 3, H, W) in [0, 1]; carries no gradient.

        Raises:
            InputError: The model's safety checker refuses the result.
            WeightsError: The model is missing, out of reach or damaged.
        """
        import torch

        with torch.no_grad():
            pairs = zip(torch.split(photo, 1), torch.split(picture, 1), strict=True)
            return torch.cat([self._one(*pair, seed, words) for pair in pairs])

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
            num_inference_steps=max(steps, math.ceil(1 / self.strength)),  # at least one is run
            **self._options,
        )
        change = result.to(small)[..., :rows, :columns] - small
        change = change * (1 - edges(resize(photo, rows, columns)))
        return (picture + resize(change, height, width)).clamp(0, 1)


def edges(photo: Tensor) -> Tensor:
    """Where a photo's brightness has an edge.

    Args:
        photo: (B, 3, H, W) in [0, 1].

    Returns:
        (B, 1, H, W) in [0, 1]: 1 on edges of at least `CLEAR_EDGE` and beside them, fading out
        over two pixels.
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
    """Where this package keeps what it need not make twice.

    `CLIPMAMBA_CACHE` names it, else it is `clipmamba` in the user's folder for caches.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(home) if home else Path.home() / ".cache") / "clipmamba"


class _Pipeline:
    """A pipeline of diffusers, loaded at its first picture; one picture at a time."""

    def __init__(self, what: str, name: str, kind: str, device: str | torch.device) -> None:
        check_packages(f"a {what}", ["diffusers", "transformers"], "diffusion")
        check_name(what, name, _INDEX)
        self._what, self._name, self._kind, self._device = what, name, kind, device
        self._lock = threading.RLock()
        self._loaded: Any = None

    @property
    def multiple(self) -> int:
        """What the sides of pictures must be multiples of, in pixels."""
        return int(getattr(self._get(), "vae_scale_factor", 8)) * _MULTIPLE

    @property
    def default_steps(self) -> int:
        """Steps of denoising that the pipeline takes if it is not told."""
        parameter = inspect.signature(self._get().__call__).parameters.get("num_inference_steps")
        return 50 if parameter is None else int(parameter.default)

    def __call__(self, seed: int | None, **options: Any) -> Tensor:
        """Run it once.

        Returns:
            (1, 3, H, W) in [0, 1], float32 on the CPU.

        Raises:
            InputError: The safety checker refuses the picture, or it holds no numbers.
            WeightsError: The model can't be loaded.
        """
        import torch

        with self._lock, quiet(["diffusers", "transformers"]), torch.no_grad():
            run = self._get()
            # On the CPU, so that one seed is one picture whatever the device.
            generator = torch.Generator("cpu").manual_seed(seed or 0)
            known = inspect.signature(run.__call__).parameters
            if "image" in options:  # pipelines that know a size would take another than the image's
                height, width = options["image"].shape[2:]
                options |= {
                    name: side
                    for name, side in (("height", height), ("width", width))
                    if name in known
                }
            output = run(generator=generator, output_type="pt", **options)
        flags = getattr(output, "nsfw_content_detected", None)
        if any(flags or ()):
            raise InputError(
                f"the safety checker of {self._name} refuses the picture of "
                f"{options['prompt']!r}; change the words or the seed"
            )
        result: Tensor = output.images.detach().float().cpu()
        if not result.isfinite().all():
            raise InputError(
                f"{self._name} gives a picture without numbers, as half precision can; "
                "try another device"
            )
        return result

    def _get(self) -> Any:
        with self._lock:
            if self._loaded is None:
                libraries = ["diffusers", "transformers"]
                self._loaded = load_model(self._what, self._name, _INDEX, libraries, self._load)
            return self._loaded

    def _load(self, name: str, local_files_only: bool) -> Any:
        import diffusers

        device = resolve_device(self._device)
        # The safety checker, if the folder has one, comes along.
        pipeline = getattr(diffusers, self._kind).from_pretrained(
            name, dtype=choose_precision(device), local_files_only=local_files_only
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(device)


def _given(**options: Any) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def _identity(name: str) -> list[Any]:
    """What tells a model from another: of a folder its path and the sizes and times of its files.

    Of a hub's repository it is the name: to ask for its version would need the network.
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

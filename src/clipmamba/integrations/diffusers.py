"""The pipeline with the interface of diffusers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from PIL import Image
from torch import Tensor

from clipmamba.errors import InputError
from clipmamba.hub import HubName
from clipmamba.pipelines import Photo, StylizeOptions, StylizePipeline
from clipmamba.pipelines.publish import publish

OutputType = Literal["pil", "np", "pt"]


class StylizeDiffusionPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Restyles pictures, with the conventions of diffusers' image-to-image pipelines.

        pipe = StylizeDiffusionPipeline.from_pretrained().to("cuda")
        pipe(image, "ukiyo-e", generator=torch.Generator().manual_seed(7)).images[0]

    There is no diffusion: the network runs once per picture, in float32. This file (`__file__`) is
    also a custom pipeline, with which diffusers itself can load a saved folder:

        DiffusionPipeline.from_pretrained(folder, custom_pipeline=FILE, trust_remote_code=True)

    Args:
        pipeline: the pipeline to wrap; None for the weights of the folder that diffusers loads, or
            the default ones.
        clip: the CLIP model's name, from `model_index.json`.
        guidance: the guidance, from `model_index.json`.
    """

    def __init__(
        self,
        pipeline: StylizePipeline | None = None,
        clip: str | None = None,
        guidance: float | None = None,
    ) -> None:
        super().__init__()
        self.register_to_config(clip=clip, guidance=guidance)
        self._pipeline = pipeline

    @property
    def pipeline(self) -> StylizePipeline:
        """The wrapped pipeline, loaded on first use."""
        if self._pipeline is None:
            folder = self.config.get("_name_or_path")  # set by diffusers after loading
            self._pipeline = StylizePipeline.from_pretrained(folder or None, "cpu")
        return self._pipeline

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str] | None = None, **options: Any) -> Self:
        """Load a folder saved by this class or by `StylizePipeline`.

        Args:
            path: the folder, or the name of a model of the Hub such as "user/name@v1".
            options: `torch_dtype`, which must be float32.

        Raises:
            InputError: another option or dtype is given.
            WeightsError: weights are missing, damaged or do not fit.
        """
        _refuse_dtype(options.pop("torch_dtype", None))
        if options:
            raise InputError(f"unknown option {next(iter(options))!r}; only torch_dtype is known")
        return cls(StylizePipeline.from_pretrained(path, "cpu"))

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        safe_serialization: bool = True,
        variant: str | None = None,
    ) -> None:
        """Save a folder that `from_pretrained`, `StylizePipeline` and `--model` can load.

        Raises:
            InputError: `safe_serialization` is False, or a `variant` is given.
        """
        if not safe_serialization or variant is not None:
            raise InputError("weights are saved as safetensors only, without variants")
        self.pipeline.save_pretrained(save_directory)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        license_id: str | None = None,
        private: bool | None = None,
        **options: Any,
    ) -> str:
        """Upload the pipeline to the Hub with its hashes and model card, as `models push` does.

        Args:
            repo_id: "user/name", created if missing, or "user/name@tag" for a new tag.
            license_id: the Hub's identifier of the license of the weights, such as "apache-2.0".
            private: whether a new repository is private; True refuses an existing public one.
            options: none of diffusers' other options is known.

        Returns:
            The address of the commit.

        Raises:
            InputError: the name or the license is missing, another option is given, the tag
                exists already, or the existing repository is public.
            WeightsError: the CLIP model is a folder of this machine; there is no token; the Hub
                can't be reached or refuses.
        """
        if options:
            raise InputError(
                f"unknown option {next(iter(options))!r}; only license_id and private are known"
            )
        if not license_id:
            raise InputError("give the license of the weights, such as license_id='apache-2.0'")
        name = HubName.parse(repo_id)
        if name is None:
            raise InputError(f"{repo_id!r} is not a name on the Hub; use user/name")
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return publish(folder, name, license_id, private=private)

    @property
    def components(self) -> dict[str, Any]:
        """The modules by name."""
        parts = self.pipeline
        return {"stylizer": parts.stylizer, "clip": parts.clip, "prior": parts.prior}

    @property
    def device(self) -> torch.device:
        """The network's device."""
        return self.pipeline.device

    @property
    def dtype(self) -> torch.dtype:
        """The network's dtype, float32."""
        return torch.float32

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move all modules to a device.

        Raises:
            InputError: a dtype other than float32 is given.
        """
        device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        _refuse_dtype(dtype)
        if device is not None:
            stylizer, clip, prior = (part.to(device) for part in self.components.values())
            self._pipeline = StylizePipeline(stylizer, clip, prior, self.pipeline.guidance)
        return self

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        prompt: str | Sequence[str] | None = None,
        style_image: Any = None,
        strength: float = StylizeOptions.strength,
        *,
        preserve_color: bool | None = StylizeOptions.preserve_color,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Self, int, int, dict[str, Any]], object] | None = None,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Restyle pictures.

        Args:
            image: a PIL image, a path, an array (H, W, 3) or (B, H, W, 3), a tensor (3, H, W) or
                (B, 3, H, W) in [0, 1], or a list of these; a batch counts as B pictures.
            prompt: a prompt, or a list with one per picture.
            style_image: a style picture, with the prompt or instead of it.
            strength: 0 returns the photo, 1 is the full style, up to 1.5 exaggerates.
            preserve_color: keep the photo's colors (True) or take the style's (False). By default,
                styles without a palette of their own, such as watercolor, keep most of them.
            generator: draws the variant of the style: one for all pictures, or one for each.
            output_type: "pil" images, "np" arrays (H, W, 3) or "pt" tensors (3, H, W) in [0, 1].
            return_dict: whether to return an object with `.images` instead of a tuple.
            callback_on_step_end: called after each picture with this pipeline, the picture's
                index, the number of pictures, and {"image": the picture}.

        Returns:
            A list of pictures; arrays or tensors of equal size are stacked along a new first axis.

        Raises:
            InputError: a picture or an option can't be used.
        """
        if output_type not in ("pil", "np", "pt"):
            raise InputError(f"output_type must be 'pil', 'np' or 'pt', not {output_type!r}")
        images = _one_by_one(image)
        prompts = _for_each(prompt, len(images), "prompts")
        generators = _for_each(generator, len(images), "generators")
        results: list[Any] = []
        for number, (one, words, draws) in enumerate(zip(images, prompts, generators, strict=True)):
            seed = None if draws is None else _draw_seed(draws)
            [result] = self.pipeline(
                [one], prompt=words, style_image=style_image, strength=strength,
                preserve_color=preserve_color, seed=seed,
            ).images  # fmt: skip
            results.append(_as_type(result, output_type))
            if callback_on_step_end is not None:
                callback_on_step_end(self, number, len(images), {"image": results[-1]})
        pictures: Any = results
        if output_type != "pil" and len({result.shape for result in results}) == 1:
            pictures = np.stack(results) if output_type == "np" else torch.stack(results)
        return ImagePipelineOutput(images=pictures) if return_dict else (pictures,)


def _refuse_dtype(dtype: torch.dtype | None) -> None:
    if dtype not in (None, torch.float32):
        raise InputError(f"the network computes in float32, not {dtype}; leave torch_dtype out")


def _one_by_one(image: Any) -> list[Any]:
    """List single pictures, also those of batches in a list."""
    pictures: list[Any] = []
    for one in image if isinstance(image, list | tuple) else [image]:
        is_batch = isinstance(one, Tensor | np.ndarray) and one.ndim == 4
        pictures.extend(one if is_batch else [one])
    return pictures


def _for_each(value: Any, count: int, what: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        return [value] * count
    if len(value) != count:
        raise InputError(f"got {len(value)} {what} for {count} pictures; give one for each")
    return list(value)


def _draw_seed(generator: torch.Generator) -> int:
    drawn = torch.randint(2**31, (1,), generator=generator, device=generator.device)
    return int(drawn.item())


def _as_type(result: Any, output_type: OutputType) -> Any:
    if output_type == "pil" and isinstance(result, Image.Image):
        return result
    tensor = Photo.open(result).tensor[0].cpu()
    if output_type == "pt":
        return tensor
    array = tensor.permute(1, 2, 0).numpy()
    return array if output_type == "np" else Image.fromarray(np.rint(array * 255).astype(np.uint8))

"""ComfyUI nodes: style from words, style from a picture, mix of two styles, and restyle.

An IMAGE is (B, H, W, C) and a MASK (B, H, W), both floats in [0, 1]. Between nodes, a style is a
tuple of requests and weights, since words are encoded only when the seed is known.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from clipmamba.errors import InputError
from clipmamba.pipelines import MAX_STRENGTH, StylizeOptions, StylizePipeline
from clipmamba.pipelines.options import COLORS, MAX_STROKE, MIN_STROKE
from clipmamba.styles import StyleRequest

if TYPE_CHECKING:
    from torch import Tensor

    from clipmamba.styles import ResolvedStyle

STYLE = "CLIPMAMBA_STYLE"
CATEGORY = "clipmamba"
USUAL_SEED = -1  # the default picture, without a seed
MAX_SEED = 2**53 - 1  # largest safe integer in JavaScript

StyleParts = tuple[tuple[StyleRequest, float], ...]  # requests and their weights in the mix


class StyleFromWords:
    """A style in words."""

    CATEGORY = CATEGORY
    FUNCTION = "ask"
    RETURN_TYPES = (STYLE,)
    RETURN_NAMES = ("style",)
    DESCRIPTION = "A style in words, such as 'ukiyo-e' or 'watercolor'."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Say what goes in."""
        words = "One style per line; 'ukiyo-e:0.7' carries a weight."
        avoid = "A style to move away from, in words."
        return {
            "required": {
                "words": ("STRING", {"default": "ukiyo-e", "multiline": True, "tooltip": words})
            },
            "optional": {"avoid": ("STRING", {"default": "", "tooltip": avoid})},
        }

    def ask(self, words: str, avoid: str = "") -> tuple[StyleParts]:
        """Read the words.

        Raises:
            InputError: There are no words, or a weight is not above 0.
        """
        prompts = [line for line in words.splitlines() if line.strip()]
        return (((StyleRequest.parse(prompts or words, avoid=avoid.strip() or None), 1.0),),)


class StyleFromPicture:
    """A style from one or several pictures."""

    CATEGORY = CATEGORY
    FUNCTION = "ask"
    RETURN_TYPES = (STYLE,)
    RETURN_NAMES = ("style",)
    DESCRIPTION = "The style of a picture; the mean over a batch."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Say what goes in."""
        shown = "What the picture shows ('a church'); removed from the style."
        return {
            "required": {"image": ("IMAGE",)},
            "optional": {"source": ("STRING", {"default": "", "tooltip": shown})},
        }

    def ask(self, image: Tensor, source: str = "") -> tuple[StyleParts]:
        """Take the picture; it is encoded when a photo is restyled.

        Raises:
            InputError: The input is not an IMAGE.
        """
        request = StyleRequest.parse(style_image=_colors(image), source=source.strip() or None)
        return (((request, 1.0),),)


class MixStyles:
    """A mix of two styles."""

    CATEGORY = CATEGORY
    FUNCTION = "mix"
    RETURN_TYPES = (STYLE,)
    RETURN_NAMES = ("style",)
    DESCRIPTION = "A mix of two styles, which may be mixes themselves."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Say what goes in."""
        share = {"default": 0.5, "min": 0.0, "max": 1.0, "step": 0.05, "display": "slider"}
        tooltip = "The share of the second style: 0 is the first style alone."
        return {
            "required": {
                "first": (STYLE,),
                "second": (STYLE,),
                "share": ("FLOAT", {**share, "tooltip": tooltip}),
            }
        }

    def mix(self, first: StyleParts, second: StyleParts, share: float) -> tuple[StyleParts]:
        """Weight the parts of both.

        Raises:
            InputError: The share is not between 0 and 1.
        """
        if not 0 <= share <= 1:
            raise InputError(f"share must be between 0 and 1, not {share}")
        weighted = [(request, weight * (1 - share)) for request, weight in first]
        weighted += [(request, weight * share) for request, weight in second]
        return (tuple(part for part in weighted if part[1] > 0),)


class Restyle:
    """Restyles photos."""

    CATEGORY = CATEGORY
    FUNCTION = "restyle"
    RETURN_TYPES = ("IMAGE",)
    DESCRIPTION = "Restyle pictures of any size in one pass each, optionally within a mask."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """Say what goes in."""
        usual = StylizeOptions()
        strength = {"default": usual.strength, "min": 0.0, "max": MAX_STRENGTH, "step": 0.05}
        stroke = {"default": usual.stroke, "min": MIN_STROKE, "max": MAX_STROKE, "step": 0.05}
        seed = {"default": USUAL_SEED, "min": USUAL_SEED, "max": MAX_SEED}
        tips = {
            "strength": "0 returns the photo, 1 is the full style, more exaggerates.",
            "stroke": "Stroke size relative to the default.",
            "colors": "Take the photo's colors or the style's. Automatic: styles without a palette "
            "of their own, such as watercolor, keep most of the photo's.",
            "seed": "Each seed gives another variant; -1 is the default one.",
            "mask": "White areas are restyled, black ones keep the photo.",
        }
        return {
            "required": {
                "image": ("IMAGE",),
                "style": (STYLE,),
                "strength": ("FLOAT", {**strength, "tooltip": tips["strength"]}),
                "stroke": ("FLOAT", {**stroke, "tooltip": tips["stroke"]}),
                "colors": (list(COLORS), {"default": "automatic", "tooltip": tips["colors"]}),
                "seed": ("INT", {**seed, "control_after_generate": True, "tooltip": tips["seed"]}),
            },
            "optional": {"mask": ("MASK", {"tooltip": tips["mask"]})},
        }

    def restyle(
        self,
        image: Tensor,
        style: StyleParts,
        strength: float,
        stroke: float,
        colors: str,
        seed: int,
        mask: Tensor | None = None,
    ) -> tuple[Tensor]:
        """Restyle each picture of a batch.

        Args:
            image: (B, H, W, C); channels after the third, such as alpha, are kept.
            style: The parts of the style.
            strength: 0 returns the photo unchanged, up to 1.5.
            stroke: 0.5 to 2.
            colors: Whose colors the result has, a key of `COLORS`.
            seed: Selects a variant; -1 is the default one.
            mask: (B, H, W), one for each picture or one for all.

        Returns:
            The pictures in the same shape, on the same device.

        Raises:
            InputError: An option, the picture or the mask can't be used.
        """
        import torch

        photos = _colors(image)
        masks = _masks(mask, len(photos))
        tell = _progress()
        chosen = None if seed == USUAL_SEED else seed
        options = StylizeOptions(strength, COLORS[colors], stroke, seed=chosen)
        pipe = load_pipeline(_device())
        resolved = _resolve(pipe, style, options.seed)
        results = []
        for number, (photo, area) in enumerate(zip(torch.split(photos, 1), masks, strict=True)):

            def tell_part(done: float, total: int, number: int = number) -> None:
                tell(number + done / total, len(photos))

            if area is not None and not area.any():  # LoadImage's "no mask" has a shape of its own
                results.append(photo)
                continue
            results.append(
                pipe(
                    photo, style=_within(resolved, area), strength=options.strength,
                    stroke=options.stroke, preserve_color=options.preserve_color,
                    seed=options.seed, callback=tell_part,
                ).images
            )  # fmt: skip
        restyled = torch.cat(results).movedim(1, -1)
        return (torch.cat([restyled, image[..., 3:]], dim=-1),)


@lru_cache(maxsize=1)
def load_pipeline(device: str) -> StylizePipeline:
    """Load the default weights on a device, once."""
    return StylizePipeline.from_pretrained(device=device)


def _device() -> str:
    """Return ComfyUI's device, or "auto" without ComfyUI."""
    management = sys.modules.get("comfy.model_management")
    return "auto" if management is None else str(management.get_torch_device())


def _progress() -> Callable[[float, int], None]:
    """Make a callback that updates ComfyUI's progress bar and honors Cancel."""
    management, utils = (sys.modules.get(f"comfy.{name}") for name in ("model_management", "utils"))
    if management is None or utils is None:
        return lambda done, total: None
    bar = utils.ProgressBar(1000)

    def tell(done: float, total: int) -> None:
        management.throw_exception_if_processing_interrupted()
        bar.update_absolute(round(1000 * done / total))

    return tell


def _colors(image: Tensor) -> Tensor:
    """Convert an IMAGE to (B, 3, H, W), clamped to [0, 1], since other nodes may exceed it."""
    if image.ndim != 4 or image.shape[-1] < 3:
        raise InputError(f"an IMAGE must be (B, H, W, 3 or more), not {tuple(image.shape)}")
    return image[..., :3].movedim(-1, 1).clamp(0, 1).contiguous()


def _masks(mask: Tensor | None, count: int) -> list[Tensor] | list[None]:
    """Return one mask (H, W), or None, per picture."""
    if mask is None:
        return [None] * count
    masks = list(mask.reshape(-1, *mask.shape[-2:]).clamp(0, 1))
    if len(masks) not in (1, count):
        raise InputError(f"got {len(masks)} masks for {count} pictures: give one for each")
    return masks if len(masks) == count else masks * count


def _resolve(pipe: StylizePipeline, style: StyleParts, seed: int | None) -> ResolvedStyle:
    first, *others = (weight * pipe.prepare(request, [seed]) for request, weight in style)
    for other in others:
        first = first + other
    first.warn_if_unfamiliar()
    return first


def _within(style: ResolvedStyle, area: Tensor | None) -> ResolvedStyle:
    """Restrict a style to a mask."""
    if area is None:
        return style
    from clipmamba.pipelines.photo import Mask

    [layer] = style.layers
    return replace(style, layers=(replace(layer, mask=Mask(area)),))


NODE_CLASS_MAPPINGS: dict[str, type] = {
    "ClipmambaStyleFromWords": StyleFromWords,
    "ClipmambaStyleFromPicture": StyleFromPicture,
    "ClipmambaMixStyles": MixStyles,
    "ClipmambaRestyle": Restyle,
}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {
    "ClipmambaStyleFromWords": "Style from words (clipmamba)",
    "ClipmambaStyleFromPicture": "Style from picture (clipmamba)",
    "ClipmambaMixStyles": "Mix styles (clipmamba)",
    "ClipmambaRestyle": "Restyle (clipmamba)",
}

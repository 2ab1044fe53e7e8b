"""`stylize`: restyle a picture in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clipmamba.devices import check_device, resolve_device
from clipmamba.errors import InputError
from clipmamba.pipelines.ask import read_prompt, read_style
from clipmamba.pipelines.companions import Companions
from clipmamba.pipelines.keywords import suggest_keywords
from clipmamba.pipelines.options import StylizeOptions
from clipmamba.pipelines.pipeline import StylizePipeline
from clipmamba.pipelines.refine import RefineOptions
from clipmamba.styles.request import StyleRequest
from clipmamba.styles.style_file import check_style_file

if TYPE_CHECKING:
    import torch

    from clipmamba.pipelines.companions import Captioner, Finish, Name, StylePainter
    from clipmamba.pipelines.photo import Picture
    from clipmamba.pipelines.pipeline import Styles
    from clipmamba.regions.find import Segmenter
    from clipmamba.styles.request import Regions
    from clipmamba.styles.resolve import ResolvedStyle


@suggest_keywords
def stylize(  # noqa: D417 - the rest is described once, there
    img: Picture | Sequence[Picture],
    text: str | Sequence[str] | None = None,
    style_image: Picture | Sequence[Picture] | None = None,
    strength: float = StylizeOptions.strength,
    seed: int | None = StylizeOptions.seed,
    device: str | torch.device = "auto",
    model: str | os.PathLike[str] | None = None,
    *,
    prompt: str | Sequence[str] | None = None,
    style: Styles | Sequence[Styles] | ResolvedStyle | None = None,
    avoid: str | None = None,
    source: str | None = None,
    templates: str | Sequence[str] | None = None,
    mask: Picture | Sequence[Picture] | None = None,
    regions: Regions = (),
    keep: Picture | Sequence[Picture] | None = None,
    faces: Literal["keep", "soften", "style"] = "style",
    preserve_color: bool | None = StylizeOptions.preserve_color,
    stroke: float = StylizeOptions.stroke,
    detail: float | None = StylizeOptions.detail,
    grain: bool = StylizeOptions.grain,
    max_size: int | None = StylizeOptions.max_size,
    tile: int | Literal["auto"] | None = StylizeOptions.tile,
    variants: int = StylizeOptions.variants,
    captioner: Name | Captioner | None = None,
    style_from: Name | StylePainter | None = None,
    finish: Name | Finish | None = None,
    refine: int | RefineOptions = 0,
    segmenter: Name | Segmenter | None = None,
    callback: Callable[[float, int], None] | None = None,
) -> Any:
    """Restyle a picture from words or from another picture.

    The models stay loaded, so that further calls are fast. Threads may call it concurrently. All
    other keywords are those of :meth:`StylizePipeline.__call__`.

    Args:
        img: a path, bytes, an open file or a PIL image (returns a PIL image); an array (H, W, 3 or
            4), uint8 or float in [0, 1] (returns an array of its dtype); a float tensor (3, H, W)
            or (B, 3, H, W) in [0, 1] (returns a differentiable tensor); or a list of these
            (returns a list).
        text: a prompt, or several to mix; "ukiyo-e:0.7" carries a weight.
        style_image: a picture in the desired style, of any of the kinds above, or several.
        strength: 0 returns the photo unchanged, 1 is the full style, up to 1.5 exaggerates.
        seed: selects among the variants of a prompt; the same seed gives the same bytes on a CPU.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        model: a folder written by :meth:`StylizePipeline.save_pretrained`, or the name of a model
            of the Hub such as "user/name@v1"; None for the default.
        prompt: the same as ``text``, under the name that the pipeline uses.
        source: a caption of what is shown; "auto" asks ``captioner`` to describe the style
            pictures, or the photo if there are none.
        captioner: a transformers captioner by folder or Hub name, or a function from a PIL image
            to words; None for BLIP.
        style_from: a diffusers text-to-image pipeline by folder or Hub name, or a function from
            words and a seed to a PIL image; it draws a style picture, which replaces the words.
        finish: a diffusers image-to-image pipeline by folder or Hub name, with an optional
            strength as in "NAME:0.2", or a function; it repaints the result a little.
        segmenter: CLIPSeg or another transformers segmenter by folder or Hub name, or a function
            from a PIL image and words to a tensor (h, w) in [0, 1]; it finds parts by any words.
        callback: called with the number of pictures done, fractions included, and their total.

    Returns:
        The restyled picture, of the photo's size unless ``max_size`` reduces it; a list for a list
        or for several variants.

    Raises:
        InputError: an option or a picture can't be used, a package is missing, a part can't
            be found, or a safety checker refuses a picture.
        WeightsError: weights are missing or damaged.
        TypeError: a keyword is unknown.

    Examples:
        >>> from PIL import Image
        >>> photo = Image.radial_gradient("L").convert("RGB").resize((64, 48))
        >>> stylize(photo, ["ukiyo-e:0.7", "watercolor:0.3"], preserve_color=True, seed=7).size
        (64, 48)
    """
    prompt = read_prompt(text, prompt)
    # Check everything before torch and the models, which take seconds, are loaded.
    options = StylizeOptions(
        strength, preserve_color, stroke, detail, grain, max_size, tile, seed, variants
    )
    RefineOptions.of(refine)
    asked = read_style(
        prompt, style_image, style, avoid, source, templates, mask, regions, keep, faces=faces
    )
    _check_files(img, asked)
    check_device(device)
    companions = Companions.of(asked, captioner, style_from, finish, device, segmenter)
    made = _pipeline(model, device).restyle(img, asked, options, companions, callback, refine)
    images = made.images
    return images if isinstance(img, list | tuple) or not isinstance(images, list) else images[0]


def warm_up(
    model: str | os.PathLike[str] | None = None, device: str | torch.device = "auto"
) -> None:
    """Load the models that `stylize` uses and run them once, before the first photo.

    Args:
        model: see `stylize`.
        device: see `stylize`.

    Raises:
        InputError: the device is invalid or missing.
        WeightsError: weights are missing or damaged.
    """
    _pipeline(model, device).warm_up()


def _pipeline(model: str | os.PathLike[str] | None, device: str | torch.device) -> StylizePipeline:
    """Load the pipeline of a folder and a device, once for all threads."""
    where = str(resolve_device(device))
    from clipmamba.weights import loading

    with loading():  # concurrent threads wait for the first and share its result
        # A path stays a path: only a string may name a model of the Hub.
        key = Path(model) if isinstance(model, os.PathLike) else model
        return _cached_pipeline(key, where)


@lru_cache(maxsize=2)
def _cached_pipeline(model: str | Path | None, device: str) -> StylizePipeline:
    return StylizePipeline.from_pretrained(model, device)


def _check_files(img: Any, asked: StyleRequest | ResolvedStyle) -> None:
    """Refuse missing files."""
    images = img if isinstance(img, list | tuple) else [img]
    named = [("picture", image) for image in images if isinstance(image, str | os.PathLike)]
    for kind, file in [*named, *(asked.files if isinstance(asked, StyleRequest) else ())]:
        if kind == "style file":
            check_style_file(file)
        elif not os.path.exists(file):
            raise InputError(f"no such file: {os.fspath(file)}")

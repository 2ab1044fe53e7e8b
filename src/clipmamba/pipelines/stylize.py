"""The one line of the house: photo and words in, picture out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from clipmamba.devices import check_device, resolve_device
from clipmamba.errors import InputError
from clipmamba.pipelines.companions import Companions, StyleFinder
from clipmamba.pipelines.keywords import suggest_keywords
from clipmamba.pipelines.options import StylizeOptions
from clipmamba.pipelines.pipeline import StylizePipeline
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

logger = logging.getLogger("clipmamba")


@suggest_keywords
def stylize(
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
    preserve_color: bool = StylizeOptions.preserve_color,
    stroke: float = StylizeOptions.stroke,
    detail: float | None = StylizeOptions.detail,
    grain: bool = StylizeOptions.grain,
    max_size: int | None = StylizeOptions.max_size,
    tile: int | Literal["auto"] | None = StylizeOptions.tile,
    variants: int = StylizeOptions.variants,
    captioner: Name | Captioner | None = None,
    style_from: Name | StylePainter | None = None,
    finish: Name | Finish | None = None,
    segmenter: Name | Segmenter | None = None,
    callback: Callable[[float, int], None] | None = None,
) -> Any:
    """Restyle a picture from words or from another picture.

        stylize("photo.jpg", "ukiyo-e").save("print.png")
        stylize("photo.jpg", ["ukiyo-e:0.7", "watercolor:0.3"], preserve_color=True)

    The models stay loaded, so that a second call is fast; threads may call it side by side.

    Args:
        img: a path, bytes, an open file or a PIL image (gives a PIL image), an array (H, W, 3 or
            4; gives an array of its type) or a float tensor (3, H, W) or (B, 3, H, W) in [0, 1]
            (gives a tensor, differentiable), or a list of these (gives a list).
        text: words for the style, or several to mix; "ukiyo-e:0.7" carries a weight.
        style_image: a picture that shows it, of any of the kinds above, or several.
        strength: 0 gives the photo back unchanged, 1 the full style, up to 1.5 exaggerates.
        seed: chooses among the variants of a text; the same seed gives the same bytes.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        model: a folder written by :meth:`StylizePipeline.save_pretrained`; None for the default.
        prompt: the same as ``text``, by the pipeline's name for it.
        style: see :meth:`StylizePipeline.__call__`, as for all that follow.
        avoid: words that the style is moved away from.
        source: words for what is shown, so that it is not taken for style. "auto" asks
            ``captioner``: what the style pictures show, or the photo where there are none.
        templates: sentences around the words.
        mask: white where the photo is restyled; or words for a part, as "person"; several in a
            list are joined.
        regions: pairs of a mask or a part and a style, or a mapping: {"sky": "starry night"}.
        keep: a mask or a part that stays the photo, or a list of these: ["face"].
        faces: "keep" them the photo, "soften" the style in them to a half, or "style" them.
        preserve_color: keep the photo's colors.
        stroke: size of strokes beside the usual, 0.5 to 2.
        detail: size of strokes whatever the size of the photo.
        grain: give the network noise.
        max_size: longest side of the result.
        tile: longest side of the tiles of a large picture.
        variants: how many pictures of each photo.
        captioner: for source "auto": a folder or a hub's name of a captioner of transformers, or
            a function from a PIL image to words; None for BLIP.
        style_from: a folder or a hub's name of a text-to-image pipeline of diffusers, or a
            function from words and a seed to a PIL image: draws the style picture for the words,
            which then serves in their place.
        finish: a folder or a hub's name of an image-to-image pipeline of diffusers, with a
            strength as in "NAME:0.2", or a function (:meth:`StylizePipeline.__call__`): repaints
            the result a little.
        segmenter: a folder or a hub's name of CLIPSeg, or of another segmenter of transformers, or
            a function from a PIL image and words to a tensor (h, w) in [0, 1]: finds the parts.
            None: sky, and with the extra ``regions`` face, person and background.
        callback: called with the number of pictures done, and their total.

    Returns:
        The restyled picture, as large as the photo; a list for a list or for several variants.

    Raises:
        InputError: an option or a picture can't be used, a package is missing, nothing finds a
            part, or a safety checker refuses a picture.
        WeightsError: weights are missing or damaged.
        TypeError: there is no such keyword.
    """
    prompt = _either(text, prompt)
    # What can be wrong is said before torch and the models take their seconds.
    options = StylizeOptions(
        strength, preserve_color, stroke, detail, grain, max_size, tile, seed, variants
    )
    request = None
    if type(style).__name__ != "ResolvedStyle":  # which only somebody with torch can have
        request = StyleRequest.parse(
            prompt, style_image, style, avoid, source, templates, mask, regions, keep, faces
        )
        _check_files(img, request)
    check_device(device)
    companions = Companions.of(request, captioner, style_from, finish, device, segmenter)
    pipeline = _pipeline(model, device)
    if request is not None and (request.parts or not companions.read_nothing):
        seeds = options.seeds
        find = StyleFinder(pipeline, request, seeds, companions)

        def style_of(photo: Picture, turn: int) -> ResolvedStyle:
            found = find(photo, seeds[turn])
            for words in found.missing if turn == 0 else ():
                logger.warning("no %s was found in the photo", words)
            return found.style

        made = pipeline.restyle(img, style_of, len(seeds), options, companions.finish, callback)
    else:
        made = pipeline(
            img, prompt=prompt, style_image=style_image, style=style, avoid=avoid, source=source,
            templates=templates, mask=mask, regions=regions, keep=keep, faces=faces,
            strength=strength, preserve_color=preserve_color, stroke=stroke, detail=detail,
            grain=grain, max_size=max_size, tile=tile, seed=seed, variants=variants,
            finish=companions.finish, callback=callback,
        )  # fmt: skip
    images = made.images
    return images if isinstance(img, list | tuple) or not isinstance(images, list) else images[0]


def _either(text: Any, prompt: Any) -> Any:
    if text is not None and prompt is not None:
        raise InputError("text and prompt are the same: give one of them")
    return prompt if text is None else text


def warm_up(
    model: str | os.PathLike[str] | None = None, device: str | torch.device = "auto"
) -> None:
    """Load what `stylize` will use and run it once, before the first photo comes.

    Raises:
        InputError: there is no such device.
        WeightsError: weights are missing or damaged.
    """
    _pipeline(model, device).warm_up()


def _pipeline(model: str | os.PathLike[str] | None, device: str | torch.device) -> StylizePipeline:
    """The pipeline of a folder and a device, loaded once, whatever the number of threads."""
    where = str(resolve_device(device))
    from clipmamba.weights import loading

    with loading():  # of threads that come at once, the others find what the first has loaded
        return _cached_pipeline(None if model is None else os.fspath(model), where)


@lru_cache(maxsize=2)
def _cached_pipeline(model: str | None, device: str) -> StylizePipeline:
    return StylizePipeline.from_pretrained(model, device)


def _check_files(img: Any, request: StyleRequest) -> None:
    """Refuse files that are not there."""
    images = img if isinstance(img, list | tuple) else [img]
    named = [("picture", image) for image in images if isinstance(image, str | os.PathLike)]
    for kind, file in [*named, *request.files]:
        if kind == "style file":
            check_style_file(file)
        elif not os.path.exists(file):
            raise InputError(f"no such file: {os.fspath(file)}")

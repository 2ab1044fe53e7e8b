"""The one line of the house: photo and words in, picture out.

Torch and the models are imported inside the functions: the command line checks its options with
this module and must answer at once.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from PIL import Image

from clipmamba.errors import InputError, WeightsError
from clipmamba.io.color import from_srgb, to_srgb
from clipmamba.io.mask import read_mask
from clipmamba.io.picture import read_picture
from clipmamba.pipelines.options import StylizeOptions
from clipmamba.styles.request import StyleRequest
from clipmamba.weights import ROOT, released, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from numpy.typing import NDArray

    from clipmamba.clip import Clip
    from clipmamba.models import Stylizer
    from clipmamba.styles import Style, StylePrior

    Picture = str | os.PathLike[str] | Image.Image | NDArray[Any] | torch.Tensor
    Styles = list[tuple[torch.Tensor, Picture | None]]  # points (1, E), each with its mask

_STYLE_OPTIONS = ("style_image", "style", "avoid", "source", "templates", "mask", "regions")
_INDEX = "model_index.json"
_MARGIN = 16  # pixels shown to the network beyond each edge, where its scans have seen nothing yet
_DEVICE = re.compile(r"auto|cpu|mps|(cuda|xpu)(:\d+)?")


@dataclasses.dataclass
class StylizeOutput:
    """What a pipeline returns.

    Attributes:
        images: one picture for each input, of the input's kind; for a batch tensor (B, 3, H, W)
            a tensor of that shape. With several variants a list of them in place of each picture.
    """

    images: Any


class StylizePipeline:
    """Restyle pictures with one stylizer, one CLIP and one style prior.

    Args:
        stylizer: the network that bends a photo towards a style point.
        clip: gives words and pictures their point.
        prior: carries a text's point to where pictures of that style lie.
        guidance: how far each style is driven away from the middle of all that ``prior`` knows, as
            a factor; 1 as the stylizer was trained.

    Raises:
        WeightsError: the stylizer was trained for style points of another width than ``clip``'s, or
            a guidance is wanted of a prior that knows no styles.
    """

    def __init__(
        self, stylizer: Stylizer, clip: Clip, prior: StylePrior, guidance: float = 1.0
    ) -> None:
        from torch.nn import functional

        if stylizer.config["style_dim"] != clip.embed_dim:
            raise WeightsError(
                f"the stylizer wants style points of {stylizer.config['style_dim']} numbers, "
                f"CLIP {clip.name!r} gives {clip.embed_dim}; use the CLIP it was trained with"
            )
        if guidance != 1 and not prior.known:
            raise WeightsError(
                f"a guidance of {guidance:g} needs a style prior that knows styles; fit one anew"
            )
        self.stylizer = stylizer
        self.clip = clip
        self.prior = prior
        self.guidance = guidance
        points = functional.normalize(prior.pictures, dim=1)
        stylizer.style.guide(points.to(self.device), guidance)

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
        root = ROOT if path is None else Path(path)
        if path is None:
            for weights in released(root):
                verify(weights, root)
        clip_name, guidance = read_index(root)

        from clipmamba.clip import Clip
        from clipmamba.models import Stylizer
        from clipmamba.styles import StylePrior

        clip = Clip.from_pretrained(clip_name, device=target)
        prior = StylePrior.load(root / "prior", clip)
        # Resolved: a path like "my-model/stylizer" could be a repository of the hub's.
        stylizer = Stylizer.from_pretrained((root / "stylizer").resolve()).to(target)
        return cls(stylizer.eval().requires_grad_(False), clip, prior, guidance)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``stylizer/``, ``prior/`` and a ``model_index.json``: the CLIP, the guidance.

        Args:
            folder: created if missing.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.stylizer.save_pretrained(folder / "stylizer")
        self.prior.save(folder / "prior")
        index = {
            "_class_name": type(self).__name__,
            "clip": self.clip.name,
            "guidance": self.guidance,
        }
        (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    @property
    def device(self) -> torch.device:
        """Where the stylizer computes."""
        return cast("torch.device", next(self.stylizer.parameters()).device)

    def encode_style(
        self,
        prompt: str | Sequence[str] | None = None,
        style_image: Picture | Sequence[Picture] | None = None,
        seed: int | None = None,
        *,
        style: Any = None,
        avoid: str | None = None,
        source: str | None = None,
        templates: str | Sequence[str] | None = None,
    ) -> torch.Tensor:
        """Find the point of a style in CLIP's space.

        Args:
            prompt: words for the style, or several; "ukiyo-e:0.7" carries a weight.
            style_image: a picture that shows it, or several.
            seed: another seed gives another, equally fitting, point for the same words.
            style: a `Style`, a file saved from one, or several.
            avoid: words that the style is moved away from.
            source: words for what is shown, so that it is not taken for style.
            templates: sentences around the words, with {} in their place, instead of the usual.

        Returns:
            (1, E), unit length. Differentiable in a single ``style_image`` that is a tensor.

        Raises:
            InputError: nothing given, an empty prompt, an unreadable picture.
        """
        request = StyleRequest.parse(prompt, style_image, style, avoid, source, templates)
        return self._resolve(request, StylizeOptions(seed=seed).seed)

    def _resolve(self, request: StyleRequest, seed: int | None) -> torch.Tensor:
        mixed = request.prompts or request.styles or request.avoid or request.source
        if len(request.pictures) == 1 and not mixed:  # keeps the gradient of a tensor
            from torch.nn import functional

            from clipmamba.clip import encode_picture

            [(picture, _)] = request.pictures
            with _grad_only_for(picture):
                rows = encode_picture(self.clip, self._tensor(picture))
                return functional.normalize(rows.mean(0, keepdim=True), dim=1)
        style = request.resolve(self.clip, self.prior, seed, self._tensor)
        return style.embedding[None]

    def __call__(
        self,
        images: Picture | Sequence[Picture],
        *,
        prompt: str | Sequence[str] | None = None,
        style_image: Picture | Sequence[Picture] | None = None,
        style: Any = None,
        avoid: str | None = None,
        source: str | None = None,
        templates: str | Sequence[str] | None = None,
        mask: Picture | None = None,
        regions: Sequence[tuple[Picture, str | Style]] = (),
        callback: Callable[[float, int], None] | None = None,
        **options: Any,
    ) -> StylizeOutput:
        """Restyle one picture or several.

        Args:
            images: a path, a PIL image, an array (H, W, 3 or 4; unsigned integers, or floats in
                [0, 1]), a float tensor (3, H, W) or (B, 3, H, W) in [0, 1], or a list of these.
            prompt: words for the style, or several to mix; "ukiyo-e:0.7" carries a weight.
            style_image: a picture that shows the style, or several; mixed with the words.
            style: a `Style`, a file saved from one, or several; mixed with the rest.
            avoid: words that the style is moved away from.
            source: words for what is shown, so that it is not taken for style.
            templates: sentences around the words, with {} in their place, instead of the usual.
            mask: white where the photo is restyled, black where it stays, grey between.
            regions: pairs of a mask and the words (or `Style`) for that part, later ones over
                earlier ones; without another style the rest stays the photo.
            callback: called with the number of pictures done, parts of a tiled one included, and
                their total.
            options: see `StylizeOptions`: strength, preserve_color, detail, grain, max_size, tile,
                seed, variants.

        Returns:
            Pictures of the inputs' kind and type, as large as they are unless ``max_size`` says
            otherwise (a path gives a PIL image). Tensors stay differentiable down to their pixels.

        Raises:
            InputError: an option or a picture can't be used.
            TypeError: there is no such option.
        """
        chosen = StylizeOptions(**options)
        requests = style_requests(
            prompt, style_image, style, avoid, source, templates, mask, regions
        )
        points = {
            seed: [(self._resolve(request, seed), part) for request, part in requests]
            for seed in chosen.seeds
        }
        batch = list(images) if isinstance(images, list | tuple) else [images]
        total = len(batch) * chosen.variants
        results: list[Any] = []
        for image in batch:
            made: list[Any] = []
            for seed in chosen.seeds:
                one = dataclasses.replace(chosen, seed=seed, variants=1)
                before = len(results) * chosen.variants + len(made)

                def tell(part: float, before: int = before) -> None:
                    if callback is not None:
                        callback(before + part, total)

                made.append(self._one(cast("Picture", image), points[seed], one, tell))
                tell(1)
            results.append(made if chosen.variants > 1 else made[0])
        alone = not isinstance(images, list | tuple)
        if alone and getattr(results[0], "ndim", 0) == 4:
            return StylizeOutput(results[0])
        return StylizeOutput(results)

    def _one(
        self, image: Picture, styles: Styles, options: StylizeOptions, tell: Callable[[float], None]
    ) -> Any:
        """Restyle one picture of any kind; at strength 0 hand out a copy of it."""
        import numpy as np
        import torch

        from clipmamba.io.convert import array_to_tensor, tensor_to_array
        from clipmamba.pipelines.compose import resize

        with _grad_only_for(image):
            if isinstance(image, torch.Tensor):
                photo = self._tensor(image)
                if options.strength == 0 and options.max_size is None:
                    return image.clone()
                made = self._restyle(photo, styles, options, tell)
                return made.to(image.device, image.dtype).reshape(
                    *image.shape[:-2], *made.shape[2:]
                )
            if isinstance(image, np.ndarray):
                photo = self._tensor(image)
                if options.strength == 0 and options.max_size is None:
                    return image.copy()
                made = self._restyle(photo, styles, options, tell)
                result = tensor_to_array(made, image.dtype)
                if image.shape[2] == 3:
                    return result
                opacity = image[..., 3:]
                if opacity.shape[:2] != result.shape[:2]:
                    smaller = resize(array_to_tensor(opacity), *result.shape[:2]).clamp(0, 1)
                    opacity = tensor_to_array(smaller, image.dtype)
                return np.concatenate([result, opacity], axis=-1)

            picture = read_picture(image)
            size = options.result_size(*picture.size)
            if options.strength == 0 and size == picture.size:
                return picture
            pixels, alpha = to_srgb(picture)
            photo = array_to_tensor(pixels).to(self.device)
            del pixels  # a large picture's memory counts
            made = self._restyle(photo, styles, options, tell)
            untouched = None
            if size == picture.size and all(part is not None for _, part in styles):
                untouched = (made == photo).all(1)[0].cpu().numpy()
            del photo
            result = tensor_to_array(made, np.dtype(np.float32))
            if alpha is not None and alpha.size != size:
                alpha = alpha.resize(size, Image.Resampling.BOX)
            return from_srgb(result, alpha, like=picture, untouched=untouched)

    def _restyle(
        self,
        photo: torch.Tensor,
        styles: Styles,
        options: StylizeOptions,
        tell: Callable[[float], None],
    ) -> torch.Tensor:
        """Lay every style over (B, 3, H, W), each where its mask is."""
        import torch

        from clipmamba.pipelines.compose import keep_color, lay_over, resize

        width, height = options.result_size(photo.shape[3], photo.shape[2])
        photo = resize(photo, height, width)
        if options.max_size is not None:
            photo = photo.clamp(0, 1)
        picture = photo
        if options.strength == 0:
            return picture
        for number, (point, part) in enumerate(styles):
            area = None
            if part is not None:
                values = self._mask(part, (width, height))
                area = torch.from_numpy(values)[None, None].to(photo.device)

            def tell_tile(done: float, number: int = number) -> None:
                tell(0.99 * (number + done) / len(styles))  # not all before it is all

            restyled = _into_gamut(self._run(photo, point, options, tell_tile))
            if options.preserve_color:
                restyled = keep_color(restyled, photo)
            restyled = torch.lerp(photo, restyled, float(options.strength)).clamp_(0, 1)
            picture = restyled if area is None else lay_over(picture, restyled, area)
        return picture

    def _run(
        self,
        photo: torch.Tensor,
        point: torch.Tensor,
        options: StylizeOptions,
        tell: Callable[[float], None],
    ) -> torch.Tensor:
        """The network at its working size; its change is carried to the photo's own size."""
        from torch.nn import functional

        from clipmamba.pipelines.compose import resize
        from clipmamba.pipelines.tiles import restyle_in_tiles

        height, width = photo.shape[2:]
        scale = options.working_scale(width, height)
        small = resize(photo, max(1, round(height * scale)), max(1, round(width * scale)))
        seen = functional.pad(small, (_MARGIN,) * 4, mode="replicate")
        points = point.to(seen).expand(len(seen), -1)
        noise = self.stylizer.draw_noise(seen.shape[2], seen.shape[3], int(options.seed or 0))
        noise *= options.grain
        tile = options.tile_side(small.shape[3], small.shape[2])
        if tile is None:
            restyled = self.stylizer(seen, points, noise)
        else:
            restyled = restyle_in_tiles(self.stylizer, seen, points, noise, tile, tell)
        restyled = restyled[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        if small.shape == photo.shape:
            return cast("torch.Tensor", restyled)
        return photo + resize(restyled - small, height, width)

    def _mask(self, part: Picture, size: tuple[int, int]) -> Any:
        """A mask of any kind as (H, W) in [0, 1]."""
        import numpy as np
        import torch

        from clipmamba.io.convert import array_to_tensor, tensor_to_array

        if isinstance(part, torch.Tensor):
            part = part.detach().cpu().numpy()
        if isinstance(part, np.ndarray):
            values = part.squeeze()
            if values.ndim != 2:
                raise InputError(f"a mask must be (H, W), not {part.shape}")
            if values.dtype == np.bool_:
                values = values.astype(np.float32)
            shades = array_to_tensor(values[..., None]).clamp(0, 1)
            part = Image.fromarray(tensor_to_array(shades, np.dtype(np.uint8))[..., 0])
        return read_mask(part, size)

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
    img: Picture | Sequence[Picture],
    text: str | Sequence[str] | None = None,
    style_image: Picture | Sequence[Picture] | None = None,
    strength: float = 1.0,
    seed: int | None = None,
    device: str = "auto",
    model: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Any:
    """Restyle a picture from words or from another picture.

        stylize("photo.jpg", "ukiyo-e").save("print.png")
        stylize("photo.jpg", ["ukiyo-e:0.7", "watercolor:0.3"], preserve_color=True)

    The models stay loaded, so that a second call is fast.

    Args:
        img: a path or PIL image (gives a PIL image), an array (H, W, 3 or 4; gives an array of
            its type) or a float tensor (3, H, W) or (B, 3, H, W) in [0, 1] (gives a tensor,
            differentiable), or a list of these (gives a list).
        text: words for the style, or several to mix; "ukiyo-e:0.7" carries a weight.
        style_image: a picture that shows it, of any of the kinds above, or several.
        strength: 0 gives the photo back unchanged, 1 the full style, up to 1.5 exaggerates.
        seed: chooses among the variants of a text; the same seed gives the same bytes.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        model: a folder written by :meth:`StylizePipeline.save_pretrained`; None for the default.
        options: everything else that :meth:`StylizePipeline.__call__` takes: style, avoid,
            source, templates, mask, regions, callback, preserve_color, detail, grain, max_size,
            tile, variants.

    Returns:
        The restyled picture, as large as the photo; a list for a list or for several variants.

    Raises:
        InputError: an option or a picture can't be used.
        WeightsError: weights are missing or damaged.
    """
    asked = {"style_image": style_image, **options}
    style_requests(text, **{name: asked[name] for name in _STYLE_OPTIONS if name in asked})
    fields = {field.name for field in dataclasses.fields(StylizeOptions)}
    values = {name: value for name, value in options.items() if name in fields}
    StylizeOptions(strength=strength, seed=seed, **values)
    pipeline = _cached_pipeline(
        None if model is None else os.fspath(model), str(resolve_device(device))
    )
    images = pipeline(
        img, prompt=text, style_image=style_image, strength=strength, seed=seed, **options
    ).images
    return images if isinstance(img, list | tuple) or not isinstance(images, list) else images[0]


@lru_cache(maxsize=2)
def _cached_pipeline(model: str | None, device: str) -> StylizePipeline:
    return StylizePipeline.from_pretrained(model, device)


def style_requests(
    prompt: str | Sequence[str] | None = None,
    style_image: Any = None,
    style: Any = None,
    avoid: str | None = None,
    source: str | None = None,
    templates: str | Sequence[str] | None = None,
    mask: Any = None,
    regions: Sequence[tuple[Any, Any]] = (),
) -> list[tuple[StyleRequest, Any]]:
    """Read what is asked for, where; needs no torch and no weights.

    Returns:
        Requests, each with its mask (None for the whole picture), to be laid over one another.

    Raises:
        InputError: no style at all, an empty prompt, a weight that is not above 0, a mask without
            a style of its own.
    """
    requests: list[tuple[StyleRequest, Any]] = []
    if not regions or any(given is not None for given in (prompt, style_image, style)):
        whole = StyleRequest.parse(prompt, style_image, style, avoid, source, templates)
        requests.append((whole, mask))
    elif mask is not None:
        raise InputError("a mask needs a style of its own: add a prompt or a style image")
    for area, words in regions:
        named = {"prompt": words} if isinstance(words, str) else {"style": words}
        part = StyleRequest.parse(**named, avoid=avoid, source=source, templates=templates)
        requests.append((part, area))
    return requests


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


def read_index(folder: Path) -> tuple[str, float]:
    """Read a saved pipeline's index; needs no torch.

    Returns:
        The name of the CLIP it was trained with, and its guidance: 1 where the index has none.

    Raises:
        WeightsError: not a folder that :meth:`StylizePipeline.save_pretrained` wrote.
    """
    remedy = "give a folder written by StylizePipeline.save_pretrained"
    if not folder.is_dir():
        raise WeightsError(f"no model folder {folder}; {remedy}")
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        name, guidance = index["clip"], index.get("guidance", 1.0)
    except FileNotFoundError:
        raise WeightsError(f"no {_INDEX} in {folder}; {remedy}") from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise WeightsError(f"can't use {folder / _INDEX}: it names no clip; {remedy}") from error
    if not isinstance(name, str):
        raise WeightsError(f"can't use {folder / _INDEX}: clip must be a name; {remedy}")
    if not isinstance(guidance, int | float) or not 0 < guidance < math.inf:
        raise WeightsError(
            f"can't use {folder / _INDEX}: guidance must be a number above 0, not {guidance!r}"
        )
    return name, float(guidance)


def _into_gamut(picture: torch.Tensor) -> torch.Tensor:
    """`into_gamut`, some rows at a time: of a large picture each step's memory counts."""
    import torch

    from clipmamba.models.gamut import into_gamut

    return torch.cat([into_gamut(rows) for rows in torch.split(picture, 256, dim=2)], dim=2)


def _grad_only_for(image: object) -> torch.set_grad_enabled:
    """Give gradients to tensors if the caller wants any; save their memory for all else."""
    import torch

    return torch.set_grad_enabled(torch.is_grad_enabled() and isinstance(image, torch.Tensor))

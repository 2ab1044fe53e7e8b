"""`StylizePipeline`: a stylizer, a CLIP model and a prior, loaded and ready to restyle pictures.

torch and the models are imported inside the functions, since the command line imports this module
and must start quickly.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from clipmamba.devices import resolve_device
from clipmamba.errors import WeightsError
from clipmamba.pipelines.ask import read_style
from clipmamba.pipelines.companions import Companions, StyleFinder, read_streams
from clipmamba.pipelines.keywords import suggest_keywords
from clipmamba.pipelines.options import StylizeOptions
from clipmamba.pipelines.refine.options import Refinement, RefineOptions
from clipmamba.pipelines.saved import check_guidance, read_index, write_index
from clipmamba.styles.request import Part, StyleRequest
from clipmamba.weights import ROOT, loading, released, verify

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from clipmamba.clip import Clip
    from clipmamba.models import Stylizer
    from clipmamba.models.view import StylizerView
    from clipmamba.pipelines.companions import Finish
    from clipmamba.pipelines.paint import Painter
    from clipmamba.pipelines.photo import Photo, Picture
    from clipmamba.styles import Style, StylePrior
    from clipmamba.styles.request import Regions
    from clipmamba.styles.resolve import ResolvedStyle

    Styles = Style | str | os.PathLike[str]

logger = logging.getLogger("clipmamba")


@dataclasses.dataclass
class StylizeOutput:
    """The output of a pipeline.

    Attributes:
        images: one picture per input, of the input's kind; for a batch tensor (B, 3, H, W), a
            tensor of that shape. With several variants, a list of them in place of each picture.
        refinements: what each refinement gained, in order, one per picture, variant and layer of
            the style; none without ``refine``.
    """

    images: Any
    refinements: list[Refinement] = dataclasses.field(default_factory=list)


class StylizePipeline:
    """Restyles pictures with a stylizer, a CLIP model and a style prior.

    None of the three is changed: several pipelines may share them, and several threads may call
    one pipeline.

    Args:
        stylizer: the network that restyles a photo, conditioned on a style embedding.
        clip: embeds words and pictures.
        prior: maps a text embedding to where images of that style lie.
        guidance: factor by which styles are extrapolated away from the mean of all styles that
            ``prior`` knows; above 0 and at most 10, 1 as trained.

    Raises:
        WeightsError: the stylizer's style width differs from ``clip``'s embedding width; or
            ``guidance`` is out of range, or is not 1 and ``prior`` knows no styles.

    Examples:
        >>> import numpy as np
        >>> pipe = StylizePipeline.from_pretrained()
        >>> photos = [np.zeros((48, 64, 3), np.uint8), np.full((32, 40, 3), 0.5)]
        >>> output = pipe(photos, prompt="stained glass", seed=7)
        >>> [(picture.shape, str(picture.dtype)) for picture in output.images]
        [((48, 64, 3), 'uint8'), ((32, 40, 3), 'float64')]
    """

    def __init__(
        self,
        stylizer: Stylizer,
        clip: Clip,
        prior: StylePrior,
        guidance: float = 1.0,
    ) -> None:
        import torch
        from torch.nn import functional

        from clipmamba.models.stylizer import Guidance

        check_guidance(guidance)
        if stylizer.config.style_dim != clip.embed_dim:
            raise WeightsError(
                f"the stylizer needs style embeddings of width {stylizer.config.style_dim}, "
                f"CLIP {clip.name!r} gives {clip.embed_dim}; use the CLIP it was trained with"
            )
        if guidance != 1 and not prior.known:
            raise WeightsError(
                f"a guidance of {guidance:g} needs a style prior with known texts; fit a new one"
            )
        self.stylizer = stylizer
        self.clip = clip
        self.prior = prior
        self.guidance = guidance
        self._network_for: Callable[[int, float], Any] | None = None
        with loading():
            points = functional.normalize(prior.pictures, dim=1).to(self.device)
            with torch.no_grad():
                self._guidance = Guidance(guidance, stylizer.middle_code(points))

    @classmethod
    def from_pretrained(
        cls, path: str | os.PathLike[str] | None = None, device: str | torch.device = "auto"
    ) -> StylizePipeline:
        """Load a pipeline, frozen and ready.

        Threads may load concurrently. The caller's context (inference mode, autocast, default
        device or dtype) does not affect the loaded models.

        Args:
            path: a folder written by :meth:`save_pretrained`, or, if there is no such folder, the
                name of a model of the Hub such as "user/name@v1"; None for the default weights.
            device: "auto" (CUDA if available, else the CPU), "cpu", "cuda", "cuda:1" or "mps".

        Returns:
            The pipeline on ``device``, in float32.

        Raises:
            InputError: the device is invalid or missing.
            WeightsError: weights are missing, damaged, not finite or do not fit.
        """
        target = resolve_device(device)
        with loading():
            if path is None:
                for weights in released(ROOT):
                    verify(weights, ROOT)
            clip_name, guidance, root = read_index(ROOT if path is None else path)

            from clipmamba.clip import Clip
            from clipmamba.models import Stylizer
            from clipmamba.styles import StylePrior

            clip = Clip.from_pretrained(clip_name, device=target)
            prior = StylePrior.load(root / "prior", clip)
            # Resolved, since a path like "my-model/stylizer" could be the name of a Hub repository.
            stylizer = Stylizer.from_pretrained((root / "stylizer").resolve()).to(target)
            return cls(stylizer.requires_grad_(False), clip, prior, guidance)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Save ``stylizer/``, ``prior/`` and ``model_index.json`` (CLIP name and guidance).

        Args:
            folder: where to; created if missing.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.stylizer.save_pretrained(folder / "stylizer")
        self.prior.save(folder / "prior")
        write_index(folder, self.clip.name, self.guidance)

    def warm_up(self, width: int = 256, height: int = 256) -> None:
        """Restyle a plain picture, so that one-time costs do not fall on the first photo."""
        import torch

        photo = torch.full((1, 3, height, width), 0.5, dtype=torch.float32, device=self.device)
        with torch.no_grad():
            self(photo, prompt="watercolor")

    @property
    def device(self) -> torch.device:
        """The stylizer's device."""
        return next(self.stylizer.parameters()).device

    @property
    def network(self) -> StylizerView:
        """The stylizer as this pipeline runs it: shared parameters, with guidance applied."""
        from clipmamba.models.stylizer import NATIVE_SIDE

        return self.network_for(NATIVE_SIDE)

    def network_for(self, side: int, stroke: float = 1.0) -> StylizerView:
        """Return `network` for inputs of a given size.

        Args:
            side: longest side of the inputs, in pixels.
            stroke: stroke size relative to the default.
        """
        import torch

        from clipmamba.models.stylizer import stroke_for_network
        from clipmamba.models.view import StylizerView

        if self._network_for is not None:
            return cast("StylizerView", self._network_for(side, stroke))
        asked = torch.tensor(stroke, dtype=torch.float32, device="cpu")
        return StylizerView(self.stylizer, stroke_for_network(asked, side).item(), self._guidance)

    def with_network(self, network_for: Callable[[int, float], Any]) -> StylizePipeline:
        """Make a pipeline of the same parts with another network, such as one with memory.

        Args:
            network_for: replaces the method of that name.
        """
        other = copy.copy(self)
        other._network_for = network_for
        return other

    def with_stylizer(self, stylizer: Stylizer) -> StylizePipeline:
        """Make a pipeline of the same parts, the same guidance too, around other parameters.

        Args:
            stylizer: of the same sizes, such as a view by `nn.overlay`.
        """
        other = copy.copy(self)
        other.stylizer = stylizer
        return other

    def prepare(
        self, request: StyleRequest, seeds: Sequence[int | None] = (None,)
    ) -> ResolvedStyle:
        """Resolve a style once for any number of photos.

            style = pipe.prepare(StyleRequest.parse("ukiyo-e"))
            for photo in photos:
                pipe(photo, style=style)

        Args:
            request: the requested style.
            seeds: the seeds of the variants; None is the default variant.

        Raises:
            InputError: a picture can't be read, or styles cancel or belong to another CLIP model.
        """
        from clipmamba.pipelines.photo import Mask, Photo
        from clipmamba.styles.resolve import resolve_style

        def to_tensor(picture: Picture | Photo) -> Tensor:
            return Photo.open(picture).tensor.to(self.device)

        request = read_streams(request)
        style = resolve_style(request, self.clip, self.prior, seeds, to_tensor)
        return style.with_masks(lambda area: area if isinstance(area, Part | Mask) else Mask(area))

    def encode_style(
        self,
        prompt: str | Sequence[str] | None = None,
        style_image: Picture | Sequence[Picture] | None = None,
        seed: int | None = None,
        *,
        style: Styles | Sequence[Styles] | None = None,
        avoid: str | None = None,
        source: str | None = None,
        templates: str | Sequence[str] | None = None,
    ) -> Tensor:
        """Embed a style in CLIP's space.

        Args:
            prompt: a prompt, or several to mix; "ukiyo-e:0.7" carries a weight.
            style_image: a picture in the desired style, or several.
            seed: each seed gives another, equally fitting embedding of the same words.
            style: a `Style`, a file saved from one, or several.
            avoid: a style to move away from, in words.
            source: a caption of what is shown, to be removed from the style.
            templates: templates for the prompts, with {} where they go, instead of the default.

        Returns:
            (1, E), unit length. Differentiable in a ``style_image`` that is a tensor.

        Raises:
            InputError: no style is given, a prompt is empty, or a picture can't be read.
        """
        request = StyleRequest.parse(prompt, style_image, style, avoid, source, templates)
        seed = StylizeOptions(seed=seed).seed
        [layer] = self.prepare(request, [seed]).layers
        return layer.styles[seed].embedding[None]

    @suggest_keywords
    def __call__(
        self,
        images: Picture | Sequence[Picture],
        *,
        prompt: str | Sequence[str] | None = None,
        style_image: Picture | Sequence[Picture] | None = None,
        style: Styles | Sequence[Styles] | ResolvedStyle | None = None,
        avoid: str | None = None,
        source: str | None = None,
        templates: str | Sequence[str] | None = None,
        mask: Picture | Sequence[Picture] | None = None,
        regions: Regions = (),
        keep: Picture | Sequence[Picture] | None = None,
        faces: Literal["keep", "soften", "style"] = "style",
        strength: float = StylizeOptions.strength,
        preserve_color: bool | None = StylizeOptions.preserve_color,
        stroke: float = StylizeOptions.stroke,
        detail: float | None = StylizeOptions.detail,
        grain: bool = StylizeOptions.grain,
        max_size: int | None = StylizeOptions.max_size,
        tile: int | Literal["auto"] | None = StylizeOptions.tile,
        seed: int | None = StylizeOptions.seed,
        variants: int = StylizeOptions.variants,
        finish: Finish | None = None,
        refine: int | RefineOptions = 0,
        callback: Callable[[float, int], None] | None = None,
    ) -> StylizeOutput:
        """Restyle one picture or several.

        Args:
            images: what :meth:`Photo.open` takes (a path, bytes, a PIL image, an array, a tensor),
                or a list of these.
            prompt: a prompt, or several to mix; "ukiyo-e:0.7" carries a weight.
            style_image: a picture in the desired style, or several; mixed with the prompts.
            style: a `Style`, a file saved from one, or several; mixed with the rest. Or, on its
                own, the result of :meth:`prepare`; without ``seed`` and ``variants``, all of its
                variants are made.
            avoid: a style to move away from, in words.
            source: a caption of what is shown, to be removed from the style.
            templates: templates for the prompts, with {} where they go, instead of the default.
            mask: white where the photo is restyled, black where it is kept, gray to blend; or words
                for a part that is found offline, such as "sky"; several in a list are joined.
            regions: pairs of a mask or part and a prompt, a `Style` or a list of these for it, or a
                mapping; later ones cover earlier ones. Without a style of its own, the rest of the
                photo is kept.
            keep: a mask or part where the photo is kept, whatever covers it, or a list of these.
            faces: "keep" the photo in faces, "soften" the style there by half, or "style" them.
            strength: 0 to 1.5; see `StylizeOptions` for this and the following.
            preserve_color: keep the photo's colors (True) or take the style's (False). By default,
                styles without a palette of their own, such as watercolor, keep most of them.
            stroke: stroke size relative to the default, 0.5 to 2.
            detail: level of detail, independent of the photo's size.
            grain: feed the network the noise that grain and strokes grow from.
            max_size: longest side of the result, in pixels.
            tile: longest side of the tiles of a large picture, in pixels.
            seed: selects among the variants of a prompt.
            variants: number of pictures per photo.
            finish: repaints results, given (photo, picture, seed, words) with tensors
                (B, 3, H, W) in [0, 1], such as `clipmamba.integrations.diffusion.Finisher`. The
                change respects ``strength``, ``preserve_color`` and masks; it has no gradient.
            refine: steps of an optimization that improves each picture, or `RefineOptions`; 0 for
                none.
            callback: called with the number of pictures done, fractions included, and their total.

        Returns:
            Pictures of the inputs' kinds and sizes, unless ``max_size`` reduces them (a path
            returns a PIL image). Tensors are differentiable down to their pixels.

        Raises:
            InputError: an option or a picture can't be used.
            TypeError: a keyword is unknown.
        """
        options = StylizeOptions(
            strength, preserve_color, stroke, detail, grain, max_size, tile, seed, variants
        )
        asked = read_style(
            prompt, style_image, style, avoid, source, templates, mask, regions, keep, faces=faces
        )
        return self.restyle(images, asked, options, Companions(finish=finish), callback, refine)

    def refine(
        self,
        images: Picture | Sequence[Picture],
        style: str | Style | ResolvedStyle | Sequence[str | Style],
        settings: int | RefineOptions | None = None,
        options: StylizeOptions | None = None,
        callback: Callable[[float, int], None] | None = None,
    ) -> StylizeOutput:
        """Restyle pictures, and improve each by an optimization of its own.

        Args:
            images: see `__call__`.
            style: words, a `Style`, or several of these to mix; or what :meth:`prepare` gave, with
                all of its variants.
            settings: `RefineOptions`, or a number of steps; None for the defaults.
            options: strength and the other options; None for the defaults.
            callback: see `__call__`.

        Returns:
            See `__call__`.

        Raises:
            InputError: a setting or a picture can't be used, or the network has no gradients.
            WeightsError: the CLIP that the settings name can't be loaded.
        """
        if isinstance(style, list | tuple):
            words = [part for part in style if isinstance(part, str)]
            asked = read_style(words, None, [part for part in style if not isinstance(part, str)])
        elif isinstance(style, str):
            asked = read_style(style, None, None)
        else:
            asked = read_style(None, None, style)
        settings = RefineOptions() if settings is None else settings
        return self.restyle(
            images, asked, options or StylizeOptions(), callback=callback, refine=settings
        )

    def restyle(
        self,
        images: Picture | Sequence[Picture],
        asked: StyleRequest | ResolvedStyle,
        options: StylizeOptions,
        companions: Companions | None = None,
        callback: Callable[[float, int], None] | None = None,
        refine: int | RefineOptions = 0,
    ) -> StylizeOutput:
        """Restyle like `__call__`, with the keywords bundled into three values.

        Args:
            images: see `__call__`, also for ``callback`` and the output.
            asked: the style, as requested or as prepared.
            options: strength and the other options.
            companions: the optional models.
            callback: see `__call__`.
            refine: see `__call__`.

        Raises:
            InputError: a picture or a style can't be used.
        """
        from clipmamba.pipelines.paint import paint
        from clipmamba.pipelines.photo import Photo

        companions = companions or Companions()
        find = StyleFinder(self.prepare, asked, options.seeds, companions)
        variants = len(find.seeds)
        painter, refinements = paint, []
        if settings := RefineOptions.of(refine):
            from clipmamba.pipelines.refine.refiner import Refiner

            painter = refiner = Refiner(self, settings)
            refinements = refiner.refinements
        several = isinstance(images, list | tuple)
        batch = cast("Sequence[Picture]", images if several else [images])
        total = len(batch) * variants
        results: list[Any] = []
        for number, image in enumerate(batch):
            photo = Photo.open(image)
            made = []
            for turn, seed in enumerate(find.seeds):

                def tell(part: float, before: int = number * variants + turn) -> None:
                    if callback is not None:
                        callback(before + part, total)

                found = find(photo, seed)
                if number == turn == 0 and isinstance(asked, StyleRequest):
                    found.style.warn_if_unfamiliar()
                for note in found.notes if turn == 0 else ():
                    logger.warning(note)
                made.append(
                    self._restyle(photo, found.style, options, companions.finish, tell, painter)
                )
                tell(1)
            results.append(made if variants > 1 else made[0])
        one_tensor = not several and getattr(results[0], "ndim", 0) == 4
        return StylizeOutput(results[0] if one_tensor else results, refinements)

    def _restyle(
        self,
        photo: Photo,
        style: ResolvedStyle,
        options: StylizeOptions,
        finish: Finish | None,
        tell: Callable[[float], None],
        painter: Painter,
    ) -> Any:
        """Apply every layer of a single-variant style to a photo; return the photo's kind."""
        import torch

        from clipmamba.io.convert import resize
        from clipmamba.pipelines.compose import (
            check_finished,
            keep_color,
            lay_over,
            union,
            with_photo_color,
        )
        from clipmamba.pipelines.photo import fit_masks
        from clipmamba.pipelines.pixelate import pixelate

        width, height = size = options.result_size(*photo.size)
        if options.strength == 0 and size == photo.size:
            return photo.give_back(photo.tensor)
        with torch.set_grad_enabled(torch.is_grad_enabled() and photo.differentiable):
            before = resize(photo.tensor.to(self.device), height, width)
            if options.max_size is not None:
                before = before.clamp(0, 1)
            picture = before
            layers = style.layers if options.strength else ()
            areas: list[Tensor | None] = []  # None: everywhere
            in_blocks: list[Tensor | None] = []
            for number, layer in enumerate(layers):
                area = None if layer.mask is None else fit_masks(layer.mask, size).to(before)

                def tell_tile(done: float, number: int = number) -> None:
                    tell(0.99 * (number + done) / len(layers))  # 1 comes when all is done

                restyled = painter(self, before, layer, options, tell_tile)
                [chosen] = layer.styles.values()
                colors = options.preserve_color, chosen.photo_color
                restyled = with_photo_color(restyled, before, *colors)
                if chosen.has_blocks:
                    restyled = pixelate(restyled, options.relative_stroke)
                if options.strength != 1:
                    restyled = torch.lerp(before, restyled, options.strength).clamp_(0, 1)
                picture = restyled if area is None else lay_over(picture, restyled, area)
                if finish is not None:
                    areas.append(area)
                    in_blocks += [area] if chosen.has_blocks else []
            if finish is not None and layers:
                [seed] = style.seeds
                finished = check_finished(finish(before, picture, seed, style.words), picture)
                if options.preserve_color:
                    finished = keep_color(finished, before).clamp(0, 1)
                if in_blocks:
                    blocks = pixelate(finished, options.relative_stroke)
                    finished = lay_over(finished, blocks, union(in_blocks, picture))
                # Blend it in like the style, so that it fades with strength and mask.
                covered = union(areas, picture) * min(options.strength, 1.0)
                picture = lay_over(picture, finished, covered)
            for mask, amount in style.keep:
                picture = lay_over(picture, before, fit_masks(mask, size).to(before) * amount)
            return photo.give_back(picture)

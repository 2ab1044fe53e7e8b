"""The line of the house with its models in hand: photo and style in, picture out.

torch and the models are imported inside the functions: the command line imports this module and
must answer at once.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from clipmamba.devices import resolve_device
from clipmamba.errors import InputError, WeightsError
from clipmamba.pipelines.keywords import suggest_keywords
from clipmamba.pipelines.options import StylizeOptions
from clipmamba.pipelines.saved import check_guidance, read_index, write_index
from clipmamba.styles.request import Part, StyleRequest
from clipmamba.weights import ROOT, loading, released, verify

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from clipmamba.clip import Clip
    from clipmamba.models import Stylizer
    from clipmamba.models.second_design import SecondStylizer, SecondView
    from clipmamba.pipelines.companions import Finish
    from clipmamba.pipelines.photo import Photo, Picture
    from clipmamba.styles import Style, StylePrior
    from clipmamba.styles.request import Regions
    from clipmamba.styles.resolve import ResolvedStyle

    Styles = Style | str | os.PathLike[str]


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

    Nothing of the three is changed: several pipelines may share them, and several threads may call
    one pipeline.

    Args:
        stylizer: the network that bends a photo towards a style point.
        clip: gives words and pictures their point.
        prior: carries a text's point to where pictures of that style lie.
        guidance: how far each style is driven away from the middle of all that ``prior`` knows, as
            a factor; 1 as the stylizer was trained, at most 10.

    Raises:
        WeightsError: the stylizer was trained for style points of another width than ``clip``'s, or
            a guidance is wanted of a prior that knows no styles, or is out of range.
    """

    def __init__(
        self,
        stylizer: Stylizer | SecondStylizer,
        clip: Clip,
        prior: StylePrior,
        guidance: float = 1.0,
    ) -> None:
        from torch.nn import functional

        from clipmamba.pipelines.guided import Guidance

        check_guidance(guidance)
        if stylizer.config.style_dim != clip.embed_dim:
            raise WeightsError(
                f"the stylizer wants style points of {stylizer.config.style_dim} numbers, "
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
        self._network_for: Callable[[int, float], Any] | None = None
        with loading():
            points = functional.normalize(prior.pictures, dim=1).to(self.device)
            self._guidance = Guidance.of(stylizer, points, guidance)

    @classmethod
    def from_pretrained(
        cls, path: str | os.PathLike[str] | None = None, device: str | torch.device = "auto"
    ) -> StylizePipeline:
        """Load a pipeline, frozen and ready.

        Threads may load at the same time, and what the caller's context says (inference mode,
        autocast, default device or dtype) leaves no trace in what is loaded.

        Args:
            path: a folder that :meth:`save_pretrained` wrote; None for the default weights.
            device: "auto" (CUDA if there is one, else the CPU), "cpu", "cuda", "cuda:1", "mps".

        Returns:
            The pipeline on ``device``, in float32.

        Raises:
            InputError: there is no such device here.
            WeightsError: weights are missing, damaged, not finite or do not fit.
        """
        target = resolve_device(device)
        root = ROOT if path is None else Path(path)
        with loading():
            if path is None:
                for weights in released(root):
                    verify(weights, root)
            clip_name, guidance = read_index(root)

            from clipmamba.clip import Clip
            from clipmamba.models import load_stylizer
            from clipmamba.styles import StylePrior

            clip = Clip.from_pretrained(clip_name, device=target)
            prior = StylePrior.load(root / "prior", clip)
            # Resolved: a path like "my-model/stylizer" could be a repository of the hub's.
            stylizer = load_stylizer((root / "stylizer").resolve()).to(target)
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
        write_index(folder, self.clip.name, self.guidance)

    def warm_up(self, width: int = 256, height: int = 256) -> None:
        """Restyle an even picture, so that the first photo does not pay for what is made once."""
        import torch

        photo = torch.full((1, 3, height, width), 0.5, dtype=torch.float32, device=self.device)
        with torch.no_grad():
            self(photo, prompt="watercolor")

    @property
    def device(self) -> torch.device:
        """Where the stylizer computes."""
        return next(self.stylizer.parameters()).device

    @property
    def network(self) -> Stylizer | SecondView:
        """The stylizer as this pipeline runs it: its own parameters, with the guidance applied."""
        return self._guidance.applied(self.stylizer)

    def network_for(self, side: int, stroke: float = 1.0) -> Stylizer | SecondView:
        """`network` for pictures whose longest side it sees with `side` pixels.

        Args:
            side: Pixels.
            stroke: Size of the strokes beside the usual; only the second design takes one.
        """
        if self._network_for is not None:
            return cast("Stylizer | SecondView", self._network_for(side, stroke))
        return self._guidance.applied(self.stylizer, side, stroke)

    def with_network(self, network_for: Callable[[int, float], Any]) -> StylizePipeline:
        """Make a pipeline of the same parts around another network, such as one with a memory.

        Args:
            network_for: takes the place of the method of that name.
        """
        other = copy.copy(self)
        other._network_for = network_for
        return other

    def prepare(
        self, request: StyleRequest, seeds: Sequence[int | None] = (None,)
    ) -> ResolvedStyle:
        """Find the points of a style, once for any number of photos.

            style = pipe.prepare(StyleRequest.parse("ukiyo-e"))
            for photo in photos:
                pipe(photo, style=style)

        Args:
            request: what is asked for.
            seeds: the variants that are wanted; None is the usual one.

        Raises:
            InputError: an unreadable picture, ingredients that cancel or belong to another CLIP.
        """
        from clipmamba.pipelines.photo import Mask, Photo
        from clipmamba.styles.resolve import resolve_style

        def to_tensor(picture: Picture) -> Tensor:
            return Photo.open(picture).tensor.to(self.device)

        style = resolve_style(request, self.clip, self.prior, seeds, to_tensor)
        return style.with_masks(lambda area: area if isinstance(area, Part) else Mask(area))

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
            (1, E), unit length. Differentiable in a ``style_image`` that is a tensor.

        Raises:
            InputError: nothing given, an empty prompt, an unreadable picture.
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
        preserve_color: bool = StylizeOptions.preserve_color,
        stroke: float = StylizeOptions.stroke,
        detail: float | None = StylizeOptions.detail,
        grain: bool = StylizeOptions.grain,
        max_size: int | None = StylizeOptions.max_size,
        tile: int | Literal["auto"] | None = StylizeOptions.tile,
        seed: int | None = StylizeOptions.seed,
        variants: int = StylizeOptions.variants,
        finish: Finish | None = None,
        callback: Callable[[float, int], None] | None = None,
    ) -> StylizeOutput:
        """Restyle one picture or several.

        Args:
            images: what :meth:`Photo.open` takes (a path, bytes, a PIL image, an array, a tensor),
                or a list of these.
            prompt: words for the style, or several to mix; "ukiyo-e:0.7" carries a weight.
            style_image: a picture that shows the style, or several; mixed with the words.
            style: a `Style`, a file saved from one, or several; mixed with the rest. Or alone what
                :meth:`prepare` gave: without ``seed`` and ``variants`` all of its variants.
            avoid: words that the style is moved away from.
            source: words for what is shown, so that it is not taken for style.
            templates: sentences around the words, with {} in their place, instead of the usual.
            mask: white where the photo is restyled, black where it stays, grey between; or words
                for a part that is found offline, as "sky"; several in a list are joined.
            regions: pairs of a mask or a part and the words (or `Style`) for it, or a mapping;
                later ones lie over earlier ones; without another style the rest stays the photo.
            keep: a mask or a part that stays the photo whatever lies over it, or a list of these.
            faces: "keep" them the photo, "soften" the style in them to a half, or "style" them.
            strength: see `StylizeOptions`, as for all that follow.
            preserve_color: keep the photo's colors.
            stroke: size of strokes beside the usual.
            detail: size of strokes whatever the size of the photo.
            grain: give the network the noise that grain and strokes grow from.
            max_size: longest side of the result in pixels.
            tile: longest side of the tiles of a large picture.
            seed: chooses among the variants of a prompt.
            variants: how many pictures of each photo.
            finish: repaints results, given (photo, picture, seed, words) with tensors
                (B, 3, H, W) in [0, 1], as `clipmamba.integrations.diffusion.Finisher`. Its change
                follows ``strength``, ``preserve_color`` and masks; it carries no gradient.
            callback: called with the number of pictures done, parts of a tiled one included, and
                their total.

        Returns:
            Pictures of the inputs' kind and type, as large as they are unless ``max_size`` says
            otherwise (a path gives a PIL image). Tensors stay differentiable down to their pixels.

        Raises:
            InputError: an option or a picture can't be used.
            TypeError: there is no such keyword.
        """
        from clipmamba.pipelines.parts import PartPlacer
        from clipmamba.regions.words import check_words
        from clipmamba.styles.resolve import ResolvedStyle

        options = StylizeOptions(
            strength, preserve_color, stroke, detail, grain, max_size, tile, seed, variants
        )
        seeds: Sequence[int | None] = options.seeds
        if isinstance(style, ResolvedStyle):
            _refuse_beside_prepared(
                prompt, style_image, avoid, source, templates, mask, keep,
                None if faces == "style" else faces, *regions,
            )  # fmt: skip
            resolved = style
            if options.seed is None and options.variants == 1:
                seeds = resolved.seeds
        else:
            request = StyleRequest.parse(
                prompt, style_image, style, avoid, source, templates, mask, regions, keep, faces
            )
            check_words([part.words for part in request.parts], segmenter=False)
            resolved = self.prepare(request, seeds)
        styles = [resolved.only(seed) for seed in seeds]
        place = PartPlacer()
        return self.restyle(
            images, lambda photo, turn: place(styles[turn], photo).style, len(styles), options,
            finish, callback,
        )  # fmt: skip

    def restyle(
        self,
        images: Picture | Sequence[Picture],
        style_of: Callable[[Picture, int], ResolvedStyle],
        variants: int,
        options: StylizeOptions,
        finish: Finish | None = None,
        callback: Callable[[float, int], None] | None = None,
    ) -> StylizeOutput:
        """Restyle one picture or several, where each may have styles of its own.

        Args:
            images: see `__call__`, as for ``finish``, ``callback`` and what is returned.
            style_of: gives the style of a picture and the number of a variant, with one seed.
            variants: how many pictures of each photo.
            options: strength and the like; seed and variants in them are not read.
            finish: repaints results.
            callback: told how much is done.

        Raises:
            InputError: a picture can't be used.
        """
        from clipmamba.pipelines.photo import Photo

        several = isinstance(images, list | tuple)
        batch = cast("Sequence[Picture]", images if several else [images])
        total = len(batch) * variants
        results: list[Any] = []
        for number, image in enumerate(batch):
            photo = Photo.open(image)
            made = []
            for turn in range(variants):

                def tell(part: float, before: int = number * variants + turn) -> None:
                    if callback is not None:
                        callback(before + part, total)

                made.append(self._restyle(photo, style_of(image, turn), options, finish, tell))
                tell(1)
            results.append(made if variants > 1 else made[0])
        one_tensor = not several and getattr(results[0], "ndim", 0) == 4
        return StylizeOutput(results[0] if one_tensor else results)

    def _restyle(
        self,
        photo: Photo,
        style: ResolvedStyle,
        options: StylizeOptions,
        finish: Finish | None,
        tell: Callable[[float], None],
    ) -> Any:
        """Lay every layer of a style with one variant over a photo, and give its kind back."""
        import torch

        from clipmamba.io.convert import resize
        from clipmamba.pipelines.compose import keep_color, lay_over, union
        from clipmamba.pipelines.photo import fit_masks

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
            for number, layer in enumerate(layers):
                area = None if layer.mask is None else fit_masks(layer.mask, size).to(before)

                def tell_tile(done: float, number: int = number) -> None:
                    tell(0.99 * (number + done) / len(layers))  # not all before it is all

                [(seed, variant)] = layer.styles.items()
                restyled = self._paint(before, variant.embedding, seed, options, tell_tile)
                if options.preserve_color:
                    restyled = keep_color(restyled, before)
                restyled = torch.lerp(before, restyled, options.strength).clamp_(0, 1)
                picture = restyled if area is None else lay_over(picture, restyled, area)
                if finish is not None:
                    areas.append(area)
            if finish is not None and layers:
                [seed] = style.seeds
                finished = finish(before, picture, seed, style.words).to(before)
                if options.preserve_color:
                    finished = keep_color(finished, before).clamp(0, 1)
                # As much of it as there is style, so that it fades with the strength and the mask.
                covered = union(areas, picture) * min(options.strength, 1.0)
                picture = lay_over(picture, finished, covered)
            for mask, amount in style.keep:
                picture = lay_over(picture, before, fit_masks(mask, size).to(before) * amount)
            return photo.give_back(picture)

    def _paint(
        self,
        photo: Tensor,
        point: Tensor,
        seed: int | None,
        options: StylizeOptions,
        tell: Callable[[float], None],
    ) -> Tensor:
        """The network at its working size; its change is carried to the photo's own size."""
        from torch.nn import functional

        from clipmamba.io.convert import resize
        from clipmamba.models.second_design import SecondStylizer
        from clipmamba.pipelines.compose import within_gamut
        from clipmamba.pipelines.tiles import restyle_in_tiles

        height, width = photo.shape[2:]
        scale = options.working_scale(width, height, isinstance(self.stylizer, SecondStylizer))
        small = resize(photo, max(1, round(height * scale)), max(1, round(width * scale)))
        # Not wider than the photo itself: a margin must not multiply a thin one.
        rows, columns = (min(self.stylizer.margin, side) for side in small.shape[2:])
        seen = functional.pad(small, (columns, columns, rows, rows), mode="replicate")
        points = point.to(seen).expand(len(seen), -1)
        noise = self.stylizer.draw_noise(seen.shape[2], seen.shape[3], seed or 0) * options.grain
        side = max(small.shape[2:])
        network = self.network_for(side, options.stroke_for(side))
        tile = options.tile_side(small.shape[3], small.shape[2], scale)
        if tile is None:
            restyled = network(seen, points, noise)
        else:
            restyled = restyle_in_tiles(network, seen, points, noise, tile, tell)
        restyled = restyled[..., rows:-rows, columns:-columns]
        if small.shape != photo.shape:
            restyled = photo + resize(restyled - small, height, width)
        return within_gamut(restyled)


def _refuse_beside_prepared(*parts: object) -> None:
    if any(part is not None for part in parts):
        raise InputError("a prepared style stands alone: prepare it with the rest")

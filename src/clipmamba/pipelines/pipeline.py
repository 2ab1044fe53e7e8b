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
from clipmamba.pipelines.refine.options import Refinement, RefineOptions
from clipmamba.pipelines.saved import check_guidance, read_index, write_index
from clipmamba.styles.request import StyleRequest
from clipmamba.weights import ROOT, loading, released, verify

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from clipmamba.clip import Clip
    from clipmamba.models import Stylizer
    from clipmamba.models.second_design import SecondStylizer, SecondView
    from clipmamba.pipelines.companions import Finish
    from clipmamba.pipelines.paint import Painter
    from clipmamba.pipelines.photo import Photo, Picture
    from clipmamba.styles import Style, StylePrior
    from clipmamba.styles.resolve import ResolvedStyle

    Styles = Style | str | os.PathLike[str]


@dataclasses.dataclass
class StylizeOutput:
    """What a pipeline returns.

    Attributes:
        images: one picture for each input, of the input's kind; for a batch tensor (B, 3, H, W)
            a tensor of that shape. With several variants a list of them in place of each picture.
        refinements: what was gained, in the order of the work, once per picture, variant and layer
            of the style; none without ``refine``.
    """

    images: Any
    refinements: list[Refinement] = dataclasses.field(default_factory=list)


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

    def with_stylizer(self, stylizer: Stylizer | SecondStylizer) -> StylizePipeline:
        """Make a pipeline of the same parts, the same guidance too, around other parameters.

        Args:
            stylizer: of the same design and sizes, such as a view by `nn.overlay`.
        """
        other = copy.copy(self)
        other.stylizer = stylizer
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
        layers = (
            layer if layer.mask is None else dataclasses.replace(layer, mask=Mask(layer.mask))
            for layer in style.layers
        )
        return dataclasses.replace(style, layers=tuple(layers))

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
        mask: Picture | None = None,
        regions: Sequence[tuple[Picture, str | Style]] = (),
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
        refine: int | RefineOptions = 0,
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
            mask: white where the photo is restyled, black where it stays, grey between.
            regions: pairs of a mask and the words (or `Style`) for that part, later ones over
                earlier ones; without another style the rest stays the photo.
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
            refine: steps that improve each picture from the network's result on, or
                `RefineOptions`; 0 leaves it as it is.
            callback: called with the number of pictures done, parts of a tiled one included, and
                their total.

        Returns:
            Pictures of the inputs' kind and type, as large as they are unless ``max_size`` says
            otherwise (a path gives a PIL image). Tensors stay differentiable down to their pixels.

        Raises:
            InputError: an option or a picture can't be used.
            TypeError: there is no such keyword.
        """
        from clipmamba.styles.resolve import ResolvedStyle

        options = StylizeOptions(
            strength, preserve_color, stroke, detail, grain, max_size, tile, seed, variants
        )
        seeds: Sequence[int | None] = options.seeds
        if isinstance(style, ResolvedStyle):
            _refuse_beside_prepared(prompt, style_image, avoid, source, templates, mask, *regions)
            resolved = style
            if options.seed is None and options.variants == 1:
                seeds = resolved.seeds
        else:
            request = StyleRequest.parse(
                prompt, style_image, style, avoid, source, templates, mask, regions
            )
            resolved = self.prepare(request, seeds)
        styles = [resolved.only(seed) for seed in seeds]
        return self.restyle(
            images, lambda _, turn: styles[turn], len(styles), options, finish, callback, refine
        )

    def refine(
        self,
        images: Picture | Sequence[Picture],
        style: str | Style | ResolvedStyle,
        settings: int | RefineOptions | None = None,
        options: StylizeOptions | None = None,
        callback: Callable[[float, int], None] | None = None,
    ) -> StylizeOutput:
        """Restyle pictures and improve each by an optimization of its own.

        Args:
            images: see `__call__`.
            style: words, a `Style`, or what :meth:`prepare` gave, with all of its variants.
            settings: steps, losses and rates, or a number of steps; None for the usual ones.
            options: strength and the like; None for the usual ones.
            callback: see `__call__`.

        Returns:
            See `__call__`.

        Raises:
            InputError: a setting or a picture can't be used, or the network has no gradients.
            WeightsError: the CLIP that the settings name can't be loaded.
        """
        from clipmamba.styles.resolve import ResolvedStyle

        options = options or StylizeOptions()
        settings = RefineOptions() if settings is None else settings
        if not isinstance(style, ResolvedStyle):
            prompt, saved = (style, None) if isinstance(style, str) else (None, style)
            request = StyleRequest.parse(prompt=prompt, style=saved)
            style = self.prepare(request, options.seeds)
        variants = [style.only(seed) for seed in style.seeds]
        return self.restyle(
            images, lambda _, turn: variants[turn], len(variants), options, None, callback, settings
        )

    def restyle(
        self,
        images: Picture | Sequence[Picture],
        style_of: Callable[[Picture, int], ResolvedStyle],
        variants: int,
        options: StylizeOptions,
        finish: Finish | None = None,
        callback: Callable[[float, int], None] | None = None,
        refine: int | RefineOptions = 0,
    ) -> StylizeOutput:
        """Restyle one picture or several, where each may have styles of its own.

        Args:
            images: see `__call__`, as for ``finish``, ``callback`` and what is returned.
            style_of: gives the style of a picture and the number of a variant, with one seed.
            variants: how many pictures of each photo.
            options: strength and the like; seed and variants in them are not read.
            finish: repaints results.
            callback: told how much is done.
            refine: see `__call__`.

        Raises:
            InputError: a picture can't be used.
        """
        from clipmamba.pipelines.paint import paint
        from clipmamba.pipelines.photo import Photo

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
            for turn in range(variants):

                def tell(part: float, before: int = number * variants + turn) -> None:
                    if callback is not None:
                        callback(before + part, total)

                style = style_of(image, turn)
                made.append(self._restyle(photo, style, options, finish, tell, painter))
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
        """Lay every layer of a style with one variant over a photo, and give its kind back."""
        import torch

        from clipmamba.io.convert import resize
        from clipmamba.pipelines.compose import keep_color, lay_over, union

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
                area = None if layer.mask is None else layer.mask.fit(size).to(before)

                def tell_tile(done: float, number: int = number) -> None:
                    tell(0.99 * (number + done) / len(layers))  # not all before it is all

                restyled = painter(self, before, layer, options, tell_tile)
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
            return photo.give_back(picture)


def _refuse_beside_prepared(*parts: object) -> None:
    if any(part is not None for part in parts):
        raise InputError("a prepared style stands alone: prepare it with the rest")

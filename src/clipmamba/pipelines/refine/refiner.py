"""The optimization: CLIP's losses move few things of the network for this one picture.

CLIPstyler (Kwon & Ye, CVPR 2022) trains a network from scratch for every picture. Here the start
is what our network paints, and only what its style speaks through is moved: the style code, the
blocks' modulations, and a residual of a few cells. So the picture stays one that the network could
paint. What was found has no size: a large photo is optimized small and painted at its own size.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import torch
from torch import Tensor

from clipmamba.clip import Clip
from clipmamba.errors import InputError
from clipmamba.io.convert import rescale, resize
from clipmamba.nn.overlay import with_parameters
from clipmamba.pipelines.options import DETAIL_SIDE, StylizeOptions
from clipmamba.pipelines.paint import PaintingPipeline, paint
from clipmamba.pipelines.photo import Photo, Picture
from clipmamba.pipelines.refine.goal import Goal
from clipmamba.pipelines.refine.options import Refinement, RefineOptions
from clipmamba.styles.request import StyleRequest
from clipmamba.styles.resolve import StyleLayer, resolve_style

SEARCH = 0.9  # part of the whole time, for the progress
SMOOTHING = 0.8  # of the loss from step to step: every step has crops of its own
_MODULATION = ".modulation.bias"
PLAIN = "photo"  # where every style starts


class Refiner:
    """Paints in the place of `paint`, and improves each picture.

    Args:
        pipeline: Whose network paints.
        settings: Of the optimization.

    Attributes:
        refinements: What was gained, once for every picture that was painted.

    Raises:
        WeightsError: The CLIP of the settings can't be loaded.
    """

    def __init__(self, pipeline: PaintingPipeline, settings: RefineOptions) -> None:
        self.settings = settings
        self.refinements: list[Refinement] = []
        own = settings.clip is None or settings.clip == pipeline.clip.name
        self.clip = pipeline.clip if own else _clip(str(settings.clip), str(pipeline.device))

    def __call__(
        self,
        pipeline: PaintingPipeline,
        photo: Tensor,
        layer: StyleLayer,
        options: StylizeOptions,
        tell: Callable[[float], None] = lambda part: None,
    ) -> Tensor:
        """Paint photos and improve each; see `paint`.

        Raises:
            InputError: The network has no gradients, or the style can't be read by the CLIP.
        """
        rows = torch.split(photo, 1)  # each alone: the same whatever the batch
        pictures = []
        for number, row in enumerate(rows):

            def tell_row(part: float, number: int = number) -> None:
                tell((number + part) / len(rows))

            with torch.inference_mode(False), torch.enable_grad():
                move = self._search(pipeline, row, layer, options, tell_row)
            painter = paint if move is None else move.paint
            pictures.append(painter(pipeline, row, layer, options, _after_search(tell_row)))
        return torch.cat(pictures)

    def _search(
        self,
        pipeline: PaintingPipeline,
        photo: Tensor,
        layer: StyleLayer,
        options: StylizeOptions,
        tell: Callable[[float], None],
    ) -> Move | None:
        """Find what improves the picture of one photo; None where nothing does."""
        task = self.task(pipeline, photo, layer, options)
        move = Move.still(pipeline, task.photo, self.settings)
        optimizer = torch.optim.Adam(move.groups(self.settings))
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.settings.steps)
        watch, random = _Watch(self.settings), task.random()
        step = 0
        for step in range(1, self.settings.steps + 1):
            loss = task.goal(move.paint(pipeline, task.photo, task.layer, task.options), random)
            move.take_gradients(loss)
            optimizer.step()
            decay.step()
            tell(SEARCH * step / self.settings.steps)
            if watch.has_ended(loss.item()):
                break
        with torch.no_grad():
            end = move.paint(pipeline, task.photo, task.layer, task.options)
        done = Refinement(step, task.loss(task.start), task.loss(end))
        self.refinements.append(done)
        return move.settled() if done.kept else None

    def task(
        self, pipeline: PaintingPipeline, photo: Tensor, layer: StyleLayer, options: StylizeOptions
    ) -> Task:
        """What there is to do for one photo (1, 3, H, W).

        Raises:
            InputError: The style can't be read by the CLIP.
        """
        settings = self.settings
        small = rescale(photo.detach(), min(1.0, settings.side / max(photo.shape[2:])))
        small = small.clamp(0, 1).clone()  # what comes out of inference mode can't be learned with
        detail = options.detail and min(options.detail, max(0.1, settings.side / DETAIL_SIDE))
        options = dataclasses.replace(options, detail=detail, tile=None)
        target, source = self._ends(pipeline, layer)
        [(seed, style)] = layer.styles.items()
        style = dataclasses.replace(style, embedding=style.embedding.detach().clone())
        layer = dataclasses.replace(layer, styles={seed: style})
        with torch.no_grad():
            start = paint(pipeline, small, layer, options)
        goal = Goal(settings, self.clip, small, start, target, source, options.preserve_color)
        return Task(small, start, layer, options, goal)

    def _ends(self, pipeline: PaintingPipeline, layer: StyleLayer) -> tuple[Tensor, Tensor]:
        """Where the style lies in the space of the CLIP, and where photos do, both (1, E)."""
        [style] = layer.styles.values()
        own = self.clip is pipeline.clip
        plain = resolve_style(StyleRequest.parse(PLAIN), self.clip, pipeline.prior if own else None)
        if not own:
            if layer.request is None:
                raise InputError("a mixed style has no words for another CLIP: refine with its own")
            asked = dataclasses.replace(layer.request, mask=None, regions=(), keep=())
            [read] = resolve_style(asked, self.clip, to_tensor=_tensor).layers
            style = read.styles[None]
        ends = (style.embedding, plain.layers[0].styles[None].embedding)
        first, second = (point.detach().clone()[None].to(self.clip.device) for point in ends)
        return first, second


@dataclasses.dataclass(frozen=True)
class Task:
    """One picture to refine, at the size at which it is optimized.

    Attributes:
        photo: (1, 3, h, w).
        start: What the network paints, the same shape.
        layer: The style with one variant, nothing in it from inference mode.
        options: How to paint.
        goal: What to lower.
    """

    photo: Tensor
    start: Tensor
    layer: StyleLayer
    options: StylizeOptions
    goal: Goal

    def random(self) -> torch.Generator:
        """A new source of random crops, of the style's seed."""
        [seed] = self.layer.styles
        return torch.Generator().manual_seed(seed or 0)

    @torch.no_grad()
    def loss(self, picture: Tensor) -> float:
        """The loss of a picture, always with the same crops."""
        return self.goal(picture, self.random()).item()


@dataclasses.dataclass(frozen=True)
class Move:
    """What is moved for one picture.

    Attributes:
        offsets: On the biases through which the style speaks, by their names.
        residual: Added to the picture, (1, 3, h, w) of few cells.
    """

    offsets: dict[str, Tensor]
    residual: Tensor

    @classmethod
    def still(cls, pipeline: PaintingPipeline, photo: Tensor, settings: RefineOptions) -> Move:
        """One that changes nothing yet, for the shape of a photo."""
        stylizer = pipeline.stylizer
        names = [name for name, _ in stylizer.named_parameters() if name.endswith(_MODULATION)]
        offsets = {
            name: torch.zeros_like(stylizer.get_parameter(name)).requires_grad_()
            for name in (stylizer.code_bias, *names)
        }
        longest = max(photo.shape[2:])
        cells = [max(1, round(settings.cells * side / longest)) for side in photo.shape[2:]]
        return cls(offsets, photo.new_zeros(1, 3, *cells).requires_grad_())

    def groups(self, settings: RefineOptions) -> list[dict[str, object]]:
        """What is learned, with its rates."""
        code, *modulations = self.offsets.values()
        return [
            {"params": [code], "lr": settings.code_rate},
            {"params": modulations, "lr": settings.modulation_rate},
            {"params": [self.residual], "lr": settings.residual_rate},
        ]

    def take_gradients(self, loss: Tensor) -> None:
        """Give the loss's gradients to what is moved, and to nothing else.

        Raises:
            InputError: None reaches what the style speaks through.
        """
        moved = [self.residual, *self.offsets.values()]
        gradients = torch.autograd.grad(loss, moved, allow_unused=True)
        if all(gradient is None for gradient in gradients[1:]):
            raise InputError("refine needs a network with gradients; this one passes none")
        for tensor, gradient in zip(moved, gradients, strict=True):
            tensor.grad = gradient

    def settled(self) -> Move:
        """The same without gradients."""
        offsets = {name: offset.detach() for name, offset in self.offsets.items()}
        return Move(offsets, self.residual.detach())

    def paint(
        self,
        pipeline: PaintingPipeline,
        photo: Tensor,
        layer: StyleLayer,
        options: StylizeOptions,
        tell: Callable[[float], None] = lambda part: None,
    ) -> Tensor:
        """As `paint`, with what is moved."""
        stylizer = pipeline.stylizer
        moved = {name: stylizer.get_parameter(name) + by for name, by in self.offsets.items()}
        view = pipeline.with_stylizer(with_parameters(stylizer, moved))
        picture = paint(view, photo, layer, options, tell)
        return (picture + resize(self.residual, *photo.shape[2:])).clamp(0, 1)


class _Watch:
    """Sees when nothing more is gained."""

    def __init__(self, settings: RefineOptions) -> None:
        self._settings = settings
        self._smooth: float | None = None
        self._best = float("inf")
        self._waited = 0

    def has_ended(self, loss: float) -> bool:
        """Whether the smoothed loss has stood still for the patience of the settings."""
        before = loss if self._smooth is None else self._smooth
        self._smooth = SMOOTHING * before + (1 - SMOOTHING) * loss
        if self._smooth < self._best - self._settings.min_delta:
            self._best, self._waited = self._smooth, 0
            return False
        self._waited += 1
        return self._waited >= self._settings.patience


def _after_search(tell: Callable[[float], None]) -> Callable[[float], None]:
    return lambda part: tell(SEARCH + (1 - SEARCH) * part)


def _tensor(picture: Picture) -> Tensor:
    return Photo.open(picture).tensor


@functools.lru_cache(maxsize=1)
def _clip(name: str, device: str) -> Clip:
    return Clip.from_pretrained(name, device)

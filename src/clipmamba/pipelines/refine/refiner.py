"""The optimization: CLIP losses tune the style code for a single picture.

CLIPstyler (Kwon & Ye, CVPR 2022) trains a network from scratch for every picture. This starts from
the trained network and tunes only an offset on its style code, so the picture stays one that the
network could paint. The offset does not depend on the size: a large photo is optimized small, then
painted at its own size.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import torch
from torch import Tensor

from clipmamba.clip import Clip
from clipmamba.errors import InputError
from clipmamba.io.convert import rescale
from clipmamba.nn.overlay import with_parameters
from clipmamba.pipelines.options import WORKING_SIDE, StylizeOptions
from clipmamba.pipelines.paint import PaintingPipeline, paint
from clipmamba.pipelines.photo import Photo, Picture
from clipmamba.pipelines.refine.goal import Goal
from clipmamba.pipelines.refine.options import Refinement, RefineOptions
from clipmamba.styles.request import StyleRequest
from clipmamba.styles.resolve import StyleLayer, resolve_style

SEARCH = 0.9  # the optimization's share of the progress
SMOOTHING = 0.8  # of the loss over steps, since each step has its own random crops
PLAIN = "photo"  # source prompt of the directional losses


class Refiner:
    """A painter, like `paint`, that optimizes each picture.

    Args:
        pipeline: The pipeline to refine with.
        settings: Settings of the optimization.

    Attributes:
        refinements: The outcome for every painted picture, in order.

    Raises:
        WeightsError: The CLIP model in the settings can't be loaded.
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
        """Paint photos, optimizing each one; see `paint`.

        Raises:
            InputError: The network has no gradients, or the CLIP model can't encode the style.
        """
        rows = torch.split(photo, 1)  # one by one, so that results do not depend on the batch
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
        """Optimize the picture of one photo; None if the loss does not fall."""
        task = self.task(pipeline, photo, layer, options)
        move = Move.still(pipeline)
        optimizer = torch.optim.Adam([move.offset], self.settings.rate)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.settings.steps)
        watch, random = _Watch(self.settings), task.random()
        step = 0
        for step in range(1, self.settings.steps + 1):
            loss = task.goal(move.paint(pipeline, task.photo, task.layer, task.options), random)
            move.take_gradient(loss)
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
        """Set up the optimization for one photo (1, 3, H, W).

        Raises:
            InputError: The CLIP model can't encode the style.
        """
        settings = self.settings
        small = rescale(photo.detach(), min(1.0, settings.side / max(photo.shape[2:])))
        small = small.clamp(0, 1).clone()  # inference tensors can't take part in autograd
        detail = options.detail and min(options.detail, max(0.1, settings.side / WORKING_SIDE))
        options = dataclasses.replace(options, detail=detail, tile=None)
        target, source = self._ends(pipeline, layer)
        [(seed, style)] = layer.styles.items()
        style = dataclasses.replace(style, embedding=style.embedding.detach().clone())
        layer = dataclasses.replace(layer, styles={seed: style})
        with torch.no_grad():
            start = paint(pipeline, small, layer, options)
        colors = options.preserve_color, style.photo_color
        goal = Goal(settings, self.clip, small, start, target, source, *colors)
        return Task(small, start, layer, options, goal)

    def _ends(self, pipeline: PaintingPipeline, layer: StyleLayer) -> tuple[Tensor, Tensor]:
        """Encode the style and the source prompt with the CLIP model, both (1, E)."""
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
        photo: The photo, (1, 3, h, w).
        start: The network's own result, (1, 3, h, w).
        layer: The style with one variant, without inference tensors.
        options: How to paint.
        goal: The loss.
    """

    photo: Tensor
    start: Tensor
    layer: StyleLayer
    options: StylizeOptions
    goal: Goal

    def random(self) -> torch.Generator:
        """Create a generator for random crops, seeded by the style."""
        [seed] = self.layer.styles
        return torch.Generator().manual_seed(seed or 0)

    @torch.no_grad()
    def loss(self, picture: Tensor) -> float:
        """Compute the loss of a picture, always on the same crops."""
        return self.goal(picture, self.random()).item()


@dataclasses.dataclass(frozen=True)
class Move:
    """The tuned parameters for one picture.

    Attributes:
        offset: Added to the style code's bias, of its shape.
    """

    offset: Tensor

    @classmethod
    def still(cls, pipeline: PaintingPipeline) -> Move:
        """Create one that changes nothing."""
        stylizer = pipeline.stylizer
        bias = stylizer.get_parameter(stylizer.code_bias)
        return cls(torch.zeros_like(bias).requires_grad_())

    def take_gradient(self, loss: Tensor) -> None:
        """Compute the gradient of the offset, and of nothing else.

        Raises:
            InputError: No gradient reaches the network's parameters.
        """
        if loss.requires_grad:
            [self.offset.grad] = torch.autograd.grad(loss, [self.offset], allow_unused=True)
        if self.offset.grad is None:
            raise InputError("refine needs a network with gradients; this one passes none")

    def settled(self) -> Move:
        """Return a copy without a gradient."""
        return Move(self.offset.detach())

    def paint(
        self,
        pipeline: PaintingPipeline,
        photo: Tensor,
        layer: StyleLayer,
        options: StylizeOptions,
        tell: Callable[[float], None] = lambda part: None,
    ) -> Tensor:
        """Paint like `paint`, with the tuned parameters."""
        stylizer = pipeline.stylizer
        moved = {stylizer.code_bias: stylizer.get_parameter(stylizer.code_bias) + self.offset}
        return paint(
            pipeline.with_stylizer(with_parameters(stylizer, moved)), photo, layer, options, tell
        )


class _Watch:
    """Detects when the loss stops falling."""

    def __init__(self, settings: RefineOptions) -> None:
        self._settings = settings
        self._smooth: float | None = None
        self._best = float("inf")
        self._waited = 0

    def has_ended(self, loss: float) -> bool:
        """Tell whether the smoothed loss has not fallen for `patience` steps."""
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

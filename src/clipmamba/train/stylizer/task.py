"""The losses of the stylizer: texture, a discriminator, content, exact pairs, and CLIP."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from clipmamba.clip import Clip
from clipmamba.losses import contrastive_direction_loss, directional_loss
from clipmamba.losses.adversarial import (
    FeatureDiscriminator,
    adversarial_loss,
    discriminator_loss,
)
from clipmamba.losses.calm import calm_contrast, calm_loss
from clipmamba.losses.color import color_loss
from clipmamba.losses.lattice import lattice_loss
from clipmamba.losses.terms import Term, select_terms
from clipmamba.losses.vgg import Moments, structure_loss, texture_loss, texture_moments
from clipmamba.models import Stylizer

LEVELS = 4  # of the picture's pyramid: full size, a half, a quarter, an eighth
WINDOW = 128  # pixels; VGG sees a square of this side of a larger picture
SMALLEST = 24  # pixels; smaller pictures show VGG no texture
FACE = 64  # pixels; side at which faces are compared
SMALLEST_FACE = 16  # pixels
RESTLESS = 0.02  # local contrast in the calm parts of a picture from which noise is free
CLIP_SHARE = 0.25  # of the steps use CLIP, which costs half as much as all other losses
JUDGED = 3  # levels, the finest, are shown to the discriminator
FEATURES = 256  # channels of the feature map that it sees, relu3_1
CONTENT = (0.35, 1.0)  # of the first levels: edges may be redrawn, the layout may not


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Weight of each loss in `TERMS`; every field is a command line option.

    Attributes:
        texture: Weight of the texture loss: VGG's Gram matrices, means and standard deviations at
            several scales, compared with the style picture's or an exact result's.
        adversarial: Weight of the loss against a discriminator, which is trained along to tell VGG
            features of outputs from those of their style pictures or exact results.
        content: Weight of the content loss: the photo's VGG features after instance
            normalization. Exact pairs have none.
        face: Weight of the content loss inside a face, which the other one hardly sees; needs
            faces in the prepared folder.
        color: Weight of the loss on the places of the style's colors: where the photo has similar
            ones.
        calm: Weight of the loss on local contrast in flat parts of the photo, as far as it exceeds
            that of flat parts of the style picture.
        noise: Weight of the loss on the noise that the network adds for a style, as far as its
            picture has calm parts: dabs need noise, prints and washes do not.
        lattice: Weight of the loss on detail that repeats every four pixels, as the network's
            upsampling draws it. Exact pairs have none: some techniques have a lattice.
        pixel: Weight of the L1 loss to exact results, of pixels and gradients at several scales.
        gamut: Weight of the mean square of values outside [0, 1].
        directional: Weight of the directional loss: CLIP's direction from photo to result,
            compared with the direction from photos to the style.
        contrastive: Weight of the contrastive loss: that direction, compared with the directions
            to the other styles of the batch and 63 more.
    """

    texture: float = 3.0
    adversarial: float = 0.0
    content: float = 0.2
    face: float = 0.1
    color: float = 2.0
    calm: float = 1.0
    noise: float = 10.0
    lattice: float = 500.0
    pixel: float = 1.0
    gamut: float = 5.0
    directional: float = 0.5
    contrastive: float = 0.2


@dataclasses.dataclass(frozen=True)
class Level:
    """VGG features at one level of the pyramid.

    Attributes:
        features: Last feature map of the outputs.
        moments: Moments of the outputs, one per feature map.
        photo_features: Last feature map of the photos of free samples.
        photo_moments: Moments of `photo_features`.
        result_features: Last feature map of the exact results of the other samples.
        targets: Target moments of the outputs, one per feature map.
    """

    features: Tensor
    moments: list[Moments]
    photo_features: Tensor
    photo_moments: Moments
    result_features: Tensor
    targets: list[Moments]


class StyleMoments:
    """Moments of whole style pictures, computed once for each size.

    Args:
        capacity: Pictures and sizes to keep, of 0.4 MB each; the least recently used are dropped.
    """

    def __init__(self, capacity: int = 2000):
        self.capacity = capacity
        self._kept: dict[tuple[int, int], list[Moments]] = {}

    def at(self, side: int, pictures: Tensor, keys: Sequence[int], vgg: nn.Module) -> list[Moments]:
        """Return the moments of pictures (B, 3, H, H), reduced to `side`, one per feature map.

        Each is computed alone, so that it does not depend on what was seen before.
        """
        for row, key in enumerate(keys):
            known = self._kept.pop((key, side), None)
            if known is None:
                maps = vgg(_reduced(pictures[row : row + 1], side))
                known = [texture_moments(each) for each in maps]
            self._kept[key, side] = known  # last: the most recently used
        found = zip(*(self._kept[key, side] for key in keys), strict=True)
        for unused in list(self._kept)[: -self.capacity]:
            del self._kept[unused]
        return [Moments(*map(torch.cat, zip(*each, strict=True))) for each in found]


@dataclasses.dataclass(frozen=True)
class Step:
    """The inputs of the losses: the stylizer's outputs and their batch.

    The first `free` samples have a style picture, the others an exact result.

    Attributes:
        output: Outputs of the stylizer, (B, 3, H, W), not clamped to [0, 1].
        photo: Photos, (B, 3, H, W).
        picture: Style pictures of the free samples, (free, 3, H', W').
        picture_keys: A number for each of these pictures.
        face: Left, top, right, bottom of a face in their photos, in pixels, (free, 4); 0 without.
        result: Exact results of the others, (B - free, 3, H, W).
        stroke: Stroke size.
        noise_power: Variance of the noise that is added for each style, (B,).
        style: Style embeddings, (B, E).
        others: Embeddings of other styles, (K, E).
        source: Mean embedding of photos, (E,).
        rng: Draws the windows that VGG sees.
        networks: The frozen networks and the discriminator, by name.
        style_moments: The moments of style pictures seen before.
    """

    output: Tensor
    photo: Tensor
    picture: Tensor
    picture_keys: Sequence[int]
    face: Tensor
    result: Tensor
    stroke: float
    noise_power: Tensor
    style: Tensor
    others: Tensor
    source: Tensor
    rng: random.Random
    networks: Mapping[str, nn.Module]
    style_moments: StyleMoments

    @property
    def free(self) -> int:
        """Number of samples with a style picture."""
        return len(self.picture)

    @functools.cached_property
    def shown(self) -> Tensor:
        """Outputs clamped to [0, 1], except for 2 % of the excess, which keeps a gradient."""
        inside = self.output.clamp(0, 1)
        return inside + 0.02 * (self.output - inside)

    @functools.cached_property
    def move(self) -> Tensor:
        """Direction from photos to outputs in CLIP's space, (B, E)."""
        clip = self.networks["clip"]
        assert isinstance(clip, Clip)
        with torch.no_grad():
            before = clip.encode_image(self.photo)
        return clip.encode_image(self.shown) - before

    @functools.cached_property
    def levels(self) -> list[Level]:
        """Levels of the pyramid, from full size down."""
        sizes = [self.output.shape[2] >> level for level in range(LEVELS)]
        return [
            self._level(level, side)
            for level, side in enumerate(sizes)
            if side >= 2 * SMALLEST or not level
        ]

    def _level(self, level: int, side: int) -> Level:
        vgg, free = self.networks["vgg"], self.free
        seen = torch.cat([self.shown, self.photo[:free], self.result])
        seen = self._square(_reduced(seen, side), side)
        maps = vgg(seen[: len(self.output)])
        moments = [texture_moments(each) for each in maps]
        with torch.no_grad():
            kept = vgg(seen[len(self.output) :])
            kept_moments = [texture_moments(each) for each in kept]
            styles = self._style_targets(level)
        # exact results, which come last, are their own texture targets
        targets = [
            Moments(*(torch.cat([a, b[free:]]) for a, b in zip(style, exact, strict=True)))
            for style, exact in zip(styles, kept_moments, strict=True)
        ]
        photo_moments = kept_moments[-1].rows(slice(free))
        photo, result = kept[-1][:free], kept[-1][free:]
        return Level(maps[-1], moments, photo, photo_moments, result, targets)

    def _style_targets(self, level: int) -> list[Moments]:
        """Return the moments of the style pictures at a level of the pyramid."""
        side = self._style_side(level)
        return self.style_moments.at(side, self.picture, self.picture_keys, self.networks["vgg"])

    def _style_side(self, level: int) -> int:
        """Return the side of the style pictures at a level; they are never enlarged.

        Coarser levels check larger strokes.
        """
        scale = min(1, self.stroke / (1 << level))
        return max(SMALLEST, round(self.picture.shape[2] * scale / 8) * 8)

    @torch.no_grad()
    def style_features(self, level: int) -> Tensor:
        """Return the last VGG features of a random square of the style pictures at a level."""
        side = self._style_side(level)
        seen = self._square(_reduced(self.picture, side), side)
        features: Tensor = self.networks["vgg"](seen)[-1]
        return features

    def _square(self, images: Tensor, side: int) -> Tensor:
        """Cut the square of images (B, C, side, side) that VGG sees."""
        if side <= WINDOW:
            return images
        y, x = (self.rng.randrange(0, side - WINDOW + 1, 8) for _ in range(2))
        return images[..., y : y + WINDOW, x : x + WINDOW]


def _texture(step: Step) -> Tensor:
    losses = [texture_loss(level.moments, level.targets, "none") for level in step.levels]
    # the root keeps a hard style from dominating the batch
    return torch.stack(losses).sum(0).clamp(min=1e-6).sqrt()


def _adversarial(step: Step) -> Tensor:
    """Add the stylizer's loss, which leaves the discriminator as it is, and the reverse."""
    judge = step.networks["discriminator"]
    fixed = {name: value.detach() for name, value in judge.named_parameters()}
    losses = []
    for number, level in enumerate(step.levels[:JUDGED]):
        wanted, made = level.targets[-1], level.features
        known = (wanted.mean, wanted.deviation)
        scores = judge(made.detach(), *known)
        real = (
            (slice(step.free), step.style_features(number)),
            (slice(step.free, None), level.result_features),
        )
        parted = [
            discriminator_loss(
                judge(features, *(each[rows] for each in known)), scores[rows], "none"
            )
            for rows, features in real
            if len(features)
        ]
        losses += [
            adversarial_loss(functional_call(judge, fixed, (made, *known)), "none"),
            torch.cat(parted),
        ]
    return 2 * torch.stack(losses).mean(0)


def _content(step: Step) -> Tensor:
    free = slice(step.free)
    losses = [
        factor
        * structure_loss(
            level.features[free],
            level.moments[-1].rows(free),
            level.photo_features,
            level.photo_moments,
        )
        for factor, level in zip(CONTENT, step.levels, strict=False)
    ]
    return torch.stack(losses).sum(0)


def _face(step: Step) -> Tensor:
    """Compare each face with the photo's at one size; one that is too small has no loss."""
    losses = step.output.new_zeros(step.free)
    places = [
        (row, tuple(map(round, box)))
        for row, box in enumerate(step.face.tolist())
        if min(box[2] - box[0], box[3] - box[1]) >= SMALLEST_FACE
    ]
    if not places:
        return losses[:0]
    seen = [
        _reduced(images[row : row + 1, :, top:bottom, left:right], FACE)
        for images in (step.shown, step.photo)
        for row, (left, top, right, bottom) in places
    ]
    total = step.output.new_zeros(len(places))
    for maps in step.networks["vgg"](torch.cat(seen))[1:]:
        own, photo = maps.chunk(2)
        with torch.no_grad():
            kept = texture_moments(photo)
        total = total + structure_loss(own, texture_moments(own), photo, kept)
    losses[[row for row, _ in places]] = total
    return losses


def _color(step: Step) -> Tensor:
    return color_loss(step.shown[: step.free], step.photo[: step.free], step.picture, "none")


def _calm(step: Step) -> Tensor:
    return calm_loss(step.shown[: step.free], step.photo[: step.free], step.picture, "none")


def _noise(step: Step) -> Tensor:
    with torch.no_grad():
        calm = (1 - calm_contrast(step.picture) / RESTLESS).clamp(min=0)
    return calm * step.noise_power[: step.free]


def _lattice(step: Step) -> Tensor:
    return lattice_loss(step.shown[: step.free], "none")


def _pixel(step: Step) -> Tensor:
    return pixel_loss(step.output[step.free :], step.result)


def _gamut(step: Step) -> Tensor:
    return (step.output - step.output.clamp(0, 1)).square().mean((1, 2, 3))


def _directional(step: Step) -> Tensor:
    return directional_loss(step.move, step.style - step.source, "none")


def _contrastive(step: Step) -> Tensor:
    wish, others = step.style - step.source, step.others - step.source
    return contrastive_direction_loss(step.move, wish, negatives=others)


TERMS: tuple[Term[Step], ...] = (
    Term("gamut", _gamut),
    Term("texture", _texture, needs=("vgg",)),
    Term("adversarial", _adversarial, needs=("vgg", "discriminator"), validated=False),
    Term("content", _content, needs=("vgg",), applies_to="free"),
    Term("face", _face, needs=("vgg",), applies_to="free"),
    Term("color", _color, applies_to="free"),
    Term("calm", _calm, applies_to="free"),
    Term("noise", _noise, applies_to="free"),
    Term("lattice", _lattice, applies_to="free"),
    Term("pixel", _pixel, applies_to="exact"),
    Term("directional", _directional, needs=("clip",), share=CLIP_SHARE),
    Term("contrastive", _contrastive, needs=("clip",), share=CLIP_SHARE),
)
"""The losses of the stylizer, each with a field in `LossWeights`."""


class StylizerTask(nn.Module):
    """Named losses of a batch of `StylizerBatches`, each the mean over the samples it applies to.

    Args:
        stylizer: The model to train.
        networks: The frozen networks, which move to devices with the task: "vgg", a
            `VggFeatures`, and "clip", the `Clip` of the style embeddings.
        weights: Losses of weight 0 are not computed; the others are returned unweighted.

    Raises:
        InputError: A loss with a weight needs a network that is not given.
    """

    def __init__(
        self,
        stylizer: Stylizer,
        networks: Mapping[str, nn.Module],
        weights: LossWeights = LossWeights(),
    ):
        super().__init__()
        self.stylizer = stylizer
        self._style_moments = StyleMoments()
        self._frozen = dict(networks)  # a plain dict: not part of the trained state
        self._networks = dict(self._frozen)
        if weights.adversarial:
            self.discriminator = FeatureDiscriminator(FEATURES)
            self._networks["discriminator"] = self.discriminator
        self.terms = select_terms(TERMS, dataclasses.asdict(weights), self._networks)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Apply `fn` to the frozen networks, too."""
        for network in self._frozen.values():
            network._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the losses of a batch of `StylizerBatches`."""
        photo, stroke = batch["photo"], batch["stroke"]
        rng = random.Random(int(batch["seed"]))
        height, width = photo.shape[2:]
        noise = self.stylizer.draw_noise(height, width, rng.getrandbits(62), len(photo))
        output = self.stylizer(photo, batch["style"], noise.to(photo.device), stroke=stroke)
        keys = batch["picture_key"].tolist()
        pictures = (output.float(), photo, batch["picture"], keys, batch["face"], batch["result"])
        power = self.stylizer.noise_power(batch["style"], stroke)
        points = (batch["style"], batch["others"], batch["source"])
        drawn = rng.random()
        kept = (self._networks, self._style_moments)
        step = Step(*pictures, float(stroke[0]), power, *points, rng, *kept)
        of_free, of_exact = batch["weights"]
        shares = {"all": 1, "free": of_free, "exact": of_exact}
        losses = {}
        for term in self.terms:
            if drawn >= term.share or not (self.training or term.validated):
                continue
            values = term.function(step)
            if values.numel():
                losses[term.name] = shares[term.applies_to] * values.mean()
        return losses


def _reduced(images: Tensor, side: int) -> Tensor:
    if images.shape[2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)


def pixel_loss(output: Tensor, target: Tensor, scales: int = 4) -> Tensor:
    """Return the L1 loss of pixels and gradients at `scales` scales: (B, 3, H, W) to (B,)."""
    output, target = output.float(), target.float()
    total = output.new_zeros(len(output))
    for scale in range(scales):
        if scale:
            output, target = F.avg_pool2d(output, 2), F.avg_pool2d(target, 2)
        difference = output - target
        for part in (difference, difference.diff(dim=2), difference.diff(dim=3)):
            total = total + part.abs().mean((1, 2, 3))
    return total / scales

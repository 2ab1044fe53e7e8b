"""What the stylizer learns from: exact pairs, style statistics and CLIP directions."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.clip import Clip
from clipmamba.errors import InputError
from clipmamba.losses import (
    PatchDirectionalLoss,
    PatchDiscriminator,
    adversarial_loss,
    color_drift_loss,
    content_loss,
    contrastive_direction_loss,
    directional_loss,
    discriminator_loss,
    excess_texture_loss,
    layout_loss,
    standardised_statistics_loss,
    total_variation_loss,
)
from clipmamba.models import Stylizer
from clipmamba.nn import PictureMoments
from clipmamba.train.stylizer.pairs import GRID

Look = Callable[[Tensor], tuple[list[Tensor], Tensor]]
"""Pictures to feature maps where content is kept, and to style statistics (B, S)."""


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Factor of each loss; one of 0 is not computed. Every field is a command line option.

    Attributes:
        pixel: L1 to a painter's exact result at several scales, with gradients.
        distil: The same to what the style network made of a style picture.
        adversarial: A patch discriminator against an exact result; it learns beside.
        statistics: Standardised style statistics in an ImageNet network's first stages, against
            a painter's result, a style picture, or the mean of the pictures that words mean.
        recognition: Cross-entropy of a classifier of styles and photos on these statistics.
        content: The photo's maps in that network, without their style; not where the pair is exact.
        texture: Local contrast beyond the photo's; not where the pair is exact.
        drift: Colours that are no map of the photo's; not where the pair is exact.
        gamut: Mean square of what lies outside [0, 1] and will be cut.
        directional: CLIP direction of the whole picture.
        patch: CLIP direction of random crops.
        contrastive: InfoNCE over the batch's directions.
        layout: Low-frequency luminance against the photo.
        variation: Total variation.
        tiles: Huber's loss of what differs in a part drawn alone, as a tile of a large picture is.
    """

    pixel: float = 1.0
    distil: float = 0.0
    adversarial: float = 0.0
    statistics: float = 0.0
    recognition: float = 0.0
    content: float = 0.0
    texture: float = 0.0
    drift: float = 0.0
    gamut: float = 0.0
    directional: float = 0.0
    patch: float = 0.0
    contrastive: float = 0.0
    layout: float = 0.0
    variation: float = 0.0
    tiles: float = 0.0

    @property
    def looks(self) -> bool:
        """Whether a loss needs the ImageNet network."""
        return bool(self.statistics or self.recognition or self.content)


class StylizerTask(nn.Module):
    """Named losses of a batch of pairs.

    Over several processes the mean of their losses, and of the gradients, is that of one process
    with the joint batch (but for the losses "patch" and "tiles", whose parts of the pictures each
    process draws for itself).

    Args:
        stylizer: The model that is trained.
        clip: Encoder of the directional losses and of the identity samples.
        source: Unit point (E,) where photos lie.
        weights: Which losses are computed.
        look: What the losses "statistics", "recognition" and "content" see of a picture.
        spread: Deviation of each statistic among styles, (S,).
        classifier: Of standardised statistics (B, S), for the loss "recognition".
        crops: Crops per picture of the patch loss.
        gather: Joins rows of all processes with gradient, for the contrastive loss.

    Raises:
        InputError: All weights are 0, or a loss has nothing to look with.
    """

    source: Tensor
    spread: Tensor | None

    def __init__(
        self,
        stylizer: Stylizer,
        clip: Clip,
        source: Tensor,
        weights: LossWeights,
        look: Look | None = None,
        spread: Tensor | None = None,
        classifier: nn.Linear | None = None,
        crops: int = 4,
        gather: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__()
        self.stylizer = stylizer
        self.weights = weights
        if not any(dataclasses.astuple(weights)):
            raise InputError("every loss has weight 0; give one a weight")
        if weights.looks and (look is None or spread is None):
            raise InputError("the losses on style statistics need something to look with")
        if weights.recognition and classifier is None:
            raise InputError("the loss recognition needs styles with a dozen pictures each")
        # a plain attribute: a frozen network is no part of the trained state
        self._frozen: dict[str, Any] = {"clip": clip, "look": look, "classifier": classifier}
        self._gather = gather or (lambda rows: rows)
        self._patch = PatchDirectionalLoss(
            clip.encode_image, num_crops=crops, output_size=96, threshold=0.3, reduction="none"
        )
        self.discriminator = (
            PatchDiscriminator(source.numel()).to(memory_format=torch.channels_last)
            if weights.adversarial
            else None
        )
        self.register_buffer("source", source, persistent=False)
        self.register_buffer("spread", spread, persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a batch of `StylizerBatches`."""
        clip = self._frozen["clip"]
        photo, weights = batch["photo"], self.weights
        directed = weights.directional or weights.patch or weights.contrastive
        own = batch["own_style"]
        keep = ~own  # samples that have a style to go to
        share = self._gather(keep.float()).mean()
        photo_point = torch.zeros_like(batch["style"])
        with torch.no_grad():
            if directed:
                photo_point = clip.encode_image(photo)
            elif own.any():
                photo_point[own] = clip.encode_image(photo[own])
        style = torch.where(own[:, None], photo_point, batch["style"])
        result = torch.where(own[:, None, None, None], photo, batch["result"])
        seeds = batch["noise_seed"].tolist()
        height, width = photo.shape[2:]
        noise = torch.cat([self.stylizer.draw_noise(height, width, seed) for seed in seeds])
        whole = PictureMoments() if weights.tiles else None
        output = self.stylizer(photo, style, noise, whole)

        def mean(losses: Tensor, of: Tensor = share) -> Tensor:
            # over the samples of all processes that count: theirs may be more or fewer than ours
            return losses.sum() / (len(photo) * of).clamp(min=1e-6)

        losses = {}
        exact = batch["exact"] | own
        for name, some in (("pixel", exact), ("distil", batch["taught"] & keep)):
            if getattr(weights, name):
                of = self._gather(some.float()).mean()
                losses[name] = mean(pixel_loss(output[some], result[some]), of)
        if self.discriminator is not None:
            some = batch["exact"] & keep
            judged = self._adversarial(output[some], result[some], photo[some], style[some])
            of = self._gather(some.float()).mean()
            losses |= {name: mean(values, of) for name, values in judged.items()}
        if whole is not None:
            rng = random.Random(seeds[0])
            one = slice(chosen := rng.randrange(len(photo)), chosen + 1)
            given = (photo[one], style[one], noise[one], output[one])
            losses["tiles"] = self._tiles(*given, whole.rows(one), rng)
        if weights.gamut:
            losses["gamut"] = (output - output.clamp(0, 1)).square().mean()
        output = output.clamp(0, 1)
        if weights.layout:
            losses["layout"] = layout_loss(output, photo)
        if weights.variation:
            losses["variation"] = total_variation_loss(output)
        for name, loss in (("texture", excess_texture_loss), ("drift", color_drift_loss)):
            if getattr(weights, name):
                of = self._gather((~exact).float()).mean()
                losses[name] = mean(loss(output[~exact], photo[~exact], reduction="none"), of)
        if weights.looks:
            seen = self._look(output, photo, result, batch, keep)
            losses |= {name: mean(*values) for name, values in seen.items()}
        if weights.directional or weights.contrastive:
            style_direction = style - self.source
            image_direction = torch.zeros_like(style_direction)
            image_direction[keep] = clip.encode_image(output[keep]) - photo_point[keep]
        if weights.directional:
            losses["directional"] = mean(
                directional_loss(image_direction[keep], style_direction[keep], reduction="none")
            )
        if weights.patch:
            losses["patch"] = mean(
                self._patch(output[keep], photo_point[keep], style[keep], self.source[None])
            )
        if weights.contrastive:
            joint = self._gather(keep.long()).bool()
            losses["contrastive"] = contrastive_direction_loss(
                self._gather(image_direction)[joint],
                self._gather(style_direction)[joint],
                style_ids=self._gather(batch["style_id"])[joint],
            )
        return losses

    def _look(
        self, output: Tensor, photo: Tensor, result: Tensor, batch: dict[str, Tensor], keep: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Style statistics of the kept samples and content of the inexact ones: (losses, share)."""
        look, spread = self._frozen["look"], self.spread
        assert spread is not None
        side = round(output.shape[2] * batch["nearness"].item())

        def from_afar(images: Tensor) -> Tensor:
            return F.interpolate(images, (side, side), mode="bilinear", antialias=True)

        exact, free = batch["exact"] & keep, ~batch["exact"] & keep
        maps, statistics = look(from_afar(output[keep]))
        found = {}
        if self.weights.statistics:
            target = batch["target"].clone()
            with torch.no_grad():
                target[exact] = look(from_afar(result[exact]))[1]
            losses = standardised_statistics_loss(statistics, target[keep], spread, "none")
            found["statistics"] = (losses, self._gather(keep.float()).mean())
        if self.weights.recognition:
            some = batch["look"][keep] >= 0
            logits = self._frozen["classifier"](statistics[some] / spread)
            losses = F.cross_entropy(logits, batch["look"][keep][some], reduction="none")
            asked = keep & (batch["look"] >= 0)
            found["recognition"] = (losses, self._gather(asked.float()).mean())
        if self.weights.content:
            some = free[keep]
            with torch.no_grad():
                kept = look(from_afar(photo[free]))[0]
            losses = content_loss([each[some] for each in maps], kept, reduction="none")
            found["content"] = (losses, self._gather(free.float()).mean())
        return found

    def _tiles(
        self,
        photo: Tensor,
        style: Tensor,
        noise: Tensor,
        output: Tensor,
        whole: PictureMoments,
        rng: random.Random,
    ) -> Tensor:
        """Draws a tile of three quarters of the side, as `restyle_in_tiles` does."""
        side = photo.shape[2]
        length = max(GRID, side * 3 // 4 // GRID * GRID)
        y, x = (rng.randint(0, (side - length) // GRID) * GRID for _ in range(2))
        box = np.s_[..., y : y + length, x : x + length]
        grain = noise[..., y // 2 : (y + length) // 2, x // 2 : (x + length) // 2]
        tile = self.stylizer(photo[box], style, grain, whole)
        # neighbours fade into each other where this one's scans have seen little
        inner = np.s_[..., length // 8 : -length // 8, length // 8 : -length // 8]
        # The whole is held still, or it would lose its style, which makes parts differ. L1 would
        # pull as hard where all but nothing differs, a square too hard when one picture fails.
        return F.smooth_l1_loss(tile[inner], output[box].detach()[inner], beta=0.1)

    def _adversarial(
        self, output: Tensor, result: Tensor, photo: Tensor, style: Tensor
    ) -> dict[str, Tensor]:
        """Per sample: the stylizer's loss before a discriminator held still, and the latter's."""
        judge = self.discriminator
        assert judge is not None
        judge.requires_grad_(False)
        fooled = adversarial_loss(judge(output, photo, style), reduction="none")
        judge.requires_grad_(True)
        real, fake = judge(result, photo, style), judge(output.detach(), photo, style)
        told = discriminator_loss(real, fake, reduction="none")
        return {"adversarial": fooled, "discriminator": told}


def pixel_loss(output: Tensor, target: Tensor, scales: int = 4) -> Tensor:
    """L1 of pixels at `scales` halvings plus L1 of their gradients: (B, 3, H, W) to (B,)."""
    output, target = output.float(), target.float()
    total = output.new_zeros(len(output))
    for scale in range(scales):
        if scale:
            output, target = F.avg_pool2d(output, 2), F.avg_pool2d(target, 2)
        difference = output - target
        for part in (difference, difference.diff(dim=2), difference.diff(dim=3)):
            total = total + part.abs().mean((1, 2, 3))
    return total / scales

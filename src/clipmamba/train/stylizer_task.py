"""What the stylizer learns from: exact pairs first, then style statistics and CLIP directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.clip import Clip
from clipmamba.errors import InputError
from clipmamba.losses import (
    PatchDirectionalLoss,
    PatchDiscriminator,
    adversarial_loss,
    content_loss,
    contrastive_direction_loss,
    directional_loss,
    discriminator_loss,
    layout_loss,
    style_statistics_loss,
    total_variation_loss,
)
from clipmamba.models import Stylizer

CONTENT = slice(2, 4)  # of the feature maps "stages": those at a quarter and an eighth of the size


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Factor of each loss; one of 0 is not computed. Every field is a command line option.

    Attributes:
        pixel: L1 to the pair's result at several scales, with gradients.
        adversarial: A patch discriminator against the pair's result; it learns beside.
        statistics: Style statistics against a picture of the style: colour and fine texture.
        stages: The same in an ImageNet network's first stages: coarser texture and strokes.
        content: The photo's maps in that network, without their style statistics.
        directional: CLIP direction of the whole picture.
        patch: CLIP direction of random crops.
        contrastive: InfoNCE over the batch's directions.
        layout: Low-frequency luminance against the photo.
        variation: Total variation.
    """

    pixel: float = 1.0
    adversarial: float = 0.0
    statistics: float = 0.0
    stages: float = 0.0
    content: float = 0.0
    directional: float = 0.0
    patch: float = 0.0
    contrastive: float = 0.0
    layout: float = 0.0
    variation: float = 0.0


class StylizerTask(nn.Module):
    """Named losses of a batch of pairs.

    Over several processes the mean of their losses, and of the gradients, is that of one process
    with the joint batch (but for the patch loss, whose crops each process draws for itself).

    Args:
        stylizer: The model that is trained.
        clip: Encoder of the directional losses and of the identity samples.
        source: Unit point (E,) where photos lie.
        weights: Which losses are computed.
        features: What gives the feature maps for the losses "statistics" and "stages"; "content"
            takes those of "stages".
        crops: Crops per picture of the patch loss.
        gather: Joins rows of all processes with gradient, for the contrastive loss.

    Raises:
        InputError: All weights are 0, or there are no features for a loss that needs them.
    """

    source: Tensor

    def __init__(
        self,
        stylizer: Stylizer,
        clip: Clip,
        source: Tensor,
        weights: LossWeights,
        features: Mapping[str, Callable[[Tensor], Sequence[Tensor]]] | None = None,
        crops: int = 4,
        gather: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__()
        self.stylizer = stylizer
        self.weights = weights
        if not any(dataclasses.astuple(weights)):
            raise InputError("every loss has weight 0; give one a weight")
        needed = {"statistics": weights.statistics, "stages": weights.stages or weights.content}
        for name, weight in needed.items():
            if weight and name not in (features or {}):
                raise InputError(f"a loss needs the features {name!r}")
        self._features = {k: extract for k, extract in (features or {}).items() if needed[k]}
        # a plain attribute: a frozen network is no part of the trained state
        self._frozen = {"clip": clip}
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
        noise = [self.stylizer.draw_noise(height, width, seed) for seed in seeds]
        output = self.stylizer(photo, style, torch.cat(noise))

        def mean(losses: Tensor) -> Tensor:
            # over the kept samples of all processes: theirs may be more or fewer than ours
            return losses.sum() / (len(photo) * share)

        losses = {}
        if weights.pixel:
            losses["pixel"] = pixel_loss(output, result)
        if self.discriminator is not None:
            judged = self._adversarial(output[keep], result[keep], photo[keep], style[keep])
            losses |= {name: mean(values) for name, values in judged.items()}
        output = output.clamp(0, 1)
        if weights.layout:
            losses["layout"] = layout_loss(output, photo)
        if weights.variation:
            losses["variation"] = total_variation_loss(output)
        for name, features in self._features.items():
            maps = features(output[keep])
            if getattr(weights, name):
                with torch.no_grad():
                    reference = features(batch["reference"][keep])
                losses[name] = mean(style_statistics_loss(maps, reference, reduction="none"))
            if name == "stages" and weights.content:
                with torch.no_grad():
                    kept = features(photo[keep])[CONTENT]
                losses["content"] = mean(content_loss(maps[CONTENT], kept, reduction="none"))
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

    def _adversarial(
        self, output: Tensor, result: Tensor, photo: Tensor, style: Tensor
    ) -> dict[str, Tensor]:
        """Per sample: the stylizer's loss before a discriminator held still, and the latter's."""
        judge = self.discriminator
        assert judge is not None
        judge.requires_grad_(False)
        fooled = adversarial_loss(judge(output, photo, style), reduction="none")
        judge.requires_grad_(True)
        told = discriminator_loss(judge(result, photo, style), judge(output.detach(), photo, style))
        return {"adversarial": fooled, "discriminator": told}


def pixel_loss(output: Tensor, target: Tensor, scales: int = 4) -> Tensor:
    """L1 of pixels at `scales` halvings plus L1 of their gradients, for (B, 3, H, W)."""
    output, target = output.float(), target.float()
    total = output.new_zeros(())
    for scale in range(scales):
        if scale:
            output, target = F.avg_pool2d(output, 2), F.avg_pool2d(target, 2)
        difference = output - target
        total = total + difference.abs().mean()
        total = total + difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
    return total / scales

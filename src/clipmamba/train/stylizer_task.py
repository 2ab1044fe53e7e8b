"""What the stylizer learns from: exact pairs first, then style statistics and CLIP directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.clip import Clip
from clipmamba.losses import (
    PatchDirectionalLoss,
    contrastive_direction_loss,
    directional_loss,
    layout_loss,
    style_statistics_loss,
    total_variation_loss,
)
from clipmamba.models import Stylizer


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Factor of each loss; one of 0 is not computed. Every field is a command line option.

    Attributes:
        pixel: L1 to the pair's result at several scales, with gradients.
        statistics: Style statistics against a picture of the style.
        directional: CLIP direction of the whole picture.
        patch: CLIP direction of random crops.
        contrastive: InfoNCE over the batch's directions.
        layout: Low-frequency luminance against the photo.
        variation: Total variation.
    """

    pixel: float = 1.0
    statistics: float = 0.0
    directional: float = 0.0
    patch: float = 0.0
    contrastive: float = 0.0
    layout: float = 0.0
    variation: float = 0.0


class StylizerTask(nn.Module):
    """Named losses of a batch of pairs.

    Args:
        stylizer: The model that is trained.
        clip: Encoder of the directional losses and of the identity samples.
        source: Unit point (E,) where photos lie.
        weights: Which losses are computed.
        features: Shallow features for the style statistics.
        identity: How many samples of a batch become "a photo in its own style stays itself".
        crops: Crops per picture of the patch loss.
        gather: Joins rows of all processes with gradient, for the contrastive loss.
    """

    source: Tensor

    def __init__(
        self,
        stylizer: Stylizer,
        clip: Clip,
        source: Tensor,
        weights: LossWeights,
        features: Callable[[Tensor], Sequence[Tensor]] | None = None,
        identity: int = 1,
        crops: int = 4,
        gather: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__()
        self.stylizer = stylizer
        self.weights, self.identity = weights, identity
        # plain attributes: frozen networks are no part of the trained state
        self._frozen = {"clip": clip, "features": features}
        self._gather = gather or (lambda rows: rows)
        self._patch = PatchDirectionalLoss(
            clip.encode_image, num_crops=crops, output_size=96, threshold=0.3
        )
        self.register_buffer("source", source, persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of `photo`, `style`, `result`, `reference`, `style_id` as the batches give them."""
        clip = self._frozen["clip"]
        assert isinstance(clip, Clip)
        photo, style, result = batch["photo"], batch["style"], batch["result"]
        weights = self.weights
        directed = weights.directional or weights.patch or weights.contrastive
        keep = slice(self.identity, None)  # samples that have a style of their own
        with torch.no_grad():
            photo_point = clip.encode_image(photo if directed else photo[: self.identity])
        style = torch.cat([photo_point[: self.identity], style[keep]])
        result = torch.cat([photo[: self.identity], result[keep]])
        output = self.stylizer(photo, style)

        losses = {"pixel": pixel_loss(output, result)}
        output = output.clamp(0, 1)
        if weights.layout:
            losses["layout"] = layout_loss(output, photo)
        if weights.variation:
            losses["variation"] = total_variation_loss(output)
        if weights.statistics:
            features = self._frozen["features"]
            assert features is not None
            with torch.no_grad():
                reference = features(batch["reference"][keep])
            losses["statistics"] = style_statistics_loss(features(output[keep]), reference)
        if directed:
            photo_point = photo_point[keep]
            style_direction = style[keep] - self.source
            image_direction = clip.encode_image(output[keep]) - photo_point
            losses["directional"] = directional_loss(image_direction, style_direction)
        if weights.patch:
            losses["patch"] = self._patch(
                output[keep], photo_point, style[keep], self.source[None]
            )
        if weights.contrastive:
            losses["contrastive"] = contrastive_direction_loss(
                self._gather(image_direction),
                self._gather(style_direction),
                style_ids=self._gather(batch["style_id"][keep]),
            )
        return losses


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

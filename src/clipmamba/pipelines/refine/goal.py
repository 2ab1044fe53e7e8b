"""The loss of a refinement: CLIP losses, and terms that keep edges and local contrast."""

from __future__ import annotations

import torch
from torch import Tensor

from clipmamba.clip import Clip
from clipmamba.losses import PatchDirectionalLoss, directional_loss, excess_texture_loss
from clipmamba.losses.edges import edge_loss
from clipmamba.pipelines.compose import with_photo_color
from clipmamba.pipelines.refine.options import RefineOptions

TEXTURE_WINDOW = 8  # pixels
CONTRAST = 1.2  # factor by which local contrast may change at no cost
ADDED_FLOOR = 0.01  # local contrast that may be added anywhere at no cost
FADED_FLOOR = 0.03  # the same where it fades: flecks are fainter than contours


class Goal:
    """The loss for pictures of one photo, relative to the network's result.

    Edges and flat areas are compared by luma alone: CLIP's feature maps differ between models (a
    ViT has no fine ones), and a content network would need another weights file.
    """

    def __init__(
        self,
        settings: RefineOptions,
        clip: Clip,
        photo: Tensor,
        start: Tensor,
        target: Tensor,
        source: Tensor,
        preserve_color: bool | None,
        photo_color: float = 0.0,
    ) -> None:
        self.settings, self.clip, self.photo = settings, clip, photo
        self.target, self.source = target, source
        self.colors = preserve_color, photo_color
        self.patches = PatchDirectionalLoss(
            clip.encode_image,
            settings.crops,
            settings.crop_fraction,
            threshold=settings.threshold,
            output_size=clip.image_size,
        )
        with torch.no_grad():
            self.start = self._shown(start)
            self.embedding = clip.encode_image(photo)
            self.edges = (
                edge_loss(self.start, photo) if min(photo.shape[2:]) >= TEXTURE_WINDOW else None
            )

    def __call__(self, picture: Tensor, random: torch.Generator) -> Tensor:
        """Compute the loss of a picture (1, 3, h, w), with random crops from a generator."""
        settings = self.settings
        shown = self._shown(picture)
        move = self.clip.encode_image(shown) - self.embedding
        loss = directional_loss(move, self.target - self.source)
        if settings.patch:
            ends = (self.embedding, self.target, self.source)
            loss = loss + settings.patch * self.patches(shown, *ends, generator=random)
        if self.edges is not None:
            lost = edge_loss(shown, self.photo) - self.edges
            loss = loss + settings.edges * lost.clamp(min=0)
            added = excess_texture_loss(shown, self.start, TEXTURE_WINDOW, CONTRAST, ADDED_FLOOR)
            faded = excess_texture_loss(self.start, shown, TEXTURE_WINDOW, CONTRAST, FADED_FLOOR)
            loss = loss + settings.texture * (added + faded)
        return loss

    def _shown(self, picture: Tensor) -> Tensor:
        return with_photo_color(picture, self.photo, *self.colors).clamp(0, 1)

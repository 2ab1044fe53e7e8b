"""What a refinement lowers: CLIP's losses, and what holds the picture together meanwhile."""

from __future__ import annotations

import torch
from torch import Tensor

from clipmamba.clip import Clip
from clipmamba.losses import PatchDirectionalLoss, directional_loss, excess_texture_loss
from clipmamba.losses.edges import edge_loss
from clipmamba.pipelines.compose import keep_color
from clipmamba.pipelines.refine.options import RefineOptions

TEXTURE_WINDOW = 8  # pixels
CONTRAST = 1.2  # times the start's local contrast, or a part of it, are free;
ADDED_FLOOR = 0.01  # as is so little of it anywhere,
FADED_FLOOR = 0.03  # and flecks, which are fainter than contours, may fade


class Goal:
    """The loss of pictures of one photo; what the start already lost is not asked back.

    Edges and calm places are held by brightness alone: CLIP's own maps differ from model to model
    (a ViT has no fine ones), and a network for content would be another file of weights.
    """

    def __init__(
        self,
        settings: RefineOptions,
        clip: Clip,
        photo: Tensor,
        start: Tensor,
        target: Tensor,
        source: Tensor,
        preserve_color: bool,
    ) -> None:
        self.settings, self.clip, self.photo = settings, clip, photo
        self.target, self.source, self.preserve_color = target, source, preserve_color
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
        """The loss, with crops of the generator's."""
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
        if self.preserve_color:
            picture = keep_color(picture, self.photo).clamp(0, 1)
        return picture

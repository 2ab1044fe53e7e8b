"""What the stylizer learns from: style pictures, the photo's content, exact pairs, and CLIP."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.clip import Clip
from clipmamba.losses import contrastive_direction_loss, directional_loss
from clipmamba.losses.calm import calm_loss
from clipmamba.losses.vgg import Moments, VggFeatures, structure_loss, texture_loss, texture_moments
from clipmamba.models.second_design import SecondStylizer

LEVELS = 4  # of the picture's pyramid: looked at in full size, a half, a quarter, an eighth
WINDOW = 128  # pixels; in full size only a square of this side is looked at
SMALLEST = 24  # pixels; smaller pictures show VGG no texture
CLIP_SHARE = 0.25  # of the steps: what CLIP costs is half of all else
CONTENT = (0.35, 1.0)  # of the first levels: edges may be redrawn, what is where may not


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Factor of each loss; every field is a command line option.

    Attributes:
        texture: VGG's Gram matrices, means and deviations at all sizes, against a style picture
            whose strokes have the size asked for, or an exact result.
        content: The photo's VGG features after instance normalisation; not where a result is exact.
        calm: Local contrast in flat parts of the photo, beyond that of calm parts of the style.
        pixel: L1 to an exact result at several sizes, with gradients.
        gamut: Mean square of what lies outside [0, 1].
        directional: CLIP's move from photo to result, against that from photos to the style.
        contrastive: That move among those to other styles, those of the batch and 63 more.
    """

    texture: float = 3.0
    content: float = 0.2
    calm: float = 1.0
    pixel: float = 1.0
    gamut: float = 5.0
    directional: float = 0.5
    contrastive: float = 0.2


class StylizerTask(nn.Module):
    """Named losses of a batch of `StylizerBatches`, each the mean over the samples it is for.

    Args:
        stylizer: The model that is trained.
        vgg: What looks at textures and content; it is frozen and moves with the task.
        clip: What the style points are from; frozen, too. Without it there are no CLIP losses.
    """

    def __init__(self, stylizer: SecondStylizer, vgg: VggFeatures, clip: Clip | None = None):
        super().__init__()
        self.stylizer = stylizer
        # no part of the trained state
        self._frozen: tuple[VggFeatures, Clip | None] = (vgg, clip)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the frozen network, too."""
        for module in filter(None, self._frozen):
            module._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a batch of `StylizerBatches`."""
        photo, picture, result = batch["photo"], batch["picture"], batch["result"]
        free = len(picture)
        rng = random.Random(int(batch["seed"]))
        height, width = photo.shape[2:]
        noise = self.stylizer.draw_noise(height, width, rng.getrandbits(62), len(photo))
        output = self.stylizer(
            photo, batch["style"], noise.to(photo.device), stroke=batch["stroke"]
        ).float()
        inside = output.clamp(0, 1)
        losses = {"gamut": (output - inside).square().mean()}
        # what is cut still has to be drawn back by the other losses
        shown = inside + 0.02 * (output - inside)
        losses |= self._look(shown, photo, picture, result, float(batch["stroke"][0]), rng)
        losses["calm"] = calm_loss(shown[:free], photo[:free], picture)
        of_free, of_exact = batch["weights"]
        losses["content"] = of_free * losses["content"]
        losses["calm"] = of_free * losses["calm"]
        if len(result):
            losses["pixel"] = of_exact * pixel_loss(output[free:], result).mean()
        if self._frozen[1] is not None and rng.random() < CLIP_SHARE:
            losses |= self._clip_losses(self._frozen[1], shown, batch)
        return losses

    @staticmethod
    def _clip_losses(clip: Clip, output: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            before = clip.encode_image(batch["photo"])
        move = clip.encode_image(output) - before
        wish = batch["style"] - batch["source"]
        others = batch["others"] - batch["source"]
        return {
            "directional": directional_loss(move, wish),
            "contrastive": contrastive_direction_loss(move, wish, negatives=others),
        }

    def _look(
        self,
        output: Tensor,
        photo: Tensor,
        picture: Tensor,
        result: Tensor,
        stroke: float,
        rng: random.Random,
    ) -> dict[str, Tensor]:
        """Texture and content over the levels of the pyramid."""
        vgg = self._frozen[0]
        free = len(picture)
        textures, contents = [], []
        for level in range(LEVELS):
            side = output.shape[2] >> level
            if side < 2 * SMALLEST and level:
                break
            seen = torch.cat([output, photo[:free], result])
            seen = _reduced(seen, side)
            if side > WINDOW:
                y, x = (rng.randrange(0, side - WINDOW + 1, 8) for _ in range(2))
                seen = seen[..., y : y + WINDOW, x : x + WINDOW]
            own, beside = seen[: len(output)], seen[len(output) :]
            maps = vgg(own)
            moments = [texture_moments(each) for each in maps]
            with torch.no_grad():
                kept = vgg(beside)
                kept_moments = [texture_moments(each) for each in kept]
                targets = self._targets(picture, stroke / 2**level, rng)
            # exact results, which come last, say themselves what texture they want
            wanted = [
                Moments(*(torch.cat([a, b[free:]]) for a, b in zip(one, two, strict=True)))
                for one, two in zip(targets, kept_moments, strict=True)
            ]
            textures.append(texture_loss(moments, wanted, "none"))
            if level < len(CONTENT):
                some = slice(0, free)
                contents.append(
                    CONTENT[level]
                    * structure_loss(
                        maps[-1][some],
                        moments[-1].rows(some),
                        kept[-1][some],
                        kept_moments[-1].rows(some),
                    )
                )
        # the root lets no hard style rule the others
        texture = torch.stack(textures).sum(0).clamp(min=1e-6).sqrt().mean()
        return {"texture": texture, "content": torch.stack(contents).sum(0).mean()}

    def _targets(self, picture: Tensor, scale: float, rng: random.Random) -> list[Moments]:
        """Moments of style pictures seen at a scale; they are never enlarged.

        Larger strokes are looked for in the coarser levels of the pyramid.
        """
        side = max(SMALLEST, round(picture.shape[2] * min(1, scale) / 8) * 8)
        seen = _reduced(picture, side)
        if side > 1.2 * WINDOW:
            y, x = (rng.randrange(side - WINDOW + 1) for _ in range(2))
            seen = seen[..., y : y + WINDOW, x : x + WINDOW]
        return [texture_moments(each) for each in self._frozen[0](seen)]


def _reduced(images: Tensor, side: int) -> Tensor:
    if images.shape[2] == side:
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)


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

"""Identity loss: a photo restyled with its own style must stay unchanged."""

from __future__ import annotations

from torch import Tensor, nn

from clipmamba.losses._common import (
    Reduction,
    full_precision,
    reduce_samples,
    require_images,
    require_same_places,
)


@full_precision
def identity_loss(output: Tensor, photo: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Compute the mean absolute pixel difference, for outputs made with the photo's own style.

    .. math:: L = \operatorname{mean}\lvert y - x \rvert

    From SANet (Park & Lee, CVPR 2019), with L1 in place of their squared error, which tolerates
    small errors everywhere. Computed in float32, also under autocast.

    Args:
        output: The stylizer's output for (x, E(x)), (B, 3, H, W) in [0, 1].
        photo: x, the same shape and range.
        reduction: "mean" or "sum" over the batch, or "none".

    Returns:
        Scalar in [0, 1], or (B,) with reduction "none".

    Raises:
        InputError: The shapes differ or are not those of pictures.
    """
    require_images(output)
    require_same_places(output, photo)
    return reduce_samples((output - photo).abs().mean(dim=(1, 2, 3)), reduction)


class IdentityLoss(nn.Module):
    """:func:`identity_loss` with its reduction."""

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction: Reduction = reduction

    def forward(self, output: Tensor, photo: Tensor) -> Tensor:
        """See :func:`identity_loss`."""
        return identity_loss(output, photo, self.reduction)

"""Total variation loss, which penalizes noise."""

from __future__ import annotations

from torch import Tensor, nn

from clipmamba.losses._common import Reduction, full_precision, reduce_samples, require_images


@full_precision
def total_variation_loss(image: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Compute the mean absolute step between neighboring pixels, vertical plus horizontal.

    .. math:: L = \operatorname{mean}\lvert y_{i+1,j} - y_{i,j} \rvert
        + \operatorname{mean}\lvert y_{i,j+1} - y_{i,j} \rvert

    The anisotropic form of Rudin, Osher & Fatemi (1992); a mean, so that its weight does not
    depend on the picture's size. Computed in float32, also under autocast.

    Args:
        image: (B, 3, H, W) in [0, 1].
        reduction: "mean" or "sum" over the batch, or "none".

    Returns:
        Scalar in [0, 2], or (B,) with reduction "none"; 0 for a uniform picture.

    Raises:
        InputError: ``image`` is not a batch of pictures.

    Examples:
        >>> import torch
        >>> stripes = torch.tensor([0.0, 1.0, 0.0, 1.0]).expand(1, 3, 2, 4)
        >>> total_variation_loss(stripes)
        tensor(1.)
    """
    require_images(image)
    # sum / max(count, 1), to avoid NaN for pictures one pixel high or wide
    steps = (image.diff(dim=2).abs(), image.diff(dim=3).abs())
    down, across = (step.sum(dim=(1, 2, 3)) / max(step[0].numel(), 1) for step in steps)
    return reduce_samples(down + across, reduction)


class TotalVariationLoss(nn.Module):
    """:func:`total_variation_loss` with its reduction."""

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        self.reduction: Reduction = reduction

    def forward(self, image: Tensor) -> Tensor:
        """See :func:`total_variation_loss`."""
        return total_variation_loss(image, self.reduction)

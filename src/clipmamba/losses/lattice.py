"""Lattice loss: no pattern with the period of the network's own upsampling."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import avg_pool2d, pixel_unshuffle

from clipmamba.losses._common import Reduction, full_precision, reduce_samples, require_images

PERIOD = 4  # pixels; a stylizer enlarges by two twice at the end
REPEATS = 8  # side, in periods, of the windows that a pattern is looked for in


@full_precision
def lattice_loss(output: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Penalize fine detail that repeats every four pixels, as upsampling draws it.

    .. math:: L = \frac{1}{16} \sum_{i, j = 0}^{3} \overline{m_{ij}^2},
        \qquad m_{ij} = \frac{1}{64} \sum_{k, l = 0}^{7} d_{i + 4k, j + 4l}

    with d the difference between a picture and its 3×3 mean, m in windows of 32×32 pixels. The
    share that detail without any pattern would have by chance is subtracted, but not below 0, and
    without a gradient: more detail must not lower the loss. Periods of two pixels are patterns of
    four, too.

    Odena, Dumoulin & Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016.

    Args:
        output: (B, 3, H, W) in [0, 1], at least 32 pixels high and wide.
        reduction: "mean" or "sum" over the batch, or "none".

    Returns:
        Scalar, or (B,) with reduction "none"; 0 or little more without a pattern.
    """
    require_images(output)
    detail = output - avg_pool2d(output, 3, 1, 1, count_include_pad=False)
    height, width = (side // PERIOD * PERIOD for side in output.shape[2:])
    phases = pixel_unshuffle(detail[..., :height, :width], PERIOD)
    pattern = avg_pool2d(phases, REPEATS, REPEATS // 2).square().mean((1, 2, 3))
    chance = phases.detach().square().mean((1, 2, 3)) / REPEATS**2
    return reduce_samples((pattern - chance).clamp(min=0), reduction)

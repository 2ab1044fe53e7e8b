"""Color loss: the style's colors, each where the photo has the most similar one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from clipmamba.losses._common import Reduction, full_precision, reduce_samples, require_images

CELL = 8  # side in pixels of the squares whose mean colors are compared
SPREAD = 0.05  # deviation added to the photo's colors, so that gray ones keep their place


@full_precision
def color_loss(
    output: Tensor, photo: Tensor, style_picture: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    """Compare colors with those of the photo, moved to the style's palette by the shortest way.

    The texture loss asks for the style's colors, but not where they belong, so they end up in
    random patches: a blue cheek, a red and blue sky. The photo's colors, mapped linearly to the
    mean and the covariance of the style's so that they move as little as possible, say where each
    belongs. Only mean colors of 8×8 pixels are compared.

    Pitié & Kokaram, "The Linear Monge-Kantorovitch Linear Colour Mapping for Example-Based Colour
    Transfer", CVMP 2007.

    Args:
        output: (B, 3, H, W) in [0, 1], H and W at least 8.
        photo: The same shape.
        style_picture: (B, 3, H', W') in [0, 1].
        reduction: "mean" or "sum" over the batch, or "none".

    Returns:
        Mean absolute difference, 0 to 1: a scalar, or (B,) with reduction "none".
    """
    require_images(output)
    with torch.no_grad():
        wanted = avg_pool2d(recolor(photo, style_picture).clamp(0, 1), CELL)
    return reduce_samples((avg_pool2d(output, CELL) - wanted).abs().mean((1, 2, 3)), reduction)


def recolor(photos: Tensor, palettes: Tensor) -> Tensor:
    """Map the colors of photos (B, 3, H, W) linearly to the moments of others (B, 3, H', W')."""
    own, mean, covariance = _moments(photos)
    _, wanted_mean, wanted = _moments(palettes)
    root, inverse = _roots(covariance + SPREAD**2 * torch.eye(3, device=photos.device))
    middle, _ = _roots(root @ wanted @ root)
    moved = inverse @ middle @ inverse @ (own - mean) + wanted_mean
    return moved.view_as(photos)


def _moments(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the colors (B, 3, N), their mean (B, 3, 1), and their covariance (B, 3, 3)."""
    colors = images.flatten(2)
    mean = colors.mean(2, keepdim=True)
    off = colors - mean
    return colors, mean, off @ off.mT / colors.shape[2]


def _roots(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """Return the square root of positive matrices (B, 3, 3), and its inverse."""
    values, vectors = torch.linalg.eigh(symmetric)
    root = values.clamp(min=1e-8).sqrt()[:, None, :]
    return (vectors * root) @ vectors.mT, (vectors / root) @ vectors.mT

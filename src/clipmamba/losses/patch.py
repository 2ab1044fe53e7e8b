"""Patch-wise directional loss: every crop of the output must show the style."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, grid_sample

from clipmamba.errors import InputError
from clipmamba.losses._common import (
    DIRECTION_EPS,
    Reduction,
    embedding_direction,
    full_precision,
    reduce_samples,
    require_images,
    unit_directions,
)

MAX_DISTORTION = 2 / 3
"""From this distortion on, a quadrilateral can fold over itself."""

_CORNERS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])  # (x, y), clockwise


@full_precision
def random_perspective_crops(
    images: Tensor,
    num_crops: int,
    crop_fraction: float = 0.25,
    distortion: float = 0.5,
    output_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Take random square crops with a random perspective from every picture.

    Each corner of a crop moves inward by up to ``distortion`` / 2 of its side, as in torchvision's
    ``RandomPerspective``; but the quadrilateral is stretched to a full square instead of being
    placed on a black background, so that only the picture is visible. Differentiable in
    ``images``; one call of ``grid_sample`` per batch, no copies of the pictures.

    Args:
        images: (B, 3, H, W), any range.
        num_crops: Number of crops per picture.
        crop_fraction: Side of a crop as a share of the picture's shorter side, in (0, 1].
        distortion: Strength of the perspective in [0, 2/3); 0 gives straight crops.
        output_size: Side s of the result in pixels; None keeps the crop's size. Larger crops are
            averaged (no aliasing), smaller ones interpolated bilinearly.
        generator: Source of the random numbers, on any device; the same state gives the same
            crops. None for torch's global one.

    Returns:
        (B * num_crops, 3, s, s) in the range of ``images``, picture by picture: the crops of
        picture b are rows b * num_crops to (b + 1) * num_crops - 1. float32 also under autocast.

    Raises:
        InputError: ``images`` are not pictures, or an argument is out of range.
    """
    require_images(images)
    if num_crops < 1:
        raise InputError(f"num_crops must be at least 1, not {num_crops}")
    if not 0 < crop_fraction <= 1:
        raise InputError(f"crop_fraction must be in (0, 1], not {crop_fraction}")
    if not 0 <= distortion < MAX_DISTORTION:
        raise InputError(f"distortion must be in [0, 2/3), not {distortion}")
    if output_size is not None and output_size < 1:
        raise InputError(f"output_size must be at least 1, not {output_size}")
    batch, channels, height, width = images.shape
    side = max(1, round(crop_fraction * min(height, width)))
    size = side if output_size is None else output_size
    oversampling = math.ceil(side / size)

    # drawn in float32 on the generator's device, so that a seed gives the same crops everywhere
    draw_device = "cpu" if generator is None else generator.device
    draws = torch.rand(batch, num_crops, 10, generator=generator, device=draw_device)
    draws = draws.to(images).flatten(0, 1)  # (P, 10), P = B * num_crops
    left = (draws[:, 0] * (width - side + 1)).floor().clamp(max=width - side)
    top = (draws[:, 1] * (height - side + 1)).floor().clamp(max=height - side)
    corners = _CORNERS.to(images)
    inward = 1 - 2 * corners
    quads = corners + inward * draws[:, 2:].view(-1, 4, 2) * (distortion / 2)  # (P, 4, 2)

    x, y = _quad_coordinates(quads, size * oversampling)  # (P, S, S) in [0, 1] of the crop
    grid = torch.stack(
        [
            _sampling_coordinate(x, left, side, width),
            _sampling_coordinate(y, top, side, height),
        ],
        dim=-1,
    )
    # stack the crops of a picture in one tall sampling grid, so that the picture is not repeated
    grid = grid.view(batch, num_crops * size * oversampling, size * oversampling, 2)
    crops = grid_sample(images, grid, mode="bilinear", align_corners=False)
    crops = crops.view(batch, channels, num_crops, size * oversampling, size * oversampling)
    crops = crops.transpose(1, 2).flatten(0, 1)
    return avg_pool2d(crops, oversampling) if oversampling > 1 else crops


def _quad_coordinates(quads: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Map the pixel centers of a square grid into quadrilaterals by their homography.

    The closed form is Heckbert's ("Fundamentals of Texture Mapping", 1989, section 2.2.3).

    Args:
        quads: (P, 4, 2) convex, corners (x, y) clockwise from the top left.
        size: Side S of the grid.

    Returns:
        x and y, both (P, S, S).
    """
    p0, p1, p2, p3 = quads.unbind(dim=1)
    excess = p0 - p1 + p2 - p3
    edge1, edge2 = p1 - p2, p3 - p2
    determinant = _cross(edge1, edge2)
    g = (_cross(excess, edge2) / determinant)[:, None]
    h = (_cross(edge1, excess) / determinant)[:, None]
    along_u = p1 - p0 + g * p1
    along_v = p3 - p0 + h * p3
    centers = (torch.arange(size, device=quads.device, dtype=quads.dtype) + 0.5) / size
    u, v = centers[None, None, :], centers[None, :, None]

    # written out instead of a matrix product: TF32 would make the coordinates inaccurate
    def plane(in_u: Tensor, in_v: Tensor, constant: Tensor) -> Tensor:
        return in_u[:, None, None] * u + in_v[:, None, None] * v + constant[:, None, None]

    depth = plane(g[:, 0], h[:, 0], torch.ones_like(determinant))
    x = plane(along_u[:, 0], along_v[:, 0], p0[:, 0]) / depth
    y = plane(along_u[:, 1], along_v[:, 1], p0[:, 1]) / depth
    return x, y


def _cross(first: Tensor, second: Tensor) -> Tensor:
    return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]


def _sampling_coordinate(inside: Tensor, start: Tensor, side: int, length: int) -> Tensor:
    """Convert a crop's coordinate in [0, 1] to ``grid_sample``'s in [-1, 1] of the picture.

    It stays half a pixel inside the crop, so that interpolation does not reach beyond its edge.
    """
    pixels = start[:, None, None] + (inside * side).clamp(0.5, side - 0.5)
    return 2 * pixels / length - 1


@full_precision
def patch_directional_loss(
    crop_embeddings: Tensor,
    photo_embedding: Tensor,
    style_direction: Tensor,
    threshold: float = 0.7,
    reduction: Reduction = "mean",
    eps: float = DIRECTION_EPS,
) -> Tensor:
    r"""Compute the directional loss over crops, without those that already satisfy it.

    .. math::

        \ell_i = 1 - \cos\bigl(E(y_i) - E(x),\; E(s) - E(\mathrm{source})\bigr), \qquad
        L = \frac{1}{n} \sum_i \ell_i\,[\ell_i \ge \tau]

    From CLIPstyler (Kwon & Ye, CVPR 2022): without the threshold, the easiest crops would be
    over-stylized first. Computed in float32, also under autocast.

    Args:
        crop_embeddings: E(y_i), (B * n, E) unit rows, picture by picture.
        photo_embedding: E(x) of the whole photos, (B, E) unit rows.
        style_direction: E(s) - E(source), (B, E), (1, E) or (E,).
        threshold: tau; a crop with a loss below it contributes neither value nor gradient. 0
            keeps all.
        reduction: "mean" or "sum" over the batch, or "none".
        eps: Shortest direction that counts fully, see :func:`directional_loss`.

    Returns:
        Scalar, or (B,) with reduction "none", in [0, 2]; 0 once every crop is satisfied.

    Raises:
        InputError: The shapes are inconsistent or ``reduction`` is unknown.
    """
    batch, embed_dim = photo_embedding.shape
    rows = crop_embeddings.shape[0]
    if crop_embeddings.shape[-1] != embed_dim or style_direction.shape[-1] != embed_dim:
        raise InputError(
            "crops, photo and style must come from the same CLIP, got embeddings of "
            f"{crop_embeddings.shape[-1]}, {embed_dim} and {style_direction.shape[-1]} numbers"
        )
    if rows == 0 or rows % batch:
        raise InputError(f"{rows} crops can't be divided evenly among {batch} photos")
    crop_directions = crop_embeddings.reshape(batch, -1, embed_dim) - photo_embedding[:, None]
    style_direction = style_direction.expand(batch, embed_dim)[:, None]
    cosine = unit_directions(crop_directions, eps) * unit_directions(style_direction, eps)
    losses = 1 - cosine.sum(dim=-1)  # (B, n)
    losses = losses.where(losses >= threshold, 0.0)
    return reduce_samples(losses.mean(dim=1), reduction)


class PatchDirectionalLoss(nn.Module):
    """:func:`patch_directional_loss` over :func:`random_perspective_crops` of the output.

    All crops of all pictures go through the encoder in one call.

    Args:
        encoder: Pictures (B, 3, h, w) in [0, 1] to (B, E) unit rows, such as
            ``clip.encode_image``. Runs under the caller's autocast; the loss itself is float32.
        num_crops: Crops per picture; 64 to optimize a single picture, 4 to 8 in training.
        crop_fraction: Side of a crop as a share of the picture's shorter side, in (0, 1].
        perspective: Strength of the perspective in [0, 2/3).
        threshold: tau; crops with a loss below it contribute nothing.
        output_size: Side of the crops passed to the encoder, in pixels; give its own input size to
            resample only once. None keeps the crop's size.
        reduction: "mean" or "sum" over the batch, or "none".
        eps: Shortest direction that counts fully.
    """

    def __init__(
        self,
        encoder: Callable[[Tensor], Tensor],
        num_crops: int = 64,
        crop_fraction: float = 0.25,
        perspective: float = 0.5,
        threshold: float = 0.7,
        output_size: int | None = None,
        reduction: Reduction = "mean",
        eps: float = DIRECTION_EPS,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_crops = num_crops
        self.crop_fraction = crop_fraction
        self.perspective = perspective
        self.threshold = threshold
        self.output_size = output_size
        self.reduction: Reduction = reduction
        self.eps = eps

    def forward(
        self,
        output: Tensor,
        photo_embedding: Tensor,
        style: Tensor,
        source: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Compute the loss over random crops of the output.

        Args:
            output: Stylized pictures y, (B, 3, H, W) in [0, 1].
            photo_embedding: E(x) of the whole photos, (B, E) unit rows.
            style: E(s), (B, E) or (1, E) unit rows.
            source: E(source), (B, E) or (1, E) unit rows.
            generator: Source of the crops' random numbers.

        Returns:
            See :func:`patch_directional_loss`.
        """
        crops = random_perspective_crops(
            output,
            self.num_crops,
            self.crop_fraction,
            self.perspective,
            self.output_size,
            generator,
        )
        return patch_directional_loss(
            self.encoder(crops),
            photo_embedding,
            embedding_direction(style, source),
            self.threshold,
            self.reduction,
            self.eps,
        )

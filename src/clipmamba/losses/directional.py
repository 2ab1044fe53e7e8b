"""Directional CLIP loss: the picture must move in CLIP's space in the style's direction."""

from __future__ import annotations

from torch import Tensor, nn

from clipmamba.errors import InputError
from clipmamba.losses._common import (
    DIRECTION_EPS,
    Reduction,
    embedding_direction,
    full_precision,
    reduce_samples,
    unit_directions,
)


@full_precision
def directional_loss(
    image_direction: Tensor,
    style_direction: Tensor,
    reduction: Reduction = "mean",
    eps: float = DIRECTION_EPS,
) -> Tensor:
    r"""Compute one minus the cosine between image direction and style direction.

    .. math:: L = 1 - \cos\bigl(E(y) - E(x),\; E(s) - E(\mathrm{source})\bigr)

    From StyleGAN-NADA (Gal et al., SIGGRAPH 2022). Computed in float32, also under autocast.

    Args:
        image_direction: E(y) - E(x), (B, E).
        style_direction: E(s) - E(source), (B, E) or one for all, (1, E) or (E,).
        reduction: "mean" or "sum" over the batch, or "none".
        eps: Directions shorter than this are divided by ``eps`` instead of their length: an output
            that still equals its photo has loss 1 and a gradient of at most 1 / eps.

    Returns:
        Scalar in [0, 2], or (B,) with reduction "none"; 0 for a perfect edit, 1 for an orthogonal
        one, 2 for the opposite.

    Raises:
        InputError: The embedding sizes differ or ``reduction`` is unknown.

    Examples:
        >>> import torch
        >>> east, north = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> [float(directional_loss(east, wanted)) for wanted in (3 * east, north, -east)]
        [0.0, 1.0, 2.0]
    """
    if image_direction.shape[-1] != style_direction.shape[-1]:
        raise InputError(
            "image and style direction must come from the same CLIP, got embeddings of "
            f"{image_direction.shape[-1]} and {style_direction.shape[-1]} numbers"
        )
    cosine = unit_directions(image_direction, eps) * unit_directions(style_direction, eps)
    return reduce_samples(1 - cosine.sum(dim=-1), reduction)


class DirectionalLoss(nn.Module):
    """:func:`directional_loss` from the four embeddings."""

    def __init__(self, reduction: Reduction = "mean", eps: float = DIRECTION_EPS) -> None:
        super().__init__()
        self.reduction: Reduction = reduction
        self.eps = eps

    def forward(self, output: Tensor, photo: Tensor, style: Tensor, source: Tensor) -> Tensor:
        """Compare the direction from photo to output with that from source to style.

        Args:
            output: E(y), embedding of the stylized picture, (B, E) unit rows.
            photo: E(x), embedding of the photo, (B, E) unit rows.
            style: E(s), embedding of the style, (B, E) or (1, E) unit rows.
            source: E(source), embedding of "a photo" or of plain photos, (B, E) or (1, E).

        Returns:
            See :func:`directional_loss`.
        """
        return directional_loss(
            embedding_direction(output, photo),
            embedding_direction(style, source),
            self.reduction,
            self.eps,
        )

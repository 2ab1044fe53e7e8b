"""Contrastive loss over a batch of directions: each output moves toward its own style."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clipmamba.errors import InputError
from clipmamba.losses._common import DIRECTION_EPS, full_precision, unit_directions


@full_precision
def contrastive_direction_loss(
    image_directions: Tensor,
    style_directions: Tensor,
    temperature: float = 0.07,
    style_ids: Tensor | None = None,
    eps: float = DIRECTION_EPS,
    negatives: Tensor | None = None,
) -> Tensor:
    r"""Compute symmetric InfoNCE between image directions and style directions.

    .. math::

        s_{ij} = \cos(d^{image}_i, d^{style}_j) / T, \qquad
        L = -\frac{1}{2B} \sum_i \Bigl(\log \frac{e^{s_{ii}}}{\sum_{j \in N_i} e^{s_{ij}}}
            + \log \frac{e^{s_{ii}}}{\sum_{j \in N_i} e^{s_{ji}}}\Bigr)

    where :math:`N_i` holds i itself and every j of another style, and in the first sum also the
    negatives. InfoNCE is from van den Oord et al. (2018), its symmetric form from CLIP (Radford et
    al., ICML 2021), its use over style directions follows CLAST (ECCV-W 2024). Computed in float32,
    also under autocast.

    With several processes, pass the directions (and ids) of all of them, gathered with a gradient:
    see :class:`ContrastiveDirectionLoss`.

    Args:
        image_directions: E(y) - E(x), (B, E).
        style_directions: E(s) - E(source), (B, E), the requested style of each row.
        temperature: T > 0.
        style_ids: (B,) integers; rows with equal ids have the same style and are not each other's
            negatives. None: all rows differ.
        eps: Shortest direction that counts fully, see :func:`directional_loss`.
        negatives: Directions of further styles, (K, E), which make a small batch harder.

    Returns:
        Scalar >= 0; log B if nothing can be told apart and there are no `negatives`; 0 without any
        negatives (B = 1).

    Raises:
        InputError: The shapes differ, or the temperature is not positive.
    """
    if image_directions.ndim != 2 or image_directions.shape != style_directions.shape:
        raise InputError(
            "image and style directions must both be (B, E), got "
            f"{tuple(image_directions.shape)} and {tuple(style_directions.shape)}"
        )
    if temperature <= 0:
        raise InputError(f"temperature must be positive, not {temperature}")
    batch = image_directions.shape[0]
    similarity = unit_directions(image_directions, eps) @ unit_directions(style_directions, eps).T
    logits = similarity / temperature
    if style_ids is not None:
        if style_ids.shape != (batch,):
            raise InputError(f"style_ids must be ({batch},), got {tuple(style_ids.shape)}")
        same_style = style_ids[:, None] == style_ids[None, :]
        same_style.fill_diagonal_(False)  # the row itself stays, as the positive
        logits = logits.masked_fill(same_style, float("-inf"))
    positives = torch.arange(batch, device=logits.device)
    by_picture = logits
    if negatives is not None:
        others = unit_directions(image_directions, eps) @ unit_directions(negatives, eps).T
        by_picture = torch.cat([logits, others / temperature], dim=1)
    return (cross_entropy(by_picture, positives) + cross_entropy(logits.T, positives)) / 2


class ContrastiveDirectionLoss(nn.Module):
    """:func:`contrastive_direction_loss`, optionally over the joint batch of all processes.

    Args:
        temperature: T > 0.
        gather: Concatenates a tensor (B, ...) with those of the other processes along its first
            axis, with a gradient. In training, use
            ``functools.partial(gather_with_gradient, accelerator=accelerator)``: loss and
            parameter gradients then equal those of one process with the joint batch. None: this
            process's batch is the whole batch.
        eps: Shortest direction that counts fully.
    """

    def __init__(
        self,
        temperature: float = 0.07,
        gather: Callable[[Tensor], Tensor] | None = None,
        eps: float = DIRECTION_EPS,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.gather = gather
        self.eps = eps

    def forward(
        self, image_directions: Tensor, style_directions: Tensor, style_ids: Tensor | None = None
    ) -> Tensor:
        """See :func:`contrastive_direction_loss`; all arguments are this process's own rows."""
        if self.gather is not None:
            image_directions = self.gather(image_directions)
            style_directions = self.gather(style_directions)
            style_ids = None if style_ids is None else self.gather(style_ids)
        return contrastive_direction_loss(
            image_directions, style_directions, self.temperature, style_ids, self.eps
        )

"""Losses, each as a function and as a module; docs/losses.md lists the formulas.

All losses compute in float32 (float64 stays float64), also under bf16 autocast.
"""

from clipmamba.losses.adversarial import (
    PatchDiscriminator,
    adversarial_loss,
    discriminator_loss,
)
from clipmamba.losses.content import (
    ColorDriftLoss,
    ContentLoss,
    ExcessTextureLoss,
    LayoutLoss,
    PatchNCELoss,
    color_drift_loss,
    content_loss,
    excess_texture_loss,
    layout_loss,
    patch_nce_loss,
)
from clipmamba.losses.contrastive import ContrastiveDirectionLoss, contrastive_direction_loss
from clipmamba.losses.directional import DirectionalLoss, directional_loss
from clipmamba.losses.identity import IdentityLoss, identity_loss
from clipmamba.losses.patch import (
    PatchDirectionalLoss,
    patch_directional_loss,
    random_perspective_crops,
)
from clipmamba.losses.statistics import (
    StandardizedStatisticsLoss,
    StyleStatisticsLoss,
    channel_statistics,
    standardized_statistics_loss,
    style_statistics_loss,
)
from clipmamba.losses.total_variation import TotalVariationLoss, total_variation_loss

__all__ = [
    "ColorDriftLoss",
    "ContentLoss",
    "ContrastiveDirectionLoss",
    "DirectionalLoss",
    "ExcessTextureLoss",
    "IdentityLoss",
    "LayoutLoss",
    "PatchDirectionalLoss",
    "PatchDiscriminator",
    "PatchNCELoss",
    "StandardizedStatisticsLoss",
    "StyleStatisticsLoss",
    "TotalVariationLoss",
    "adversarial_loss",
    "channel_statistics",
    "color_drift_loss",
    "content_loss",
    "contrastive_direction_loss",
    "directional_loss",
    "discriminator_loss",
    "excess_texture_loss",
    "identity_loss",
    "layout_loss",
    "patch_directional_loss",
    "patch_nce_loss",
    "random_perspective_crops",
    "standardized_statistics_loss",
    "style_statistics_loss",
    "total_variation_loss",
]

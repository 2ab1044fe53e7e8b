"""The names that users may rely on: taking one away, or adding one, is a decision."""

from __future__ import annotations

import importlib

import pytest

PUBLIC = {
    "clipmamba": "Photo Style StylizePipeline Stylizer __version__ stylize warm_up",
    "clipmamba.clip": "SOURCE_TEXT TEMPLATES VIEWS Clip encode_picture encode_prompt preprocess",
    "clipmamba.errors": "BackendError ClipmambaError InputError WeightsError",
    "clipmamba.io": "MAX_PIXELS WRITABLE check_output from_srgb read_mask read_picture "
    "read_settings srgb_profile to_srgb write_picture",
    "clipmamba.losses": "ColorDriftLoss ContentLoss ContrastiveDirectionLoss "
    "DirectionalLoss ExcessTextureLoss IdentityLoss LayoutLoss PatchDirectionalLoss "
    "PatchDiscriminator PatchNCELoss "
    "StandardizedStatisticsLoss StyleStatisticsLoss "
    "TotalVariationLoss adversarial_loss channel_statistics color_drift_loss content_loss "
    "contrastive_direction_loss directional_loss discriminator_loss excess_texture_loss "
    "identity_loss layout_loss patch_directional_loss patch_nce_loss random_perspective_crops "
    "standardized_statistics_loss style_statistics_loss total_variation_loss",
    "clipmamba.models": "Stylizer load_stylizer",
    "clipmamba.ops": "BackendStatus backend_table cross_merge cross_scan "
    "cross_selective_scan scan_backend selective_scan selective_scan_blocks selective_scan_step",
    "clipmamba.page": "PageSettings Restyle Restyled StoppedError",
    "clipmamba.pipelines": "MAX_STRENGTH Photo RefineOptions StylizeOptions StylizeOutput "
    "StylizePipeline stylize warm_up",
    "clipmamba.styles": "KNOWN_STYLES KnownStyle ResolvedStyle Style StylePrior StyleRequest "
    "find_style lookup_style resolve_style search_styles suggest_styles",
    "clipmamba.video": "CODECS FramePainter VideoOptions VideoReport WRITABLE_VIDEO stylize_video",
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_frozen(module: str) -> None:
    found = importlib.import_module(module)
    assert sorted(found.__all__) == sorted(PUBLIC[module].split())
    for name in found.__all__:
        assert getattr(found, name) is not None

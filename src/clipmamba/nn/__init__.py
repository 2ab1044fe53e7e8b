"""Modules that own parameters: mixers, style-conditioned blocks, convolutional stages."""

from clipmamba.nn.block import StyleBlock
from clipmamba.nn.conditioning import (
    PictureMoments,
    StyleAffine,
    StyleNorm,
    StyleProjection,
    TileMoments,
)
from clipmamba.nn.convolution import ConvStage, Head, Stem, StyleUpsample
from clipmamba.nn.mamba import MambaBlock, MambaState
from clipmamba.nn.mixers import AttentionMixer, ConvMixer, MambaMixer, make_mixer

__all__ = [
    "AttentionMixer",
    "ConvMixer",
    "ConvStage",
    "Head",
    "MambaBlock",
    "MambaMixer",
    "MambaState",
    "PictureMoments",
    "Stem",
    "StyleAffine",
    "StyleBlock",
    "StyleNorm",
    "StyleProjection",
    "StyleUpsample",
    "TileMoments",
    "make_mixer",
]

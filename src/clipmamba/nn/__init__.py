"""Modules that own parameters: mixers, style-conditioned blocks, convolutional stages."""

from clipmamba.nn.block import StyleBlock
from clipmamba.nn.conditioning import (
    PictureMoments,
    StyleAffine,
    StyleNorm,
    Surveyed,
    TileMoments,
)
from clipmamba.nn.convolution import Grain, SmoothUp, StyledConv
from clipmamba.nn.mamba import MambaBlock, MambaState
from clipmamba.nn.mixers import AttentionMixer, ConvMixer, MambaMixer, make_mixer

__all__ = [
    "AttentionMixer",
    "ConvMixer",
    "Grain",
    "MambaBlock",
    "MambaMixer",
    "MambaState",
    "PictureMoments",
    "SmoothUp",
    "StyleAffine",
    "StyleBlock",
    "StyleNorm",
    "StyledConv",
    "Surveyed",
    "TileMoments",
    "make_mixer",
]

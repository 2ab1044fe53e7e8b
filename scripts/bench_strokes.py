"""Measure what --stroke does, and whether strokes keep their proportion on large photos.

    python scripts/bench_strokes.py [PHOTO...] [--model DIR]

The first table is over the photos of assets/, enlarged to 1024 px, in six styles: size of the
strokes in thousandths of the longest side, and the edges kept. The second compares each PHOTO, of
12 megapixels or more, restyled and then reduced to 1024 px with the same photo reduced first. The
distances between their palettes and textures are relative to those between two seeds at 1024 px.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
from PIL import Image

from clipmamba import StylizePipeline
from clipmamba.evaluate.marks import Ground, stroke_size
from clipmamba.evaluate.metrics import Array, edge_similarity, palette, palette_distance
from clipmamba.evaluate.ruler import fit
from clipmamba.io import read_picture
from clipmamba.io.color import as_srgb

ASSETS = Path(__file__).parents[1] / "assets" / "photos"
PROMPTS = ("van gogh", "watercolor", "pencil sketch", "mosaic", "impressionism", "ukiyo-e")
STROKES = (0.5, 0.7, 1.0, 1.4, 2.0)
SIDE = 1024  # pixels at which pictures are compared
LARGE = 12e6  # pixels of a large photo, at least


@click.command()
@click.argument("files", nargs=-1, metavar="[PHOTO]...", type=click.Path(exists=True))
@click.option(
    "--model", type=click.Path(exists=True, file_okay=False), help="Saved pipeline to measure."
)
def main(files: tuple[str, ...], model: str | None) -> None:
    """Print both tables."""
    photos = {Path(file).stem: as_srgb(read_picture(file)).convert("RGB") for file in files}
    for name, photo in photos.items():
        if photo.width * photo.height < LARGE:
            raise click.BadParameter(f"{name} has fewer than {LARGE / 1e6:.0f} megapixels")
    pipeline = StylizePipeline.from_pretrained(model, device="cpu")
    compare_strokes(pipeline)
    if photos:
        compare_sizes(pipeline, photos)


def compare_strokes(pipeline: StylizePipeline) -> None:
    """Print the size of strokes and the edges kept for each stroke size, medians."""
    photos = [fit(read_picture(file), SIDE) for file in sorted(ASSETS.glob("*.jpg"))]
    grounds = [Ground(photo) for photo in photos]
    print("| --stroke | size of strokes | edges kept |\n|---|---|---|")
    for stroke in STROKES:
        sizes, kept = [], []
        for prompt in PROMPTS:
            pictures = pipeline(photos, prompt=prompt, stroke=stroke).images
            for picture, photo, ground in zip(pictures, photos, grounds, strict=True):
                sizes.append(stroke_size(picture, ground))
                kept.append(edge_similarity(picture, photo))
        print(
            f"| {stroke} | {np.nanmedian(sizes):.1f} | {statistics.median(kept):.3f} |", flush=True
        )


def compare_sizes(pipeline: StylizePipeline, photos: Mapping[str, Image.Image]) -> None:
    """Print the distances between large photos and their reductions, restyled."""
    print("| photo | megapixels | style | palette | texture |\n|---|---|---|---|---|")
    for name, photo in photos.items():
        megapixels = photo.width * photo.height / 1e6
        small = fit(photo, SIDE)
        ground = Ground(small)
        for prompt in PROMPTS:
            first, second = (pipeline(small, prompt=prompt, seed=s).images[0] for s in (0, 1))
            large = fit(pipeline(photo, prompt=prompt).images[0], SIDE)
            own = palette(first)[None]
            colors = [palette_distance(picture, own) for picture in (large, second)]
            textures = [texture_distance(picture, first, ground) for picture in (large, second)]
            ratios = [to_large / max(to_second, 1e-6) for to_large, to_second in (colors, textures)]
            print(
                f"| {name} | {megapixels:.0f} | {prompt} | {ratios[0]:.2f} | {ratios[1]:.2f} |",
                flush=True,
            )


def texture_distance(first: Image.Image, second: Image.Image, ground: Ground) -> float:
    """Compute the RMS difference between the log spectra of two pictures of one photo."""
    spectra: list[Array] = [np.log(ground.spectrum_of(p) + 1e-7) for p in (first, second)]
    return float(np.sqrt(np.square(spectra[0] - spectra[1]).mean()))


if __name__ == "__main__":
    main()

"""Metrics of brush marks: flecks, rims, stroke size.

All lengths are relative to the longest side, so that a picture and its enlargement get the same
figures.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipmamba.evaluate.metrics import Array, brightness, pixels

TEXTURE = 1 / 128  # of the longest side; anything finer is texture
REACH = 1 / 40  # of the longest side; search distance for rims beside an edge
QUIET = 0.006  # invisible texture, added to keep ratios finite in flat areas
STYLE_SIDE = 288  # longest side in pixels for comparing pictures with real ones of a style


class Ground:
    """A photo as the ground for painting: its flat areas and its edges.

    Args:
        photo: Any picture; for a style picture, its own flat areas are used.
    """

    def __init__(self, photo: Image.Image):
        self.photo = photo.convert("RGB")
        self.side = max(photo.size)

    @cached_property
    def calm(self) -> NDArray[np.bool_]:
        """Mask (H, W) of the fifth of the pixels with the weakest edges nearby."""
        return self.calmest(0.2)

    @cached_property
    def small(self) -> Ground:
        """The photo with its longest side at `STYLE_SIDE` pixels."""
        return Ground(_longest(self.photo, STYLE_SIDE))

    @cached_property
    def texture(self) -> float:
        """Strength of its own fine texture in flat areas."""
        return texture(self.photo, self)

    @cached_property
    def seam(self) -> float:
        """Difference between colors beside its strong edges and those a little farther away."""
        return self.seam_of(self.photo)

    @cached_property
    def spectrum(self) -> NDArray[np.float64]:
        """Energies of its own frequency bands, see `spectrum_of`."""
        return self.spectrum_of(self.photo)

    def calmest(self, share: float) -> NDArray[np.bool_]:
        """Compute a mask (H, W) of a share of the pixels, those with the weakest edges nearby."""
        from scipy.ndimage import maximum_filter

        strength, _, _ = _gradient(brightness(self.photo), TEXTURE * self.side)
        near = maximum_filter(strength, size=round(self.side / 32) | 1)
        mask: NDArray[np.bool_] = near <= np.quantile(near, share)
        return mask

    @cached_property
    def scales(self) -> NDArray[np.float64]:
        """Standard deviations in pixels of the blurs that delimit bands, half an octave apart."""
        return 0.5 * 2 ** np.arange(0, np.log2(self.side / 24), 0.5)

    def spectrum_of(self, image: Image.Image) -> NDArray[np.float64]:
        """Compute the band energies of another picture's luma, in the flatter half of the photo."""
        luma = brightness(image)
        steps = [luma, *(_blurred(luma, scale) for scale in self.scales)]
        return np.array([np.square(a - b)[self._calmer_half].mean() for a, b in pairwise(steps)])

    def seam_of(self, image: Image.Image) -> float:
        """Compute `seam` for another picture along this photo's edges."""
        from scipy.ndimage import map_coordinates

        colors = pixels(image)
        courses = [
            map_coordinates(colors[..., channel], self._across, order=1, mode="nearest").mean(0)
            for channel in range(3)
        ]
        course = np.stack(courses, axis=1)
        dark, bright = course[:15], course[:-16:-1]  # each from the far end toward the edge
        off = [np.abs(half[6:] - half[:4].mean(0)) for half in (dark, bright)]
        return float(np.mean(off))

    @cached_property
    def _calmer_half(self) -> NDArray[np.bool_]:
        return self.calmest(0.5)

    @cached_property
    def _across(self) -> NDArray[np.float64]:
        """Coordinates (2, edges, 41) on lines across strong edges, from dark to bright."""
        strength, down, right = _gradient(brightness(self.photo), self.side / 400)
        rows, columns = np.nonzero(strength >= np.quantile(strength, 0.97))
        kept = slice(None, None, max(1, len(rows) // 4000))
        rows, columns = rows[kept], columns[kept]
        length = strength[rows, columns] + 1e-6
        step = np.linspace(-1, 1, 41) * REACH * self.side
        y = rows[:, None] + step * (down[rows, columns] / length)[:, None]
        x = columns[:, None] + step * (right[rows, columns] / length)[:, None]
        return np.stack([y, x])


def texture(image: Image.Image, ground: Ground) -> float:
    """Compute the strength (RMS, 0 to about 0.3) of fine texture in the ground's flat areas."""
    colors = pixels(image)
    fine = colors - _blurred(colors, TEXTURE * ground.side)
    return float(np.sqrt(np.square(fine[ground.calm]).mean()))


def texture_at_one_size(image: Image.Image, ground: Ground) -> float:
    """Compute `texture` with the longest side at `STYLE_SIDE` pixels."""
    return texture(_longest(image, STYLE_SIDE), ground.small)


def flecks(output: Image.Image, ground: Ground) -> float:
    """Compute texture relative to the photo's, in the photo's flat areas; 1 if none is added."""
    return (texture(output, ground) + QUIET) / (ground.texture + QUIET)


def rims(output: Image.Image, ground: Ground) -> float:
    """Compute the strength of halos along strong edges, relative to the photo's.

    The mean color profile across the photo's strong edges is compared with its ends: strokes
    average out, a halo remains. 1 for the photo itself.
    """
    return (ground.seam_of(output) + QUIET) / (ground.seam + QUIET)


def stroke_size(output: Image.Image, ground: Ground) -> float:
    """Compute the dominant wavelength of the added texture, in thousandths of the longest side.

    This is the logarithmic mean over half-octave bands, weighted by energy minus the photo's, in
    the flatter half of the photo. NaN if no texture was added.
    """
    added = np.maximum(ground.spectrum_of(output) - ground.spectrum, 0)
    if added.sum() < 1e-6:
        return float("nan")
    # A band between two blurs responds most to a wavelength of about 4.4 times the larger sigma.
    mean = np.exp((added * np.log(4.4 * ground.scales)).sum() / added.sum())
    return float(1000 * mean / ground.side)


def _gradient(luma: Array, scale: float) -> tuple[Array, Array, Array]:
    """Compute the gradient after a blur: its strength, and its components down and right."""
    smooth = _blurred(luma, scale)
    down: Array = np.gradient(smooth, axis=0)
    right: Array = np.gradient(smooth, axis=1)
    strength: Array = np.hypot(down, right)
    return strength, down, right


def _blurred(values: Array, scale: float) -> Array:
    """Blur (H, W) or (H, W, 3) with a Gaussian; `scale` is its standard deviation in pixels."""
    from scipy.ndimage import gaussian_filter

    result: Array = gaussian_filter(values, (scale, scale, 0)[: values.ndim], truncate=3)
    return result


def _longest(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return image.convert("RGB").resize(size, Image.Resampling.BICUBIC)

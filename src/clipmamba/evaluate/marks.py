"""What a brush leaves on a photo: flecks, rims, strokes of a size.

All lengths are parts of the longest side, so that a picture and its enlargement get the same
figures.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipmamba.evaluate.metrics import Array, brightness, pixels

TEXTURE = 1 / 128  # of the longest side: what is finer is texture
REACH = 1 / 40  # of the longest side: how far from an edge a rim is looked for
QUIET = 0.006  # texture that no eye sees; keeps ratios finite on even places
STYLE_SIDE = 288  # the longest side at which pictures and real ones of a style are compared


class Ground:
    """A photo as the ground that is painted on: where it is calm, where its edges are.

    Args:
        photo: Any picture; one of a style says where it is calm itself.
    """

    def __init__(self, photo: Image.Image):
        self.photo = photo.convert("RGB")
        self.side = max(photo.size)

    @cached_property
    def calm(self) -> NDArray[np.bool_]:
        """The fifth of the places (H, W) that is farthest from edges of any strength."""
        return self.calmest(0.2)

    @cached_property
    def small(self) -> Ground:
        """The same with its longest side at `STYLE_SIDE`."""
        return Ground(_longest(self.photo, STYLE_SIDE))

    @cached_property
    def texture(self) -> float:
        """Strength of its own fine texture in calm places."""
        return texture(self.photo, self)

    @cached_property
    def seam(self) -> float:
        """How far colors beside its strong edges are from those a little farther off."""
        return self.seam_of(self.photo)

    @cached_property
    def spectrum(self) -> NDArray[np.float64]:
        """Energies of its own bands, see `spectrum_of`."""
        return self.spectrum_of(self.photo)

    def calmest(self, share: float) -> NDArray[np.bool_]:
        """A share of the places (H, W), those farthest from edges of any strength."""
        from scipy.ndimage import maximum_filter

        strength, _, _ = _gradient(brightness(self.photo), TEXTURE * self.side)
        near = maximum_filter(strength, size=round(self.side / 32) | 1)
        mask: NDArray[np.bool_] = near <= np.quantile(near, share)
        return mask

    @cached_property
    def scales(self) -> NDArray[np.float64]:
        """Deviations of the blurs between which bands lie, half an octave apart, in pixels."""
        return 0.5 * 2 ** np.arange(0, np.log2(self.side / 24), 0.5)

    def spectrum_of(self, image: Image.Image) -> NDArray[np.float64]:
        """Energies of bands of another picture's brightness, in the calmer half of the photo."""
        luma = brightness(image)
        steps = [luma, *(_blurred(luma, scale) for scale in self.scales)]
        return np.array([np.square(a - b)[self._calmer_half].mean() for a, b in pairwise(steps)])

    def seam_of(self, image: Image.Image) -> float:
        """The same as `seam`, for another picture along this photo's edges."""
        from scipy.ndimage import map_coordinates

        colors = pixels(image)
        courses = [
            map_coordinates(colors[..., channel], self._across, order=1, mode="nearest").mean(0)
            for channel in range(3)
        ]
        course = np.stack(courses, axis=1)
        dark, bright = course[:15], course[:-16:-1]  # each from its far end to beside the edge
        off = [np.abs(half[6:] - half[:4].mean(0)) for half in (dark, bright)]
        return float(np.mean(off))

    @cached_property
    def _calmer_half(self) -> NDArray[np.bool_]:
        return self.calmest(0.5)

    @cached_property
    def _across(self) -> NDArray[np.float64]:
        """Places (2, edges, 31) on lines across strong edges, from the dark side to the bright."""
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
    """Strength (RMS of the colors, 0 to about 0.3) of fine texture in the ground's calm places."""
    colors = pixels(image)
    fine = colors - _blurred(colors, TEXTURE * ground.side)
    return float(np.sqrt(np.square(fine[ground.calm]).mean()))


def texture_at_one_size(image: Image.Image, ground: Ground) -> float:
    """`texture` with the longest side at `STYLE_SIDE`."""
    return texture(_longest(image, STYLE_SIDE), ground.small)


def flecks(output: Image.Image, ground: Ground) -> float:
    """How many times stronger texture is than the photo's, where the photo is calm; 1 for none."""
    return (texture(output, ground) + QUIET) / (ground.texture + QUIET)


def rims(output: Image.Image, ground: Ground) -> float:
    """How many times brighter or darker than the photo's are the seams along strong edges.

    The mean course of color across the photo's strong edges is compared with its ends: strokes
    average out, a halo stays. 1 for the photo itself.
    """
    return (ground.seam_of(output) + QUIET) / (ground.seam + QUIET)


def stroke_size(output: Image.Image, ground: Ground) -> float:
    """The dominant wavelength of the texture added, in thousandths of the longest side.

    Energies of half-octave bands, less the photo's, in the calmer half of the photo; their mean on
    a logarithmic scale. NaN where nothing was added.
    """
    added = np.maximum(ground.spectrum_of(output) - ground.spectrum, 0)
    if added.sum() < 1e-6:
        return float("nan")
    # A band between two deviations answers most to a wavelength of about 4.4 times the larger.
    mean = np.exp((added * np.log(4.4 * ground.scales)).sum() / added.sum())
    return float(1000 * mean / ground.side)


def _gradient(luma: Array, scale: float) -> tuple[Array, Array, Array]:
    """Strength of the gradient after a blur, and its parts down and to the right."""
    smooth = _blurred(luma, scale)
    down: Array = np.gradient(smooth, axis=0)
    right: Array = np.gradient(smooth, axis=1)
    strength: Array = np.hypot(down, right)
    return strength, down, right


def _blurred(values: Array, scale: float) -> Array:
    """A Gaussian blur of (H, W) or (H, W, 3) by a standard deviation in pixels."""
    from scipy.ndimage import gaussian_filter

    result: Array = gaussian_filter(values, (scale, scale, 0)[: values.ndim], truncate=3)
    return result


def _longest(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return image.convert("RGB").resize(size, Image.Resampling.BICUBIC)

"""Painters: exact pairs for training, so shape, range, repeatability and alignment are promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("skimage")

from scipy.ndimage import gaussian_filter
from skimage import data
from skimage.transform import resize

from clipmamba.errors import InputError
from clipmamba.train.painters import MIN_SIDE, PAINTERS, Painter
from clipmamba.train.painters.brushes.flow import Flow
from clipmamba.train.painters.brushes.strokes import lay_strokes
from clipmamba.train.painters.brushes.tone import Array

NAMES = sorted(PAINTERS)
LUMA = np.array([0.299, 0.587, 0.114])


@pytest.fixture(scope="module")
def photos() -> list[Array]:
    """Three photos that ship inside scikit-image, 128 pixels square."""
    sources = (data.astronaut(), data.coffee()[:, 100:500], data.chelsea()[:, 75:375])
    return [resize(s, (128, 128), anti_aliasing=True).astype(np.float32) for s in sources]


def paint(name: str, photo: Array, seed: int = 0) -> Array:
    return PAINTERS[name](photo, np.random.default_rng(seed))


def grey(picture: Array) -> Array:
    return picture @ LUMA


def correlation(a: Array, b: Array) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def edges(picture: Array) -> Array:
    """Soft edge energy, indifferent to which side is brighter."""
    band = gaussian_filter(picture, (1.5, 1.5, 0)) - gaussian_filter(picture, (3, 3, 0))
    return gaussian_filter(np.sqrt((band**2).sum(axis=2)), 1.5)


# --- every painter ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(97, 131), (64, 64), (MIN_SIDE, 50)])
def test_picture_has_the_photos_shape_and_range(
    name: str, size: tuple[int, int], photos: list[Array]
) -> None:
    photo = resize(photos[0], size, anti_aliasing=True).astype(np.float32)
    before = photo.copy()
    picture = paint(name, photo)
    assert picture.shape == photo.shape
    assert picture.dtype == np.float32
    assert np.isfinite(picture).all()
    assert picture.min() >= 0.0
    assert picture.max() <= 1.0
    np.testing.assert_array_equal(photo, before, err_msg="the photo itself was painted over")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_flat_photo_gives_numbers_not_nan(name: str, value: float) -> None:
    picture = paint(name, np.full((64, 72, 3), value, np.float32))
    assert np.isfinite(picture).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(name: str, photos: list[Array]) -> None:
    photo = photos[1][:80, :96].copy()
    first = paint(name, photo, seed=3)
    np.testing.assert_array_equal(first, paint(name, photo, seed=3))
    others = [paint(name, photo, seed) for seed in (4, 5, 6, 7)]
    assert max(np.abs(first - other).max() for other in others) > 0.02


@pytest.mark.parametrize("name", NAMES)
def test_the_picture_is_restyled(name: str, photos: list[Array]) -> None:
    """RMS change from the photo: a painter that does nearly nothing teaches nothing."""
    change = [np.sqrt(((paint(name, photo) - photo) ** 2).mean()) for photo in photos]
    assert min(change) > 0.04


@pytest.mark.parametrize("name", [n for n in NAMES if n != "stained glass"])
def test_edges_stay_in_place(name: str, photos: list[Array]) -> None:
    """The picture's edges fit the photo's better unshifted than moved by five pixels."""
    for seed, photo in enumerate(photos):
        before, after = edges(photo), edges(paint(name, photo, seed))
        inner = (slice(8, -8), slice(8, -8))
        here = correlation(before[inner], after[inner])
        moved = max(
            correlation(np.roll(before, shift, (0, 1))[inner], after[inner])
            for shift in ((5, 0), (-5, 0), (0, 5), (0, -5))
        )
        assert here > moved + 0.04, (here, moved)


# Line drawings on a dark ground and raking light have another layout of light by nature; in
# chiaroscuro the lamp, not the photo, says what is bright.
OWN_LIGHT = {"blueprint", "neon", "chalkboard", "fire", "gold relief", "baroque", "marble"}


@pytest.mark.parametrize("name", [n for n in NAMES if n not in OWN_LIGHT])
def test_light_and_dark_stay_in_place(name: str, photos: list[Array]) -> None:
    for seed, photo in enumerate(photos):
        low = gaussian_filter(grey(photo), 4)
        painted = gaussian_filter(grey(paint(name, photo, seed)), 4)
        assert correlation(low, painted) > 0.6


def test_painters_differ_from_each_other(photos: list[Array]) -> None:
    pictures = [paint(name, photos[0][::2, ::2].copy()) for name in NAMES]
    for i, first in enumerate(pictures):
        for j in range(i):
            assert np.sqrt(((first - pictures[j]) ** 2).mean()) > 0.03, (NAMES[i], NAMES[j])


def test_prompts_are_typed_words_and_mean_one_painter() -> None:
    assert len(PAINTERS) >= 16
    owner: dict[str, str] = {}
    for key, painter in PAINTERS.items():
        assert key == painter.name
        assert 8 <= len(painter.prompts) <= 15
        assert key in {prompt.replace("-", " ") for prompt in painter.prompts} | set(
            painter.prompts
        )
        for prompt in painter.prompts:
            assert prompt == prompt.strip()
            assert prompt.lower() not in owner, (prompt, key, owner.get(prompt.lower()))
            owner[prompt.lower()] = key


def test_docs_list_every_painter() -> None:
    page = (Path(__file__).parents[2] / "docs" / "painters.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")}
    assert rows - {"painter"} == set(PAINTERS)


@pytest.mark.parametrize(
    ("photo", "words"),
    [
        (np.zeros((64, 64, 3), np.float64), "float32"),
        (np.zeros((64, 64), np.float32), "float32 array"),
        (np.zeros((64, MIN_SIDE - 1, 3), np.float32), "too small"),
    ],
)
def test_wrong_arrays_are_refused(photo: Array, words: str) -> None:
    with pytest.raises(InputError, match=words):
        PAINTERS["mosaic"](photo, np.random.default_rng(0))


def test_texture_grows_with_the_picture(photos: list[Array]) -> None:
    """Pixel-art blocks cover the same share of a picture twice as large."""
    large = resize(photos[0], (256, 256), anti_aliasing=True).astype(np.float32)

    def blocks(photo: Array) -> int:
        picture = paint("pixel art", photo)
        return int((np.abs(np.diff(picture, axis=1)).sum(axis=(0, 2)) > 0).sum()) + 1

    small_count, large_count = blocks(photos[0]), blocks(large)
    assert 0.8 < small_count / large_count < 1.25


# --- what a stranger would recognise ---------------------------------------------------------


@pytest.mark.parametrize("name", ["pencil sketch", "film noir"])
def test_grey_media_are_grey(name: str, photos: list[Array]) -> None:
    picture = paint(name, photos[0])
    assert np.ptp(picture, axis=2).max() < 1e-6
    assert picture.std() > 0.1


def test_a_pencil_sketch_is_lines_on_white_paper(photos: list[Array]) -> None:
    """Half of the sheet stays empty, and the lines are those of the photo."""
    for photo in photos:
        tone = grey(paint("pencil sketch", photo))
        assert (tone > 0.85).mean() > 0.5
        assert (tone < 0.6).mean() > 0.03


def test_a_cartoon_is_flat_and_bright_between_its_outlines(photos: list[Array]) -> None:
    for photo in photos:
        picture = paint("cartoon", photo)
        flat = np.abs(np.diff(grey(picture), axis=1)) < 0.01
        assert flat.mean() > 1.15 * (np.abs(np.diff(grey(photo), axis=1)) < 0.01).mean()
        assert np.ptp(picture, axis=2).mean() > 1.15 * np.ptp(photo, axis=2).mean()


def test_pixel_art_is_constant_blocks_of_few_colours(photos: list[Array]) -> None:
    picture = paint("pixel art", photos[0])
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) <= 22
    columns = np.flatnonzero(np.abs(np.diff(picture, axis=1)).sum(axis=(0, 2)) > 0) + 1
    gaps = np.diff(columns)
    assert gaps.min() >= 2
    assert (gaps % gaps.min() == 0).all(), "changes lie on one grid"


@pytest.mark.parametrize("name", ["pixel art", "mosaic", "cross-stitch", "knitted wool"])
def test_regular_cells_lie_on_the_stylizers_own_grid(name: str) -> None:
    """At the size of the training pairs; cells of another size it can only blur."""
    grey = np.full((384, 384, 3), 0.5, np.float32)
    photo = grey + 0.2 * np.random.default_rng(0).standard_normal((384, 384, 1)).astype(np.float32)
    picture = PAINTERS[name](photo.clip(0, 1), np.random.default_rng(1)).mean(-1)
    for axis in (0, 1):
        lines = np.abs(np.diff(picture, axis=axis)).mean(axis=1 - axis)
        strength = np.abs(np.fft.rfft(lines - lines.mean(), 384))
        harmonics = strength[48::48].sum()
        assert harmonics > 0.25 * strength.sum(), axis


@pytest.mark.parametrize("name", ["blueprint", "cyanotype"])
def test_blue_prints_are_blue(name: str, photos: list[Array]) -> None:
    picture = paint(name, photos[1])
    assert (picture[..., 2] >= picture[..., 0]).mean() > 0.9
    assert (picture[..., 2] - picture[..., 0]).mean() > 0.15


def test_mosaic_has_grout_of_one_colour(photos: list[Array]) -> None:
    """A share of pixels near the grout colour, in thin lines: none is deep inside a patch."""
    for seed in (0, 1, 2):
        picture = paint("mosaic", photos[1], seed)
        grouts = np.array([[0xC9, 0xBF, 0xAB], [0x3B, 0x37, 0x33]], np.float32) / 255
        near = [np.abs(picture - grout).max(axis=2) < 0.09 for grout in grouts]
        shares = [float(mask.mean()) for mask in near]
        assert max(shares) > 0.08
        mask = near[int(np.argmax(shares))]
        assert (gaussian_filter(mask.astype(np.float32), 4) > 0.9).mean() < 0.05


def test_stained_glass_has_dark_lead_between_saturated_panes(photos: list[Array]) -> None:
    picture = paint("stained glass", photos[0])
    dark = grey(picture) < 0.18
    assert 0.08 < dark.mean() < 0.6
    assert np.ptp(picture, axis=2)[~dark].mean() > 1.5 * np.ptp(photos[0], axis=2).mean()


def test_low_poly_is_flat_between_few_edges(photos: list[Array]) -> None:
    picture = paint("low poly", photos[0])
    still = np.abs(np.diff(picture, axis=1)).max(axis=2) < 1e-6
    assert still.mean() > 0.5


@pytest.mark.parametrize("name", ["newsprint", "woodcut", "linocut", "engraving"])
def test_one_ink_prints_are_ink_or_paper(name: str, photos: list[Array]) -> None:
    """Most pixels lie near the two ends of the tone range, few between."""
    tone = grey(paint(name, photos[0]))
    low, high = np.percentile(tone, (2, 98))
    between = ((tone > low + 0.3 * (high - low)) & (tone < high - 0.3 * (high - low))).mean()
    assert high - low > 0.5
    assert between < 0.25


def test_halftone_dots_stand_on_a_screen(photos: list[Array]) -> None:
    """A flat grey becomes a periodic pattern of cyan, magenta, yellow and black."""
    picture = paint("halftone", np.full((128, 128, 3), 0.5, np.float32))
    spectrum = np.abs(np.fft.fft2(picture[..., 0] - picture[..., 0].mean()))
    assert spectrum.max() > 25 * np.median(spectrum)
    assert picture.mean() == pytest.approx(0.5, abs=0.15)


def test_ink_outlines_are_darker_than_the_flat_colour(photos: list[Array]) -> None:
    for name in ("comic book", "art nouveau", "anime", "cartoon", "ukiyo-e"):
        picture = paint(name, photos[0])
        assert (grey(picture) < 0.22).mean() > (0.02 if name != "ukiyo-e" else 0.01), name


def test_pop_art_is_loud_and_flat(photos: list[Array]) -> None:
    picture = paint("pop art", photos[0])
    assert np.ptp(picture, axis=2).mean() > 0.4


def test_neon_is_light_on_black(photos: list[Array]) -> None:
    picture = paint("neon", photos[0])
    assert np.median(grey(picture)) < 0.25
    bright = picture.max(axis=2) > 0.8
    assert 0.02 < bright.mean() < 0.4
    assert np.ptp(picture, axis=2)[bright].mean() > 0.25


def test_baroque_sinks_into_warm_dark(photos: list[Array]) -> None:
    for photo in photos:
        picture = paint("baroque", photo)
        assert grey(picture).mean() < 0.8 * grey(photo).mean()
        assert (picture[..., 0] >= picture[..., 2] - 0.02).mean() > 0.9


@pytest.mark.parametrize("name", ["sepia", "gold relief", "golden hour", "fire"])
def test_warm_styles_are_warm(name: str, photos: list[Array]) -> None:
    picture = paint(name, photos[1])
    assert (picture[..., 0] - picture[..., 2]).mean() > 0.12


@pytest.mark.parametrize("name", ["night", "frost"])
def test_cold_styles_are_cold(name: str, photos: list[Array]) -> None:
    picture = paint(name, photos[1])
    assert (picture[..., 2] - picture[..., 0]).mean() > 0.08


def test_watercolour_is_paler_and_charcoal_darker(photos: list[Array]) -> None:
    for photo in photos:
        tone = grey(photo).mean()
        assert grey(paint("watercolour", photo)).mean() > tone
        assert grey(paint("charcoal", photo)).min() < 0.15


def test_van_gogh_turns_a_grey_photo_blue_and_yellow() -> None:
    ramp = np.linspace(0, 1, 128, dtype=np.float32)
    photo = np.repeat(np.broadcast_to(ramp, (128, 128))[..., None], 3, axis=2).copy()
    picture = paint("van Gogh", photo)
    warmth = picture[..., 0] - picture[..., 2]
    assert warmth[:, 16:56].mean() < -0.1
    assert warmth[:, 96:120].mean() > 0.1


@pytest.mark.parametrize("name", ["oil painting", "impressionism", "pointillism", "embroidery"])
def test_strokes_show_even_on_a_flat_colour(name: str) -> None:
    photo = np.full((128, 128, 3), (0.3, 0.5, 0.7), np.float32)
    assert grey(paint(name, photo)).std() > 0.01


# --- the brushes -----------------------------------------------------------------------------


def test_the_last_stroke_lies_on_top() -> None:
    at = np.array([16.0, 16.0], np.float32)
    layer = lay_strokes((32, 32), at, at, 0.0, 10.0, 4.0)
    assert layer.owner[16, 16] == 1
    assert layer.alpha[16, 16] == 1.0
    assert layer.alpha[16, 25] == 0.0


def test_strokes_leave_no_holes_at_any_angle() -> None:
    for angle in np.linspace(0, np.pi, 13):
        y = x = np.array([20.0], np.float32)
        layer = lay_strokes((41, 41), y, x, float(angle), 24.0, 7.0, squareness=4)
        rows, columns = np.indices((41, 41))
        dy, dx = rows - 20, columns - 20
        along = dx * np.cos(angle) + dy * np.sin(angle)
        across = dy * np.cos(angle) - dx * np.sin(angle)
        inside = (np.abs(along) < 8) & (np.abs(across) < 2)
        assert (layer.alpha[inside] > 0.9).all()


def test_flow_smooths_along_and_not_across() -> None:
    stripes = np.tile(np.arange(32)[:, None] % 2, (1, 32)).astype(np.float32)
    flow = Flow(np.zeros((32, 32), np.float32), steps=5)
    np.testing.assert_allclose(flow.smooth(stripes), stripes, atol=1e-6)
    across = flow.smooth(stripes.T.copy())
    assert across[:, 8:-8].std() < 0.1


def test_a_painter_is_frozen() -> None:
    painter = PAINTERS["mosaic"]
    assert isinstance(painter, Painter)
    with pytest.raises(AttributeError):
        painter.name = "other"  # type: ignore[misc]

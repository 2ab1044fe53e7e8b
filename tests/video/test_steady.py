"""Frames that are carried over along the motion, without the network."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from clipmamba.video.options import VideoOptions
from clipmamba.video.steady import Steadier

Pixels = NDArray[np.float32]


def texture(height: int, width: int, seed: int = 0) -> Pixels:
    """Strokes of some three pixels, in [0, 1]."""
    noise = np.random.default_rng(seed).standard_normal((height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.2)
    return (0.5 + 0.15 * smooth / smooth.std()).clip(0, 1)


def held(photos: list[Pixels], restyled: list[Pixels]) -> list[Pixels]:
    steadier = Steadier(VideoOptions.steady)
    results = []
    for photo, frame in zip(photos, restyled, strict=True):
        steadier.look((photo * 255).round().astype(np.uint8))
        results.append(steadier.hold(frame))
    return results


def shown(photos: list[Pixels], restyled: list[Pixels]) -> tuple[list[Pixels], str]:
    """Frames as a video shows them; which needed the network (n) or motion alone (m)."""
    steadier, results, kinds = Steadier(VideoOptions.steady), [], ""
    for photo, frame in zip(photos, restyled, strict=True):
        steadier.look((photo * 255).round().astype(np.uint8))
        carried = steadier.carried()
        kinds += "n" if carried is None else "m"
        results.append(steadier.hold(frame) if carried is None else carried)
    return results, kinds


def sharpness(frame: Pixels) -> float:
    return float(np.abs(cv2.Laplacian(frame.mean(2), cv2.CV_32F))[16:-16, 16:-16].mean())


def test_strokes_drawn_anew_in_each_frame_neither_flicker_nor_become_a_wash():
    photo = texture(96, 128)
    strokes = [texture(96, 128, seed) for seed in range(12)]
    results = held([photo] * 12, strokes)
    assert sharpness(results[-1]) > 0.9 * sharpness(strokes[-1])
    change, alone = (np.abs(frames[-1] - frames[-2]).mean() for frames in (results, strokes))
    assert change < 0.3 * alone


@pytest.mark.parametrize("light", [0.05, 0.5])
def test_what_has_moved_away_leaves_no_ghost(light: float):
    """Also in the dark, where the frames differ little; its contour was painted strongly."""
    empty = np.full((96, 128, 3), light, np.float32)
    empty += 0.1 * light * (texture(96, 128) - 0.5)
    thing = empty.copy()
    thing[30:60, 40:70] = light * 2
    paper = np.full((96, 128, 3), 0.9, np.float32)
    contour = cv2.rectangle(paper.copy(), (40, 30), (69, 59), (0.1, 0.1, 0.1), 3)
    results = held([thing] * 3 + [empty] * 6, [contour] * 3 + [paper] * 6)
    assert np.abs(results[2] - contour).max() < 0.02
    assert np.abs(results[-1] - paper).max() < 0.25  # of 0.8


def test_a_pan_needs_the_network_for_every_second_frame_only():
    wide, strokes = texture(128, 360), texture(128, 360, 1)

    def pan(of: Pixels) -> list[Pixels]:
        return [of[:, 2 * turn : 2 * turn + 320] for turn in range(10)]

    results, kinds = shown(pan(wide), pan(strokes))
    assert kinds == "nmnmnmnmnm"
    for result, wanted in zip(results, pan(strokes), strict=True):
        inner = np.s_[8:-8, 8:-8]
        assert np.abs(result - wanted)[inner].mean() < 0.02
        assert sharpness(result) > 0.9 * sharpness(wanted)


def test_what_is_new_needs_the_network():
    empty = 0.3 + 0.05 * (texture(192, 256) - 0.5)
    thing = empty.copy()
    thing[90:102, 100:112] = 0.9
    _, kinds = shown([empty, thing, thing, empty], [empty] * 4)
    assert kinds == "nnmn"


def test_a_new_speck_has_its_brightness_at_once_and_its_strokes_in_the_next_frame():
    empty = 0.3 + 0.05 * (texture(256, 384) - 0.5)
    speck, painted = empty.copy(), np.full_like(empty, 0.5)
    speck[96:100, 128:132] = 0.9
    painted[96:100, 128:132] = (0.9, 0.6, 0.2)
    results, kinds = shown([empty, speck, speck], [np.full_like(empty, 0.5), painted, painted])
    assert kinds == "nmn"
    middle = np.s_[98, 130]
    assert results[1][middle].mean() > 0.7
    assert np.abs(results[1][20, 20] - 0.5).max() < 0.01
    assert np.abs(results[2][middle] - painted[middle]).max() < 0.2  # of 0.7


def test_a_cut_between_dark_scenes_is_one_and_a_cameras_noise_is_none():
    random, scene = np.random.default_rng(0), 0.12 * texture(128, 160)

    def frame(of: Pixels) -> NDArray[np.uint8]:
        noise = random.normal(0, 10, of.shape)
        return (255 * of + noise).clip(0, 255).round().astype(np.uint8)

    steadier, other = Steadier(0.9), cv2.GaussianBlur(texture(128, 160, 1), (0, 0), 8) - 0.35
    assert not steadier.look(frame(scene))
    assert all(steadier.look(frame(scene)) for _ in range(3))
    assert not steadier.look(frame(other))
    assert all(steadier.look(frame(other)) for _ in range(3))


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (9, 9)])
def test_tiny_frames_are_held(size: tuple[int, int]):
    frame = texture(*size)
    results = held([frame] * 3, [frame] * 3)
    assert np.abs(results[-1] - frame).max() < 1e-3

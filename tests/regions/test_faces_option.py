"""`faces`: keep them, soften the style in them, or style them like all else."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from drawn import drawn

from clipmamba import stylize

pytestmark = pytest.mark.skipif(  # mtcnn is not imported: its code needs TensorFlow
    any(importlib.util.find_spec(name) is None for name in ("mtcnn", "joblib", "cv2")),
    reason="needs clipmamba[regions]",
)


@pytest.fixture
def tiny(tiny_pipeline_folder: Path) -> dict[str, object]:
    return {"model": tiny_pipeline_folder, "device": "cpu", "grain": False}


def test_a_kept_face_is_the_photo_s_to_the_bit(tiny) -> None:
    photo = drawn("astronaut")
    [(left, top, right, bottom)] = photo.faces
    # The drawn box has hair at its corners; its middle is all face.
    inside = (slice(int(top) + 18, int(bottom) - 18), slice(int(left) + 15, int(right) - 15))
    before = np.asarray(photo.image).astype(int)
    made = {
        faces: np.asarray(stylize(photo.image, "oil", faces=faces, **tiny)).astype(int)
        for faces in ("keep", "soften", "style")
    }
    np.testing.assert_array_equal(made["keep"][inside], before[inside])
    np.testing.assert_array_equal(made["keep"][180:], made["style"][180:])
    plain = np.asarray(stylize(photo.image, "oil", **tiny)).astype(int)
    np.testing.assert_array_equal(made["style"], plain)  # the default
    half = (before[inside] + made["style"][inside]) / 2
    assert abs(made["soften"][inside] - half).max() <= 1


def test_a_photo_without_faces_is_as_ever_and_nothing_is_said(tiny, caplog) -> None:
    photo = drawn("spices").image
    kept = stylize(photo, "oil", faces="keep", **tiny)
    np.testing.assert_array_equal(np.asarray(kept), np.asarray(stylize(photo, "oil", **tiny)))
    assert caplog.messages == []

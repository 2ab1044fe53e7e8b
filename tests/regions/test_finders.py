"""Masks: their edges, their values, and what is said where nothing is found."""

from __future__ import annotations

import builtins
import importlib.util

import numpy as np
import pytest
import torch
from drawn import drawn
from PIL import Image, ImageChops

from clipmamba.errors import InputError, WeightsError
from clipmamba.regions.edges import follow_edges
from clipmamba.regions.find import PartFinder
from clipmamba.regions.words import OFFLINE, canonical, check_words

needs_extra = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mtcnn", "joblib", "cv2")),
    reason="needs clipmamba[regions]",
)


# -- edges -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(48, 64), (300, 200), (1, 7), (900, 1200)])
def test_a_rough_edge_moves_to_the_photo_s(size: tuple[int, int]) -> None:
    height, width = size
    photo = torch.full((1, 3, height, width), 0.1)
    border = width * 21 // 40  # of the photo; the rough mask ends a fortieth of the width before it
    photo[..., :border] = torch.tensor([0.2, 0.5, 0.9])[:, None, None]
    rough = torch.zeros(1, 1, 16, 16)
    rough[..., :8] = 1
    mask = follow_edges(rough, photo)
    assert mask.shape == (1, 1, height, width)
    assert 0 <= mask.min() <= mask.max() <= 1
    if width >= 64:
        assert abs(float((mask[0, 0] > 0.5).float().mean()) - border / width) < 0.018
        assert (mask[..., : width // 4] == 1).all()  # exactly, away from the edge
        assert (mask[..., 3 * width // 4 :] == 0).all()


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_an_even_mask_stays_even(level: float) -> None:
    photo = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    assert (follow_edges(torch.full((1, 1, 8, 8), level), photo) == level).all()


# -- what is found ---------------------------------------------------------------------------


def test_sky_is_found_at_every_size() -> None:
    photo = drawn("desert-hike")
    shares = []
    for size in ((64, 43), (256, 171), (700, 466)):
        image = photo.image.resize(size)
        tensor = torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)[None]
        mask = PartFinder()(tensor, "the sky")
        assert mask.size == size
        shares.append(np.asarray(mask).mean() / 255)
    assert max(shares) - min(shares) < 0.03


@needs_extra
def test_person_and_background_add_up_to_white() -> None:
    find, photo = PartFinder(), drawn("astronaut").tensor
    person, background = (np.asarray(find(photo, word)) for word in ("people", "background"))
    assert (person.astype(int) + background == 255).all()
    assert person[128, 100] == 255  # her chest
    assert person[10, 10] == 0  # the flag
    assert 0.2 < person.mean() / 255 < 0.7


@needs_extra
def test_a_face_is_white_and_the_rest_is_black() -> None:
    photo = drawn("grace-hopper")
    mask = np.asarray(PartFinder()(photo.tensor, "face"))
    [(left, top, right, bottom)] = photo.faces
    width, height = right - left, bottom - top
    middle = mask[
        int(top + 0.2 * height) : int(bottom - 0.2 * height),
        int(left + 0.2 * width) : int(right - 0.2 * width),
    ]
    assert (middle == 255).all()
    assert (mask[int(bottom + 0.5 * height) :] == 0).all()


@needs_extra
def test_without_a_face_there_is_nobody() -> None:
    find, photo = PartFinder(), drawn("spices").tensor
    assert find(photo, "face").getbbox() is None
    assert find(photo, "person").getbbox() is None
    assert np.asarray(find(photo, "background")).min() == 255


@needs_extra
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (19, 19)])
def test_faces_in_photos_too_small_for_one(size: tuple[int, int]) -> None:
    from clipmamba.regions.faces import find_faces

    assert len(find_faces(torch.rand(1, 3, *size))) == 0


@needs_extra
def test_a_face_is_found_once_and_the_same_each_time() -> None:
    from clipmamba.regions.faces import find_faces

    photo = drawn("obama").tensor
    first = find_faces(photo)
    assert first.shape == (1, 4)
    assert torch.equal(first, find_faces(photo))
    beside = torch.cat([photo, photo.flip(3)], 3)
    assert len(find_faces(beside)) == 2


# -- words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "meant"),
    [("Sky", "sky"), ("the sky", "sky"), ("all faces", "face"), ("People", "person"),
     (" background ", "background"), ("the", "the"), ("red  boat", "red boat")],
)  # fmt: skip
def test_words_people_use(said: str, meant: str) -> None:
    assert canonical(said) == meant


def test_an_unknown_word_is_told_what_there_is() -> None:
    with pytest.raises(InputError) as caught:
        PartFinder()(torch.rand(1, 3, 8, 8), "tree")
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in ("'tree'", *OFFLINE, "--segmenter"))


@pytest.mark.parametrize("word", OFFLINE)
def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    if word == "sky":
        check_words([word], segmenter=False)  # needs none
        return
    with pytest.raises(InputError, match=r"pip install 'clipmamba\[regions\]'"):
        check_words([word], segmenter=False)
    check_words([word], segmenter=True)


@needs_extra
def test_weights_of_another_package_are_refused(monkeypatch, tmp_path) -> None:
    import joblib

    from clipmamba.regions import faces

    monkeypatch.setattr(joblib, "load", lambda file: [np.zeros((3, 3, 3, 10), np.float32)])
    faces._load.cache_clear()
    with pytest.raises(WeightsError, match="1 arrays, not 13"):
        faces.find_faces(torch.rand(1, 3, 40, 40))
    faces._load.cache_clear()


def test_a_segmenter_is_asked_in_the_words_themselves() -> None:
    asked = []

    def segmenter(picture: Image.Image, words: str) -> torch.Tensor:
        asked.append((picture.size, words))
        mask = torch.zeros(8, 8)
        mask[:, :4] = 1
        return mask

    photo = torch.zeros(1, 3, 30, 40)
    photo[..., :20] = 1
    mask = np.asarray(PartFinder(segmenter)(photo, "The sky"))
    assert asked == [((40, 30), "The sky")]
    assert (mask[:, :15] == 255).all()
    assert (mask[:, 25:] == 0).all()
    assert PartFinder(lambda *_: torch.full((8, 8), 0.3))(photo, "a boat").getbbox() is None


def test_nothing_heavy_is_imported_for_the_sky(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def guarded(name: str, *rest: object) -> object:
        assert name.split(".")[0] not in ("cv2", "mtcnn", "transformers", "joblib")
        return real(name, *rest)

    photo = drawn("pagoda").tensor
    monkeypatch.setattr(builtins, "__import__", guarded)
    mask = PartFinder()(photo, "sky")
    assert ImageChops.invert(mask).getbbox()

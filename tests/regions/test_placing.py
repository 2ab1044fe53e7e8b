"""From words in the request to places in each photo."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipmamba import stylize
from clipmamba.errors import InputError
from clipmamba.styles import StyleRequest
from clipmamba.styles.request import Part

LEFT = Image.new("L", (48, 32))
LEFT.paste(255, (0, 0, 24, 32))


def segmenter(picture: Image.Image, words: str) -> torch.Tensor:
    """Finds "left" and "right", softly in the middle, and nothing else."""
    ramp = (torch.arange(16) - 4).clamp(0, 8) / 8
    mask = {"left": 1 - ramp, "right": ramp}.get(words, torch.zeros(16))
    return mask.expand(16, 16)


@pytest.fixture
def tiny(tiny_pipeline_folder: Path) -> dict[str, object]:
    return {"model": tiny_pipeline_folder, "device": "cpu", "grain": False}


@pytest.fixture
def even() -> Image.Image:
    return Image.new("RGB", (48, 32), (90, 140, 60))


def colors(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


# -- requests --------------------------------------------------------------------------------


@pytest.mark.parametrize("area", ["sky", "the red boat", "person", "no-file"])
def test_words_are_a_part(area: str) -> None:
    request = StyleRequest.parse("oil", mask=area, regions={area: "ice"}, keep=area)
    assert request.parts == [Part(area)] * 3
    assert request.files == []


@pytest.mark.parametrize("area", ["sky.png", "masks/sky", "./sky", "a\\b"])
def test_file_names_are_files(area: str) -> None:
    request = StyleRequest.parse("oil", mask=area, regions=[(area, "ice")], keep=[area])
    assert request.parts == []
    assert request.files == [("mask", area)] * 3


def test_a_file_that_is_there_is_a_file(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    LEFT.save("sky", "PNG")
    assert StyleRequest.parse("oil", mask="sky").parts == []


def test_a_folder_of_that_name_is_no_mask(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sky").mkdir()
    request = StyleRequest.parse("oil", mask="sky", regions={"sky": "ice"}, keep="sky")
    assert request.parts == [Part("sky")] * 3


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"prompt": "oil", "mask": " "}, "needs a name"),
        ({"prompt": "oil", "faces": "blur"}, "faces must be one of keep, soften, style"),
        ({"mask": "sky"}, "no style"),
        ({"prompt": "oil", "mask": "tree"}, "can't find 'tree'"),
        ({"prompt": "oil", "segmenter": segmenter}, "without a part to find"),
        ({"prompt": "oil", "faces": "keep", "segmenter": segmenter}, "without a part to find"),
    ],
)
def test_what_can_t_be_done_is_said_before_weights_load(keywords, message: str) -> None:
    with pytest.raises(InputError, match=message):
        stylize(LEFT, model="no-such-folder", **keywords)


def test_a_pipeline_refuses_unknown_words_too(tiny_pipeline, photo) -> None:
    with pytest.raises(InputError, match=r"can't find 'tree'.*segmenter= of stylize\(\)"):
        tiny_pipeline(photo, prompt="oil", mask="tree")


# -- pictures --------------------------------------------------------------------------------


def test_parts_are_composed_as_masks_are(photo, tiny) -> None:
    """Words give to the bit what their masks give, alone, joined, mixed with files and kept."""
    from clipmamba.pipelines.photo import Photo
    from clipmamba.regions.find import PartFinder

    find = PartFinder(segmenter)
    mask = {word: find(Photo.open(photo).tensor, word) for word in ("left", "right")}
    for by_words, by_masks in (
        ({"mask": "left"}, {"mask": mask["left"]}),
        ({"mask": ["left", "right"]}, {"mask": [mask["left"], mask["right"]]}),
        ({"regions": {"left": "ice", "right": "fire"}},
         {"regions": [(mask["left"], "ice"), (mask["right"], "fire")]}),
        ({"regions": [("left", "ice"), (LEFT, "fire")], "keep": ["right"]},
         {"regions": [(mask["left"], "ice"), (LEFT, "fire")], "keep": mask["right"]}),
    ):  # fmt: skip
        text = None if "regions" in by_words else "oil"
        found = stylize(photo, text, segmenter=segmenter, **by_words, **tiny)
        wanted = stylize(photo, text, **by_masks, **tiny)
        np.testing.assert_array_equal(colors(found), colors(wanted))
        assert (colors(found) != colors(photo)).any()


def test_regions_are_laid_over_one_another_in_their_order(tiny_pipeline) -> None:
    photo = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    masks = [torch.rand(32, 48, generator=torch.Generator().manual_seed(n)) for n in (1, 2, 3)]
    masks = [(mask * 255).round() / 255 for mask in masks]  # as they are kept
    options = {"grain": False}
    ice, fire = (tiny_pipeline(photo, prompt=p, **options).images for p in ("ice", "fire"))
    made = tiny_pipeline(
        photo, regions=[(masks[0], "ice"), (masks[1], "fire")], keep=masks[2], **options
    ).images
    below, above, kept = masks
    weights = [
        (1 - below) * (1 - above) * (1 - kept) + kept, below * (1 - above) * (1 - kept),
        above * (1 - kept),
    ]  # fmt: skip
    torch.testing.assert_close(sum(weights), torch.ones(32, 48))
    wanted = sum(w * p for w, p in zip(weights, (photo, ice, fire), strict=True))
    torch.testing.assert_close(made, wanted, atol=2e-6, rtol=0)


def test_what_is_kept_stays_to_the_bit(photo, tiny) -> None:
    kept = stylize(photo, "oil", keep=LEFT, **tiny)
    np.testing.assert_array_equal(colors(kept)[:, :24], colors(photo)[:, :24])
    whole = stylize(photo, "oil", **tiny)
    np.testing.assert_array_equal(colors(kept)[:, 24:], colors(whole)[:, 24:])
    as_file = stylize(photo, "oil", keep="left", segmenter=segmenter, **tiny)
    np.testing.assert_array_equal(colors(as_file)[:, :8], colors(photo)[:, :8])


def test_a_kept_part_survives_a_finisher(photo, tiny) -> None:
    def finish(before, picture, seed, words):
        return torch.zeros_like(picture)

    made = stylize(photo, "oil", keep=LEFT, finish=finish, **tiny)
    np.testing.assert_array_equal(colors(made)[:, :24], colors(photo)[:, :24])
    assert (colors(made)[:, 24:] == 0).all()


def test_a_part_that_is_nowhere_leaves_the_photo_and_is_told(photo, tiny, caplog) -> None:
    with caplog.at_level(logging.WARNING, "clipmamba"):
        made = stylize(photo, "oil", mask="boat", segmenter=segmenter, variants=2, **tiny)
    assert caplog.messages == ["no boat was found in the photo"]
    for one in made:
        np.testing.assert_array_equal(colors(one), colors(photo))


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No face and no person is ever found."""
    from clipmamba.regions import faces, people, words

    def nothing(photo: torch.Tensor) -> torch.Tensor:
        return photo.new_zeros(1, 1, *photo.shape[2:])

    monkeypatch.setattr(words, "PACKAGES", {})
    monkeypatch.setattr(faces, "mask_faces", nothing)
    monkeypatch.setattr(people, "mask_people", nothing)


@pytest.mark.parametrize("where", ["mask", "keep"])
def test_a_background_without_a_person_is_told(nobody, photo, tiny, caplog, where: str) -> None:
    with caplog.at_level(logging.WARNING, "clipmamba"):
        stylize(photo, "oil", **{where: "the background"}, variants=2, **tiny)
    assert caplog.messages == ["no person was found in the photo, so all of it is background"]


def test_the_segmenter_s_background_may_be_everything(photo, tiny, caplog) -> None:
    with caplog.at_level(logging.WARNING, "clipmamba"):
        stylize(photo, "oil", mask="background", segmenter=lambda *_: torch.ones(8, 8), **tiny)
    assert caplog.messages == []


def test_faces_by_two_methods_are_reported_apart(nobody, tiny_pipeline, photo) -> None:
    from clipmamba.pipelines.parts import PartPlacer

    style = tiny_pipeline.prepare(StyleRequest.parse("oil", mask="face", faces="keep"))
    everywhere = PartPlacer(lambda *_: torch.ones(8, 8))(style, photo)
    assert everywhere.shares == {"face": 1.0, "face (offline)": 0.0}
    assert PartPlacer()(style, photo).shares == {"face": 0.0}


def test_each_photo_has_its_own_parts_and_is_looked_at_once(photo, even, tiny) -> None:
    asked = []

    def counting(picture: Image.Image, words: str) -> torch.Tensor:
        asked.append(picture.getpixel((0, 0)))
        return segmenter(picture, words)

    stylize([photo, even], "oil", mask="left", keep="left", variants=2, segmenter=counting, **tiny)
    assert len(asked) == 2
    assert asked[0] != asked[1]


def test_a_prepared_style_finds_its_parts_in_each_photo(tiny_pipeline, photo) -> None:
    from clipmamba.pipelines.parts import PartPlacer

    style = tiny_pipeline.prepare(StyleRequest.parse("oil", mask="left"))
    placed = PartPlacer(segmenter)(style, photo)
    assert style.parts == [Part("left")]
    assert placed.style.parts == []
    assert 0.4 < placed.shares["left"] < 0.6


def test_a_batch_is_refused_and_a_list_is_not(tiny_pipeline_folder) -> None:
    options = {"model": tiny_pipeline_folder, "device": "cpu", "segmenter": segmenter}
    batch = torch.rand(2, 3, 16, 24)
    with pytest.raises(InputError, match="give a list"):
        stylize(batch, "oil", mask="left", **options)
    assert len(stylize(list(batch), "oil", mask="left", **options)) == 2

"""The pipeline as diffusers' users call theirs."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from clipmamba.errors import InputError
from clipmamba.integrations.diffusers import StylizeDiffusionPipeline
from clipmamba.pipelines import StylizePipeline


@pytest.fixture
def pipe(tiny_pipeline: StylizePipeline) -> StylizeDiffusionPipeline:
    return StylizeDiffusionPipeline(tiny_pipeline)


@pytest.fixture
def image() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8)
    return Image.fromarray(pixels)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_it_is_one_of_theirs_and_does_what_ours_does(pipe, image) -> None:
    assert isinstance(pipe, DiffusionPipeline)
    result = pipe(image, "ukiyo-e").images
    expected = pipe.pipeline(image, prompt="ukiyo-e").images[0]
    assert [picture.tobytes() for picture in result] == [expected.tobytes()]
    assert pipe(image, "ukiyo-e", return_dict=False)[0][0].tobytes() == expected.tobytes()


def test_a_batch_is_its_pictures_alone(pipe, image) -> None:
    other = image.transpose(Image.Transpose.ROTATE_180)
    batch = pipe([image, other], ["mosaic", "woodcut"], generator=[seeded(1), seeded(2)]).images
    alone = [
        pipe(one, words, generator=seeded(seed)).images[0]
        for one, words, seed in ((image, "mosaic", 1), (other, "woodcut", 2))
    ]
    assert [p.tobytes() for p in batch] == [p.tobytes() for p in alone]


def test_every_output_type_shows_the_same_picture(pipe, image) -> None:
    as_image = np.asarray(pipe(image, "mosaic").images[0])
    array = pipe(image, "mosaic", output_type="np").images
    tensor = pipe(image, "mosaic", output_type="pt").images
    assert array.shape == (1, 40, 56, 3)
    assert tensor.shape == (1, 3, 40, 56)
    assert np.abs(array[0] * 255 - as_image).max() < 0.51
    assert np.array_equal(tensor[0].permute(1, 2, 0).numpy(), array[0])
    from_tensor = pipe(torch.rand(2, 3, 24, 32), "mosaic").images
    assert [picture.size for picture in from_tensor] == [(32, 24)] * 2


def test_batches_in_a_list_are_their_pictures(pipe) -> None:
    batch = torch.rand(2, 3, 24, 32, generator=seeded(0))
    single = torch.rand(3, 24, 32, generator=seeded(1))
    words = ["mosaic", "woodcut", "ukiyo-e"]
    result = pipe([batch, single], words, output_type="pt").images
    assert result.shape == (3, 3, 24, 32)
    alone = [pipe(one, word, output_type="pt").images[0] for one, word in zip(
        [batch[0], batch[1], single], words, strict=True)]  # fmt: skip
    assert torch.equal(result, torch.stack(alone))
    arrays = [batch.permute(0, 2, 3, 1).numpy(), single.permute(1, 2, 0).numpy()]
    from_arrays = pipe(arrays, words, output_type="np").images
    assert np.array_equal(from_arrays, result.permute(0, 2, 3, 1).numpy())
    assert len(pipe([batch, batch], "mosaic").images) == 4
    with pytest.raises(InputError, match="1 prompts for 2 pictures"):
        pipe([batch], ["mosaic"])


def test_colors_are_kept_as_the_option_says(pipe, image) -> None:
    def restyled(**options) -> np.ndarray:
        return np.asarray(pipe(image, "watercolor", **options).images[0], float)

    usual, kept, taken = (restyled(preserve_color=value) for value in (None, True, False))
    expected = pipe.pipeline(image, prompt="watercolor", preserve_color=False).images[0]
    assert np.array_equal(taken, np.asarray(expected))
    assert np.array_equal(usual, restyled())
    assert np.abs(usual - taken).max() > 2
    assert np.abs(usual - kept).max() > 2


def test_a_generator_draws_the_variant_and_goes_on(pipe, image) -> None:
    def picture(generator: torch.Generator) -> bytes:
        return pipe(image, "mosaic", generator=generator).images[0].tobytes()

    again = seeded(5)
    assert picture(seeded(5)) == picture(again)
    assert picture(again) != picture(seeded(5))


def test_strength_and_style_image_are_heard(pipe, image) -> None:
    assert pipe(image, "mosaic", strength=0).images[0].tobytes() == image.tobytes()
    shown = pipe(image, style_image=Image.new("RGB", (64, 64), "red")).images[0]
    assert shown.tobytes() != pipe(image, "mosaic").images[0].tobytes()


def test_each_picture_is_told(pipe, image) -> None:
    told = []

    def callback(caller, number, total, values) -> None:
        assert caller is pipe
        told.append((number, total, values["image"].size))

    pipe([image, image], "mosaic", callback_on_step_end=callback)
    assert told == [(0, 2, image.size), (1, 2, image.size)]


def test_saved_and_loaded_it_is_the_same(pipe, image, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "saved")
    loaded = StylizeDiffusionPipeline.from_pretrained(tmp_path / "saved", torch_dtype=torch.float32)
    expected = pipe(image, "mosaic").images[0].tobytes()
    assert loaded(image, "mosaic").images[0].tobytes() == expected
    loaded.save_pretrained(tmp_path / "again", safe_serialization=True, variant=None)  # as the hub
    with pytest.raises(InputError, match="safetensors"):
        loaded.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    plain = StylizePipeline.from_pretrained(tmp_path / "saved", "cpu")
    assert plain(image, prompt="mosaic").images[0].tobytes() == expected


def test_diffusers_loads_a_folder_of_ours_by_the_custom_pipeline(pipe, image, tmp_path: Path):
    pipe.pipeline.save_pretrained(tmp_path / "ours")
    file = inspect.getfile(StylizeDiffusionPipeline)
    loaded = DiffusionPipeline.from_pretrained(
        tmp_path / "ours", custom_pipeline=file, trust_remote_code=True
    )
    assert type(loaded).__name__ == "StylizeDiffusionPipeline"
    expected = pipe(image, "mosaic").images[0].tobytes()
    assert loaded(image, "mosaic").images[0].tobytes() == expected
    assert loaded.to("cpu")(image, "mosaic").images[0].tobytes() == expected


def test_device_and_dtype(pipe, image) -> None:
    before = pipe(image, "mosaic").images[0].tobytes()
    assert pipe.to("cpu") is pipe
    assert pipe.to(torch.float32).device == torch.device("cpu")
    assert pipe.dtype == torch.float32
    assert set(pipe.components) == {"stylizer", "clip", "prior"}
    assert pipe(image, "mosaic").images[0].tobytes() == before
    with pytest.raises(InputError, match="float32"):
        pipe.to(torch.float16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_type": "latent"}, "output_type"),
        ({"prompt": ["a", "b"]}, "2 prompts for 1 pictures"),
        ({"generator": []}, "0 generators for 1 pictures"),
        ({"prompt": None}, "no style given"),
    ],
)
def test_what_can_not_be_used_is_said(pipe, image, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe(image, **{"prompt": "mosaic", **options})

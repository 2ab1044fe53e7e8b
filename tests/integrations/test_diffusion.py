"""Diffusion models draw style pictures and repaint results: real pipelines with random weights."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageChops

from clipmamba import stylize
from clipmamba.errors import InputError, WeightsError
from clipmamba.integrations import pretrained
from clipmamba.integrations.diffusion import Finisher, StylePainter
from clipmamba.io import read_picture, read_settings
from clipmamba.pipelines import StylizePipeline


@pytest.fixture
def tiny(tiny_pipeline_folder: Path) -> dict[str, object]:
    return {"model": tiny_pipeline_folder, "device": "cpu", "grain": False}


@pytest.fixture(scope="module")
def finisher(diffusion_folder: Path) -> Finisher:
    return Finisher(str(diffusion_folder), 0.5, "cpu", steps=2)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(pretrained, "load_model", refuse)


def same(one: Image.Image, other: Image.Image) -> bool:
    return ImageChops.difference(one, other).getbbox() is None


def soft_photo(height: int, width: int) -> torch.Tensor:
    """Slow ramps: no edge anywhere."""
    rows = torch.linspace(0.3, 0.6, height)[:, None].expand(height, width)
    columns = torch.linspace(0.4, 0.7, width).expand(height, width)
    return torch.stack([rows, columns, 1 - rows])[None]


# -- drawing style pictures ------------------------------------------------------------------


def test_a_style_picture_is_drawn_once_and_says_how(
    diffusion_folder: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    painter = StylePainter(str(diffusion_folder), "cpu", steps=2)
    drawn = painter("tiki art", 3)
    assert drawn.size == (64, 64)
    assert min(high - low for low, high in drawn.getextrema()) > 50  # something is on it
    [file] = cache.rglob("*.png")
    assert file == painter.file("tiki art", 3)
    assert read_settings(read_picture(file)) == {
        "drawn_by": "model", "prompt": "tiki art", "seed": 3, "num_inference_steps": 2,
    }  # fmt: skip

    monkeypatch.setattr(pretrained, "load_model", None)  # not called again
    again = StylePainter(str(diffusion_folder), "cpu", steps=2)
    assert same(again("tiki art", 3), drawn)


def test_other_words_seeds_models_and_steps_are_other_pictures(
    diffusion_folder: Path, refusing_folder: Path
) -> None:
    painter = StylePainter(str(diffusion_folder), "cpu", steps=2)
    files = [
        painter.file("tiki art"),
        painter.file("tiki art!"),
        painter.file("tiki art", 1),
        StylePainter(str(refusing_folder), "cpu", steps=2).file("tiki art"),
        StylePainter(str(diffusion_folder), "cpu").file("tiki art"),
    ]
    assert len(set(files)) == len(files)
    assert painter.file("tiki art", 0) == painter.file("tiki art")
    assert not same(painter("tiki art"), painter("tiki art", 1))


def test_a_refused_picture_is_an_error_and_is_not_kept(refusing_folder: Path, cache: Path) -> None:
    with pytest.raises(InputError, match=r"safety checker .* refuses .*'tiki art'") as caught:
        StylePainter(str(refusing_folder), "cpu", steps=2)("tiki art")
    assert "\n" not in str(caught.value)
    assert not [*cache.rglob("*.png")]


def test_a_drawn_picture_goes_the_usual_way_of_style_pictures(
    diffusion_folder: Path, photo: Image.Image, tiny
) -> None:
    painter = StylePainter(str(diffusion_folder), "cpu", steps=2)
    pictures = stylize(photo, "tiki art", style_from=painter, variants=2, **tiny)
    for seed, picture in zip((None, 1), pictures, strict=True):
        wanted = stylize(photo, style_image=painter("tiki art", seed), seed=seed, **tiny)
        assert same(picture, wanted)
    assert not same(pictures[0], stylize(photo, "tiki art", **tiny))


def test_a_named_model_draws_and_mixes_by_weight(
    diffusion_folder: Path, photo: Image.Image, tiny, cache: Path
) -> None:
    mixed = stylize(photo, ["tiki art:3", "deco:1"], style_from=diffusion_folder, **tiny)
    painter = StylePainter(str(diffusion_folder), "cpu")
    drawn = {words: painter(words) for words in ("tiki art", "deco")}
    assert len([*cache.rglob("*.png")]) == 2
    images = [stylize(photo, style_image=list(drawn.values()), **tiny)]
    images += [stylize(photo, style_image=picture, **tiny) for picture in drawn.values()]
    assert not any(same(mixed, other) for other in images)  # 3:1 is neither 1:1 nor one alone


def test_a_drawing_can_be_described_too(photo: Image.Image, tiny) -> None:
    drawing = Image.new("RGB", (32, 32), "teal")
    seen = []

    def captioner(picture: Image.Image) -> str:
        seen.append(picture.getpixel((0, 0)))
        return "a lake"

    stylize(
        photo, "tiki art", style_from=lambda *_: drawing, source="auto", captioner=captioner, **tiny
    )
    assert seen == [drawing.getpixel((0, 0))]


def test_without_words_there_is_nothing_to_draw(photo: Image.Image, tiny) -> None:
    with pytest.raises(InputError, match="add a prompt"):
        stylize(photo, style_image=photo, style_from=lambda *_: photo, **tiny)


def deepfloyd(kind: str, *, refuses: bool = False, seen: list[torch.Tensor] | None = None) -> Any:
    """A pipeline of DeepFloyd IF with random weights, and one embedding for all words."""
    import diffusers
    from diffusers.pipelines.deepfloyd_if import IFSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2}  # fmt: skip
    seen_size = {**size, "image_size": 32, "patch_size": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = diffusers.UNet2DConditionModel(
            sample_size=32, layers_per_block=1, block_out_channels=(32, 64), in_channels=3,
            out_channels=6, cross_attention_dim=32, attention_head_dim=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )  # fmt: skip
        checker = IFSafetyChecker(
            CLIPConfig(text_config=size, vision_config=seen_size, projection_dim=8)
        )
        words = torch.randn(1, 4, 32)
    for head, level in ((checker.p_head, 100.0 if refuses else -100.0), (checker.w_head, -100.0)):
        head.bias.data.fill_(level)
    pipeline = getattr(diffusers, kind)(
        tokenizer=None, text_encoder=None, unet=unet, safety_checker=checker, watermarker=None,
        scheduler=diffusers.DDPMScheduler(variance_type="learned_range"),
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32),
    )  # fmt: skip
    pipeline.encode_prompt = lambda *_, **__: (words, words)
    if seen is not None:
        prepare = pipeline.preprocess_image
        pipeline.preprocess_image = lambda image: seen.append(image) or prepare(image)
    return pipeline


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], str]:
    """Makes a name from which diffusers loads a pipeline that a test has made."""
    pytest.importorskip("transformers")
    import diffusers

    def save(pipeline: Any) -> str:
        (tmp_path / "model_index.json").write_text("{}")
        pipeline.to = lambda _: pipeline
        for kind in ("AutoPipelineForText2Image", "AutoPipelineForImage2Image"):
            monkeypatch.setattr(
                getattr(diffusers, kind), "from_pretrained", lambda *_, **__: pipeline
            )
        return str(tmp_path)

    return save


def test_deepfloyds_safety_checker_is_asked(stand_in) -> None:
    name = stand_in(deepfloyd("IFPipeline", refuses=True))
    with pytest.raises(InputError, match=r"safety checker .* refuses .*'tiki art'"):
        StylePainter(name, "cpu", steps=2)("tiki art")


def test_deepfloyds_tones_are_those_that_it_draws(stand_in) -> None:
    pipeline = deepfloyd("IFPipeline")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        [wanted] = pipeline("tiki art", num_inference_steps=2, generator=generator).images
    assert same(StylePainter(stand_in(pipeline), "cpu", steps=2)("tiki art"), wanted)


def test_deepfloyd_starts_from_the_pictures_tones(stand_in) -> None:
    seen: list[torch.Tensor] = []
    name = stand_in(deepfloyd("IFImg2ImgPipeline", seen=seen))
    photo = torch.zeros(1, 3, 64, 64)
    photo[..., 32:] = 1
    Finisher(name, 0.5, "cpu", steps=2)(photo, photo)
    assert torch.equal(seen[0], 2 * photo - 1)


# -- finishing -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (5, 17), (45, 77), (64, 64)])
def test_any_size_is_finished(finisher: Finisher, size: tuple[int, int]) -> None:
    photo = soft_photo(*size)
    result = finisher(photo, photo, 1, "oil")
    assert result.shape == photo.shape
    assert 0 <= float(result.min()) <= float(result.max()) <= 1
    assert float((result - photo).abs().mean()) > 0.02
    assert torch.equal(result, finisher(photo, photo, 1, "oil"))
    assert not torch.equal(result, finisher(photo, photo, 2, "oil"))


def test_a_batch_is_finished_one_by_one(finisher: Finisher) -> None:
    photos = torch.cat([soft_photo(32, 48), soft_photo(32, 48).flip(3)])
    together = finisher(photos, photos, 1)
    assert torch.equal(together[1:], finisher(photos[1:], photos[1:], 1))


def test_a_large_picture_keeps_its_own_fine_detail(diffusion_folder: Path) -> None:
    """It is worked on smaller, and only the change is carried over."""
    small = Finisher(str(diffusion_folder), 0.5, "cpu", steps=2, pixels=32 * 32)
    photo = soft_photo(96, 128)
    fine = 0.02 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    plain, detailed = small(photo, photo), small(photo, photo + fine)
    assert plain.shape == photo.shape
    assert float((plain - photo).abs().mean()) > 0.02
    kept = detailed - plain
    inside = (plain > 0.1) & (plain < 0.9)
    assert float(torch.corrcoef(torch.stack([kept[inside], fine[inside]]))[0, 1]) > 0.8


def test_edges_of_the_photo_stay_and_the_rest_is_painted(finisher: Finisher) -> None:
    photo = torch.full((1, 3, 48, 64), 0.3)
    photo[..., 32:] = 0.7
    picture = photo * 0.9
    change = (finisher(photo, picture) - picture).abs().amax((0, 1, 2))
    assert float(change[31:33].max()) == 0
    assert float(change[:26].min()) > 0.01


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.1, float("nan")])
def test_a_strength_out_of_range_is_refused(diffusion_folder: Path, strength: float) -> None:
    with pytest.raises(InputError, match="strength of finish"):
        Finisher(str(diffusion_folder), strength)


def test_the_least_strength_still_runs(diffusion_folder: Path) -> None:
    photo = soft_photo(16, 16)
    assert Finisher(str(diffusion_folder), 0.3, "cpu", steps=1)(photo, photo).shape == photo.shape


def test_a_refused_result_is_an_error(refusing_folder: Path) -> None:
    photo = soft_photo(16, 16)
    with pytest.raises(InputError, match="safety checker"):
        Finisher(str(refusing_folder), 0.5, "cpu", steps=2)(photo, photo)


def test_numbers_that_are_not_finite_are_an_error(diffusion_folder: Path) -> None:
    broken = Finisher(str(diffusion_folder), 0.5, "cpu", steps=2)
    broken._pipeline._model.get().vae.decoder.conv_out.bias.data.fill_(float("nan"))
    photo = soft_photo(16, 16)
    with pytest.raises(InputError, match="NaN values"):
        broken(photo, photo)


def test_stylize_finishes_its_result(finisher: Finisher, tiny) -> None:
    photo = soft_photo(40, 56)
    plain = stylize(photo, "oil", seed=4, **tiny)
    finished = stylize(photo, "oil", seed=4, finish=finisher, **tiny)
    wanted = finisher(photo, plain, 4, "oil")
    torch.testing.assert_close(finished, wanted)


def test_strength_and_mask_hold_for_the_finish(finisher: Finisher, tiny) -> None:
    photo = soft_photo(40, 56)
    assert torch.equal(stylize(photo, "oil", strength=0, finish=finisher, **tiny), photo)
    mask = torch.zeros(40, 56)
    mask[:, 28:] = 1
    finished = stylize(photo, "oil", mask=mask, finish=finisher, **tiny)
    assert torch.equal(finished[..., :28], photo[..., :28])
    plain = stylize(photo, "oil", mask=mask, **tiny)
    assert float((finished - plain)[..., 28:].abs().mean()) > 0.01
    faint = [
        float((stylize(photo, "oil", strength=s, finish=f, **tiny) - photo).abs().mean())
        for s, f in ((0.05, finisher), (1.0, finisher))
    ]
    assert faint[0] < 0.15 * faint[1]


def test_the_photos_colors_are_kept(finisher: Finisher, tiny) -> None:
    photo = soft_photo(40, 56)
    result = stylize(photo, "oil", preserve_color=True, finish=finisher, **tiny)
    inside = ((result > 0.01) & (result < 0.99)).all(1)
    for first, second in ((0, 1), (1, 2)):
        before, after = (x[:, first] - x[:, second] for x in (photo, result))
        torch.testing.assert_close(after[inside], before[inside], atol=1e-4, rtol=0)


def test_an_image_keeps_what_it_carries(diffusion_folder: Path, photo: Image.Image, tiny) -> None:
    photo.putalpha(Image.linear_gradient("L").resize(photo.size))
    photo.info["dpi"] = (72, 72)
    result = stylize(photo, "oil", finish=f"{diffusion_folder}:0.1", **tiny)
    assert result.mode == "RGBA"
    assert same(result.getchannel("A"), photo.getchannel("A"))
    assert result.info["dpi"] == (72, 72)


@pytest.mark.parametrize("strength", ["0", "2"])
def test_a_named_strength_out_of_range_is_refused(
    diffusion_folder: Path, photo: Image.Image, tiny, no_model, strength: str
) -> None:
    with pytest.raises(InputError, match="strength of finish"):
        stylize(photo, "oil", finish=f"{diffusion_folder}:{strength}", **tiny)


# -- what can be missing ---------------------------------------------------------------------


@pytest.mark.parametrize("package", ["diffusers", "transformers"])
@pytest.mark.parametrize("kind", [StylePainter, Finisher])
def test_a_missing_package_names_its_extra(monkeypatch, package: str, kind: type) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"{package}: pip install 'clipmamba\[diffusion\]'"):
        kind("any/model")


def test_a_model_out_of_reach_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match=r"nobody/nothing.*can't be reached") as caught:
        StylePainter("nobody/nothing")("tiki art")
    assert "\n" not in str(caught.value)


def test_the_network_is_left_alone_where_it_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="neither a folder here nor in the local cache"):
        StylePainter("nobody/nothing")("tiki art")


class Fixed:
    """A pipeline without a strength, as those that edit pictures by instructions."""

    def __call__(self, prompt, image=None, num_inference_steps=28, generator=None): ...


class Film:
    """A pipeline that makes videos."""

    def __call__(self, prompt, num_frames=33, num_inference_steps=50, guidance_scale=1.0): ...


class Pyramid:
    """A pipeline whose steps are no single number."""

    def __call__(self, prompt, steps_per_stage=(2, 2)): ...


def test_a_model_that_cannot_finish_is_said_in_one_line(stand_in, photo, tiny) -> None:
    with pytest.raises(WeightsError, match=r"finisher .* is a Fixed, which has no strength; give"):
        stylize(photo, "oil", finish=stand_in(Fixed()), **tiny)


def test_a_model_that_cannot_finish_is_refused_before_a_photo_is_restyled(
    stand_in, photo, tiny, monkeypatch
) -> None:
    monkeypatch.setattr(
        StylizePipeline, "_restyle", lambda *_: pytest.fail("a photo was restyled first")
    )
    with pytest.raises(WeightsError, match="has no strength"):
        stylize(photo, "oil", finish=stand_in(Fixed()), **tiny)


@pytest.mark.parametrize(
    ("pipeline", "problem"),
    [(Film(), "makes videos"), (Pyramid(), "has no num_inference_steps")],
)
def test_a_model_that_cannot_draw_is_said_in_one_line(stand_in, pipeline, problem: str) -> None:
    with pytest.raises(WeightsError, match=f"painter of styles .*, which {problem}; give"):
        StylePainter(stand_in(pipeline))("tiki art")


def test_a_folder_of_something_else_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model_index\.json is missing"):
        Finisher(str(tmp_path))

"""What a caller of the pipeline and of `stylize` is promised."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from clipmamba.devices import resolve_device
from clipmamba.errors import InputError, WeightsError
from clipmamba.io import from_srgb, to_srgb
from clipmamba.models.gamut import into_gamut
from clipmamba.pipelines import StylizePipeline
from clipmamba.pipelines.stylize import stylize


def bytes_of(image: Image.Image) -> bytes:
    return image.convert("RGBA").tobytes()


def as_kind(photo: Image.Image, kind: str, folder):
    pixels, _ = to_srgb(photo)
    if kind == "path":
        photo.save(folder / "photo.png")
        return folder / "photo.png"
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    return {
        "pil": photo,
        "uint8": np.asarray(photo),
        "float32": pixels,
        "float64": pixels.astype(np.float64),
        "rgba array": np.dstack([np.asarray(photo), np.full(photo.size[::-1], 7, np.uint8)]),
        "tensor": tensor,
        "float64 tensor": tensor.double(),
        "batch": torch.stack([tensor, tensor.flip(-1)]),
    }[kind]


class Pipe(io.RawIOBase):
    """A file that can be read only once."""

    def __init__(self, picture: Image.Image):
        self._file = io.BytesIO()
        picture.save(self._file, "PNG")
        self._file.seek(0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self._file.readinto(buffer)


KINDS = ["path", "pil", "uint8", "float32", "float64", "rgba array", "tensor"]
KINDS += ["float64 tensor", "batch"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_comes_back_as_itself(tiny_pipeline, tiny_pipeline_folder, photo, tmp_path, kind):
    image = as_kind(photo, kind, tmp_path)
    result = stylize(image, "watercolor", model=tiny_pipeline_folder, device="cpu")
    if kind in ("path", "pil"):
        assert isinstance(result, Image.Image)
        assert (result.size, result.mode) == (photo.size, "RGB")
        assert result.tobytes() != photo.tobytes()
        return
    assert type(result) is type(image)
    assert (result.shape, result.dtype) == (image.shape, image.dtype)
    assert result.min() >= 0
    assert result.max() <= (255 if result.dtype == np.uint8 else 1)
    assert (result != image).any()
    if kind == "rgba array":
        np.testing.assert_array_equal(result[..., 3], image[..., 3])


def test_what_can_be_read_only_once_is_read_once(tiny_pipeline_folder, photo):
    half = Image.new("L", photo.size)
    half.paste(255, (0, 0, photo.width // 2, photo.height))

    def made(kind) -> list[bytes]:
        said = iter(["a cat", "a dog", "a bird"])
        options = {"model": tiny_pipeline_folder, "device": "cpu", "source": "auto",
                   "captioner": lambda _: next(said)}  # fmt: skip
        images = stylize(
            [kind(photo), kind(half)], "oil", mask=[kind(half), "left"], **options,
            segmenter=lambda *_: torch.ones(4, 4),
        )  # fmt: skip
        images += stylize(photo, style_image=kind(photo), variants=2, **options)
        return [bytes_of(image) for image in images]

    assert made(Pipe) == made(lambda image: image)


def test_all_kinds_show_the_same_picture(tiny_pipeline, photo, tmp_path):
    def run(kind):
        return tiny_pipeline(as_kind(photo, kind, tmp_path), prompt="mosaic").images[0]

    expected = np.asarray(run("pil"))
    for kind in ("path", "uint8"):
        np.testing.assert_array_equal(np.asarray(run(kind)), expected)
    tensor = run("tensor").permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(np.asarray(from_srgb(tensor)), expected)
    batch = run("batch").permute(1, 2, 0).numpy()
    np.testing.assert_allclose(batch, tensor, atol=1e-5)


def test_what_the_network_does_at_its_edges_is_not_seen(tiny_pipeline, photo, monkeypatch):
    def framed(seen, *_, **__):
        result = torch.zeros_like(seen)
        result[..., 8:-8, 8:-8] = seen[..., 8:-8, 8:-8]
        return result

    monkeypatch.setattr(tiny_pipeline.stylizer, "forward", framed)
    photo = photo.resize((300, 260))  # which the network sees at its own size
    result = tiny_pipeline(photo, prompt="ukiyo-e").images[0]
    pixels = torch.from_numpy(np.asarray(photo, np.float32) / 255).permute(2, 0, 1)[None]
    expected = (into_gamut(pixels)[0].permute(1, 2, 0) * 255).numpy()
    np.testing.assert_allclose(np.asarray(result, float), expected, atol=1)


@pytest.mark.parametrize("kind", KINDS)
def test_strength_zero_gives_the_photo_back(tiny_pipeline, photo, tmp_path, kind):
    image = as_kind(photo, kind, tmp_path)
    result = tiny_pipeline(image, prompt="watercolor", strength=0).images
    if kind in ("path", "pil"):
        assert result[0].tobytes() == photo.tobytes()
    else:
        result = result if kind == "batch" else result[0]
        assert result is not image
        assert (np.asarray(result) == np.asarray(image)).all()


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "CMYK", "I;16"])
def test_strength_zero_keeps_every_mode(tiny_pipeline, photo, mode):
    image = (
        Image.fromarray(np.arange(48 * 32, dtype=np.uint16).reshape(32, 48) * 40)
        if mode == "I;16"
        else photo.convert(mode)
    )
    result = tiny_pipeline(image, prompt="watercolor", strength=0).images[0]
    assert result.mode == mode
    assert result.tobytes() == image.tobytes()


def test_strength_goes_in_a_straight_line(tiny_pipeline, photo, tmp_path):
    image = as_kind(photo, "float32", tmp_path)
    full = tiny_pipeline(image, prompt="mosaic").images[0]
    inside = (full > 0) & (full < 1)  # not clamped
    assert inside.mean() > 0.2
    for strength in (0.25, 0.5, 0.9):
        partial = tiny_pipeline(image, prompt="mosaic", strength=strength).images[0]
        expected = image + strength * (full - image)
        np.testing.assert_allclose(partial[inside], expected[inside], atol=1e-5)
    beyond = tiny_pipeline(image, prompt="mosaic", strength=1.5).images[0]
    assert np.abs(beyond - image).mean() > np.abs(full - image).mean()
    assert 0 <= beyond.min() <= beyond.max() <= 1


def test_gradient_reaches_the_pixels(tiny_pipeline, photo, tmp_path):
    images = as_kind(photo, "batch", tmp_path).requires_grad_()
    result = tiny_pipeline(images, prompt="watercolor").images
    result.mean().backward()
    assert images.grad.isfinite().all()
    assert (images.grad[0] != 0).float().mean() > 0.5


def test_gradient_reaches_the_style_picture(tiny_pipeline, photo, tmp_path):
    image = as_kind(photo, "tensor", tmp_path)
    style = image.flip(0).clone().requires_grad_()
    tiny_pipeline(image, style_image=style).images[0].mean().backward()
    assert style.grad.abs().sum() > 0


def test_no_gradient_is_kept_where_none_is_wanted(tiny_pipeline, photo, tmp_path):
    image = as_kind(photo, "tensor", tmp_path)
    assert not tiny_pipeline(image, prompt="watercolor").images[0].requires_grad
    assert torch.is_grad_enabled()


def test_same_seed_same_bytes_other_seed_other_variant(tiny_pipeline, photo):
    def run(seed):
        return bytes_of(tiny_pipeline(photo, prompt="watercolor", seed=seed).images[0])

    assert run(None) == run(None)
    assert run(3) == run(3)
    assert len({run(None), run(3), run(4)}) == 3


def test_another_prompt_another_picture(tiny_pipeline, photo):
    first, second = (tiny_pipeline(photo, prompt=p).images[0] for p in ("mosaic", "sepia"))
    assert bytes_of(first) != bytes_of(second)


def test_style_picture(tiny_pipeline, photo, tmp_path):
    style = Image.new("RGB", (40, 30), "orange")
    style.save(tmp_path / "style.png")
    results = [
        tiny_pipeline(photo, style_image=s).images[0]
        for s in (style, tmp_path / "style.png", np.asarray(style))
    ]
    assert len({bytes_of(result) for result in results}) == 1
    other = tiny_pipeline(photo, style_image=photo).images[0]
    assert bytes_of(other) != bytes_of(results[0])


def test_a_list_gives_each_as_if_alone(tiny_pipeline, photo):
    wide = photo.resize((65, 17))
    together = tiny_pipeline([photo, wide], prompt="mosaic").images
    alone = [tiny_pipeline(image, prompt="mosaic").images[0] for image in (photo, wide)]
    assert [bytes_of(image) for image in together] == [bytes_of(image) for image in alone]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2), (33, 47), (301, 1), (2, 257)])
def test_every_size(tiny_pipeline, photo, size):
    result = tiny_pipeline(photo.resize(size), prompt="mosaic").images[0]
    assert result.size == size


def test_photo_keeps_what_it_carries(tiny_pipeline, photo):
    exif = Image.Exif()
    exif[274], exif[271] = 6, "Camera"
    photo.putalpha(Image.linear_gradient("L").resize(photo.size))
    photo.info["exif"] = exif.tobytes()
    result = tiny_pipeline(photo, prompt="mosaic").images[0]
    assert result.size == (32, 48)
    assert result.mode == "RGBA"
    alpha = photo.getchannel("A").transpose(Image.Transpose.ROTATE_270)
    assert result.getchannel("A").tobytes() == alpha.tobytes()
    assert dict(result.getexif()) == {271: "Camera"}


# -- options ---------------------------------------------------------------------------------


def colours(image) -> np.ndarray:
    return np.asarray(image, np.float32) / 255


def test_words_pictures_and_weights_mix(tiny_pipeline, photo):
    def point(**asked):
        return tiny_pipeline.encode_style(**asked)[0]

    oil, ice = point(prompt="oil"), point(prompt="ice")
    torch.testing.assert_close(
        point(prompt=["oil", "ice"]), torch.nn.functional.normalize(oil + ice, dim=0)
    )
    heavy = point(prompt=["oil:9", "ice"])
    assert heavy @ oil > 0.98 > heavy @ ice
    both = point(prompt="oil", style_image=photo)
    assert both @ oil > 0
    assert not torch.allclose(both, oil)
    assert not torch.allclose(point(prompt="oil", avoid="ice"), oil)


def test_a_batch_of_style_pictures_is_averaged(tiny_pipeline):
    one, two = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    point = tiny_pipeline.encode_style
    together = point(style_image=torch.cat([one, two]))
    torch.testing.assert_close(together, point(style_image=[one, two]))
    assert not torch.allclose(together, point(style_image=one), atol=1e-3)


def test_a_pipeline_without_a_stylizer_is_not_completed_from_the_hub(
    tiny_pipeline, tmp_path, monkeypatch
):
    tiny_pipeline.save_pretrained(tmp_path / "mine")
    shutil.rmtree(tmp_path / "mine/stylizer")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="no stylizer folder"):
        StylizePipeline.from_pretrained("mine")


def test_a_mask_keeps_what_is_black_to_the_bit(tiny_pipeline, photo):
    mask = Image.new("L", photo.size)
    mask.paste(255, (0, 0, 20, 32))
    mask.paste(128, (20, 0, 30, 32))
    full = colours(tiny_pipeline(photo, prompt="mosaic").images[0])
    part = colours(tiny_pipeline(photo, prompt="mosaic", mask=mask).images[0])
    before = colours(photo)
    np.testing.assert_array_equal(part[:, 30:], before[:, 30:])
    np.testing.assert_array_equal(part[:, :20], full[:, :20])
    np.testing.assert_allclose(part[:, 20:30], (before + full)[:, 20:30] / 2, atol=1.5 / 255)
    as_array = tiny_pipeline(photo, prompt="mosaic", mask=np.asarray(mask)).images[0]
    np.testing.assert_array_equal(colours(as_array), part)
    shades = np.asarray(mask)
    for same in (shades.astype(np.uint16) * 257, np.float32(shades / 255), torch.tensor(shades)):
        masked = tiny_pipeline(photo, prompt="mosaic", mask=same).images[0]
        np.testing.assert_array_equal(colours(masked), part)
    half = [tiny_pipeline(photo, prompt="mosaic", mask=m).images[0] for m in (shades > 200, mask)]
    np.testing.assert_array_equal(colours(half[0])[:, :20], colours(half[1])[:, :20])
    with pytest.raises(InputError, match="aspect ratio"):
        tiny_pipeline(photo, prompt="mosaic", mask=mask.resize((32, 48)))
    for wrong, words in ((shades.astype(np.float32), "must be in"), (shades.astype(int), "int64")):
        with pytest.raises(InputError, match=words):
            tiny_pipeline(photo, prompt="mosaic", mask=wrong)


def test_regions_lie_over_one_another(tiny_pipeline, photo):
    left, right = Image.new("L", photo.size), Image.new("L", photo.size, 255)
    left.paste(255, (0, 0, 24, 32))
    mosaic, sepia = (colours(tiny_pipeline(photo, prompt=p).images[0]) for p in ("mosaic", "sepia"))
    regions = [(right, "sepia"), (left, "mosaic")]
    both = colours(tiny_pipeline(photo, regions=regions).images[0])
    np.testing.assert_array_equal(both[:, :24], mosaic[:, :24])
    np.testing.assert_array_equal(both[:, 24:], sepia[:, 24:])
    only = colours(tiny_pipeline(photo, regions=regions[1:]).images[0])
    np.testing.assert_array_equal(only[:, 24:], colours(photo)[:, 24:])
    under = colours(tiny_pipeline(photo, prompt="sepia", regions=regions[1:]).images[0])
    np.testing.assert_array_equal(under, both)


def test_kept_colours_change_in_light_only(tiny_pipeline, photo, tmp_path):
    image = as_kind(photo, "float32", tmp_path)
    made = tiny_pipeline(image, prompt="mosaic", preserve_color=True).images[0]
    inside = ((made > 0) & (made < 1)).all(-1)
    change = (made - image)[inside]
    assert np.abs(change).mean() > 0.01
    np.testing.assert_allclose(change, change[:, :1].repeat(3, 1), atol=1e-5)


@pytest.mark.parametrize("tile", [None, 128])
def test_without_grain_an_even_sky_stays_calm(tile):
    pipe = StylizePipeline.from_pretrained(device="cpu")
    sky = torch.full((1, 3, 64, 192), 0.6)
    spread = [
        pipe(sky, prompt="ukiyo-e", grain=grain, tile=tile).images.std((2, 3)).mean()
        for grain in (True, False)
    ]
    assert spread[1] < 0.01 < spread[0]


def test_without_grain_a_picture_has_no_variants_of_a_style_picture(tiny_pipeline, photo):
    for grain in (True, False):
        one, two = (
            tiny_pipeline(photo, style_image=photo, seed=seed, grain=grain).images[0]
            for seed in (1, 2)
        )
        assert (bytes_of(one) != bytes_of(two)) == grain


def test_detail_gives_the_same_texture_at_every_size(tiny_pipeline, photo):
    large = photo.resize((192, 128), Image.Resampling.BICUBIC)
    changes = []
    for image in (photo, large):
        made = tiny_pipeline(image, prompt="mosaic", detail=0.1).images[0]
        assert made.size == image.size
        changes.append((colours(made) - colours(image)).mean((0, 1)))
    np.testing.assert_allclose(changes[0], changes[1], atol=0.08)
    fine = tiny_pipeline(large, prompt="mosaic").images[0]
    assert bytes_of(fine) != bytes_of(made)


@pytest.mark.parametrize("kind", ["pil", "float32", "rgba array", "tensor", "batch"])
def test_max_size_bounds_the_long_side(tiny_pipeline, photo, tmp_path, kind):
    image = as_kind(photo, kind, tmp_path)
    for strength in (0, 1):
        made = tiny_pipeline(image, prompt="mosaic", max_size=24, strength=strength).images
        made = made if kind == "batch" else made[0]
        shape = (16, 24) if kind == "pil" else tuple(n for n in made.shape if n > 4)
        assert shape == (16, 24)
        if kind == "pil":
            assert made.size == (24, 16)
    same = tiny_pipeline(photo, prompt="mosaic", max_size=4000).images[0]
    assert same.size == photo.size


def test_variants_are_the_pictures_of_their_seeds(tiny_pipeline, photo):
    done = []
    three = tiny_pipeline(
        [photo, photo], prompt="mosaic", seed=5, variants=3,
        callback=lambda count, total: done.append((count, total)),
    ).images  # fmt: skip
    assert [len(made) for made in three] == [3, 3]
    alone = [tiny_pipeline(photo, prompt="mosaic", seed=seed).images[0] for seed in (5, 6, 7)]
    assert [bytes_of(image) for image in three[1]] == [bytes_of(image) for image in alone]
    assert done == [(count, 6) for count in range(1, 7)]
    first, second = tiny_pipeline(photo, prompt="mosaic", variants=2).images[0]
    assert bytes_of(first) == bytes_of(tiny_pipeline(photo, prompt="mosaic").images[0])
    assert bytes_of(first) != bytes_of(second)


# -- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no style"),
        ({"text": "  "}, "empty"),
        ({"text": ""}, "empty"),
        ({"text": ["a", ""]}, "prompt"),
        ({"text": "a:0"}, "weight"),
        ({"text": "a", "detail": 0}, "detail"),
        ({"text": "a", "stroke": 0.4}, "stroke"),
        ({"text": "a", "stroke": 3}, "stroke"),
        ({"text": "a", "stroke": float("nan")}, "stroke"),
        ({"text": "a", "max_size": 0}, "max_size"),
        ({"text": "a", "variants": 0}, "variants"),
        ({"text": "a", "mask": "missing.png"}, "no such file"),
        ({"mask": "m.png", "regions": [("r.png", "a")]}, "mask needs a style"),
        ({"text": "a", "strength": -0.1}, "strength"),
        ({"text": "a", "strength": 1.6}, "strength"),
        ({"text": "a", "strength": float("nan")}, "strength"),
        ({"text": "a", "strength": "1"}, "strength"),
        ({"text": "a", "seed": -1}, "seed"),
        ({"text": "a", "seed": 1.5}, "seed"),
        ({"text": "a", "device": "toaster"}, "unknown device"),
        ({"text": "a", "device": "cuda:99"}, "no device"),
        ({"style_image": "missing.png"}, "no such file"),
    ],
)
def test_senseless_options_are_refused(photo, tiny_pipeline_folder, options, words):
    with pytest.raises(InputError, match=words) as caught:
        stylize(photo, **{"model": tiny_pipeline_folder, **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        torch.zeros(1, 8, 8),
        torch.zeros(3, 0, 8),
        torch.zeros(8, 8),
        torch.full((3, 8, 8), 255.0),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 2), np.uint8),
        np.full((8, 8, 3), 255.0),
        "missing.jpg",
    ],
)
@pytest.mark.parametrize("strength", [0, 1])
def test_senseless_pictures_are_refused(tiny_pipeline, image, strength):
    with pytest.raises(InputError):
        tiny_pipeline(image, prompt="mosaic", strength=strength)


def test_auto_device_exists():
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


# -- saving and loading ----------------------------------------------------------------------


def test_saved_pipeline_makes_the_same_picture(tiny_pipeline, photo, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path / "new" / "folder")
    loaded = StylizePipeline.from_pretrained(tmp_path / "new" / "folder", device="cpu")
    results = [pipe(photo, prompt="mosaic", seed=1).images[0] for pipe in (tiny_pipeline, loaded)]
    assert bytes_of(results[0]) == bytes_of(results[1])


def test_guidance_drives_styles_apart():
    default = StylizePipeline.from_pretrained(device="cpu")
    plain, guided = (
        StylizePipeline(default.stylizer, default.clip, default.prior, factor)
        for factor in (1.0, 1.5)
    )
    photo = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    apart = []
    for pipe in (guided, plain):
        one, two = (pipe(photo, prompt=words).images for words in ("mosaic", "charcoal drawing"))
        apart.append((one - two).square().mean())
    assert apart[0] > 1.1 * apart[1]


def test_a_guided_pipeline_saves_its_guidance(tmp_path):
    pipe = StylizePipeline.from_pretrained(device="cpu")
    guided = StylizePipeline(pipe.stylizer, pipe.clip, pipe.prior, guidance=1.3)
    guided.save_pretrained(tmp_path / "saved")
    assert StylizePipeline.from_pretrained(tmp_path / "saved", device="cpu").guidance == 1.3


def test_pipelines_with_other_guidance_may_share_a_stylizer(photo):
    one = StylizePipeline.from_pretrained(device="cpu")
    before = bytes_of(one(photo, prompt="mosaic").images[0])
    other = StylizePipeline(one.stylizer, one.clip, one.prior, guidance=one.guidance + 0.4)
    assert bytes_of(other(photo, prompt="mosaic").images[0]) != before
    assert bytes_of(one(photo, prompt="mosaic").images[0]) == before


def test_the_network_has_the_guidance_and_the_stylizer_has_not():
    default = StylizePipeline.from_pretrained(device="cpu")
    pipe = StylizePipeline(default.stylizer, default.clip, default.prior, guidance=1.5)
    photo = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    point = pipe.encode_style("mosaic")
    plain = StylizePipeline(pipe.stylizer, pipe.clip, pipe.prior).network
    noise = pipe.stylizer.draw_noise(24, 24)
    own = pipe.stylizer(photo, point, noise)
    assert torch.equal(own, plain(photo, point, noise))
    guided = pipe.network(photo, point, noise)
    assert not torch.allclose(own, guided, atol=1e-3)
    assert torch.equal(pipe.network(photo, point), guided)  # by default, the noise of seed 0


@pytest.mark.parametrize("guidance", [0, -1, 1e308, float("inf"), float("nan"), True, "1"])
def test_a_senseless_guidance_is_refused(tiny_pipeline, guidance):
    parts = (tiny_pipeline.stylizer, tiny_pipeline.clip, tiny_pipeline.prior)
    with pytest.raises(WeightsError, match="guidance must"):
        StylizePipeline(*parts, guidance=guidance)


def test_guidance_needs_a_prior_that_knows_styles(tiny_pipeline):
    parts = (tiny_pipeline.stylizer, tiny_pipeline.clip, tiny_pipeline.prior)
    assert not tiny_pipeline.prior.known
    with pytest.raises(WeightsError, match=r"guidance of 1\.2 needs a style prior"):
        StylizePipeline(*parts, guidance=1.2)


def test_loaded_pipeline_is_frozen(tiny_pipeline):
    assert not any(parameter.requires_grad for parameter in tiny_pipeline.stylizer.parameters())
    assert not tiny_pipeline.stylizer.training


def broken(folder, how: str) -> None:
    weights = folder / "stylizer" / "diffusion_pytorch_model.safetensors"
    if how == "no folder":
        shutil.rmtree(folder)
    elif how == "no index":
        (folder / "model_index.json").unlink()
    elif how == "index is no JSON":
        (folder / "model_index.json").write_text("{")
    elif how == "index without clip":
        (folder / "model_index.json").write_text('["clip"]')
    elif how == "unknown clip":
        (folder / "model_index.json").write_text('{"clip": "no-such-clip"}')
    elif how == "guidance is no number":
        (folder / "model_index.json").write_text('{"clip": "mini", "guidance": "much"}')
    elif how == "no stylizer":
        shutil.rmtree(folder / "stylizer")
    elif how == "no weights":
        weights.unlink()
    elif how == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "other config":
        config = folder / "stylizer" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"style_dim": 5}))
    elif how == "no prior":
        shutil.rmtree(folder / "prior")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no folder", "no model folder"),
        ("no index", "no model_index.json"),
        ("index is no JSON", "names no clip"),
        ("index without clip", "names no clip"),
        ("unknown clip", "no-such-clip"),
        ("guidance is no number", "must be a number above 0, not 'much'"),
        ("no stylizer", "stylizer"),
        ("no weights", "stylizer"),
        ("cut weights", "stylizer"),
        ("other config", "stylizer"),
        ("no prior", "prior"),
    ],
)
@pytest.mark.usefixtures("tiny_pipeline")  # whole, the same folder loads
def test_broken_weights_are_one_clear_line(tiny_pipeline_folder, tmp_path, how, words):
    folder = shutil.copytree(tiny_pipeline_folder, tmp_path / "model")
    broken(folder, how)
    with pytest.raises(WeightsError, match=words) as caught:
        StylizePipeline.from_pretrained(folder, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_stylizer_for_another_clip_is_refused(tiny_pipeline):
    from clipmamba.models import Stylizer

    other = Stylizer(style_dim=5, widths=(8, 8, 8), depth=1, quarter_depth=1, code_dim=8)
    with pytest.raises(WeightsError, match="style embeddings of width 5"):
        StylizePipeline(other, tiny_pipeline.clip, tiny_pipeline.prior)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        *(
            ({kind: 5, **more}, f"{kind} must be a function, .* not int")
            for kind, more in (
                ("captioner", {"source": "auto"}), ("style_from", {}), ("finish", {}),
                ("segmenter", {"mask": "boat"}),
            )
        ),
        ({"captioner": lambda _: None, "source": "auto"}, "captioner must describe"),
        ({"captioner": lambda _: " ", "source": "auto"}, "captioner must describe"),
        ({"finish": lambda *_: None}, "finish must return a tensor"),
        ({"finish": lambda _, made, *__: made.numpy()}, "finish must .*, not ndarray"),
        ({"finish": lambda _, made, *__: made[..., 1:]}, "finish must return a tensor"),
        ({"finish": lambda _, made, *__: made * float("nan")}, "finish returned .* NaN"),
        ({"segmenter": lambda *_: np.zeros((4, 4)), "mask": "boat"}, "must return a tensor"),
        ({"segmenter": lambda *_: torch.zeros(0, 4), "mask": "boat"}, "must return a tensor"),
        ({"segmenter": lambda *_: torch.full((4, 4), torch.nan), "mask": "boat"}, "NaN"),
        ({"style_from": lambda *_: None}, "not NoneType"),
        ({"regions": [("sky",)]}, "regions must be pairs"),
        ({"regions": ("sky", "mosaic")}, "regions must be pairs"),
        ({"regions": "sky=mosaic"}, "regions must be pairs"),
        ({"regions": 5}, "regions must be pairs"),
        ({"regions": {"sky": 5}}, "a style must be"),
        ({"regions": {"sky": None}}, "no style"),
        ({"regions": {None: "mosaic"}}, "no area"),
        ({"regions": [([], "mosaic")]}, "no area"),
        ({"regions": (np.zeros((30, 40)), "mosaic")}, "not ndarray"),
        ({"style": 5}, "a style must be"),
        ({"mask": [None]}, "a mask is None"),
        ({"keep": [None]}, "a mask is None"),
        ({"keep": 5}, "not int"),
        ({"source": 5}, "source must be text"),
        ({"avoid": ["oil"]}, "avoid must be text"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_in_one_line(photo, tiny_pipeline_folder, keywords, message):
    with pytest.raises(InputError, match=message) as caught:
        stylize(photo, "oil", model=tiny_pipeline_folder, device="cpu", **keywords)
    assert "\n" not in str(caught.value)


def test_a_pipeline_asks_for_a_captioner_rather_than_load_one(tiny_pipeline, photo):
    with pytest.raises(InputError, match="source 'auto' needs a captioner"):
        tiny_pipeline(photo, prompt="oil", source="auto")
    with pytest.raises(InputError, match="finish must be a function"):
        tiny_pipeline(photo, prompt="oil", finish="some/model")


def test_hidden_colors_of_an_array_do_not_matter(tiny_pipeline):
    array = np.random.default_rng(0).integers(0, 256, (40, 56, 4), np.uint8)
    array[..., 3] = 255
    array[10:20, 10:30, 3] = 0
    other = array.copy()
    other[10:20, 10:30, :3] = (255, 0, 255)
    results = [tiny_pipeline(each, prompt="mosaic").images[0] for each in (array, other)]
    seen = array[..., 3] > 0
    np.testing.assert_array_equal(results[0][seen], results[1][seen])
    np.testing.assert_array_equal(results[0][..., 3], array[..., 3])


def test_an_overflow_under_autocast_is_said(tiny_pipeline, photo):
    broken = tiny_pipeline.with_network(lambda *_: lambda seen, *_: seen * float("nan"))
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(InputError, match="autocast"):
        broken(photo, prompt="mosaic")

"""`--style-from` and `--finish`: pipelines of diffusers beside the network."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from clipmamba import stylize
from clipmamba.cli import main
from clipmamba.errors import InputError, WeightsError
from clipmamba.integrations.diffusion import Finisher, StylePainter, edges

pytest.importorskip("transformers")
pytest.importorskip("diffusers")


def exit_code(words: list[str]) -> int:
    """Run the command line in this process."""
    with pytest.raises(SystemExit) as end:
        main(words)
    return int(end.value.code or 0)


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.png"
    ramp = np.linspace(40, 210, 50 * 37 * 3).reshape(37, 50, 3).astype(np.uint8)
    Image.fromarray(ramp).save(file)
    return file


def test_a_style_picture_is_drawn_once_and_kept_with_its_seed(diffusion_folder, tmp_path):
    painter = StylePainter(str(diffusion_folder), "cpu", tmp_path / "kept", steps=2)
    first = painter("lowbrow tiki art", 3)
    file = painter.file("lowbrow tiki art", 3)
    assert "seed3" in file.name
    assert list((tmp_path / "kept").iterdir()) == [file]
    before = file.stat().st_mtime_ns
    again = StylePainter(str(diffusion_folder), "cpu", tmp_path / "kept", steps=2)
    assert again("lowbrow tiki art", 3).tobytes() == first.tobytes()
    assert file.stat().st_mtime_ns == before
    assert again._pipeline._loaded is None  # the model was not even loaded
    assert painter("lowbrow tiki art", 4).tobytes() != first.tobytes()


def test_style_from_is_the_drawn_picture_as_style_image(diffusion_folder, photo):
    def painter(words, seed):
        assert (words, seed) == ("tiki", 5)
        return Image.new("RGB", (40, 40), (200, 30, 90))

    result = stylize(photo, "tiki", seed=5, style_from=painter)
    usual = stylize(photo, style_image=painter("tiki", 5), seed=5)
    assert result.tobytes() == usual.tobytes()


@pytest.mark.parametrize("size", [(64, 64), (37, 50), (1, 9), (130, 41)])
def test_any_size_is_finished_and_edges_stay(diffusion_folder, size):
    finish = Finisher(str(diffusion_folder), 0.2, "cpu", steps=5, pixels=64 * 64)
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    plain = torch.full_like(picture, 0.5)
    result = finish(plain, picture, 1, "oil painting")
    assert result.shape == picture.shape
    assert 0 <= float(result.min()) <= float(result.max()) <= 1
    assert not torch.equal(result, picture)
    assert torch.equal(result, finish(plain, picture, 1, "oil painting"))


def test_nothing_moves_on_an_edge_of_the_photo(diffusion_folder):
    finish = Finisher(str(diffusion_folder), 0.4, "cpu", steps=5)
    photo = torch.zeros(1, 3, 64, 64)
    photo[..., 32:] = 1
    picture = torch.full_like(photo, 0.5)
    change = (finish(photo, picture) - picture).abs()
    assert float(change[..., 31:33].max()) < 1e-6
    assert float(change[..., :20].max()) > 1e-3
    assert float(edges(photo)[..., :28].max()) == 0


@pytest.mark.parametrize("strength", ["0", "1.5", "-1"])
def test_a_strength_out_of_range_is_refused(diffusion_folder, photo, strength):
    with pytest.raises(InputError, match="strength of finish"):
        stylize(photo, "woodcut", finish=f"{diffusion_folder}:{strength}")


@pytest.mark.parametrize("option", ["--style-from", "--finish"])
def test_a_refused_picture_is_an_error_in_one_line(refusing_folder, photo, option, capfd, tmp_path):
    target = tmp_path / "result.png"
    words = ["stylize", str(photo), "-p", "woodcut", option, str(refusing_folder),
             "-o", str(target)]  # fmt: skip
    assert exit_code(words) != 0
    said = capfd.readouterr().err
    assert "safety checker" in said
    assert said.strip().count("\n") == 0
    assert not target.exists()


def test_both_from_the_command_line(diffusion_folder, photo, tmp_path, capfd, cache):
    target = tmp_path / "result.jpg"
    words = ["stylize", str(photo), "-p", "tiki art", "--style-from", str(diffusion_folder),
             "--finish", f"{diffusion_folder}:0.1", "--seed", "2", "-o", str(target),
             "--json"]  # fmt: skip
    assert exit_code(words) == 0
    report = json.loads(capfd.readouterr().out)
    [drawn] = report["drawn"]
    assert str(cache) in drawn
    with Image.open(drawn) as picture:
        assert picture.size == (64, 64)
    assert report["finish"] == "model:0.1"
    with Image.open(target) as picture:
        assert picture.size == (50, 37)


@pytest.mark.parametrize("keyword", ["style_from", "finish"])
def test_a_name_that_is_not_here_is_one_line(photo, keyword):
    with pytest.raises(WeightsError, match="hf download some/model") as error:
        stylize(photo, "woodcut", **{keyword: "some/model"})
    assert "\n" not in str(error.value)


def test_quick_starts_load_none_of_them():
    code = (
        "import sys, clipmamba; from clipmamba.cli import main; import contextlib\n"
        "with contextlib.suppress(SystemExit): main(['stylize', '--help'])\n"
        "print({'torch', 'transformers', 'diffusers'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"
    assert "--style-from" in done.stdout

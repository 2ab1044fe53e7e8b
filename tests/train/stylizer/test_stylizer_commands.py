"""The stylizer's training commands, from the command line to a model that loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import Tensor

from clipmamba.clip import Clip
from clipmamba.models import Stylizer
from clipmamba.pipelines import StylizePipeline
from clipmamba.styles import StylePrior
from clipmamba.train.loop import latest_checkpoint, read_log
from clipmamba.train.pictures import Picture
from clipmamba.train.stylizer import commands as stylizer_commands
from clipmamba.train.stylizer.pairs import PairStore
from clipmamba.weights import ROOT

SMALL = {
    "widths": (8, 8, 8), "depth": 1, "quarter_depth": 1, "head_width": 8, "state": 4, "expand": 1,
    "code_dim": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def prior_folder(tmp_path_factory: pytest.TempPathFactory, tiny_clip_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("prior")
    eye = torch.eye(16)
    prior = StylePrior(
        eye, torch.zeros(16), eye[:4], torch.full((4,), 0.5), clip_name=str(tiny_clip_folder)
    )
    prior.save(folder)
    return folder


@pytest.fixture
def arguments(tmp_path, pairs_folder, tiny_clip_folder, prior_folder) -> list[str]:
    """Everything that `train` needs, small."""
    stylizer = Stylizer(style_dim=16, clip=str(tiny_clip_folder), **SMALL)
    stylizer.save_pretrained(tmp_path / "init")
    options = {
        "pairs": pairs_folder, "clip": tiny_clip_folder, "prior": prior_folder,
        "init": tmp_path / "init", "output": tmp_path / "run", "batch": 4, "side": 32, "crops": 2,
        "steps": 3, "warmup": 1, "workers": 0, "precision": "no", "log-every": 1,
        "directional": 1, "patch": 1, "contrastive": 0.3, "layout": 1, "variation": 0.1,
    }  # fmt: skip
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(stylizer_commands.main, arguments)


def test_a_run_leaves_a_model_a_log_and_a_sheet(
    arguments: list[str], prior_folder: Path, tmp_path: Path
):
    result = run("train", *arguments)
    assert result.exit_code == 0, result.output
    lines = list(read_log(tmp_path / "run" / "log.jsonl"))
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert {"pixel", "directional", "patch", "contrastive", "layout", "variation"} <= set(lines[0])
    before = Stylizer.from_pretrained(tmp_path / "init")
    after = Stylizer.from_pretrained(tmp_path / "run" / "stylizer")
    same = [torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True)]
    assert sum(same) < len(same) / 10
    with Image.open(tmp_path / "run" / "sample-final" / "sheet.png") as sheet:
        assert sheet.width > 13 * 160  # the photo and twelve prompts
        assert sheet.height > 4 * 160

    exported = run("export", "--model", str(tmp_path / "run" / "stylizer"),
                   "--prior", str(prior_folder), "--output", str(tmp_path / "ship"))  # fmt: skip
    assert exported.exit_code == 0, exported.output
    shipped = StylizePipeline.from_pretrained(tmp_path / "ship").stylizer
    assert str(tmp_path) not in (tmp_path / "ship/stylizer/config.json").read_text()
    for a, b in zip(after.parameters(), shipped.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    small, large = (
        (tmp_path / name / "diffusion_pytorch_model.safetensors").stat().st_size
        for name in ("ship/stylizer", "run/stylizer")
    )
    assert small < 0.8 * large


def test_the_least_step_can_be_changed(arguments: list[str], prior_folder: Path, tmp_path: Path):
    result = run("train", *arguments, "--least-step", "0.3", "--tiles", "1")
    assert result.exit_code == 0, result.output
    trained, shipped = tmp_path / "run" / "stylizer", tmp_path / "ship"
    assert Stylizer.from_pretrained(trained).config.least_step == 0.3
    for options, expected in (([], 0.3), (["--least-step", "1"], 1)):
        run(
            "export",
            "--model",
            str(trained),
            "--prior",
            str(prior_folder),
            "--output",
            str(shipped),
            *options,
        )
        assert Stylizer.from_pretrained(shipped / "stylizer").blocks[0].mixer.least_step == expected


def test_what_ships_is_what_export_writes(tmp_path: Path):
    index = json.loads((ROOT / "model_index.json").read_text())
    result = run("export", "--model", str(ROOT / "stylizer"), "--output", str(tmp_path),
                 "--guidance", str(index["guidance"]))  # fmt: skip
    assert result.exit_code == 0, result.output
    written = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 5
    for path in written:
        assert (tmp_path / path).read_bytes() == (ROOT / path).read_bytes(), path


def test_a_dry_run_leaves_the_real_run_alone(arguments: list[str], tmp_path: Path):
    result = run("train", *arguments, "--dry-run")
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["dry-run"]
    dry = tmp_path / "run" / "dry-run"
    assert latest_checkpoint(dry).name == "checkpoint-0000002"
    Stylizer.from_pretrained(dry / "stylizer")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--side", "33"], "--side must be a multiple of 8"),
        (["--side", "264"], "from 16 to 256"),
        (["--side", "8"], "from 16"),
        (["--pairs", "."], "make them with the `pairs` command"),
        (["--batch", "1"], "--batch"),
        (["--init", ".", "--mixer", "conv"], "--mixer"),
        (["--init", ".", "--depth", "6"], "--depth"),
        (["--pixel", "0", "--distil", "0", "--directional", "0", "--patch", "0",
          "--contrastive", "0", "--layout", "0", "--variation", "0"], "weight 0"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(arguments, changed, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("train", *arguments, *changed)
    assert result.exit_code == 2
    assert message in result.output.splitlines()[-1]
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_a_missing_folder_is_not_looked_for_on_the_hub(arguments: list[str]):
    for command in (["train", *arguments, "--init"], ["export", "--output", "x", "--model"]):
        result = run(*command, "runs/missing")
        assert result.exit_code == 2
        assert "does not exist" in result.output


def test_a_model_for_another_clip_is_refused(arguments: list[str], tmp_path: Path):
    Stylizer(style_dim=8, **SMALL).save_pretrained(tmp_path / "other")
    result = run("train", *arguments, "--init", str(tmp_path / "other"))
    assert result.exit_code == 2
    assert "--clip" in result.output.splitlines()[-1]


def test_style_points_mean_their_style(pairs_folder, prior_folder, clip):
    prior = StylePrior.load(prior_folder, clip=clip)
    teacher = stylizer_commands.style_points(PairStore(pairs_folder / "teacher"), clip, prior)
    painters = stylizer_commands.style_points(PairStore(pairs_folder / "painters"), clip, prior)
    for points in (*teacher, *painters[:2]):
        assert len(points) >= 3
        torch.testing.assert_close(points.norm(dim=1), torch.ones(len(points)))
    assert len(painters[2]) == 0  # no pair asks for it
    red, blue = teacher
    picture = Image.new("RGB", (32, 32), "navy")
    pixels = torch.tensor(picture.getpixel((0, 0)))[None, :, None, None].expand(1, 3, 32, 32) / 255
    own = clip.encode_image(pixels)[0]
    assert (blue @ own).max().item() == pytest.approx(1, abs=1e-5)
    assert (red @ own).max() < (blue @ own).max()


@pytest.mark.slow
def test_the_module_runs_from_the_shell(arguments: list[str], tmp_path: Path):
    """A new stylizer of the default size, as `accelerate launch -m clipmamba.train` starts it."""
    at = arguments.index("--init")
    command = [sys.executable, "-m", "clipmamba.train", *arguments[:at], *arguments[at + 2 :]]
    done = subprocess.run(
        [*command, "--dry-run"], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    model = Stylizer.from_pretrained(tmp_path / "run" / "dry-run" / "stylizer")
    assert model.config.style_dim == 16
    assert model.config.widths == (32, 64, 160)


def test_a_stylizer_is_carried_over_to_another_clip(tmp_path, tiny_clip_folder, monkeypatch):
    """The new CLIP is the old one in a wider space: the carried-over model does the same."""
    generator = np.random.default_rng(0)
    pictures = []
    for number in range(60):
        colours = generator.integers(0, 255, (4, 4, 3), np.uint8)
        path = tmp_path / f"{number}.png"
        Image.fromarray(colours).resize((64, 64)).save(path)
        pictures.append(Picture(path, "photo", "a photo", (), "", str(number)))
    turn = torch.linalg.qr(torch.randn(24, 16, generator=torch.Generator().manual_seed(0)))[0]

    class Turned(Clip):
        def encode_image(self, images: Tensor) -> Tensor:
            return (super().encode_image(images)[:, None] * turn).sum(-1)  # not in bf16

    old = Clip.from_pretrained(str(tiny_clip_folder))
    new = Turned.from_pretrained(str(tiny_clip_folder))
    clips = {"old": old, "new": new}
    monkeypatch.setattr(stylizer_commands.Clip, "from_pretrained", clips.__getitem__)
    monkeypatch.setattr(stylizer_commands, "read_pictures", lambda data: pictures)
    stylizer = Stylizer(style_dim=16, clip="old", **SMALL)
    stylizer.save_pretrained(tmp_path / "model")
    folders = {"data": tmp_path, "model": tmp_path / "model", "output": tmp_path / "out"}
    options = {**folders, "old": "old", "new": "new", "ridge": 1e-6}
    result = run(
        "adapt", *(str(w) for name, value in options.items() for w in (f"--{name}", value))
    )
    assert result.exit_code == 0, result.output
    carried = Stylizer.from_pretrained(tmp_path / "out")
    image = torch.from_numpy(np.asarray(Image.open(pictures[7].path)).copy())
    image = image.permute(2, 0, 1)[None] / 255
    expected = stylizer.style(old.encode_image(image))
    wide = new.encode_image(image)
    assert carried.config.clip == "new"
    assert torch.allclose(carried.style(wide), expected, atol=0.02)
    assert not torch.allclose(carried.style(wide.roll(1, 1)), expected, atol=0.02)

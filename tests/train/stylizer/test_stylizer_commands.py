"""The stylizer's training commands, from the command line to a model that loads."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from clipmamba.models import Stylizer
from clipmamba.models.pretrained import WEIGHTS_NAME
from clipmamba.styles import StylePrior
from clipmamba.train.checkpoints import latest_checkpoint
from clipmamba.train.log import read_log
from clipmamba.train.stylizer import commands, samples
from clipmamba.train.stylizer import prepared as prepared_module
from clipmamba.train.stylizer.batches import StylizerBatches
from clipmamba.train.stylizer.prepared import Prepared
from clipmamba.train.stylizer.validation import mean_losses


@pytest.fixture(autouse=True)
def little_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples and validation of a size for tests."""
    monkeypatch.setattr(samples, "SIDE", 64)
    monkeypatch.setattr(samples, "PHOTOS", 1)
    monkeypatch.setattr(commands, "VALIDATION_BATCHES", 1)


@pytest.fixture
def options(
    tmp_path: Path,
    data: Path,
    prepared_folder: Path,
    vgg_weights: Path,
    stylizer: Stylizer,
    tiny_clip_folder: Path,
) -> dict[str, object]:
    """Everything that `train` needs, small."""
    folder = tmp_path / "init"
    stylizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"clip": str(tiny_clip_folder)}))
    return {
        "data": data, "prepared": prepared_folder, "vgg": vgg_weights, "init": folder,
        "output": tmp_path / "run", "batch": 4, "exact": 1, "side": 64, "steps": 3, "warmup": 1,
        "workers": 0, "precision": "no", "log-every": 1, "sample-every": 0, "validate-every": 0,
    }  # fmt: skip


def words(options: dict[str, object]) -> list[str]:
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(commands.main, arguments)


@pytest.fixture
def prior_folder(tmp_path: Path, tiny_clip_folder: Path) -> Path:
    eye = torch.eye(16)
    name = str(tiny_clip_folder)
    prior = StylePrior(eye, torch.zeros(16), eye[:4], torch.full((4,), 0.5), clip_name=name)
    prior.save(tmp_path / "prior")
    return tmp_path / "prior"


def test_from_pictures_to_a_folder_that_ships(
    options: dict[str, object], prior_folder: Path, tiny_clip_folder: Path, tmp_path: Path
):
    prepared = run(
        "prepare", "--data", str(options["data"]), "--clip", str(tiny_clip_folder),
        "--styles", "6", "--painters", "2", "--output", str(tmp_path / "prepared"),
    )  # fmt: skip
    assert prepared.exit_code == 0, prepared.output
    found = Prepared.load(tmp_path / "prepared")
    assert (len(found.styles), len(found.photos), len(found.painted)) == (6, 10, 2)
    aside = Prepared.load(tmp_path / "prepared" / "validation")
    assert not {*aside.styles, *aside.photos} & {*found.styles, *found.photos}

    changed = {"prepared": tmp_path / "prepared", "validate-every": 2}
    trained = run("train", *words(options | changed))
    assert trained.exit_code == 0, trained.output
    folder = tmp_path / "run"
    lines = list(read_log(folder / "log.jsonl"))
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert {"texture", "content", "calm", "pixel", "gamut"} <= set(lines[0])
    assert [line["step"] for line in read_log(folder / "validation.jsonl")] == [2, 3]
    before = Stylizer.from_pretrained(tmp_path / "init")
    after = Stylizer.from_pretrained(folder / "stylizer")
    same = [torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True)]
    assert sum(same) < len(same) / 10
    Stylizer.from_pretrained(folder / "best" / "stylizer")
    with Image.open(folder / "sample-final" / "sheet.png") as sheet:
        assert sheet.width > 6 * 64

    exported = run("export", "--model", str(folder / "stylizer"), "--prior", str(prior_folder),
                   "--output", str(tmp_path / "ship"), "--guidance", "1.2")  # fmt: skip
    assert exported.exit_code == 0, exported.output
    shipped = Stylizer.from_pretrained(tmp_path / "ship" / "stylizer")
    for a, b in zip(after.parameters(), shipped.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    small, large = ((tmp_path / name / WEIGHTS_NAME).stat().st_size
                    for name in ("ship/stylizer", "run/stylizer"))  # fmt: skip
    assert small < 0.7 * large
    index = json.loads((tmp_path / "ship" / "model_index.json").read_text())
    assert index == {"_class_name": "StylizePipeline", "clip": str(tiny_clip_folder.resolve()),
                     "guidance": 1.2}  # fmt: skip
    assert StylePrior.load(tmp_path / "ship" / "prior").clip_name == index["clip"]


def test_training_goes_on_with_all_noise(options: dict[str, object], tmp_path: Path):
    init = tmp_path / "init"
    Stylizer.from_pretrained(init, noise_scale=0.5).save_pretrained(init)
    assert Stylizer.from_pretrained(init).config.noise_scale == 0.5
    trained = run("train", *words(options | {"steps": 1}))
    assert trained.exit_code == 0, trained.output
    assert Stylizer.from_pretrained(tmp_path / "run" / "stylizer").config.noise_scale == 1


def test_train_adds_anchors_once(options: dict[str, object], prepared_folder: Path, tmp_path: Path):
    spoken = tmp_path / "spoken"
    shutil.copytree(prepared_folder, spoken)
    points = torch.nn.functional.normalize(torch.randn(4, 16), dim=1)
    made = Prepared.load(spoken)
    dataclasses.replace(made, words=points, meant=torch.tensor([0, 0, -1, -2])).save_tables(spoken)
    options |= {"prepared": spoken, "painter": "woodcut"}
    start = options["init"]
    first = run("train", *words(options), "--anchors")
    assert first.exit_code == 0, first.output
    trained = Stylizer.from_pretrained(tmp_path / "run" / "stylizer")
    assert trained.config.anchors == 2  # of the look and of woodcuts
    options |= {"init": tmp_path / "run" / "stylizer", "output": tmp_path / "on"}
    second = run("train", *words(options), "--anchors")
    assert second.exit_code == 0, second.output
    after = Stylizer.from_pretrained(tmp_path / "on" / "stylizer")
    assert torch.equal(after.anchors, trained.anchors)
    del options["painter"]
    every = run(
        "train", *words(options | {"init": start, "output": tmp_path / "every"}), "--anchors"
    )
    assert every.exit_code == 0, every.output
    assert Stylizer.from_pretrained(tmp_path / "every" / "stylizer").config.anchors == 3


def test_validation_has_photos_set_aside_with_new_styles_and_with_trained_words(
    options: dict[str, object],
    prepared_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    spoken = tmp_path / "spoken"
    shutil.copytree(prepared_folder, spoken)
    made = Prepared.load(spoken)
    word = torch.eye(16)[:1]
    looks = torch.arange(len(made.looks)) // 3
    changed = dataclasses.replace(made, looks=looks, words=word, meant=torch.tensor([0]))
    changed.save_tables(spoken)
    found: list[StylizerBatches] = []

    def keep_sources(sources: list[StylizerBatches], count: int) -> object:
        found.extend(sources)
        return mean_losses(sources, count)

    monkeypatch.setattr(commands, "mean_losses", keep_sources)
    done = run("train", *words(options | {"prepared": spoken, "validate-every": 3}))
    assert done.exit_code == 0, done.output
    aside = Prepared.load(prepared_folder / "validation")
    assert [list(source.prepared.photos) for source in found] == [list(aside.photos)] * 2
    new, trained = (source.batch(0, 0, 1) for source in found)
    assert list(found[0].prepared.styles) == list(aside.styles)
    assert (trained["style"] @ word.T > 0.9).all()
    assert len(set(trained["picture_key"].tolist())) == 1
    assert not (new["style"] @ word.T > 0.9).any()


def test_validation_takes_its_sources_in_turn(prepared: Prepared, data: Path):
    class Task(torch.nn.Linear):
        def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"stroke": batch["stroke"].mean()}

    sources = [
        StylizerBatches(data, prepared, 4, (64,), (stroke, stroke), 0, 0) for stroke in (1.0, 2.0)
    ]
    assert mean_losses(sources, 3)(Task(1, 1)) == {"stroke": pytest.approx(4 / 3)}
    assert mean_losses(sources[1:], 3)(Task(1, 1)) == {"stroke": pytest.approx(2)}


def test_prepare_finds_faces_if_asked(
    data: Path, tiny_clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The photos are 96 × 72 pixels."""

    def find(photo: torch.Tensor) -> torch.Tensor:
        assert photo.shape == (1, 3, 72, 96)
        return torch.tensor([[24.0, 18.0, 48.0, 72.0]])

    monkeypatch.setattr(prepared_module, "find_faces", find)
    done = run("prepare", "--data", str(data), "--clip", str(tiny_clip_folder), "--styles", "2",
               "--painters", "0", "--faces", "--output", str(tmp_path))  # fmt: skip
    assert done.exit_code == 0, done.output
    faces = Prepared.load(tmp_path).faces
    assert faces.tolist() == [[float(row), 0.25, 0.25, 0.5, 1.0] for row in range(10)]


def test_pictures_prepared_under_another_split_are_refused(
    options: dict[str, object], prepared_folder: Path, tmp_path: Path
):
    stale = tmp_path / "stale"
    shutil.copytree(prepared_folder, stale)
    listed = json.loads((stale / "prepared.json").read_text())
    (stale / "prepared.json").write_text(json.dumps(listed | {"split": "0" * 16}))
    refused = run("train", *words(options | {"prepared": stale}))
    assert refused.exit_code == 2
    assert "other pictures were held out; run `prepare` again" in refused.output


def test_painters_pairs_are_painted_anew_for_other_photos_only(
    data: Path, tiny_clip_folder: Path, tmp_path: Path
):
    def painted() -> int:
        done = run("prepare", "--data", str(data), "--clip", str(tiny_clip_folder), "--styles", "2",
                   "--painters", "2", "--output", str(tmp_path))  # fmt: skip
        assert done.exit_code == 0, done.output
        return (tmp_path / "painters" / "styles.json").stat().st_mtime_ns

    first = painted()
    assert painted() == first
    (tmp_path / "painters" / "split.txt").write_text("of other photos")
    assert painted() > first


def test_a_clip_given_by_a_relative_path_is_found_from_elsewhere(
    options: dict[str, object], prior_folder: Path, tiny_clip_folder: Path, tmp_path, monkeypatch
):
    monkeypatch.chdir(tiny_clip_folder.parent)
    for file in (tmp_path / "init" / "config.json", prior_folder / "config.json"):
        config = json.loads(file.read_text())
        file.write_text(json.dumps(config | {"clip": tiny_clip_folder.name}))
    done = run("export", "--model", str(options["init"]), "--prior", str(prior_folder),
               "--output", str(tmp_path / "ship"))  # fmt: skip
    assert done.exit_code == 0, done.output
    for file in ("model_index.json", "stylizer/config.json", "prior/config.json"):
        config = json.loads((tmp_path / "ship" / file).read_text())
        assert config["clip"] == str(tiny_clip_folder.resolve()), file


@pytest.mark.parametrize("kind", ["files", "shards"])
def test_a_killed_run_resumes_with_the_same_batches_and_losses(
    kind: str, options: dict[str, object], tmp_path: Path, request: pytest.FixtureRequest
):
    if kind == "shards":
        options["data"] = request.getfixturevalue("sharded")
        options["prepared"] = request.getfixturevalue("prepared_shards")
    whole = run("train", *words(options | {"output": tmp_path / "whole"}))
    assert whole.exit_code == 0, whole.output
    for _ in range(3):  # each call ends after a step and a checkpoint
        part = run("train", *words(options), "--minutes", "0")
        assert part.exit_code == 0, part.output
    names = ("texture", "content", "calm", "pixel", "gamut", "learning_rate")
    logs = [
        [[line[name] for name in names] for line in read_log(tmp_path / run / "log.jsonl")]
        for run in ("whole", "run")
    ]
    assert len(logs[0]) == 3
    assert logs[0] == logs[1]
    models = [Stylizer.from_pretrained(tmp_path / n / "stylizer") for n in ("whole", "run")]
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(a, b)


def test_a_new_stylizer_has_the_mixer_and_depth_that_are_asked_for(
    options: dict[str, object], tiny_clip_folder: Path, tmp_path: Path
):
    del options["init"]
    done = run("train", *words(options), "--dry-run", "--mixer", "conv", "--depth", "1")
    assert done.exit_code == 0, done.output
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["dry-run"]
    dry = tmp_path / "run" / "dry-run"
    assert latest_checkpoint(dry).name == "checkpoint-0000002"
    config = Stylizer.from_pretrained(dry / "stylizer").config
    assert (config.mixer, config.depth, config.style_dim) == ("conv", 1, 16)
    assert config.clip == str(tiny_clip_folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"side": 100}, "--side must be a multiple of 8"),
        ({"prepared": "."}, "run the `prepare` command first"),
        ({"batch": 1}, "--batch or --exact"),
        ({"data": "."}, "prepare again"),
        ({"init": "."}, "can't read config.json"),
        ({"mixer": "conv"}, "--mixer"),
        ({"depth": 6}, "--depth"),
        ({"vgg": "list.csv"}, "can't load VGG"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_options_are_named(options, changed, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").write_text("file\n")
    result = run("train", *words(options | changed))
    assert result.exit_code == 2, result.output
    assert message in result.output.splitlines()[-1]
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_a_stylizer_for_another_clip_is_refused(options: dict[str, object], tmp_path: Path):
    file = tmp_path / "init" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"clip": "another"}))
    result = run("train", *words(options))
    assert result.exit_code == 2
    assert "--clip another" in result.output.splitlines()[-1]


def test_without_pictures_to_learn_from_nothing_is_prepared(tmp_path, data, tiny_clip_folder):
    for name, header in (("style", "file,style_words"), ("pairs", "file,caption")):
        (tmp_path / f"{name}.csv").write_text(header + "\n")
    photo = next(data.glob("*.png"))
    (tmp_path / photo.name).write_bytes(photo.read_bytes())
    (tmp_path / "content.csv").write_text(f"file,what\n{photo.name},x\n")
    result = run("prepare", "--data", str(tmp_path), "--clip", str(tiny_clip_folder),
                 "--painters", "0", "--output", str(tmp_path / "prepared"))  # fmt: skip
    assert result.exit_code == 2
    assert "0 style pictures" in result.output.splitlines()[-1]


def test_a_missing_folder_is_not_looked_for_on_the_hub(options: dict[str, object]):
    for command in (["train", *words(options), "--init"], ["export", "--output", "x", "--model"]):
        result = run(*command, "runs/missing")
        assert result.exit_code == 2
        assert "does not exist" in result.output


@pytest.mark.slow
def test_torchruns_line_trains_in_two_processes(options: dict[str, object], tmp_path: Path):
    """As docs/training.md says; with what begins in two, one does not go on."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        "-m", "clipmamba.train", *words(options | {"steps": 2}),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=500, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("training with 2 process(es), precision no") == 1  # one reports
    assert json.loads((tmp_path / "run" / "run.json").read_text())["processes"] == 2
    assert [line["step"] for line in read_log(tmp_path / "run" / "log.jsonl")] == [1, 2]
    Stylizer.from_pretrained(tmp_path / "run" / "stylizer")
    alone = run("train", *words(options))
    assert alone.exit_code == 2
    assert "launch it as before" in alone.output.splitlines()[-1]

"""Two processes train the stylizer as one with the joint batch would."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clipmamba.clip import Clip
from clipmamba.models import Stylizer
from clipmamba.train.distributed import gather_with_gradient
from clipmamba.train.loop import LoopConfig, read_log, train
from clipmamba.train.stylizer.pairs import SIZE, PairStore, StyleEntry, StylizerBatches, write_store
from clipmamba.train.stylizer.task import LossWeights, StylizerTask

# all but the patch loss, whose crops each process draws for itself
WEIGHTS = LossWeights(
    pixel=1, distil=1, statistics=1, content=1, gamut=1, directional=1, contrastive=0.3, layout=1,
    variation=0.1,
)  # fmt: skip


def look(images: Tensor) -> tuple[list[Tensor], Tensor]:
    maps = [torch.nn.functional.avg_pool2d(images, 2)]
    return maps, torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1)


def write_pairs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("teacher", "painters"):
        picture = "a.png" if name == "teacher" else ""
        styles = [StyleEntry(f"{name}-{n}", (), picture, name) for n in range(3)]
        photos, results = rng.integers(0, 256, (2, 6, SIZE, SIZE, 3), np.uint8)
        write_store(folder / name, styles, zip(photos, results, [0, 1, 2, 0, 1, 2], strict=True), 6)


def batches(folder: Path) -> StylizerBatches:
    generator = torch.Generator().manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(2, 3, 2, 16, generator=generator), dim=-1)
    stores = [PairStore(folder / name) for name in ("teacher", "painters")]
    targets = [[torch.rand(2, 6, generator=generator)] * 3, [torch.empty(0, 6)] * 3]
    looks = [[0, 1, -1], [-1] * 3]
    return StylizerBatches(
        stores,
        [1, 1],
        points,
        batch=6,
        sides=[32],
        seed=0,
        identity=1,
        targets=targets,
        looks=looks,
    )


def make_task(clip_folder: str, accelerator=None) -> StylizerTask:
    torch.manual_seed(0)
    stylizer = Stylizer(
        style_dim=16, widths=(8, 8, 8), depth=1, quarter_depth=1, head_width=8, state=4, expand=1,
        code_dim=16,
    )  # fmt: skip
    source = torch.nn.functional.normalize(torch.ones(16), dim=0)
    gather = functools.partial(gather_with_gradient, accelerator=accelerator)
    clip = Clip.from_pretrained(clip_folder)
    spread = torch.full((6,), 0.1)
    classifier = nn.Linear(6, 2).requires_grad_(False)
    return StylizerTask(stylizer, clip, source, WEIGHTS, look, spread, classifier, gather=gather)


def two_processes_equal_one(folder: str, clip_folder: str) -> None:
    """Body of each process, and the whole test: an AssertionError fails the launcher."""
    from accelerate import Accelerator

    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    source = batches(Path(folder))

    alone = make_task(clip_folder)
    expected = alone(source.batch(0, 0, 1))
    sum(expected.values()).backward()

    shared: nn.Module = accelerator.prepare(make_task(clip_folder, accelerator))
    mine = source.batch(0, accelerator.process_index, 2)
    assert mine["own_style"].any() == (accelerator.process_index == 0)  # unlike shares
    losses = shared(mine)
    accelerator.backward(sum(losses.values()))

    assert losses.keys() == expected.keys()
    for name, value in losses.items():
        mean = accelerator.gather(value.detach()).mean()
        assert torch.allclose(mean, expected[name], rtol=1e-5), (name, mean, expected[name])
    assert torch.allclose(losses["contrastive"], expected["contrastive"], rtol=1e-5)
    parameters = accelerator.unwrap_model(shared).named_parameters()
    squared, total = 0.0, 0.0
    for (name, parameter), other in zip(parameters, alone.parameters(), strict=True):
        error, norm = (parameter.grad - other.grad).norm(), other.grad.norm()
        assert error <= 1e-4 * norm + 1e-6, (name, error, norm)
        squared, total = squared + error.item() ** 2, total + norm.item() ** 2
    assert total > 1e-4
    assert squared <= 1e-4**2 * total, (squared, total)
    accelerator.end_training()


def two_processes_train_as_one(folder: str, clip_folder: str) -> None:
    """Some steps of the loop, killed and resumed on two processes."""
    from accelerate import Accelerator

    torch.set_num_threads(1)
    options = {"learning_rate": 1e-3, "warmup": 1, "log_every": 1, "precision": "no"}
    for step in (1, 2, 3):  # each call stops after a step, as its time is over
        accelerator = Accelerator(cpu=True)
        settings = LoopConfig(
            Path(folder) / "two", steps=3, minutes=0 if step < 3 else 60, **options
        )
        task = make_task(clip_folder, accelerator)
        train(task, batches(Path(folder)), settings, accelerator=accelerator)
    if accelerator.is_main_process:
        torch.save(task.state_dict(), Path(folder) / "two.pt")
    accelerator.end_training()


def in_two_processes(name: str, tmp_path: Path, clip_folder: Path) -> None:
    # in a process of its own: the launcher forks, which a pytest full of threads would not survive
    write_pairs(tmp_path)
    command = [sys.executable, __file__, name, str(tmp_path), str(clip_folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith("both processes are done")


def test_two_processes_give_the_loss_and_gradients_of_one(tmp_path: Path, tiny_clip_folder: Path):
    in_two_processes("equal", tmp_path, tiny_clip_folder)


@pytest.mark.slow
def test_two_processes_train_and_resume_as_one(tmp_path: Path, tiny_clip_folder: Path):
    in_two_processes("train", tmp_path, tiny_clip_folder)
    settings = LoopConfig(
        tmp_path / "one", steps=3, learning_rate=1e-3, warmup=1, log_every=1, precision="no"
    )
    task = train(make_task(str(tiny_clip_folder)), batches(tmp_path), settings)
    # not the weights: a bias that the norms take out again has a gradient of noise, and AdamW
    # makes a whole step of it
    other = make_task(str(tiny_clip_folder))
    start = {name: value.clone() for name, value in other.stylizer.state_dict().items()}
    other.load_state_dict(torch.load(tmp_path / "two.pt", weights_only=True))
    batch = batches(tmp_path).batch(9, 0, 1)
    with torch.no_grad():
        one_picture, two_picture = (
            model.cpu().stylizer(batch["photo"], batch["style"]) for model in (task, other)
        )
        other.stylizer.load_state_dict(start)
        untrained = other.stylizer(batch["photo"], batch["style"])
    learned = (one_picture - untrained).norm()
    assert learned > 0
    assert (one_picture - two_picture).norm() < 0.05 * learned
    one_log, two_log = ([*read_log(tmp_path / n / "log.jsonl")] for n in ("one", "two"))
    assert [line["step"] for line in two_log] == [1, 2, 3]
    for one, two_line in zip(one_log, two_log, strict=True):
        assert two_line["learning_rate"] == pytest.approx(one["learning_rate"])
        assert two_line["contrastive"] == pytest.approx(one["contrastive"], rel=1e-3)


if __name__ == "__main__":
    from accelerate import debug_launcher

    torch.set_num_threads(1)
    bodies = {"equal": two_processes_equal_one, "train": two_processes_train_as_one}
    debug_launcher(bodies[sys.argv[1]], args=tuple(sys.argv[2:]), num_processes=2)
    sys.stdout.write("both processes are done\n")

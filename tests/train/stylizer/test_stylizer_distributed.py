"""Two processes have the gradient of both their batches together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from clipmamba.losses.vgg import VggFeatures
from clipmamba.models import Stylizer
from clipmamba.train.stylizer.batches import StylizerBatches
from clipmamba.train.stylizer.prepared import Prepared
from clipmamba.train.stylizer.task import LossWeights, StylizerTask


def make_task(vgg: str) -> StylizerTask:
    torch.manual_seed(0)
    stylizer = Stylizer(
        style_dim=16, widths=(8, 8, 8), depth=1, quarter_depth=1, state=4, expand=1, code_dim=16
    )
    weights = LossWeights(adversarial=1, directional=0, contrastive=0)
    task = StylizerTask(stylizer, {"vgg": VggFeatures(vgg)}, weights)
    task.discriminator.eval()  # each forward pass in training improves its spectral norms
    return task


def two_processes_equal_one(data: str, prepared: str, vgg: str) -> None:
    """Body of each process, and the whole test: an AssertionError fails the launcher."""
    from accelerate import Accelerator

    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    source = StylizerBatches(Path(data), Prepared.load(Path(prepared)), 6, (64,), (1, 2), 1, 0)
    alone = make_task(vgg)
    for process in range(2):
        losses = alone(source.batch(0, process, 2))
        (sum(losses.values()) / 2).backward()

    shared = accelerator.prepare(make_task(vgg))
    mine = source.batch(0, accelerator.process_index, 2)
    assert len(mine["result"]) == (accelerator.process_index == 0)  # unlike shares
    accelerator.backward(sum(shared(mine).values()))
    of = [
        torch.cat([p.grad.flatten() for p in task.parameters()])
        for task in (accelerator.unwrap_model(shared), alone)
    ]
    assert of[1].norm() > 1e-3
    assert (of[0] - of[1]).norm() < 1e-4 * of[1].norm(), (of[0] - of[1]).norm() / of[1].norm()
    accelerator.end_training()


@pytest.mark.parametrize("kind", ["files", "shards"])
def test_two_processes_give_the_gradient_of_both_batches(
    kind: str, request: pytest.FixtureRequest, vgg_weights: Path
):
    names = {"files": ("data", "prepared_folder"), "shards": ("sharded", "prepared_shards")}
    data, prepared_folder = map(request.getfixturevalue, names[kind])
    # in a process of its own: the launcher forks, which a pytest full of threads would not survive
    command = [sys.executable, __file__, str(data), str(prepared_folder), str(vgg_weights)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith("both processes are done")


if __name__ == "__main__":
    from accelerate import debug_launcher

    torch.set_num_threads(1)
    debug_launcher(two_processes_equal_one, args=tuple(sys.argv[1:]), num_processes=2)
    sys.stdout.write("both processes are done\n")

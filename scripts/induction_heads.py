"""Train and test this package's Mamba block on the induction-heads task.

    python scripts/induction_heads.py --output runs/induction_heads

A special token occurs once in a sequence of random tokens; when it occurs again, at the end, the
model must predict the token that followed it. The model is trained on up to 256 tokens and tested
on up to 2^20 (Gu & Dao, "Mamba", 2023, section 4.1.2 and appendix E.1). The same command resumes a
stopped run from its last checkpoint; lengths in results.json are not tested again.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipmamba.nn import MambaBlock, MambaState

VOCABULARY = 16
SPECIAL = VOCABULARY - 1
PAPER = 100.0  # percent; the paper's Mamba row, at every length from 2^6 to 2^20
KEEP = 250  # training steps between checkpoints
PIECE = 512  # steps of a long sequence in memory at a time


@dataclass(frozen=True)
class Recipe:
    """How the model is trained.

    Batch, learning rate, Adam without weight decay and length are the paper's. Three things are
    ours, to save time. Sequences start short and double in length, up to `length`, whenever the
    accuracy of the last 100 batches is at least 95 % (set `first_length = length` to disable this).
    The scan starts with small step sizes, so that it forgets slowly (Mamba's are 0.001 to 0.1).
    `push` times the mean bias of the step sizes is added to the loss, which keeps them small where
    the task at this length does not depend on them.
    """

    steps: int = 40_000
    batch: int = 8
    length: int = 256
    first_length: int = 16
    rate: float = 1e-3
    slowest: float = 1e-6
    fastest: float = 1e-4
    push: float = 0.0
    seed: int = 0


def draw(batch: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw token sequences (B, L), L at least 3, and the tokens (B,) that must follow them."""
    tokens = torch.randint(SPECIAL, (batch, length), generator=generator, dtype=torch.uint8)
    place = torch.randint(length - 2, (batch, 1), generator=generator)
    tokens.scatter_(1, place, SPECIAL)
    tokens[:, -1] = SPECIAL
    return tokens, tokens.gather(1, place + 1)[:, 0].long()


class InductionModel(nn.Module):
    """Embedding, pre-norm residual Mamba blocks, linear head; no positional embedding.

    Args:
        dim: Channels.
        depth: Blocks.
        state: States per channel.
        steps: Smallest and largest step size of the scan at the start.
    """

    def __init__(
        self,
        dim: int = 64,
        depth: int = 2,
        state: int = 16,
        steps: tuple[float, float] = (Recipe.slowest, Recipe.fastest),
    ):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, dim)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(depth))
        self.blocks = nn.ModuleList(MambaBlock(dim, state, steps=steps) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, VOCABULARY)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def extend(
        self, tokens: Tensor, states: list[MambaState] | None = None
    ) -> tuple[Tensor, list[MambaState]]:
        """Return the logits (B, V) after the tokens (B, L), and the states to continue from."""
        x, after = self.embedding(tokens.int()), []
        for index, (norm, block) in enumerate(zip(self.norms, self.blocks, strict=True)):
            mixed, state = block.extend(norm(x), None if states is None else states[index])
            x = x + mixed
            after.append(state)
        return self.head(self.norm(x[:, -1])), after

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits (B, V) of the token that follows the tokens (B, L)."""
        return self.extend(tokens)[0]

    @torch.no_grad()
    def stream(self, tokens: Tensor, piece: int = PIECE) -> Tensor:
        """Return the same logits as `forward`, in memory that does not grow with the length."""
        states = None
        for part in tokens.split(piece, dim=1):
            logits, states = self.extend(part, states)
        return logits


class Training:
    """A model in training, with all state needed to resume.

    Args:
        recipe: How the model is trained.
        folder: Folder of its checkpoint, which is resumed if there is one.
        device: Device to train on.

    Raises:
        click.ClickException: The folder's checkpoint has another recipe.
    """

    def __init__(self, recipe: Recipe, folder: Path, device: str):
        torch.manual_seed(recipe.seed)
        self.recipe, self.device, self.file = recipe, device, folder / "checkpoint.pt"
        self.model = InductionModel(steps=(recipe.slowest, recipe.fastest)).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=recipe.rate)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.step, self.length, self.seconds, self.cpu_seconds = 0, recipe.first_length, 0.0, 0.0
        self.right: deque[float] = deque(maxlen=100)
        if self.file.exists():
            self._load()

    def _identity(self) -> dict[str, float]:
        return {k: v for k, v in asdict(self.recipe).items() if k != "steps"}

    def _load(self) -> None:
        saved = torch.load(self.file, map_location="cpu", weights_only=True)
        if saved["recipe"] != self._identity():
            raise click.ClickException(
                f"{self.file} was trained with {saved['recipe']}; take another --output"
            )
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.generator.set_state(saved["generator"])
        self.right.extend(saved["right"])
        for name in ("step", "length", "seconds", "cpu_seconds"):
            setattr(self, name, saved[name])

    def _save(self) -> None:
        saved = {
            "recipe": self._identity(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "right": list(self.right),
        } | {name: getattr(self, name) for name in ("step", "length", "seconds", "cpu_seconds")}
        new = self.file.with_suffix(".new")
        torch.save(saved, new)
        os.replace(new, self.file)

    def run(self) -> None:
        """Train to the recipe's last step, always on new sequences."""
        while self.step < self.recipe.steps:
            began, cpu_began = time.monotonic(), time.process_time()
            losses = []
            for _ in range(min(KEEP, self.recipe.steps - self.step)):
                losses.append(self._one_step())
            self.seconds += time.monotonic() - began
            self.cpu_seconds += time.process_time() - cpu_began
            self._save()
            click.echo(
                f"step {self.step}, length {self.length}, {self.seconds:.0f} s: "
                f"loss {sum(losses) / len(losses):.1e}, "
                f"accuracy {100 * sum(self.right) / len(self.right):.1f} %",
                err=True,
            )

    def _one_step(self) -> float:
        tokens, wanted = draw(self.recipe.batch, self.length, self.generator)
        tokens, wanted = tokens.to(self.device), wanted.to(self.device)
        logits = self.model(tokens)
        loss = F.cross_entropy(logits, wanted)
        biases = torch.stack([block.dt_proj.bias for block in self.model.blocks])
        self.optimizer.zero_grad()
        (loss + self.recipe.push * biases.mean()).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.right.append((logits.argmax(-1) == wanted).float().mean().item())
        if len(self.right) == 100 and sum(self.right) >= 95 and self.length < self.recipe.length:
            self.length = min(2 * self.length, self.recipe.length)
            self.right.clear()
        return loss.item()


def sequences(length: int) -> int:
    """Return the number of sequences that a length is tested on."""
    return 512 if length <= 2**13 else 128 if length <= 2**17 else 32


def accuracy(model: InductionModel, length: int, count: int, device: str) -> float:
    """Return the accuracy in percent on `count` sequences, the same ones at every call."""
    generator = torch.Generator().manual_seed(length)
    right = 0
    for first in range(0, count, 32):
        tokens, wanted = draw(min(32, count - first), length, generator)
        right += int((model.stream(tokens.to(device)).argmax(-1).cpu() == wanted).sum())
    return 100 * right / count


def test(training: Training, file: Path, longest: int) -> list[str]:
    """Test all lengths that the file lacks for this model, and return the table's lines."""
    known = json.loads(file.read_text()) if file.exists() else {}
    if known.get("step") != training.step:
        known = {"step": training.step, "rows": {}}
    lines = ["| length | sequences | accuracy, % | the paper's Mamba, % |", "|---|---|---|---|"]
    for power in range(6, longest + 1):
        count = sequences(2**power)
        row = known["rows"].get(str(power))
        if row is None or row["sequences"] != count:
            began = time.monotonic()
            percent = accuracy(training.model, 2**power, count, training.device)
            row = {"sequences": count, "percent": percent, "seconds": time.monotonic() - began}
            known["rows"][str(power)] = row
            file.write_text(json.dumps(known))
            click.echo(f"2^{power}: {percent:.2f} %, {row['seconds']:.0f} s", err=True)
        lines.append(f"| 2^{power} | {count} | {row['percent']:.2f} | {PAPER:.0f} |")
    return lines


@click.command()
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), default="runs/induction_heads",
    show_default=True, help="Folder for the checkpoint and the results.",
)  # fmt: skip
@click.option("--steps", default=Recipe.steps, show_default=True)
@click.option("--first-length", default=Recipe.first_length, show_default=True)
@click.option("--rate", default=Recipe.rate, show_default=True, help="Learning rate.")
@click.option(
    "--slowest", default=Recipe.slowest, show_default=True, help="Smallest initial step size."
)
@click.option("--fastest", default=Recipe.fastest, show_default=True, help="Largest initial one.")
@click.option("--push", default=Recipe.push, show_default=True, help="Weight of the bias loss.")
@click.option("--seed", default=Recipe.seed, show_default=True)
@click.option("--longest", default=20, show_default=True, help="Test up to 2^N tokens; 0: no test.")
@click.option("--device", default="cpu", show_default=True)
def main(output: Path, longest: int, device: str, **options: float) -> None:
    """Train, test, print a table."""
    torch.set_flush_denormal(True)  # denormal numbers are slow
    output.mkdir(parents=True, exist_ok=True)
    training = Training(Recipe(**options), output, device)  # type: ignore[arg-type]
    training.run()
    lines = test(training, output / "results.json", longest) if longest else []
    size = sum(parameter.numel() for parameter in training.model.parameters())
    click.echo(
        f"{size:,} parameters, {training.step} steps in {training.seconds:.0f} s "
        f"({training.cpu_seconds:.0f} s of one processor)\n"
    )
    click.echo("\n".join(lines))


if __name__ == "__main__":
    main()

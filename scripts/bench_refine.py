"""Measure what a refinement gains, for how much time, and what it costs the picture.

    python scripts/bench_refine.py --judge-clip MODEL --ruler runs/evaluate/ruler --from-scratch

Every picture is restyled with and without the refinement and measured by an encoder that was not
optimized: an open_clip folder (--judge-clip), or the judge that scripts/evaluate.py fitted
(--ruler). Edges and flecks are those of the evaluation. --from-scratch counts the steps that
CLIPstyler's own start needs until it reaches the refinement's loss.
"""

from __future__ import annotations

import csv
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import click
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from clipmamba.clip import Clip, encode_picture
from clipmamba.errors import InputError
from clipmamba.evaluate import marks, metrics
from clipmamba.evaluate.protocol import FAMILIES, Family
from clipmamba.evaluate.ruler import Ruler, fit
from clipmamba.io import read_picture, to_srgb
from clipmamba.io.convert import array_to_tensor
from clipmamba.pipelines import StylizeOptions, StylizePipeline
from clipmamba.pipelines.refine import RefineOptions
from clipmamba.pipelines.refine.refiner import Refiner, Task
from clipmamba.styles import StyleRequest
from clipmamba.styles.style import embed_words
from clipmamba.train.options import PoliteCommand

ASSETS = Path(__file__).parents[1] / "assets" / "photos"
EDGES_KEPT = 0.95  # of those of the start: the bar
FLECKS = 1.05  # times those of the start, or of the photo where the start has fewer: none new
LOOK_EVERY = 5  # steps of the network from scratch

Judge = Callable[[Image.Image, str, Family], float]


@dataclass(frozen=True)
class Row:
    """What was measured of one picture.

    Attributes:
        photo: Its name.
        prompt: The style's words.
        seconds: Of the refinement alone: the refined picture's time less the plain one's.
        steps: Taken.
        loss: Of start and end, under the CLIP that was optimized.
        similarity: Of start and end, to the words, under --judge-clip.
        chance: Of start and end, that --ruler's judge sees the style.
        edges: Kept by start and end, 1 for all.
        flecks: Of start and end, 1 for none.
        scratch: Steps from scratch until the same loss; 0 where they were not enough.
    """

    photo: str
    prompt: str
    seconds: float
    steps: int
    loss: tuple[float, float]
    similarity: tuple[float, float] | None
    chance: tuple[float, float] | None
    edges: tuple[float, float]
    flecks: tuple[float, float]
    scratch: int | None


class StyleNet(nn.Module):
    """CLIPstyler's network: a U-Net with three halvings of 16, 32 and 64 channels.

    Kwon & Ye, "CLIPstyler: Image Style Transfer with a Single Text Condition", CVPR 2022, 4.1: skip
    connections, a sigmoid at its end, trained from scratch for every picture.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        self.first = _convolutions(3, widths[0])
        self.down = nn.ModuleList(
            _convolutions(inputs, outputs)
            for inputs, outputs in itertools.pairwise((*widths, widths[-1]))
        )
        rising = (widths[-1], *reversed(widths))
        self.up = nn.ModuleList(
            _convolutions(inputs + outputs, outputs)
            for inputs, outputs in itertools.pairwise(rising)
        )
        self.last = nn.Conv2d(widths[0], 3, 1)

    def forward(self, photo: Tensor) -> Tensor:
        """Map (B, 3, H, W) in [0, 1] to pictures of the same shape and range."""
        x, skips = self.first(photo), []
        for stage in self.down:
            skips.append(x)
            x = stage(functional.max_pool2d(x, 2, ceil_mode=True))
        for stage, skip in zip(self.up, reversed(skips), strict=True):
            x = functional.interpolate(x, skip.shape[2:], mode="bilinear")
            x = stage(torch.cat([x, skip], dim=1))
        return torch.sigmoid(self.last(x))


def _convolutions(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect"),
        nn.InstanceNorm2d(outputs, affine=True),
        nn.LeakyReLU(0.2),
    )


def steps_from_scratch(task: Task, wanted: float, most: int) -> int:
    """Steps of CLIPstyler's own start until a loss is reached; 0 if it is not in `most`.

    Adam at 5e-4, halved after 100 steps, as in the paper; the losses are those of the refinement.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = StyleNet()
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4)
    decay = torch.optim.lr_scheduler.StepLR(optimizer, 100, gamma=0.5)
    random = task.random()
    for step in range(1, most + 1):
        loss = task.goal(network(task.photo), random)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        if step % LOOK_EVERY == 0:
            with torch.no_grad():
                if task.loss(network(task.photo)) <= wanted:
                    return step
    return 0


def clip_judge(clip: Clip) -> Judge:
    """The similarity of a picture to the words, under an encoder."""

    @torch.no_grad()
    def judge(picture: Image.Image, prompt: str, family: Family) -> float:
        image = encode_picture(clip, array_to_tensor(to_srgb(picture)[0]))
        return float((image @ embed_words(clip, prompt).T).item())

    return judge


def fitted_judge(ruler: Ruler) -> Judge:
    """The chance that the evaluation's judge gives the family."""

    def judge(picture: Image.Image, prompt: str, family: Family) -> float:
        return float(ruler.chances([picture], family.name)[0])

    return judge


def cases(photos: Sequence[Path], count: int) -> Iterator[tuple[Path, str, Family]]:
    """Photos and wordings, both in turn: first wordings of all families, then second ones."""
    wordings = [
        (family.prompts[turn], family)
        for turn in range(len(FAMILIES[0].prompts))
        for family in FAMILIES
    ]
    for number in range(count):
        prompt, family = wordings[number % len(wordings)]
        yield photos[number % len(photos)], prompt, family


def measure(
    pipeline: StylizePipeline,
    case: tuple[Path, str, Family],
    settings: RefineOptions,
    size: int,
    judges: tuple[Judge | None, Judge | None],
    scratch: int,
    output: Path | None,
) -> Row:
    """Restyle and refine one photo, and measure both pictures."""
    file, prompt, family = case
    photo = fit(read_picture(file), size)
    style = pipeline.prepare(StyleRequest.parse(prompt))
    began = time.perf_counter()
    [start] = pipeline(photo, style=style).images
    between = time.perf_counter()
    done = pipeline.refine(photo, style, settings)
    seconds = time.perf_counter() - between - (between - began)
    [end], [refinement] = done.images, done.refinements
    ground = marks.Ground(photo)

    def both(function: Callable[[Image.Image], float]) -> tuple[float, float]:
        return function(start), function(end)

    similarity, chance = (
        None if judge is None else both(lambda picture, judge=judge: judge(picture, prompt, family))
        for judge in judges
    )
    steps = None
    if scratch:
        task = Refiner(pipeline, settings).task(
            pipeline, array_to_tensor(to_srgb(photo)[0]), style.layers[0], StylizeOptions()
        )
        steps = steps_from_scratch(task, refinement.after, scratch)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        strip = Image.new("RGB", (3 * photo.width, photo.height))
        for place, picture in enumerate((photo, start, end)):
            strip.paste(picture, (place * photo.width, 0))
        strip.save(output / f"{file.stem}-{prompt[:40].replace(' ', '-')}.png")
    return Row(
        file.stem,
        prompt,
        seconds,
        refinement.steps,
        (refinement.before, refinement.after),
        similarity,
        chance,
        both(lambda picture: metrics.edge_similarity(picture, photo)),
        both(lambda picture: marks.flecks(picture, ground)),
        steps,
    )


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """The figures of the bars, a line each."""

    def share(values: Sequence[bool]) -> str:
        return f"{sum(values)} of {len(values)}"

    yield f"seconds per picture: median {statistics.median(row.seconds for row in rows):.1f}"
    for name in ("similarity", "chance"):
        found = [pair for row in rows if (pair := getattr(row, name)) is not None]
        if found:
            gain = statistics.mean(after - before for before, after in found)
            rises = share([after > before for before, after in found])
            yield f"{name} rises in {rises} (bar: 80 %), by {gain:+.4f} on the mean"
    kept = [row.edges[1] >= EDGES_KEPT * row.edges[0] for row in rows]
    ratio = statistics.mean(row.edges[1] / row.edges[0] for row in rows)
    yield f"edges kept within 5 % in {share(kept)}, {ratio:.3f} times the start's on the mean"
    calm = [row.flecks[1] <= FLECKS * max(1.0, row.flecks[0]) for row in rows]
    ratio = statistics.geometric_mean(row.flecks[1] / row.flecks[0] for row in rows)
    yield f"no new flecks in {share(calm)}, {ratio:.3f} times the start's on the mean"
    tried = [row for row in rows if row.scratch is not None]
    if tried:
        reached = [row.scratch / row.steps for row in tried if row.scratch]
        line = f"from scratch: the same loss in {share([bool(row.scratch) for row in tried])}"
        yield line + (f", {statistics.median(reached):.1f} times the steps" if reached else "")


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return " → ".join(f"{part:.3f}" for part in value)
    return f"{value:.1f}" if isinstance(value, float) else "" if value is None else str(value)


def table(rows: Sequence[Row]) -> str:
    """All rows in Markdown."""
    names = [field.name for field in fields(Row)]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    lines += ["| " + " | ".join(_cell(v) for v in vars(row).values()) + " |" for row in rows]
    return "\n".join(lines)


def read_settings(steps: int, clip: str | None, changes: Sequence[str]) -> RefineOptions:
    """Settings with changes such as "rate=0.1"."""
    kinds = {name: type(value) for name, value in asdict(RefineOptions()).items()}
    values: dict[str, object] = {"steps": steps, "clip": clip}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in kinds:
            raise InputError(f"--set {change}: use one of {', '.join(kinds)}")
        values[name] = kinds[name](value)
    return RefineOptions(**values)


@click.command(cls=PoliteCommand)
@click.option("--photos", type=click.Path(exists=True, path_type=Path), default=ASSETS)
@click.option("--count", default=24, show_default=True, help="Pictures: photos and words in turn.")
@click.option("--size", default=512, show_default=True, help="Longest side in pixels.")
@click.option("--steps", default=RefineOptions.steps, show_default=True)
@click.option("--clip", help="The CLIP to optimize.  [default: the pipeline's]")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="Another setting.")
@click.option("--model", type=click.Path(exists=True, path_type=Path), help="A saved pipeline.")
@click.option("--judge-clip", help="An encoder that is not optimized: a folder or a name.")
@click.option("--ruler", type=click.Path(path_type=Path), help="A folder of scripts/evaluate.py.")
@click.option("--from-scratch", is_flag=True, help="Count the steps of CLIPstyler's start.")
@click.option("--of", "scratch_count", default=4, show_default=True, help="So many pictures.")
@click.option("--most", default=12.0, show_default=True, help="Times the steps, from scratch.")
@click.option("--threads", default=2, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Photo, start and end beside.")
def main(
    photos: Path,
    count: int,
    size: int,
    steps: int,
    clip: str | None,
    changes: tuple[str, ...],
    model: Path | None,
    judge_clip: str | None,
    ruler: Path | None,
    from_scratch: bool,
    scratch_count: int,
    most: float,
    threads: int,
    output: Path | None,
) -> None:
    """Measure what a refinement gains and costs."""
    torch.set_num_threads(threads)
    settings = read_settings(steps, clip, changes)
    files = sorted(file for file in photos.iterdir() if file.suffix in (".jpg", ".png", ".webp"))
    if not files:
        raise InputError(f"no pictures in {photos}")
    pipeline = StylizePipeline.from_pretrained(model, "cpu")
    if judge_clip is not None and judge_clip in (pipeline.clip.name, clip):
        raise InputError("--judge-clip: give another encoder than the one that is optimized")
    judges = (
        None if judge_clip is None else clip_judge(Clip.from_pretrained(judge_clip)),
        None if ruler is None else fitted_judge(Ruler.load(ruler)),
    )
    scratch = round(most * steps) if from_scratch else 0
    rows: list[Row] = []
    for case in cases(files, count):
        tried = scratch if len(rows) < scratch_count else 0
        rows.append(measure(pipeline, case, settings, size, judges, tried, output))
        click.echo(table(rows).splitlines()[-1], err=True)
    click.echo(table(rows))
    click.echo("\n".join(summary(rows)))
    if output is not None:
        with (output / "rows.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Row)])
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)


if __name__ == "__main__":
    main()

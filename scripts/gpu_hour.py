r"""Use a GPU for half an hour: pack beforehand, then check, bench, train, sheet.

Where the data is:

    . scripts/recipe.sh
    python scripts/gpu_hour.py pack --data DATA --prepared runs/prepared --vgg VGG \
        --output runs/packed "${painters[@]/#/--painter=}"

On the machine with the GPU, which needs neither accelerate nor diffusers nor open_clip:

    python scripts/gpu_hour.py check --output OUT
    python scripts/gpu_hour.py bench --output OUT
    . scripts/recipe.sh
    python scripts/gpu_hour.py train --packed runs/packed --init STYLIZER --output OUT --minutes 9 \
        "${recipe[@]}"
    python scripts/gpu_hour.py sheet --packed runs/packed --output OUT

`train` resumes from OUT. It shares network, losses and batches with `train_stylizer.py`, but has
a loop of its own, as that one's libraries may be missing on the machine.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import platform
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from clipmamba.errors import BackendError
from clipmamba.losses.vgg import VggFeatures
from clipmamba.models import Stylizer
from clipmamba.ops import backend_table, selective_scan
from clipmamba.train.options import PoliteGroup, dataclass_options
from clipmamba.train.stylizer.batches import StylizerBatches, pairs_of
from clipmamba.train.stylizer.pairs import read_styles, write_store
from clipmamba.train.stylizer.prepared import Prepared
from clipmamba.train.stylizer.samples import sample_sheet
from clipmamba.train.stylizer.start import start_stylizer
from clipmamba.train.stylizer.task import LossWeights, StylizerTask

SHARD = 12 << 20  # bytes per file of weights: larger files than 16 MiB can't be sent back
SHAPES = ((1, 3, 1, 1), (2, 5, 37, 4), (1, 192, 16384, 16), (8, 160, 64 * 64, 16))
TINY_SHAPES = ((1, 3, 1, 1), (2, 5, 37, 4))
GATES = {torch.float32: (1e-5, 1e-4), torch.bfloat16: (2e-2, 3e-2), torch.float16: (5e-3, 1e-2)}

Folder = click.Path(file_okay=False, path_type=Path)
Existing = click.Path(exists=True, path_type=Path)
output_option = click.option("--output", type=Folder, required=True)
packed_option = click.option("--packed", type=Existing, required=True, help="Output of `pack`.")
device_option = click.option("--device", default="cuda", show_default=True)
tiny_option = click.option("--tiny", is_flag=True, help="Use small sizes, to test the command.")


@click.group(cls=PoliteGroup)
def main() -> None:
    """Use a GPU for half an hour."""


# -- pack ------------------------------------------------------------------------------------------


@main.command()
@click.option("--data", type=Existing, required=True)
@click.option("--prepared", "prepared_folder", type=Existing, required=True)
@click.option("--vgg", type=Existing, required=True)
@click.option(
    "--styles",
    default=5000,
    show_default=True,
    help="Style pictures, at most, but for those that words mean: these are always packed.",
)
@click.option("--photos", default=2500, show_default=True, help="Photos, at most.")
@click.option("--pairs", default=600, show_default=True, help="Exact pairs, at most.")
@click.option("--painter", "painters", multiple=True, help="Only exact pairs by these painters.")
@click.option("--side", default=256, show_default=True, help="Short side of the pictures.")
@click.option("--part", "megabytes", default=45.0, show_default=True, help="MB per part, at most.")
@output_option
def pack(
    data: Path, prepared_folder: Path, vgg: Path, styles: int, photos: int, pairs: int,
    painters: tuple[str, ...], side: int, megabytes: float, output: Path,
) -> None:  # fmt: skip
    """Pack pictures, embeddings, exact pairs and VGG into parts that can be sent one by one."""
    prepared, rng = Prepared.load(prepared_folder), random.Random(0)
    firsts = prepared.firsts()  # words mean these
    others = sorted(set(range(len(prepared.styles))) - set(firsts))
    rows = sorted(firsts + rng.sample(others, max(0, min(styles - len(firsts), len(others)))))
    shown = sorted(rng.sample(range(len(prepared.photos)), min(photos, len(prepared.photos))))
    painted = pairs_of(prepared.painters, painters)
    chosen = sorted(rng.sample(painted, min(pairs, len(painted))))
    part = prepared.part(rows, shown, chosen)

    def members() -> Iterator[tuple[str, bytes]]:
        with tempfile.TemporaryDirectory() as folder:
            part.save(Path(folder))
            for file in sorted(Path(folder).iterdir()):
                yield f"prepared/{file.name}", file.read_bytes()
        yield "vgg.safetensors", vgg.read_bytes()
        for name in (*part.styles, *part.photos):
            with Image.open(data / name) as opened:
                yield f"data/{name}", _webp(opened.convert("RGB"), side)
        store = prepared.painters
        if store is None:
            return
        yield "pairs/styles.json", (store.folder / "styles.json").read_bytes()
        for number, row in enumerate(chosen):
            for kind, pixels in (("photo", store.photos), ("result", store.results)):
                picture = Image.fromarray(np.asarray(pixels[row]))
                name = f"pairs/{number:05d}-{store.numbers[row]}-{kind}.webp"
                yield name, _webp(picture, picture.width, 90)

    for number, size in enumerate(_write_parts(members(), output, int(megabytes * 1e6))):
        click.echo(f"part {number}: {size / 1e6:.1f} MB")


def _webp(image: Image.Image, side: int, quality: int = 80) -> bytes:
    scale = min(1, side / min(image.size))
    size = (round(image.width * scale), round(image.height * scale))
    file = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(file, "WebP", quality=quality)
    return file.getvalue()


def _write_parts(members: Iterator[tuple[str, bytes]], output: Path, limit: int) -> list[int]:
    """Write tar archives, none larger than a limit, and return their sizes."""
    output.mkdir(parents=True, exist_ok=True)
    for old in output.glob("part-*.tar"):
        old.unlink()
    paths: list[Path] = []
    archive: tarfile.TarFile | None = None
    used = limit
    for name, content in members:
        takes = 1024 + -(-len(content) // 512) * 512  # long names have a header more
        if takes + 20480 > limit:
            raise click.ClickException(f"{name} alone is larger than a part; give a larger --part")
        if archive is None or used + takes > limit:
            if archive is not None:
                archive.close()
            paths.append(output / f"part-{len(paths):02d}.tar")
            archive, used = tarfile.open(paths[-1], "w", format=tarfile.GNU_FORMAT), 20480  # noqa: SIM115
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
        used += takes
    if archive is not None:
        archive.close()
    return [path.stat().st_size for path in paths]


def unpack(packed: Path) -> Path:
    """Return the folder of the unpacked parts, which the first call makes."""
    folder = packed / "unpacked"
    if (folder / "whole").is_file():
        return folder
    parts = sorted(packed.glob("part-*.tar"))
    if not parts:
        raise click.ClickException(f"no parts in {packed}; make them with `pack`")
    for part in parts:
        with tarfile.open(part) as archive:
            archive.extractall(folder, filter="data")
    files = sorted((folder / "pairs").glob("*-photo.webp"))
    if files:

        def pairs() -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
            for file in files:
                result = file.with_name(file.name.replace("photo", "result"))
                style = int(file.stem.split("-")[1])
                yield np.asarray(Image.open(file)), np.asarray(Image.open(result)), style

        styles = read_styles(folder / "pairs")
        write_store(folder / "prepared" / "painters", styles, pairs(), len(files))
    (folder / "whole").touch()
    return folder


# -- check -----------------------------------------------------------------------------------------


@main.command()
@output_option
@device_option
@tiny_option
def check(output: Path, device: str, tiny: bool) -> None:
    """Record the environment, run the tests marked gpu, and check scans and stylizer."""
    report: dict[str, Any] = {"environment": _environment(device), "scan": [], "stylizer": []}
    if not tiny:
        tests = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/ops", "tests/nn"]
        done = subprocess.run(tests, capture_output=True, text=True, check=False)
        report["tests"] = {"code": done.returncode, "tail": done.stdout[-4000:]}
    for shape in TINY_SHAPES if tiny else SHAPES:
        for backend in _backends(device):
            for dtype in GATES:
                report["scan"].append(_guarded(_check_scan, shape, backend, dtype, device))
                _write(output / "check.json", report)
    for dtype in (torch.float32, torch.bfloat16):
        report["stylizer"].append(_guarded(_check_stylizer, dtype, device, tiny))
    _write(output / "check.json", report)
    rows = [*report["scan"], *report["stylizer"]]
    bad = [row for row in rows if not row["good"]]
    bad += [report["tests"]] if report.get("tests", {}).get("code") else []
    for row in bad:
        click.echo(json.dumps(row))
    declined = sum("declined" in row for row in rows)
    click.echo(f"{len(rows)} comparisons, {declined} declined, {len(bad)} bad")
    if bad:
        raise SystemExit(1)


def _check_scan(
    shape: tuple[int, ...], backend: str, dtype: torch.dtype, device: str
) -> dict[str, Any]:
    """Compare output and all gradients with the reference in float64."""
    inputs = _scan_inputs(shape, device, dtype)
    wide = {name: value.double() for name, value in inputs.items()}
    outputs, gradients = [], []
    for given, name in ((inputs, backend), (wide, "torch")):
        leaves = {key: value.detach().requires_grad_() for key, value in given.items()}
        out = selective_scan(**leaves, delta_softplus=True, backend=name)
        generator = torch.Generator().manual_seed(1)
        seen = torch.randn(out.shape, generator=generator).to(device, out.dtype)
        found = torch.autograd.grad((out * seen).sum(), list(leaves.values()))
        outputs.append(out.detach())
        gradients.append(found)
    errors = {"out": _error(*outputs)}
    for key, own, expected in zip(inputs, *gradients, strict=True):
        errors[f"d{key}"] = _error(own, expected)
    gate_out, gate_gradient = GATES[dtype]
    good = errors["out"] < gate_out and all(
        value < gate_gradient for key, value in errors.items() if key != "out"
    )
    return {"shape": shape, "backend": backend, "dtype": str(dtype), "errors": errors, "good": good}


def _check_stylizer(dtype: torch.dtype, device: str, tiny: bool) -> dict[str, Any]:
    model, photo, style = _stylizer(tiny), *_picture(64 if tiny else 256)
    with torch.no_grad():
        expected = model(photo, style)
        model.to(device)
        with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
            found = model(photo.to(device), style.to(device))
    error = _error(found.cpu() - photo, expected - photo)
    good = error < (1e-4 if dtype == torch.float32 else 0.05)
    return {"what": "stylizer", "dtype": str(dtype), "error": error, "good": good}


def _guarded(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Call a function; an error becomes a row of the report, so that the others still run."""
    try:
        return function(*arguments)
    except BackendError as error:  # the backend declines, with a reason
        return {"what": f"{function.__name__}{arguments}", "declined": str(error), "good": True}
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:500]
        return {"what": f"{function.__name__}{arguments}", "error": reason, "good": False}


def _error(found: Tensor, expected: Tensor) -> float:
    """Return the RMS of the difference, relative to the RMS of the expected values."""
    found, expected = found.double(), expected.double()
    scale = expected.square().mean().sqrt() + 1e-12
    return float((found - expected).square().mean().sqrt() / scale)


def _scan_inputs(shape: tuple[int, ...], device: str, dtype: torch.dtype) -> dict[str, Tensor]:
    batch, channels, length, states = shape
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator).to(device, dtype)

    return {
        "u": draw(batch, channels, length),
        "delta": draw(batch, channels, length) - 1,
        "A": -draw(channels, states).float().exp(),
        "B": draw(batch, 1, states, length),
        "C": draw(batch, 1, states, length),
        "D": draw(channels).float(),
        "delta_bias": draw(channels).float(),
    }


def _backends(device: str) -> list[str]:
    """Return the backends that run on a device, except for the slow reference."""
    kind = torch.device(device).type
    own = {"cpu": {"torch", "cpu"}, "cuda": {"torch", "triton", "mamba_ssm"}}.get(kind, {"torch"})
    return [row.name for row in backend_table() if row.available and row.name in own]


def _environment(device: str) -> dict[str, Any]:
    found: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__}
    found["backends"] = {row.name: row.reason for row in backend_table()}
    if torch.device(device).type == "cuda":
        found |= {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return found


# -- bench -----------------------------------------------------------------------------------------


@main.command()
@output_option
@device_option
@tiny_option
@click.option("--compile/--no-compile", "compiled", default=True, show_default=True)
def bench(output: Path, device: str, tiny: bool, compiled: bool) -> None:
    """Measure median times of the scan and of the stylizer, in milliseconds."""
    report: dict[str, Any] = {"environment": _environment(device), "scan": [], "stylizer": []}
    runs = 3 if tiny else 30
    for shape in TINY_SHAPES[1:] if tiny else SHAPES[2:]:
        for backend in _backends(device):
            for dtype in (torch.float32, torch.bfloat16):
                row = _guarded(_bench_scan, shape, backend, dtype, device, runs)
                report["scan"].append(row)
    sizes = ((64, 1),) if tiny else ((512, 1), (1024, 1), (2048, 1), (512, 16))
    for size, batch in sizes:
        for dtype in (torch.float32, torch.bfloat16):
            for fused in (False, True) if compiled else (False,):
                row = _guarded(_bench_stylizer, size, batch, dtype, fused, device, tiny, runs)
                report["stylizer"].append(row)
                _write(output / "bench.json", report)
    for row in (*report["scan"], *report["stylizer"]):
        click.echo(json.dumps(row))


def _bench_scan(
    shape: tuple[int, ...], backend: str, dtype: torch.dtype, device: str, runs: int
) -> dict[str, Any]:
    inputs = _scan_inputs(shape, device, dtype)
    leaves = {name: value.detach().requires_grad_() for name, value in inputs.items()}

    def forward() -> None:
        with torch.no_grad():
            selective_scan(**inputs, delta_softplus=True, backend=backend)

    def both() -> None:
        out = selective_scan(**leaves, delta_softplus=True, backend=backend)
        torch.autograd.grad(out.sum(), list(leaves.values()))

    moved = sum(inputs[name].nbytes for name in ("u", "delta", "B", "C")) + inputs["u"].nbytes
    forward_ms, both_ms = (_median_ms(run, device, runs) for run in (forward, both))
    return {
        "shape": shape, "backend": backend, "dtype": str(dtype), "forward_ms": forward_ms,
        "both_ms": both_ms, "forward_gb_per_s": moved / forward_ms / 1e6, "good": True,
    }  # fmt: skip


def _bench_stylizer(
    size: int, batch: int, dtype: torch.dtype, fused: bool, device: str, tiny: bool, runs: int
) -> dict[str, Any]:
    photo, style = (value.to(device).repeat_interleave(batch, 0) for value in _picture(size))
    model: nn.Module = _stylizer(tiny).to(device, memory_format=torch.channels_last)
    noise = model.draw_noise(size, size).to(device)  # type: ignore[operator]
    if fused:
        model = torch.compile(model)  # type: ignore[assignment]

    @torch.no_grad()
    def run() -> None:
        with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
            model(photo, style, noise)

    return {
        "size": size, "batch": batch, "dtype": str(dtype), "compiled": fused,
        "ms": _median_ms(run, device, runs), "good": True,
    }  # fmt: skip


def _median_ms(run: Callable[[], None], device: str, runs: int) -> float:
    for _ in range(3):
        run()
    times = []
    for _ in range(runs):
        if torch.device(device).type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
        else:
            began = time.perf_counter()
            run()
            times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def _stylizer(tiny: bool) -> Stylizer:
    torch.manual_seed(0)
    small = {"widths": (8, 8, 16), "depth": 1, "code_dim": 16} if tiny else {}
    return Stylizer(**small).eval()  # type: ignore[arg-type]


def _picture(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    style = torch.randn(1, 256, generator=generator)  # the default style_dim
    return torch.rand(1, 3, size, size, generator=generator), nn.functional.normalize(style)


# -- train and sheet -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of training, named as in `train_stylizer.py train`."""

    steps: int
    minutes: float
    batch: int
    exact: int
    painters: tuple[str, ...]
    words: float
    strokes: tuple[float, float]
    anchors: bool
    sides: tuple[int, ...]
    learning_rate: float
    ema: float
    workers: int
    device: str


@main.command()
@packed_option
@click.option("--init", type=Existing, help="Stylizer to start from; by default a new one.")
@output_option
@click.option("--steps", default=8000, show_default=True, help="Steps of all calls together.")
@click.option("--minutes", default=9.0, show_default=True, help="Time limit of this call.")
@click.option("--batch", default=48, show_default=True)
@click.option("--exact", default=6, show_default=True)
@click.option("--painter", "painters", multiple=True)
@click.option("--words", default=0.4, show_default=True)
@click.option("--strokes", type=(float, float), default=(0.5, 5.0), show_default=True)
@click.option("--anchors", is_flag=True)
@click.option("--side", "sides", multiple=True, type=int, default=(256,), show_default=True)
@click.option("--learning-rate", default=1e-3, show_default=True)
@click.option("--ema", default=0.998, show_default=True)
@click.option("--workers", default=14, show_default=True)
@device_option
@tiny_option
@dataclass_options(LossWeights, directional=0.0, contrastive=0.0)
def train(
    packed: Path, init: Path | None, output: Path, device: str, tiny: bool,
    weights: LossWeights, **options: Any,
) -> None:  # fmt: skip
    """Train in bf16; weights, averages and log are written to OUTPUT in small files."""
    settings = Settings(device=device, **options)
    folder = unpack(packed)
    prepared = Prepared.load(folder / "prepared")
    stylizer, averages, start = _resume(output, init, prepared, settings, tiny)
    vgg = VggFeatures(folder / "vgg.safetensors")
    task = StylizerTask(stylizer, {"vgg": vgg}, weights)  # no CLIP is sent
    if start:
        kept = _load_shards(output, "weights")
        if kept.keys() != task.state_dict().keys():
            raise click.ClickException(
                f"{output} was trained with other options; give these, or another --output"
            )
        task.load_state_dict(kept)
    source = StylizerBatches(
        folder / "data", prepared, settings.batch, settings.sides, settings.strokes,
        settings.exact if prepared.painters is not None else 0, 0,
        painters=settings.painters, words=settings.words,
    )  # fmt: skip
    task.to(device)
    factors = dataclasses.asdict(weights)
    step = _train(task, factors, averages, source, settings, start, output / "log.jsonl")
    _save_shards(task.state_dict(), output, "weights")
    task.stylizer.load_state_dict(averages)
    _save_shards(averages, output, "averages")
    task.stylizer.cpu().half().save_pretrained(output / "stylizer")
    (output / "step.json").write_text(json.dumps(step))
    click.echo(f"step {step} of {settings.steps}")


def _resume(
    output: Path, init: Path | None, prepared: Prepared, settings: Settings, tiny: bool
) -> tuple[Stylizer, dict[str, Tensor], int]:
    """Return a stylizer, its averages and its step, from OUTPUT, from `init`, or new."""
    torch.manual_seed(0)
    done = (output / "step.json").is_file()
    if done:
        stylizer = Stylizer.from_pretrained(output / "stylizer")  # `train` loads its weights
        stylizer.to(memory_format=torch.channels_last)
    else:
        small = {"widths": (8, 8, 8), "depth": 1, "code_dim": 16} if tiny and init is None else {}
        drawn = (settings.painters or None) if settings.exact else ()
        stylizer = start_stylizer(prepared, init, painters=drawn, anchors=settings.anchors, **small)
    averages = _load_shards(output, "averages") if done else stylizer.state_dict()
    averages = {name: value.clone() for name, value in averages.items()}
    step = json.loads((output / "step.json").read_text()) if done else 0
    return stylizer, averages, step


def _train(
    task: StylizerTask,
    factors: dict[str, float],
    averages: dict[str, Tensor],
    source: StylizerBatches,
    settings: Settings,
    start: int,
    log: Path,
) -> int:
    """Train task and averages in place until steps or time run out, and return the step."""
    device = torch.device(settings.device)
    parameters = list(task.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=0.01, betas=(0.9, 0.98)
    )
    for name, value in averages.items():
        averages[name] = value.to(device)
    own = dict(task.stylizer.named_parameters())
    began, step = time.monotonic(), start
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        for batch in DataLoader(
            _Steps(source, start, settings.steps), batch_size=None, num_workers=settings.workers
        ):
            warm = min(1, (step - start + 1) / 50)  # its moments start anew
            rate = settings.learning_rate * warm * _cosine(step / settings.steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            there = {k: v.to(device, non_blocking=True) for k, v in batch.items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                losses = task(there)
            total = sum(factors[name] * value for name, value in losses.items())
            assert isinstance(total, Tensor)
            if not bool(total.isfinite()):
                raise click.ClickException(f"the loss is not finite at step {step}")
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
            decay = min(settings.ema, 1 - (step + 1) ** (-2 / 3))
            with torch.no_grad():
                for name, value in own.items():
                    averages[name].lerp_(value, 1 - decay)
            seconds = time.monotonic() - began
            over = seconds > 60 * settings.minutes
            if step % 20 == 0 or step in (start + 1, settings.steps) or over:
                values = {name: round(value.item(), 5) for name, value in losses.items()}
                speed = settings.batch * (step - start) / seconds
                line = {"step": step, "hours": seconds / 3600, "samples_per_second": speed}
                file.write(json.dumps({**line, "learning_rate": rate, **values}) + "\n")
                file.flush()
            if over:
                break
    return step


def _cosine(part: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1, part)))


class _Steps(Dataset[dict[str, Tensor]]):
    def __init__(self, source: StylizerBatches, start: int, end: int):
        self.source, self.start, self.end = source, start, end

    def __len__(self) -> int:
        return max(0, self.end - self.start)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.source.batch(self.start + index, 0, 1)


def _save_shards(tensors: dict[str, Tensor], output: Path, name: str) -> None:
    """Write tensors in float32 to files of at most `SHARD` bytes."""
    for old in output.glob(f"{name}-*.safetensors"):
        old.unlink()
    shards: list[dict[str, Tensor]] = [{}]
    used = 0
    for key, value in tensors.items():
        used += 4 * value.numel()
        if used > SHARD and shards[-1]:
            shards.append({})
            used = 4 * value.numel()
        shards[-1][key] = value.detach().float().cpu().contiguous()
    output.mkdir(parents=True, exist_ok=True)
    for number, shard in enumerate(shards):
        save_file(shard, output / f"{name}-{number}.safetensors")


def _load_shards(output: Path, name: str) -> dict[str, Tensor]:
    files = sorted(output.glob(f"{name}-*.safetensors"))
    return {key: value for file in files for key, value in load_file(file).items()}


@main.command()
@packed_option
@output_option
@device_option
def sheet(packed: Path, output: Path, device: str) -> None:
    """Draw a contact sheet of the averaged weights in OUTPUT."""
    folder = unpack(packed)
    stylizer = Stylizer.from_pretrained(output / "stylizer").eval().to(device)
    vgg = VggFeatures(folder / "vgg.safetensors")
    task = StylizerTask(stylizer, {"vgg": vgg}, LossWeights(directional=0, contrastive=0))
    (output / "sheet").mkdir(parents=True, exist_ok=True)
    sample = sample_sheet(folder / "data", Prepared.load(folder / "prepared"))
    sample(task, output / "sheet")
    click.echo(str(output / "sheet" / "sheet.png"))


def _write(file: Path, report: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

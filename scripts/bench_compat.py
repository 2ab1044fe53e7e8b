r"""Other packages' Mamba blocks with and without `clipmamba.ops.compat.enable()`, on the CPU.

    python scripts/bench_compat.py
    MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE \
        pip install --no-deps --no-build-isolation mamba-ssm einops

mamba-ssm has no CPU path: its block is compared with the same block around its
`selective_scan_ref`. The two are called in turn in one process, and medians are printed.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable

import click
import torch
from torch import Tensor, nn

from clipmamba.ops import compat

WIDTH, LAYERS = 128, 1
Run = Callable[[], Tensor]


def transformers_model() -> tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor]]:
    """Make one layer of transformers' Mamba."""
    from transformers import MambaConfig, MambaModel

    config = MambaConfig(vocab_size=16, hidden_size=WIDTH, num_hidden_layers=LAYERS)
    model = MambaModel(config)
    return model, lambda model, x: model(inputs_embeds=x).last_hidden_state


def compare(name: str, length: int, gradients: bool, own: Run, ours: Run, rounds: int) -> None:
    """Print one line of the table."""

    def timed(run: Run) -> tuple[float, Tensor]:
        begun = time.perf_counter()
        with torch.set_grad_enabled(gradients):
            out = run()
            if gradients:
                out.square().mean().backward()
        return time.perf_counter() - begun, out.detach()

    times: list[tuple[float, float]] = []
    worst = 0.0
    for _ in range(rounds + 1):
        before, truth = timed(own)
        with compat.enable():
            after, out = timed(ours)
        times.append((before, after))
        worst = max(worst, ((out - truth).abs().max() / truth.abs().max()).item())
    slow, fast = (statistics.median(column) for column in zip(*times[1:], strict=True))
    what = "training step" if gradients else "forward"
    print(
        f"| {name} | {length} | {what} | {slow * 1e3:.1f} | {fast * 1e3:.1f} "
        f"| {slow / fast:.0f} | {worst:.0e} |",
        flush=True,
    )


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Timed calls of each.")
def main(rounds: int) -> None:
    """Print the table."""
    print(f"one layer of width {WIDTH} (256 channels in the scan, 16 states), batch 1, float32\n")
    print("| block | length | | original, ms | enabled, ms | ratio | error |")
    print("|---|---|---|---|---|---|---|")
    cases = [(1024, False), (4096, False), (512, True), (1024, True)]
    torch.manual_seed(0)
    if importlib.util.find_spec("transformers") is not None:
        model, call = transformers_model()
        for length, gradients in cases:
            x = torch.randn(1, length, WIDTH)
            run = lambda x=x: call(model, x)  # noqa: E731
            compare("transformers", length, gradients, run, run, rounds)
    if importlib.util.find_spec("mamba_ssm") is not None:
        with compat.enable("mamba_ssm"):
            from mamba_ssm.modules import mamba_simple
            from mamba_ssm.ops.selective_scan_interface import selective_scan_ref
        block = mamba_simple.Mamba(WIDTH)
        fast = mamba_simple.selective_scan_fn

        def with_scan(scan: Callable[..., Tensor], x: Tensor) -> Tensor:
            mamba_simple.selective_scan_fn = scan
            out: Tensor = block(x)
            return out

        for length, gradients in cases:
            x = torch.randn(1, length, WIDTH)
            own = lambda x=x: with_scan(selective_scan_ref, x)  # noqa: E731
            ours = lambda x=x: with_scan(fast, x)  # noqa: E731
            compare("mamba_ssm", length, gradients, own, ours, rounds)


if __name__ == "__main__":
    main()

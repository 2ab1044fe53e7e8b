"""The arithmetic of scripts/bench_scaling.py."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
LIMITS = {"seconds": 300.0, "megabytes": 16000.0}


@pytest.fixture(scope="module")
def script() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "scripts/bench_scaling.py")))


def row(mixer: str, size: int, seconds: float, megabytes: float) -> dict[str, object]:
    return {"mixer": mixer, "size": size, "pass": "forward"} | {
        "seconds": seconds, "megabytes": megabytes,
    }  # fmt: skip


def test_exponent_is_that_of_the_largest_sizes(script):
    curve = {128: 1.0} | {size: 3e-9 * (size * size) ** 1.5 for size in (256, 512, 1024)}
    assert script.exponent(curve) == pytest.approx(1.5)


def test_medians_are_kept_and_found_again(script, tmp_path):
    file = tmp_path / "runs/scaling.jsonl"
    results, key = script.Results(file), ("conv", 128, "forward")
    for seconds in (3.0, 1.0, 2.0):
        assert not results.enough(key, 3)
        results.add([row("conv", 128, seconds, 10)])
    again = script.Results(file)
    assert again.enough(key, 3)
    assert not again.enough(key, 4)
    assert again.median(key, "seconds") == 2.0
    again.add([row("conv", 256, 1000.0, 10)])
    assert again.enough(("conv", 256, "forward"), 4)  # slow: once will do


def test_what_would_not_fit_is_left_out_with_a_reason(script, tmp_path):
    results = script.Results(tmp_path / "scaling.jsonl")
    for size in (256, 512):
        pixels = size * size
        results.add([row("attention", size, 1e-9 * pixels**2, 1e-4 * pixels)])
        results.add([row("mamba", size, 1e-6 * pixels, 5e-3 * pixels)])
    key = ("attention", 1024, "forward")
    assert results.foreseen(key, "seconds") == pytest.approx(1e-9 * 1024**4)
    assert script.left_out(results, key, LIMITS) == "about 1100 s"
    assert script.left_out(results, ("mamba", 1024, "forward"), LIMITS) == ""
    assert script.left_out(results, ("mamba", 2048, "forward"), LIMITS) == "about 21 GB"
    assert script.left_out(results, ("conv", 2048, "forward"), LIMITS) == ""  # nothing known yet
    table = "\n".join(script.tables(results, LIMITS))
    assert "| 512 x 512 | attention | 68.7 | 26 | not measured |" in table
    assert "| attention | 2.00 | 1.00 |" in table

"""What is loaded once serves every thread and every later call, whoever came first."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from clipmamba import StylizePipeline, stylize
from clipmamba.errors import InputError, WeightsError
from clipmamba.pipelines.options import StylizeOptions

FRESH = """
import threading, torch
from clipmamba import StylizePipeline, stylize
photo = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0))
"""


def fresh(code: str) -> str:
    """What a script prints in a Python of its own, where nothing is loaded yet."""
    done = subprocess.run(
        [sys.executable, "-c", FRESH + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_eight_threads_load_and_build_side_by_side() -> None:
    assert (
        fresh("""
results, problems, start = [], [], threading.Barrier(8)
def work(number):
    try:
        start.wait()
        if number % 4 == 3:  # somebody else's module, built meanwhile
            made = [torch.nn.Linear(3, 3).weight.device.type for _ in range(300)]
            assert set(made) == {"cpu"}, made
        elif number % 4 == 2:
            pipe = StylizePipeline.from_pretrained(device="cpu")
            results.append(pipe(photo, prompt="mosaic").images)
        else:
            results.append(stylize(photo, "mosaic", device="cpu"))
    except BaseException as error:
        problems.append(repr(error))
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
assert {p.device.type for p in torch.nn.Linear(3, 3).parameters()} == {"cpu"}
print(problems, len(results), all(torch.equal(r, results[0]) for r in results))
""")
        == "[] 6 True"
    )


@pytest.mark.parametrize(
    "context",
    [
        "torch.inference_mode()",
        "torch.no_grad()",
        "torch.device('meta')",
        "torch.autocast('cpu', torch.bfloat16)",
        "default_dtype(torch.float64)",
    ],
)
def test_the_first_call_leaves_no_trace_of_its_context(context: str) -> None:
    assert (
        fresh(f"""
import contextlib
@contextlib.contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try: yield
    finally: torch.set_default_dtype(torch.float32)
with {context}:
    pipe = StylizePipeline.from_pretrained(device="cpu")
    if "meta" not in {context!r} and "autocast" not in {context!r}:
        first = pipe(photo, prompt="mosaic", seed=3).images
    else:
        first = None
again = pipe(photo, prompt="mosaic", seed=3).images
assert first is None or torch.equal(first, again), (first - again).abs().max()
plain = StylizePipeline.from_pretrained(device="cpu")(photo, prompt="mosaic", seed=3).images
assert torch.equal(again, plain), (again - plain).abs().max()
image, style = photo.clone().requires_grad_(), torch.rand(1, 3, 32, 32, requires_grad=True)
pipe(image, style_image=style).images.mean().backward()
print(bool(image.grad.abs().sum() > 0), bool(style.grad.abs().sum() > 0))
""")
        == "True True"
    )


@pytest.fixture(scope="module")
def pipe() -> StylizePipeline:
    return StylizePipeline.from_pretrained(device="cpu")


PHOTO = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0))


def test_seeds_and_devices_of_other_libraries(pipe: StylizePipeline) -> None:
    plain = stylize(PHOTO, "mosaic", seed=3, device="cpu")
    for seed in (np.int64(3), np.uint8(3)):
        assert torch.equal(stylize(PHOTO, "mosaic", seed=seed, device=torch.device("cpu")), plain)
    options = StylizeOptions(
        np.float32(0.5), np.True_, np.float16(0.5), np.float64(2), np.False_, np.int32(64),
        np.int16(128), np.uint8(3), np.int8(2),
    )  # fmt: skip
    expected = StylizeOptions(0.5, True, 0.5, 2.0, False, 64, 128, 3, 2)
    assert options == expected
    for field in dataclasses.fields(StylizeOptions):
        name = field.name
        assert type(getattr(options, name)) is type(getattr(expected, name))
    with pytest.raises(InputError, match="preserve_color must be"):
        StylizeOptions(preserve_color="yes")


def test_text_and_prompt_are_the_same_keyword() -> None:
    plain = stylize(PHOTO, "mosaic", device="cpu")
    assert torch.equal(stylize(PHOTO, prompt="mosaic", device="cpu"), plain)
    assert torch.equal(stylize(PHOTO, text="mosaic", device="cpu"), plain)
    with pytest.raises(InputError, match="the same"):
        stylize(PHOTO, text="mosaic", prompt="oil")


def test_wrong_keywords_and_missing_files_are_refused_before_torch_loads() -> None:
    code = (
        "import sys\nfrom clipmamba import stylize\n"
        "for options in ({'preserve_colour': True}, {'mask': 'no.png'}, {'style': 'no.style'},\n"
        "                {'style_image': 'no.png'}, {'regions': [('no.png', 'oil')]}, {}):\n"
        "    try: stylize('missing.jpg' if not options else sys.executable, 'oil', **options)\n"
        "    except (TypeError, ValueError) as error: print(error)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert "did you mean preserve_color?" in lines[0]
    assert [line.startswith("no such") for line in lines[1:-1]] == [True] * 5
    assert lines[-1] == "False"


def test_the_pipeline_suggests_keywords_too(pipe: StylizePipeline) -> None:
    with pytest.raises(TypeError, match="did you mean max_size"):
        pipe(PHOTO, prompt="mosaic", maxsize=3)


def test_weights_that_are_not_finite_are_refused(pipe: StylizePipeline, tmp_path) -> None:
    pipe.save_pretrained(tmp_path / "model")
    for file in (tmp_path / "model").rglob("*.safetensors"):
        whole = file.read_bytes()
        for bad in (float("nan"), float("inf")):
            tensors = load_file(file)
            name = next(n for n, value in tensors.items() if value.is_floating_point())
            tensors[name].view(-1)[0] = bad
            save_file(tensors, file, {"format": "pt"})
            with pytest.raises(WeightsError, match="not finite"):
                StylizePipeline.from_pretrained(tmp_path / "model", device="cpu")
        file.write_bytes(whole)


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (2, 90)])
def test_margins_do_not_multiply_a_thin_photo(pipe: StylizePipeline, monkeypatch, size) -> None:
    seen, forward = [], type(pipe.stylizer).forward

    def watched(self, photo, *args, **more):
        seen.append(photo)
        return forward(self, photo, *args, **more)

    monkeypatch.setattr(type(pipe.stylizer), "forward", watched)
    photo = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    assert pipe(photo, prompt="mosaic").images.shape == photo.shape
    assert seen[0].numel() <= 9 * photo.numel()


def test_a_prepared_style_is_the_style(pipe: StylizePipeline) -> None:
    from clipmamba.styles import StyleRequest

    style = pipe.prepare(StyleRequest.parse("mosaic"), [None, 3])
    both = pipe(PHOTO, style=style).images[0]
    assert torch.equal(both[0], pipe(PHOTO, prompt="mosaic").images)
    assert torch.equal(both[1], pipe(PHOTO, prompt="mosaic", seed=3).images)
    assert torch.equal(pipe(PHOTO, style=style, seed=3).images, both[1])
    assert style.familiarity == pytest.approx(1, abs=1e-5)
    with pytest.raises(InputError, match="not for 4"):
        pipe(PHOTO, style=style, seed=4)
    with pytest.raises(InputError, match="be combined"):
        pipe(PHOTO, style=style, prompt="oil")


def test_a_clip_folder_is_kept_as_an_absolute_path(tmp_path, monkeypatch) -> None:
    from clipmamba.pipelines.saved import read_index, write_index

    (tmp_path / "my-clip").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("my-clip", "./my-clip"):
        write_index(tmp_path, name, 1.0)
        assert read_index(tmp_path)[0] == str((tmp_path / "my-clip").resolve())
    write_index(tmp_path, "mini", 1.0)
    assert read_index(tmp_path)[0] == "mini"

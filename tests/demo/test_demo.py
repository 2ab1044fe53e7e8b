"""The page of docs/demo in a real Chromium, beside the command line."""

from __future__ import annotations

import logging
import runpy
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests/cli"))
from running import invoke  # noqa: E402

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("onnxscript")
CHROMIUM = shutil.which("chromium")
RUNTIME = ROOT / "docs/demo/node_modules/onnxruntime-web/dist"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here"),
    pytest.mark.skipif(not RUNTIME.is_dir(), reason="npm install --prefix docs/demo"),
]


@pytest.fixture(scope="module")
def address(tiny_pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the built demo is served."""
    from clipmamba import StylizePipeline

    script = runpy.run_path(str(ROOT / "scripts/build_demo.py"))
    output = tmp_path_factory.mktemp("demo")
    script["build"](StylizePipeline.from_pretrained(tiny_pipeline_folder, "cpu"), RUNTIME, output)
    with script["serve"](output, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, address: str):
    """The page when the network is loaded; every request to elsewhere is an error."""
    with browser.new_context(accept_downloads=True) as context:
        requests: list[str] = []
        errors: list[str] = []
        opened = context.new_page()
        opened.on("request", lambda request: requests.append(request.url))
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.goto(address)
        opened.get_by_text("Ready").wait_for(timeout=120_000)
        yield opened
        assert [url for url in requests if not url.startswith((address, "blob:", "data:"))] == []
        assert errors == []


def restyle(page, photo: Path, target: Path, **choices: str) -> np.ndarray:
    """The PNG that the page gives for a photo."""
    for name, value in choices.items():
        if name == "style":
            page.get_by_role("combobox", name="Style").select_option(label=value)
        else:
            page.locator(f"#{name}").evaluate(
                "(slider, value) => { slider.value = value;"
                " slider.dispatchEvent(new Event('input'));"
                " slider.dispatchEvent(new Event('change')); }",
                value,
            )
    page.locator("#file").set_input_files(photo)
    page.locator("#download[href]").wait_for(timeout=120_000)
    logging.getLogger(__name__).info(page.locator("#status").inner_text())
    with page.expect_download() as download:
        page.locator("#download").click()
    download.value.save_as(target)
    with Image.open(target) as image:
        return np.asarray(image.convert("RGBA"))


def by_command(folder: Path, photo: Path, target: Path, style: str, *options: str) -> np.ndarray:
    result = invoke("stylize", photo, "-p", style, "-o", target, "--model", folder, *options)
    assert result.exit_code == 0, result.stderr
    with Image.open(target) as image:
        return np.asarray(image.convert("RGBA"))


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Something with edges, ramps and noise."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    planes = [columns / width, rows / height, (columns // 16 + rows // 16) % 2 * 0.7, rows * 0 + 1]
    pixels = np.stack(planes[: len(mode)], -1) * 220 + random.uniform(0, 35, (height, width, 1))
    return Image.fromarray(pixels.round().astype(np.uint8), mode)


@pytest.mark.parametrize(
    ("size", "choices"),
    [
        ((256, 256), {"style": "watercolor"}),
        ((45, 61), {"style": "ukiyo-e"}),  # shown to the network larger
        ((301, 200), {"style": "cubism", "strength": "0.5", "stroke": "1.5"}),
        ((1500, 90), {"style": "oil painting", "stroke": "0.5"}),  # shown smaller
        ((2400, 1700), {"style": "pastel"}),
        ((480, 321), {"style": "pixel art", "stroke": "1.5"}),
    ],
)
def test_the_page_draws_what_the_command_draws(page, tiny_pipeline_folder, tmp_path, size, choices):
    photo = tmp_path / "photo.png"
    picture(*size).save(photo)
    found = restyle(page, photo, tmp_path / "page.png", **choices)
    options = [
        word for name in ("strength", "stroke") if name in choices
        for word in (f"--{name}", choices[name])
    ]  # fmt: skip
    expected = by_command(
        tiny_pipeline_folder, photo, tmp_path / "ours.png", choices["style"], *options
    )
    assert found.shape == expected.shape
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 2
    with Image.open(photo) as before:
        assert np.abs(found[..., :3].astype(int) - np.asarray(before)).mean() > 2


def test_a_turned_photo_stands_upright(page, tiny_pipeline_folder, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = tmp_path / "turned.png"
    picture(96, 64).save(photo, exif=exif)
    found = restyle(page, photo, tmp_path / "page.png", style="etching")
    assert found.shape[:2] == (96, 64)
    result = by_command(tiny_pipeline_folder, photo, tmp_path / "ours.png", "etching")
    with Image.open(tmp_path / "ours.png") as image:
        upright = image.getexif().get(0x0112, 1) == 1
    expected = result if upright else np.rot90(result, -1)
    assert np.abs(found.astype(int) - expected).max() <= 2


def test_transparency_stays_and_no_strength_is_the_photo(page, tmp_path):
    photo = tmp_path / "photo.png"
    image = picture(80, 64, "RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size).point(lambda a: max(a, 1)))
    image.save(photo)
    found = restyle(page, photo, tmp_path / "page.png", style="etching", strength="0")
    assert np.abs(found[..., 3].astype(int) - np.asarray(image)[..., 3]).max() == 0
    opaque = np.asarray(image)[..., 3] > 250
    assert np.abs(found.astype(int) - np.asarray(image))[opaque].max() <= 1


def test_what_is_no_picture_is_said_and_the_next_photo_works(page, tmp_path):
    wrong = tmp_path / "notes.txt"
    wrong.write_text("not a picture")
    page.locator("#file").set_input_files(wrong)
    page.get_by_role("alert").get_by_text("notes.txt").wait_for()
    photo = tmp_path / "photo.png"
    picture(64, 64).save(photo)
    restyle(page, photo, tmp_path / "page.png")
    assert page.get_by_role("alert").is_hidden()


LATE_FAILURE = """
  if (bytes.length === 4 * 640 * 400) {
    for (const end = performance.now() + 2000; performance.now() < end; );
    throw new RangeError("Array buffer allocation failed");
  }
"""


def without_memory(route) -> None:
    """Serve picture.js such that a photo of 640 x 400 pixels runs out of memory at the end."""
    response = route.fetch()
    head, line, rest = response.text().partition("  const out = new Uint8ClampedArray(bytes);")
    assert line
    route.fulfill(response=response, body=head + LATE_FAILURE + line + rest)


def test_a_photo_dropped_meanwhile_is_restyled_though_the_first_fails(browser, address, tmp_path):
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    picture(640, 400).save(first)
    picture(96, 64).save(second)
    with browser.new_context() as context:
        context.route("**/picture.js", without_memory)
        page = context.new_page()
        page.goto(address)
        page.get_by_text("Ready").wait_for(timeout=120_000)
        page.locator("#file").set_input_files(first)
        page.locator("body[aria-busy]").wait_for()
        page.locator("#file").set_input_files(second)
        page.locator("#download[href]").wait_for()
        assert page.locator("#download").get_attribute("download").startswith("second-")
        assert page.get_by_role("alert").is_hidden()
        page.locator("#file").set_input_files(first)
        page.get_by_role("alert").get_by_text("not enough memory").wait_for()
        page.locator("#file").set_input_files(second)
        page.locator("#download[href]").wait_for()


def test_photos_too_large_for_the_page_or_its_memory_are_refused(page, tmp_path):
    photo, huge = tmp_path / "photo.png", tmp_path / "huge.png"
    picture(64, 64).save(photo)
    Image.new("L", (8000, 5001)).save(huge)
    restyle(page, photo, tmp_path / "page.png")
    page.locator("#file").set_input_files(huge)
    page.get_by_role("alert").get_by_text("huge.png has 41 million pixels, more than").wait_for()
    page.evaluate(
        "() => { CanvasRenderingContext2D.prototype.getImageData ="
        " () => { throw new RangeError(); } }"
    )
    picture(80, 80).save(huge)
    page.locator("#file").set_input_files(huge)
    page.get_by_role("alert").get_by_text("huge.png needs more memory").wait_for()
    assert page.locator("#before").evaluate("canvas => canvas.width") == 64


def test_threads_labels_and_a_phone(page, tmp_path):
    assert page.evaluate("crossOriginIsolated")
    names = page.locator("input, select, button, a").evaluate_all(
        "all => all.map(e => (e.labels ? e.labels[0]?.innerText : '') || e.innerText)"
    )
    assert all(name.strip() for name in names), names
    assert {"Style", "Strength", "Stroke size"} <= set(names)
    page.set_viewport_size({"width": 360, "height": 700})
    photo = tmp_path / "photo.png"
    picture(640, 200).save(photo)
    restyle(page, photo, tmp_path / "page.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_keyboard_alone_reaches_everything(page, tmp_path):
    photo = tmp_path / "photo.png"
    picture(64, 64).save(photo)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    restyle(page, photo, tmp_path / "page.png")
    page.locator("#compare").focus()
    reached = []
    for _ in range(6):
        reached.append(page.evaluate("document.activeElement.id"))
        page.keyboard.press("Tab")
    assert reached == ["compare", "style", "strength", "stroke", "again", "download"]
    page.locator("#compare").focus()
    page.keyboard.press("End")
    assert page.locator("#after").evaluate("e => e.style.clipPath") == "inset(0px 0px 0px 100%)"

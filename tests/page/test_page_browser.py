"""The page as people use it, in a real Chromium."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from clipmamba.cli import main

Visit = Callable[..., Any]


def drop(page: Any, file: Path) -> None:
    page.set_input_files("#photo input[type=file]", str(file))
    page.wait_for_selector("#pair img")


def file_dialog(page: Any) -> Any:
    """Press Enter until the button opens it: it listens a moment after it is seen."""
    from playwright.sync_api import TimeoutError as Late

    for _ in range(10):
        try:
            with page.expect_file_chooser(timeout=3000) as chooser:
                page.keyboard.press("Enter")
        except Late:
            continue
        return chooser.value
    return pytest.fail("Enter opens no file dialog")


def restyle(page: Any, words: str | None = None) -> None:
    if words is not None:
        page.get_by_label("Style in words").fill(words)
    page.get_by_role("button", name="Restyle").click()
    page.wait_for_selector("#download")


def begin_restyling(page: Any, file: Path, variants: int) -> None:
    """Start it, and return while the server works on it."""
    drop(page, file)
    page.get_by_label("number input for Variants").fill(str(variants))
    page.get_by_label("Style in words").fill("mosaic")
    page.get_by_role("button", name="Restyle").click()
    page.wait_for_selector("#pair .progress-text, #pair .wrap .meta-text")


def download(page: Any) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        page.locator("#download").click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def by_command(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What the shown command writes where the photo lies."""
    monkeypatch.chdir(folder)
    before = set(folder.iterdir())
    program, *arguments = shlex.split(command)
    assert program == "clipmamba"
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return {file.name: file.read_bytes() for file in set(folder.iterdir()) - before}


@pytest.mark.parametrize(
    ("colors", "option"),
    [("The photo's", "--preserve-color"), ("The style's", "--no-preserve-color")],
)
def test_download_is_what_the_shown_command_writes(
    visitors: Visit, photo_file: Path, monkeypatch: pytest.MonkeyPatch, colors: str, option: str
) -> None:
    page = visitors()
    drop(page, photo_file)
    assert page.get_by_label("Automatic").is_checked()
    page.get_by_label(colors).check()
    page.get_by_label("Seed").fill("3")
    restyle(page, "ukiyo-e")
    name, data = download(page)
    command = page.locator("#command code").inner_text()
    assert option in shlex.split(command)
    assert {name: data} == by_command(command, photo_file.parent, monkeypatch)
    assert name == "Été à la plage (1)-ukiyo-e-seed3.jpg"
    with Image.open(photo_file) as photo, Image.open(photo_file.with_name(name)) as result:
        assert result.info["icc_profile"] == photo.info["icc_profile"]
        assert result.getexif()[0x010F] == "A camera"
    assert page.locator("#pair img").count() >= 2


def test_a_style_picture_and_several_variants(
    visitors: Visit, photo_file: Path, photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = photo_file.with_name("a painting.png")
    photo.rotate(90).save(picture)
    page = visitors()
    drop(page, photo_file)
    page.get_by_text("A picture in the desired style").click()
    page.set_input_files("#style input[type=file]", str(picture))
    page.wait_for_selector("#style .file-preview")
    page.get_by_label("number input for Variants").fill("2")
    restyle(page)
    first = download(page)
    page.get_by_label("-seed1").check()
    page.wait_for_function("document.querySelector('#download').innerText.includes('seed1')")
    second = download(page)
    command = page.locator("#command code").inner_text()
    assert dict([first, second]) == by_command(command, photo_file.parent, monkeypatch)


def test_thumbnails_come_by_themselves_and_one_is_chosen_by_keyboard(
    visitors: Visit, photo_file: Path
) -> None:
    page = visitors()
    drop(page, photo_file)
    page.wait_for_function(
        "[...document.querySelectorAll('#styles .thumbnail')]"
        ".filter((one) => one.style.backgroundImage).length > 2"
    )
    page.get_by_label("Style in words").focus()
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.style || ''"):
            break
    assert page.evaluate("document.activeElement.dataset.style") == "impressionism"
    page.keyboard.press("Enter")
    page.wait_for_selector("#download")
    assert page.get_by_label("Style in words").input_value() == "impressionism"
    assert page.locator("#styles button[aria-pressed=true]").inner_text() == "impressionism"


def test_stop_ends_it_and_the_next_one_works(
    visitors: Visit, tmp_path: Path, photo: Image.Image
) -> None:
    large = tmp_path / "large.png"
    photo.resize((1600, 1200)).save(large)
    page = visitors()
    begin_restyling(page, large, variants=8)
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector("#pair .progress-text", state="hidden")
    assert not page.locator("#download").is_visible()
    small = tmp_path / "small.png"
    photo.save(small)
    page.get_by_label("number input for Variants").fill("1")
    page.get_by_role("button", name="Clear").first.click()
    drop(page, small)
    restyle(page, "mosaic")
    assert download(page)[0] == "small-mosaic.png"


def test_another_photo_drops_the_results_of_the_one_before(
    visitors: Visit, tmp_path: Path, photo: Image.Image
) -> None:
    before, after = tmp_path / "before.png", tmp_path / "after.png"
    photo.resize((1600, 1200)).save(before)
    photo.save(after)
    page = visitors()
    begin_restyling(page, before, variants=2)
    page.get_by_role("button", name="Clear").first.click()
    page.set_input_files("#photo input[type=file]", str(after))
    page.wait_for_selector("#pair img[src*=preview-after]")
    page.get_by_label("number input for Variants").fill("1")
    restyle(page)
    assert download(page)[0] == "after-mosaic.png"
    assert "stylize after.png" in page.locator("#command code").inner_text()
    shown = [picture.get_attribute("src") for picture in page.locator("#pair img").all()]
    assert len(shown) == 2
    assert all("preview-after" in address for address in shown)


@pytest.mark.parametrize("words", ["<b>no</b> picture", ""])
def test_a_file_that_is_no_picture_is_said_to_be_none(
    visitors: Visit, tmp_path: Path, words: str, served: Any
) -> None:
    wrong = tmp_path / "<i>holiday</i>.jpg".replace("/", "")
    wrong.write_text(words)
    page = visitors()
    page.set_input_files("#photo input[type=file]", str(wrong))
    message = page.locator(".toast-body")
    message.wait_for()
    assert "<i>holiday<i>.jpg" in message.inner_text()
    assert str(served.folder) not in message.inner_text()
    assert not page.locator("#pair img").count()


def test_a_photo_with_too_many_pixels_is_refused(visitors: Visit, tmp_path: Path) -> None:
    huge = tmp_path / "huge.png"
    Image.new("L", (3000, 3000)).save(huge)
    page = visitors()
    page.set_input_files("#photo input[type=file]", str(huge))
    message = page.locator(".toast-body")
    message.wait_for()
    assert "pixels" in message.inner_text()


def test_two_visitors_at_once_get_their_own(
    visitors: Visit, tmp_path: Path, photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = {}
    for name, picture in (("one", photo), ("two", photo.rotate(180))):
        file = tmp_path / name / f"{name}.png"
        file.parent.mkdir()
        picture.save(file)
        pages[file] = visitors()
        drop(pages[file], file)
        pages[file].get_by_label("Style in words").fill("woodcut")
    for page in pages.values():
        page.get_by_role("button", name="Restyle").click()
    for file, page in pages.items():
        page.wait_for_selector("#download")
        name, data = download(page)
        command = page.locator("#command code").inner_text()
        assert {name: data} == by_command(command, file.parent, monkeypatch)


# Names as a screen reader says them: a label, an aria-label, a text inside or a title.
NAMELESS = """
() => [...document.querySelectorAll("button, input, textarea, select, [role=button]")]
  .filter((one) => one.checkVisibility() && one.type !== "hidden" && one.type !== "file")
  .filter((one) => !(
    one.getAttribute("aria-label") || one.getAttribute("aria-labelledby") || one.title ||
    one.innerText?.trim() || [...(one.labels || [])].some((label) => label.innerText.trim())
  )).map((one) => one.outerHTML.slice(0, 200))
"""


@pytest.mark.parametrize(
    "options",
    [
        {"viewport": {"width": 1360, "height": 900}},
        {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True},
    ],
    ids=["desk", "phone in the dark"],
)
def test_everything_has_a_name_and_fits(
    visitors: Visit, photo_file: Path, options: dict[str, Any]
) -> None:
    page = visitors(**options)
    drop(page, photo_file)
    restyle(page, "pastel")
    assert page.evaluate(NAMELESS) == []
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= options["viewport"]["width"]
    if "color_scheme" in options:
        shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(map(int, shade.strip("rgb()").split(","))) < 64


def test_the_keyboard_alone_is_enough(visitors: Visit, photo_file: Path) -> None:
    page = visitors()
    names = []
    for _ in range(8):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate(
                "document.activeElement.ariaLabel || document.activeElement.innerText ||"
                " document.activeElement.labels?.[0]?.innerText || ''"
            ).strip()
        )
        if names[-1].startswith(("Drop", "Click to upload", "Photo")):
            break
    assert names[-1].startswith(("Drop", "Click to upload", "Photo")), names
    file_dialog(page).set_files(str(photo_file))
    page.wait_for_selector("#pair img")
    page.get_by_label("Style in words").focus()
    page.keyboard.type("etching")
    page.keyboard.press("Enter")
    page.wait_for_selector("#download")

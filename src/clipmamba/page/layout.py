"""The layout of the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from clipmamba.io.folders import PICTURES
from clipmamba.page.command import MAX_VARIANTS, Wish
from clipmamba.page.thumbnails import buttons
from clipmamba.page.upload import upload
from clipmamba.pipelines.options import (
    COLORS,
    MAX_STRENGTH,
    MAX_STROKE,
    MIN_STROKE,
    StylizeOptions,
)

HERE = Path(__file__).parent
_PICTURES = ["image", *sorted(PICTURES)]  # browsers know some of them as "image"


@dataclass(frozen=True)
class Stage:
    """The column with the pictures.

    Attributes:
        photo: upload field for the photo.
        pair: before and after, with one slider.
        result: everything below the pair, visible once there is a result.
        chosen: the variant to show.
        download: download button.
        repeat: the command to copy.
        command: the command as a value, hidden.
        results: the files of all variants, hidden.
    """

    photo: gr.File
    pair: gr.ImageSlider
    result: gr.Column
    chosen: gr.Radio
    download: gr.DownloadButton
    repeat: gr.HTML
    command: gr.Textbox
    results: gr.File


@dataclass(frozen=True)
class Options:
    """The controls for the options.

    Attributes:
        strength: 0 (the photo) to 1.5.
        stroke: stroke size relative to the default.
        colors: whose colors the result has.
        seed: digits; empty for the default picture.
        variants: number of pictures.
    """

    strength: gr.Slider
    stroke: gr.Slider
    colors: gr.Radio
    seed: gr.Textbox
    variants: gr.Slider


@dataclass(frozen=True)
class Wishes:
    """The column with the controls.

    Attributes:
        words: the style in words.
        go: button to start.
        stop: button to stop.
        styles: thumbnails of the known styles on the photo.
        style_image: upload field for a style picture.
        options: the other options.
    """

    words: gr.Textbox
    go: gr.Button
    stop: gr.Button
    styles: gr.HTML
    style_image: gr.File
    options: Options


def lay_out() -> tuple[Stage, Wishes]:
    """Create all components, inside an open `gradio.Blocks`."""
    gr.HTML(
        "<h1>clipmamba</h1><p>Restyle a photo from words or from a picture.</p>",
        elem_id="title", padding=False,
    )  # fmt: skip
    with gr.Row(elem_id="all"):
        with gr.Column(scale=6, min_width=320, elem_id="stage"):
            stage = _stage()
        with gr.Column(scale=4, min_width=320, elem_id="wishes"):
            wishes = _wishes()
    return stage, wishes


def _stage() -> Stage:
    photo = upload(label="Photo", file_types=_PICTURES, elem_id="photo")
    pair = gr.ImageSlider(
        label="Before and after", show_label=False, interactive=False, visible=False,
        buttons=["fullscreen"], max_height=720, elem_id="pair",
    )  # fmt: skip
    with gr.Column(visible=False, elem_id="result") as result:
        chosen = gr.Radio([], label="Variant", visible=False, elem_id="chosen")
        download = gr.DownloadButton("Download", elem_id="download")
        repeat = gr.HTML(
            html_template='<div class="repeat"><h2 id="repeat">The same on the command line</h2>'
            '<pre tabindex="0" aria-labelledby="repeat"><code></code></pre>'
            '<button type="button">Copy</button></div>',
            js_on_load=(HERE / "command.js").read_text(encoding="utf-8"),
            elem_id="command", padding=False,
        )  # fmt: skip
        command = gr.Textbox(visible=False, label="Command")
        results = upload(file_count="multiple", visible=False, label="Results")
    return Stage(photo, pair, result, chosen, download, repeat, command, results)


def _wishes() -> Wishes:
    words = gr.Textbox(
        value="", label="Style in words", max_lines=1, elem_id="words",
        placeholder="ukiyo-e, watercolor, stained glass …",
    )  # fmt: skip
    with gr.Row(elem_id="actions"):
        go = gr.Button("Restyle", variant="primary", scale=3, elem_id="go")
        stop = gr.Button("Stop", scale=1, min_width=80, elem_id="stop")
    styles = gr.HTML(
        html_template='<div class="styles" role="group" aria-label="Known styles">'
        f"{buttons()}</div>",
        js_on_load=(HERE / "styles.js").read_text(encoding="utf-8"),
        elem_id="styles", padding=False,
    )  # fmt: skip
    with gr.Accordion("A picture in the desired style", open=False):
        style_image = upload(
            label="Style picture", file_types=_PICTURES, height=120, elem_id="style"
        )
    return Wishes(words, go, stop, styles, style_image, _options())


def _options() -> Options:
    strength = gr.Slider(
        0, MAX_STRENGTH, StylizeOptions.strength, step=0.05, label="Strength",
        elem_id="strength", buttons=[],
    )  # fmt: skip
    stroke = gr.Slider(
        MIN_STROKE, MAX_STROKE, StylizeOptions.stroke, step=0.05, label="Stroke size",
        elem_id="stroke", buttons=[],
    )  # fmt: skip
    colors = gr.Radio(
        list(zip(("Automatic", "The photo's", "The style's"), COLORS, strict=True)),
        value=Wish.colors, label="Colors", elem_id="colors",
        info="Automatic: techniques such as watercolor keep most of the photo's colors.",
    )  # fmt: skip
    with gr.Row():
        seed = gr.Textbox(  # gr.Number has no empty value
            value="", label="Seed", placeholder="none", max_lines=1, min_width=140, elem_id="seed",
        )  # fmt: skip
        variants = gr.Slider(
            1, MAX_VARIANTS, 1, step=1, precision=0, label="Variants", min_width=140,
            elem_id="variants", buttons=[],
        )  # fmt: skip
    return Options(_as_sent(strength), _as_sent(stroke), _as_sent(colors), seed, _as_sent(variants))


def _as_sent(component: Any) -> Any:
    """Let a component pass its value on as sent: gradio refuses wrong ones without a reason."""
    component.preprocess = lambda value: value  # on the instance, as in `upload`
    return component


def theme() -> gr.themes.Base:
    """Make a plain theme that leaves attention to the picture, with the visitor's own fonts."""
    return gr.themes.Base(
        primary_hue="orange",
        neutral_hue="stone",
        radius_size="md",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_400",
        slider_color="*primary_700",
        slider_color_dark="*primary_500",
    )

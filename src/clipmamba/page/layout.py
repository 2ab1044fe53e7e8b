"""How the page looks, and which click does what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from clipmamba.page.app import MAX_VARIANTS, Page
from clipmamba.page.settings import PageSettings
from clipmamba.page.thumbnails import buttons
from clipmamba.page.upload import Uploaded, upload
from clipmamba.pipelines.options import MAX_STRENGTH, MAX_STROKE, MIN_STROKE, StylizeOptions

HERE = Path(__file__).parent
_LOOKING = 8  # visitors whose thumbnails are made side by side
_PICTURES = ["image", ".heic", ".heif", ".avif", ".tif", ".tiff", ".jp2", ".jfif", ".ppm", ".pgm"]


def build(page: Page, settings: PageSettings) -> gr.Blocks:
    """Lay the page out and connect it.

    Args:
        page: does the work.
        settings: how it is served.
    """
    with gr.Blocks(title="clipmamba", analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(
            "<h1>clipmamba</h1><p>Restyle a photo from words, or from a picture.</p>",
            elem_id="title",
        )
        with gr.Row(elem_id="all"):
            with gr.Column(scale=6, min_width=320, elem_id="stage"):
                photo = upload(label="Photo", file_types=_PICTURES, height=140, elem_id="photo")
                pair = gr.ImageSlider(
                    label="Before and after", show_label=False, interactive=False, visible=False,
                    buttons=["fullscreen"], max_height=720, elem_id="pair",
                )  # fmt: skip
                with gr.Column(visible=False, elem_id="result") as result:
                    chosen = gr.Radio([], label="Variant", visible=False, elem_id="chosen")
                    download = gr.DownloadButton("Download", variant="primary", elem_id="download")
                    repeat = gr.HTML(
                        html_template='<h2 id="repeat">The same on the command line</h2>'
                        '<pre tabindex="0" aria-labelledby="repeat"><code></code></pre>'
                        '<button type="button">Copy</button>',
                        js_on_load=(HERE / "command.js").read_text(encoding="utf-8"),
                        elem_id="command",
                    )
                    command = gr.Textbox(visible=False, label="Command")
                    results = upload(file_count="multiple", visible=False, label="Results")
            with gr.Column(scale=4, min_width=320, elem_id="wishes"):
                words = gr.Textbox(
                    value="", label="Style in words", max_lines=1, elem_id="words",
                    placeholder="ukiyo-e, watercolor, stained glass …",
                )  # fmt: skip
                with gr.Row(elem_id="actions"):
                    go = gr.Button("Restyle", variant="primary", scale=3, elem_id="go")
                    stop = gr.Button("Stop", scale=1, min_width=80, elem_id="stop")
                styles = gr.HTML(
                    html_template=f'<div class="styles" role="group" aria-label="Known styles">'
                    f"{buttons()}</div>",
                    js_on_load=(HERE / "styles.js").read_text(encoding="utf-8"),
                    elem_id="styles",
                )
                with gr.Accordion("A picture that shows the style", open=False):
                    style_image = upload(
                        label="Style picture", file_types=_PICTURES, height=120, elem_id="style"
                    )
                strength = gr.Slider(
                    0, MAX_STRENGTH, StylizeOptions.strength, step=0.05, label="Strength",
                    elem_id="strength", buttons=[],
                )  # fmt: skip
                stroke = gr.Slider(
                    MIN_STROKE, MAX_STROKE, StylizeOptions.stroke, step=0.05,
                    label="Size of strokes", elem_id="stroke", buttons=[],
                )  # fmt: skip
                preserve_color = gr.Checkbox(label="Keep the photo's colours", elem_id="colors")
                with gr.Row():
                    seed = gr.Textbox(  # gr.Number has no empty value
                        value="", label="Seed", placeholder="none", max_lines=1, min_width=140,
                        elem_id="seed",
                    )  # fmt: skip
                    variants = gr.Slider(
                        1, MAX_VARIANTS, 1, step=1, precision=0, label="Variants", min_width=140,
                        elem_id="variants", buttons=[],
                    )  # fmt: skip

        def stylize(
            request: gr.Request,
            photo: Uploaded | None,
            prompt: str = "",
            style_image: Uploaded | None = None,
            strength: float = StylizeOptions.strength,
            stroke: float = 1,
            preserve_color: bool = False,
            seed: str = "",
            variants: int = 1,
            progress: gr.Progress = gr.Progress(),  # noqa: B008 - gradio's way
        ) -> tuple[list[str], str]:
            """Restyle a photo, and give the files and the command that makes them again."""
            return page.restyle(
                photo, prompt or "", style_image, strength, stroke, preserve_color, seed, variants,
                session=request.session_hash or "", tell=progress,
            )  # fmt: skip

        def look(photo: Uploaded | None) -> tuple[Any, ...]:
            """A new photo: without its results yet."""
            shown = None
            try:
                shown = page.show(photo)
            except gr.Error as error:
                gr.Warning(error.message, error.duration, title="This file can't be read")
            return (
                gr.update(value=shown, visible=shown is not None), gr.update(visible=False), None,
                "",
            )  # fmt: skip

        def show(
            photo: Uploaded | None,
            results: list[Uploaded] | None,
            number: int | None,
            command: str | None,
        ) -> tuple[Any, ...]:
            """Results of the photo, one of them under the slider."""
            results = results or []
            number = min(number or 0, max(0, len(results) - 1))
            choices = [(one.path.stem, turn) for turn, one in enumerate(results)]
            shown = str(results[number].path) if results else None
            name = results[number].path.name if results else ""
            return (
                gr.update(value=page.show(photo, results, number), visible=photo is not None),
                gr.update(visible=bool(results)),
                gr.update(choices=choices, value=number, visible=len(results) > 1),
                gr.update(value=shown, label=f"Download {name}"),
                command,
            )

        def thumbnails(photo: Uploaded | None, request: gr.Request) -> Iterator[dict[str, str]]:
            """The known styles."""
            yield from page.known_styles(photo, request.session_hash or "")

        def pick(event: gr.EventData) -> str:
            """The words of a known style."""
            return str(event._data["value"])

        gr.on(
            [photo.upload, photo.clear], look, [photo], [pair, result, results, command],
            api_visibility="private", show_progress_on=photo,
        )  # fmt: skip
        photo.change(
            thumbnails, [photo], [styles], api_visibility="private", show_progress="hidden",
            trigger_mode="multiple", concurrency_limit=_LOOKING,
        )  # fmt: skip
        shown = [pair, result, chosen, download, repeat]
        made = gr.on(
            [go.click, words.submit], stylize,
            [photo, words, style_image, strength, stroke, preserve_color, seed, variants],
            [results, command], api_name="stylize", show_progress_on=pair,
            trigger_mode="always_last", concurrency_limit=1,
        )  # fmt: skip
        made.success(show, [photo, results, chosen, command], shown, api_visibility="private",
                     show_progress="hidden")  # fmt: skip
        chosen.input(show, [photo, results, chosen, command], shown, api_visibility="private",
                     show_progress="hidden")  # fmt: skip
        styles.select(pick, None, words, api_visibility="private", show_progress="hidden").then(
            None, [photo], None, api_visibility="private",
            js="(photo) => { if (photo) document.querySelector('#go').click(); }",
        )  # fmt: skip

        def halt(request: gr.Request) -> None:
            """Stop what this visitor asked for."""
            page.stop(request.session_hash or "")

        def leave(request: gr.Request) -> None:
            """This visitor has closed the page."""
            page.leave(request.session_hash or "")

        stop.click(halt, None, None, cancels=[made], queue=False, api_visibility="private")
        blocks.unload(leave)
    return blocks


def theme() -> gr.themes.Base:
    """Quiet, so that the picture is what one sees; the fonts are the visitor's own."""
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
        slider_color="*primary_700",
        slider_color_dark="*primary_500",
    )

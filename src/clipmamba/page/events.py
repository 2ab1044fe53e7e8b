"""Connect the page's controls to their actions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from clipmamba.page.app import Page
from clipmamba.page.command import Wish
from clipmamba.page.layout import Stage, Wishes, lay_out
from clipmamba.page.upload import Uploaded
from clipmamba.pipelines.options import StylizeOptions

_LOOKING = 8  # visitors whose thumbnails are made concurrently


def build(page: Page) -> gr.Blocks:
    """Lay out the page and connect its controls.

    Args:
        page: performs the actions.
    """
    with gr.Blocks(title="clipmamba", analytics_enabled=False, fill_width=True) as blocks:
        stage, wishes = lay_out()
        clicks = _Clicks(page)
        _connect(clicks, stage, wishes)
        blocks.unload(clicks.leave)
    return blocks


def _connect(clicks: _Clicks, stage: Stage, wishes: Wishes) -> None:
    photo, results, command, options = stage.photo, stage.results, stage.command, wishes.options
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    made = gr.on(
        [wishes.go.click, wishes.words.submit], clicks.stylize,
        [photo, wishes.words, wishes.style_image, options.strength, options.stroke,
         options.colors, options.seed, options.variants],
        [results, command], api_name="stylize", show_progress_on=stage.pair,
        trigger_mode="always_last", concurrency_limit=1,
    )  # fmt: skip
    gr.on(  # on a phone the styles are a screen below
        [wishes.go.click, wishes.words.submit], None, None, None, api_visibility="private",
        js="() => { document.querySelector('#pair')?.scrollIntoView({block: 'nearest'}); }",
    )  # fmt: skip
    given = [photo, results, stage.chosen, command]
    shown = [stage.pair, stage.result, stage.chosen, stage.download, stage.repeat]
    finished = made.success(clicks.show, given, shown, **quiet)
    chosen = stage.chosen.input(clicks.show, given, shown, **quiet)
    wishes.styles.select(clicks.pick, None, wishes.words, **quiet).then(
        None, [photo], None, api_visibility="private",
        js="(photo) => { if (photo) document.querySelector('#go').click(); }",
    )  # fmt: skip
    # A new photo stops the run of the photo before, whose result would be shown beside it. This
    # comes before `look`: the browser waits for the one before it starts the other.
    gr.on(
        [wishes.stop.click, photo.upload, photo.clear], clicks.halt, None, None,
        cancels=[made, finished, chosen], queue=False, api_visibility="private",
    )  # fmt: skip
    gr.on(
        [photo.upload, photo.clear], clicks.look, [photo],
        [stage.pair, stage.result, results, command],
        api_visibility="private", show_progress_on=photo, trigger_mode="always_last",
    )  # fmt: skip
    photo.change(
        clicks.thumbnails, [photo], [wishes.styles], trigger_mode="multiple",
        concurrency_limit=_LOOKING, **quiet,
    )  # fmt: skip


class _Clicks:
    """The functions that gradio calls; it reads their parameters' names, types and defaults.

    Args:
        page: performs the actions.
    """

    def __init__(self, page: Page) -> None:
        self._page = page

    def stylize(
        self,
        request: gr.Request,
        photo: Uploaded | None,
        prompt: str = "",
        style_image: Uploaded | None = None,
        strength: float = StylizeOptions.strength,
        stroke: float = StylizeOptions.stroke,
        colors: str = Wish.colors,
        seed: str = "",
        variants: int = 1,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - gradio's way
    ) -> tuple[list[str], str]:
        """Restyle a photo; return the files and the command that reproduces them."""
        wish = Wish(prompt or "", strength, stroke, colors, seed or "", variants)
        session = request.session_hash or ""
        return self._page.restyle(photo, style_image, wish, session=session, tell=progress)

    def look(self, photo: Uploaded | None) -> tuple[Any, ...]:
        """Show a new photo, without results yet."""
        shown = None
        try:
            shown = self._page.show(photo)
        except gr.Error as error:
            gr.Warning(error.message, error.duration, title="This file can't be read")
        visible = shown is not None
        return gr.update(value=shown, visible=visible), gr.update(visible=False), None, ""

    def show(
        self,
        photo: Uploaded | None,
        results: list[Uploaded] | None,
        number: int | None,
        command: str | None,
    ) -> tuple[Any, ...]:
        """Show the photo's results, one of them in the slider."""
        results = results or []
        number = min(number or 0, max(0, len(results) - 1))
        choices = [(one.path.stem, turn) for turn, one in enumerate(results)]
        shown = str(results[number].path) if results else None
        name = results[number].path.name if results else ""
        return (
            gr.update(value=self._page.show(photo, results, number), visible=photo is not None),
            gr.update(visible=bool(results)),
            gr.update(choices=choices, value=number, visible=len(results) > 1),
            gr.update(value=shown, label=f"Download {name}"),
            command,
        )

    def thumbnails(self, photo: Uploaded | None, request: gr.Request) -> Iterator[dict[str, str]]:
        """Yield thumbnails of the known styles."""
        yield from self._page.known_styles(photo, request.session_hash or "")

    def pick(self, event: gr.EventData) -> str:
        """Return the name of the known style that was clicked."""
        return str(event._data["value"])

    def halt(self, request: gr.Request) -> None:
        """Stop this visitor's restyling."""
        self._page.stop(request.session_hash or "")

    def leave(self, request: gr.Request) -> None:
        """Stop all work for a visitor who closed the page."""
        self._page.leave(request.session_hash or "")

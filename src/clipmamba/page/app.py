"""The actions behind the page: restyle, preview, thumbnails, stop."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
from PIL import Image

from clipmamba.errors import ClipmambaError, InputError
from clipmamba.files import write_whole
from clipmamba.io import read_picture
from clipmamba.io.color import as_srgb
from clipmamba.page.command import Wish
from clipmamba.page.folder import lend, new_place
from clipmamba.page.network import Network
from clipmamba.page.settings import PageSettings, Restyle, StoppedError
from clipmamba.page.thumbnails import Thumbnails
from clipmamba.page.upload import Uploaded

_PREVIEW = 1600  # longest side of the pictures under the slider, in pixels
_SECONDS = 15.0  # how long a message is shown

Tell = Callable[[float, str], None]


class Page:
    """Serves the visitors of one page.

    Args:
        settings: how the page is served.
        network: the pipeline and its thread.
        restyle: runs `clipmamba stylize`.
        cache: the folder for uploads and results, from which gradio may serve files.
    """

    def __init__(
        self, settings: PageSettings, network: Network, restyle: Restyle, cache: Path
    ) -> None:
        self._settings = settings
        self._network = network
        self._restyle = restyle
        self._cache = cache
        self._thumbnails = Thumbnails(network)
        self._restyling: dict[str, threading.Event] = {}  # stop events by session
        self._looking: dict[str, threading.Event] = {}

    def restyle(
        self,
        photo: Uploaded | None,
        style_image: Uploaded | None,
        wish: Wish,
        *,
        session: str = "",
        tell: Tell = lambda part, words: None,
    ) -> tuple[list[str], str]:
        """Restyle a photo as the command line does.

        Args:
            photo: the picture to restyle.
            style_image: a picture in that style.
            wish: the other fields of the form.
            session: the visitor's session, for `stop`.
            tell: called with the progress, 0 to 1, and a status text.

        Returns:
            The paths of the results, and the command that reproduces them.

        Raises:
            gradio.Error: the request fails, with the reason for the visitor.
        """
        place = new_place(self._cache)
        with _told(place), self._stoppable(self._restyling, session) as stopped:
            if photo is None:
                raise InputError("Drop a photo first.")

            def callback(done: float, total: int) -> None:
                if stopped.is_set():
                    raise StoppedError("Stopped.")
                tell(done / total, "Restyling" if total == 1 else f"{int(done)} of {total} done")

            with _lent(place, photo, style_image) as files:
                arguments = wish.arguments(*files, self._settings)
                line = wish.shown(*files, self._settings)
                tell(0, "Waiting for its turn")
                done = self._network.run(lambda pipe: self._restyle(arguments, pipe, callback))
        for remark in done.remarks:
            gr.Warning(_for_visitors(remark, place), duration=_SECONDS)
        return [str(path) for path in done.files], line

    def show(
        self, photo: Uploaded | None, results: list[Uploaded] | None = None, chosen: int | None = 0
    ) -> tuple[str, str] | None:
        """Return previews of the photo and one result for the slider; the photo twice if none.

        Args:
            photo: the photo.
            results: its results.
            chosen: index of the result to show.

        Raises:
            gradio.Error: the photo can't be read, with the reason for the visitor.
        """
        if photo is None:
            return None
        with _told(photo.path.parent):
            before = str(self._preview(photo))
            if not results:
                return before, before
            return before, str(self._preview(results[min(chosen or 0, len(results) - 1)]))

    def known_styles(self, photo: Uploaded | None, session: str = "") -> Iterator[dict[str, str]]:
        """Yield growing dictionaries of thumbnails of the photo in the known styles.

        Stops early when the visitor leaves or uploads another photo.
        """
        yield {}
        if photo is None:
            return
        try:
            picture = Image.open(self._preview(photo))
        except InputError:  # `show` reports it to the visitor
            return
        with self._stoppable(self._looking, session) as stopped:
            for thumbnails in self._thumbnails.of(picture):
                if stopped.is_set():
                    return
                yield thumbnails

    def stop(self, session: str) -> None:
        """Stop a visitor's restyling, at the next tile or variant."""
        if session in self._restyling:
            self._restyling[session].set()

    def leave(self, session: str) -> None:
        """Stop all work for a visitor, thumbnails included."""
        self.stop(session)
        if session in self._looking:
            self._looking[session].set()

    def close(self) -> None:
        """Stop all work for all visitors."""
        for session in {*self._restyling, *self._looking}:
            self.leave(session)

    @contextmanager
    def _stoppable(
        self, running: dict[str, threading.Event], session: str
    ) -> Iterator[threading.Event]:
        """Register a visitor's work of one kind, and stop earlier work of that kind."""
        stopped = threading.Event()
        if session:
            before = running.get(session)
            running[session] = stopped
            if before is not None:
                before.set()
        try:
            yield stopped
        finally:
            if running.get(session) is stopped:
                del running[session]

    def _preview(self, upload: Uploaded) -> Path:
        """Write a screen-sized JPEG preview of an upload, once.

        Raises:
            InputError: the upload can't be read.
        """
        path = upload.path.with_name(f"preview-{upload.path.name}.jpg")
        if path.exists():
            path.touch()
            return path
        try:
            picture = as_srgb(read_picture(upload.path, max_pixels=self._settings.max_pixels))
        except InputError as error:
            raise InputError(str(error).replace(str(upload.path), upload.name)) from error
        shown = Image.new("RGB", picture.size, "white")
        shown.paste(picture, mask=picture if picture.mode == "RGBA" else None)
        shown.thumbnail((_PREVIEW, _PREVIEW), Image.Resampling.LANCZOS)
        with write_whole(path) as part:
            shown.save(part, quality=90)
        return path


@contextmanager
def _lent(
    place: Path, photo: Uploaded, style_image: Uploaded | None
) -> Iterator[tuple[Path, Path | None]]:
    """Link photo and style picture under their original names while results are made beside them.

    Raises:
        InputError: the uploads have been deleted.
    """
    beside = new_place(place)
    files: list[Path] = []
    try:
        for upload, folder in ((photo, place), (style_image, beside)):
            if upload is not None:
                files.append(lend(upload.path, upload.name, folder))
        yield files[0], files[1] if style_image is not None else None
    except FileNotFoundError as error:
        raise InputError(
            "Uploads are deleted an hour after their last use: drop the picture again."
        ) from error
    finally:
        for path in files:
            path.unlink(missing_ok=True)
        beside.rmdir()


@contextmanager
def _told(place: Path) -> Iterator[None]:
    """Turn our errors into messages for the visitor."""
    try:
        yield
    except ClipmambaError as error:
        raise _error(str(error), place) from error


def _error(message: str, place: Path | None = None) -> gr.Error:
    return gr.Error(_for_visitors(message, place), duration=_SECONDS, print_exception=False)


def _for_visitors(message: str, place: Path | None) -> str:
    """Strip the server's folder from a message, and escape HTML, which gradio would render."""
    return html.escape(message if place is None else message.replace(f"{place}/", ""), quote=False)

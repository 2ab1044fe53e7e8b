"""What a visitor's clicks do."""

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

MAX_VARIANTS = 8
_PREVIEW = 1600  # longest side of the pictures under the slider, in pixels
_SECONDS = 15.0  # that a message stays

Tell = Callable[[float, str], None]


class Page:
    """The visitors of one page, and what is done for them.

    Args:
        settings: how the page is served.
        network: computes.
        restyle: does what the command line does.
        cache: the folder that gradio keeps uploads in, and may serve.
    """

    def __init__(
        self, settings: PageSettings, network: Network, restyle: Restyle, cache: Path
    ) -> None:
        self._settings = settings
        self._network = network
        self._restyle = restyle
        self._cache = cache
        self._thumbnails = Thumbnails(network)
        self._restyling: dict[str, threading.Event] = {}  # by session; set to stop
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
        """Do what the command line does.

        Args:
            photo: the picture to restyle.
            style_image: a picture that shows the style.
            wish: what is asked for.
            session: the visitor's, for `stop`.
            tell: is told how much is done, from 0 to 1, and what that is.

        Returns:
            The files that were written, and the command that makes them again.

        Raises:
            gradio.Error: it can't be done, with the reason for the visitor.
        """
        if wish.variants > MAX_VARIANTS:
            raise _error(f"variants must be 1 to {MAX_VARIANTS} here, not {wish.variants}")
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
        """The photo and one of its results, for the slider; the photo twice without any.

        Args:
            photo: the photo.
            results: what was made of it.
            chosen: which of these, from 0.

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
        """Thumbnails of the photo in the known styles, more and more of them.

        They end early for a visitor who leaves, or comes with another photo.
        """
        yield {}
        if photo is None:
            return
        try:
            picture = Image.open(self._preview(photo))
        except InputError:  # the visitor is told by `show`
            return
        with self._stoppable(self._looking, session) as stopped:
            for some in self._thumbnails.of(picture):
                if stopped.is_set():
                    return
                yield some

    def stop(self, session: str) -> None:
        """End what a visitor has asked for; a picture that is half made ends at its next tile."""
        if session in self._restyling:
            self._restyling[session].set()

    def leave(self, session: str) -> None:
        """The same, and no more thumbnails."""
        self.stop(session)
        if session in self._looking:
            self._looking[session].set()

    def close(self) -> None:
        """All visitors have to leave."""
        for session in {*self._restyling, *self._looking}:
            self.leave(session)

    @contextmanager
    def _stoppable(
        self, running: dict[str, threading.Event], session: str
    ) -> Iterator[threading.Event]:
        """A visitor's work of one kind; what of that kind ran before is stopped."""
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
        """A picture as a browser shows it, not larger than a screen; made once.

        Raises:
            InputError: it can't be read.
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
    """Photo and style picture under their own names, while the results beside them are made.

    Raises:
        InputError: they have been deleted.
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
    """What goes wrong, as a message to the visitor."""
    try:
        yield
    except ClipmambaError as error:
        raise _error(str(error), place) from error


def _error(message: str, place: Path | None = None) -> gr.Error:
    return gr.Error(_for_visitors(message, place), duration=_SECONDS, print_exception=False)


def _for_visitors(message: str, place: Path | None) -> str:
    """Without the server's folder, and as text where gradio would take it for HTML."""
    return html.escape(message if place is None else message.replace(f"{place}/", ""), quote=False)

"""The page's parts without a server."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from clipmamba.cli.resident import restyle
from clipmamba.errors import InputError, WeightsError
from clipmamba.page import server
from clipmamba.page.command import Wish
from clipmamba.page.folder import file_name, lend, new_place, page_folder, sweep
from clipmamba.page.network import Network
from clipmamba.page.settings import PageSettings, StoppedError


def test_the_shown_command_has_what_was_chosen_and_no_folder() -> None:
    wish = Wish("ukiyo-e", 0.5, 1.5, "photo", "3", 2)
    assert wish.shown(Path("/x/my photo.jpg"), Path("/y/-art.png"), PageSettings()) == (
        "clipmamba stylize 'my photo.jpg' -p ukiyo-e --style-image ./-art.png --strength 0.5 "
        "--stroke 1.5 --preserve-color --seed 3 --variants 2"
    )
    style = Wish("mosaic", colors="style").shown(Path("a.jpg"), None, PageSettings())
    assert style == "clipmamba stylize a.jpg -p mosaic --no-preserve-color"
    usual = Wish("mosaic").shown(Path("a.jpg"), None, PageSettings())
    assert usual == "clipmamba stylize a.jpg -p mosaic"


def test_a_model_is_named_without_its_folder_where_others_read_it() -> None:
    wish, photo, model = Wish("mosaic"), Path("a.jpg"), "/home/me/model"
    shown = wish.shown(photo, None, PageSettings(model=model))
    assert shown.endswith("--model /home/me/model")
    public = PageSettings(host="0.0.0.0", model=model)
    assert wish.shown(photo, None, public).endswith("--model model")
    assert wish.arguments(photo, None, public)[-1] == "/home/me/model"
    hub = PageSettings(host="0.0.0.0", model="ann/prints@v1")
    assert wish.shown(photo, None, hub).endswith("--model ann/prints@v1")


@pytest.mark.parametrize(
    ("given", "name"),
    [("a.jpg", "a.jpg"), ("C:\\x\\Été (1).jpg", "Été (1).jpg"), ("../../etc/passwd", "passwd"),
     ("a\nb\0.png", "ab.png"), ("..", "photo"), ("", "photo"),
     ("é" * 300 + ".png", "é" * 60 + ".png")],
)  # fmt: skip
def test_names_from_browsers_are_safe(given: str, name: str) -> None:
    assert file_name(given) == name


def test_files_go_an_hour_after_their_last_use(tmp_path: Path) -> None:
    for name in ("old/a.png", "used/b.png"):
        file = tmp_path / name
        file.parent.mkdir()
        file.write_bytes(b"x")
        os.utime(file, (1, 1))
        os.utime(file.parent, (1, 1))
    place = new_place(tmp_path)
    lend(tmp_path / "used/b.png", "b.png", place)
    sweep(tmp_path, 3600)
    assert sorted(str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*.png")) == sorted(
        ["used/b.png", f"{place.name}/b.png"]
    )
    os.utime(tmp_path / "old", (1, 1))  # the deletion has changed the folder a moment ago
    sweep(tmp_path, 3600)
    assert not (tmp_path / "old").exists()


def test_the_folder_is_private_and_goes_with_the_page() -> None:
    with page_folder() as folder:
        (folder / "x").write_text("x")
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_the_network_works_for_one_at_a_time_and_says_what_fails() -> None:
    network = Network(lambda: None)  # type: ignore[arg-type, return-value]
    busy, most = 0, 0

    def work(_: object) -> int:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        time.sleep(0.01)
        busy -= 1
        return threading.get_ident()

    threads = [threading.Thread(target=network.run, args=(work,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1

    def fail(_: object) -> None:
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        network.run(fail)
    network.close()

    def missing() -> None:
        raise WeightsError("gone")

    broken = Network(missing)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match="gone"):
        broken.run(work)
    broken.close()


def test_what_the_callback_raises_ends_the_work(
    tiny_pipeline: object, tmp_path: Path, photo: Image.Image
) -> None:
    photo.save(tmp_path / "a.png")

    def callback(done: float, total: int) -> None:
        assert total == 5
        if done >= 2:
            raise StoppedError("Stopped.")

    words = [str(tmp_path / "a.png"), "-p", "mosaic", "--variants", "5"]
    with pytest.raises(StoppedError):
        restyle(words, tiny_pipeline, callback)  # type: ignore[arg-type]
    assert len(list(tmp_path.iterdir())) == 2  # the photo and the first variant; no third begun


def test_remarks_and_wrong_words_reach_the_visitor(
    tiny_pipeline: object, tmp_path: Path, photo: Image.Image
) -> None:
    photo.save(tmp_path / "a.png")
    done = restyle(
        [str(tmp_path / "a.png"), "-p", "mosiac"], tiny_pipeline, lambda part, total: None
    )  # type: ignore[arg-type]
    assert [file.name for file in done.files] == ["a-mosiac.png"]
    assert any("Did you mean 'mosaic'" in remark for remark in done.remarks)
    with pytest.raises(InputError, match="--nonsense"):
        restyle(["a.png", "--nonsense", "1"], tiny_pipeline, lambda part, total: None)  # type: ignore[arg-type]


def test_a_port_that_is_taken_is_refused_before_the_model_loads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("gradio")
    monkeypatch.setattr(server, "_settle_gradio", lambda cache: None)
    monkeypatch.setattr(server, "Network", lambda load: pytest.fail("the model was loaded"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(InputError, match=f"can't listen on 127.0.0.1:{port}"),
            server.serving(PageSettings(port=port), restyle),
        ):
            pass

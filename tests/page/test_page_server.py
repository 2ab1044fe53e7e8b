"""The page's HTTP interface, and what it keeps closed."""

from __future__ import annotations

import json
import shlex
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from clipmamba.cli import main


def get(url: str, headers: dict[str, str] | None = None, data: bytes | None = None) -> Any:
    """Status, headers and body of an answer."""
    request = urllib.request.Request(url, headers=headers or {}, data=data)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def ask(url: str, *values: object) -> tuple[str, str]:
    """What a program without gradio gets: the event and its data."""
    body = json.dumps({"data": values}).encode()
    kind = {"Content-Type": "application/json"}
    _, _, said = get(f"{url}gradio_api/call/stylize", kind, body)
    event = json.loads(said)["event_id"]
    _, _, told = get(f"{url}gradio_api/call/stylize/{event}")
    last = told.decode().strip().split("\n\n")[-1].splitlines()
    return last[0].removeprefix("event: "), last[1].removeprefix("data: ")


def sent(url: str, file: Path) -> dict[str, Any]:
    """Upload a file as curl does, and return what stands for it in a request."""
    body = b"--x\r\nContent-Disposition: form-data; name=files; filename=photo.jpg\r\n\r\n"
    body += file.read_bytes() + b"\r\n--x--\r\n"
    _, _, paths = get(
        f"{url}gradio_api/upload", {"Content-Type": "multipart/form-data; boundary=x"}, body
    )
    return {"path": json.loads(paths)[0], "meta": {"_type": "gradio.FileData"}}


def test_client_gets_what_the_command_line_writes(
    served: Any, photo_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gradio_client import Client, handle_file

    client = Client(served.url, verbose=False, download_files=tmp_path / "got")
    files, command = client.predict(
        photo=handle_file(str(photo_file)), prompt="watercolor", strength=0.6, variants=2,
        api_name="/stylize",
    )  # fmt: skip
    monkeypatch.chdir(photo_file.parent)
    known = set(photo_file.parent.iterdir())
    done = CliRunner().invoke(main, shlex.split(command)[1:])
    assert done.exit_code == 0, done.output
    written = sorted(set(photo_file.parent.iterdir()) - known)
    assert [Path(file).read_bytes() for file in files] == [one.read_bytes() for one in written]


def test_only_one_function_is_offered(served: Any) -> None:
    _, _, body = get(f"{served.url}gradio_api/info")
    offered = json.loads(body)["named_endpoints"]
    assert list(offered) == ["/stylize"]
    names = [one["parameter_name"] for one in offered["/stylize"]["parameters"]]
    assert names == [
        "photo", "prompt", "style_image", "strength", "stroke", "colors", "seed", "variants",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "../../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd",
        "/proc/self/environ", "secret.txt", "{room}/secret.txt", "{cache}/../../secret.txt",
        "{cache}", "file:///etc/passwd", "http://127.0.0.1:1/x", "https://example.com/x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("door", ["file=", "file/", "proxy=", "stream/"])
def test_no_file_of_the_machine_can_be_read(served: Any, door: str, path: str) -> None:
    path = path.format(room=served.folder.parent, cache=served.folder / "cache")
    status, _, body = get(f"{served.url}gradio_api/{door}{path}")
    assert status in (400, 403, 404, 405)
    assert b"root:" not in body
    assert b"nobody may read this" not in body


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "{room}/secret.txt", "http://127.0.0.1:1/x", "https://example.com/x"]
)
def test_no_file_of_the_machine_is_taken_for_an_upload(served: Any, path: str) -> None:
    path = path.format(room=served.folder.parent)
    photo = {"path": path, "meta": {"_type": "gradio.FileData"}}
    event, _ = ask(served.url, photo, "mosaic", None, 1, 1, "automatic", "", 1)
    assert event == "error"
    assert "NETWORK" not in served.log.read_text()


@pytest.mark.parametrize(
    "path",
    ["monitoring", "monitoring/summary", "gradio_api/runs", "gradio_api/vibe-code", "login",
     "gradio_api/component_server", "docs", "gradio_api/profiling/traces"],
)  # fmt: skip
def test_what_the_page_does_not_need_is_closed(served: Any, path: str) -> None:
    assert get(served.url + path)[0] == 404


def test_other_names_for_this_machine_are_refused(served: Any) -> None:
    assert get(served.url, {"Host": "elsewhere.example"})[0] == 400
    assert get(served.url)[0] == 200


def test_browsers_are_told_to_load_nothing_from_elsewhere(served: Any) -> None:
    _, headers, body = get(served.url)
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert b"fonts.googleapis.com" not in body + get(f"{served.url}theme.css")[2]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"photo": None}, "Drop a photo first."),
        ({"prompt": ""}, "Type a style"),
        ({"strength": None}, "strength must be a number, not null"),
        ({"strength": "0.5"}, 'strength must be a number, not "0.5"'),
        ({"strength": True}, "strength must be a number, not true"),
        ({"strength": 2}, "strength must be between 0 and 1.5, not 2"),
        ({"stroke": [1]}, "stroke must be a number, not [1]"),
        ({"stroke": 0}, "stroke must be between 0.5 and 2.0, not 0"),
        ({"colors": False}, "colors must be one of ['automatic', 'photo', 'style'], not false"),
        ({"colors": None}, "colors must be one of ['automatic', 'photo', 'style'], not null"),
        ({"seed": "x"}, "The seed must be a whole number, not 'x'"),
        ({"variants": None}, "variants must be a whole number from 1 to 8 here, not null"),
        ({"variants": 1.5}, "variants must be a whole number from 1 to 8 here, not 1.5"),
        ({"variants": 9}, "variants must be a whole number from 1 to 8 here, not 9"),
    ],
)
def test_what_is_wrong_is_said(
    served: Any, photo_file: Path, wrong: dict[str, Any], reason: str
) -> None:
    usual = {
        "photo": sent(served.url, photo_file), "prompt": "mosaic", "style_image": None,
        "strength": 1, "stroke": 1, "colors": "automatic", "seed": "", "variants": 1,
    }  # fmt: skip
    event, data = ask(served.url, *{**usual, **wrong}.values())
    assert event == "error"
    assert json.loads(data)["error"].startswith(reason)


@pytest.mark.parametrize("colors", ["automatic", "photo", "style"])
def test_colors_are_those_of_the_command(served: Any, photo_file: Path, colors: str) -> None:
    event, data = ask(
        served.url, sent(served.url, photo_file), "watercolor", None, 1, 1, colors, "", 1
    )
    assert event == "complete"
    option = {"photo": "--preserve-color", "style": "--no-preserve-color"}.get(colors)
    command = shlex.split(json.loads(data)[1])
    assert [word for word in command if "color" in word.partition("--")[2]] == (
        [option] if option else []
    )


def test_many_at_once_and_none_is_lost(served: Any, tmp_path: Path) -> None:
    from gradio_client import Client, handle_file

    def one(number: int) -> bool:
        file = tmp_path / f"{number}.png"
        Image.new("RGB", (16 + number, 16), (number * 9, 90, 90)).save(file)
        client = Client(served.url, verbose=False, download_files=tmp_path / "got")
        files, command = client.predict(handle_file(str(file)), "mosaic", api_name="/stylize")
        with Image.open(files[0]) as result:
            return result.size == (16 + number, 16) and f"stylize {number}.png" in command

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(16)))

"""A file is written whole, in one step, in the place it was meant for, or not at all."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from clipmamba import files
from clipmamba.errors import InputError
from clipmamba.files import ExistsError, check_place, one_line, write_whole

posix = pytest.mark.skipif(os.name == "nt", reason="links and modes of Unix")


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with write_whole(tmp_path / "a.txt") as part:
        part.write_text("half")
        assert not (tmp_path / "a.txt").exists()
        assert part.suffix == ".txt"  # encoders choose by it
        part.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "whole"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_failure(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "a.txt").write_text("old")

    def fail() -> None:
        with write_whole(tmp_path / "a.txt") as part:
            part.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


@posix
def test_mode_and_link_stay(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    real, link = tmp_path / "store/real.txt", tmp_path / "link.txt"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to("store/real.txt")
    with write_whole(link) as part:
        part.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.rglob("*.txt")) == ["link.txt", "real.txt"]


@posix
def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with write_whole(tmp_path / "new"):
        pass
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("links", [True, False])
def test_what_appears_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", refused)

    def write() -> None:
        with write_whole(tmp_path / "a", overwrite=False) as part:
            part.write_text("mine")
            (tmp_path / "a").write_text("theirs")

    with pytest.raises(ExistsError):
        write()
    assert (tmp_path / "a").read_text() == "theirs"
    with write_whole(tmp_path / "b", overwrite=False) as part:
        part.write_text("mine")
    assert (tmp_path / "b").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@posix
@pytest.mark.parametrize("place", ["there", "dangling"])
def test_a_taken_name_is_refused_at_once(tmp_path: Path, place: str) -> None:
    (tmp_path / "there").write_text("old")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(ExistsError, match="--overwrite"):
        check_place(tmp_path / place)
    entered = False
    with pytest.raises(ExistsError), write_whole(tmp_path / place, overwrite=False):
        entered = True
    assert not entered
    assert (tmp_path / "dangling").is_symlink()
    assert (tmp_path / "there").read_text() == "old"


def test_of_many_writers_one_wins(tmp_path: Path) -> None:
    start, results = threading.Barrier(8), []

    def write(number: int) -> None:
        start.wait()
        try:
            with write_whole(tmp_path / "a", overwrite=False) as part:
                part.write_text(str(number))
        except ExistsError:
            return
        results.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 1
    assert (tmp_path / "a").read_text() == str(results[0])
    assert len(list(tmp_path.iterdir())) == 1


def test_content_reaches_the_disk_before_it_takes_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(Path, "replace", lambda a, b: (done.append("replace"), replace(a, b))[1])
    with write_whole(tmp_path / "a") as part:
        part.write_text("x")
    assert done[:2] == ["fsync", "replace"]


@posix
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_device_is_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(InputError):
            check_place(tmp_path / name, overwrite=overwrite)
        refused = pytest.raises((OSError, ExistsError))
        with refused, write_whole(tmp_path / name, overwrite=overwrite) as part:
            part.write_text("x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere/a", "no folder"),
        ("folder", "is a folder"),
        ("file/a", "no folder"),
        ("n" * 300, "too long"),
        ("loop/a", "can't write"),
    ],
)
def test_impossible_places_are_one_line(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=words) as caught:
        check_place(tmp_path / name, overwrite=True)
    assert "\n" not in str(caught.value)


def test_a_name_too_long_is_found_below_folders_that_are_not_there_yet(tmp_path: Path) -> None:
    files.check_name(tmp_path / "new/newer/short")
    for name in (f"new/{'n' * 300}", f"{'n' * 300}/short", f"new/{'n' * 300}/short"):
        with pytest.raises(OSError, match="too long"):
            files.check_name(tmp_path / name)


def test_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may all
    with pytest.raises(InputError, match="not writable"):
        check_place(tmp_path / "a")


def test_an_error_is_one_line() -> None:
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(ValueError()) == "ValueError"
    assert len(one_line(ValueError("x" * 999))) == 300

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from clipmamba.errors import InputError
from clipmamba.train.names import Names, write_names
from clipmamba.train.pictures import open_picture
from clipmamba.train.shards import list_members, missing_pictures


def write_shard(file: Path, samples: list[tuple[str, bytes]]) -> None:
    with tarfile.open(file, "w") as archive:
        for name, data in samples:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def encoded(red: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


def test_members_are_read_by_their_place(tmp_path: Path):
    write_shard(
        tmp_path / "style-0.tar",
        [("a/x.png", encoded(1)), ("a/x.json", b'{"style_words": "ukiyo-e"}'),
         ("y.png", encoded(2)), ("y.txt", b"cubism,\n\tblue\n"), ("z.txt", b"no picture")],
    )  # fmt: skip
    write_shard(tmp_path / "content-0.tar", [("p.png", encoded(3))])
    styles = list(list_members(tmp_path, "style"))
    assert [words for _, words in styles] == ["ukiyo-e", "cubism, blue"]
    places = [place for place, _ in [*styles, *list_members(tmp_path, "photo")]]
    assert [open_picture(tmp_path / place).getpixel((0, 0))[0] for place in places] == [1, 2, 3]
    assert [Path(place).name for place in places] == ["x.png", "y.png", "p.png"]
    assert missing_pictures(tmp_path, places) == []
    (tmp_path / "content-0.tar").write_bytes(b"short")
    assert missing_pictures(tmp_path, places) == places[2:]
    with pytest.raises(InputError, match="prepare again"):
        open_picture(tmp_path / places[2])


def test_names_are_a_sequence_on_disk(tmp_path: Path):
    wanted = ["a.jpg", "", "städte/ü.png", "x" * 300]
    names = write_names(tmp_path / "n", iter(wanted))
    for each in (names, Names(tmp_path / "n"), pickle.loads(pickle.dumps(names))):
        assert list(each) == wanted
        assert each[-1] == wanted[-1]
        assert each[1:3] == tuple(wanted[1:3])
    assert len(write_names(tmp_path / "none", [])) == 0
    with pytest.raises(ValueError, match="line break"):
        write_names(tmp_path / "n", ["a\nb"])
    assert list(Names(tmp_path / "n")) == wanted  # a failed write changes nothing,
    write_names(tmp_path / "n", ["other"])
    assert list(names) == wanted  # and a new list nothing for those who read the old one


@pytest.mark.parametrize("content", [b"no archive", b'{"style_words": '])
def test_a_damaged_shard_is_named(tmp_path: Path, content: bytes):
    if content.startswith(b"{"):
        write_shard(tmp_path / "style-0.tar", [("x.png", encoded(1)), ("x.json", content)])
    else:
        (tmp_path / "style-0.tar").write_bytes(content)
    with pytest.raises(InputError, match=r"can't read .*style-0\.tar"):
        list(list_members(tmp_path, "style"))

"""Sound, subtitles, chapters and covers beside the picture."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import moving, remux, write_clip

from clipmamba.errors import InputError

CAPTIONS = """1
00:00:00,100 --> 00:00:00,400
a wave

2
00:00:00,700 --> 00:00:01,900
a mountain
"""


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A film of 2 s with sound in two languages, subtitles and three chapters."""
    clip = write_clip(tmp_path / "clip.mkv", moving(20), sound="aac")
    sound = write_clip(tmp_path / "sound.mkv", moving(1), sound="aac")
    (tmp_path / "captions.srt").write_text(CAPTIONS)
    return remux(
        tmp_path / "film.mkv",
        [clip, sound, tmp_path / "captions.srt"],
        [{}, {"language": "eng"}, {"language": "fre", "title": "Commentaire"}, {"language": "ger"}],
        [(0, 500, "One"), (500, 1500, "Two"), (1500, 2000, "Three")],
    )


def captions(path: Path) -> list[tuple[str, float, float]]:
    with av.open(str(path)) as container:
        return [
            (
                bytes(packet).decode(),
                float(packet.pts * packet.time_base),
                float((packet.pts + packet.duration) * packet.time_base),
            )
            for packet in container.demux(subtitles=0)
            if packet.size
        ]


def chapters(path: Path) -> list[tuple[float, float, str]]:
    with av.open(str(path)) as container:
        return [
            (
                float(chapter["start"] * chapter["time_base"]),
                float(chapter["end"] * chapter["time_base"]),
                chapter["metadata"]["title"],
            )
            for chapter in container.chapters()
        ]


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4"])
def test_tracks_of_sound_keep_language_and_title(restyle, film, name):
    with av.open(str(restyle(film, name))) as container:
        tags = [stream.metadata for stream in container.streams.audio]
    assert [each.get("language") for each in tags] == ["eng", "fre"]
    assert "Commentaire" in tags[1].values()


def test_subtitles_are_copied(restyle, film):
    result = restyle(film, "out.mkv")
    assert captions(result) == [("a wave", 0.1, 0.4), ("a mountain", 0.7, 1.9)]
    with av.open(str(result)) as container:
        assert container.streams.subtitles[0].metadata["language"] == "ger"


def test_subtitles_of_a_part_are_those_of_the_part(restyle, film):
    result = restyle(film, "out.mkv", start=0.5, end=1.2)
    [(words, begin, end)] = captions(result)
    assert (words, begin) == ("a mountain", pytest.approx(0.2, abs=0.01))
    assert end == pytest.approx(0.7, abs=0.01)


def test_subtitles_that_a_file_cannot_hold_are_left_out_with_a_warning(restyle, film, caplog):
    with av.open(str(restyle(film, "out.mp4"))) as container:
        assert not container.streams.subtitles
    assert caplog.text.count("can't hold subtitles of the kind") == 1


def test_chapters_are_kept(restyle, film):
    for name in ("out.mkv", "out.mp4"):
        found = chapters(restyle(film, name))
        assert found == [(0, 0.5, "One"), (0.5, 1.5, "Two"), (1.5, 2, "Three")]


def test_chapters_of_a_part_are_those_of_the_part(restyle, film):
    found = chapters(restyle(film, "out.mkv", start=0.7, end=1.4))
    assert found == [(0, pytest.approx(0.7), "Two")]


def test_an_animation_of_a_film_needs_none_of_them(restyle, film, caplog):
    restyle(film, "out.gif")
    assert not caplog.records


def test_a_songs_cover_is_no_video(restyle, tmp_path):
    sound = write_clip(tmp_path / "sound.mp4", moving(1), sound="aac")
    song = tmp_path / "song.m4a"
    with av.open(str(sound)) as source, av.open(str(song), "w", format="mp4") as out:
        copy = out.add_stream_from_template(source.streams.audio[0])
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 48, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(moving(1)[0], format="rgb24")
        out.mux(cover.encode(picture.reformat(format="yuvj420p")))
        out.mux(cover.encode(None))
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    with av.open(str(song)) as container:
        assert container.streams.video  # FFmpeg sees one
    with pytest.raises(InputError, match=r"song\.m4a has no video stream"):
        restyle(song)


def test_the_time_of_a_film_is_that_of_all_its_streams(restyle, film):
    with av.open(str(restyle(film, "out.mkv"))) as container:
        assert Fraction(container.duration, av.time_base) == pytest.approx(2, abs=0.1)

"""A restyled video is the source in all but its style."""

from __future__ import annotations

import itertools
import math
import os
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from clips import moving, read_clip, remux, sound_of, write_clip
from PIL import Image

from clipmamba.errors import InputError
from clipmamba.video import CODECS, FramePainter, VideoOptions, stylize_video
from clipmamba.video.frame import VideoInfo
from clipmamba.video.read import StreamReader, open_video
from clipmamba.video.write import Writer

UNEVEN = [Fraction(time, 1000) for time in (0, 100, 150, 400, 900, 1000)]


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())


def animation(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """Frames (H, W, 4) and the milliseconds that each is shown."""
    frames, shown = [], []
    with Image.open(path) as image:
        for index in range(image.n_frames):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGBA")))
            shown.append(image.info["duration"])
    return frames, shown


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv", "out.webm"])
def test_every_frame_keeps_its_time(restyle, tmp_path, name):
    source = write_clip(tmp_path / "in.mkv", moving(), UNEVEN)
    frames, times, _ = read_clip(restyle(source, name))
    assert times == UNEVEN
    assert {frame.shape for frame in frames} == {(32, 48, 3)}


def test_sound_is_copied_byte_for_byte(restyle, tmp_path):
    source = write_clip(tmp_path / "in.mp4", moving(), sound="aac")
    result = restyle(source)
    assert sound_of(result) == sound_of(source) != []
    with av.open(str(restyle(source, "silent.mp4", sound=False))) as silent:
        assert not silent.streams.audio


@pytest.mark.parametrize(("sound", "name"), [("aac", "out.webm"), ("libopus", "out.mov")])
def test_sound_that_a_file_cannot_hold_is_said_and_nothing_is_left(restyle, tmp_path, sound, name):
    source = write_clip(tmp_path / "in.mkv", moving(2), sound=sound)
    with pytest.raises(InputError, match=r"can't hold the sound.*--no-sound"):
        restyle(source, name)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
    assert sound_of(restyle(source, "out.mkv")) == sound_of(source) != []


@pytest.mark.parametrize(("rotation", "turn"), [(0, 0), (90, 1), (180, 2), (-90, 3)])
def test_a_turned_video_is_upright_and_keeps_the_shape_of_its_pixels(
    restyle, tmp_path, rotation, turn
):
    source = write_clip(tmp_path / "in.mp4", moving(2), rotation=rotation, aspect=Fraction(4, 3))
    stored = read_clip(source)[0]
    frames, _, first = restyled = read_clip(restyle(source, strength=0, quality=4))
    assert first.rotation == 0
    upright = np.rot90(stored[0], turn)
    assert frames[0].shape == upright.shape
    assert difference(frames[0], upright) < 4
    assert difference(frames[0], np.rot90(upright, 2)) > 20
    with av.open(str(tmp_path / "out.mp4")) as container:
        aspect = container.streams.video[0].sample_aspect_ratio
    assert aspect == (Fraction(3, 4) if turn % 2 else Fraction(4, 3))
    assert len(restyled[0]) == 2


@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(3, 4)])
@pytest.mark.parametrize(
    ("name", "codec"),
    [*(("out.mkv", codec) for codec in CODECS), ("out.webm", "vp9"), ("out.webm", "av1"),
     ("out.mp4", "h265"), ("out.mp4", "av1"), ("out.gif", None), ("out.webp", None)],
)  # fmt: skip
def test_a_video_is_shown_in_its_shape_in_every_file(restyle, tmp_path, name, codec, aspect):
    source = write_clip(tmp_path / "in.mp4", moving(2, 128, 96), aspect=aspect)
    result = restyle(source, name, codec=codec, strength=0)
    if codec is None:
        with Image.open(result) as image:
            shown = Fraction(*image.size)
    else:
        with av.open(str(result)) as container:
            stream = container.streams.video[0]
            shown = Fraction(stream.width, stream.height) * (stream.sample_aspect_ratio or 1)
    assert float(shown) == pytest.approx(float(aspect * Fraction(128, 96)), rel=0.03)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 6])
def test_color_tags_and_colors_are_kept(restyle, tmp_path, full, matrix):
    tags = {"color_range": 2 if full else 1, "color_primaries": 5, "color_trc": 13}
    source = write_clip(tmp_path / "in.mkv", moving(2), tags=tags | {"colorspace": matrix})
    stored = read_clip(source)
    frames, _, first = read_clip(restyle(source, strength=0, quality=4))
    assert (first.color_range, first.colorspace) == (tags["color_range"], matrix)
    assert (first.color_primaries, first.color_trc) == (5, 13)
    luma = [frame.to_ndarray()[:32].astype(float) for frame in (stored[2], first)]
    assert difference(*luma) < 1.5
    assert difference(frames[0], stored[0][0]) < 4


@pytest.mark.parametrize("size", [(47, 32), (48, 31), (47, 31)])
@pytest.mark.parametrize("name", ["out.mp4", "out.gif", "out.webp"])
def test_odd_sizes(restyle, tmp_path, size, name):
    width, height = size
    source = write_clip(tmp_path / "in.mkv", moving(2, width, height), codec="ffv1", pix_fmt="bgr0")
    frames = (
        read_clip(restyle(source, name, strength=0, quality=None))[0]
        if name == "out.mp4"
        else (animation(restyle(source, name, strength=0))[0])
    )
    even = name == "out.mp4"  # its chroma has half the size: the last row and column are repeated
    assert frames[0].shape[:2] == (height + (height % 2) * even, width + (width % 2) * even)
    assert difference(frames[0][:height, :width, :3], moving(1, width, height)[0]) < 6


@pytest.mark.parametrize("codec", sorted(CODECS))
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_codec_is_quiet_and_can_be_read_again(restyle, tmp_path, codec, count, capfd):
    source = write_clip(tmp_path / "in.mkv", moving(count, 80, 64))
    frames, times, _ = read_clip(restyle(source, "out.mkv", codec=codec, strength=0))
    assert times == [Fraction(index, 10) for index in range(count)]
    assert difference(frames[0], read_clip(source)[0][0]) < 8
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("count", [1, 2])
def test_a_decoding_time_that_the_encoder_left_unset_is_replaced(tmp_path, count):
    """x265 leaves whatever was in memory where clips have one or two frames."""
    writer = Writer(
        tmp_path / "out.mp4", tmp_path / "part.mp4", VideoInfo(25, 0.04), VideoOptions()
    )
    packets = [SimpleNamespace(pts=time, dts=2**60 - time, duration=0) for time in range(count)]
    written: list[SimpleNamespace] = []
    writer.frames = count
    writer._video = SimpleNamespace(encode=lambda picture: packets)
    writer._container = SimpleNamespace(mux=written.append)
    writer._mux(None)
    assert [(packet.pts, packet.dts) for packet in written] == [(n, n) for n in range(count)]


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_a_codec_takes_its_smallest_frames_and_smaller_ones_are_refused(restyle, tmp_path, codec):
    smallest = CODECS[codec].smallest
    for width, height in ((max(2, smallest), 120), (120, max(2, smallest))):
        source = write_clip(tmp_path / f"{width}.mkv", moving(2, width, height), codec="ffv1",
                            pix_fmt="bgr0")  # fmt: skip
        result = restyle(source, f"{width}-out.mkv", codec=codec, strength=0)
        assert len(read_clip(result)[0]) == 2
    if smallest > 1:
        side = smallest // 2
        small = write_clip(tmp_path / "small.mkv", moving(2, side, 64), codec="ffv1",
                           pix_fmt="bgr0")  # fmt: skip
        with pytest.raises(InputError, match=f"{smallest}x{smallest}.*--codec"):
            restyle(small, "small-out.mkv", codec=codec, strength=0)
        assert not (tmp_path / "small-out.mkv").exists()


@pytest.mark.parametrize("size", [(24, 16), (96, 64), (32, 48)])
@pytest.mark.parametrize("name", ["out.mp4", "out.gif"])
def test_frames_that_change_their_size_get_that_of_the_first(tiny_pipeline, tmp_path, size, name):
    parts = [
        write_clip(tmp_path / f"{number}.ts", moving(3, *sides),
                   [Fraction(3 * number + frame, 10) for frame in range(3)])
        for number, sides in enumerate(((48, 32), size))
    ]  # fmt: skip
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    report = stylize_video(
        source, tmp_path / name, "woodcut", pipeline=tiny_pipeline, strength=0, quality=None
    )
    frames = read_clip(report.output)[0]
    assert report.size == (48, 32)
    assert len(frames) == report.frames >= 4
    assert {frame.shape for frame in frames} == {(32, 48, 3)}
    later = [np.asarray(Image.fromarray(pixels).resize((48, 32))) for pixels in moving(3, *size)]
    assert min(difference(frames[-1], pixels) for pixels in later) < 15  # not in a corner


@pytest.mark.parametrize(
    ("part", "kept"),
    [
        ({"start": 0.1}, [1, 2, 3, 4, 5]),
        ({"end": 0.4}, [0, 1, 2]),
        ({"start": 0.12, "end": 0.9}, [1, 2, 3]),
    ],
)
def test_a_part_begins_with_what_is_shown_then(restyle, tmp_path, part, kept):
    source = write_clip(tmp_path / "in.mkv", moving(), UNEVEN)
    frames, times, _ = read_clip(restyle(source, strength=0, quality=4, **part))
    start = Fraction(round(part.get("start", 0) * 1000), 1000)
    assert times == [max(UNEVEN[index] - start, Fraction(0)) for index in kept]
    stored = read_clip(source)[0]
    nearest = [int(np.argmin([difference(frame, old) for old in stored])) for frame in frames]
    assert nearest == kept


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("in.ts", "libx264"), ("in.flv", "libx264"), ("in.mkv", "libx264"),
        ("in.mp4", "libx264"), ("in.webm", "libvpx-vp9"),
    ],
)  # fmt: skip
def test_a_start_loses_no_frame_whether_or_not_the_file_has_an_index(tmp_path, name, codec):
    grays = [np.full((32, 48, 3), 20 + 6 * number, np.uint8) for number in range(36)]
    path = write_clip(tmp_path / name, grays, codec=codec)
    for first in (1, 5, 12, 23, 34, 35):
        frames = list(open_video(path, (first + 0.5) / 10))
        shown = [round((frame.pixels.mean() - 20) / 6) for frame in frames]
        assert shown == list(range(first, 36))
        assert [frame.time for frame in frames[:2]] == pytest.approx([0, 0.05][: len(frames)])


def test_a_start_between_two_ticks_of_a_coarse_clock_loses_no_frame(restyle, tmp_path):
    source = write_clip(tmp_path / "in.avi", moving(8), codec="mpeg4")
    frames, times, _ = read_clip(restyle(source, start=0.26))
    assert times == [Fraction(index, 10) for index in range(6)]
    assert len(frames) == 6


def test_stamps_of_avi_are_those_of_decoding(restyle, tmp_path):
    """AVI has no other ones: with B-frames FFmpeg's presentation stamps go back and forth."""
    source = write_clip(tmp_path / "in.avi", moving(9), codec="mpeg4", b_frames=2)
    times = read_clip(restyle(source))[1]
    assert len(times) == 9
    assert {after - before for before, after in itertools.pairwise(times)} == {Fraction(1, 10)}


def test_the_last_frame_of_an_avi_file_may_have_the_stamp_of_an_earlier_one(
    restyle, tmp_path, monkeypatch
):
    """As in Megamind.avi of OpenCV's examples, whose last frames are displayed in another order."""
    source = write_clip(tmp_path / "in.avi", moving(9), codec="mpeg4", b_frames=2)
    decode = StreamReader._decode

    def reordered(self, packet):
        for picture in decode(self, packet):
            if picture.dts is None:
                picture.pts -= 2
            yield picture

    monkeypatch.setattr(StreamReader, "_decode", reordered)
    times = read_clip(restyle(source))[1]
    assert len(times) == 9
    assert {after - before for before, after in itertools.pairwise(times)} == {Fraction(1, 10)}


@pytest.mark.parametrize("kind", ["mp4", "gif", "webp"])
def test_a_start_after_the_end_says_where_the_end_is(restyle, tmp_path, kind):
    source = tmp_path / f"in.{kind}"
    if kind == "mp4":
        write_clip(source, moving(6))
    else:
        first, *others = map(Image.fromarray, moving(6))
        first.save(source, save_all=True, append_images=others, duration=100)
    assert len(read_clip(restyle(source, start=0.55))[0]) == 1  # the last frame is still shown
    with pytest.raises(InputError, match=r"in\.\w+ ends at 0\.60 s; start before that"):
        restyle(source, "late.mp4", start=0.61)
    assert not (tmp_path / "late.mp4").exists()


def test_sound_of_a_part_is_that_of_the_part(restyle, tmp_path):
    source = write_clip(tmp_path / "in.mp4", moving(10), sound="aac")
    every = sound_of(source)
    part = sound_of(restyle(source, start=0.4, end=0.8))
    assert 0 < len(part) < len(every)
    assert b"".join(part) in b"".join(every)


def test_a_rate_leaves_frames_out_or_repeats_them(restyle, tmp_path):
    source = write_clip(tmp_path / "in.mkv", moving(), UNEVEN)
    stored = read_clip(source)[0]
    for fps in (5, 20):
        frames, times, _ = read_clip(restyle(source, f"{fps}.mp4", strength=0, quality=4, fps=fps))
        assert times[:5] == [Fraction(index, fps) for index in range(5)]
        assert times[-1] <= 1 + Fraction(1, 5)
        shown = [max(i for i, at in enumerate(UNEVEN) if at <= time) for time in times]
        nearest = [int(np.argmin([difference(frame, old) for old in stored])) for frame in frames]
        assert nearest == shown


@pytest.mark.parametrize(("asked", "exact"), [(29.97, Fraction(30000, 1001)), (25, Fraction(25))])
def test_rates_of_television(asked, exact):
    assert VideoOptions(fps=asked).rate == exact


def test_max_size(restyle, tmp_path):
    source = write_clip(tmp_path / "in.mkv", moving(2))
    assert read_clip(restyle(source, max_size=24))[0][0].shape == (16, 24, 3)
    assert read_clip(restyle(source, "large.mp4", max_size=4000))[0][0].shape == (32, 48, 3)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_keep_times_transparency_and_loops(restyle, tmp_path, suffix):
    frames = [Image.fromarray(pixels) for pixels in moving(3)]
    for frame in frames:
        frame.putalpha(Image.fromarray(np.pad(np.full((32, 24), 255, np.uint8), ((0, 0), (0, 24)))))
    source = tmp_path / f"in{suffix}"
    frames[0].save(
        source, save_all=True, append_images=frames[1:], duration=[50, 200, 100], loop=3,
        **({"disposal": 2} if suffix == ".gif" else {"lossless": True}),
    )  # fmt: skip
    result = restyle(source, f"out{suffix}")
    made, shown = animation(result)
    assert len(made) == 3
    assert shown[:2] == [50, 200]
    for frame in made:
        assert frame[:, :20, 3].min() == 255
        assert frame[:, 28:, 3].max() == 0
    with Image.open(result) as image:
        assert image.info["loop"] == 3
    assert difference(made[0][:, :20], np.asarray(frames[0])[:, :20]) > 3  # it was restyled


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_the_last_frame_is_shown_as_long_as_before(restyle, tmp_path, kind, suffix):
    first, *others = map(Image.fromarray, moving(3))
    source = tmp_path / f"in.{kind}"
    first.save(source, save_all=True, append_images=others, duration=[100, 200, 3000])
    for strength in (0, 1):
        result = restyle(source, f"{strength}{suffix}", strength=strength)
        if suffix in (".gif", ".webp"):
            assert animation(result)[1] == [100, 200, 3000]
        else:
            with av.open(str(result)) as container:
                assert container.duration / av.time_base == pytest.approx(3.3, abs=0.02)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4", ".mkv"])
def test_a_still_end_and_an_end_option_are_shown_as_long_as_asked(restyle, tmp_path, suffix):
    """The encoder of WebP merges equal frames; an end may lie within a frame's time."""
    first, *others = map(Image.fromarray, [*moving(4), *[moving(4)[-1]] * 3])
    source = tmp_path / "in.gif"
    first.save(source, save_all=True, append_images=others, duration=[100] * 6 + [900])
    for options, seconds in (({}, 1.5), ({"end": 1.0}, 1.0), ({"start": 0.25, "end": 0.8}, 0.55),
                             ({"end": 0.8, "fps": 10}, 0.8)):  # fmt: skip
        result = restyle(source, f"{len(list(tmp_path.iterdir()))}{suffix}", **options)
        if suffix in (".gif", ".webp"):
            assert sum(animation(result)[1]) / 1000 == pytest.approx(seconds, abs=0.011)
        else:
            with av.open(str(result)) as container:
                assert container.duration / av.time_base == pytest.approx(seconds, abs=0.02)


def test_a_start_after_the_last_picture_but_before_the_end_of_the_sound(restyle, tmp_path):
    source = write_clip(tmp_path / "in.mkv", moving(3), sound="aac")  # 0.3 s and 1 s
    result = restyle(source, "out.mkv", start=0.6, strength=0)
    assert len(read_clip(result)[0]) == 1
    assert sound_of(result)
    with pytest.raises(InputError, match="ends at 1"):
        restyle(source, "late.mkv", start=3)


@pytest.mark.parametrize(
    ("repetitions", "plays"), [(None, 1), (0, 0), (1, 2), (3, 4), (65_535, 65_535)]
)
def test_animations_play_as_often_in_both_formats(restyle, tmp_path, repetitions, plays):
    """GIF counts repetitions after the first time, WebP all times; 0 is forever in both."""
    first, *others = map(Image.fromarray, moving(3))
    gif, webp = tmp_path / "in.gif", tmp_path / "in.webp"
    loop = {} if repetitions is None else {"loop": repetitions}
    first.save(gif, save_all=True, append_images=others, duration=100, **loop)
    first.save(webp, save_all=True, append_images=others, duration=100, loop=plays)
    for source in (gif, webp):
        for suffix, wanted in ((".gif", repetitions), (".webp", plays)):
            if source == webp and plays == 65_535 and suffix == ".gif":
                continue  # GIF can repeat once more than WebP can count
            with Image.open(restyle(source, f"{source.suffix[1:]}{suffix}")) as image:
                assert image.info.get("loop") == wanted


def test_transparency_is_laid_on_white_where_there_is_none(restyle, tmp_path):
    clear = Image.new("RGBA", (32, 32), (200, 0, 0, 0))
    clear.save(tmp_path / "in.webp", save_all=True, append_images=[clear.rotate(90)], lossless=True)
    assert read_clip(restyle(tmp_path / "in.webp"))[0][0].min() > 250


def test_a_still_clip_gives_identical_frames(tiny_pipeline):
    for steady in (0.0, 0.85):
        painter = FramePainter(tiny_pipeline, {"prompt": "woodcut"}, tiny_look(), steady)
        still = moving(1)[0]
        first = painter(still)
        assert all(np.array_equal(painter(still.copy()), first) for _ in range(3))
        painter._last = None  # also without its short way for equal frames
        assert np.array_equal(painter(still), first)


def test_strength_0_gives_the_frames_back(tiny_pipeline):
    painter = FramePainter(tiny_pipeline, {"prompt": "woodcut"}, tiny_look(strength=0), 0.85)
    for frame in moving(4):
        assert np.array_equal(painter(frame), frame)


def test_a_cut_begins_anew(tiny_pipeline):
    one, other = moving(2), [255 - frame[::-1] for frame in moving(2)]
    painter = FramePainter(tiny_pipeline, {"prompt": "woodcut"}, tiny_look(), 0.85)
    alone = FramePainter(tiny_pipeline, {"prompt": "woodcut"}, tiny_look(), 0.85)
    for frame in one:
        painter(frame)
    for frame in other:
        assert np.array_equal(painter(frame), alone(frame))


def test_frames_of_a_scene_do_not_begin_anew(tiny_pipeline):
    frames = moving(2)
    painter = FramePainter(tiny_pipeline, {"prompt": "woodcut"}, tiny_look(), 0.85)
    alone = FramePainter(tiny_pipeline, {"prompt": "woodcut"}, tiny_look(), 0.85)
    painter(frames[0])
    assert not np.array_equal(painter(frames[1]), alone(frames[1]))


@pytest.mark.parametrize(("steady", "most"), [(0.9, 6), (0.0, 10)])
def test_the_network_rests_where_motion_is_enough(tiny_pipeline, steady, most):
    runs = []
    hook = tiny_pipeline.stylizer.register_forward_hook(lambda *_: runs.append(1))
    painter = FramePainter(tiny_pipeline, {"prompt": "woodcut"}, tiny_look(), steady)
    frames = [np.roll(moving(1, 320, 192)[0], turn, axis=0) for turn in range(10)]
    for frame in frames:
        painter(frame)
    hook.remove()
    assert 5 <= len(runs) <= most  # it never rests for two frames in a row
    assert steady or len(runs) == most


def test_tiles_follow_the_scene_too(tiny_pipeline):
    frames = moving(3, 320, 48)
    look = tiny_look(tile=128)
    painter = FramePainter(tiny_pipeline, {"prompt": "woodcut"}, look, 0.01)
    alone = FramePainter(tiny_pipeline, {"prompt": "woodcut"}, look, 0.01)
    for each in (painter, alone):
        each._steadier.carried = lambda: None  # the network runs for every frame
    painter(frames[0])
    assert not np.array_equal(painter(frames[2]), alone(frames[2]))
    assert difference(painter(frames[1]), alone(frames[1])) < 8


def test_the_pipeline_is_left_as_it_was(tiny_pipeline, photo):
    before = np.asarray(tiny_pipeline(photo, prompt="woodcut").images[0])
    FramePainter(tiny_pipeline, {"prompt": "woodcut"}, tiny_look(), 0.85)(moving(1)[0])
    assert np.array_equal(np.asarray(tiny_pipeline(photo, prompt="woodcut").images[0]), before)


def tiny_look(**options):
    from clipmamba.pipelines import StylizeOptions

    return StylizeOptions(**options)


def test_broken_frames_are_reported_and_left_out(tiny_pipeline, tmp_path, caplog):
    source = write_clip(tmp_path / "in.mkv", moving(6), codec="mjpeg", pix_fmt="yuvj420p")
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    at = data.find(packets[2])
    data[at : at + len(packets[2])] = b"\x00" * len(packets[2])
    source.write_bytes(data)
    report = stylize_video(source, tmp_path / "out.mp4", "woodcut", pipeline=tiny_pipeline)
    assert (report.frames, report.broken) == (5, 1)
    assert "skipping such frames" in caplog.text
    times = read_clip(tmp_path / "out.mp4")[1]
    assert times == [Fraction(index, 10) for index in (0, 1, 3, 4, 5)]


@pytest.mark.parametrize("name", ["in.mkv", "in.mp4", "in.avi"])
def test_a_cut_off_file_gives_what_is_there_and_says_it(tiny_pipeline, tmp_path, caplog, name):
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    whole = write_clip(tmp_path / f"whole{name[2:]}", moving(40, 160, 120), codec=codec)
    source = remux(tmp_path / name, [whole], first=True)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    report = stylize_video(source, tmp_path / "out.mp4", "woodcut", pipeline=tiny_pipeline)
    assert 10 < report.frames < 32
    assert report.frames + report.broken == pytest.approx(40, abs=5)
    assert len(read_clip(tmp_path / "out.mp4")[0]) == report.frames
    assert caplog.text.count("is cut off: it ends at") == 1
    assert "of 4.00 s" in caplog.text


def test_a_part_that_is_there_is_whole_though_the_file_is_cut_off(restyle, tmp_path, caplog):
    source = write_clip(tmp_path / "in.mkv", moving(40))
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    assert len(read_clip(restyle(source, end=1))[0]) == 10
    assert not caplog.records


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.gif", "out.webp"])
def test_an_interruption_leaves_a_playable_file(tiny_pipeline, tmp_path, name):
    source = write_clip(
        tmp_path / "in.mp4", moving(8), sound="aac" if name.endswith(("mp4", "mkv")) else None
    )

    def interrupt(count, total):
        assert not (tmp_path / name).exists()  # a temporary name until it is whole
        if count == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stylize_video(
            source, tmp_path / name, "woodcut", pipeline=tiny_pipeline, callback=interrupt
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", name]
    played = animation(tmp_path / name) if name[-1] in "fp" else read_clip(tmp_path / name)
    assert len(played[0]) == 3


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_part_does_not_replace_an_earlier_file(tiny_pipeline, tmp_path, caplog, failure):
    source = write_clip(tmp_path / "in.mp4", moving(4))
    (tmp_path / "out.mp4").write_bytes(b"old")

    def fail(count, total):
        if count == 2:
            raise failure

    with pytest.raises(failure):
        stylize_video(
            source, tmp_path / "out.mp4", "woodcut", pipeline=tiny_pipeline, callback=fail,
            overwrite=True,
        )  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"old"
    said = "out.mp4 is still the earlier file" in caplog.text
    assert said == (failure is KeyboardInterrupt)


def test_pixel_art_has_whole_blocks_in_every_frame(tiny_pipeline):
    painter = FramePainter(tiny_pipeline, {"prompt": "pixel art"}, tiny_look(), 0.85)
    for frame in moving(3, 288, 96):
        made = painter(frame).astype(int).reshape(32, 3, 96, 3, 3)
        assert (made == made[:, :1, :, :1]).all()


def test_a_frame_that_does_not_fit_in_memory_is_said(tiny_pipeline, monkeypatch):
    def run_out(*_, **__):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(type(tiny_pipeline), "__call__", run_out)
    painter = FramePainter(tiny_pipeline, {"prompt": "woodcut"}, tiny_look(), 0.85)
    with pytest.raises(InputError, match="a frame of 48 x 32 pixels does not fit in memory"):
        painter(moving(1)[0])


def test_a_file_that_appears_meanwhile_is_not_replaced(tiny_pipeline, tmp_path):
    source = write_clip(tmp_path / "in.mkv", moving(4))
    target = tmp_path / "out.mp4"

    def another_run(*_: object) -> None:
        target.write_bytes(b"another run's")

    with pytest.raises(InputError, match="exists already"):
        stylize_video(source, target, "x", pipeline=tiny_pipeline, callback=another_run)
    assert target.read_bytes() == b"another run's"
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv", "out.mp4"}


def test_progress_knows_the_number_of_frames(tiny_pipeline, tmp_path):
    source = write_clip(tmp_path / "in.mp4", moving(6))
    seen = []
    stylize_video(
        source, tmp_path / "out.mp4", "woodcut", pipeline=tiny_pipeline,
        callback=lambda *state: seen.append(state),
    )  # fmt: skip
    assert seen == [(count, 6) for count in range(1, 7)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": -1}, "start"), ({"start": 2, "end": 1}, "end"), ({"fps": 0}, "fps"),
        ({"steady": 1}, "steady"), ({"codec": "divx"}, "unknown codec"), ({"quality": 99}, "51"),
        ({"codec": "vp9"}, r"\.webm"), ({"variants": 2}, "seed"), ({"name": "out.avi"}, r"\.mp4"),
        ({"name": "out.gif", "codec": "h264"}, "leave out the codec"),
        ({"name": "out.webp", "quality": 40}, "leave out the quality"),
        ({"start": "1:05"}, "start must be a number"), ({"start": None}, "start must"),
        ({"end": "0.2"}, "end must"), ({"end": math.inf}, "end must"),
        ({"fps": "10"}, "fps must"), ({"steady": True}, "steady"),
        ({"codec": ["h264"]}, "unknown codec"), ({"quality": True}, "quality must"),
        ({"quality": 18.5}, "quality must"), ({"sound": "no"}, "sound must"),
        ({"name": "none/out.mp4"}, "folder"), ({"name": "in.mp4"}, "exists"),
        ({"name": "in.mp4", "overwrite": True}, "itself"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_before_the_work(restyle, tmp_path, options, message):
    source = write_clip(tmp_path / "in.mp4", moving(1))
    before = source.read_bytes()
    with pytest.raises(InputError, match=message):
        restyle(source, **options)
    assert source.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_numbers_of_numpy_are_numbers(restyle, tmp_path):
    source = write_clip(tmp_path / "in.mp4", moving(6))
    result = restyle(source, start=np.float32(0.25), end=np.float64(0.45), fps=np.float32(10))
    assert len(read_clip(result)[0]) == 2


@pytest.mark.parametrize("content", [None, b"", b"no video at all"])
def test_what_is_no_video_is_said(restyle, tmp_path, content):
    if content is not None:
        (tmp_path / "in.mp4").write_bytes(content)
    with pytest.raises(InputError, match=r"in\.mp4"):
        restyle(tmp_path / "in.mp4")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_no_video(restyle, tmp_path):
    os.mkfifo(tmp_path / "in.mp4")
    with pytest.raises(InputError, match="a video must be a file"):
        restyle(tmp_path / "in.mp4")
    with pytest.raises(InputError, match="can't come from standard input"):
        restyle(Path("-"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("mask", r"stylize_video\(\) has no keyword 'mask'; use one of .*max_size"),
        ("max_sise", "did you mean max_size"), ("codek", "did you mean codec"),
    ],
)  # fmt: skip
def test_a_wrong_keyword_is_said_by_the_functions_own_name(tmp_path, wrong, message):
    with pytest.raises(TypeError, match=message):
        stylize_video(tmp_path / "in.mp4", tmp_path / "out.mp4", "woodcut", **{wrong: 1})


def test_words_can_be_given_as_prompt(tiny_pipeline, tmp_path):
    source = write_clip(tmp_path / "in.mp4", moving(2))
    made = []
    for number, words in enumerate([{"text": "woodcut"}, {"prompt": "woodcut"}]):
        target = tmp_path / f"{number}.mkv"
        stylize_video(source, target, pipeline=tiny_pipeline, codec="ffv1", **words)
        made.append(read_clip(target)[0])
    assert np.array_equal(*made)
    with pytest.raises(InputError, match="text and prompt"):
        stylize_video(source, tmp_path / "2.mkv", "woodcut", prompt="woodcut")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux only")
def test_memory_does_not_grow_with_the_length(tiny_pipeline, tmp_path):
    count, width, height = 400, 512, 384
    source = write_clip(tmp_path / "in.mkv", [moving(1, width, height)[0]] * count)
    pages = []
    stylize_video(
        source, tmp_path / "out.mp4", "woodcut", pipeline=tiny_pipeline, strength=0,
        callback=lambda *_: pages.append(int(Path("/proc/self/statm").read_text().split()[1])),
    )  # fmt: skip
    assert len(pages) == count
    grown = (pages[-1] - pages[count // 2]) * 4096  # the encoder's own look-ahead is full by then
    assert grown < count // 2 * width * height * 3 / 2

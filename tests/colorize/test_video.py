"""Clips: size, time and sound as they were; colors that stay steady, and end with a scene."""

import contextlib
import os
import struct
import sys
import wave
from collections import Counter
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from conftest import Constant, blobs
from PIL import Image

from colorlib.colorize import Colorizer, SteadyColors, colorize_video, is_video, video
from colorlib.colorize.export import NOTE
from colorlib.colorize.video import VIDEO_SUFFIXES
from colorlib.config import Config
from colorlib.photo import PhotoError

COLORIZER = Colorizer(Constant(0.1, -0.1), Config(width=4, depth=4, image_size=16), "float32")


GRAYS = [np.full((48, 64, 3), 60 + 20 * number, np.uint8) for number in range(6)]


def make_clip(path, codec="libx264", sound="aac", rate=48000, pictures=GRAYS, **options):
    """A clip of pictures, 10 a second, by default six whose gray changes, with a beep."""
    with av.open(path, "w") as out:
        shown = out.add_stream(codec, 10, options)
        shown.width, shown.height = pictures[0].shape[1::-1]
        shown.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        heard = out.add_stream(sound, rate, layout="mono") if sound else None
        for picture in pictures:
            out.mux(shown.encode(av.VideoFrame.from_ndarray(picture)))
        out.mux(shown.encode())
        if heard:
            beep = av.AudioFrame.from_ndarray(np.zeros((1, rate * 6 // 10), np.int16), "s16", "mono")
            beep.sample_rate, beep.pts, beep.time_base = rate, 0, Fraction(1, rate)
            out.mux([*heard.encode(beep), *heard.encode()])
    return path


def read_clip(path):
    """The frames of a clip, their times in seconds, and the codec of its sound."""
    with av.open(path) as film:
        sound = [stream.codec_context.name for stream in film.streams.audio]
        frames = list(film.decode(video=0))
    return [frame.to_ndarray(format="rgb24") for frame in frames], [float(frame.time) for frame in frames], sound


@pytest.mark.parametrize(
    ("name", "codec", "sound", "kept"),
    [("a.mp4", "libx264", "aac", "aac"), ("a.webm", "libvpx-vp9", "libopus", "opus"), ("a.avi", "mpeg4", "mp2", "aac"),
     ("a.mkv", "libx264", None, None), ("a.mov", "libx264", "aac", "aac")],
)  # fmt: skip
def test_a_clip_keeps_size_times_and_sound(tmp_path, capsys, name, codec, sound, kept):
    path, seen = make_clip(tmp_path / name, codec, sound), []
    assert is_video(path)
    out = colorize_video(path, tmp_path / "out.mp4", COLORIZER, on_frame=lambda *count: seen.append(count))
    frames, times, codecs = read_clip(out)
    assert len(frames) == 6 and frames[0].shape == (48, 64, 3) and codecs == [kept] * bool(kept)
    assert np.allclose(times, read_clip(path)[1], atol=2e-3) and seen[-1] == (6, 6) and "6/6" in capsys.readouterr().err
    expected = COLORIZER.colorize(read_clip(path)[0][3])
    assert np.abs(frames[3].astype(int) - expected).mean() < 6, "the colors of the photo, but for H.264"
    with av.open(out) as film:
        assert film.streams.video[0].codec_context.name == "h264" and film.streams.video[0].pix_fmt == "yuv420p"


def test_an_animated_gif_of_odd_size_is_a_clip(tmp_path):
    pictures = [Image.fromarray(blobs(number)).resize((31, 21)) for number in range(3)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[100, 300, 2000])
    pictures[0].save(tmp_path / "still.gif")
    assert is_video(tmp_path / "a.gif") and not is_video(tmp_path / "still.gif") and not is_video("a.jpg")
    frames, times, _ = read_clip(colorize_video(tmp_path / "a.gif", tmp_path / "a.mp4", COLORIZER, progress=False))
    assert [frame.shape for frame in frames] == [(20, 30, 3)] * 3 and times == pytest.approx([0, 0.1, 0.4])
    with av.open(tmp_path / "a.mp4") as film:
        assert film.duration / 1e6 == pytest.approx(2.4, abs=0.01), "the pause at the end, too"


def test_times_that_go_back_and_a_sound_that_mp4_lacks(tmp_path):
    path = make_clip(tmp_path / "a.avi", "libx264", "pcm_s16le", 22254)  # an AVI gives H.264's times in another order
    out = colorize_video(path, tmp_path / "a.mp4", COLORIZER, progress=False)
    frames, times, sound = read_clip(out)
    assert len(frames) == 6 and (np.diff(times) > 0).all() and sound == ["aac"]
    with av.open(out) as film:
        assert film.metadata["comment"] == NOTE and film.streams.audio[0].channels == 1, "as loud as it was"


def test_damaged_frames_are_left_out_and_counted(tmp_path):
    path = make_clip(tmp_path / "a.webm", "libvpx-vp9", None)
    with av.open(path) as film:
        spoilt = bytes(list(film.demux(video=0))[3])
    path.write_bytes(path.read_bytes().replace(spoilt, bytes(len(spoilt))))
    with pytest.warns(UserWarning, match=r"a\.webm: 1 damaged packets were left out"):
        out = colorize_video(path, tmp_path / "a.mp4", COLORIZER, progress=False)
    assert len(read_clip(out)[0]) == 5


def spoil(path, *numbers):
    """Overwrite packets of a clip's picture with zeros."""
    with av.open(path) as film:
        packets = [bytes(packet) for packet in film.demux(video=0)]
    content = path.read_bytes()
    for number in numbers:
        content = content.replace(packets[number], bytes(len(packets[number])))
    path.write_bytes(content)
    return path


def notes_on(path, **options):
    """Color a clip; return the result and what is said about it."""
    notes = []
    target = path.with_name(f"colored-{path.stem}.mp4")
    out = colorize_video(path, target, COLORIZER, progress=False, on_note=notes.append, **options)
    return out, notes


@pytest.mark.parametrize("restore", [False, True])
def test_damage_at_the_beginning_is_survived_too(tmp_path, restore):
    path = spoil(make_clip(tmp_path / "a.webm", "libvpx-vp9", None, g="1"), 0, 1)
    out, notes = notes_on(path, restore=restore)
    assert len(read_clip(out)[0]) == 4 and notes == ["a.webm: 2 damaged packets were left out"]
    spoil(path, *range(6))
    with pytest.raises(PhotoError, match=r"a\.webm: broken, or no clip: none of its frames"):
        notes_on(path)


@pytest.mark.parametrize(("name", "share"), [("a.mkv", 0.7), ("a.avi", 0.8), ("a.flv", 0.6)])
def test_half_a_clip_is_not_called_whole(tmp_path, monkeypatch, name, share):
    monkeypatch.setattr(video, "OFF", 0.2)
    codec = "flv" if name == "a.flv" else "mpeg4"
    pictures = [blobs(number, 48, 64) for number in range(12)]
    path = make_clip(tmp_path / name, codec, None, pictures=pictures)
    assert notes_on(path)[1] == []
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    out, notes = notes_on(path)
    count = len(read_clip(out)[0])
    assert 2 < count < 10
    if name == "a.avi":  # this format tells their number
        assert f"a.avi: {count} of 12 frames could be decoded" in notes
    assert f"its frames last {count / 10} s, its file says 1." in notes[-1]


def test_what_can_be_read_before_an_error_is_colored(tmp_path, monkeypatch):
    path, opened = make_clip(tmp_path / "a.mkv", "libx264", None), video._open

    @contextlib.contextmanager
    def open_damaged(src):
        def demux(streams):
            yield from list(film.demux(streams))[:4]
            raise av.FFmpegError(5, "Input/output error")

        with opened(src) as film:
            names = ("streams", "start_time", "duration", "name", "metadata")
            yield SimpleNamespace(demux=demux, **{name: getattr(film, name) for name in names})

    monkeypatch.setattr(video, "_open", open_damaged)
    out, notes = notes_on(path)
    assert len(read_clip(out)[0]) == 4, "those that the decoder held back, too"
    assert notes == ["a.mkv: it cannot be read up to its end"]


@pytest.mark.parametrize("error", [AttributeError("x"), KeyError("x"), IndexError("x"), av.FFmpegError(1, "x")])
def test_errors_of_others_are_not_called_a_broken_clip(tmp_path, error):
    """Neither those of the caller's function nor those of the network, and nothing is left of the file."""

    def fail(*values, **options):
        raise error

    clip = make_clip(tmp_path / "a.mp4", sound=None)
    network = SimpleNamespace(predict=fail)
    for colorizer, on_frame in ((COLORIZER, fail), (network, None)):
        with pytest.raises(type(error)) as caught:
            colorize_video(clip, tmp_path / "out.mp4", colorizer, progress=False, on_frame=on_frame)
        assert caught.value is error
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_a_full_disk_ends_in_words(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def full(path):
        yield Path("/dev/full")

    if not Path("/dev/full").exists():
        pytest.skip("this system has no disk that is always full")
    monkeypatch.setattr(video, "replacing", full)
    with pytest.raises(PhotoError, match=r"a\.mp4: No space left on device"):
        notes_on(make_clip(tmp_path / "a.mp4"))


def test_a_disk_that_fills_up_at_a_sound_is_no_damaged_packet(tmp_path):
    def mux(packet):
        raise av.error.OSError(28, "No space left on device")

    with av.open(make_clip(tmp_path / "a.mp4")) as film:
        pass_on = {film.streams.audio[0]: lambda packet: [packet]}
        with pytest.raises(PhotoError, match=r"a\.mp4: No space left on device"):
            list(video._decode(film, pass_on, Counter(), SimpleNamespace(mux=mux)))


def test_a_colon_in_a_name_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "12:30:05.mp4", sound=None)
    out = colorize_video("12:30:05.mp4", "out:put.mp4", COLORIZER, progress=False)
    assert str(out) == "out:put.mp4" and len(read_clip(tmp_path / out)[0]) == 6


def boxes(content):
    """The boxes that MP4 consists of: their kinds and the whole of each."""
    found, start = [], 0
    while start < len(content):
        size = struct.unpack_from(">I", content, start)[0]
        found.append((content[start + 4 : start + 8], content[start : start + size]))
        start += size
    return found


def test_a_cover_picture_before_the_clip_is_not_taken_for_it(tmp_path):
    path = make_clip(tmp_path / "a.mp4", sound=None)
    cover = make_clip(tmp_path / "cover.avi", "mjpeg", None, pictures=GRAYS[:1])
    with av.open(cover) as film:
        jpeg = bytes(next(film.demux(video=0)))

    def box(kind, *parts):
        content = b"".join(parts)
        return struct.pack(">I", 8 + len(content)) + kind + content

    covr = box(b"covr", box(b"data", struct.pack(">II", 13, 0), jpeg))
    hdlr = box(b"hdlr", bytes(8), b"mdirappl", bytes(9))
    udta = box(b"udta", box(b"meta", bytes(4), hdlr, box(b"ilst", covr)))
    moov = dict(boxes(path.read_bytes()))[b"moov"]
    # the clip's pixels lie before this box: they stay where they are
    path.write_bytes(path.read_bytes().replace(moov, box(b"moov", udta, moov[8:])))
    with av.open(path) as film:
        assert [stream.codec_context.name for stream in film.streams] == ["mjpeg", "h264"]
    out, notes = notes_on(path)
    assert len(read_clip(out)[0]) == 6 and notes == []


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_clip_that_a_phone_has_turned(tmp_path, turn):
    """Its pixels' aspect is not stated: it is 1."""
    picture = np.full((48, 64, 3), 40, np.uint8)
    picture[:16, :16] = 220  # top left
    path = make_clip(tmp_path / "a.mp4", sound=None, pictures=[picture] * 2)
    a, b = {0: (1, 0), 90: (0, -1), 180: (-1, 0), 270: (0, 1)}[turn]
    before, after = (
        struct.pack(">9i", *(65536 * value for value in (a, b, 0, -b, a, 0, 0, 0)), 2**30) for a, b in ((1, 0), (a, b))
    )
    start = path.read_bytes().rindex(before)  # the track's; that of the film comes before it
    content = path.read_bytes()
    path.write_bytes(content[:start] + after + content[start + len(after) :])
    frame = read_clip(notes_on(path)[0])[0][0]
    assert frame.shape[:2] == ((64, 48) if turn % 180 else (48, 64))
    turned = np.rot90(picture[..., 0], turn // 90) > 128
    assert np.array_equal(frame[4::8, 4::8].mean(2) > 128, turned[4::8, 4::8])


def test_a_clip_keeps_what_it_says_about_itself_and_its_other_sounds(tmp_path):
    said = {"title": "Tür", "date": "1931", "artist": "A. B.", "comment": "Found in an attic."}
    with av.open(tmp_path / "a.mkv", "w") as out:
        out.metadata.update(said)
        shown = out.add_stream("libx264", 10)
        shown.width, shown.height, shown.pix_fmt = 64, 48, "yuv420p"
        sounds = [out.add_stream(codec, 48000, layout="mono") for codec in ("aac", "mp2")]
        for heard, language in zip(sounds, ("deu", "fra"), strict=True):
            heard.metadata.update(language=language, title=f"in {language}")
        out.mux([*shown.encode(av.VideoFrame.from_ndarray(GRAYS[0])), *shown.encode()])
        for heard in sounds:
            beep = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), "s16", "mono")
            beep.sample_rate, beep.pts, beep.time_base = 48000, 0, Fraction(1, 48000)
            out.mux([*heard.encode(beep), *heard.encode()])
    with av.open(notes_on(tmp_path / "a.mkv")[0]) as film:
        assert {key: film.metadata[key] for key in said} == said | {"comment": f"{said['comment']} {NOTE}"}
        assert [sound.language for sound in film.streams.audio] == ["deu", "fra"]
        titles = [sound.metadata.get("name") for sound in film.streams.audio]
        assert titles in (["in deu", "in fra"], [None, None]), "an old FFmpeg cannot write them"
        assert [sound.codec_context.name for sound in film.streams.audio] == ["aac", "aac"]
    again, _ = notes_on(tmp_path / "colored-a.mp4")
    with av.open(again) as film:
        assert film.metadata["comment"].count(NOTE) == 1, "not once more for each time"
        assert film.streams.audio[1].metadata.get("name") == titles[1]


def test_a_sound_may_change_its_channels_on_the_way(tmp_path):
    with av.open(make_clip(tmp_path / "a.avi", "mpeg4", "mp2")) as film, av.open(tmp_path / "a.mp4", "w") as out:
        pass_on = video._add_sound(out, film.streams.audio[0])
        kinds = ("mono", 48000), ("5.1", 48000), ("stereo", 44100), ("mono", 48000)
        for number, (layout, rate) in enumerate(kinds):
            channels = av.AudioLayout(layout).nb_channels
            frame = av.AudioFrame.from_ndarray(np.zeros((channels, rate // 10), np.float32), "fltp", layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, number * rate // 10, Fraction(1, rate)
            out.mux(pass_on(SimpleNamespace(decode=lambda frame=frame: [frame], size=1)))
        out.mux(pass_on(SimpleNamespace(decode=list, size=0)))
    with av.open(tmp_path / "a.mp4") as film:
        assert sum(frame.samples for frame in film.decode(audio=0)) == pytest.approx(0.4 * 48000, abs=2048)


def test_what_the_result_cannot_show_is_said(tmp_path):
    interlaced = make_clip(tmp_path / "i.mp4", sound=None, **{"x264-params": "tff=1"})
    bright = make_clip(tmp_path / "h.mp4", sound=None, **{"x264-params": "transfer=smpte2084"})
    assert notes_on(interlaced)[1] == ["i.mp4: it is interlaced: where it moves, edges look like combs"]
    assert notes_on(bright)[1] == ["h.mp4: it is HDR, the result is not: it may look flat"]


# of PyAV's, whose suffixes are of clips; and what has them, but is something else
CONTAINERS = (
    "mp4",
    "mov",
    "3gp",
    "3g2",
    "f4v",
    "matroska",
    "webm",
    "avi",
    "mpeg",
    "vob",
    "mpegts",
    "asf",
    "flv",
    "ogv",
)
NO_CLIPS = {  # sound, pictures, subtitles; a clip's pieces; what Sony's PSP and JPEG 2000's cameras wrote
    ".m4a", ".m4b", ".mka", ".wma", ".mks", ".heic", ".heif", ".avif",
    ".ism", ".isma", ".ismv", ".mj2", ".mk3d", ".psp",
}  # fmt: skip


def test_the_list_of_suffixes_is_that_of_pyav():
    known = {".m4v"}  # of PyAV's "ipod"
    for name in CONTAINERS:
        for mode in "rw":
            with contextlib.suppress(ValueError):
                known |= {f".{suffix}" for suffix in av.format.ContainerFormat(name, mode).extensions}
    assert sorted(VIDEO_SUFFIXES) == sorted(known - NO_CLIPS)


@pytest.mark.parametrize("suffix", [*VIDEO_SUFFIXES])
def test_all_suffixes_of_clips_are_colored_from_time_0_on(tmp_path, suffix):
    codecs = {
        ".webm": "libvpx",
        ".avi": "mpeg4",
        ".ogv": "libvpx",
        ".flv": "flv",
        ".wmv": "wmv2",
        ".asf": "wmv2",
        ".vob": "mpeg2video",
    }
    codecs |= dict.fromkeys((".mpg", ".mpeg", ".ts", ".m2t", ".mts", ".m2ts"), "mpeg2video")
    pictures = [blobs(number, 48, 64) for number in range(3)]
    path = make_clip(tmp_path / f"a{suffix}", codecs.get(suffix, "libx264"), None, pictures=pictures)
    assert is_video(path) and is_video(path.rename(path.with_suffix(suffix.upper())))
    out, notes = notes_on(path.with_suffix(suffix.upper()))
    assert read_clip(out)[1] == pytest.approx([0, 0.1, 0.2], abs=2e-3) and notes == []


@pytest.mark.parametrize("name", ["a.ts", "a.mts"])
def test_typescript_is_no_clip(tmp_path, name):
    (tmp_path / name).write_text("Greet(): void;\n" * 99)
    assert not is_video(tmp_path / name)
    assert is_video(tmp_path / f"none-{name}"), "what is not there is told by its suffix"


def test_clips_of_phones_are_turned(tmp_path):
    rgb = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    frame = SimpleNamespace(width=6, height=5, rotation=-90, to_ndarray=lambda **_: rgb)
    assert np.array_equal(video._upright(frame, frame), np.rot90(rgb, -1)[:, :4])
    moving = SimpleNamespace(average_rate=10, time_base=Fraction(1, 10), sample_aspect_ratio=Fraction(4, 3))
    with av.open(tmp_path / "a.mp4", "w") as out:
        shown = video._add_picture(out, moving, frame)
        assert (shown.width, shown.height) == (4, 6)
        assert shown.codec_context.sample_aspect_ratio == Fraction(3, 4), "a pixel is turned, too"


def test_an_interrupt_leaves_what_was_there(tmp_path):
    path, out = make_clip(tmp_path / "a.mp4"), tmp_path / "out" / "a.mp4"
    out.parent.mkdir()
    out.write_bytes(b"before")

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        colorize_video(path, out, COLORIZER, progress=False, on_frame=stop)
    assert out.read_bytes() == b"before" and list(out.parent.iterdir()) == [out]


def test_what_cannot_be_colored_is_said(tmp_path, monkeypatch):
    clip = make_clip(tmp_path / "a.mp4")
    (tmp_path / "half.mp4").write_bytes(clip.read_bytes()[:500])
    with wave.open(str(tmp_path / "b.mp4"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    thin = [Image.new("RGB", (1, 9), color) for color in ("red", "blue")]
    thin[0].save(tmp_path / "thin.gif", save_all=True, append_images=thin[1:])
    for source, options, words in (
        ("half.mp4", {}, "half.mp4: "), ("b.mp4", {}, "b.mp4: broken, or no clip"),
        ("thin.gif", {}, "thin.gif: it is 1×9 px"),
        ("none.mp4", {}, "no clip"), ("a.mp4", {"steadiness": 1}, "steadiness must be"),
        ("a.mp4", {"hints": [1]}, "a clip moves"), ("a.mp4", {"vividness": 2}, "vividness must be"),
    ):  # fmt: skip
        with pytest.raises((ValueError, OSError), match=words):
            colorize_video(tmp_path / source, tmp_path / "out.mp4", COLORIZER, progress=False, **options)
    with pytest.raises(ValueError, match=r"saved as \.mp4"):
        colorize_video(clip, tmp_path / "out.avi", COLORIZER)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install av$"):
        colorize_video(clip, tmp_path / "out.mp4", COLORIZER)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4", "half.mp4", "thin.gif"]


def scene(seed: int, shift: int) -> torch.Tensor:
    """Smooth L (1, 1, 32, 32) that moves to the left as `shift` grows."""
    noise = torch.rand(1, 1, 8, 12, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(noise, (64, 96), mode="bicubic").clamp(-1, 1)[..., 16:48, shift : shift + 32]


def test_colors_move_with_the_picture_and_end_with_a_scene():
    steady = SteadyColors(0.8)
    mark = torch.zeros(1, 2, 32, 32)
    mark[:, :, 8:24, 16:24] = 0.5
    assert steady(scene(0, 0), mark) is mark, "nothing came before"
    moved = steady(scene(0, 2), torch.zeros_like(mark))
    assert moved[0, 0, 10:22, 15:21].mean() > 0.3, "most of the color, two pixels to the left"
    assert moved[0, 0, 10:22, 23:].abs().max() < 0.1, "and no longer where it was"
    assert steady(scene(1, 0), torch.zeros_like(mark)).abs().max() == 0, "another scene begins anew"
    alone = SteadyColors(0)
    alone(scene(0, 0), mark)
    assert alone(scene(0, 0), torch.zeros_like(mark)).abs().max() == 0


def test_still_parts_do_not_jump_when_something_bright_comes_in(tmp_path):
    """A faded scene, which fades in from black, gets one stretch; another scene gets one of its own."""

    def faded(seed, low, high):
        noise = scene(seed, 0)[0, 0].repeat_interleave(2, 0).repeat_interleave(2, 1).numpy()
        gray = low + (high - low) * (noise - noise.min()) / np.ptp(noise)
        return np.repeat(gray.round().astype(np.uint8)[..., None], 3, axis=2)

    first, second = faded(0, 80, 140), faded(1, 120, 200)
    lit = first.copy()
    lit[:, 48:] = 250
    pictures = [first // 8, first // 4, first // 2, first, first, lit, lit, second, second]
    path = make_clip(tmp_path / "a.mkv", "libx264", None, pictures=pictures, qp="0")
    gray = Colorizer(Constant(0.0, 0.0), Config(width=4, depth=4, image_size=16), "float32")
    out = colorize_video(path, tmp_path / "a.mp4", gray, progress=False, restore=True)
    frames = [frame[:, :40].astype(int) for frame in read_clip(out)[0]]
    assert np.abs(frames[5] - frames[4]).mean() < 3 and np.abs(frames[4] - frames[3]).mean() < 3
    assert frames[4].min() < 15 and np.ptp(frames[8]) > 200

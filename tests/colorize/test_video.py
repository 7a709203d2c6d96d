"""Clips: size, time and sound as they were; colors that stay steady, and end with a scene."""

import sys
import wave
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from conftest import Constant, blobs
from PIL import Image

from colorlib.colorize import Colorizer, SteadyColors, colorize_video, is_video, video
from colorlib.colorize.export import NOTE
from colorlib.config import Config

COLORIZER = Colorizer(Constant(0.1, -0.1), Config(width=4, depth=4, image_size=16), "float32")


def make_clip(path, codec="libx264", sound="aac", rate=48000):
    """A clip of six frames, 10 a second, whose gray changes from frame to frame, with a beep."""
    with av.open(path, "w") as out:
        shown = out.add_stream(codec, 10)
        shown.width, shown.height, shown.pix_fmt = 64, 48, "yuv420p"
        heard = out.add_stream(sound, rate, layout="mono") if sound else None
        for number in range(6):
            picture = np.full((48, 64, 3), 60 + 20 * number, np.uint8)
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
    with pytest.raises(ModuleNotFoundError, match=r"pip install '\.\[video\]'"):
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

"""The benchmark of clips: its flicker, by hand, and that it runs."""

import numpy as np
import pytest
from conftest import blobs

from benchmarks import video


def test_flicker_of_known_clips(monkeypatch):
    monkeypatch.setattr(video, "FRAMES", 4)
    photo = np.kron(blobs(0), np.ones((8, 8, 1), np.uint8))
    true, seen = video.make_clip(photo, video.MOTIONS["pan"])
    assert len(true) == 4 and all(np.array_equal(*pair) for pair in zip(true, seen, strict=True))
    steady = video.flicker(true, photo, video.MOTIONS["pan"])
    gray = [np.repeat(frame[..., :1], 3, axis=2) for frame in true]
    red = [np.maximum(frame, np.uint8([200, 0, 0]) * (number % 2)) for number, frame in enumerate(gray)]
    assert video.flicker(gray, photo, video.MOTIONS["pan"]) < 0.01 and steady < 3
    assert video.flicker(red, photo, video.MOTIONS["pan"]) > 10
    assert not np.array_equal(*(frames[1] for frames in video.make_clip(photo, video.MOTIONS["pan"], grain=5.0)))


@pytest.mark.slow
def test_everything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(video, "FRAMES", 3)
    table = video.main(["--quick", "--out", str(tmp_path)])
    assert (tmp_path / "video.csv").is_file() and "frames_per_second" in capsys.readouterr().out
    flicker = table.dropna(subset="flicker").set_index(["steadiness", "clip"])["flicker"]
    assert (flicker[0.8] < flicker[0.0]).all()

"""The benchmark of clips: its flicker, by hand, and that it runs."""

import numpy as np
import pytest
from conftest import blobs

from benchmarks import clips


def test_flicker_of_known_clips(monkeypatch):
    monkeypatch.setattr(clips, "FRAMES", 4)
    photo = np.kron(blobs(0), np.ones((8, 8, 1), np.uint8))
    true, seen = clips.make_clip(photo, clips.MOTIONS["pan"])
    assert len(true) == 4 and all(np.array_equal(*pair) for pair in zip(true, seen, strict=True))
    steady = clips.flicker(true, photo, clips.MOTIONS["pan"])
    gray = [np.repeat(frame[..., :1], 3, axis=2) for frame in true]
    red = [np.maximum(frame, np.uint8([200, 0, 0]) * (number % 2)) for number, frame in enumerate(gray)]
    assert clips.flicker(gray, photo, clips.MOTIONS["pan"]) < 0.01 and steady < 3
    assert clips.flicker(red, photo, clips.MOTIONS["pan"]) > 10
    assert not np.array_equal(*(frames[1] for frames in clips.make_clip(photo, clips.MOTIONS["pan"], grain=5.0)))


@pytest.mark.slow
def test_everything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(clips, "FRAMES", 6)
    table = clips.main(["--quick", "--out", str(tmp_path)])
    assert (tmp_path / "clips.csv").is_file() and "frames_per_second" in capsys.readouterr().out
    flicker = table.dropna(subset="flicker").set_index(["steadiness", "clip"])["flicker"]
    assert (flicker[0.85] < flicker[0.0]).all()

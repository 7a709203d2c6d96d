"""Watching a run in a notebook: one picture that is replaced in place."""

import io
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from colorlib.train import epoch_line
from colorlib.ui import TrainingView, training_view


def history_of(val_losses: list[float]) -> pd.DataFrame:
    same = {"train_loss": 0.1, "gray_loss": 0.15, "images_per_second": 123.4, "seconds": 30.0, "memory_gb": 1.26}
    return pd.DataFrame({"epoch": range(1, len(val_losses) + 1), "val_loss": val_losses} | same)


@pytest.fixture
def display(monkeypatch) -> Mock:
    """Stands for IPython's `display`, which returns a handle that replaces what was shown."""
    monkeypatch.setattr(training_view.ipython, "display", display := Mock())
    return display


@pytest.mark.parametrize("size", [(44, 64), (4000, 1500)])
def test_one_picture_in_place_shows_the_curve_and_below_it_the_whole_sample_picture(display, tmp_path, size):
    """Undistorted and in the middle; a page is no wider than the curve."""
    view = TrainingView(50)
    display.assert_called_once_with(display_id=True)  # its place is taken at once, and it is the only one
    Image.new("RGB", size, (255, 0, 255)).save(tmp_path / "sample.png")
    for epochs in (1, 50):
        view(history_of([0.3 / (n + 1) for n in range(epochs)]), tmp_path / "sample.png")
    images = [call.args[0] for call in display.return_value.update.call_args_list]
    first, second = (np.asarray(Image.open(io.BytesIO(image.data)).convert("RGB")).astype(int) for image in images)
    assert display.call_count == 1 and first.shape == second.shape == (images[0].height, images[1].width, 3)
    left, top, right, bottom = Image.fromarray((np.abs(second - [255, 0, 255]) < 3).all(axis=2)).getbbox()
    assert (right - left) / (bottom - top) == pytest.approx(size[0] / size[1], rel=0.03) and right - left > 100
    assert bottom == len(second) and abs((left + right) / 2 - second.shape[1] / 2) <= 1
    assert (first[:top] != second[:top]).any() and (first[top:] == second[top:]).all(), "the curve has grown"


def test_without_a_notebook_the_line_is_printed(tmp_path, capsys):
    history = history_of([0.3, 0.2])
    TrainingView(3)(history, tmp_path / "none.png")
    assert capsys.readouterr().out.strip() == epoch_line(history, 3)

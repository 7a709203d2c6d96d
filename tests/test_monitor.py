"""Watching a run: a line an epoch, and in a notebook one picture that is replaced in place."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Constant
from PIL import Image

from colorlib import monitor
from colorlib.data import ColorizationDataset
from colorlib.model import UNet
from colorlib.monitor import TrainingView, epoch_line, save_some_examples

# --- the line -----------------------------------------------------------------------------------------------


def history_of(val_losses: list[float], seconds: float = 30.0) -> pd.DataFrame:
    count = len(val_losses)
    return pd.DataFrame(
        {
            "epoch": range(1, count + 1), "train_loss": np.linspace(0.125, 0.1, count), "val_loss": val_losses,
            "gray_loss": 0.15, "learning_rate": 1e-3, "images_per_second": 123.4, "seconds": seconds,
            "memory_gb": 1.26,
        }
    )  # fmt: skip


def test_line_of_the_first_epoch():
    line = epoch_line(history_of([0.11114], seconds=40), 10)
    expected = "epoch   1/10  train 0.1250  val 0.1111  (gray 0.1500)  123 img/s  1.3 GB  6:00 min left  best"
    assert line == expected


def test_line_shows_the_newest_epoch():
    line = epoch_line(history_of([0.3, 0.2, 0.25]), 3)
    for part in ("epoch   3/3", "train 0.1000", "val 0.2500", "0:00 min left"):
        assert part in line


@pytest.mark.parametrize(
    ("losses", "best"), [([0.3], True), ([0.3, 0.2], True), ([0.2, 0.3], False), ([0.3, 0.1, 0.2], False)]
)
def test_line_marks_the_best_epoch(losses, best):
    assert epoch_line(history_of(losses), 9).endswith("best") == best


def test_time_left_goes_by_the_mean_epoch():
    history = history_of([0.3, 0.2])
    history["seconds"] = [100.0, 21.0]  # the first one is often slow
    assert "1:00 min left" in epoch_line(history, 3)
    assert "121:00 min left" in epoch_line(history, 122)
    history["seconds"] = [5.0, 5.0]
    assert "0:05 min left" in epoch_line(history, 3)


def test_lines_of_a_run_stand_in_columns():
    lengths = {len(epoch_line(history_of([0.3] * count + [0.4]), 100)) for count in (5, 40, 60)}
    assert len(lengths) == 1


# --- sample pictures ----------------------------------------------------------------------------------------


def test_examples_show_gray_prediction_and_truth(tmp_path, photos, plain_config):
    dataset = ColorizationDataset(photos[:3], plain_config)
    L, ab = (torch.stack([dataset[i][key] for i in range(3)]) for key in ("L", "ab"))
    save_some_examples(Constant(0.3, 0.0), L, ab, tmp_path / "deep" / "a.png")
    picture = np.asarray(Image.open(tmp_path / "deep" / "a.png")).astype(int)
    assert picture.shape == (3 * 20 + 4, 3 * 20 + 4, 3)
    tiles = [[picture[y : y + 16, x : x + 16] for x in (4, 24, 44)] for y in (4, 24, 44)]
    gray, predicted, true = tiles
    for i in range(3):
        assert np.ptp(gray[i], axis=-1).max() <= 1
        assert (predicted[i][..., 0] >= predicted[i][..., 1]).all() and np.ptp(predicted[i], axis=-1).mean() > 20
        photo = dataset.photos[torch.tensor([i])][0].numpy().astype(int)
        assert np.abs(true[i] - photo).max() <= 1
    frame = np.ones(64, dtype=bool)
    frame[[*range(4, 20), *range(24, 40), *range(44, 60)]] = False
    assert (picture[frame] == 255).all() and (picture[:, frame] == 255).all()


def test_examples_come_from_the_network_without_dropout(tmp_path):
    torch.manual_seed(0)
    model, L = UNet(4, 4, dropout=0.9).train(), torch.rand(2, 1, 16, 16)
    for name in ("a", "b"):
        save_some_examples(model, L, torch.zeros(2, 2, 16, 16), tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
    assert all(parameter.grad is None for parameter in model.parameters())


# --- in a notebook ------------------------------------------------------------------------------------------


class Notebook:
    """Stands for IPython: remembers what was displayed, and what replaced it."""

    def __init__(self):
        self.displayed, self.updates = [], []

    def display(self, *objects, display_id=None):
        self.displayed.append((objects, display_id))
        return self

    def update(self, image):
        self.updates.append(image)

    @property
    def pages(self) -> list[np.ndarray]:
        return [np.asarray(Image.open(io.BytesIO(image.data)).convert("RGB")).astype(int) for image in self.updates]


@pytest.fixture
def notebook(monkeypatch):
    notebook = Notebook()
    monkeypatch.setattr(monitor.ipython, "display", notebook.display)
    return notebook


def sample(path, color: tuple[int, int, int], size: tuple[int, int] = (300, 200)):
    Image.new("RGB", size, color).save(path)
    return path


def test_one_picture_is_replaced_in_place(notebook, tmp_path):
    """One display, however many epochs; always of the same size, so that the page below stays where it is."""
    view = TrainingView(50)
    assert notebook.displayed == [((), True)], "its place is taken at once"
    for epochs in (1, 2, 11, 50):
        losses = [0.3 / (epoch + 1) for epoch in range(epochs)]
        view(history_of(losses), sample(tmp_path / "a.png", (5 * epochs, 0, 0)))
    assert len(notebook.displayed) == 1 and len(notebook.updates) == 4
    sizes = {(image.width, image.height) for image in notebook.updates}
    assert len(sizes) == 1
    assert {(page.shape[1], page.shape[0]) for page in notebook.pages} == sizes, "its true size, nothing is scaled"
    mimes = [image._repr_mimebundle_() for image in notebook.updates]
    assert {tuple(sorted(bundle[1]["image/png"])) for bundle in mimes} == {("height", "width")}


@pytest.mark.parametrize("size", [(300, 200), (44, 64), (4000, 1500), (164, 64)])
def test_page_shows_the_curve_and_below_it_the_whole_sample_picture(notebook, tmp_path, size):
    """Undistorted, in the middle, on white; a page is no wider than the curve."""
    view = TrainingView(3)
    view(history_of([0.3, 0.2]), sample(tmp_path / "a.png", (255, 0, 255), size))
    view(history_of([0.3, 0.2, 0.1]), sample(tmp_path / "b.png", (255, 0, 255), size))
    first, second = notebook.pages
    magenta = (np.abs(second - [255, 0, 255]) < 3).all(axis=2)
    rows, columns = np.flatnonzero(magenta.any(axis=1)), np.flatnonzero(magenta.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    assert magenta[top:bottom, left:right].all()
    assert (right - left) / (bottom - top) == pytest.approx(size[0] / size[1], rel=0.03)
    assert bottom == len(second) and abs((left + right) / 2 - second.shape[1] / 2) <= 1
    assert right - left > 100, "large enough to see"
    assert (second[top:, :left] == 255).all() and (second[top:, right:] == 255).all()
    assert (first[:top] != second[:top]).any() and (first[top:] == second[top:]).all(), "the curve has grown"


def test_page_says_what_the_line_says(notebook, tmp_path, monkeypatch):
    figures = []
    original = monitor.plot_history
    monkeypatch.setattr(monitor, "plot_history", lambda history: figures.append(original(history)) or figures[-1])
    history = history_of([0.3, 0.2])
    TrainingView(7)(history, sample(tmp_path / "a.png", (0, 0, 0)))
    texts = [figure.get_suptitle() for figure in figures] + [ax.get_title() for ax in figures[0].axes]
    assert epoch_line(history, 7).strip() in [text.strip() for text in texts]


def test_without_a_notebook_the_line_is_printed(tmp_path, capsys):
    """IPython's own display gives no handle there."""
    view = TrainingView(3)
    history = history_of([0.3, 0.2])
    view(history, tmp_path / "none.png")
    assert capsys.readouterr().out.strip() == epoch_line(history, 3)

"""The figures: the right data, labelled axes, whole files, nothing left behind in pyplot."""

import itertools
import os
import warnings

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image
from skimage import data

from colorlib import plots
from colorlib.color import rgb_to_lab
from colorlib.photo import to_tensor

PHOTO = data.astronaut()[::8, ::8]  # 64×64
GRAY = np.repeat(PHOTO.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
NUMBERS = {"psnr": 21.234, "ssim": 0.9, "rmse": 22.1, "snr": 15.0, "colorfulness": 3.0}
SCORES = {"model": NUMBERS, "gray": NUMBERS | {"psnr": np.inf}}
HISTORY = pd.DataFrame({
    "epoch": range(4), "train_loss": [0.10, 0.09, 0.08, 0.07], "val_loss": [0.11, 0.095, 0.09, 0.1], "gray_loss": 0.105,
})  # fmt: skip
RUNS = pd.DataFrame({  # three runs of two recipes: one clearly ahead, one not
    "row": ["old", "new", "new"], "psnr_gain": [0.1, 0.8, 0.9], "psnr_low": [-0.2, 0.5, 0.6],
    "psnr_high": [0.4, 1.1, 1.2], "rmse_gain": [5, 9, 10], "rmse_low": [4, 8, 9], "rmse_high": [6, 10, 11],
})  # fmt: skip
PANELS = {"psnr": "PSNR over gray (dB)", "rmse": "RMSE"}
EDGES = {"chroma": (0, 5, 150), "hue": range(0, 361, 30), "lightness": (0, 50, 100), "texture": (0, 0.5, 1, 50)}
FAILURES = pd.DataFrame(
    [[by, *edges, 0.1, 12.0, 15.0, 8.0, 0.05] for by, all_ in EDGES.items() for edges in itertools.pairwise(all_)],
    columns=["by", "low", "high", "share", "error", "gray_error", "chroma", "predicted_share"],
)


def table():
    rng = np.random.default_rng(0)
    metrics = pd.DataFrame({"image": [f"{i}.jpg" for i in range(30)] * 2, "method": ["model"] * 30 + ["gray"] * 30})
    for metric, middle, spread in (("psnr", 23, 4), ("ssim", 0.9, 0.05), ("rmse", 20, 5), ("snr", 17, 4)):
        metrics[metric] = rng.normal(middle, spread, 60)
    metrics.loc[58:, ["psnr", "snr"]] = np.inf
    return metrics


@pytest.fixture(autouse=True)
def nothing_open_and_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # what other tests have left open ends at any time
        yield
    assert plt.get_fignums() == [], "a figure left in pyplot would show twice in a notebook"


def texts(fig):
    fig.draw_without_rendering()
    return [text for text in fig.findobj(lambda artist: hasattr(artist, "get_fontsize")) if text.get_text()]


def test_every_figure_is_readable_and_whole():
    for fig in (
        plots.show_images([PHOTO] * 5, ["one", "two", "three", "four", "five"]),
        plots.plot_comparison(GRAY, PHOTO, PHOTO, SCORES, "photo.jpg"),
        plots.plot_metrics_distribution(table()), plots.plot_history(HISTORY),
        plots.plot_lab_planes(PHOTO), plots.plot_intervals(RUNS, PANELS), plots.plot_failures(FAILURES),
        plots.plot_failures(FAILURES.query("by == 'chroma'")), plots.plot_steps([(0.2, 0.1)] * 3),
    ):  # fmt: skip
        assert min(text.get_fontsize() for text in texts(fig)) >= 8 and fig.get_figwidth() <= 7
        (left, bottom), (right, top) = fig.get_tightbbox().get_points() * fig.dpi
        assert min(left, bottom) >= -1 and right <= fig.bbox.width + 1 and top <= fig.bbox.height + 1, "text runs out"


def test_show_images_shows_what_it_is_given():
    given = [PHOTO, PHOTO / 255, PHOTO[..., 0], Image.fromarray(PHOTO), torch.from_numpy(PHOTO)]
    fig = plots.show_images(given, titles=list("abcde"), columns=3)
    assert [ax.get_title() for ax in fig.axes] == list("abcde")
    for ax, picture in zip(fig.axes, given, strict=True):
        assert np.array_equal(ax.images[0].get_array(), np.asarray(picture))
    gray = fig.axes[2].images[0]
    assert gray.get_cmap().name == "gray" and gray.get_clim() == (0, 255)
    assert plots.show_images([PHOTO[..., 0] / 255]).axes[0].images[0].get_clim() == (0, 1)


def test_comparison_shows_the_error_in_levels():
    predicted = PHOTO.copy()
    predicted[:32, :, 0] = np.where(PHOTO[:32, :, 0] > 127, PHOTO[:32, :, 0] - 90, PHOTO[:32, :, 0] + 90)
    fig = plots.plot_comparison(GRAY, predicted, PHOTO, SCORES, "photo.jpg")
    assert [ax.get_title() for ax in fig.axes] == ["gray (baseline)", "predicted", "true", "error of the prediction"]
    for ax, picture in zip(fig.axes, (GRAY, predicted, PHOTO), strict=False):
        assert np.array_equal(ax.images[0].get_array(), picture)
    error = fig.axes[3].images[-1]
    assert np.allclose(error.get_array()[:32], 30) and np.allclose(error.get_array()[32:], 0)
    assert error.get_clim() == (0, 100) and fig.axes[3].get_xlabel() == "mean 15.0 levels"
    assert "PSNR inf dB" in fig.axes[0].get_xlabel() and "PSNR 21.23 dB" in fig.axes[1].get_xlabel()
    assert "photo.jpg" in [text.get_text() for text in texts(fig)]


def test_metrics_distribution_counts_and_averages_finite_values():
    metrics = table()
    fig = plots.plot_metrics_distribution(metrics)
    assert [ax.get_xlabel() for ax in fig.axes] == ["PSNR (dB)", "SSIM", "RMSE (levels)", "SNR (dB)"]
    for ax, metric in zip(fig.axes, ("psnr", "ssim", "rmse", "snr"), strict=True):
        finite = metrics[np.isfinite(metrics[metric])].groupby("method")[metric]
        assert sum(bar.get_height() for bar in ax.containers[0]) == finite.count()["gray"]
        assert [line.get_xdata()[0] for line in ax.lines] == pytest.approx(finite.mean()[["gray", "model"]].tolist())
        assert ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle() and ax.patches[0].get_hatch()
    legend = [text.get_text() for text in fig.axes[0].get_legend().get_texts()]
    assert legend[0].startswith("gray: mean") and legend[0].endswith("(2 infinite)")
    assert legend[1].startswith("model: mean") and "infinite" not in legend[1]
    models = pd.concat([metrics.replace({"method": {"model": f"model {i}"}}) for i in range(5)])
    assert len(plots.plot_metrics_distribution(models).axes[0].get_legend().get_texts()) == 6
    perfect = plots.plot_metrics_distribution(metrics.assign(psnr=np.inf, snr=np.inf))
    assert "30 infinite" in perfect.axes[0].get_legend().get_texts()[0].get_text()


def test_history_marks_the_best_epoch_and_gray():
    ax = plots.plot_history(HISTORY).axes[0]
    train, val, gray, best = ax.lines
    assert list(train.get_ydata()) == list(HISTORY["train_loss"]) and list(val.get_ydata()) == list(HISTORY["val_loss"])
    assert set(gray.get_ydata()) == {0.105} and gray.get_linestyle() == "--"
    assert (best.get_xdata()[0], best.get_ydata()[0], best.get_label()) == (2, 0.09, "best: epoch 2, 0.0900")
    first = plots.plot_history(HISTORY[:1])
    first.draw_without_rendering()
    assert [tick for tick in first.axes[0].get_xticks() if tick % 1] == [], "there is no epoch 0.5"


def test_lab_planes_show_cie_units():
    lab = rgb_to_lab(to_tensor(PHOTO)).numpy()
    photo, *planes = (ax.images[-1] for ax in plots.plot_lab_planes(PHOTO).axes[:4])
    assert np.array_equal(photo.get_array(), PHOTO)
    for image, plane in zip(planes, lab, strict=True):
        assert np.allclose(image.get_array(), plane)
    low, high = planes[1].get_clim()
    assert planes[0].get_clim() == (0, 100) and low == -high and planes[2].get_clim() == (low, high)
    assert np.mean(np.abs(lab[1:]) <= high) > 0.98
    for image in planes[1:]:  # readable without color: lightness grows along the map
        colors = torch.from_numpy(image.get_cmap()(np.linspace(0, 1, 32))[:, :3].T[:, None].copy())
        assert (rgb_to_lab(colors)[0].diff() > 0).all()


def test_intervals_lie_where_the_table_says():
    left, right = plots.plot_intervals(RUNS, PANELS).axes
    ahead, unclear, _ = left.lines
    assert (ahead.get_color(), ahead.get_marker(), ahead.get_xdata().tolist()) == (plots.BLUE, "o", [0.8, 0.9])
    assert (unclear.get_color(), unclear.get_marker(), unclear.get_xdata().tolist()) == (plots.ORANGE, "s", [0.1])
    assert right.lines[0].get_xdata().tolist() == [5, 9, 10]
    segments = [segment[:, 0].tolist() for lines in left.collections for segment in lines.get_segments()]
    assert sorted(segments) == [[-0.2, 0.4], [0.5, 1.1], [0.6, 1.2]]
    first, second = ahead.get_ydata()
    assert unclear.get_ydata() == 0 and first < 1 < second < first + 0.5, "seeds share a line and do not overlap"
    assert [label.get_text() for label in left.get_yticklabels()] == ["old", "new"]
    assert left.get_ylim() == (1.5, -0.5), "the first row at the top"
    assert (left.get_xlabel(), right.get_xlabel()) == tuple(PANELS.values())


def test_failures_show_both_errors_and_the_shares():
    figure = plots.plot_failures(FAILURES)
    for ax, shares, (by, edges) in zip(figure.axes[:4], figure.axes[4:], EDGES.items(), strict=True):
        ours, gray = ax.lines
        assert set(ours.get_ydata()) == {12.0} and set(gray.get_ydata()) == {15.0}
        bars, bins = [bar.get_height() for bar in shares.patches], len(edges) - 1
        assert bars == pytest.approx([10] * bins + [5] * bins * (by == "hue"))
        assert ax.get_xlabel().startswith(by) and ax.get_xticks()[[0, -1]].tolist() == [-0.5, bins - 0.5]
        assert [ax.get_xticklabels()[i].get_text() for i in (0, -1)] == ["0", f"{edges[-1]}"]
    names = ["error of the prediction", "error of gray", "pixels of the photo", "predicted pixels"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    chroma = plots.plot_failures(FAILURES.query("by == 'chroma'"))
    assert len(chroma.axes) == 2 and len(chroma.legends[0].get_texts()) == 3, "one panel, and no outline to explain"


@pytest.mark.slow
def test_a_notebooks_own_figures_still_show_after_ours():
    """In a kernel, pyplot's first figure switches the display on; ours must not switch it off again."""
    cells = [
        "from colorlib.plots import show_images\nimport numpy as np\nshow_images([np.zeros((8, 8))])",
        "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nax.set(title='mine');",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    NotebookClient(book, kernel_name="python3", extra_arguments=["--log-level=ERROR"]).execute(env=environment)
    assert [["image/png" in output.get("data", {}) for output in cell.outputs] for cell in book.cells] == [[True]] * 2

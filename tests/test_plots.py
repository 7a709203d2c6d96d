"""The figures: the right data, labelled axes, whole files, nothing left behind in pyplot."""

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

from colorlib.color import rgb_to_lab
from colorlib.photo import to_tensor
from colorlib.plots import (
    plot_ab_histogram,
    plot_comparison,
    plot_history,
    plot_lab_planes,
    plot_metrics_distribution,
    sample_grid,
    save_comparison,
    save_figure,
    show_images,
)

PHOTO = data.astronaut()[::8, ::8]  # 64×64
GRAY = np.repeat(PHOTO.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
NUMBERS = {"psnr": 21.234, "ssim": 0.9, "rmse": 22.1, "snr": 15.0, "colorfulness": 3.0}
SCORES = {"model": NUMBERS, "gray": NUMBERS | {"psnr": np.inf}}


@pytest.fixture
def metrics():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"image": [f"{i}.jpg" for i in range(30)] * 2, "method": ["model"] * 30 + ["gray"] * 30})
    for metric, middle, spread in (("psnr", 23, 4), ("ssim", 0.9, 0.05), ("rmse", 20, 5), ("snr", 17, 4)):
        table[metric] = rng.normal(middle, spread, 60)
    table.loc[58:, ["psnr", "snr"]] = np.inf
    return table


@pytest.fixture
def history():
    return pd.DataFrame(
        {
            "epoch": [0, 1, 2, 3],
            "train_loss": [0.10, 0.09, 0.08, 0.07],
            "val_loss": [0.11, 0.095, 0.09, 0.1],
            "gray_loss": [0.105] * 4,
        }
    )


@pytest.fixture(autouse=True)
def nothing_open_and_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # what other tests have left open ends at any time
        yield
    assert plt.get_fignums() == [], "a figure left in pyplot would show twice in a notebook"


def texts(fig):
    fig.draw_without_rendering()
    return [text.get_text() for text in fig.findobj(lambda artist: hasattr(artist, "get_text"))]


def smallest_text(fig):
    fig.draw_without_rendering()
    found = fig.findobj(lambda artist: hasattr(artist, "get_fontsize"))
    return min(text.get_fontsize() for text in found if text.get_text())


def assert_nothing_clipped(fig):
    fig.draw_without_rendering()
    page, drawn = fig.bbox, fig.get_tightbbox()
    dpi = fig.dpi
    assert drawn.x0 * dpi >= -1 and drawn.y0 * dpi >= -1, "text runs out of the page"
    assert drawn.x1 * dpi <= page.width + 1 and drawn.y1 * dpi <= page.height + 1, "text runs out of the page"


def test_every_figure_is_readable_and_whole(metrics, history):
    for fig in (
        show_images([PHOTO] * 5, ["one", "two", "three", "four", "five"]),
        plot_comparison(GRAY, PHOTO, PHOTO, SCORES, "photo.jpg"),
        plot_metrics_distribution(metrics),
        plot_history(history),
        plot_ab_histogram([PHOTO], "a photo"),
        plot_lab_planes(PHOTO),
    ):
        assert smallest_text(fig) >= 8 and fig.get_figwidth() <= 7
        assert_nothing_clipped(fig)


def test_many_figures_leave_no_warning():
    for _ in range(25):
        show_images([PHOTO])


def test_show_images_shows_what_it_is_given():
    given = [PHOTO, PHOTO / 255, PHOTO[..., 0], Image.fromarray(PHOTO), torch.from_numpy(PHOTO)]
    fig = show_images(given, titles=list("abcde"), columns=3)
    assert [ax.get_title() for ax in fig.axes] == list("abcde")
    for ax, picture in zip(fig.axes, given, strict=True):
        assert np.array_equal(ax.images[0].get_array(), np.asarray(picture))
    gray = fig.axes[2].images[0]
    assert gray.get_cmap().name == "gray" and gray.get_clim() == (0, 255)
    assert show_images([PHOTO[..., 0] / 255]).axes[0].images[0].get_clim() == (0, 1)


@pytest.mark.parametrize(
    ("images", "titles", "words"),
    [
        ([], None, "got 0"),
        ([PHOTO], ["a", "b"], "2 titles"),
        ([PHOTO.transpose(2, 0, 1)], None, r"got shape \(3, 64, 64\)"),
        ([PHOTO.astype(float)], None, "floats from 0 to 1.*to 255"),
        ([PHOTO / 255 - 1], None, "floats from 0 to 1"),
    ],
)
def test_show_images_refuses(images, titles, words):
    with pytest.raises(ValueError, match=words):
        show_images(images, titles)


def test_comparison_shows_the_error_in_levels():
    predicted = PHOTO.copy()
    predicted[:32, :, 0] = np.where(PHOTO[:32, :, 0] > 127, PHOTO[:32, :, 0] - 90, PHOTO[:32, :, 0] + 90)
    fig = plot_comparison(GRAY, predicted, PHOTO, SCORES, "photo.jpg")
    assert [ax.get_title() for ax in fig.axes[:4]] == [
        "gray (baseline)",
        "predicted",
        "true",
        "error of the prediction",
    ]
    for ax, picture in zip(fig.axes, (GRAY, predicted, PHOTO), strict=False):
        assert np.array_equal(ax.images[0].get_array(), picture)
    error = fig.axes[3].images[-1]
    assert np.allclose(error.get_array()[:32], 30) and np.allclose(error.get_array()[32:], 0)
    assert error.get_clim() == (0, 100)
    assert fig.axes[3].get_xlabel() == "mean 15.0 levels"
    assert "PSNR inf dB" in fig.axes[0].get_xlabel() and "PSNR 21.23 dB" in fig.axes[1].get_xlabel()
    assert "photo.jpg" in texts(fig) and "8-bit levels" in texts(fig)


def test_save_comparison_leaves_one_whole_file(tmp_path):
    path = tmp_path / "comparisons" / "comparison_000.png"
    save_comparison(path, GRAY, PHOTO, PHOTO, scores=SCORES, title="photo.jpg")
    save_comparison(path, GRAY, PHOTO, PHOTO, scores=SCORES, title="photo.jpg")
    assert [file.name for file in path.parent.iterdir()] == ["comparison_000.png"]
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG" and image.width == 7 * 120 and 190 < image.height < 450
    assert 10_000 < path.stat().st_size < 1_000_000


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "figure.png"
    path.write_text("old")
    fig = show_images([PHOTO])
    fig.axes[0].set_title("$\\nonsense{$")  # not mathematics: drawing fails
    with pytest.raises(ValueError):
        save_figure(fig, path)
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["figure.png"]


def test_metrics_distribution_counts_and_averages_finite_values(metrics):
    fig = plot_metrics_distribution(metrics)
    labels = [ax.get_xlabel() for ax in fig.axes]
    assert labels == ["PSNR (dB)", "SSIM", "RMSE (8-bit levels)", "SNR (dB)"]
    for ax, metric in zip(fig.axes, ("psnr", "ssim", "rmse", "snr"), strict=True):
        finite = metrics[np.isfinite(metrics[metric])].groupby("method")[metric]
        assert sum(bar.get_height() for bar in ax.containers[0]) == finite.count()["gray"]
        means = [line.get_xdata()[0] for line in ax.lines]
        assert means == pytest.approx([finite.mean()["gray"], finite.mean()["model"]])
        assert ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle() and ax.patches[0].get_hatch()
    legend = [text.get_text() for text in fig.axes[0].get_legend().get_texts()]
    assert legend[0].startswith("gray: mean") and legend[0].endswith("(2 infinite)")
    assert legend[1].startswith("model: mean") and "infinite" not in legend[1]


def test_metrics_distribution_of_many_or_perfect_models(metrics):
    models = [metrics.replace({"method": {"model": f"model {i}"}}) for i in range(5)]
    assert len(plot_metrics_distribution(pd.concat(models)).axes[0].get_legend().get_texts()) == 6
    perfect = metrics.assign(psnr=np.inf, snr=np.inf)
    assert "30 infinite" in plot_metrics_distribution(perfect).axes[0].get_legend().get_texts()[0].get_text()


def test_history_marks_the_best_epoch_and_gray(history):
    ax = plot_history(history).axes[0]
    train, val, gray, best = ax.lines
    assert list(train.get_ydata()) == list(history["train_loss"])
    assert list(val.get_ydata()) == list(history["val_loss"])
    assert set(gray.get_ydata()) == {0.105} and gray.get_linestyle() == "--"
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (2, 0.09)
    assert best.get_label() == "best: epoch 2, 0.0900"
    assert ax.get_xlabel() == "epoch" and "loss" in ax.get_ylabel()
    first = plot_history(history[:1])
    texts(first)
    assert [tick for tick in first.axes[0].get_xticks() if tick % 1] == [], "there is no epoch 0.5"


def test_ab_histogram_counts_pixels_where_they_are():
    red = np.zeros((4, 4, 3), dtype=np.uint8)
    red[:, :3] = (255, 0, 0)  # Lab 53, 80, 67
    share = plot_ab_histogram(red).axes[0].images[1].get_array()
    row, column = (67 + 110) // 2, (80 + 110) // 2
    assert share[row, column] == pytest.approx(0.75) and share[55, 55] + share[54:56, 54:56].sum() >= 0.25
    assert share.sum() == pytest.approx(1)
    tensor = rgb_to_lab(to_tensor(red))[None]
    assert np.array_equal(plot_ab_histogram(tensor).axes[0].images[1].get_array().filled(0), share.filled(0))
    two = plot_ab_histogram([red, PHOTO]).axes[0]
    assert two.get_xlabel() == "a* (green to red)" and two.get_ylabel() == "b* (blue to yellow)"
    assert two.images[1].get_array()[row, column] < 0.75


def test_ab_histogram_hints_at_the_colours():
    hint = plot_ab_histogram(PHOTO).axes[0].images[0].get_array()
    row = lambda value: int((value + 110) // 2)  # noqa: E731
    assert hint[row(0), row(60)][0] > hint[row(0), row(60)][1] + 0.1, "red on the right"
    assert hint[row(60), row(0)][2] < hint[row(60), row(0)][0] - 0.1, "yellow above"
    assert np.allclose(hint[row(-100), row(-100)], 1), "white where sRGB has no colour"


def test_lab_planes_show_cie_units():
    fig = plot_lab_planes(PHOTO)
    lab = rgb_to_lab(to_tensor(PHOTO)).numpy()
    images = [ax.images[-1] for ax in fig.axes[:4]]
    assert np.array_equal(images[0].get_array(), PHOTO)
    for image, plane in zip(images[1:], lab, strict=True):
        assert np.allclose(image.get_array(), plane)
    assert images[1].get_clim() == (0, 100)
    low, high = images[2].get_clim()
    assert low == -high and images[3].get_clim() == (low, high)
    assert np.mean(np.abs(lab[1:]) <= high) > 0.98
    for image in images[2:]:  # readable without colour: lightness grows along the map
        colors = torch.from_numpy(image.get_cmap()(np.linspace(0, 1, 32))[:, :3].T[:, None].copy())
        assert (rgb_to_lab(colors)[0].diff() > 0).all()
    assert [ax.get_title() for ax in fig.axes[1:4]] == [
        "L* (lightness)",
        "a* (green to red)",
        "b* (blue to yellow)",
    ]


def test_sample_grid_holds_the_pictures_themselves():
    rows = [[data.astronaut()[::16, ::16], data.coffee()[:32, :32]], [GRAY[:32, :32], PHOTO[:32, :32]]]
    grid = sample_grid(rows, gap=3)
    assert grid.dtype == np.uint8 and grid.shape == (2 * 35 + 3, 2 * 35 + 3, 3)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            assert np.array_equal(grid[y * 35 + 3 : y * 35 + 35, x * 35 + 3 : x * 35 + 35], picture)
    assert (grid[35:38] == 255).all() and (grid[:, :3] == 255).all() and (grid[:, 35:38] == 255).all()


def test_a_notebooks_own_figures_still_show_after_ours():
    """In a kernel, pyplot's first figure switches the display on; ours must not switch it off again."""
    cells = [
        "from colorlib.plots import show_images\nimport numpy as np\nshow_images([np.zeros((8, 8))])",
        "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nax.set(title='mine');",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    NotebookClient(book, kernel_name="python3", extra_arguments=["--log-level=ERROR"]).execute(env=environment)
    assert [["image/png" in output.get("data", {}) for output in cell.outputs] for cell in book.cells] == [
        [True],
        [True],
    ]

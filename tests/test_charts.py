"""Figures of differences: what they show, where, in which colour."""

import itertools

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from colorlib.analysis import EDGES, TONES
from colorlib.charts import plot_failures, plot_intervals, plot_sensitivity, plot_tones
from colorlib.plots import BLUE, ORANGE

NAMES = {"psnr": "PSNR over gray (dB)", "colorfulness": "colourfulness"}


def rows() -> pd.DataFrame:
    """Three runs of two recipes: one clearly ahead, one not."""
    table = pd.DataFrame({"row": ["old", "new", "new"], "seed": [0, 0, 1]})
    table[["psnr_gain", "psnr_low", "psnr_high"]] = [[0.1, -0.2, 0.4], [0.8, 0.5, 1.1], [0.9, 0.6, 1.2]]
    table[["colorfulness_gain", "colorfulness_low", "colorfulness_high"]] = [[5, 4, 6], [9, 8, 10], [10, 9, 11]]
    return table


def test_every_run_has_its_mark_and_its_interval():
    figure = plot_intervals(rows(), NAMES)
    left, right = figure.axes
    intervals = [list(line.get_xdata()) for line in left.lines if len(line.get_xdata()) == 2][:3]
    assert intervals == [[-0.2, 0.4], [0.5, 1.1], [0.6, 1.2]]
    marks = [line.get_xdata()[0] for line in left.lines if len(line.get_xdata()) == 1]
    assert marks == [0.1, 0.8, 0.9]
    assert [line.get_xdata()[0] for line in right.lines if len(line.get_xdata()) == 1] == [5, 9, 10]


def test_color_and_marker_say_whether_zero_lies_below():
    marks = [line for line in plot_intervals(rows(), NAMES).axes[0].lines if len(line.get_xdata()) == 1]
    assert [mark.get_color() for mark in marks] == [ORANGE, BLUE, BLUE]
    assert [mark.get_marker() for mark in marks] == ["s", "o", "o"], "in black and white, too"


def test_seeds_of_a_recipe_share_a_line_and_do_not_overlap():
    axes = plot_intervals(rows(), NAMES).axes[0]
    old, first, second = (line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 1)
    assert old == 0 and first < 1 < second and second - first < 0.5
    assert [label.get_text() for label in axes.get_yticklabels()] == ["old", "new"]
    assert axes.get_ylim() == (1.5, -0.5), "the first row at the top"


def test_labels_stand_below_and_only_once_on_the_left():
    left, right = plot_intervals(rows(), NAMES).axes
    assert (left.get_xlabel(), right.get_xlabel()) == tuple(NAMES.values())
    assert [label.get_text() for label in right.get_yticklabels()] == ["", ""] or not right.get_yticklabels()


def test_pyplot_keeps_nothing():
    plot_intervals(rows(), NAMES)
    assert plt.get_fignums() == []


def test_no_rows():
    with pytest.raises(ValueError, match="expected rows to show, got an empty table"):
        plot_intervals(rows()[:0], NAMES)


# --- failures, tones, sensitivity ---------------------------------------------------------------------------


def bins() -> pd.DataFrame:
    rows = [
        [by, low, high, 0.1, 12.0, 15.0, 8.0, 0.05]
        for by, edges in EDGES.items()
        for low, high in itertools.pairwise(edges)
    ]
    columns = ["by", "low", "high", "share", "error", "gray_error", "chroma", "predicted_share"]
    return pd.DataFrame(rows, columns=columns)


def test_failures_show_both_errors_and_the_shares():
    figure = plot_failures(bins())
    for ax, shares, (by, edges) in zip(figure.axes[:4], figure.axes[4:], EDGES.items(), strict=True):
        ours, gray = ax.lines
        assert set(ours.get_ydata()) == {12.0} and set(gray.get_ydata()) == {15.0}
        bars = [bar.get_height() for bar in shares.patches]
        assert bars[: len(edges) - 1] == pytest.approx([10] * (len(edges) - 1))
        assert len(bars) == (2 if by == "hue" else 1) * (len(edges) - 1)
        assert len(ax.get_xticklabels()) == len(edges), "every edge has its number"


def test_tones_show_each_change():
    rows = [[change, value, value, 2.0, 3.0] for change, values in TONES.items() for value in values]
    figure = plot_tones(pd.DataFrame(rows, columns=["change", "value", "moved", "error", "chroma"]))
    for ax, values in zip(figure.axes, TONES.values(), strict=True):
        assert ax.lines[1].get_ydata().tolist() == list(values)


def curves() -> pd.DataFrame:
    rows = []
    runs = (("base", "seed 0", 0.9), ("base", "seed 1", 1.0), ("width", "64", 0.8), ("loss", "huber", 1))
    for setting, value, end in runs:
        rows += [[setting, value, 30, 0.14, 0.07, None], [setting, value, 60, end * 0.07, 0.07, 0.25]]
    return pd.DataFrame(rows, columns=["setting", "value", "seconds", "val_loss", "gray_loss", "psnr_gain"])


def test_sensitivity_shows_the_base_in_every_panel():
    figure = plot_sensitivity(curves())
    width, loss = figure.axes
    assert (width.get_title(), loss.get_title()) == ("width", "loss")
    for ax, end in ((width, 0.8), (loss, 1)):
        lines = [line.get_ydata()[-1] for line in ax.lines[:3]]
        assert lines == pytest.approx([0.9, 1.0, end])
    assert width.get_legend().get_texts()[-1].get_text() == "64: +0.25"
    with pytest.raises(ValueError, match="empty table"):
        plot_sensitivity(curves()[:0])

"""Figures of differences: what they show, where, in which colour."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from colorlib.charts import plot_intervals
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
    intervals = [line.get_xdata().tolist() for line in left.lines if len(line.get_xdata()) == 2][:3]
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

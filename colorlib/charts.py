"""Figures of comparisons: differences and their intervals, in the style of `plots`. See tests/test_charts.py."""

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from colorlib.plots import BLUE, GRAY, ORANGE, STYLE, new_figure


@mpl.rc_context(STYLE)
def plot_intervals(table: pd.DataFrame, metrics: dict[str, str], label: str = "row") -> Figure:
    """Show by how much each row is ahead of gray, with its 95 % interval, a panel a metric.

    table: a row for each trained network, first at the top, with a column `label` and for each metric the columns
    "<metric>_gain", "<metric>_low" and "<metric>_high", as benchmarks/ablation.py writes them. Rows of one label are
    seeds of one recipe and share a line. metrics: column name → what stands below the panel. Blue lies above zero,
    orange does not, or its interval does not. Raises `ValueError` without rows.
    """
    if table.empty:
        raise ValueError("expected rows to show, got an empty table")
    labels = list(dict.fromkeys(table[label]))
    fig, axes = new_figure(1, len(metrics), 0.75 + 0.3 * len(labels))
    for ax, (metric, name) in zip(axes[0], metrics.items(), strict=True):
        for place, group in enumerate(labels):
            rows = table[table[label] == group].to_dict("records")
            for number, row in enumerate(rows):
                gain, low, high = (row[f"{metric}_{part}"] for part in ("gain", "low", "high"))
                clear = low > 0
                y = place + 0.22 * (number - (len(rows) - 1) / 2)
                ax.plot([low, high], [y, y], "-", color=BLUE if clear else ORANGE, linewidth=1.4)
                ax.plot(gain, y, "o" if clear else "s", color=BLUE if clear else ORANGE, markersize=4)
        ax.axvline(0, color=GRAY, linestyle="--", linewidth=1)
        ax.set(xlabel=name, yticks=range(len(labels)), yticklabels=labels if ax is axes[0, 0] else [])
        ax.set_ylim(len(labels) - 0.5, -0.5)
        ax.grid(axis="x", alpha=0.3)
    return fig

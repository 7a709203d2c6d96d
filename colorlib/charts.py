"""Figures of comparisons, failures and sensitivity, in the style of `plots`. See tests/test_charts.py."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from colorlib.plots import BLUE, GRAY, GREEN, ORANGE, STYLE, new_figure


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


@mpl.rc_context(STYLE)
def plot_failures(table: pd.DataFrame) -> Figure:
    """Show the error of the prediction and of gray by chroma, hue, lightness and texture, and which hues are lost.

    table: that of `analysis.Failures`. Bars: the share of the pixels (of hues: true, and outlined, predicted). Lines:
    mean error in the (a*, b*) plane, solid for the prediction, dashed for gray.
    """
    names = {
        "chroma": "chroma of the photo", "hue": "hue of the photo (degrees)", "lightness": "L* of the photo",
        "texture": "texture (spread of L*)",
    }  # fmt: skip
    fig, axes = new_figure(2, 2, 4.6)
    for ax, (by, name) in zip(axes.flat, names.items(), strict=True):
        rows = table[table["by"] == by]
        places = np.arange(len(rows))
        shares = ax.twinx()
        shares.bar(places, 100 * rows["share"], color="#DDDDDD", width=0.9)
        if by == "hue":
            look = {"color": "none", "edgecolor": GREEN, "linewidth": 1, "label": "predicted pixels"}
            shares.bar(places, 100 * rows["predicted_share"], width=0.9, **look)
        ax.set_zorder(shares.get_zorder() + 1)
        ax.patch.set_visible(False)
        ax.plot(places, rows["error"], "o-", color=BLUE, markersize=3, label="prediction")
        ax.plot(places, rows["gray_error"], "s--", color=GRAY, markersize=3, label="gray")
        ticks = [*(f"{low:g}" for low in rows["low"]), f"{rows['high'].iloc[-1]:g}"]
        ax.set(xlabel=name, xticks=np.arange(len(ticks)) - 0.5, ylim=(0, None))
        ax.set_xticklabels(ticks if by != "hue" else [tick if i % 2 == 0 else "" for i, tick in enumerate(ticks)])
        shares.spines["right"].set_visible(True)
    for row in axes:
        row[0].set_ylabel("error (a*b* units)")
    for shares in fig.axes[4:]:
        shares.set_ylabel("pixels (%)", color="#777777")
    handles, labels = axes[0, 1].get_legend_handles_labels()
    more, names = fig.axes[5].get_legend_handles_labels()
    fig.legend(handles + more, labels + names, loc="outside upper center", ncols=3)
    return fig


@mpl.rc_context(STYLE)
def plot_tones(table: pd.DataFrame) -> Figure:
    """Show what changes of L's gamma and contrast do to the colours. table: that of `analysis.tone_changes`."""
    fig, axes = new_figure(1, 2, 2.3)
    lines = (("error", BLUE, "o-"), ("moved", ORANGE, "s-."), ("chroma", GREEN, "^:"))
    labels = {"error": "error", "moved": "moved by the change", "chroma": "chroma of the prediction"}
    for ax, change in zip(axes[0], ("gamma", "contrast"), strict=True):
        rows = table[table["change"] == change]
        for column, color, look in lines:
            ax.plot(rows["value"], rows[column], look, color=color, markersize=3, label=labels[column])
        ax.axvline(1, color=GRAY, linewidth=0.8)
        ax.set(xlabel=f"{change} of L", ylim=(0, None))
        ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel("a*b* units")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


@mpl.rc_context(STYLE)
def plot_sensitivity(table: pd.DataFrame) -> Figure:
    """Show the curves of runs that differ in one setting: validation loss over gray's, by seconds, a panel a setting.

    table: that of benchmarks/sensitivity.py. Black: the base, a line a seed, in every panel. A number behind a label is
    the final gain in PSNR over gray, in dB. Below the dashed line a network is closer than gray. Raises `ValueError`
    without rows.
    """
    if table.empty:
        raise ValueError("expected curves to show, got an empty table")
    settings = [setting for setting in table["setting"].unique() if setting != "base"] or ["base"]
    fig, axes = new_figure(-(-len(settings) // 3), 3, 2.5 * -(-len(settings) // 3))
    looks = [(BLUE, "o-"), (ORANGE, "s-."), (GREEN, "^:"), ("#CC79A7", "v--")]
    for ax, setting in zip(axes.flat, settings, strict=False):
        for color, look, rows in [
            *(("black", "-", rows) for _, rows in table[table["setting"] == "base"].groupby("value")),
            *((*looks[i % 4], rows) for i, (_, rows) in enumerate(
                table[(table["setting"] == setting) & (setting != "base")].groupby("value", sort=False)
            )),
        ]:  # fmt: skip
            gain = rows["psnr_gain"].dropna()
            label = f"{rows['value'].iloc[0]}: {gain.iloc[-1]:+.2f}" if len(gain) else str(rows["value"].iloc[0])
            ratio = rows["val_loss"] / rows["gray_loss"]
            ax.plot(rows["seconds"], ratio, look, color=color, markersize=3, linewidth=1.2, label=label)
        ax.axhline(1, color=GRAY, linestyle="--", linewidth=1)
        ax.set(title=setting.replace("_", " "), xlabel="seconds of a core", yscale="log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("{x:g}")
        ax.tick_params(which="minor", labelsize=6)
        ax.set_ylim(top=3 * ax.get_ylim()[1])  # room for the legend above the curves
        ax.legend(fontsize=7, loc="upper right")
    for ax in axes.flat[len(settings) :]:
        ax.remove()
    for row in axes:
        row[0].set_ylabel("validation loss / gray's")
    return fig

"""Every figure: pictures and numbers in, a matplotlib Figure out.

Figures are at most 7 inches wide, so that 8-point text is 8 points in print. pyplot has already let go of them: the
last line of a cell shows one once. The colors are Okabe and Ito's, which color-blind readers can tell apart.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torchvision.utils import make_grid

from colorlib.color import lab_to_rgb, rgb_to_lab
from colorlib.metrics import METRICS
from colorlib.photo import to_tensor

# The first figure of a notebook switches pyplot's display on. Inside an rc_context it would be switched off again.
plt.draw_if_interactive()

WIDTH = 7.0  # inches
BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#555555"
LINES = ((BLUE, "-"), (ORANGE, "-."), (GREEN, ":"))  # of the models; gray is dashed
HATCHED = {"facecolor": "#E4E4E4", "edgecolor": "#8C8C8C", "hatch": "////", "linewidth": 0.5}
STYLE = {"font.size": 8, "axes.titlesize": 9, "figure.titlesize": 9, "legend.frameon": False}
STYLE |= {"axes.spines.top": False, "axes.spines.right": False}
SHOWN = {name: METRICS[name] for name in ("psnr", "ssim", "rmse", "snr")}  # below a comparison; with a distribution


@mpl.rc_context(STYLE)
def show_images(images: Sequence[Any], titles: Sequence[str] | None = None, columns: int = 4) -> Figure:
    """Show pictures in rows of at most `columns`: RGB (H, W, 3) or gray (H, W), uint8 or floats from 0 to 1."""
    pictures = [np.asarray(image) for image in images]
    titles = [""] * len(pictures) if titles is None else titles
    if not pictures or len(titles) != len(pictures):
        raise ValueError(f"expected pictures and a title each, got {len(pictures)} and {len(titles)} titles")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    aspect = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    fig, axes = _new_figure(rows, columns, rows * (WIDTH / columns * aspect + (0.2 if any(titles) else 0)))
    for ax, picture, title in zip(axes, pictures, titles, strict=False):
        _show(ax, picture, title)
    for ax in axes[len(pictures) :]:
        ax.remove()
    return fig


@mpl.rc_context(STYLE)
def plot_comparison(
    gray: np.ndarray, predicted: np.ndarray, true: np.ndarray, scores: dict | None = None, title: str = ""
) -> Figure:
    """Show gray, the prediction, the photo and the prediction's error side by side.

    Pictures are uint8 (H, W, 3). The error of a pixel is the mean of |true − predicted| over its channels, in 8-bit
    levels, on a scale of 0 to 100. Scores, as `evaluate_model` hands them to on_photo, stand below their pictures.
    """
    scores = scores or {}
    error = np.abs(true.astype(float) - predicted).mean(axis=2)
    height = 1.52 * true.shape[0] / true.shape[1] + 0.22 + (0.58 if scores else 0.16) + (0.22 if title else 0)
    fig, axes = _new_figure(1, 4, height)
    names = ("gray (baseline)", "predicted", "true", "error of the prediction")
    for ax, picture, name in zip(axes, (gray, predicted, true, true), names, strict=True):
        _show(ax, picture, name)
    image = axes[3].imshow(error, cmap="inferno", vmin=0, vmax=100)
    fig.colorbar(image, cax=axes[3].inset_axes([1.05, 0, 0.06, 1]), extend="max", label="8-bit levels")
    axes[3].set_xlabel(f"mean {error.mean():.1f} levels")
    for method, numbers in scores.items():
        lines = [f"{metric.label} {numbers[name]:.{metric.digits}f} {metric.unit}" for name, metric in SHOWN.items()]
        axes[0 if method == "gray" else 1].set_xlabel("\n".join(lines))
    fig.suptitle(title)
    return fig


@mpl.rc_context(STYLE)
def plot_metrics_distribution(metrics: pd.DataFrame) -> Figure:
    """Show how PSNR, SSIM, RMSE and SNR in `evaluate_model`'s table spread over the photos, for each method over gray.

    Triangles mark the means. Infinite values are not drawn or averaged; the legend counts them.
    """
    methods = ["gray", *metrics["method"][metrics["method"] != "gray"].unique()]
    fig, axes = _new_figure(2, 2, 5.2)
    for ax, (name, metric) in zip(axes, SHOWN.items(), strict=True):
        finite = metrics[name].where(np.isfinite(metrics[name]))
        bins = np.histogram_bin_edges(finite.dropna(), bins=20)
        for i, method in enumerate(methods):
            color, line = LINES[(i - 1) % 3] if i else (GRAY, "--")
            look = {"histtype": "step", "edgecolor": color, "linestyle": line, "linewidth": 1.8} if i else HATCHED
            values = finite[metrics["method"] == method]
            infinite = f" ({values.isna().sum()} infinite)" if values.isna().any() else ""
            label = f"{method}: mean {values.mean():.{metric.digits}f}{infinite}"
            ax.hist(values.dropna(), bins, label=label, **look)
            ax.axvline(values.mean(), color=color, linestyle=line, marker="v", markevery=[1], clip_on=False)
        ax.set(xlabel=metric.title, ylabel="photos")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.02), borderaxespad=0.2)
    return fig


@mpl.rc_context(STYLE)
def plot_history(history: pd.DataFrame) -> Figure:
    """Show the losses in the table of `train.fit`, and that of gray (ab = 0); a star marks the lowest val_loss."""
    fig, [ax] = _new_figure(1, 1, 3.2)
    best = history.loc[history["val_loss"].idxmin()]
    size = 4 if len(history) <= 30 else 0
    ax.plot(history["epoch"], history["train_loss"], "s-", color=ORANGE, markersize=size, label="training")
    ax.plot(history["epoch"], history["val_loss"], "o-", color=BLUE, markersize=size, label="validation")
    ax.axhline(history["gray_loss"].iloc[-1], color=GRAY, linestyle="--", label="predict gray (validation)")
    label = f"best: epoch {best['epoch']:.0f}, {best['val_loss']:.4f}"
    ax.plot(best["epoch"], best["val_loss"], "*", color="black", markersize=11, label=label)
    ax.set(xlabel="epoch", ylabel="loss (scaled ab)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.grid(alpha=0.3)
    fig.legend(loc="outside upper center", ncols=4)
    return fig


@mpl.rc_context(STYLE)
def plot_steps(losses: Sequence[tuple[float, float]]) -> Figure:
    """Show the L1 loss of the network, and of gray, on the batch of each optimizer step."""
    fig, [ax] = _new_figure(1, 1, 2.6, width=3.6)
    steps, (network, gray) = range(1, len(losses) + 1), np.reshape(losses, (-1, 2)).T
    ax.plot(steps, gray, "--", color=GRAY, linewidth=1, label="gray")
    ax.plot(steps, network, "-", color=BLUE, linewidth=1.2, label="network")
    ax.set(xlabel="step", ylabel="L1 loss (scaled ab)", ylim=(0, 2 * max(gray, default=0.1)))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.grid(alpha=0.3)
    fig.legend(loc="outside upper center", ncols=2)
    return fig


@mpl.rc_context(STYLE)
def plot_lab_planes(rgb: np.ndarray) -> Figure:
    """Show a photo, uint8 (H, W, 3), beside its L*, a* and b* planes, each in the colors that it stands for."""
    lab = rgb_to_lab(to_tensor(rgb)).numpy()
    limit = 20 * max(1, int(np.ceil(np.quantile(np.abs(lab[1:]), 0.99) / 20)))  # 99% of a* and b* lie within it
    fig, axes = _new_figure(1, 4, 1.85 * rgb.shape[0] / rgb.shape[1] + 0.5)
    _show(axes[0], rgb, "photo")
    names = ("L* (lightness)", "a* (green to red)", "b* (blue to yellow)")
    for i, (ax, name) in enumerate(zip(axes[1:], names, strict=True)):
        low, high, cmap = (-limit, limit, _lab_map(i)) if i else (0, 100, "gray")
        _show(ax, rgb, name)
        image = ax.imshow(lab[i], cmap=cmap, vmin=low, vmax=high)
        bar = {"orientation": "horizontal", "extend": "both" if i else "neither"}
        fig.colorbar(image, cax=ax.inset_axes([0.1, -0.12, 0.8, 0.05]), ticks=[low, (low + high) / 2, high], **bar)
    return fig


@mpl.rc_context(STYLE)
def plot_intervals(table: pd.DataFrame, metrics: dict[str, str]) -> Figure:
    """Show by how much networks are ahead of gray, with 95% intervals: blue above zero, orange where not clearly so.

    The table is that of benchmarks/ablation.py: a row a network, seeds of one recipe share a line. `metrics`: name of a
    metric → text below its panel.
    """
    labels, groups = list(table["row"].unique()), table.groupby("row")["row"]
    y = table["row"].map(labels.index) + 0.22 * (groups.cumcount() - (groups.transform("size") - 1) / 2)
    fig, axes = _new_figure(1, len(metrics), 0.75 + 0.3 * len(labels))
    for ax, (metric, name) in zip(axes, metrics.items(), strict=True):
        gain, low, high = (table[f"{metric}_{what}"] for what in ("gain", "low", "high"))
        for chosen, color, marker in ((low > 0, BLUE, "o"), (low <= 0, ORANGE, "s")):
            ax.hlines(y[chosen], low[chosen], high[chosen], color=color, linewidth=1.4)
            ax.plot(gain[chosen], y[chosen], marker, color=color, markersize=4)
        ax.axvline(0, color=GRAY, linestyle="--", linewidth=1)
        ax.set(xlabel=name, yticks=range(len(labels)), yticklabels=[], ylim=(len(labels) - 0.5, -0.5))
        ax.grid(axis="x", alpha=0.3)
    axes[0].set_yticklabels(labels)
    return fig


@mpl.rc_context(STYLE)
def plot_failures(table: pd.DataFrame) -> Figure:
    """Show the table of `evaluation.Failures`, or its rows by one or two of the four properties: a panel for each."""
    groups = list(table.groupby("by", sort=False))
    rows = -(-len(groups) // 2)
    fig, axes = _new_figure(rows, min(len(groups), 2), 2.3 * rows + 0.2 * (rows == 1))
    for ax, (by, bins) in zip(axes, groups, strict=True):
        places, shares = np.arange(len(bins)), ax.twinx()
        shares.bar(places, 100 * bins["share"], color="#DDDDDD", width=0.9, label="pixels of the photo")
        if by == "hue":
            look = {"color": "none", "edgecolor": GREEN, "linewidth": 1, "label": "predicted pixels"}
            shares.bar(places, 100 * bins["predicted_share"], width=0.9, **look)
        shares.set_ylabel("pixels (%)", color="#666666")
        shares.spines["right"].set_visible(True)
        ax.set_zorder(shares.get_zorder() + 1)
        ax.patch.set_visible(False)
        ax.plot(places, bins["error"], "o-", color=BLUE, markersize=3, label="error of the prediction")
        ax.plot(places, bins["gray_error"], "s--", color=GRAY, markersize=3, label="error of gray")
        step = 2 if by == "hue" else 1
        edges = [f"{edge:g}" for edge in [*bins["low"], bins["high"].iloc[-1]]]
        ax.set_xticks(np.arange(len(edges))[::step] - 0.5, edges[::step])
        ax.set(xlabel=f"{by} of the photo", ylabel="error (a*b* units)", ylim=(0, None))
    named = {label: handle for ax in fig.axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(named.values(), named.keys(), loc="outside upper center", ncols=4)
    return fig


def sample_grid(rows: Sequence[Sequence[np.ndarray]], gap: int = 4) -> np.ndarray:
    """Lay rows of uint8 pictures (H, W, 3) of one size out as one, with `gap` white pixels around and between them."""
    pictures = torch.stack([torch.tensor(picture).permute(2, 0, 1) for row in rows for picture in row])
    return make_grid(pictures, nrow=len(rows[0]), padding=gap, pad_value=255).permute(1, 2, 0).numpy()


def _new_figure(rows: int, columns: int, height: float, width: float = WIDTH) -> tuple[Figure, np.ndarray]:
    """An empty figure, which pyplot has let go of, and its axes, row by row; height and width in inches."""
    fig, axes = plt.subplots(rows, columns, figsize=(width, height), dpi=120, layout="constrained", squeeze=False)
    plt.close(fig)
    return fig, axes.flatten()


def _show(ax: plt.Axes, picture: np.ndarray, title: str) -> None:
    if picture.ndim != 2 and picture.shape[2:] != (3,):
        raise ValueError(f"expected RGB (H, W, 3) or gray (H, W) pictures, got shape {picture.shape}")
    top = 255 if picture.dtype == np.uint8 else 1
    if picture.min() < 0 or picture.max() > top:
        came = f"{picture.dtype} from {picture.min():.3g} to {picture.max():.3g}"
        raise ValueError(f"expected uint8 pictures or floats from 0 to 1, got {came}")
    ax.imshow(picture, cmap="gray", vmin=0, vmax=top)
    ax.set(title=title, xticks=[], yticks=[], anchor="N")
    ax.spines[:].set_visible(False)


def _lab_map(channel: int) -> ListedColormap:
    """A color map from the dark negative end of a* (1) or b* (2) through gray to the light positive end."""
    t = torch.linspace(-1, 1, 256)
    lab = torch.stack([58 + 22 * t, 0 * t, 0 * t])
    lab[channel] = (45 if channel == 1 else 60) * t
    return ListedColormap(lab_to_rgb(lab[:, None])[:, 0].T.numpy())

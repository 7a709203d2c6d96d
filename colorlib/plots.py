"""Figures from pictures and numbers, 7 inches wide at most: their 8-point text is 8 points on a printed page.

Every function returns a matplotlib Figure that pyplot has already let go of: `display(fig)`, or the figure as
the last line of a cell, shows it once, and nothing piles up. Colours are Okabe and Ito's, made for all eyes;
hatches, dashes and lightness say the same in black and white. Checked by tests/test_plots.py.
"""

import os
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor
from torchvision.utils import make_grid

from colorlib.color import lab_to_rgb, out_of_gamut, rgb_to_lab
from colorlib.files import replacing
from colorlib.photo import to_tensor

# the first figure switches a notebook's display on; here, because inside an rc_context it would be off again afterwards
plt.draw_if_interactive()

WIDTH = 7.0  # inches
BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#555555"
LINES = ((BLUE, "-"), (ORANGE, "-."), (GREEN, ":"))  # of the models; gray is dashed
STYLE = {"font.size": 8, "axes.titlesize": 9, "figure.titlesize": 9, "legend.frameon": False}
STYLE |= {"axes.spines.top": False, "axes.spines.right": False}
METRICS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "rmse": "RMSE (8-bit levels)", "snr": "SNR (dB)"}
HATCHED = {"facecolor": "#E4E4E4", "edgecolor": "#8C8C8C", "hatch": "////", "linewidth": 0.5}


@mpl.rc_context(STYLE)
def show_images(images: Sequence[Any], titles: Sequence[str] | None = None, columns: int = 4) -> Figure:
    """Show pictures in rows.

    images: uint8 (0…255) or float (0…1) arrays, RGB (H, W, 3) or gray (H, W), or what numpy turns into those.
    titles: one each. columns: pictures in a row, at most.
    Raises `ValueError` for no picture, another shape or range, or a wrong number of titles.
    """
    pictures = [np.asarray(image) for image in images]
    titles = [""] * len(pictures) if titles is None else titles
    if not pictures or len(titles) != len(pictures):
        raise ValueError(f"expected pictures and a title each, got {len(pictures)} and {len(titles)} titles")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    aspect = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    fig, axes = new_figure(rows, columns, rows * (WIDTH / columns * aspect + (0.2 if any(titles) else 0)))
    for ax, picture, title in zip(axes.flat, pictures, titles, strict=False):
        _show(ax, picture, title)
    for ax in axes.flat[len(pictures) :]:
        ax.remove()
    return fig


@mpl.rc_context(STYLE)
def plot_comparison(
    gray: np.ndarray,
    predicted: np.ndarray,
    true: np.ndarray,
    scores: dict[str, dict[str, float]] | None = None,
    title: str = "",
) -> Figure:
    """Show gray, prediction, truth and the prediction's error side by side.

    gray, predicted, true: uint8 RGB (H, W, 3) of one size. scores: as `evaluation.evaluate_model` hands them
    to on_photo, the numbers of the model and of "gray", written below their pictures. The error of a pixel is
    the mean over its channels of |true − predicted|, in 8-bit levels, from 0 to 100 in all figures.
    """
    scores = scores or {}
    error = np.abs(true.astype(float) - predicted).mean(axis=2)
    height = 1.52 * true.shape[0] / true.shape[1] + 0.22 + (0.58 if scores else 0.16) + (0.22 if title else 0)
    fig, axes = new_figure(1, 4, height)
    names = ("gray (baseline)", "predicted", "true", "error of the prediction")
    for ax, picture, name in zip(axes[0], (gray, predicted, true, true), names, strict=True):
        _show(ax, picture, name)
    image = axes[0, 3].imshow(error, cmap="inferno", vmin=0, vmax=100)
    fig.colorbar(image, cax=axes[0, 3].inset_axes([1.05, 0, 0.06, 1]), extend="max", label="8-bit levels")
    axes[0, 3].set_xlabel(f"mean {error.mean():.1f} levels")
    caption = "PSNR {psnr:.2f} dB\nSSIM {ssim:.3f}\nRMSE {rmse:.1f} levels\nSNR {snr:.2f} dB"
    for method, numbers in scores.items():
        axes[0, 0 if method == "gray" else 1].set_xlabel(caption.format(**numbers))
    fig.suptitle(title)
    return fig


def save_comparison(path: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
    """Write `plot_comparison`'s figure of the other arguments to a PNG file: whole or not at all."""
    save_figure(plot_comparison(*args, **kwargs), path)


def save_figure(fig: Figure, path: str | os.PathLike, dpi: int = 120) -> None:
    """Write a figure, whole or not at all; the path's suffix (png, pdf, svg) says how; dpi: px an inch."""
    with replacing(path) as temporary:
        fig.savefig(temporary, dpi=dpi)


@mpl.rc_context(STYLE)
def plot_metrics_distribution(metrics: pd.DataFrame) -> Figure:
    """Show how each metric is spread over the photos: the models' histograms over the gray baseline's.

    metrics: the table of `evaluation.evaluate_model`. Triangles mark the means. Only finite values are drawn
    and averaged; the legend counts the infinite ones.
    """
    looks = [("gray", GRAY, "--", HATCHED)]
    for i, model in enumerate(metrics["method"][metrics["method"] != "gray"].unique()):
        color, line = LINES[i % len(LINES)]
        step = {"histtype": "step", "edgecolor": color, "linestyle": line, "linewidth": 1.8}
        looks.append((model, color, line, step))
    fig, axes = new_figure(2, 2, 5.2)
    for ax, (metric, name) in zip(axes.flat, METRICS.items(), strict=True):
        bins = np.histogram_bin_edges(metrics[metric][np.isfinite(metrics[metric])], bins=20)
        for method, color, line, look in looks:
            values = metrics.loc[metrics["method"] == method, metric]
            finite = values[np.isfinite(values)]
            label = f"{method}: mean {finite.mean():.{3 if metric == 'ssim' else 2}f}"
            label += f" ({len(values) - len(finite)} infinite)" if len(values) > len(finite) else ""
            ax.hist(finite, bins, label=label, **look)
            ax.axvline(finite.mean(), color=color, linestyle=line, marker="v", markevery=[1], clip_on=False)
        ax.set(xlabel=name, ylabel="photos")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.02), borderaxespad=0.2)
    return fig


@mpl.rc_context(STYLE)
def plot_history(history: pd.DataFrame) -> Figure:
    """Show the losses of a run, epoch by epoch, and the loss of predicting gray (ab = 0), the line to beat.

    history: the table of `train.fit`: epoch, train_loss, val_loss, gray_loss. A star marks the best epoch.
    """
    fig, axes = new_figure(1, 1, 3.2)
    ax, best = axes[0, 0], history.loc[history["val_loss"].idxmin()]
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
def plot_ab_histogram(pictures: Tensor | np.ndarray | Sequence[np.ndarray], title: str = "") -> Figure:
    """Show which colours pictures hold: the share of their pixels in each 2×2 square of the (a*, b*) plane.

    pictures: L*a*b* (..., 3, H, W) as a tensor, or one or more uint8 RGB (H, W, 3) arrays. Axes in CIE units.
    The darker a square, the more pixels (logarithmic); behind, pale, the colours that sRGB has there.
    """
    if isinstance(pictures, np.ndarray) and pictures.ndim == 3:
        pictures = [pictures]
    labs = [pictures] if isinstance(pictures, Tensor) else [rgb_to_lab(to_tensor(p)) for p in pictures]
    a, b = (np.concatenate([lab.select(-3, i).flatten().cpu().numpy() for lab in labs]) for i in (1, 2))
    edges = np.arange(-110, 111, 2)
    share = np.histogram2d(b, a, bins=(edges, edges))[0] / a.size  # rows: b*, columns: a*
    fig, axes = new_figure(1, 1, 3.8, width=5.2)
    look = {"origin": "lower", "extent": (-110, 110, -110, 110), "interpolation": "nearest"}
    axes[0, 0].imshow(_ab_plane(edges), **look)
    ink = ListedColormap(mpl.colormaps["Greys"](np.linspace(0.4, 1, 256)))
    norm = LogNorm(share[share > 0].min(), share.max())
    image = axes[0, 0].imshow(np.ma.masked_equal(share, 0), cmap=ink, norm=norm, **look)
    axes[0, 0].set(xlabel="a* (green to red)", ylabel="b* (blue to yellow)", title=title)
    axes[0, 0].set(xticks=range(-100, 101, 50), yticks=range(-100, 101, 50))
    axes[0, 0].grid(alpha=0.25)
    fig.colorbar(image, label="share of the pixels")
    return fig


@mpl.rc_context(STYLE)
def plot_lab_planes(rgb: np.ndarray) -> Figure:
    """Show a photo beside its L*, a* and b* planes, each in the colours that it stands for.

    rgb: uint8 (H, W, 3). Bars in CIE units; a* and b* share a scale that holds 99% of their values. Both maps
    also grow lighter with the value, and so can be read without colours.
    """
    lab = rgb_to_lab(to_tensor(rgb)).numpy()
    limit = 20 * max(1, int(np.ceil(np.quantile(np.abs(lab[1:]), 0.99) / 20)))
    fig, axes = new_figure(1, 4, 1.85 * rgb.shape[0] / rgb.shape[1] + 0.5)
    _show(axes[0, 0], rgb, "photo")
    names = ("L* (lightness)", "a* (green to red)", "b* (blue to yellow)")
    for i, (ax, name) in enumerate(zip(axes[0, 1:], names, strict=True)):
        low, high, cmap = (-limit, limit, _lab_map(i)) if i else (0, 100, "gray")
        _show(ax, rgb, name)
        image = ax.imshow(lab[i], cmap=cmap, vmin=low, vmax=high)
        bar = {"orientation": "horizontal", "extend": "both" if i else "neither"}
        cax = ax.inset_axes([0.1, -0.12, 0.8, 0.05])
        fig.colorbar(image, cax=cax, ticks=[low, (low + high) / 2, high], **bar)
    return fig


def sample_grid(rows: Sequence[Sequence[np.ndarray]], gap: int = 4) -> np.ndarray:
    """Lay pictures out as one, such as gray above, the predictions, the photos below.

    rows: as many pictures in each, uint8 (H, W, 3) of one size. gap: white pixels around and between them.
    Returns uint8 (rows · (H + gap) + gap, columns · (W + gap) + gap, 3).
    """
    pictures = torch.stack([torch.tensor(picture).permute(2, 0, 1) for row in rows for picture in row])
    return make_grid(pictures, nrow=len(rows[0]), padding=gap, pad_value=255).permute(1, 2, 0).numpy()


def new_figure(rows: int, columns: int, height: float, width: float = WIDTH) -> tuple[Figure, np.ndarray]:
    """An empty figure and its axes (rows, columns), which pyplot has let go of; height and width in inches."""
    size = {"figsize": (width, height), "dpi": 120}
    fig, axes = plt.subplots(rows, columns, **size, layout="constrained", squeeze=False)
    plt.close(fig)
    return fig, axes


def _show(ax: Axes, picture: np.ndarray, title: str) -> None:
    if not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)):
        raise ValueError(f"expected RGB (H, W, 3) or gray (H, W) pictures, got shape {picture.shape}")
    top = 255 if picture.dtype == np.uint8 else 1
    if picture.min() < 0 or picture.max() > top:
        came = f"{picture.dtype} from {picture.min():.3g} to {picture.max():.3g}"
        raise ValueError(f"expected uint8 pictures or floats from 0 to 1, got {came}")
    ax.imshow(picture, cmap="gray", vmin=0, vmax=top)
    ax.set(title=title, xticks=[], yticks=[], anchor="N")
    ax.spines[:].set_visible(False)


def _ab_plane(edges: np.ndarray) -> np.ndarray:
    """The colour of each (a*, b*) square at the mean L* of sRGB's colours there, paled: float (B, A, 3)."""
    middles, lightness = torch.from_numpy((edges[:-1] + edges[1:]) / 2).float(), torch.arange(1.0, 100, 2)
    lab = torch.stack(torch.meshgrid(lightness, middles, middles, indexing="ij"), dim=1)[:, [0, 2, 1]]
    inside = ~out_of_gamut(lab)  # (L, B, A)
    mean = (lab[:, 0] * inside).sum(dim=0) / inside.sum(dim=0).clamp(min=1)
    rgb = lab_to_rgb(torch.stack([mean, *lab[0, 1:]]))
    return torch.where(inside.any(dim=0), 0.5 + 0.5 * rgb, 1.0).permute(1, 2, 0).numpy()


def _lab_map(channel: int) -> Colormap:
    """A colour map from the dark negative end of a* (1) or b* (2) through gray to the light positive end."""
    t = torch.linspace(-1, 1, 256)
    lab = torch.stack([58 + 22 * t, 0 * t, 0 * t])
    lab[channel] = (45 if channel == 1 else 60) * t
    return ListedColormap(lab_to_rgb(lab[:, None])[:, 0].T.numpy())

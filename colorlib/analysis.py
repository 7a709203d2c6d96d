"""Where does a colorizer fail? Errors by chroma, hue, lightness and texture; lost hues; best and worst photos.

Checked by tests/test_analysis.py.
"""

import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from colorlib.color import AB_RANGE, encode_lab, rgb_to_lab
from colorlib.photo import read_photo, resize_photo, to_tensor

EDGES = {  # of the bins of pixels; CIE units, hue in degrees
    "chroma": (0, 5, 10, 15, 20, 30, 40, 60, 150),
    "hue": tuple(range(0, 361, 30)),
    "lightness": tuple(range(0, 101, 10)),
    "texture": (0, 0.5, 1, 2, 4, 8, 16, 50),  # standard deviation of L* in a window of 7×7 px
}
COLORED = 10  # chroma from which on a pixel has a hue
TONES = {"gamma": (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0), "contrast": (0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6)}


class Failures:
    """Collects the errors of predictions, pixel by pixel, in bins: `evaluate_model(…, on_photo=failures.add)`."""

    def __init__(self) -> None:
        self.sums = {by: np.zeros((len(edges) - 1, 6)) for by, edges in EDGES.items()}

    def add(self, name: str, pictures: Mapping[str, np.ndarray], scores: Mapping | None = None) -> None:
        """Count in a photo. pictures: "true" and "predicted", uint8 (H, W, 3); name and scores are not looked at."""
        true, predicted = (rgb_to_lab(to_tensor(pictures[key])).double() for key in ("true", "predicted"))
        (L, *ab), (_, *guess) = true, predicted
        chroma, guessed = torch.hypot(*ab), torch.hypot(*guess)
        values = {"chroma": (chroma, guessed), "hue": (_hue(*ab), _hue(*guess)), "lightness": (L, L)}
        values["texture"] = (_texture(L),) * 2
        error = torch.hypot(ab[0] - guess[0], ab[1] - guess[1])
        for by, (mine, theirs) in values.items():
            keep, kept = (chroma >= COLORED, guessed >= COLORED) if by == "hue" else (chroma >= 0, guessed >= 0)
            bins, count = _bins(mine, by), len(EDGES[by]) - 1
            for column, weight in enumerate((torch.ones_like(chroma), error, chroma, guessed)):
                self.sums[by][:, column] += torch.bincount(bins[keep], weight[keep], count).numpy()
            self.sums[by][:, 4] += torch.bincount(_bins(theirs, by)[kept], minlength=count).numpy()
            self.sums[by][:, 5] += chroma.numel()

    def table(self) -> pd.DataFrame:
        """A row a bin: by, low, high, share, error, gray_error, chroma, predicted_share.

        by: chroma, hue, lightness or texture, of the true photo. share: of all pixels. error: mean distance in the
        (a*, b*) plane; gray_error: gray's, which is the true chroma; chroma: of the predictions there. predicted_share:
        of the pixels whose prediction lies in the bin. Hues are those of pixels with a chroma of at least 10.
        """
        rows = []
        for by, sums in self.sums.items():
            for low, high, (count, error, true, guessed, theirs, total) in zip(
                EDGES[by][:-1], EDGES[by][1:], sums, strict=True
            ):
                means = [value / count if count else np.nan for value in (error, true, guessed)]
                rows.append([by, low, high, count / max(total, 1), *means, theirs / max(total, 1)])
        columns = ["by", "low", "high", "share", "error", "gray_error", "chroma", "predicted_share"]
        return pd.DataFrame(rows, columns=columns)


def tone_changes(
    predict: Callable[[Tensor], Tensor], photos: Sequence[str | os.PathLike], size: int = 256
) -> pd.DataFrame:
    """What the colours do when L is made lighter, darker, flatter or harder, as old prints are.

    predict: as for `evaluation.evaluate_model`. photos: paths of readable photos. Returns a row a change of TONES:
    change ("gamma" of L*/100, or "contrast", the factor of its distance to the photo's mean), value (1: none), moved
    (mean distance of the new colours to those without a change), error (to the true ones), chroma; all in a*b* units.
    Raises like `read_photo`.
    """
    sums = {(change, value): np.zeros(3) for change, values in TONES.items() for value in values}
    for path in photos:
        L, ab = encode_lab(rgb_to_lab(to_tensor(resize_photo(read_photo(path), size))[None]))
        lightness = (L + 1) / 2
        with torch.inference_mode():
            plain = predict(L)
            for (change, value), total in sums.items():
                if change == "gamma":
                    changed = lightness**value
                else:
                    changed = lightness.mean() + value * (lightness - lightness.mean())
                colors = plain if value == 1 else predict(2 * changed.clamp(0, 1) - 1)
                distances = (colors - plain, colors - ab, colors)
                total += [AB_RANGE * torch.hypot(*d.float().unbind(1)).mean().item() for d in distances]
    rows = [[*key, *(total / len(photos))] for key, total in sums.items()]
    return pd.DataFrame(rows, columns=["change", "value", "moved", "error", "chroma"])


def extremes(metrics: pd.DataFrame, method: str = "model", count: int = 5) -> pd.DataFrame:
    """The photos in colour on which a method gains least and most PSNR over gray, by name, the worst first.

    Returns image, psnr, gray_psnr, gain (dB), true_colorfulness, colorfulness; at most 2 · count rows.
    """
    mine, gray = (metrics[(metrics["method"] == who) & metrics["in_color"]] for who in (method, "gray"))
    table = mine[["image", "psnr", "true_colorfulness", "colorfulness"]].reset_index(drop=True)
    table.insert(2, "gray_psnr", gray["psnr"].to_numpy())
    table.insert(3, "gain", table["psnr"] - table["gray_psnr"])
    table = table[np.isfinite(table["gain"])].sort_values("gain", kind="stable", ignore_index=True)
    return table if len(table) <= 2 * count else pd.concat([table[:count], table[-count:]], ignore_index=True)


def near_gray(metrics: pd.DataFrame) -> pd.DataFrame:
    """The photos that hardly have colours (colourfulness below 5), by name, with every method's PSNR on them.

    There gray is nearly or exactly perfect and whoever paints loses: a few of them rule a mean of PSNRs. Returns image,
    true_colorfulness, and a column a method, in dB; the grayest first.
    """
    chosen = metrics[~metrics["in_color"].astype(bool)]
    table = chosen.pivot_table(index=["image", "true_colorfulness"], columns="method", values="psnr", sort=False)
    table = table.reindex(columns=list(dict.fromkeys(metrics["method"]))).reset_index()
    return table.rename_axis(columns=None).sort_values("true_colorfulness", kind="stable", ignore_index=True)


def _hue(a: Tensor, b: Tensor) -> Tensor:
    return torch.rad2deg(torch.atan2(b, a)) % 360


def _texture(L: Tensor) -> Tensor:
    """Standard deviation of L* (H, W) in the 7×7 window around each pixel."""
    padded = F.pad(L[None, None], (3, 3, 3, 3), mode="reflect")
    mean, square = (F.avg_pool2d(plane, 7, stride=1)[0, 0] for plane in (padded, padded**2))
    return (square - mean**2).clamp(min=0).sqrt()


def _bins(values: Tensor, by: str) -> Tensor:
    edges = torch.tensor(EDGES[by][1:-1], dtype=values.dtype)
    return torch.bucketize(values, edges, right=True)

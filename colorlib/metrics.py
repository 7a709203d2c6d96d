"""Numbers that judge a colorization: how far is the predicted picture from the true one?

Pictures are uint8 RGB (H, W, 3), of one size, and every function of two of them takes the true one first. All raise
`ValueError` for another dtype or shape, or for unequal sizes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

MAX = 255  # the highest level of an 8-bit channel
IN_COLOR = 5  # a photo of at least this colorfulness counts as "in color"
ONE_TINT = 9  # distance in ab within which 99% of a one-tinted picture's pixels lie from the mean of their lightness
AB_SQUARE = 10  # side of a square of the ab histogram, which goes from −110 to 110, in units of a* and b*


class Metric(NamedTuple):
    """What is printed of a metric, and which direction is better."""

    label: str
    unit: str  # empty for a pure number
    digits: int  # decimals that are worth printing
    higher_is_better: bool | None  # None: neither

    @property
    def title(self) -> str:
        """Label and unit, as for an axis."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


METRICS = {
    "psnr": Metric("PSNR", "dB", 2, True),
    "ssim": Metric("SSIM", "", 4, True),
    "rmse": Metric("RMSE", "levels", 2, False),
    "snr": Metric("SNR", "dB", 2, True),
    "pooled_psnr": Metric("Pooled PSNR", "dB", 2, True),
    "ab_error": Metric("L1 of a*b*", "", 2, False),
    "ciede2000": Metric("CIEDE2000", "", 2, False),
    "ab_histogram": Metric("ab histogram", "", 3, False),
    "colorfulness": Metric("Colorfulness", "", 1, None),
    "colorfulness_error": Metric("… off by", "", 1, False),
}


def calculate_psnr(true: np.ndarray, predicted: np.ndarray) -> float:
    """Peak signal-to-noise ratio: 10·log10(MAX² / MSE), over all pixels and channels; `inf` for identical pictures."""
    return _psnr(_mse(true, predicted))


def calculate_rmse(true: np.ndarray, predicted: np.ndarray) -> float:
    """Root mean squared error: sqrt(Σ(x − x̂)² / N), in 8-bit levels from 0 (identical) to 255."""
    return float(np.sqrt(_mse(true, predicted)))


def calculate_snr(true: np.ndarray, predicted: np.ndarray) -> float:
    """Signal-to-noise ratio: 10·log10(signal / noise), signal power Σx²/N, noise power Σ(x − x̂)²/N.

    `inf` for identical pictures (also if black), `-inf` for noise on a black photo.
    """
    return _snr(true, _mse(true, predicted))


def calculate_ssim(true: np.ndarray, predicted: np.ndarray) -> float:
    """Structural similarity: (2μxμy + c1)(2σxy + c2) / ((μx² + μy² + c1)(σx² + σy² + c2)), averaged.

    The means, variances and covariances are those of every 7×7 window, c1 = (0.01·MAX)², c2 = (0.03·MAX)²; the mean
    runs over windows and channels: at most 1 (identical). Wang et al. 2004, by scikit-image.
    """
    _check(true, predicted)
    return float(structural_similarity(true, predicted, channel_axis=2, data_range=MAX))


def calculate_ciede2000(true: np.ndarray, predicted: np.ndarray) -> float:
    """Mean difference ΔE00 of the pixels' colors, as the eye judges it: 0 for identical, 1 just about visible.

    CIE 142-2001, by scikit-image.
    """
    return _ciede2000(*_labs(true, predicted))


def calculate_ab_error(true: np.ndarray, predicted: np.ndarray) -> float:
    """Mean absolute error of a* and b*, in their units: 0 for identical; the L1 loss of training times 128."""
    return _ab_error(*_labs(true, predicted))


def calculate_ab_histogram(true: np.ndarray, predicted: np.ndarray) -> float:
    """Distance of the colors in use, wherever they are: total variation ½ Σ |p − q| of the two ab histograms.

    p and q are the shares of the pixels in each 10×10 square of the (a*, b*) plane: 0 for the same colors, 1 for none
    in common.
    """
    return _ab_histogram(*_labs(true, predicted))


def calculate_colorfulness(picture: np.ndarray) -> float:
    """Colorfulness: sqrt(σrg² + σyb²) + 0.3·sqrt(μrg² + μyb²), where rg = R − G and yb = (R + G)/2 − B.

    0 for gray, about 40 for a photo. rg and yb keep their sign, σ is the population's. Hasler and Süsstrunk 2003.
    """
    _check(picture, picture)
    red, green, blue = np.moveaxis(picture.astype(np.float64), 2, 0)
    rg, yb = red - green, (red + green) / 2 - blue
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


def is_in_color(picture: np.ndarray) -> bool:
    """Whether a picture has colors worth the name: a colorfulness of 5 or more."""
    return calculate_colorfulness(picture) >= IN_COLOR


def is_toned(picture: np.ndarray) -> bool:
    """Whether a picture, uint8 (H, W, 3), is in one tint, as a sepia print is: L* says nearly all of its ab."""
    L, ab = np.split(rgb2lab(picture).reshape(-1, 3).T, [1])
    shade = np.digitize(L[0], range(5, 100, 5))
    spread = [np.hypot(*(ab[:, shade == k] - ab[:, shade == k].mean(axis=1, keepdims=True))) for k in np.unique(shade)]
    return bool(np.quantile(np.concatenate(spread), 0.99) < ONE_TINT)


def pooled_psnr(rmse: Sequence[float] | np.ndarray) -> float:
    """PSNR of the mean MSE of several pictures, from the RMSE of each, in 8-bit levels."""
    return _psnr(np.mean(np.square(rmse)))


def to_lab(picture: np.ndarray) -> np.ndarray:
    """Convert a picture to CIE Lab, by scikit-image: float64 (H, W, 3)."""
    _check(picture, picture)
    return rgb2lab(picture / MAX)


def score_pictures(
    true: np.ndarray, predicted: np.ndarray, true_lab: np.ndarray | None = None,
    true_colorfulness: float | None = None,
) -> dict[str, float]:  # fmt: skip
    """Score a pair of pictures by all metrics; colorfulness_error: how far the prediction's is off.

    Whoever scores several predictions of one picture can pass on what is only the true one's: its
    `to_lab` and its colorfulness.
    """
    mse = _mse(true, predicted)
    labs = to_lab(true) if true_lab is None else true_lab, to_lab(predicted)
    colorfulness = calculate_colorfulness(predicted)
    if true_colorfulness is None:
        true_colorfulness = calculate_colorfulness(true)
    return {
        "psnr": _psnr(mse),
        "ssim": calculate_ssim(true, predicted),
        "rmse": float(np.sqrt(mse)),
        "snr": _snr(true, mse),
        "ciede2000": _ciede2000(*labs),
        "colorfulness": colorfulness,
        "colorfulness_error": abs(colorfulness - true_colorfulness),
        "ab_error": _ab_error(*labs),
        "ab_histogram": _ab_histogram(*labs),
    }


def _check(true: np.ndarray, predicted: np.ndarray) -> None:
    for picture in (true, predicted):
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
            came = getattr(picture, "dtype", type(picture).__name__)
            raise ValueError(f"expected uint8 RGB arrays (levels 0…255), got {came}; scale and round first")
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
            raise ValueError(f"expected RGB pictures of shape (H, W, 3), got {picture.shape}")
    if true.shape != predicted.shape:
        raise ValueError(f"expected pictures of one size, got {true.shape} and {predicted.shape}; resize one")


def _mse(true: np.ndarray, predicted: np.ndarray) -> float:
    _check(true, predicted)
    return float(np.mean((true.astype(np.float64) - predicted.astype(np.float64)) ** 2))


def _psnr(mse: float) -> float:
    return float(10 * np.log10(MAX**2 / mse)) if mse else np.inf


def _snr(true: np.ndarray, noise: float) -> float:
    signal = np.mean(np.square(true, dtype=np.float64))
    if noise == 0:
        return np.inf
    return float(10 * np.log10(signal / noise)) if signal else -np.inf


def _labs(true: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _check(true, predicted)
    return to_lab(true), to_lab(predicted)


def _ciede2000(true_lab: np.ndarray, lab: np.ndarray) -> float:
    return float(deltaE_ciede2000(true_lab, lab).mean())


def _ab_error(true_lab: np.ndarray, lab: np.ndarray) -> float:
    return float(np.abs(true_lab - lab)[..., 1:].mean())


def _ab_histogram(*labs: np.ndarray) -> float:
    squares = [(lab[..., 1:] // AB_SQUARE).reshape(-1, 2).astype(int) + 11 for lab in labs]  # 0 … 21
    p, q = (np.bincount(square @ (22, 1), minlength=22**2) / len(square) for square in squares)
    return float(np.abs(p - q).sum() / 2)

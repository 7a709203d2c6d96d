"""Numbers that judge a colorization: how far is the predicted picture from the true one?

Each metric stands here as in its formula, on uint8 RGB pictures (H, W, 3). Every evaluation also scores the
picture that has no colour at all (ab = 0, method "gray"): a model is worth what it adds to that.
"""

import os
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from skimage.color import deltaE_ciede2000, rgb2lab
from torch import Tensor, nn
from tqdm import tqdm

from colorlib.color import encode_lab, lab_to_rgb_image, rgb_to_lab
from colorlib.compare import count_wins, pooled_psnr
from colorlib.photo import PhotoError, read_photo, resize_photo, to_tensor

MAX = 255  # the highest level of an 8-bit channel
WINDOW = 7  # side of SSIM's window, px
COLORFUL = 5  # a photo of at least this colourfulness counts as "in colour"

VERDICTS = {  # the first word above its bound, the others from their bound on
    "psnr": ((40, "Excellent"), (30, "Good"), (20, "Acceptable"), (-np.inf, "Poor")),
    "ssim": ((0.9, "Excellent"), (0.7, "Good"), (0.5, "Moderate"), (-np.inf, "Poor")),
    "snr": ((20, "Good"), (-np.inf, "Below good")),
}
VERDICTS["pooled_psnr"] = VERDICTS["psnr"]
COLUMNS = ["subset", "metric", "method", "mean", "std", "min", "max", "count", "infinite", "verdict"]
LABELS = {  # of the summary's rows, with the decimals worth printing
    "psnr": ("PSNR (dB)", 2), "ssim": ("SSIM", 4), "rmse": ("RMSE (levels)", 2), "snr": ("SNR (dB)", 2),
    "pooled_psnr": ("Pooled PSNR (dB)", 2), "ciede2000": ("CIEDE2000", 2), "colorfulness": ("Colourfulness", 1),
}  # fmt: skip


def calculate_psnr(true: np.ndarray, predicted: np.ndarray) -> float:
    """Peak signal-to-noise ratio: 10·log10(MAX² / MSE), the MSE over all pixels and channels.

    true, predicted: uint8 RGB (H, W, 3). Returns dB, higher is better; `inf` for identical pictures. Raises
    `ValueError` for another dtype or shape, or unequal sizes. tests/test_evaluation.py asks scikit-image.
    """
    mse = _mse(true, predicted)
    return float(10 * np.log10(MAX**2 / mse)) if mse else np.inf


def calculate_rmse(true: np.ndarray, predicted: np.ndarray) -> float:
    """Root mean squared error: sqrt(Σ(x − x̂)² / N), in 8-bit levels from 0 (identical) to 255.

    Arguments and errors: see `calculate_psnr`. Checked by hand in tests/test_evaluation.py.
    """
    return float(np.sqrt(_mse(true, predicted)))


def calculate_snr(true: np.ndarray, predicted: np.ndarray) -> float:
    """Signal-to-noise ratio: 10·log10(signal / noise), signal power Σx²/N, noise power Σ(x − x̂)²/N.

    Arguments and errors: see `calculate_psnr`. Returns dB, higher is better; `inf` for identical pictures
    (also if black), `-inf` for noise on a black photo. Checked by hand in tests/test_evaluation.py.
    """
    noise = _mse(true, predicted)
    signal = np.mean(np.square(true, dtype=np.float64))
    if noise == 0:
        return np.inf
    return float(10 * np.log10(signal / noise)) if signal else -np.inf


def calculate_ssim(true: np.ndarray, predicted: np.ndarray) -> float:
    """Structural similarity: (2μxμy + c1)(2σxy + c2) / ((μx² + μy² + c1)(σx² + σy² + c2)), averaged.

    Arguments and errors: see `calculate_psnr`; both sides 7 px or more. μ, σ² and σxy are those of every 7×7
    window, the (co)variances divided by N − 1; c1 = (0.01·MAX)², c2 = (0.03·MAX)²; the mean runs over windows
    and channels. Returns at most 1 (identical). Wang et al. 2004, with scikit-image's default window:
    equal to its `structural_similarity` within 1e-9 (tests/test_evaluation.py).
    """
    x, y = (torch.from_numpy(p).permute(2, 0, 1) for p in _checked(true, predicted))  # (3, H, W), float64
    if min(x.shape[1:]) < WINDOW:
        raise ValueError(f"SSIM needs pictures of {WINDOW}×{WINDOW} px or more, got shape {true.shape}")
    mean = nn.AvgPool2d(WINDOW, stride=1)  # of every window: (3, H − 6, W − 6)
    sample = WINDOW**2 / (WINDOW**2 - 1)
    mu_x, mu_y = mean(x), mean(y)
    var_x, var_y = sample * (mean(x * x) - mu_x**2), sample * (mean(y * y) - mu_y**2)
    cov = sample * (mean(x * y) - mu_x * mu_y)
    c1, c2 = (0.01 * MAX) ** 2, (0.03 * MAX) ** 2
    ssim = (2 * mu_x * mu_y + c1) * (2 * cov + c2) / ((mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2))
    return float(ssim.mean())


def calculate_ciede2000(true: np.ndarray, predicted: np.ndarray) -> float:
    """Mean difference ΔE00 of the pixels' colours, as the eye judges it: 0 for identical, 1 just about visible.

    Arguments and errors: see `calculate_psnr`. CIE 142-2001, by scikit-image; see tests/test_evaluation.py.
    """
    return float(deltaE_ciede2000(*(rgb2lab(picture / MAX) for picture in _checked(true, predicted))).mean())


def calculate_colorfulness(image: np.ndarray) -> float:
    """Colourfulness: sqrt(σrg² + σyb²) + 0.3·sqrt(μrg² + μyb²), where rg = R − G and yb = (R + G)/2 − B.

    image: uint8 RGB (H, W, 3); errors: see `calculate_psnr`. Returns 0 for gray, about 40 for a common photo.
    rg and yb keep their sign, σ is the population's. Hasler and Süsstrunk 2003; checked by hand in
    tests/test_evaluation.py.
    """
    red, green, blue = np.moveaxis(_checked(image, image)[0], 2, 0)
    rg, yb = red - green, (red + green) / 2 - blue
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


def score_pictures(true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Score one pair of uint8 RGB pictures: psnr, ssim, rmse, snr, ciede2000, and the colorfulness of `predicted`."""
    metrics = {"psnr": calculate_psnr, "ssim": calculate_ssim, "rmse": calculate_rmse, "snr": calculate_snr}
    scores = {name: metric(true, predicted) for name, metric in metrics.items()}
    scores |= {"ciede2000": calculate_ciede2000(true, predicted), "colorfulness": calculate_colorfulness(predicted)}
    return scores


def evaluate_model(
    predict: Callable[[Tensor], Tensor],
    photos: Sequence[str | os.PathLike],
    size: int = 256,
    method: str = "model",
    progress: bool = True,
    on_photo: Callable[[str, dict, dict], None] | None = None,
) -> pd.DataFrame:
    """Score a colorizer, and the gray baseline beside it, on photo files.

    predict: from scaled L (1, 1, size, size) to scaled ab (1, 2, size, size). photos: paths; each photo,
    squeezed whole to size×size px (bicubic), is the true picture; the prediction, from its L, is made uint8.
    on_photo(name, pictures, scores): called after each photo with the uint8 pictures "gray", "predicted",
    "true" and the scores of `method` and "gray". Returns a row an image and method: image (name), method,
    psnr (dB), ssim, rmse (levels), snr (dB), ciede2000, colorfulness, true_colorfulness, in_color (true: at least 5).
    Unreadable photos are left out, named in a printed line and in `.attrs["skipped"]`, (name, reason) each.
    Raises `ValueError` if none is left or for ab of another shape or not finite. tests/test_evaluation.py.
    """
    if method == "gray":
        raise ValueError('method "gray" is the baseline, which is always scored; give the model another name')
    rows, skipped = [], []
    for path in tqdm(photos, "evaluating", unit="photo", file=sys.stdout, leave=False, disable=not progress):
        name = Path(path).name
        try:
            true = resize_photo(read_photo(path), size)
        except PhotoError as error:
            skipped.append((name, str(error)))
            continue
        L, ab = encode_lab(rgb_to_lab(to_tensor(true)[None]))  # (1, 1, S, S), (1, 2, S, S)
        gray = lab_to_rgb_image(L, torch.zeros_like(ab))
        predicted = lab_to_rgb_image(L, _predicted_ab(predict, L, name))
        scores = {method: score_pictures(true, predicted), "gray": score_pictures(true, gray)}
        truth = {"true_colorfulness": calculate_colorfulness(true)}
        truth["in_color"] = truth["true_colorfulness"] >= COLORFUL
        rows += [{"image": name, "method": who} | numbers | truth for who, numbers in scores.items()]
        if on_photo:
            on_photo(name, {"gray": gray, "predicted": predicted, "true": true}, scores)
    if skipped:
        print(f"Skipped {len(skipped)} of {len(photos)} photos: {'; '.join(why for _, why in skipped)}")
    if not rows:
        raise ValueError(f"expected photos to evaluate on, but none of the {len(photos)} given can be read")
    metrics = pd.DataFrame(rows)
    metrics.attrs["skipped"] = skipped
    return metrics


def verdict(metric: str, value: float) -> str:
    """Put a number into a word; gray earns good words too, so read a model's beside gray's.

    metric: a key of VERDICTS, or "rmse", with the bounds of the PSNR it makes (2.55, 8.06 and 25.5 levels).
    Returns "n/a" for NaN. Raises `ValueError` for other metrics. Checked by tests/test_evaluation.py.
    """
    if metric == "rmse":
        metric, value = "psnr", 20 * np.log10(MAX / value) if value else np.inf
    if metric not in VERDICTS:
        raise ValueError(f"expected a metric with thresholds, rmse or one of {[*VERDICTS]}, got {metric!r}")
    (top, best), *others = VERDICTS[metric]
    return best if value > top else next((word for bound, word in others if value >= bound), "n/a")


def summarize(metrics: pd.DataFrame) -> pd.DataFrame:
    """Condense `evaluate_model`'s table to a row a subset, method and metric.

    Columns: subset ("all", and "in_color" if there are such photos), metric, method, mean, std (population),
    min, max, count (photos), infinite (how many are ±inf: kept out of those four), verdict (of the mean).
    "pooled_psnr" is the PSNR of the mean MSE, found under mean. By hand in tests/test_evaluation.py.
    """
    rows = []
    for subset, chosen in {"all": metrics, "in_color": metrics[metrics["in_color"]]}.items():
        for metric, (method, table) in product(LABELS, chosen.groupby("method", sort=False)):
            if metric == "pooled_psnr":
                row = {"mean": pooled_psnr(table["rmse"]), "infinite": int(not table["rmse"].any())}
            else:
                finite = table[metric][np.isfinite(table[metric])]
                row = {"mean": finite.mean(), "std": finite.std(ddof=0), "infinite": len(table) - len(finite)}
                row |= {"min": finite.min(), "max": finite.max()}
            row["verdict"] = "" if metric in ("ciede2000", "colorfulness") else verdict(metric, row["mean"])
            rows.append({"subset": subset, "metric": metric, "method": method, "count": len(table)} | row)
    return pd.DataFrame(rows, columns=COLUMNS)


def format_summary(metrics: pd.DataFrame) -> str:
    """Lay `summarize`'s numbers out as text, gray below each model, and tell how often each beats gray."""
    lines = []
    for subset, table in summarize(metrics).groupby("subset", sort=False):
        chosen = metrics if subset == "all" else metrics[metrics["in_color"]]
        title = f"{'All photos' if subset == 'all' else 'Photos in colour'}: {table['count'].iloc[0]}"
        lines += ["", "", f"{title:29}     mean      std      min      max  infinite  verdict", "-" * 87]
        for row in table.itertuples():
            label, digits = LABELS[row.metric]
            label = label if row.method == table["method"].iloc[0] else ""
            cells = "".join(format(x, f"9.{digits}f") for x in row[4:8]).replace("nan", "   ")  # mean … max
            lines.append(f"{label:<17} {row.method:<11}{cells}{row.infinite:10}  {row.verdict}".rstrip())
        lines += ["", f"Colourfulness of the photos themselves: {chosen['true_colorfulness'].mean():.1f}"]
        for method in chosen.loc[chosen["method"] != "gray", "method"].unique():
            wins, photos = count_wins(chosen, method)
            lines.append(f"{method} beats gray, by PSNR, on {wins} of {photos} photos ({wins / photos:.1%})")
    lines += ["", "Infinite values are counted, and kept out of mean, std, min and max."]
    lines += [f"Skipped: {reason}" for _, reason in metrics.attrs.get("skipped", [])]
    return "\n".join(lines).strip() + "\n"


def _checked(true: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    for picture in (true, predicted):
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
            came = getattr(picture, "dtype", type(picture).__name__)
            raise ValueError(f"expected uint8 RGB arrays (levels 0…255), got {came}; scale and round first")
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
            raise ValueError(f"expected RGB pictures of shape (H, W, 3), got {picture.shape}")
    if true.shape != predicted.shape:
        raise ValueError(f"expected pictures of one size, got {true.shape} and {predicted.shape}; resize one")
    return true.astype(np.float64), predicted.astype(np.float64)


def _mse(true: np.ndarray, predicted: np.ndarray) -> float:
    x, y = _checked(true, predicted)
    return float(np.mean((x - y) ** 2))


def _predicted_ab(predict: Callable[[Tensor], Tensor], L: Tensor, name: str) -> Tensor:
    with torch.inference_mode():
        ab = torch.as_tensor(predict(L)).float().cpu()
    wanted = (1, 2, *L.shape[2:])
    if ab.shape != wanted or not ab.isfinite().all():
        what = "NaN or infinite values" if ab.shape == wanted else f"shape {tuple(ab.shape)}"
        raise ValueError(f"{name}: predict must return finite ab of shape {wanted}, got {what}")
    return ab

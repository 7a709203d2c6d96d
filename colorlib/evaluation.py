"""Numbers that judge a colorization: how far is the predicted picture from the true one?

Each metric stands here as in its formula, on uint8 RGB pictures (H, W, 3); `batch` has the same for many pictures at
once. Every evaluation also scores the picture that has no colour at all (ab = 0, method "gray"): a model is worth what
it adds to that.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from skimage.color import deltaE_ciede2000, rgb2lab
from torch import Tensor, nn
from tqdm import tqdm

from colorlib.batch import BIN, REACH, colorfulness, score_batch
from colorlib.color import AB_RANGE, decode_lab, encode_lab, lab_to_rgb, rgb_to_lab
from colorlib.compare import count_wins
from colorlib.photo import PhotoError, read_photo, resize_photo, to_tensor
from colorlib.summary import LABELS, VERDICTS, format_summary, summarize, verdict

__all__ = [
    "LABELS", "VERDICTS", "calculate_ab_error", "calculate_ab_histogram", "calculate_ciede2000",
    "calculate_colorfulness", "calculate_psnr", "calculate_rmse", "calculate_snr", "calculate_ssim", "constant_color",
    "count_wins", "evaluate_model", "format_summary", "score_pictures", "summarize", "verdict",
]  # fmt: skip

Predict = Callable[[Tensor], Tensor]

MAX = 255  # the highest level of an 8-bit channel
WINDOW = 7  # side of SSIM's window, px
COLORFUL = 5  # a photo of at least this colourfulness counts as "in colour"


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


def calculate_ab_error(true: np.ndarray, predicted: np.ndarray) -> float:
    """Mean absolute error of a* and b*, in their units: 0 for identical; the L1 loss of training times 128.

    Arguments and errors: see `calculate_psnr`; Lab by scikit-image. Checked by hand in tests/test_evaluation.py.
    """
    x, y = (rgb2lab(picture / MAX)[..., 1:] for picture in _checked(true, predicted))
    return float(np.abs(x - y).mean())


def calculate_ab_histogram(true: np.ndarray, predicted: np.ndarray) -> float:
    """Distance of the colours in use, wherever they are: total variation ½ Σ |p − q| of the two ab histograms.

    Arguments and errors: see `calculate_psnr`. p and q are the shares of the pixels in each 10×10 square of the
    (a*, b*) plane. Returns the share of pixels that would have to change their square: 0 for the same colours, 1 for
    none in common. Checked by hand in tests/test_evaluation.py.
    """
    edges = np.arange(-REACH, REACH + BIN, BIN)
    labs = (rgb2lab(picture / MAX) for picture in _checked(true, predicted))
    p, q = (np.histogram2d(lab[..., 1].ravel(), lab[..., 2].ravel(), bins=(edges, edges))[0] for lab in labs)
    return float(np.abs(p / p.sum() - q / q.sum()).sum() / 2)


def score_pictures(true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Score one pair of uint8 RGB pictures by all metrics; colorfulness_error: how far the prediction's is off."""
    metrics = {"psnr": calculate_psnr, "ssim": calculate_ssim, "rmse": calculate_rmse, "snr": calculate_snr}
    scores = {name: metric(true, predicted) for name, metric in metrics.items()}
    scores |= {"ciede2000": calculate_ciede2000(true, predicted), "colorfulness": calculate_colorfulness(predicted)}
    scores["colorfulness_error"] = abs(scores["colorfulness"] - calculate_colorfulness(true))
    scores |= {"ab_error": calculate_ab_error(true, predicted), "ab_histogram": calculate_ab_histogram(true, predicted)}
    return scores


def constant_color(a: float, b: float) -> Predict:
    """A colorizer that paints everything in one colour, in units of a* and b*: a baseline beside gray."""
    return lambda L: (torch.tensor([a, b]).to(L) / AB_RANGE).view(1, 2, 1, 1).expand(len(L), 2, *L.shape[2:])


def evaluate_model(
    predict: Predict | Mapping[str, Predict],
    photos: Sequence[str | os.PathLike],
    size: int = 256,
    method: str = "model",
    progress: bool = True,
    on_photo: Callable[[str, dict, dict], None] | None = None,
    batch: int = 1,
    device: str | torch.device = "cpu",
    extra: Mapping[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
) -> pd.DataFrame:
    """Score colorizers, and the gray baseline beside them, on photo files.

    predict: from scaled L (B, 1, size, size) to scaled ab (B, 2, size, size), called `method` in the table; or several,
    name → predict. photos: paths; each photo, its RGB taken for sRGB, squeezed whole to size×size px (bicubic), is the
    true picture; the prediction, from its L, is made uint8. on_photo(name, pictures, scores): called after each photo
    with the uint8 pictures "gray", "predicted" (the first method's), "true" and the scores by method. batch: photos
    that are predicted and scored together, on `device`. extra: more metrics, from uint8 pictures (B, 3, size, size),
    true and predicted, to (B,). Returns a row an image and method, "gray" last: image (name), method, psnr (dB), ssim,
    rmse (levels), snr (dB), ciede2000, colorfulness, colorfulness_error, ab_error (units), ab_histogram,
    true_colorfulness, in_color (true: at least 5). Unreadable photos are left out, named in a printed line and in
    `.attrs["skipped"]`, (name, reason) each. Raises `ValueError` if none is left or for ab of another shape or not
    finite.
    tests/test_evaluation.py.
    """
    methods = dict(predict) if isinstance(predict, Mapping) else {method: predict}
    if "gray" in methods:
        raise ValueError('method "gray" is the baseline, which is always scored; give the model another name')
    methods["gray"] = constant_color(0, 0)
    rows, skipped, waiting = [], [], {}
    bar = tqdm(photos, "evaluating", unit="photo", file=sys.stdout, leave=False, disable=not progress)
    for number, path in enumerate(bar, 1):
        try:
            waiting[number] = Path(path).name, resize_photo(read_photo(path, managed=False), size)
        except PhotoError as error:
            skipped.append((Path(path).name, str(error)))
        if waiting and (len(waiting) == batch or number == len(photos)):
            rows += _score_together([*waiting.values()], methods, extra or {}, device, on_photo)
            waiting = {}
    if skipped:
        print(f"Skipped {len(skipped)} of {len(photos)} photos: {'; '.join(why for _, why in skipped)}")
    if not rows:
        raise ValueError(f"expected photos to evaluate on, but none of the {len(photos)} given can be read")
    table = pd.DataFrame(rows)
    table.attrs["skipped"] = skipped
    return table


def _score_together(photos: list, methods: dict, extra: Mapping, device: str | torch.device, on_photo: Callable | None):
    """Rows of the table for some photos, (name, uint8 picture) each."""
    names = [name for name, _ in photos]
    true = torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for _, picture in photos]).to(device)
    L, _ = encode_lab(rgb_to_lab(torch.stack([to_tensor(picture) for _, picture in photos]).to(device)))
    color = colorfulness(true).tolist()
    pictures, scores = {}, {}
    for method, predict in methods.items():
        pictures[method] = _pictures(L, _predicted_ab(predict, L, names))
        scores[method] = score_batch(true, pictures[method])
        scores[method] |= {name: metric(true, pictures[method]) for name, metric in extra.items()}
    rows = []
    for i, name in enumerate(names):
        truth = {"true_colorfulness": color[i], "in_color": color[i] >= COLORFUL}
        mine = {method: {key: float(values[i]) for key, values in all_.items()} for method, all_ in scores.items()}
        rows += [{"image": name, "method": method} | numbers | truth for method, numbers in mine.items()]
        if on_photo:
            shown = {"gray": pictures["gray"], "predicted": pictures[next(iter(methods))], "true": true}
            on_photo(name, {key: value[i].permute(1, 2, 0).cpu().numpy() for key, value in shown.items()}, mine)
    return rows


def _pictures(L: Tensor, ab: Tensor) -> Tensor:
    """Scaled L (B, 1, H, W) and ab as uint8 RGB (B, 3, H, W), rounded as in `color.lab_to_rgb_image`."""
    return (lab_to_rgb(decode_lab(L, ab)) * MAX).round().to(torch.uint8)


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
    return float(np.mean(np.subtract(*_checked(true, predicted)) ** 2))


def _predicted_ab(predict: Predict, L: Tensor, names: list[str]) -> Tensor:
    with torch.inference_mode():
        ab = torch.as_tensor(predict(L)).float().to(L.device)
    wanted = (len(L), 2, *L.shape[2:])
    if ab.shape != wanted or not ab.isfinite().all():
        what = "NaN or infinite values" if ab.shape == wanted else f"shape {tuple(ab.shape)}"
        raise ValueError(f"{', '.join(names)}: predict must return finite ab of shape {wanted}, got {what}")
    return ab

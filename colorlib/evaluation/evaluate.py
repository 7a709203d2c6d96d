"""Score colorizers on photos, beside the picture without any color: a model is worth what it adds to that."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from colorlib.color import AB_RANGE, encode_lab, lab_to_rgb_image, rgb_to_lab
from colorlib.metrics import IN_COLOR, calculate_colorfulness, score_pictures, to_lab
from colorlib.photo import PhotoError, read_photo, resize_photo, to_tensor
from colorlib.system import available_cores

Predict = Callable[[Tensor], Tensor]
TOGETHER = 16  # photos that are predicted at a time


def constant_color(a: float, b: float) -> Predict:
    """Make a colorizer that paints everything in one color, in units of a* and b*: a baseline beside gray."""
    return lambda L: (torch.tensor([a, b]).to(L) / AB_RANGE).view(1, 2, 1, 1).expand(len(L), 2, *L.shape[2:])


def evaluate_model(
    predict: Predict | Mapping[str, Predict], photos: Sequence[str | os.PathLike], size: int = 256,
    progress: bool = True, on_photo: Callable[[str, dict, dict], None] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Score colorizers, and the gray baseline beside them, on photo files.

    Pictures are uint8 (size, size, 3). The true one is the whole photo, its RGB taken for sRGB, squeezed (bicubic).
    Unreadable photos are left out, printed, and named in the table's `.attrs["skipped"]`: (name, reason) each.

    `predict` makes scaled ab (B, 2, size, size), on any device, of scaled L (B, 1, size, size); several come by name, a
    single one is called "model". `on_photo` is given a photo's name, its pictures "gray", "predicted" (by the first
    method) and "true", and its scores, method → metric → value.

    Returns:
        A row a photo and method, "gray" last: image (name), method, what `score_pictures` gives, true_colorfulness,
        in_color.
    """
    methods = dict(predict) if isinstance(predict, Mapping) else {"model": predict}
    if "gray" in methods:
        raise ValueError('"gray" is the baseline, which is always scored; give the method another name')
    methods["gray"] = constant_color(0, 0)
    rows, skipped = [], []
    bar = tqdm(total=len(photos), desc="evaluating", unit="photo", file=sys.stdout, leave=False, disable=not progress)
    with bar, ThreadPoolExecutor(available_cores()) as pool:
        for start in range(0, len(photos), TOGETHER):
            group = []
            for path in photos[start : start + TOGETHER]:
                try:
                    group.append((Path(path).name, resize_photo(read_photo(path, managed=False, whole=True), size)))
                except PhotoError as error:
                    skipped.append((Path(path).name, str(error)))
                bar.update()
            if not group:
                continue
            names, true = zip(*group, strict=True)
            L, _ = encode_lab(rgb_to_lab(torch.stack([to_tensor(picture) for picture in true])))
            painted = {method: _paint(predict, L, names) for method, predict in methods.items()}
            together = [dict(zip(painted, pictures, strict=True)) for pictures in zip(*painted.values(), strict=True)]
            judged = pool.map(_judge, true, together)
            for i, (name, (truth, mine)) in enumerate(zip(names, judged, strict=True)):
                rows += [{"image": name, "method": method} | numbers | truth for method, numbers in mine.items()]
                if on_photo:
                    pictures = {"gray": painted["gray"], "predicted": painted[next(iter(methods))], "true": true}
                    on_photo(name, {key: values[i] for key, values in pictures.items()}, mine)
    if skipped:
        print(f"Skipped {len(skipped)} of {len(photos)} photos: {'; '.join(why for _, why in skipped)}")
    if not rows:
        raise ValueError(f"expected photos to evaluate on, but none of the {len(photos)} given can be read")
    table = pd.DataFrame(rows)
    table.attrs["skipped"] = skipped
    return table


def _judge(true: np.ndarray, pictures: Mapping[str, np.ndarray]) -> tuple[dict, dict]:
    """What is to say of a true picture itself, and the scores of each method's picture of it."""
    lab, colorfulness = to_lab(true), calculate_colorfulness(true)  # once for all methods
    truth = {"true_colorfulness": colorfulness, "in_color": colorfulness >= IN_COLOR}
    scores = {method: score_pictures(true, picture, lab, colorfulness) for method, picture in pictures.items()}
    return truth, scores


def _paint(predict: Predict, L: Tensor, names: Sequence[str]) -> list[np.ndarray]:
    """The uint8 pictures (H, W, 3) that a prediction makes of scaled L (B, 1, H, W)."""
    with torch.inference_mode():
        ab = torch.as_tensor(predict(L)).to(L)
    wanted = (len(L), 2, *L.shape[2:])
    if ab.shape != wanted or not ab.isfinite().all():
        what = "NaN or infinite values" if ab.shape == wanted else f"shape {tuple(ab.shape)}"
        raise ValueError(f"{', '.join(names)}: predict must return finite ab of shape {wanted}, got {what}")
    return [lab_to_rgb_image(*pair) for pair in zip(L, ab, strict=True)]

"""The scores of `evaluation`, for many pictures at once and on any device: the same numbers within 1e-6, sooner.

tests/test_batch.py holds each of them equal to the formula for one picture.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from colorlib.color import rgb_to_lab

MAX, WINDOW = 255, 7  # the highest level; side of SSIM's window, px
BIN, REACH = 10, 110  # side of a bin of the ab histogram, and how far the histogram goes, in units of a* and b*


def score_batch(true: Tensor, predicted: Tensor) -> dict[str, Tensor]:
    """Score pairs of pictures.

    true, predicted: uint8 RGB (B, 3, H, W) on one device, sides 7 px or more. Returns float64 (B,) each, on the CPU:
    the names and meanings are those of `evaluation.score_pictures`. Raises `ValueError` for other pictures.
    """
    if true.shape != predicted.shape or true.dtype != torch.uint8 or predicted.dtype != torch.uint8:
        came = f"{true.dtype} {tuple(true.shape)} and {predicted.dtype} {tuple(predicted.shape)}"
        raise ValueError(f"expected two uint8 tensors (B, 3, H, W) of one shape, got {came}")
    if true.device.type == "cpu" and len(true) > 1:  # one by one: a picture stays in the processor's cache, many do not
        parts = [score_batch(*pair) for pair in zip(true.split(1), predicted.split(1), strict=True)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    x, y = true.double(), predicted.double()
    mse = ((x - y) ** 2).mean(dim=(1, 2, 3))
    signal = (x**2).mean(dim=(1, 2, 3))
    labs = [rgb_to_lab(picture / MAX) for picture in (x, y)]
    color = colorfulness(predicted)
    scores = {
        "psnr": torch.where(mse == 0, torch.inf, 10 * torch.log10(MAX**2 / mse)),
        "ssim": ssim(x, y),
        "rmse": mse.sqrt(),
        "snr": torch.where(mse == 0, torch.inf, 10 * torch.log10(signal / mse)),
        "ciede2000": ciede2000(*labs).mean(dim=(1, 2)),
        "colorfulness": color,
        "colorfulness_error": (color - colorfulness(true)).abs(),
        "ab_error": (labs[0][:, 1:] - labs[1][:, 1:]).abs().mean(dim=(1, 2, 3)),
        "ab_histogram": (ab_histogram(labs[0]) - ab_histogram(labs[1])).abs().sum(dim=1) / 2,
    }
    return {name: values.cpu() for name, values in scores.items()}


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of pictures (B, 3, H, W), float64 levels: (B,). See `evaluation.calculate_ssim`."""
    sample = WINDOW**2 / (WINDOW**2 - 1)
    mu_x, mu_y, xx, yy, xy = (_window_mean(plane) for plane in (x, y, x * x, y * y, x * y))
    var_x, var_y, cov = sample * (xx - mu_x**2), sample * (yy - mu_y**2), sample * (xy - mu_x * mu_y)
    c1, c2 = (0.01 * MAX) ** 2, (0.03 * MAX) ** 2
    value = (2 * mu_x * mu_y + c1) * (2 * cov + c2) / ((mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2))
    return value.mean(dim=(1, 2, 3))


def colorfulness(rgb: Tensor) -> Tensor:
    """Colourfulness of uint8 pictures (B, 3, H, W): float64 (B,). See `evaluation.calculate_colorfulness`."""
    red, green, blue = rgb.double().flatten(2).unbind(dim=1)  # (B, H·W)
    rg, yb = red - green, (red + green) / 2 - blue
    spread = torch.hypot(rg.std(dim=1, correction=0), yb.std(dim=1, correction=0))
    return spread + 0.3 * torch.hypot(rg.mean(dim=1), yb.mean(dim=1))


def ab_histogram(lab: Tensor) -> Tensor:
    """The share of each picture's pixels in every 10×10 square of the (a*, b*) plane.

    lab: L*a*b* (B, 3, H, W). Returns (B, 484), float64, each row summing to 1; colours beyond ±110 count at the edge.
    """
    across = 2 * REACH // BIN
    a, b = ((lab[:, 1:] + REACH) / BIN).floor().clamp(0, across - 1).long().flatten(2).unbind(dim=1)
    counts = torch.zeros(len(lab), across**2, dtype=torch.float64, device=lab.device)
    counts.scatter_add_(1, a * across + b, torch.ones_like(a, dtype=torch.float64))
    return counts / a.shape[1]


def ciede2000(one: Tensor, two: Tensor) -> Tensor:
    """The colour difference ΔE00 of every pixel: (B, H, W), from L*a*b* (B, 3, H, W), float64 for full precision.

    Sharma, Wu and Dalal 2005, doi:10.1002/col.20070, whose names the variables bear.
    """
    (L1, a1, b1), (L2, a2, b2) = one.unbind(dim=1), two.unbind(dim=1)
    mean_c = (torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2
    g = (1 - _saturating(mean_c)) / 2
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    h1, h2 = (torch.atan2(b, a) % (2 * torch.pi) for a, b in ((a1, b1), (a2, b2)))

    # differences; of hues, the shorter way round, and none where a colour is gray
    turn = h2 - h1
    turn = torch.where(turn > torch.pi, turn - 2 * torch.pi, torch.where(turn < -torch.pi, turn + 2 * torch.pi, turn))
    turn = torch.where(c1 * c2 == 0, 0.0, turn)
    delta_h = 2 * (c1 * c2).sqrt() * torch.sin(turn / 2)
    # means; of hues, on the side where both are
    apart = (h1 - h2).abs() > torch.pi
    hue = (h1 + h2) / 2 + torch.where(apart, torch.where(h1 + h2 < 2 * torch.pi, torch.pi, -torch.pi), 0.0)
    hue = torch.where(c1 * c2 == 0, h1 + h2, hue)
    lightness, chroma = (L1 + L2) / 2, (c1 + c2) / 2

    t = 1 - 0.17 * torch.cos(hue - torch.pi / 6) + 0.24 * torch.cos(2 * hue)
    t = t + 0.32 * torch.cos(3 * hue + torch.pi / 30) - 0.20 * torch.cos(4 * hue - 63 * torch.pi / 180)
    s_l = 1 + 0.015 * (lightness - 50) ** 2 / (20 + (lightness - 50) ** 2).sqrt()
    s_c, s_h = 1 + 0.045 * chroma, 1 + 0.015 * chroma * t
    rotation = 60 * torch.exp(-(((torch.rad2deg(hue) - 275) / 25) ** 2))
    r_t = -2 * _saturating(chroma) * torch.sin(torch.deg2rad(rotation))
    l_part, c_part, h_part = (L2 - L1) / s_l, (c2 - c1) / s_c, delta_h / s_h
    return (l_part**2 + c_part**2 + h_part**2 + r_t * c_part * h_part).clamp(min=0).sqrt()


def _window_mean(plane: Tensor) -> Tensor:
    """The mean of every window, by sums that grow from the corner: exact, since levels and their products are whole."""
    total = F.pad(plane, (1, 0, 1, 0)).cumsum(dim=-1).cumsum(dim=-2)
    low, high = total[..., :-WINDOW, :], total[..., WINDOW:, :]
    return (high[..., WINDOW:] - high[..., :-WINDOW] - low[..., WINDOW:] + low[..., :-WINDOW]) / WINDOW**2


def _saturating(chroma: Tensor) -> Tensor:
    seventh = chroma**7
    return (seventh / (seventh + 25.0**7)).sqrt()

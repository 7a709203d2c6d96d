"""Each metric by hand, on pictures small enough to do so."""

import tracemalloc

import numpy as np
import pytest
from skimage.color import lab2rgb

from colorlib import metrics

BASE = np.full((8, 8, 3), 100, np.uint8)
OFF = BASE + np.uint8(10)
# L* 50, b* 20, and a* of 15 in the left half or everywhere
HALF = (255 * lab2rgb([[[50.0, 15.0 * (x < 8), 20.0] for x in range(16)]] * 16)).round().astype(np.uint8)
WHOLE = np.repeat(HALF[:, :1], 16, axis=1)


def test_metrics_by_hand():
    assert metrics.calculate_rmse(BASE, OFF) == 10
    assert metrics.calculate_psnr(BASE, OFF) == pytest.approx(20 * np.log10(255 / 10))
    assert metrics.calculate_snr(BASE, OFF) == pytest.approx(20)
    assert metrics.calculate_snr(0 * BASE, OFF) == -np.inf
    flat = (2 * 100 * 110 + 2.55**2) / (100**2 + 110**2 + 2.55**2)  # without variance, only the means count
    assert metrics.calculate_ssim(BASE, OFF) == pytest.approx(flat)
    assert metrics.calculate_ab_error(WHOLE, HALF) == pytest.approx(15 / 4, abs=0.2)
    assert metrics.calculate_ab_histogram(WHOLE, HALF) == 0.5
    assert 4 < metrics.calculate_ciede2000(WHOLE, HALF) < 8, "half of about 12"
    red = BASE * np.uint8([1, 0, 0])  # rg is 100, yb is 50
    assert metrics.calculate_colorfulness(red) == pytest.approx(0.3 * np.hypot(100, 50))
    assert metrics.is_in_color(red) and not metrics.is_in_color(BASE)
    sepia = (np.arange(64 * 64).reshape(64, 64, 1) % 200 * [1, 0.8, 0.6]).astype(np.uint8)
    assert metrics.is_in_color(sepia) and metrics.is_toned(sepia), "colors of a print, not of the scene"
    assert not metrics.is_toned(np.hstack([sepia, sepia[..., ::-1]]))
    assert metrics.pooled_psnr([10, 0]) == pytest.approx(10 * np.log10(255**2 / 50))


def test_each_picture_is_converted_once(monkeypatch):
    """And what several predictions share can be passed on; nothing is kept that fills the memory."""
    converted, rgb2lab = [], metrics.rgb2lab
    monkeypatch.setattr(metrics, "rgb2lab", lambda rgb: converted.append(rgb.shape) or rgb2lab(rgb))
    scores = metrics.score_pictures(WHOLE, HALF)
    assert len(converted) == 2
    for name in ("psnr", "ssim", "rmse", "snr", "ciede2000", "ab_error", "ab_histogram"):
        assert scores[name] == getattr(metrics, f"calculate_{name}")(WHOLE, HALF), "to the last digit"
    lab, colorfulness = metrics.to_lab(WHOLE), metrics.calculate_colorfulness(WHOLE)
    converted.clear()
    assert metrics.score_pictures(WHOLE, HALF, lab, colorfulness) == scores and len(converted) == 1
    tracemalloc.start()
    metrics.score_pictures(np.tile(WHOLE, (32, 16, 1)), np.tile(HALF, (32, 16, 1)))
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left < 1e5


def test_identical_pictures_and_wrong_ones():
    perfect = {"psnr": np.inf, "ssim": 1, "rmse": 0, "snr": np.inf, "ciede2000": 0, "ab_error": 0, "ab_histogram": 0}
    scores = metrics.score_pictures(HALF, HALF)
    assert {name: scores[name] for name in perfect} == perfect and scores["colorfulness_error"] == 0
    for wrong in (BASE / 255, BASE[..., 0], BASE[:4]):
        with pytest.raises(ValueError, match=r"expected .*(uint8|shape|size)"):
            metrics.score_pictures(BASE, wrong)

"""The benchmark runs, its ways give the same (test_data.py, too), and what it measured is what README says."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from benchmarks import speed
from colorlib.colorize import Colorizer
from colorlib.config import Config
from colorlib.data import sample_photos
from colorlib.model import UNet

CONFIG = Config(width=4, depth=4, image_size=48, batch_size=4)


@pytest.mark.slow
def test_a_quick_run_measures_everything(tmp_path, capsys):
    table = speed.main(["--quick", "--rounds", "1", "--workers", "0", "--device", "cpu", "--out", str(tmp_path)])
    (path,) = tmp_path.glob("*.csv")
    saved = pd.read_csv(path)
    assert saved["what"].tolist() == table["what"].tolist()
    assert set(speed.AIMS) <= set(saved["what"]), "each aim has its row"
    assert saved["colorlib"].notna().all() and (saved["colorlib"] >= 0).all()
    pairs = saved.dropna(subset="straightforward")
    assert (pairs["ratio"] > 0).all() and len(pairs) >= 8
    assert saved.set_index("what").loc["training", "aim"] == 2.5
    assert "→" in capsys.readouterr().out


@pytest.mark.parametrize(("side", "levels"), [(48, 1), (400, 12)])
def test_both_ways_give_the_same_picture(side, levels):
    """But for colors that end at edges: where the photo is no larger than the network's square, there is no edge."""
    model = UNet(4, 4).eval()
    image = Image.open(sample_photos()[0]).resize((side, side))
    plain = speed.plain_colorize(model, image, 48, torch.device("cpu")).astype(int)
    ours = Colorizer(model, CONFIG, "float32").colorize(image)
    assert np.abs(plain - ours).max() <= levels and np.abs(plain - ours).mean() < 0.5


def test_operations_are_those_of_the_layers():
    """Of a convolution: 2 · 16 · in · out for each pixel of its output (transposed: of its input)."""
    config = Config(width=8, depth=4, image_size=64)
    counted, step = speed.count_operations(config)
    pixels, channels = [32**2, 16**2, 8**2, 4**2], [1, 8, 16, 32, 32]
    down = [2 * 16 * a * b * p for a, b, p in zip(channels, channels[1:], pixels, strict=False)]
    up = [2 * 16 * a * b * p for a, b, p in zip([32, 64, 32, 16], [32, 16, 8, 2], pixels[::-1], strict=True)]
    assert counted == sum(down) + sum(up)
    assert 2.5 < step / counted < 3


@pytest.mark.parametrize("what", speed.AIMS)
def test_readme_tells_what_was_measured(what):
    readme = (speed.RESULTS.parent.parent / "README.md").read_text(encoding="utf-8")
    tables = [pd.read_csv(path).set_index("what") for path in sorted(speed.RESULTS.glob("*.csv"))]
    assert tables
    for table in tables:
        row = table.loc[what]
        slow, fast = (f"{row[way]:,.3g}" if row[way] < 100 else f"{row[way]:,.0f}" for way in table.columns[1:3])
        cells = f"| {slow} | {fast} | {row['ratio']:.1f}× |"
        assert f"| {what}, {row['unit']} {cells}" in readme, f"README.md should hold {cells}"
        assert row["device"].split(",")[0] in readme

"""Failure analysis: bins by hand, lost hues, and photos by name."""

import numpy as np
import pytest
import torch
from conftest import blobs

from colorlib.color import lab_to_rgb
from colorlib.evaluation import Failures


def patch(L, a, b, side=16):
    lab = torch.tensor([L, a, b], dtype=torch.float64).view(3, 1, 1).expand(3, side, side)
    return (lab_to_rgb(lab) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def failures(true, predicted):
    found = Failures()
    found.add("photo", {"true": true, "predicted": predicted})
    return found.table().set_index(["by", "low"])


def test_error_of_a_single_color_by_hand():
    table = failures(patch(55, 25, 1), patch(55, 1, 25))
    for key in (("chroma", 20), ("hue", 0), ("lightness", 50), ("texture", 0)):
        row = table.loc[key]
        assert row["share"] == 1, key
        assert row["error"] == pytest.approx(24 * 2**0.5, abs=1)
        assert row["gray_error"] == pytest.approx(25, abs=1) and row["chroma"] == pytest.approx(25, abs=1)
    assert table["share"].sum() == 4, "every pixel once by each of the four"
    assert table.loc[("hue", 60), "predicted_share"] == 1 and table.loc[("hue", 0), "predicted_share"] == 0
    assert np.isnan(table.loc[("hue", 60), "error"]), "no true pixel has this hue"


def test_gray_pixels_have_no_hue():
    table = failures(patch(50, 1, 1), patch(50, 20, 0))
    assert table.loc["hue", "share"].sum() == 0 and table.loc["hue", "predicted_share"].sum() == 1
    assert table.loc[("chroma", 0), "share"] == 1


def test_texture_is_the_spread_of_lightness():
    rough = patch(50, 20, 0)
    rough[::2] = patch(30, 20, 0)[::2]
    table = failures(rough, rough)
    assert table.loc[("texture", 8), "share"] == 1, "±10 units of L*"
    assert (table["error"].dropna() < 1e-6).all()


def test_photos_add_up():
    found, pairs = Failures(), [{"true": blobs(i), "predicted": blobs(i + 3)} for i in range(3)]
    for pair in pairs:
        found.add("", pair)
    table = found.table()
    assert list(table.columns) == ["by", "low", "high", "share", "error", "gray_error", "chroma", "predicted_share"]
    assert table.groupby("by")["share"].sum().drop("hue").tolist() == pytest.approx([1, 1, 1])
    alone = [failures(**pair).reset_index() for pair in pairs]
    assert table["share"].to_numpy() == pytest.approx(sum(one["share"] for one in alone) / 3)
    errors = sum((one["share"] * one["error"]).fillna(0) for one in alone) / 3
    assert (table["share"] * table["error"]).fillna(0).to_numpy() == pytest.approx(errors)

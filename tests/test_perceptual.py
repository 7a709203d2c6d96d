"""LPIPS without the download: what is missing is said, and what is there is called as it should be."""

import sys
import types

import pytest
import torch

from colorlib.perceptual import LpipsError, load_lpips


def torchmetrics(monkeypatch, network):
    names = ("torchmetrics", "torchmetrics.functional", "torchmetrics.functional.image")
    for name in (*names, f"{names[-1]}.lpips"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[f"{names[-1]}.lpips"]._NoTrainLpips = network


def test_without_torchmetrics(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image.lpips", None)
    with pytest.raises(LpipsError, match=r"pip install 'colorlib\[lpips\]'"):
        load_lpips()


def test_without_a_network(monkeypatch):
    def network(net):
        raise OSError("no route to host")

    torchmetrics(monkeypatch, network)
    with pytest.raises(LpipsError, match=r"cannot be downloaded \(no route to host\): score once with internet"):
        load_lpips()


def test_pictures_are_scaled_to_one(monkeypatch):
    class Network(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            assert net == "alex"

        def forward(self, x, y):
            assert x.min() == -1 and x.max() == 1
            return (x - y).abs().mean(dim=(1, 2, 3), keepdim=True)

    torchmetrics(monkeypatch, Network)
    true = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    true[:, 0] = 255
    predicted = true.clone()
    predicted[1, 0] = 0
    assert load_lpips()(true, predicted).tolist() == pytest.approx([0, 2 / 3])

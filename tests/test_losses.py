"""The losses, by hand and against torch; VGG16 with random weights, and never a download."""

import math
import urllib.error
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import torchvision

from colorlib.color import decode_lab, lab_to_rgb
from colorlib.losses import L1, ColorLoss, Huber, Perceptual, palette_nll
from colorlib.model import UNet
from colorlib.palette import Palette


@pytest.fixture(autouse=True)
def asked_for(monkeypatch):
    """Stand in for torchvision's `vgg16`: its first three stages, random weights, no download.

    Gives the list of the weights that were asked for.
    """
    vgg, asked = torchvision.models.vgg, []

    def vgg16(weights):
        asked.append(weights)
        return SimpleNamespace(features=vgg.make_layers(vgg.cfgs["D"][:9]))

    monkeypatch.setattr(torchvision.models, "vgg16", vgg16)
    return asked


def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """L of two photos, 16×24, and two colorings of it that sRGB can show."""
    return torch.rand(2, 1, 16, 24) - 0.5, *(torch.rand(2, 2, 2, 16, 24) * 0.2 - 0.1)


def chosen() -> Palette:
    """A random palette of three colors for them, at a quarter of their sides."""
    return Palette(torch.rand(2, 3, 2) - 0.5, torch.randn(2, 3, 4, 6).log_softmax(1), 0.05 + 0.1 * torch.rand(2, 3))


def test_l1_and_huber_by_hand():
    predicted, true = torch.tensor([0.5, -0.25, 0.0, 1.0]), torch.tensor([0.0, 0.25, 0.5, -1.0])
    assert L1()(predicted.view(1, 2, 1, 2), true.view(1, 2, 1, 2)).item() == (0.5 + 0.5 + 0.5 + 2.0) / 4
    predicted = torch.tensor([0.05, -0.3, 0.1, 0.0]).view(1, 2, 1, 2)
    squared, absolute, corner = 0.05**2 / (2 * 0.1), 0.3 - 0.1 / 2, 0.1 / 2
    loss = Huber(delta=0.1)(predicted, torch.zeros(1, 2, 1, 2))
    assert loss.shape == () and loss.item() == pytest.approx((squared + absolute + corner) / 4)


def test_palette_nll_is_that_of_a_mixture_of_densities():
    """A color's pixels lie at any angle, at distances of a gamma distribution: a wide spread cannot cheat."""
    palette, true = chosen(), torch.rand(2, 2, 16, 24) - 0.5
    pixels = true.view(2, 1, 2, 4, 4, 6, 4).mean(dim=(4, 6))  # 4×4 of the photo for each pixel of the palette
    distance = (palette.colors.view(2, 3, 2, 1, 1) - pixels).norm(dim=2)  # (B, K, h, w)
    spread = palette.spreads.view(2, 3, 1, 1)
    log_density = torch.distributions.Gamma(2.0, 1 / spread).log_prob(distance) - (2 * math.pi * distance).log()
    expected = -(palette.log_weights + log_density).logsumexp(dim=1).mean() - math.log(2 * math.pi)
    torch.testing.assert_close(palette_nll(palette, true), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [96, 100, 99, 97])
def test_a_perfect_palette_is_as_likely_at_any_size(size):
    """A checkerboard of 2×2 squares in two colors; at 100 px, the network of depth 5 pads."""
    model = UNet(4, 5, palette=2).eval()

    def checkers(scene, pixels):
        rows, columns = (torch.arange(side) for side in pixels.shape[2:])
        second = ((rows[:, None] + columns) % 2).expand(1, 1, -1, -1)
        weights = torch.cat([1 - second, second], dim=1).clamp(min=1e-6)
        return Palette(torch.tensor([[[0.3, 0.2], [-0.3, 0.1]]]), weights.log(), torch.full((1, 2), 0.02))

    model.palette.forward = checkers
    with torch.no_grad():
        _, palette = model.forward_with_palette(torch.rand(1, 1, size, size) * 2 - 1)
    place = torch.arange(size) // 2
    true = palette.colors[0][(place[:, None] + place) % 2].permute(2, 0, 1)[None]
    assert palette.log_weights.shape[2:] == (len(place.unique()),) * 2
    assert palette_nll(palette, true).item() == pytest.approx(2 * math.log(0.02) + 1e-4 / 0.02, abs=1e-3)


def test_perceptual_by_hand(asked_for):
    """The features after the last ReLU before each of the first three poolings; a third for each depth."""
    (L, predicted, true), plain = scene(), ColorLoss(palette_likelihood=0.1)
    assert torch.equal(plain(L, predicted, true, None), L1()(predicted, true)), "there is no palette to judge"
    assert not asked_for and not list(plain.parameters()), "no VGG16 where nobody asks for it"
    loss = Perceptual().train()
    assert asked_for == [torchvision.models.VGG16_Weights.IMAGENET1K_V1]
    weights = loss.state_dict()

    def look(ab):
        rgb = lab_to_rgb(decode_lab(L, ab))
        x = torch.stack([(rgb[:, 0] - 0.485) / 0.229, (rgb[:, 1] - 0.456) / 0.224, (rgb[:, 2] - 0.406) / 0.225], dim=1)
        for number in (0, 2, 5, 7, 10, 12, 14):
            x = F.max_pool2d(x, 2) if number in (5, 10) else x
            x = F.conv2d(x, weights[f"features.{number}.weight"], weights[f"features.{number}.bias"], padding=1).relu()
            if number in (2, 7, 14):
                yield x

    pairs = list(zip(look(predicted), look(true), strict=True))
    assert [x.shape[1:] for x, _ in pairs] == [(64, 16, 24), (128, 8, 12), (256, 4, 6)]
    expected = sum((x - y).abs().mean() for x, y in pairs) / 3
    torch.testing.assert_close(loss(L, predicted, true), expected, atol=1e-6, rtol=1e-4)
    assert loss(L, true, true) == 0 and loss(L, true, true + 0.05) < loss(L, true, true + 0.2)
    loss(L, (4 * predicted).requires_grad_(), true).backward()  # also colors that sRGB lacks
    assert not any(weight.requires_grad for weight in loss.parameters()), "VGG16 stays as it is"


@pytest.mark.parametrize("error", [urllib.error.URLError("no route"), RuntimeError("invalid hash value")])
def test_no_download_is_explained(monkeypatch, error):
    def fail(weights=None):
        raise error

    monkeypatch.setattr(torchvision.models, "vgg16", fail)
    with pytest.raises(OSError, match=rf"weights cannot be downloaded \(.*{error}.*\): train with perceptual 0"):
        ColorLoss(perceptual=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    (L, predicted, true), palette = scene(), Palette(*(values.to(dtype) for values in chosen()))
    half, loss = predicted.to(dtype).requires_grad_(), ColorLoss("huber", 0.1, 0.5)
    value = loss(L, half, true, palette)
    full = loss(L, half.detach().float(), true, Palette(*(values.float() for values in palette)))
    assert value.dtype == torch.float32 and torch.equal(value, full)
    value.backward()
    assert half.grad.dtype == dtype and half.grad.isfinite().all()

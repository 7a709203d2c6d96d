"""The losses, by hand; VGG16 with random weights, and never the network."""

import urllib.error

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from colorlib.color import decode_lab, lab_to_rgb
from colorlib.losses import L1, ColorLoss, Huber
from colorlib.perceptual import Perceptual


@pytest.fixture(autouse=True)
def asked_for(monkeypatch):
    """Stand in for torchvision's `vgg16`: the same layers, random weights, no classifier of 500 MB, no download.

    Gives the list of the weights that were asked for.
    """
    build, asked = torchvision.models.vgg16, []

    def vgg16(weights=None):
        asked.append(weights)
        with torch.device("meta"):  # what is not used needs no memory
            model = build()
        for layer in model.features[:16].to_empty(device="cpu"):
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight), nn.init.zeros_(layer.bias)
        return model

    monkeypatch.setattr(torchvision.models, "vgg16", vgg16)
    return asked


def scene(photos: int = 2, height: int = 16, width: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """L, and two colorings of it that sRGB can show."""
    L = torch.rand(photos, 1, height, width) - 0.5
    return L, torch.rand(photos, 2, height, width) * 0.2 - 0.1, torch.rand(photos, 2, height, width) * 0.2 - 0.1


# L1


def test_l1_by_hand():
    predicted = torch.tensor([0.5, -0.25, 0.0, 1.0]).view(1, 2, 1, 2)
    true = torch.tensor([0.0, 0.25, 0.5, -1.0]).view(1, 2, 1, 2)
    assert L1()(predicted, true).item() == (0.5 + 0.5 + 0.5 + 2.0) / 4


def test_l1_is_the_mean_over_everything():
    true = torch.zeros(3, 2, 5, 4)
    predicted = true.clone()
    predicted[1, 0, 2, 3] = 1.2
    loss = L1()(predicted, true)
    assert loss.shape == () and loss.item() == pytest.approx(1.2 / 120)


def test_one_hundredth_is_1_28_units_of_ab():
    off = decode_lab(torch.zeros(1, 1, 1), torch.full((2, 1, 1), 0.01))
    assert off[1:].flatten().tolist() == pytest.approx([1.28, 1.28])


def test_prefers_the_median_color():
    """Of the answers to two blue photos and a red one, blue costs the least; the average costs more."""
    true = torch.tensor([-0.6, -0.6, 0.6]).view(3, 1, 1, 1).expand(3, 2, 1, 1)
    costs = {guess: L1()(torch.full_like(true, guess), true).item() for guess in (-0.6, -0.2, 0.0, 0.6)}
    assert min(costs, key=costs.get) == -0.6


def test_gradient_pulls_towards_the_truth():
    predicted = torch.tensor([0.5, -0.5]).view(1, 2, 1, 1).requires_grad_()
    L1()(predicted, torch.zeros(1, 2, 1, 1)).backward()
    assert predicted.grad.flatten().tolist() == [0.5, -0.5]


# Huber


def test_huber_by_hand():
    predicted = torch.tensor([0.05, -0.3, 0.1, 0.0]).view(1, 2, 1, 2)
    squared, absolute, corner = 0.05**2 / (2 * 0.1), 0.3 - 0.1 / 2, 0.1 / 2
    loss = Huber(delta=0.1)(predicted, torch.zeros(1, 2, 1, 2))
    assert loss.shape == () and loss.item() == pytest.approx((squared + absolute + corner) / 4)


@pytest.mark.parametrize("delta", [0.02, 0.1, 1.0])
def test_huber_equals_the_smooth_l1_of_torch(delta):
    predicted, true = torch.randn(2, 2, 8, 8), torch.randn(2, 2, 8, 8)
    torch.testing.assert_close(Huber(delta)(predicted, true), F.smooth_l1_loss(predicted, true, beta=delta))


def test_huber_is_l1_for_big_errors_and_less_for_small_ones():
    true = torch.rand(2, 2, 4, 4) - 0.5
    for error in (0.2, 0.5, 1.5):
        predicted = true + error
        assert Huber(0.1)(predicted, true).item() == pytest.approx(L1()(predicted, true).item() - 0.1 / 2, abs=1e-6)
    assert Huber(0.1)(true + 0.01, true) < 0.1 * L1()(true + 0.01, true)
    predicted = torch.randn(2, 2, 4, 4)
    torch.testing.assert_close(Huber(1e-6)(predicted, true), L1()(predicted, true))


def test_huber_pulls_like_l1_from_afar_and_less_from_near():
    predicted = torch.tensor([0.5, -0.02]).view(1, 2, 1, 1).requires_grad_()
    Huber(0.1)(predicted, torch.zeros(1, 2, 1, 1)).backward()
    assert predicted.grad.flatten().tolist() == pytest.approx([0.5, -0.5 * 0.02 / 0.1])


def test_huber_prefers_a_color_between_the_median_and_the_mean():
    true = torch.tensor([-0.1, -0.1, 0.1]).view(3, 1, 1, 1)
    guesses = torch.linspace(-0.2, 0.2, 401)

    def best(loss):
        return guesses[torch.stack([loss(guess.expand(3, 1, 1, 1), true) for guess in guesses]).argmin()].item()

    assert best(L1()) == pytest.approx(-0.1, abs=1e-6)
    # there the two near ones pull with 2 · 0.04/0.08, the far one with 1
    assert best(Huber(0.08)) == pytest.approx(-0.06, abs=0.0011)
    assert best(Huber(1.0)) == pytest.approx(-0.1 / 3, abs=0.0011), "wide enough, the mean"


@pytest.mark.parametrize("delta", [0, -0.1])
def test_huber_needs_a_delta_above_0(delta):
    with pytest.raises(ValueError, match=f"delta must be above 0, got {delta}"):
        Huber(delta)


# perceptual


def test_equal_pictures_look_equal():
    L, ab, other = scene()
    loss = Perceptual(pretrained=False)
    assert loss(L, ab, ab.clone()).item() == 0
    assert loss(L, ab, other).shape == () and loss(L, ab, other).item() > 0
    assert loss(L, ab, ab + 0.05) < loss(L, ab, ab + 0.2), "further away, more different"
    assert loss(L, ab, other).item() == pytest.approx(loss(L, other, ab).item(), rel=1e-5)


def test_perceptual_by_hand():
    """The features after the last ReLU before each of the first three poolings; a third for each depth."""
    L, predicted, true = scene()
    loss = Perceptual(pretrained=False)
    vgg = loss.features
    kinds = [type(layer).__name__[0] for layer in vgg]  # Conv2d, ReLU, MaxPool2d
    assert "".join(kinds) == "CRCRM" + "CRCRM" + "CRCRCR"

    def look(ab):
        rgb = lab_to_rgb(decode_lab(L, ab))
        x = torch.stack([(rgb[:, 0] - 0.485) / 0.229, (rgb[:, 1] - 0.456) / 0.224, (rgb[:, 2] - 0.406) / 0.225], dim=1)
        found, number = [], 0
        for convolutions in (2, 2, 3):
            for _ in range(convolutions):
                x = F.conv2d(x, vgg[number].weight, vgg[number].bias, padding=1).clamp(min=0)
                number += 2
            found.append(x)
            x, number = F.max_pool2d(x, 2), number + 1
        return found

    pairs = list(zip(look(predicted), look(true), strict=True))
    assert [x.shape[1:] for x, _ in pairs] == [(64, 16, 24), (128, 8, 12), (256, 4, 6)]
    expected = sum((x - y).abs().mean() for x, y in pairs) / 3
    torch.testing.assert_close(loss(L, predicted, true), expected, atol=1e-6, rtol=1e-4)


def test_gradient_reaches_the_prediction_but_not_vgg():
    L, predicted, true = scene()
    loss = Perceptual(pretrained=False).train()
    predicted.requires_grad_()
    loss(L, predicted, true).backward()
    assert predicted.grad.isfinite().all() and (predicted.grad.abs() > 0).float().mean() > 0.9
    weights = list(loss.parameters())
    assert weights and not any(weight.requires_grad or weight.grad is not None for weight in weights)
    before = loss(L, predicted, true).item()
    closer = predicted.detach() - 0.01 * predicted.grad.sign()
    assert loss(L, closer, true).item() < before


def test_colors_that_srgb_lacks_give_no_broken_gradient():
    L, _, true = scene()
    predicted = (torch.rand(2, 2, 16, 24) * 2 - 1).requires_grad_()
    Perceptual(pretrained=False)(L, predicted, true).backward()
    assert predicted.grad.isfinite().all()


def test_constants_move_with_the_loss_to_its_device():
    loss = Perceptual(pretrained=False).to("meta")
    assert loss.mean.is_meta and loss.std.is_meta


def test_pretrained_asks_for_the_weights_of_imagenet(asked_for):
    Perceptual(), Perceptual(pretrained=False)
    assert asked_for == [torchvision.models.VGG16_Weights.IMAGENET1K_V1, None]


@pytest.mark.parametrize(
    "error",
    [OSError("disk full"), urllib.error.URLError("no route"), RuntimeError('invalid hash value (expected "397923af")')],
)
def test_no_download_is_explained(monkeypatch, error):
    def fail(weights=None):
        raise error

    monkeypatch.setattr(torchvision.models, "vgg16", fail)
    for build in (Perceptual, lambda: ColorLoss("l1", 0.1)):
        with pytest.raises(OSError, match=r"VGG16's weights cannot be downloaded .*train with perceptual 0") as caught:
            build()
        assert str(error) in str(caught.value) and caught.value.__cause__ is error


# what a Config asks for


def test_the_default_is_l1_and_needs_no_vgg(asked_for):
    L, predicted, true = scene()
    loss = ColorLoss()
    assert torch.equal(loss(L, predicted, true), L1()(predicted, true))
    assert not asked_for and not list(loss.parameters())


@pytest.mark.parametrize(("name", "distance"), [("l1", L1()), ("huber", Huber())])
def test_color_loss_is_a_distance_and_a_share_of_the_perceptual_one(name, distance, asked_for):
    L, predicted, true = scene()
    assert torch.equal(ColorLoss(name, 0.0)(L, predicted, true), distance(predicted, true))
    assert not asked_for
    loss = ColorLoss(name, 0.25)
    expected = distance(predicted, true) + 0.25 * loss.perceptual(L, predicted, true)
    torch.testing.assert_close(loss(L, predicted, true), expected)
    assert loss(L, predicted, true) > distance(predicted, true) and len(asked_for) == 1


@pytest.mark.parametrize("perceptual", [0.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype, perceptual):
    L, predicted, true = scene()
    half = predicted.to(dtype).requires_grad_()
    loss = ColorLoss("huber", perceptual)
    value = loss(L, half, true)
    assert value.dtype == torch.float32 and torch.equal(value, loss(L, half.detach().float(), true))
    value.backward()
    assert half.grad.dtype == dtype and half.grad.isfinite().all()

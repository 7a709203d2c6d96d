"""Lab color, held against scikit-image and the 8-bit colors themselves."""

import numpy as np
import pytest
import skimage.color
import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from colorlib import color
from colorlib.color import decode_lab, encode_lab, lab_to_rgb, lab_to_rgb_image, out_of_gamut, rgb_to_lab


def grid(*axes) -> torch.Tensor:
    """Every combination of three channels' values as one image: float64 (3, N, 1)."""
    return torch.from_numpy(np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1, 1))


def oracle(function, image: torch.Tensor) -> torch.Tensor:
    """scikit-image's result, channels first."""
    return torch.from_numpy(function(image.permute(1, 2, 0).numpy())).permute(2, 0, 1)


# sRGB's darkest colors lie on the straight part of both curves: they get steps of their own
LEVELS = np.unique([*np.linspace(0, 1, 33), 0.001, 0.01, 0.04, 0.04045, 0.0405, 0.05])
RGB = grid(LEVELS, LEVELS, LEVELS)
# a and b far beyond what sRGB can show
LAB = grid(np.linspace(0, 100, 26), np.linspace(-128, 127, 32), np.linspace(-128, 127, 32))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-4), (torch.float32, 5e-4)])
def test_rgb_to_lab_equals_scikit_image(dtype, tolerance):
    lab = rgb_to_lab(RGB.to(dtype))
    torch.testing.assert_close(lab, oracle(skimage.color.rgb2lab, RGB).to(dtype), atol=tolerance, rtol=0)
    assert lab[0].min() > -1e-4 and lab[0].max() < 100.0001 and lab[1:].min() > -108 and lab[1:].max() < 99


@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")  # scikit-image's word on colors without a Z
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 2e-5)])
def test_lab_to_rgb_equals_scikit_image_also_out_of_gamut(dtype, tolerance):
    rgb = lab_to_rgb(LAB.to(dtype))
    torch.testing.assert_close(rgb, oracle(skimage.color.lab2rgb, LAB).to(dtype), atol=tolerance, rtol=0)
    assert rgb.min() == 0 and rgb.max() == 1


def test_gradients_are_right_and_finite_where_the_curves_have_corners():
    rgb = torch.rand(3, 3, 3, dtype=torch.float64) * 0.8 + 0.1
    assert torch.autograd.gradcheck(rgb_to_lab, rgb.clone().requires_grad_())
    assert torch.autograd.gradcheck(lab_to_rgb, rgb_to_lab(rgb).requires_grad_())
    for level in (0.0, 1e-6, 0.04045, 1.0):
        corner = torch.full((3, 2, 2), level, requires_grad=True)
        lab = rgb_to_lab(corner)
        (lab.sum() + lab_to_rgb(lab).sum()).backward()
        assert corner.grad.isfinite().all() and corner.grad.abs().min() > 0


@pytest.mark.parametrize("function", [rgb_to_lab, lab_to_rgb])
def test_any_shape_layout_and_precision(function):
    images = torch.rand(2, 2, 5, 4, 3).movedim(-1, -3) * (1 if function is rgb_to_lab else 60)  # not contiguous
    result = function(images)
    assert result.shape == (2, 2, 3, 5, 4) and function(images[:0]).shape == (0, 2, 3, 5, 4)
    for one, of_all in zip(images.flatten(0, 1), result.flatten(0, 1), strict=True):
        torch.testing.assert_close(function(one.contiguous()), of_all, atol=1e-4, rtol=0)
    half = images.bfloat16()
    assert function(half).dtype == torch.float32 and torch.equal(function(half), function(half.float()))


@pytest.mark.parametrize("function", [rgb_to_lab, lab_to_rgb, out_of_gamut])
def test_wrong_input(function):
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 3, H, W\), got \(4, 4, 3\)"):
        function(torch.rand(4, 4, 3))
    with pytest.raises(ValueError, match=r"floating point, got torch.uint8.*255"):
        function(torch.zeros(3, 4, 4, dtype=torch.uint8))


def test_out_of_gamut():
    inside = [(50, 0, 0), (100, 0, 0), (0, 0, 0), (53.24, 80.09, 67.20)]
    outside = [(50, 127, 0), (100, 40, 0), (0, 30, 0), (50, 0, -120), (50, 0, 110)]
    lab = torch.tensor(inside + outside).T[:, None]  # (3, 1, 9)
    assert out_of_gamut(lab).tolist() == [[False] * 4 + [True] * 5]
    assert not out_of_gamut(rgb_to_lab(RGB.float())).any(), "every sRGB color can be shown"
    bright = rgb_to_lab(torch.ones(3, 1, 1)) + torch.tensor([0.2, 0, 0]).view(3, 1, 1)  # red, green, blue: 1.002
    assert out_of_gamut(bright, tolerance=1e-3).all() and not out_of_gamut(bright, tolerance=5e-3).any()


def test_lab_to_rgb_image_gives_one_picture_back_and_rounds():
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    L, ab = encode_lab(rgb_to_lab(torch.from_numpy(picture).permute(2, 0, 1) / 255))
    for result in (lab_to_rgb_image(L, ab.requires_grad_()), lab_to_rgb_image(L[None], ab[None])):
        assert result.dtype == np.uint8 and np.array_equal(result, picture)
    L, ab = encode_lab(rgb_to_lab(torch.tensor([[[99.6, 100.4, 100.6]]] * 3) / 255))
    assert lab_to_rgb_image(L, ab)[0, :, 1].tolist() == [100, 100, 101]
    assert lab_to_rgb_image(torch.zeros(1, 1, 1).half(), torch.zeros(2, 1, 1).half()).tolist() == [[[119] * 3]]
    with pytest.raises(ValueError, match=r"one picture.*\(2, 1, 4, 4\).*one by one"):
        lab_to_rgb_image(torch.zeros(2, 1, 4, 4), torch.zeros(2, 2, 4, 4))


class Calls(TorchDispatchMode):
    """Notes the names of PyTorch's operations, below autograd."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def test_constants_are_copied_to_a_device_once():
    """A GPU waits for each copy, and inverts no matrix of 3×3 faster than it is copied."""
    color._copied_constants.cache_clear()
    counts = []
    for _ in range(2):
        with Calls() as calls:
            lab_to_rgb(rgb_to_lab(torch.rand(3, 4, 4)))
        counts.append((calls.names.count("_to_copy"), sum("inv" in name for name in calls.names)))
    assert counts == [(3, 0), (0, 0)]


def test_constants_that_came_first_in_inference_mode_or_from_a_fake_gpu_serve_training():
    """FakeTensorMode has devices and no numbers: on its GPU, a picture is joined from two devices, too."""
    color._copied_constants.cache_clear()
    with torch.inference_mode():
        lab_to_rgb(rgb_to_lab(torch.rand(3, 4, 4)))
    for _ in range(2):
        with FakeTensorMode(allow_non_fake_inputs=True):
            rgb = lab_to_rgb(decode_lab(torch.zeros(1, 4, 4), torch.zeros(2, 4, 4, device="cuda")))
            assert rgb_to_lab(rgb).device.type == "cuda"
            assert rgb_to_lab(torch.zeros(3, 4, 4)).device.type == "cpu"
        image = torch.rand(3, 4, 4, requires_grad=True)
        lab_to_rgb(rgb_to_lab(image)).square().sum().backward()
        assert image.grad.isfinite().all()
        color._copied_constants.cache_clear()  # the second time, the fake ones come first

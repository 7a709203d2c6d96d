"""Lab colour, held against scikit-image, published values and the 8-bit colours themselves."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest
import skimage.color
import torch

import colorlib
from colorlib.color import (
    decode_lab,
    encode_lab,
    lab_to_rgb,
    lab_to_rgb_image,
    out_of_gamut,
    rgb_to_lab,
)


def grid(*axes) -> torch.Tensor:
    """Every combination of three channels' values as one image: float64 (3, N, 1)."""
    channels = np.meshgrid(*axes, indexing="ij")
    return torch.from_numpy(np.stack(channels).reshape(3, -1, 1))


def oracle(function, image: torch.Tensor) -> torch.Tensor:
    """scikit-image's result, channels first."""
    return torch.from_numpy(function(image.permute(1, 2, 0).numpy())).permute(2, 0, 1)


def color(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(3, 1, 1)


# sRGB's darkest colours lie on the straight part of both curves: they get steps of their own
LEVELS = np.unique(np.concatenate([np.linspace(0, 1, 33), [0.001, 0.01, 0.04, 0.04045, 0.0405, 0.05]]))
RGB = grid(LEVELS, LEVELS, LEVELS)
# a and b far beyond what sRGB can show
LAB = grid(np.linspace(0, 100, 26), np.linspace(-128, 127, 32), np.linspace(-128, 127, 32))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-4), (torch.float32, 5e-4)])
def test_rgb_to_lab_equals_scikit_image(dtype, tolerance):
    lab = rgb_to_lab(RGB.to(dtype))
    assert lab.dtype == dtype
    assert (lab - oracle(skimage.color.rgb2lab, RGB)).abs().max() < tolerance


@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")  # scikit-image's word on colours without a Z
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 2e-5)])
def test_lab_to_rgb_equals_scikit_image_also_out_of_gamut(dtype, tolerance):
    rgb = lab_to_rgb(LAB.to(dtype))
    assert rgb.dtype == dtype
    assert rgb.min() == 0 and rgb.max() == 1
    assert (rgb - oracle(skimage.color.lab2rgb, LAB)).abs().max() < tolerance


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    rgb = RGB[:, ::97].to(dtype)
    assert rgb_to_lab(rgb).dtype == torch.float32
    assert torch.equal(rgb_to_lab(rgb), rgb_to_lab(rgb.float()))
    lab = LAB[:, ::97].to(dtype)
    assert torch.equal(lab_to_rgb(lab), lab_to_rgb(lab.float()))


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [  # Lindbloom's CIE colour calculator, sRGB, D65
        ((1, 1, 1), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((128 / 255,) * 3, (53.585, 0.0, 0.0)),
        ((1, 0, 0), (53.241, 80.092, 67.203)),
        ((0, 1, 0), (87.735, -86.183, 83.179)),
        ((0, 0, 1), (32.297, 79.188, -107.860)),
    ],
)
def test_published_colors(rgb, lab):
    torch.testing.assert_close(rgb_to_lab(color(*rgb)), color(*lab), atol=0.02, rtol=0)
    torch.testing.assert_close(lab_to_rgb(color(*lab)), color(*rgb), atol=1e-3, rtol=0)


def test_8_bit_colors_survive_the_round_trip():
    levels = np.arange(0, 256, 3) / 255  # 86 levels, 0 and 255 among them
    rgb = grid(levels, levels, levels).float()
    error = (lab_to_rgb(rgb_to_lab(rgb)) - rgb).abs().max()
    assert error < 0.5 / 255
    assert error < 1e-4, "much less than the half step that rounding forgives"


def test_range_of_lab_that_the_docstring_promises():
    low, high = rgb_to_lab(RGB).amin(dim=(1, 2)), rgb_to_lab(RGB).amax(dim=(1, 2))
    assert low[0] == 0 and math.isclose(high[0], 100, abs_tol=1e-4)
    assert low[1:].min() > -108 and high[1:].max() < 99


@pytest.mark.parametrize("value", [0.0, 1e-6, 0.04045, 0.5, 1.0])
def test_gradients_are_finite(value):
    rgb = torch.full((3, 2, 2), value, requires_grad=True)
    rgb_to_lab(rgb).sum().backward()
    assert rgb.grad.isfinite().all() and rgb.grad.abs().sum() > 0
    lab = rgb_to_lab(torch.full((3, 2, 2), value)).requires_grad_()
    lab_to_rgb(lab).sum().backward()
    assert lab.grad.isfinite().all()


def test_gradients_are_right():
    rgb = torch.rand(3, 3, 3, dtype=torch.float64) * 0.8 + 0.1
    assert torch.autograd.gradcheck(rgb_to_lab, rgb.clone().requires_grad_())
    assert torch.autograd.gradcheck(lab_to_rgb, rgb_to_lab(rgb).requires_grad_())


@pytest.mark.parametrize("shape", [(3, 5, 4), (2, 3, 5, 4), (2, 2, 3, 5, 4), (3, 1, 1), (0, 3, 2, 2), (3, 3, 3, 3)])
@pytest.mark.parametrize("function", [rgb_to_lab, lab_to_rgb])
def test_any_batch_shape(function, shape):
    image = torch.rand(shape) * (1 if function is rgb_to_lab else 60)
    result = function(image)
    assert result.shape == shape
    for one, of_all in zip(image.reshape(-1, 3, *shape[-2:]), result.reshape(-1, 3, *shape[-2:]), strict=True):
        torch.testing.assert_close(function(one), of_all, atol=1e-4, rtol=0)


def test_memory_layout_does_not_matter():
    picture = torch.rand(2, 5, 4, 3)
    seen = picture.permute(0, 3, 1, 2)  # not contiguous
    torch.testing.assert_close(rgb_to_lab(seen), rgb_to_lab(seen.contiguous()), atol=1e-4, rtol=0)
    torch.testing.assert_close(rgb_to_lab(seen[..., ::2]), rgb_to_lab(seen)[..., ::2], atol=1e-4, rtol=0)


@pytest.mark.parametrize("function", [rgb_to_lab, lab_to_rgb, out_of_gamut])
def test_wrong_input(function):
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 3, H, W\), got \(4, 4, 3\)"):
        function(torch.rand(4, 4, 3))
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        function(torch.rand(3, 4))
    with pytest.raises(ValueError, match=r"floating point, got torch.uint8.*255"):
        function(torch.zeros(3, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("lab", "outside"),
    [((50, 0, 0), False), ((100, 0, 0), False), ((0, 0, 0), False), ((53.24, 80.09, 67.20), False),
     ((50, 127, 0), True), ((100, 40, 0), True), ((0, 30, 0), True), ((50, 0, -120), True), ((50, 0, 110), True)],
)  # fmt: skip
def test_out_of_gamut_of_known_colors(lab, outside):
    assert out_of_gamut(color(*lab)).tolist() == [[outside]]


def test_out_of_gamut_gives_the_share_of_clamped_pixels():
    lab = torch.tensor([50.0, 0, 0]).view(3, 1, 1).repeat(2, 1, 4, 5)
    lab[0, 1, :2] = 127  # half of the first picture's rows
    outside = out_of_gamut(lab)
    assert outside.shape == (2, 4, 5) and outside.dtype == torch.bool
    assert outside.float().mean(dim=(1, 2)).tolist() == [0.5, 0.0]
    assert not out_of_gamut(rgb_to_lab(RGB.float())).any(), "every sRGB colour can be shown"


def test_out_of_gamut_tolerance():
    lab = rgb_to_lab(torch.tensor([1.0, 1.0, 1.0]).view(3, 1, 1)) + color(0.2, 0, 0)  # red, green, blue: 1.002
    assert out_of_gamut(lab, tolerance=1e-3).all() and not out_of_gamut(lab, tolerance=5e-3).any()


def test_scaling_is_exactly_the_documented_one():
    lab = torch.tensor([[0.0, 25.0, 50.0, 100.0], [-128.0, -64.0, 0.0, 64.0], [128.0, 32.0, 0.0, -96.0]]).view(3, 1, 4)
    L, ab = encode_lab(lab)
    assert L.tolist() == [[[-1.0, -0.5, 0.0, 1.0]]]
    assert ab.tolist() == [[[-1.0, -0.5, 0.0, 0.5]], [[1.0, 0.25, 0.0, -0.75]]]
    assert torch.equal(decode_lab(L, ab), lab)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_encode_and_decode_are_inverse(batch):
    lab = rgb_to_lab(torch.rand(*batch, 3, 4, 5))
    L, ab = encode_lab(lab)
    assert L.shape == (*batch, 1, 4, 5) and ab.shape == (*batch, 2, 4, 5)
    assert L.abs().max() <= 1 and ab.abs().max() < 1
    torch.testing.assert_close(decode_lab(L, ab), lab, atol=1e-5, rtol=0)


def test_inputs_stay_as_they_were():
    rgb, lab = torch.rand(3, 4, 4), torch.rand(3, 4, 4) * 90
    L, ab = torch.rand(1, 4, 4), torch.rand(2, 4, 4)
    before = [tensor.clone() for tensor in (rgb, lab, L, ab)]
    rgb_to_lab(rgb), lab_to_rgb(lab), out_of_gamut(lab), encode_lab(lab), decode_lab(L, ab), lab_to_rgb_image(L, ab)
    assert all(torch.equal(was, now) for was, now in zip(before, (rgb, lab, L, ab), strict=True))


def picture(height: int = 16, width: int = 24) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("batched", [False, True])
def test_lab_to_rgb_image_gives_the_picture_back(batched):
    expected = picture()
    L, ab = encode_lab(rgb_to_lab(torch.from_numpy(expected).permute(2, 0, 1) / 255))
    if batched:
        L, ab = L[None], ab[None]
    result = lab_to_rgb_image(L, ab.requires_grad_())
    assert result.dtype == np.uint8 and result.shape == (16, 24, 3)
    assert np.array_equal(result, expected)


def test_lab_to_rgb_image_rounds_to_the_nearest_level():
    levels = torch.tensor([99.6, 100.4, 100.6]) / 255
    L, ab = encode_lab(rgb_to_lab(levels.view(1, 1, 3).repeat(3, 1, 1)))
    assert lab_to_rgb_image(L, ab)[0, :, 1].tolist() == [100, 100, 101]


def test_lab_to_rgb_image_takes_half_precision():
    L, ab = torch.zeros(1, 2, 2, dtype=torch.bfloat16), torch.zeros(2, 2, 2, dtype=torch.bfloat16)
    assert lab_to_rgb_image(L, ab).tolist() == [[[119] * 3] * 2] * 2  # L* = 50


def test_lab_to_rgb_image_of_several_pictures():
    with pytest.raises(ValueError, match=r"one picture.*\(2, 1, 4, 4\).*one by one"):
        lab_to_rgb_image(torch.zeros(2, 1, 4, 4), torch.zeros(2, 2, 4, 4))
    with pytest.raises(ValueError, match="one picture"):
        lab_to_rgb_image(torch.zeros(4, 4), torch.zeros(2, 4, 4))


def test_scaling_constants_live_only_here():
    """No other module multiplies or divides by 50, 110 or 128."""
    for path in Path(colorlib.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if path.name != "color.py" and isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
                sides = [side.value for side in (node.left, node.right) if isinstance(side, ast.Constant)]
                assert not {50, 110, 128} & set(sides), f"{path.name}:{node.lineno} scales Lab by itself"

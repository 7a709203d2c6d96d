"""A photo in, a colored photo out: the network's input, its use, any size, any file, and guided upsampling."""

import hypothesis
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Constant
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import uniform_filter

import colorlib
from colorlib.checkpoint import BEST, load_model, save_model
from colorlib.color import encode_lab, lab_to_rgb_image, rgb_to_lab
from colorlib.colorize import Colorizer, GuidedUpsampler, Hint, add_color, palette_strip, restore_tone
from colorlib.colorize.colorizer import EPS, tone_ends
from colorlib.colorize.hints import swatch_colors
from colorlib.config import Config
from colorlib.data import sample_photos
from colorlib.model import UNet
from colorlib.palette import Palette
from colorlib.photo import read_photo, resize_photo, to_tensor

CONFIG = Config(width=4, depth=4, image_size=48)
EXTENDED = {"palette": 6, "residual_blocks": 2}
COLORIZER = Colorizer(Constant(12 / 128, -9 / 128), CONFIG)


def lived_in(**options) -> UNet:
    """A network whose batch norms have seen something, and whose palette depends on the scene."""
    model = UNet(8, 5, **options)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.3, 3)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    if model.palette:
        torch.nn.init.normal_(model.palette.shift.weight, std=0.1)
        for look in model.palette.look:  # else the random features of all scenes look much alike
            torch.nn.init.normal_(look.weight, std=3.0)
    return model.eval()


@pytest.fixture
def colorizer() -> Colorizer:
    return Colorizer(lived_in(**EXTENDED), CONFIG, "float32")


def noise(*shape: int, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, shape, dtype=np.uint8)


def lab(picture: np.ndarray) -> torch.Tensor:
    return rgb_to_lab(to_tensor(picture))


@pytest.mark.parametrize("options", [{}, EXTENDED])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 2e-5), ("bfloat16", 0.1), ("float16", 0.02)])
def test_the_copy_for_use_answers_like_the_network(options, precision, tolerance):
    """Its weights are in another precision; the network itself stays as it is."""
    model, L = lived_in(**options), torch.rand(3, 1, 48, 48) * 2 - 1
    before = {name: value.clone() for name, value in model.state_dict().items()}
    colorizer = Colorizer(model.train(), CONFIG, precision)
    predicted = colorizer.predict_ab(L)  # with dropout switched off
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with torch.no_grad():
        expected = model(L)
    assert expected.std() > 0.05
    assert (predicted - expected).abs().max() < tolerance and predicted.dtype == torch.float32


def test_other_modules_may_color_too():
    photo = noise(20, 30, 3, low=90, high=170)
    for saturation in (0, 0.5, 1):
        result = lab(Colorizer(Constant(0.1, -0.05), CONFIG).colorize(photo, saturation))
        assert result[1:].mean(dim=(1, 2)).tolist() == pytest.approx([12.8 * saturation, -6.4 * saturation], abs=0.2)
    assert Colorizer(UNet(4, 4).to(torch.bfloat16), CONFIG).predict_ab(torch.zeros(1, 1, 9, 9)).dtype == torch.float32
    for model in (Constant(0.1, -0.05), UNet(4, 4)):
        assert Colorizer(model, CONFIG).palette(noise(9, 9, 3)) is None, "a network without a palette has none"


@pytest.mark.parametrize("size", [(96, 96), (33, 70), (1, 1)])
def test_predict_ab_is_photo_by_photo_and_of_any_size(colorizer, size):
    L = torch.rand(3, 1, *size) * 2 - 1
    together = colorizer.predict_ab(L)
    assert together.shape == (3, 2, *size) and not together.requires_grad
    assert torch.allclose(together, torch.cat([colorizer.predict_ab(one) for one in L.split(1)]), atol=1e-5)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("vividness", [0.0, 1.0])
def test_flips_and_vividness_are_those_of_the_settings(flip, vividness):
    model, L = lived_in(**EXTENDED), torch.rand(2, 1, 48, 48) * 2 - 1
    with torch.no_grad():
        expected, mirrored = model(L, vividness), model(L.flip(-1), vividness).flip(-1)
        assert (model(L, 1 - vividness) - expected).abs().max() > 0.02 and (mirrored - expected).abs().max() > 0.02
    if flip:
        expected = (expected + mirrored) / 2
    predicted = Colorizer(model, CONFIG.replace(flip_tta=flip, vividness=vividness), "float32").predict_ab(L)
    assert (predicted - expected).abs().quantile(0.99) < 1e-4  # two colors may be as likely as each other


def test_from_run_and_load(outputs):
    for run, model in (("small", UNet(4, 4)), ("release", UNet(4, 4))):
        save_model(outputs / run / BEST, model, CONFIG)
        expected = Colorizer(*load_model(outputs / run)).colorize(sample_photos()[0])
        for same in (Colorizer.from_run(run, device="cpu"), colorlib.load(run, device="cpu")):
            assert same.config == CONFIG and np.array_equal(same.colorize(sample_photos()[0]), expected)
    assert np.array_equal(colorlib.load(device="cpu").colorize(sample_photos()[0]), expected), "the release"


@hypothesis.settings(deadline=None, max_examples=40, derandomize=True)
@hypothesis.given(
    width=st.integers(1, 90), height=st.integers(1, 90), seed=st.integers(0, 9),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F"]),
)  # fmt: skip
def test_any_size_and_mode_keeps_size_and_lightness(width, height, seed, mode):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    if mode in ("I", "F", "I;16"):
        kind, factor = {"I": (np.int32, 1), "F": (np.float32, 1), "I;16": (np.uint16, 257)}[mode]
        image = Image.fromarray(values[..., 0].astype(kind) * kind(factor))
    elif mode == "LAB":
        image = Image.frombytes("LAB", (width, height), values[..., :3].tobytes())
    else:
        image = Image.fromarray(values[..., :3].copy()).convert(mode)
        if mode in ("LA", "RGBA"):
            image.putalpha(Image.fromarray(values[..., 3].copy()))
    result = COLORIZER.colorize(image)
    assert result.shape == (height, width, 3) and result.dtype == np.uint8
    inside = ((result > 0) & (result < 255)).all(axis=2)  # where sRGB has the color
    change = (lab(result) - lab(np.asarray(read_photo(image))))[0].abs().numpy()
    assert change[inside].max(initial=0) < 1


def test_render_size_is_the_side_that_the_network_sees_and_L_stays_in_its_range(colorizer):
    seen = []
    colorizer.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    edge = np.zeros((30, 200, 3), np.uint8)
    edge[:, 100:] = 255  # where bicubic interpolation overshoots
    assert torch.equal(colorizer.predict(edge), colorizer.predict_ab(colorizer.network_input(edge)))
    colorizer.predict_ab(torch.where(torch.arange(200) < 100, -1.0, 1.0).expand(1, 1, 30, 200))
    assert colorizer.predict(edge, render_size=100).shape == (1, 2, 100, 100)
    assert colorizer.colorize(edge, render_size=64).shape == edge.shape
    assert [L.shape[1:] for L in seen] == [(1, side, side) for side in (48, 48, 48, 100, 64)]
    assert all(L.min() >= -1.0001 and L.max() <= 1.0001 for L in seen)


def test_hints_and_reference_reach_the_result():
    photo = sample_photos()[0]
    hinted = lab(COLORIZER.colorize(photo, hints=[Hint(0.5, 0.5, "#5060a0")]))[1:]
    wanted = rgb_to_lab(torch.tensor([0x50, 0x60, 0xA0]).view(3, 1, 1) / 255)[1:].flatten()
    assert (hinted[:, hinted.shape[1] // 2, hinted.shape[2] // 2] - wanted).norm() < 4
    assert (hinted[:, 3, 3] - torch.tensor([12.0, -9.0])).norm() < 2, "far away, the network's"
    blue = Image.new("RGB", (40, 30), (60, 70, 150))
    result = lab(COLORIZER.colorize(photo, reference=blue))[1:]
    assert (result.flatten(1).median(dim=1).values - lab(np.asarray(blue))[1:, 0, 0]).norm() < 6
    both = COLORIZER.predict(photo, reference=blue, hints=[Hint(0.2, 0.2, (128, 128, 128))])[0, :, 9, 9]
    assert both.norm() * 128 < 1, "a hint has the last word"


def test_a_faded_print_gets_its_tones_back():
    gray = np.asarray(read_photo(sample_photos()[1]).convert("L"))
    faded = np.stack([gray * share + 40 for share in (0.5, 0.45, 0.4)], axis=2).astype(np.uint8)
    restored = np.asarray(restore_tone(faded))
    assert restored.shape == faded.shape and np.ptp(restored, axis=2).max() == 0
    assert np.abs(restored[..., 0] - gray.astype(float)).mean() < 5 < np.abs(faded[..., 0] - gray.astype(float)).mean()
    flat = np.asarray(restore_tone(np.full((4, 5, 3), 90, np.uint8)))
    assert flat.shape == (4, 5, 3) and np.ptp(flat) == 0
    assert np.array_equal(COLORIZER.colorize(faded, restore=True), COLORIZER.colorize(restored))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_only_a_range_of_tones_is_stretched(dtype):
    """Not the noise of a blank page, nor that of one with a few words on it."""
    top = np.iinfo(dtype).max
    page = np.random.default_rng(0).normal(0.93, 0.015, (60, 80)).clip(0, 1)
    page[30, 10:20] = 0.1
    for blank in (page, np.ones_like(page), np.zeros_like(page)):
        blank = (blank * top).round().astype(dtype)
        assert tone_ends(blank) == (0, top)
        restored = np.asarray(restore_tone(blank))
        assert np.array_equal(restored if dtype == np.uint16 else restored[..., 0], blank)
    faded = (np.linspace(0.3, 0.6, 101)[None] * top).round().astype(dtype)
    low, high = tone_ends(faded)
    assert (low / top, high / top) == pytest.approx((0.3015, 0.5985), abs=3e-3)
    others = np.asarray(restore_tone(faded, (0.2 * top, 0.7 * top)))  # those of a whole scene
    assert (others.min() / top, others.max() / top) == pytest.approx((0.2, 0.8), abs=5e-3)


@pytest.mark.parametrize("size", [48, 50, 51])
def test_a_recolored_palette_changes_the_pixels_that_wear_it(size):
    """Also where the network pads: its palette paints the left half in one color, the right in another."""
    model = lived_in(**EXTENDED)
    model.final.weight.data.zero_(), model.final.bias.data.zero_()

    def halves(scene, pixels):
        height, width = pixels.shape[2:]
        is_left = (torch.arange(width) < size / 4).expand(1, 1, height, width)
        weights = torch.cat([is_left, ~is_left], dim=1).float().clamp(min=1e-6)
        return Palette(torch.tensor([[[0.2, 0.2], [-0.2, -0.2]]]), weights.log(), torch.ones(1, 2))

    model.palette.forward = halves
    colorizer = Colorizer(model, CONFIG.replace(image_size=size), "float32")
    colorizer.network.palette.forward = halves
    photo = noise(60, 80, 3)
    code = "#{:02x}{:02x}{:02x}".format(*swatch_colors(torch.tensor([[0.2, 0.2]]))[0])
    change = colorizer.predict(photo, recolor=[(code, "navy")]) - colorizer.predict(photo)
    change = change[0].norm(dim=0)
    assert change[:, : size // 2 - 2].min() > 0.2 and change[:, size // 2 + 3 :].max() < 0.01


def test_a_network_can_see_photos_larger_than_in_training():
    model, photo = UNet(4, 4).eval(), noise(60, 80, 3)
    larger = Colorizer(model, CONFIG.replace(render_size=64), "float32")
    trained_so = Colorizer(model, CONFIG.replace(image_size=64), "float32")
    assert larger.network_input(photo).shape[2:] == (64, 64)
    np.testing.assert_array_equal(larger.colorize(photo), trained_so.colorize(photo))
    L = torch.rand(2, 1, 40, 56) * 2 - 1
    torch.testing.assert_close(larger.predict_ab(L), trained_so.predict_ab(L))


@pytest.mark.parametrize("pixels", [1, 50, 333])
def test_strips_leave_no_seam(monkeypatch, pixels):
    photo, ab = noise(37, 50, 3), torch.rand(1, 2, 8, 8) - 0.5
    whole = add_color(photo, ab)
    monkeypatch.setattr("colorlib.colorize.colorizer.CPU_STRIP", pixels)
    strips = add_color(photo, ab)
    assert np.allclose(strips, whole, rtol=0, atol=1) and (strips == whole).mean() > 0.999  # rounding


@pytest.mark.parametrize("size", [(37, 50), (8, 8), (5, 3), (3, 90), (200, 9)])
def test_where_lightness_has_no_detail_colors_are_bilinear(size):
    """Antialiased where the photo is smaller than ab."""
    photo, ab = np.full((*size, 3), 128, np.uint8), (torch.rand(1, 2, 8, 8) - 0.5) / 4
    expected = F.interpolate(ab, size, mode="bilinear", antialias=True)
    picture = lab_to_rgb_image(encode_lab(lab(photo)[None])[0], expected)
    assert np.allclose(add_color(photo, ab), picture, rtol=0, atol=1)
    L = torch.rand(1, 1, 8, 8)  # the full L is the small one enlarged: it has no detail of its own
    full = F.interpolate(L, (50, 70), mode="bilinear")
    result = GuidedUpsampler(L, ab, 50, 70).strip(full, 0)
    assert torch.allclose(result, F.interpolate(ab, (50, 70), mode="bilinear"), atol=1e-5)


def test_the_guided_filter_by_its_formula():
    def mean(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(uniform_filter(x.numpy(), size=(1, 1, 3, 3), mode="nearest"))

    photo, ab = noise(37, 50, 3), (torch.rand(1, 2, 8, 8) - 0.5) / 4
    L, small = (encode_lab(lab(np.asarray(p))[None])[0] for p in (photo, Image.fromarray(photo).resize((8, 8))))
    slope = (mean(small * ab) - mean(small) * mean(ab)) / (mean(small**2) - mean(small) ** 2 + EPS)
    large_ab, slope, small = (F.interpolate(x, (37, 50), mode="bilinear") for x in (ab, mean(slope), small))
    expected = lab_to_rgb_image(L, large_ab + slope * (L - small))
    assert np.allclose(add_color(photo, ab), expected, rtol=0, atol=1)


def test_true_colors_of_photos_come_back_better_than_bilinear():
    gains = []
    for path in sample_photos("color"):
        image = read_photo(path)
        image.thumbnail((384, 384))
        L, ab = encode_lab(lab(np.asarray(image))[None])
        small_L, small_ab = encode_lab(lab(resize_photo(image, 24))[None])
        guided = GuidedUpsampler(small_L, small_ab, *L.shape[2:]).strip(L, 0)
        bilinear = F.interpolate(small_ab, L.shape[2:], mode="bilinear")
        gains.append(((guided - ab).norm(dim=1).mean() / (bilinear - ab).norm(dim=1).mean()).item())
    assert sum(gains) / len(gains) < 0.97, gains


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.06)])
def test_palette_is_the_networks_with_the_most_used_color_first(precision, tolerance):
    colorizer = Colorizer(lived_in(**EXTENDED), CONFIG, precision)
    for photo in sample_photos()[:3]:
        palette = colorizer.palette(photo)
        assert [tuple(x.shape) for x in palette] == [(1, 6, 2), (1, 6, 24, 24), (1, 6)]
        assert all(x.dtype == torch.float32 and x.device.type == "cpu" and not x.requires_grad for x in palette)
        assert (palette.shares.diff(dim=1) <= 0).all() and palette.shares.sum().item() == pytest.approx(1, abs=0.01)
        with torch.no_grad():
            _, expected = colorizer.model.forward_with_palette(colorizer.network_input(photo))
        assert (palette.paint() - expected.paint()).abs().mean() < tolerance, "weights still belong to their colors"
        order = torch.cdist(palette.colors[0], expected.colors[0]).argmin(dim=1)
        for name in ("colors", "shares", "spreads"):
            assert (getattr(expected, name)[:, order] - getattr(palette, name)).abs().max() < tolerance


def test_vividness_and_recolored_palettes_reach_the_picture(colorizer):
    photo = sample_photos()[1]
    before, likeliest = colorizer.predict(photo), colorizer.predict(photo, vividness=1)
    vivid = Colorizer(colorizer.model, CONFIG.replace(vividness=1.0), "float32")
    assert torch.equal(vivid.predict(photo), likeliest) and not torch.equal(before, likeliest)
    palette = colorizer.palette(photo)
    code = "#{:02x}{:02x}{:02x}".format(*palette_strip(palette.colors[0, :1], torch.ones(1))[0, 0])
    change = (colorizer.predict(photo, recolor=[(code, "navy")]) - before)[0]
    weights = F.interpolate(palette.weights(), change.shape[1:], mode="bilinear")[0]
    worn = (weights * torch.cdist(palette.colors[0], palette.colors[0, :1]).lt(0.02)[..., None]).sum(0)
    assert change.norm(dim=0)[worn > worn.median()].mean() > change.norm(dim=0)[worn < worn.median()].mean()
    assert torch.equal(colorizer.predict(photo, recolor=[(code, code)]), before)
    large = colorizer.predict(photo, recolor=[(code, "navy")], render_size=64)
    large = large - colorizer.predict(photo, render_size=64)
    assert (F.adaptive_avg_pool2d(large, change.shape[1:])[0] - change).abs().mean() < 0.05 * change.abs().mean()

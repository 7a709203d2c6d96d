"""A photo in, a coloured photo out: the network's input, any size, any file."""

import io
import itertools

import hypothesis
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Constant
from hypothesis import strategies as st
from PIL import Image
from skimage.color import lab2rgb

from colorlib import colorize, environment
from colorlib.checkpoint import BEST, CheckpointError, save_model
from colorlib.color import encode_lab, lab_to_rgb_image, rgb_to_lab
from colorlib.colorize import Colorizer, add_color, colorize_image, load_model, open_photo, palette_strip
from colorlib.config import Config
from colorlib.data import ColorizationDataset, sample_photos
from colorlib.model import UNet
from colorlib.photo import PhotoError, to_tensor
from colorlib.steer import Hint

CONFIG = Config(width=4, depth=4, image_size=48)


@pytest.fixture(scope="module")
def colorizer() -> Colorizer:
    torch.manual_seed(0)
    return Colorizer(UNet(CONFIG.width, CONFIG.depth), CONFIG)


def constant_colorizer(a: float, b: float) -> Colorizer:
    """A network that answers every L with the same a* and b*."""
    model = UNet(CONFIG.width, CONFIG.depth)
    torch.nn.init.zeros_(model.final.weight)
    model.final.bias.data = torch.atanh(torch.tensor([a, b]) / 128)
    return Colorizer(model, CONFIG)


def noise(*shape: int, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, shape, dtype=np.uint8)


def lab(picture: np.ndarray) -> torch.Tensor:
    return rgb_to_lab(to_tensor(picture))


@pytest.mark.parametrize("image_size", [48, 256])
def test_the_network_sees_what_training_fed_it(image_size, tmp_path):
    big, tall = tmp_path / "big.png", tmp_path / "tall.jpg"
    Image.fromarray(noise(1200, 1600, 3)).save(big)
    Image.fromarray(noise(301, 37, 3)).save(tall)
    paths = [*sample_photos("color"), *sample_photos("gray"), big, tall]
    config = CONFIG.replace(image_size=image_size)
    dataset = ColorizationDataset(paths, config)
    colorizer = Colorizer(UNet(4, 4), config)
    assert dataset.paths == paths
    for path, item in zip(paths, dataset, strict=False):
        # the data set keeps L as a 16-bit number
        assert torch.allclose(colorizer.network_input(path)[0], item["L"], rtol=0, atol=2e-5), path.name


def test_the_network_input_does_not_depend_on_how_the_photo_is_handed_over(colorizer):
    path = sample_photos()[0]
    L = colorizer.network_input(path)
    assert L.shape == (1, 1, 48, 48) and L.dtype == torch.float32
    with Image.open(path) as image:
        array = np.array(image)
        for photo in (str(path), path.read_bytes(), image, array):
            assert torch.equal(colorizer.network_input(photo), L)


def test_the_networks_answer_is_repeatable_and_needs_no_training_mode(colorizer):
    model = UNet(CONFIG.width, CONFIG.depth, dropout=0.9)
    model.load_state_dict(colorizer.model.state_dict())
    first = Colorizer(model.train(), CONFIG).colorize(sample_photos()[0])
    assert np.array_equal(first, Colorizer(model, CONFIG).colorize(sample_photos()[0]))
    assert np.array_equal(first, colorizer.colorize(sample_photos()[0]))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3), (37, 61), (48, 48), (255, 640)])
def test_the_result_has_the_photos_size(colorizer, size):
    result = colorizer.colorize(noise(*size, 3))
    assert result.shape == (*size, 3) and result.dtype == np.uint8


def test_gray_transparent_and_turned_photos(colorizer, tmp_path):
    gray = noise(20, 30)
    assert np.array_equal(colorizer.colorize(gray), colorizer.colorize(np.dstack([gray] * 3)))
    assert colorizer.colorize(Image.fromarray(noise(20, 30, 4))).shape == (20, 30, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(noise(20, 30, 3)).save(tmp_path / "turned.png", exif=exif)
    assert colorizer.colorize(tmp_path / "turned.png").shape == (30, 20, 3)


@pytest.mark.parametrize("saturation", [0.5, 1.0])
def test_lightness_is_kept_where_srgb_has_the_colour(saturation):
    photo = noise(60, 80, 3, low=90, high=170)
    result = constant_colorizer(12, -9).colorize(photo, saturation)
    assert (lab(result)[0] - lab(photo)[0]).abs().max() < 0.5  # 8-bit rounding


def test_a_network_that_answers_one_colour_gives_that_colour():
    photo = noise(50, 70, 3, low=90, high=170)
    colors = lab(constant_colorizer(15, -10).colorize(photo))[1:].mean(dim=(1, 2))
    assert colors.tolist() == pytest.approx([15, -10], abs=0.2)
    half = lab(constant_colorizer(15, -10).colorize(photo, saturation=0.5))[1:].mean(dim=(1, 2))
    assert half.tolist() == pytest.approx([7.5, -5], abs=0.2)


def test_a_colour_photo_and_its_gray_version_come_out_alike(colorizer):
    """The network never sees colours: ab = 0 changes nothing but 8-bit rounding."""
    photo = np.asarray(open_photo(sample_photos()[0]))
    gray = colorizer.colorize(photo, saturation=0)
    ab = colorizer.predict_ab(colorizer.network_input(photo))
    again = colorizer.predict_ab(colorizer.network_input(gray))
    assert (ab - again).abs().max() < 0.02


def test_saturation_zero_is_gray(colorizer):
    result = colorizer.colorize(sample_photos()[0], saturation=0)
    assert np.ptp(result.astype(int), axis=2).max() <= 1


def live_in(model: UNet) -> UNet:
    """Let a network's batch norms have seen something: their statistics are not those of the first day."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values, low, high in ((module.running_mean, -1, 1), (module.running_var, 0.3, 3)):
                values.uniform_(low, high)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


@pytest.fixture
def lived_in():
    return live_in(UNet(8, 5))


@pytest.fixture
def extended():
    """The same with a palette, whose colours hang on the scene, and residual blocks."""
    model = live_in(UNet(8, 5, palette=6, residual=2))
    torch.nn.init.normal_(model.palette.shift.weight, std=0.1)
    for look in model.palette.look:  # else the random features of all scenes look much alike
        torch.nn.init.normal_(look.weight, std=3.0)
    return model


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.02), ("float16", 0.003)])
def test_predict_ab_at_the_networks_size_is_the_network(lived_in, precision, tolerance):
    L = torch.rand(3, 1, 48, 48) * 2 - 1
    with torch.no_grad():
        expected = lived_in(L)
    assert expected.std() > 0.05
    predicted = Colorizer(lived_in, CONFIG, precision).predict_ab(L)
    assert (predicted - expected).abs().max() < tolerance
    assert predicted.dtype == torch.float32


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 2e-5), ("bfloat16", 0.1), ("float16", 0.02)])
def test_predict_ab_with_palette_and_residual_blocks_is_the_network(extended, precision, tolerance):
    L = torch.rand(3, 1, 48, 48) * 2 - 1
    with torch.no_grad():
        expected = extended(L)
    assert expected.std() > 0.05
    predicted = Colorizer(extended, CONFIG, precision).predict_ab(L)
    assert (predicted - expected).abs().max() < tolerance
    assert predicted.dtype == torch.float32


@pytest.mark.parametrize("kind", ["lived_in", "extended"])
def test_the_network_in_use_is_a_copy_without_batch_norms(kind, request):
    model = request.getfixturevalue(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    colorizer = Colorizer(model, CONFIG, "bfloat16")
    assert colorizer.model is model
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in colorizer.network.modules())
    assert {parameter.dtype for parameter in colorizer.network.parameters()} == {torch.bfloat16}


def test_precision_is_the_devices_unless_one_is_wished_for(lived_in, monkeypatch):
    for flags, kind in (({"amx_bf16"}, torch.bfloat16), (set(), torch.float32)):
        monkeypatch.setattr(environment, "_cpu_flags", lambda flags=flags: flags)
        assert next(Colorizer(lived_in, CONFIG).network.parameters()).dtype == kind
    assert next(Colorizer(lived_in, CONFIG, "float16").network.parameters()).dtype == torch.float16


def test_half_precision_moves_no_colour_that_the_eye_would_see(lived_in):
    for path in sample_photos():
        exact, fast = (Colorizer(lived_in, CONFIG, kind).colorize(path) for kind in ("float32", "bfloat16"))
        difference = np.abs(exact.astype(int) - fast)
        assert difference.mean() < 0.5 and np.quantile(difference, 0.999) <= 4, path.name


def test_a_batch_is_its_photos_one_by_one(lived_in):
    colorizer = Colorizer(lived_in, CONFIG, "float32")
    L = torch.rand(3, 1, 60, 50) * 2 - 1
    together = colorizer.predict_ab(L)
    assert together.shape == (3, 2, 60, 50)
    for i in range(3):
        assert torch.allclose(colorizer.predict_ab(L[i : i + 1])[0], together[i], atol=1e-5)


@pytest.mark.parametrize("pixels", [1, 50, 333])
def test_strips_leave_no_seam(monkeypatch, pixels):
    photo, ab = noise(37, 50, 3), torch.rand(1, 2, 8, 8) - 0.5
    whole = add_color(photo, ab)
    monkeypatch.setattr(colorize, "CPU_STRIP", pixels)
    assert np.abs(add_color(photo, ab).astype(int) - whole).max() <= 1  # rounding
    assert (add_color(photo, ab) == whole).mean() > 0.999


@pytest.mark.parametrize("size", [(37, 50), (8, 8), (5, 3), (3, 90)])
def test_colours_are_the_small_ones_where_lightness_says_nothing(size):
    """A flat photo gets the bilinear ab, antialiased where it shrinks."""
    photo, ab = np.full((*size, 3), 128, np.uint8), (torch.rand(1, 2, 8, 8) - 0.5) / 4
    L = encode_lab(lab(photo)[None])[0]
    expected = lab_to_rgb_image(L, F.interpolate(ab, size, mode="bilinear", antialias=True))
    assert np.abs(add_color(photo, ab).astype(int) - expected).max() <= 1


# --- any photo ----------------------------------------------------------------------------------------------


@hypothesis.settings(deadline=None, max_examples=40, derandomize=True)
@hypothesis.given(
    width=st.integers(1, 90), height=st.integers(1, 90), seed=st.integers(0, 9),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F"]),
)  # fmt: skip
def test_any_size_and_mode_keeps_size_and_lightness(width, height, seed, mode):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    image = Image.fromarray(values[..., :3].copy())
    if mode in ("I", "F"):
        image = Image.fromarray(values[..., 0].astype(np.int32 if mode == "I" else np.float32))
    elif mode == "I;16":
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    elif mode == "LAB":
        image = Image.frombytes("LAB", (width, height), values[..., :3].tobytes())
    elif mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray(values[..., 3].copy()))
    else:
        image = image.convert(mode)
    before = lab(np.asarray(open_photo(image)))
    result = constant_colorizer(12, -9).colorize(image)
    assert result.shape == (height, width, 3) and result.dtype == np.uint8
    after = lab(result)
    inside = ((result > 0) & (result < 255)).all(axis=2)  # where sRGB has the colour
    differences = (after - before)[0].abs().numpy()[inside]
    assert differences.max(initial=0) < 1


def test_a_photo_and_its_gray_version_come_out_within_two_levels():
    """The gray's own rounding to 8 bits is all that differs; in dark blue, one level of gray is worth up to four."""
    for colorizer in (constant_colorizer(14, -18), constant_colorizer(-10, 25)):
        for path in sample_photos("color")[:3]:
            photo = np.asarray(open_photo(path).resize((240, 200)))
            gray = colorizer.colorize(photo, saturation=0)
            difference = np.abs(colorizer.colorize(photo).astype(int) - colorizer.colorize(gray))
            assert difference[gray[..., 0] > 16].max() <= 2 and difference.max() <= 4, path.name


def test_a_photo_and_its_gray_version_get_the_same_colours(extended):
    colorizer = Colorizer(extended, CONFIG, "float32")
    for path in sample_photos("color")[:3]:
        gray = colorizer.colorize(path, saturation=0)
        difference = np.abs(colorizer.colorize(path).astype(int) - colorizer.colorize(gray))
        assert np.quantile(difference, 0.995) <= 2 and difference.mean() < 0.5, path.name


def test_colours_do_not_hang_on_the_photos_size(extended):
    """Of one scene at three sizes, compared at the smallest."""
    colorizer, results = Colorizer(extended, CONFIG, "float32"), []
    scene = open_photo(sample_photos("color")[2]).resize((2000, 1600), Image.Resampling.LANCZOS)
    for width in (250, 1000, 2000):
        photo = scene.resize((width, width * 4 // 5), Image.Resampling.BOX)
        result = Image.fromarray(colorizer.colorize(photo)).resize((250, 200), Image.Resampling.BOX)
        results.append(lab(np.asarray(result))[1:])
    assert results[0].std() > 3, "there is colour to compare"
    for other in results[1:]:
        assert (other - results[0]).norm(dim=0).mean() < 1.5  # a just noticeable difference is about 2


# --- size, hints and reference ------------------------------------------------------------------------------


def test_render_size_is_the_side_that_the_network_sees(extended):
    seen = []
    colorizer = Colorizer(extended, CONFIG, "float32")
    colorizer.network.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    photo = noise(30, 50, 3)
    assert colorizer.predict(photo).shape == (1, 2, 48, 48)
    assert colorizer.predict(photo, render_size=100).shape == (1, 2, 100, 100)
    assert colorizer.colorize(photo, render_size=64).shape == (30, 50, 3)
    assert seen == [(1, 1, 48, 48), (1, 1, 100, 100), (1, 1, 64, 64)]
    for size in (15, 1025, 64.0, -1):
        with pytest.raises(ValueError, match="render_size must be a whole number, 16 to 1024 px"):
            colorizer.predict(photo, render_size=size)


def test_nothing_is_steered_unless_asked(extended):
    colorizer, photo = Colorizer(extended, CONFIG, "float32"), sample_photos()[0]
    plain = colorizer.predict(photo)
    assert torch.equal(plain, colorizer.predict_ab(colorizer.network_input(photo)))
    assert torch.equal(plain, colorizer.predict(photo, hints=(), reference=None))


def test_hints_and_reference_reach_the_result():
    photo = sample_photos()[0]
    colorizer = constant_colorizer(5, 5)
    hinted = lab(colorizer.colorize(photo, hints=[Hint(0.5, 0.5, "#5060a0")]))[1:]
    height, width = hinted.shape[1:]
    wanted = rgb_to_lab(torch.tensor([0x50, 0x60, 0xA0]).view(3, 1, 1) / 255)[1:].flatten()
    assert (hinted[:, height // 2, width // 2] - wanted).norm() < 4
    assert (hinted[:, 3, 3] - torch.tensor([5.0, 5.0])).norm() < 2, "far away, the network's"
    blue = Image.new("RGB", (40, 30), (60, 70, 150))
    result = lab(colorizer.colorize(photo, reference=blue))[1:]
    expected = lab(np.asarray(blue))[1:].mean(dim=(1, 2))
    assert (result.flatten(1).median(dim=1).values - expected).norm() < 6
    both = colorizer.predict(photo, reference=blue, hints=[Hint(0.2, 0.2, (128, 128, 128))])[0, :, 9, 9]
    assert both.norm() * 128 < 1, "a hint has the last word"


# --- the photo and its mirror image -------------------------------------------------------------------------


def test_flips_average_the_colours_of_the_photo_and_of_its_mirror_image(lived_in):
    L = torch.rand(2, 1, 48, 48) * 2 - 1
    with torch.no_grad():
        plain, mirrored = lived_in(L), lived_in(L.flip(-1)).flip(-1)
    assert (plain - mirrored).abs().max() > 0.05
    both = Colorizer(lived_in, CONFIG.replace(test_flips=True), "float32").predict_ab(L)
    assert (both - (plain + mirrored) / 2).abs().max() < 1e-5
    assert (Colorizer(lived_in, CONFIG, "float32").predict_ab(L) - plain).abs().max() < 1e-5
    upside_down = Colorizer(lived_in, CONFIG.replace(test_flips=True), "float32").predict_ab(L.flip(-2)).flip(-2)
    assert (upside_down - both).abs().max() > 0.05, "mirrored from left to right, not from top to bottom"


@pytest.mark.parametrize("size", [(48, 48), (30, 61)])
def test_with_flips_a_mirrored_photo_gets_mirrored_colours(lived_in, size):
    photo = noise(*size, 3)
    for flips in (True, False):
        colorizer = Colorizer(lived_in, CONFIG.replace(test_flips=flips), "float32")
        plain, other = colorizer.colorize(photo), colorizer.colorize(np.ascontiguousarray(photo[:, ::-1]))[:, ::-1]
        difference = np.abs(plain.astype(int) - other)
        assert difference.max() <= 2 if flips else difference.mean() > 2


# --- the palette --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_palette_is_the_networks_with_the_most_used_colour_first(extended, precision):
    colorizer, exact = Colorizer(extended, CONFIG, precision), precision == "float32"
    for photo in sample_photos()[:3]:
        palette = colorizer.palette(photo)
        assert palette.colors.shape == (1, 6, 2) and palette.shares.shape == (1, 6)
        for values in palette:
            assert values.dtype == torch.float32 and values.device.type == "cpu" and not values.requires_grad
        assert (palette.shares.diff(dim=1) <= 0).all() and palette.shares.min() >= 0
        assert palette.shares.sum().item() == pytest.approx(1, abs=1e-5 if exact else 0.01)
        with torch.no_grad():
            colors, shares = (values[0] for values in extended.paint(colorizer.network_input(photo))[1])
        tolerance = 1e-4 if exact else 0.06
        assert (palette.shares[0] - shares.sort(descending=True).values).abs().max() < tolerance
        for color, share in zip(*(values[0] for values in palette), strict=True):
            # each share still belongs to its colour
            number = (colors - color).norm(dim=1).argmin()
            assert (colors[number] - color).abs().max() < tolerance and abs(shares[number] - share) < tolerance


def test_palette_hangs_on_the_photo_and_not_on_its_colours_or_size(extended):
    colorizer = Colorizer(extended, CONFIG, "float32")
    chelsea, coffee = (colorizer.palette(photo) for photo in sample_photos()[:2])
    assert (chelsea.colors - coffee.colors).abs().max() > 0.01
    photo = np.asarray(open_photo(sample_photos()[0]).resize((48, 48)))
    gray = colorizer.colorize(photo, saturation=0)
    assert (colorizer.palette(gray).colors - colorizer.palette(photo).colors).abs().max() < 0.02


def test_network_without_a_palette_has_none(colorizer):
    assert colorizer.palette(sample_photos()[0]) is None
    assert Colorizer(Constant(0.1, 0.2), CONFIG).palette(sample_photos()[0]) is None


def test_palette_of_what_is_no_photo(extended, tmp_path):
    with pytest.raises(PhotoError, match="is a folder"):
        Colorizer(extended, CONFIG).palette(tmp_path)


def swatches(strip: np.ndarray) -> list[tuple[int, list[int]]]:
    """The widths and the colours of a strip, from left to right."""
    assert (strip == strip[:1]).all(), "each column is of one colour"
    starts = [0, *(np.flatnonzero((np.diff(strip[0].astype(int), axis=0) != 0).any(axis=1)) + 1), strip.shape[1]]
    return [(end - start, strip[0, start].tolist()) for start, end in itertools.pairwise(starts)]


FOUR = torch.tensor([[0.0, 0.0], [0.25, 0.1], [-0.2, 0.2], [0.05, -0.3]])


@pytest.mark.parametrize(
    ("shares", "width", "widths"),
    [
        ([0.5, 0.25, 0.125, 0.125], 16, [8, 4, 2, 2]),
        ([0.4, 0.3, 0.2, 0.1], 10, [4, 3, 2, 1]),
        ([0.4, 0.3, 0.2, 0.1], 256, [102, 77, 51, 26]),  # 102.4, 179.2 and 230.4 are rounded
        ([0.125, 0.125, 0.25, 0.5], 16, [2, 2, 4, 8]),  # in the order in which they come
        ([1 / 3, 1 / 3, 1 / 3, 0.0], 10, [3, 4, 3]),
        ([0.0, 1.0, 0.0, 0.0], 7, [7]),
        ([0.99, 0.004, 0.003, 0.003], 10, [10]),
    ],
)
def test_swatches_are_as_wide_as_their_shares(shares, width, widths):
    strip = palette_strip(FOUR, torch.tensor(shares), width, height=3)
    assert strip.shape == (3, width, 3) and strip.dtype == np.uint8
    assert [found for found, _ in swatches(strip)] == widths


def test_swatches_have_their_colours():
    """Of L* 65, by scikit-image; in the order in which they come."""
    strip = palette_strip(FOUR, torch.full((4,), 0.25))
    assert strip.shape == (24, 256, 3)
    lab = np.concatenate([np.full((4, 1), 65.0), 128 * FOUR.numpy()], axis=1)
    wanted = 255 * lab2rgb(lab)
    for (width, color), expected in zip(swatches(strip), wanted, strict=True):
        assert width == 64 and np.abs(np.array(color) - expected).max() <= 1
    (_, gray), *_ = swatches(strip)
    assert max(gray) - min(gray) <= 1


def test_colours_that_srgb_lacks_are_clamped():
    ((width, color),) = swatches(palette_strip(torch.tensor([[1.0, 1.0]]), torch.ones(1), 5, 2))
    assert width == 5 and color[0] == 255 and color[2] == 0


def test_strip_of_a_photos_palette(extended):
    palette = Colorizer(extended, CONFIG, "float32").palette(sample_photos()[0])
    strip = palette_strip(palette.colors[0], palette.shares[0], width=1000)
    widths = [width for width, _ in swatches(strip)]
    assert sum(widths) == 1000
    assert widths[0] == pytest.approx(1000 * palette.shares[0, 0].item(), abs=1)


@pytest.mark.parametrize(
    ("colors", "shares"), [((4, 3), (4,)), ((1, 4, 2), (1, 4)), ((4, 2), (3,)), ((4, 2), (4, 1)), ((2,), (2,))]
)
def test_strip_names_wrong_shapes(colors, shares):
    with pytest.raises(ValueError, match=r"expected colors \(K, 2\) and shares \(K,\), got \("):
        palette_strip(torch.zeros(colors), torch.zeros(shares))


# --- sizes, precision and errors ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(24, 24), (96, 96), (33, 70), (1, 1)])
def test_predict_ab_at_other_sizes(colorizer, size):
    ab = colorizer.predict_ab(torch.rand(1, 1, *size) * 2 - 1)
    assert ab.shape == (1, 2, *size) and ab.dtype == torch.float32 and ab.device.type == "cpu"
    assert ab.abs().max() < 1 and not ab.requires_grad
    constant = constant_colorizer(20, 30).predict_ab(torch.zeros(1, 1, *size))
    assert torch.allclose(constant, torch.tensor([20.0, 30.0]).view(1, 2, 1, 1).expand_as(constant) / 128)


def test_predict_ab_shows_the_network_a_small_version():
    seen = []
    colorizer = constant_colorizer(0, 0)
    colorizer.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    steep = (torch.arange(200).view(1, 1, 1, 200) >= 100).float().expand(1, 1, 100, 200) * 2 - 1
    colorizer.predict_ab(steep)
    assert seen[0].shape == (1, 1, 48, 48)
    assert seen[0].min() == -1 and seen[0].max() == 1  # bicubic overshoots: L stays in its range
    assert seen[0][0, 0, 24, 10] == -1 and seen[0][0, 0, 24, 40] == 1


def test_half_precision_networks_answer_in_float32():
    model = UNet(4, 4).to(torch.bfloat16)
    assert Colorizer(model, CONFIG).predict_ab(torch.zeros(1, 1, 48, 48)).dtype == torch.float32


@pytest.mark.parametrize("shape", [(48, 48), (1, 48, 48), (0, 1, 48, 48), (1, 3, 48, 48), (1, 1, 0, 48)])
def test_predict_ab_names_a_wrong_shape(colorizer, shape):
    with pytest.raises(ValueError, match=r"\(B, 1, H, W\), got"):
        colorizer.predict_ab(torch.zeros(shape))


def test_add_color_is_the_second_half_of_colorize(colorizer):
    photo = sample_photos()[1]
    ab = colorizer.predict_ab(colorizer.network_input(photo))
    assert np.array_equal(add_color(photo, ab, 1.5), colorizer.colorize(photo, 1.5))


@pytest.mark.parametrize("saturation", [-0.1, float("nan"), float("inf")])
def test_saturation_out_of_range(colorizer, saturation):
    with pytest.raises(ValueError, match="saturation must be 0"):
        colorizer.colorize(noise(4, 4, 3), saturation)


def test_what_is_no_photo_is_said_in_words(colorizer, tmp_path):
    (tmp_path / "notes.jpg").write_text("not a photo")
    png = io.BytesIO()
    Image.fromarray(noise(50, 50, 3)).save(png, "PNG")
    bad = {
        "notes.jpg: not an image": tmp_path / "notes.jpg",
        "is a folder": tmp_path,
        "broken image": png.getvalue()[:2000],
        "got float64": np.zeros((4, 4, 3)),
        r"got uint8 \(4, 4, 4\)": np.zeros((4, 4, 4), np.uint8),
        r"got uint8 \(0, 4, 3\)": np.zeros((0, 4, 3), np.uint8),
        "got NoneType": None,
    }
    for words, photo in bad.items():
        with pytest.raises(PhotoError, match=words):
            colorizer.colorize(photo)
    with pytest.raises(FileNotFoundError, match=r"there is no photo .*missing.jpg.*check the path"):
        colorizer.colorize(str(tmp_path / "missing.jpg"))


def test_from_run_and_the_one_liner(colorizer, tmp_path, monkeypatch):
    monkeypatch.setenv("COLORLIB_OUTPUTS", str(tmp_path))
    for run in ("small", "release"):
        save_model(tmp_path / run / BEST, colorizer.model, CONFIG)
    photo, expected = sample_photos()[0], colorizer.colorize(sample_photos()[0])
    assert Colorizer.from_run("small", device="cpu").config == CONFIG
    assert np.array_equal(Colorizer.from_run(device="cpu").colorize(photo), expected)
    assert np.array_equal(Colorizer(*load_model(tmp_path / "small")).colorize(photo), expected)
    assert np.abs(colorize_image(photo, "small").astype(int) - expected).max() <= 1  # on the default device
    assert np.ptp(colorize_image(photo, saturation=0).astype(int), axis=2).max() <= 1
    with pytest.raises(FileNotFoundError, match="no run 'other'"):
        Colorizer.from_run("other")
    (tmp_path / "small" / BEST).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="damaged"):
        colorize_image(photo, "small")

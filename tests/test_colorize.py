"""A photo in, a coloured photo out: the network's input, any size, any file."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from colorlib import colorize, environment
from colorlib.checkpoint import BEST, CheckpointError, save_model
from colorlib.color import encode_lab, lab_to_rgb_image, rgb_to_lab
from colorlib.colorize import Colorizer, add_color, colorize_image, load_model, open_photo
from colorlib.config import Config
from colorlib.data import ColorizationDataset, sample_photos
from colorlib.model import UNet
from colorlib.photo import PhotoError, to_tensor

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


@pytest.fixture
def lived_in():
    """A network whose batch norms have seen something: their statistics are not those of the first day."""
    model = UNet(8, 5)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values, low, high in ((module.running_mean, -1, 1), (module.running_var, 0.3, 3)):
                values.uniform_(low, high)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.02), ("float16", 0.003)])
def test_predict_ab_at_the_networks_size_is_the_network(lived_in, precision, tolerance):
    L = torch.rand(3, 1, 48, 48) * 2 - 1
    with torch.no_grad():
        expected = lived_in(L)
    assert expected.std() > 0.05
    predicted = Colorizer(lived_in, CONFIG, precision).predict_ab(L)
    assert (predicted - expected).abs().max() < tolerance
    assert predicted.dtype == torch.float32


def test_the_network_in_use_is_a_copy_without_batch_norms(lived_in):
    before = {name: value.clone() for name, value in lived_in.state_dict().items()}
    colorizer = Colorizer(lived_in, CONFIG, "bfloat16")
    assert colorizer.model is lived_in
    assert all(torch.equal(before[name], value) for name, value in lived_in.state_dict().items())
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


@pytest.mark.parametrize("pixels", [1, 50, 333, 10**9])
def test_strips_leave_no_seam(colorizer, monkeypatch, pixels):
    photo, ab = noise(37, 50, 3), torch.rand(1, 2, 8, 8) - 0.5
    L = encode_lab(lab(photo)[None])[0]
    whole = lab_to_rgb_image(L, F.interpolate(ab, (37, 50), mode="bilinear", antialias=True))
    monkeypatch.setattr(colorize, "CPU_STRIP", pixels)
    assert np.abs(add_color(photo, ab).astype(int) - whole).max() <= 1  # rounding
    assert (add_color(photo, ab) == whole).mean() > 0.999


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
    save_model(tmp_path / "small" / BEST, colorizer.model, CONFIG)
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

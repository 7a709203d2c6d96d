"""What the notebooks do, on an imitated GPU: nothing there joins what lies on two devices."""

import numpy as np
import pytest
import torch
from conftest import blobs
from imitated_gpu import ImitatedGpu

from colorlib.checkpoint import save_model, save_some_examples
from colorlib.color import decode_lab, encode_lab, lab_to_rgb_image, rgb_to_lab
from colorlib.colorize import Colorizer, Hint, add_color, palette_strip, recolor_palette, swatch_colors
from colorlib.config import Config
from colorlib.data import ColorizationDataset, get_dataloader
from colorlib.evaluation import evaluate_model
from colorlib.model import UNet
from colorlib.photo import to_tensor
from colorlib.system import pick_device
from colorlib.train import TrainState, fit
from colorlib.ui import TrainingStepper

CONFIG = Config(width=4, depth=4, image_size=16, palette=4, flip_tta=True)
L, AB = encode_lab(rgb_to_lab(to_tensor(blobs(0))[None]))


@pytest.fixture(autouse=True)
def gpu():
    with ImitatedGpu():
        yield


@pytest.fixture
def colorizer(tmp_path):
    """A network of a run, on what `pick_device` finds."""
    save_model(tmp_path / "run" / "best.safetensors", UNet(**CONFIG.network), CONFIG)
    return Colorizer.from_run(tmp_path / "run")


def test_the_imitation_refuses_what_a_gpu_refuses():
    there, here = torch.ones(3, device="cuda"), torch.ones(3)
    layer = torch.nn.Linear(3, 3).to("cuda")
    assert str(there.device) == "cuda:0" and (there + 1).is_cuda and layer(there).is_cuda and not there.cpu().is_cuda
    assert here.to(there).is_cuda and not here.is_cuda and torch.equal((there * torch.tensor(2)).cpu(), 2 * here)
    for mixed in (lambda: there + here, lambda: torch.cat([there, here]), lambda: layer(here), lambda: here[there > 0]):
        with pytest.raises(RuntimeError, match="same device, but found cuda:0 and cpu"):
            mixed()
    for to_numpy in (there.numpy, lambda: np.asarray(there)):
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            to_numpy()


@pytest.mark.parametrize("device_of_L", ["cpu", "cuda"])
@pytest.mark.parametrize("device_of_ab", ["cpu", "cuda"])
def test_a_picture_is_made_of_L_and_ab_on_any_devices(device_of_L, device_of_ab, tmp_path):
    planes = L.to(device_of_L), AB.to(device_of_ab)
    assert np.array_equal(lab_to_rgb_image(*planes), blobs(0))
    assert decode_lab(*planes).device.type == device_of_ab
    save_some_examples(UNet(4, 4).to("cuda"), *planes, tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


OPTIONS = {
    "plain": {}, "strong": {"saturation": 1.5, "vividness": 1.0}, "restored": {"restore": True},
    "closer": {"render_size": 32}, "hints": {"hints": [Hint(0.5, 0.5, "red")]},
    "hints on a large one": {"hints": [Hint(0.5, 0.5, "red")], "render_size": 64}, "reference": {"reference": blobs(1)},
}  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_colorize(colorizer, options, monkeypatch):
    monkeypatch.setattr("colorlib.colorize.hints.SOLVED", 32)  # px, in place of 112: it is the same, and fast
    assert colorizer.device.type == "cuda" and colorizer.colorize(blobs(0), **options).shape == blobs(0).shape
    assert colorizer.predict(blobs(0)).is_cuda


def test_notebook_4(colorizer, photos):
    """As it stands there: L from the photo, ab from the network, joined, scaled, turned around, scored."""
    ab = colorizer.predict_ab(L)
    for colors in (ab, np.float64(0.4) * ab, -ab, torch.zeros_like(AB)):
        assert lab_to_rgb_image(L, colors).shape == blobs(0).shape
    vivid = {value: Colorizer(colorizer.model, CONFIG.replace(vividness=value)).predict_ab for value in (0, 1)}
    assert len(evaluate_model(vivid, photos[:3], 32, progress=False)) == 9
    assert add_color(blobs(0), ab).shape == blobs(0).shape


def test_palette(colorizer):
    seen = colorizer.network_input(blobs(0)).to(colorizer.device, colorizer.dtype)
    for palette in (colorizer.palette(blobs(0)), colorizer.network.forward_with_palette(seen)[1]):
        swatch = tuple(swatch_colors(palette.colors[0])[0])
        changed = recolor_palette(palette, [(swatch, "teal")])
        assert changed.colors.device == palette.colors.device and not torch.equal(changed.colors, palette.colors)
        assert palette_strip(palette.colors[0], palette.shares[0]).shape == (24, 256, 3)
    assert colorizer.colorize(blobs(0), recolor=[(swatch, "teal")]).shape == blobs(0).shape


@pytest.mark.parametrize(
    "changes", [{}, {"palette": 4, "palette_likelihood": 0.1, "ema": 0.9}], ids=["plain", "palette"]
)
def test_a_training_step(config, photos, changes):
    config = config.replace(**changes)
    served = ColorizationDataset(photos, config, True, pick_device())
    state = TrainState(config, pick_device(), 1)
    state.take_step(**next(iter(get_dataloader(served, 4, True))))
    assert state.loss_sum.is_cuda and state.precision == "float16" and state.train_model.final.weight.is_cuda


def test_fit_and_go_on(config, photos, tmp_path):
    fit(config.replace(epochs=1), photos, tmp_path / "run")
    assert len(fit(config.replace(epochs=2), photos, tmp_path / "run")) == 2


def test_the_widget_that_trains(config, photos):
    stepper = TrainingStepper(config.replace(palette=8, palette_likelihood=0.02), photos)
    stepper.step()
    assert stepper.state.device.type == "cuda" and len(stepper.losses) == 1

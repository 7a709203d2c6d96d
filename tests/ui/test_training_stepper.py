"""Training by pressing: the loss falls, the slider counts, a run pauses, a new start forgets."""

import asyncio
import io

import numpy as np
import pytest
import torch
from PIL import Image

from colorlib.config import Config
from colorlib.ui import TrainingStepper

CONFIG = Config(
    width=8, depth=4, palette=4, image_size=32, photo_size=40, min_crop=0.5, batch_size=2, learning_rate=3e-3,
    crops_per_photo=3, precision="float32", seed=2,
)  # fmt: skip


@pytest.fixture
def stepper(photos):
    return TrainingStepper(CONFIG, photos[:4], "cpu")


def weights(stepper) -> torch.Tensor:
    return torch.cat([w.detach().flatten() for w in stepper.state.train_model.parameters()])


def test_pressing_trains_and_shows_it(stepper):
    start, curve, picture = weights(stepper), stepper.curve.value, stepper.picture.value
    stepper.step()
    assert len(stepper.losses) == 1 and not torch.equal(weights(stepper), start)
    stepper.step(40)
    network, gray = np.array(stepper.losses).T
    assert network[-5:].mean() < network[:5].mean() and network[-5:].mean() < gray.mean()
    assert stepper.curve.value != curve and stepper.picture.value != picture
    height, width, _ = np.asarray(Image.open(io.BytesIO(stepper.picture.value))).shape
    assert "Step 41." in stepper.status.value
    assert (height, width) == (8 + 40 + 24, 16 + 3 * 48), "three pictures, and below them the palette"


def test_a_new_start_forgets(stepper):
    start = weights(stepper)
    stepper.step(3)
    first = stepper.losses
    stepper.start()
    assert stepper.losses == [] and torch.equal(weights(stepper), start)
    stepper.step(3)
    assert stepper.losses == first, "the same seed, the same steps"


def test_the_slider_sets_the_learning_rate_of_the_next_step(stepper):
    stepper.rate.value = 1e-5
    before = weights(stepper)
    stepper.step()
    small = (weights(stepper) - before).abs().max()
    stepper.rate.value, before = 1e-2, weights(stepper)
    stepper.step()
    assert small < 2e-5 and (weights(stepper) - before).abs().max() > 1e-3


def test_a_run_goes_on_until_it_is_paused_or_fails(stepper):
    async def press():
        stepper.running.value = True
        while len(stepper.losses) < 3:
            await asyncio.sleep(0.01)
        assert stepper.running.description == "Pause"
        only = stepper.task
        stepper.running.value = False
        stepper.running.value = True  # before the loop has noticed the pause: it is not doubled
        assert stepper.task is only
        stepper.start()
        while len(stepper.losses) < 2:  # a new start does not end it
            assert stepper.running.value
            await asyncio.sleep(0.01)
        stepper.running.value = False
        await stepper.task
        taken = len(stepper.losses)
        await asyncio.sleep(0.1)
        assert len(stepper.losses) == taken and stepper.running.description == "Run"
        with torch.no_grad():
            stepper.state.train_model.final.bias.fill_(torch.nan)
        stepper.running.value = True
        await stepper.task  # ends by itself

    asyncio.run(asyncio.wait_for(press(), 60))
    assert not stepper.running.value
    assert 'role="alert"' in stepper.status.value and "lower the learning rate" in stepper.status.value

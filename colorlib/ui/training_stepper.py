"""A widget of notebook 03: training, one press at a time."""

import asyncio
import math
import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count

import ipywidgets as W
import numpy as np
import torch
from IPython.core.pylabtools import print_figure

from colorlib.colorize import Colorizer, palette_strip
from colorlib.config import Config
from colorlib.data import ColorizationDataset, get_dataloader
from colorlib.photo import read_photo
from colorlib.plots import plot_steps, sample_grid
from colorlib.system import pick_device
from colorlib.train import TrainState
from colorlib.ui import controls as C
from colorlib.ui.session import shrink

PAUSE = 0.02  # seconds between steps in which the kernel hears the buttons


class TrainingStepper(W.VBox):
    """A widget that trains a network as one presses, and shows what that does to the loss and to one photo.

    The first of the photos is shown; the learning rate is what the slider says. `state` is its `TrainState`; `losses`
    has a pair for each step: the L1 loss of the network on the step's batch, and gray's. Nothing is saved.
    """

    def __init__(self, config: Config, photos: Sequence[str | os.PathLike], device: str | None = None):
        self.config = config.replace(schedule="constant", warmup=0.0)
        self.photos = ColorizationDataset(photos, config, True, pick_device(device))
        self.photo = np.asarray(shrink(read_photo(photos[0]), 256))
        self.status, self.curve, self.picture = C.Status(), C.image_box(), C.image_box()
        rate = {"value": config.learning_rate, "min": -5, "max": -1, "step": 0.1}  # powers of ten
        self.rate = C.control(W.FloatLogSlider, "Learning rate", self._set_rate, "96px", **rate)
        self.rate.layout.flex = "1 1 260px"
        epoch = len(get_dataloader(self.photos, config.batch_size, True))
        steps = ("One step", 1), ("Ten steps", 10), (f"An epoch ({epoch} steps)", epoch)
        button = partial(C.button, status=self.status)
        buttons = [button(text, "step-forward", f"train on {n} batches", partial(self.step, n)) for text, n in steps]
        self.task: asyncio.Future | None = None
        self.running = W.ToggleButton(value=False, layout={"width": "auto"})
        self.running.observe(self._run_or_pause, "value")
        anew = button("Start anew", "refresh", "forget what was learned", self.start)
        loss = C.figure("Loss of each step's batch", self.curve)
        title = "A photo: gray, as the network colors it now, as it is; its palette"
        seen = C.figure(title, self.picture, "1 1 400px")
        rows = [C.row(*buttons, self.running, anew, self.rate), self.status, C.row(loss, seen, align="flex-start")]
        super().__init__(rows, layout={"max_width": "900px", "grid_gap": "8px"})
        self._run_or_pause()
        self.start()

    def start(self) -> None:
        """Begin with a new network."""
        torch.manual_seed(self.config.seed)
        self.state, self.losses, self._batches = TrainState(self.config, self.photos.device, 1), [], self._serve()
        self._set_rate()
        self._show()

    def step(self, steps: int = 1) -> None:
        """Take optimizer steps, and show where they lead."""
        self.state.train_model.train()
        for _ in range(steps):
            batch, before = next(self._batches), self.state.loss_sum.item()
            self.state.take_step(**batch)
            loss = (self.state.loss_sum.item() - before) / len(batch["L"])
            if not math.isfinite(loss):
                raise ValueError("the loss is no longer a number: lower the learning rate and start anew")
            self.losses.append((loss, batch["ab"].abs().mean().item()))
        self._show()

    def _serve(self) -> Iterator[dict[str, torch.Tensor]]:
        """Batches without end: epoch after epoch, each in an order and with crops of its own."""
        for epoch in count():
            self.photos.set_epoch(epoch)
            yield from get_dataloader(self.photos, self.config.batch_size, True, epoch)

    def _set_rate(self, *_: object) -> None:
        self.state.schedule.base_lrs = [self.rate.value]
        self.state.optimizer.param_groups[0]["lr"] = self.rate.value

    def _run_or_pause(self, *_: object) -> None:
        running = self.running
        running.description, running.icon = ("Pause", "pause") if running.value else ("Run", "play")
        if running.value and (self.task is None or self.task.done()):  # else the loop has not noticed the pause
            self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        """Step until the button is pressed again, or something goes wrong; the kernel stays free in between."""
        while self.running.value:
            steps = len(self.losses)
            self.status.reporting(self.step)()
            self.running.value &= len(self.losses) > steps
            await asyncio.sleep(PAUSE)

    def _show(self) -> None:
        colorizer = Colorizer(self.state.eval_model, self.config, "float32")
        gray = colorizer.colorize(self.photo, saturation=0)
        shown = sample_grid([[gray, colorizer.colorize(self.photo), self.photo]])
        if palette := colorizer.palette(self.photo):
            shown = np.vstack([shown, palette_strip(palette.colors[0], palette.shares[0], shown.shape[1])])
        self.picture.value = C.jpeg(shown)
        self.curve.value = print_figure(plot_steps(self.losses), "jpeg", bbox_inches=None, dpi=120)
        last = "Loss of the last batch {:.4f}, gray's {:.4f}.".format(*self.losses[-1]) if self.losses else ""
        self.status.say(f"Step {len(self.losses)}. {last}")

"""Everything that changes while a network is trained: what a step needs, and what a continued run needs again."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from colorlib.config import Config
from colorlib.environment import pick_precision
from colorlib.losses import ColorLoss
from colorlib.model import UNet
from colorlib.parallel import processes, rank, sum_over_processes


class Training:
    """A network in training.

    config: the run's. device: where it computes. steps: batches of an epoch. Holds `model`, the network; `network`,
    the same as the training step calls it (perhaps compiled, perhaps one of several processes); `optimizer` (Adam),
    `schedule` of its learning rate, `scaler` (which keeps the small gradients of float16 above zero; idle otherwise),
    `precision`; `history`, a row for each finished epoch; and of the epoch in progress `step`, the batches done, with
    the sum of their losses over `photos` photos. Checked by tests/test_state.py.
    """

    def __init__(self, config: Config, device: torch.device, steps: int = 1):
        torch.manual_seed(config.seed)
        self.config, self.device = config, device
        if device.type == "cuda":
            torch.cuda.set_device(device)  # what asks for "the" GPU, such as its random state, means this one
        self.precision = pick_precision(device, config.precision)
        torch.backends.cudnn.benchmark = True  # all batches have one size: let a GPU find its fastest convolutions once
        self.model = UNet(*config.network).to(device, memory_format=torch.channels_last)
        fused = device.type in ("cuda", "cpu")  # all weights in one go
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=fused
        )
        self.running: AveragedModel | None = None
        if config.ema:
            self.running = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)
        total = steps * config.epochs
        curves = {
            "constant": lambda step: 1.0,
            "cosine": lambda step: (1 + math.cos(math.pi * min(step / total, 1))) / 2,
        }
        curve, rise = curves[config.schedule], max(1, config.warmup * total)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(1.0, (step + 1) / rise) * curve(step)
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "float16")
        self.network: nn.Module = self.model
        if processes() > 1:
            self.network = DistributedDataParallel(self.network, [device.index] if device.type == "cuda" else None)
        if config.compile:
            self.network = torch.compile(self.network)
        self.loss_function = ColorLoss(config.loss, config.perceptual).to(device)
        self.history: list[dict] = []
        self.new_epoch()

    def new_epoch(self) -> None:
        """Begin an epoch. Everything random in it hangs on its number alone, so that no two are alike."""
        self.step, self.photos = 0, 0
        self.loss_sum = torch.zeros((), device=self.device)
        torch.manual_seed(self.epoch_seed + rank() * 7919)

    @property
    def result(self) -> nn.Module:
        """The network to validate and to keep: the running average of the weights, or without one, `model`."""
        return self.running.module if self.running else self.model

    def count_step(self, photos: int) -> None:
        """Note that the optimiser has taken a step, on so many photos."""
        self.schedule.step()
        if self.running:
            self.running.update_parameters(self.model)
        self.step += 1
        self.photos += photos

    @property
    def epoch_seed(self) -> int:
        """What the order of the photos and the dropout of the epoch in progress start from."""
        return self.config.seed * 100_003 + len(self.history)

    def autocast(self) -> AbstractContextManager:
        """The context in which the network computes in the chosen precision."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.precision))

    def state_dict(self) -> dict[str, Any]:
        """What continues the run from here; all processes have to call it together."""
        loss_sum, photos = sum_over_processes(self.loss_sum, self.photos, device=self.device)
        cuda = self.device.type == "cuda"
        return {
            "model": self.model.state_dict(),
            "running": self.running.state_dict() if self.running else {},
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": {"cpu": torch.get_rng_state()} | ({"cuda": torch.cuda.get_rng_state()} if cuda else {}),
            "epoch": len(self.history),
            "step": self.step,
            "loss_sum": loss_sum,
            "photos": photos,
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, perhaps on another device or with another number of processes."""
        self.model.load_state_dict(state["model"])
        if self.running:
            self.running.load_state_dict(state["running"])
        # as it is on this device, not on the device before; it also decides where Adam's step counts lie
        state["optimizer"]["param_groups"][0]["fused"] = self.optimizer.param_groups[0]["fused"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.history = state["history"]
        self.new_epoch()
        self.step = state["step"]
        if rank() > 0:  # the sums and the random states are the first process's
            torch.manual_seed(self.epoch_seed + rank() * 7919 + self.step)
            return
        self.loss_sum += state["loss_sum"]
        self.photos = int(state["photos"])
        if self.step:
            torch.set_rng_state(state["random"]["cpu"])
            if self.device.type == "cuda" and "cuda" in state["random"]:
                torch.cuda.set_rng_state(state["random"]["cuda"])

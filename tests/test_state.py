"""What changes in training: it starts from the seed, and a state that was put away goes on bit for bit."""

import copy
import math
import warnings

import pytest
import torch
import torch.nn.functional as F

from colorlib import state
from colorlib.checkpoint import load_checkpoint, save_checkpoint
from colorlib.environment import pick_precision
from colorlib.model import UNet
from colorlib.state import Training
from colorlib.train import train_epoch

CPU = torch.device("cpu")


def batches(count: int, size: int = 2, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    planes = torch.rand(count, size, 3, 16, 16, generator=generator) * 2 - 1
    return [{"L": photos[:, :1], "ab": photos[:, 1:] / 2} for photos in planes]


def assert_equal(a, b) -> None:
    """Two states are the same to the bit."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_equal(one, other)
    else:
        assert a == b


def carried(training: Training, folder) -> dict:
    """A training's state as another process finds it on disk."""
    save_checkpoint(folder / "last.pt", training.state_dict())
    return load_checkpoint(folder / "last.pt")


@pytest.fixture
def config(config):
    """In float32, also on a processor that is fast at something else."""
    return config.replace(precision="float32")


# --- how it begins ------------------------------------------------------------------------------------------


def test_weights_come_from_the_seed_alone(config):
    torch.manual_seed(77)
    first = Training(config, CPU).model.state_dict()
    torch.rand(10)
    assert_equal(dict(first), dict(Training(config, CPU).model.state_dict()))
    torch.manual_seed(config.seed)
    assert_equal(dict(first), dict(UNet(config.width, config.depth, config.dropout).state_dict()))
    other = Training(config.replace(seed=4), CPU).model
    assert not torch.equal(other.final.weight, first["final.weight"])


def test_settings_reach_the_network_and_the_optimizer(config):
    training = Training(config.replace(width=5, depth=5, dropout=0.25, learning_rate=0.01), CPU)
    assert training.model.depth == 5 and training.model.final.in_channels == 10
    assert training.model.up[0].dropout.p == 0.25
    assert isinstance(training.optimizer, torch.optim.AdamW)
    group = training.optimizer.param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"], group["fused"]) == (0.01, (0.9, 0.999), 0, True)
    assert {id(p) for p in group["params"]} == {id(p) for p in training.model.parameters()}
    assert training.network is training.model
    assert training.model.final.weight.is_contiguous(memory_format=torch.channels_last)
    assert (training.history, training.step, training.photos, training.loss_sum.item()) == ([], 0, 0, 0)
    assert training.running is None and training.result is training.model
    extended = Training(config.replace(palette=3, residual=2, weight_decay=0.1), CPU)
    assert len(extended.model.palette.queries) == 3 and len(extended.model.deeper[0]) == 2
    group = extended.optimizer.param_groups[0]
    assert group["weight_decay"] == 0.1
    assert {id(p) for p in group["params"]} == {id(p) for p in extended.model.parameters()}


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_precision_is_that_of_the_network_not_of_the_weights(config, precision):
    training = Training(config.replace(precision=precision), CPU)
    with training.autocast():
        assert training.network(batches(1)[0]["L"]).dtype == getattr(torch, precision)
    assert training.precision == precision
    assert training.scaler.is_enabled() == (precision == "float16")
    train_epoch(training, batches(2))
    assert {parameter.dtype for parameter in training.model.parameters()} == {torch.float32}


def test_precision_auto_is_chosen_for_the_device(config):
    assert Training(config.replace(precision="auto"), CPU).precision == pick_precision(CPU)


# --- the learning rate --------------------------------------------------------------------------------------


def rates(training: Training, count: int) -> list[float]:
    """The learning rates of the next steps, and the one after them."""
    found = [training.optimizer.param_groups[0]["lr"]]
    train_epoch(training, batches(count), "", lambda: found.append(training.optimizer.param_groups[0]["lr"]))
    return found


def test_cosine_starts_at_the_learning_rate_and_ends_at_zero(config):
    """Two epochs of four steps, by hand: (1 + cos(π k/8))/2."""
    training = Training(config.replace(schedule="cosine", epochs=2, learning_rate=0.01), CPU, steps=4)
    root = math.sqrt(0.5)  # cos 45°
    shares = [1, None, (1 + root) / 2, None, 0.5, None, (1 - root) / 2, None, 0]
    for share, rate in zip(shares, rates(training, 8), strict=True):
        assert share is None or rate == pytest.approx(0.01 * share, abs=1e-9)
    assert rates(training, 2) == [0, 0, 0], "and stays there"


def test_rate_of_cosine_falls_with_every_step_and_no_step_is_taken_at_zero(config):
    training = Training(config.replace(schedule="cosine", epochs=3), CPU, steps=2)
    found = rates(training, 6)
    assert found == sorted(set(found), reverse=True)
    assert found[0] == config.learning_rate and found[5] > 0


def test_constant_rate(config):
    assert set(rates(Training(config, CPU, steps=2), 10)) == {config.learning_rate}


def test_more_epochs_stretch_the_curve_of_a_continued_run(config, tmp_path):
    config = config.replace(schedule="cosine", epochs=2)
    first = Training(config, CPU, steps=2)
    rates(first, 3)
    longer = Training(config.replace(epochs=4), CPU, steps=2)
    longer.load_state_dict(carried(first, tmp_path))
    expected = [config.learning_rate * (1 + math.cos(math.pi * step / 8)) / 2 for step in (4, 5, 6)]
    assert rates(longer, 3)[1:] == pytest.approx(expected)


def test_warmup_rises_in_equal_steps_to_the_full_rate(config):
    """Two epochs of five steps, four of them of warm-up, by hand."""
    config = config.replace(epochs=2, warmup=0.4, learning_rate=0.01)
    shares = [0.25, 0.5, 0.75, *[1] * 8]
    assert rates(Training(config, CPU, steps=5), 10) == pytest.approx([0.01 * share for share in shares])


def test_warmup_of_cosine_joins_its_curve(config):
    """The curve is that of a run without warm-up, which the rise only holds down at first."""
    config = config.replace(schedule="cosine", epochs=4, learning_rate=0.01)
    plain = rates(Training(config, CPU, steps=5), 20)
    warm = rates(Training(config.replace(warmup=0.2), CPU, steps=5), 20)
    assert warm[:3] == pytest.approx([rate * share for rate, share in zip(plain, (0.25, 0.5, 0.75), strict=False)])
    assert warm[3:] == plain[3:]
    assert warm.index(max(warm)) == 3 and warm[3] > 0.009 and warm[20] == 0
    assert warm[19] < 0.0002


def test_no_step_of_the_warmup_is_taken_at_zero(config):
    """However long it is, and also where it ends between two steps."""
    for schedule in ("constant", "cosine"):
        found = rates(Training(config.replace(schedule=schedule, epochs=3, warmup=0.35), CPU, steps=2), 6)
        assert 0 < found[0] < found[1] and found[0] == pytest.approx(config.learning_rate / 2.1), schedule


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_warmup_of_less_than_a_step_changes_nothing(config, schedule):
    config = config.replace(schedule=schedule, epochs=2)
    plain = rates(Training(config, CPU, steps=4), 8)
    assert plain[0] == config.learning_rate
    assert rates(Training(config.replace(warmup=0.1), CPU, steps=4), 8) == plain


# --- weight decay -------------------------------------------------------------------------------------------


def stepped(training: Training, optimizer: torch.optim.Optimizer, count: int) -> None:
    """The steps of `train_epoch` on the first batches, with another optimizer."""
    training.new_epoch()
    training.model.train()
    for batch in batches(count):
        optimizer.zero_grad()
        F.l1_loss(training.model(batch["L"]), batch["ab"]).backward()
        optimizer.step()


def test_without_weight_decay_the_steps_are_those_of_adam(config):
    training, twin = Training(config, CPU), Training(config, CPU)
    train_epoch(training, batches(5))
    stepped(twin, torch.optim.Adam(twin.model.parameters(), config.learning_rate, fused=True), 5)
    assert_equal(dict(training.model.state_dict()), dict(twin.model.state_dict()))


def test_weight_decay_shrinks_the_weights(config):
    """By the same share in each step, apart from what the gradient does (Loshchilov and Hutter 2019)."""
    config = config.replace(learning_rate=0.01)
    training = Training(config.replace(weight_decay=0.5), CPU)
    before = copy.deepcopy(dict(training.model.named_parameters()))
    training.model.zero_grad()
    for parameter in training.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(3):
        training.optimizer.step()
    for name, parameter in training.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name].detach() * (1 - 0.01 * 0.5) ** 3)
    sizes = []
    for decay in (0.0, 5.0):
        training = Training(config.replace(weight_decay=decay), CPU)
        train_epoch(training, batches(5))
        sizes.append(sum(p.square().sum() for p in training.model.down.parameters()))
    assert sizes[1] < 0.9 * sizes[0]


# --- the running average ------------------------------------------------------------------------------------


def test_running_average_by_hand(config):
    """Of all weights and of the batch norms' statistics: it starts as the first step's, and keeps 0.75 in each."""
    training, wanted = Training(config.replace(ema=0.75, palette=3, residual=1), CPU), {}
    assert training.result is not training.model

    def average() -> None:
        for name, value in training.model.state_dict().items():
            if value.is_floating_point():
                wanted[name] = 0.75 * wanted[name] + 0.25 * value if training.step > 1 else value.clone()

    train_epoch(training, batches(4), "", average)
    assert training.step == 4
    found = training.result.state_dict()
    assert list(found) == list(training.model.state_dict())
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(found["final.weight"], training.model.final.weight, atol=1e-4)
    assert not torch.allclose(found["down.1.norm.running_mean"], training.model.down[1].norm.running_mean, atol=1e-4)


def test_running_average_does_not_change_the_training(config):
    plain, averaged = Training(config, CPU), Training(config.replace(ema=0.9), CPU)
    losses = []
    for training in (plain, averaged):
        training.new_epoch()
        losses.append(train_epoch(training, batches(4))[0])
    assert losses[0] == losses[1]
    assert_equal(dict(plain.model.state_dict()), dict(averaged.model.state_dict()))
    assert all(parameter.grad is None for parameter in averaged.result.parameters())


def test_running_average_is_put_away_and_taken_up_again(config, tmp_path):
    config = config.replace(ema=0.75)
    training = Training(config, CPU)
    assert training.state_dict()["running"].keys() > {f"module.{name}" for name in training.model.state_dict()}
    assert Training(config.replace(ema=0.0), CPU).state_dict()["running"] == {}
    train_epoch(training, batches(2))
    found, before = carried(training, tmp_path), copy.deepcopy(dict(training.result.state_dict()))
    train_epoch(training, batches(1, seed=1))
    other = Training(config, CPU)
    other.load_state_dict(found)
    assert_equal(dict(other.result.state_dict()), before)
    train_epoch(other, batches(1, seed=1))
    assert_equal(dict(other.result.state_dict()), dict(training.result.state_dict()))
    assert not torch.equal(other.result.final.weight, other.model.final.weight), "it did not start anew"


# --- put away and taken up again ----------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_next_steps_after_loading_are_the_same_to_the_bit(config, tmp_path, precision, schedule):
    """In the middle of an epoch, with dropout, whatever happened to the random numbers in between."""
    config = config.replace(precision=precision, schedule=schedule)
    training = Training(config, CPU, steps=6)
    training.history.append({"epoch": 1, "train_loss": 0.1 + 0.2})
    training.new_epoch()
    train_epoch(training, batches(3))
    found = carried(training, tmp_path)
    assert found["epoch"] == 1 and found["step"] == 3 and found["photos"] == 6
    train_epoch(training, batches(3, seed=1))

    other = Training(config, CPU, steps=6)
    torch.manual_seed(12345)
    other.load_state_dict(found)
    train_epoch(other, batches(3, seed=1))
    assert_equal(training.state_dict(), other.state_dict())
    assert other.step == 6 and other.photos == 12 and other.history == [{"epoch": 1, "train_loss": 0.1 + 0.2}]
    assert training.model.up[0].dropout.p == 0.5 and training.loss_sum > 0


ALL = {
    "palette": 3, "residual": 1, "loss": "huber", "weight_decay": 0.05, "warmup": 0.4, "schedule": "cosine",
    "ema": 0.8, "epochs": 2,
}  # fmt: skip


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("done", [1, 3])
def test_next_steps_with_every_extra_are_the_same_to_the_bit(config, tmp_path, precision, done):
    """Taken up in the middle of the warm-up, and behind it."""
    config = config.replace(precision=precision, **ALL)
    training = Training(config, CPU, steps=3)
    train_epoch(training, batches(done))
    found = carried(training, tmp_path)
    train_epoch(training, batches(2, seed=1))
    other = Training(config, CPU, steps=3)
    torch.manual_seed(12345)
    other.load_state_dict(found)
    train_epoch(other, batches(2, seed=1))
    assert_equal(training.state_dict(), other.state_dict())
    assert_equal(dict(training.result.state_dict()), dict(other.result.state_dict()))


def test_state_between_two_epochs_hangs_on_no_random_number(config, tmp_path):
    """Whoever continues starts the next epoch as one that was never interrupted."""
    training = Training(config, CPU)
    train_epoch(training, batches(2))
    training.history.append({"epoch": 1})
    training.new_epoch()
    found = carried(training, tmp_path)
    assert (found["step"], found["photos"], found["loss_sum"]) == (0, 0, 0)
    found["random"]["cpu"] = torch.Generator().manual_seed(5).get_state()
    train_epoch(training, batches(2, seed=1))
    other = Training(config, CPU)
    other.load_state_dict(found)
    train_epoch(other, batches(2, seed=1))
    assert_equal(training.state_dict(), other.state_dict())


def test_state_that_was_taken_stays_while_the_training_goes_on(config, tmp_path):
    """What is loaded belongs to nobody else, and loading it twice gives the same twice."""
    training = Training(config, CPU)
    train_epoch(training, batches(2))
    found = carried(training, tmp_path)
    before = copy.deepcopy(found)
    for _ in range(2):
        other = Training(config, CPU)
        other.load_state_dict(load_checkpoint(tmp_path / "last.pt"))
        assert_equal(other.state_dict(), before)
        train_epoch(other, batches(1))


def test_optimizer_of_another_device_goes_on_in_this_ones_manner(config, tmp_path):
    """Fused is a way to compute, not a part of the state."""
    training = Training(config, CPU)
    train_epoch(training, batches(1))
    found = carried(training, tmp_path)
    for fused in (None, False, True):
        found["optimizer"]["param_groups"][0]["fused"] = fused
        other = Training(config, CPU)
        other.load_state_dict(copy.deepcopy(found))
        assert other.optimizer.param_groups[0]["fused"] is True
        train_epoch(other, batches(1, seed=1))


def test_state_of_a_gpu_can_be_read_on_a_cpu(config, tmp_path):
    training = Training(config, CPU)
    train_epoch(training, batches(1))
    found = carried(training, tmp_path)
    found["random"]["cuda"] = torch.zeros(16, dtype=torch.uint8)
    other = Training(config, CPU)
    other.load_state_dict(found)
    assert_equal(training.state_dict(), other.state_dict())


# --- float16 ------------------------------------------------------------------------------------------------


def set_scale(training: Training, scale: float) -> None:
    training.scaler.load_state_dict(training.scaler.state_dict() | {"scale": scale})


def test_scale_of_float16_is_kept(config, tmp_path):
    config = config.replace(precision="float16")
    training = Training(config, CPU)
    assert training.scaler.is_enabled() and training.scaler.get_scale() == 65536
    set_scale(training, 512.0)
    train_epoch(training, batches(3))
    found = carried(training, tmp_path)
    assert found["scaler"]["scale"] == 512 and found["scaler"]["_growth_tracker"] == 3
    other = Training(config, CPU)
    other.load_state_dict(found)
    assert other.scaler.get_scale() == 512
    assert_equal(other.scaler.state_dict(), found["scaler"])


def test_overflow_in_float16_skips_the_step_and_halves_the_scale(config):
    training = Training(config.replace(precision="float16"), CPU)
    set_scale(training, 2.0**40)
    before = copy.deepcopy(dict(training.model.named_parameters()))
    train_epoch(training, batches(1))
    assert_equal(before, dict(training.model.named_parameters()))
    assert training.scaler.get_scale() == 2.0**39
    set_scale(training, 64.0)
    train_epoch(training, batches(1))
    assert not torch.equal(before["final.weight"], training.model.final.weight)


def test_overflow_in_the_first_step_is_no_reason_to_warn(config):
    """It is how the scaler finds its scale; a warning would look like a mistake of the reader's."""
    training = Training(config.replace(precision="float16"), CPU)
    set_scale(training, 2.0**40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_epoch(training, batches(3))


@pytest.mark.parametrize(("before", "after"), [("float16", "float32"), ("float32", "float16"), ("float16", "bfloat16")])
def test_state_goes_on_in_another_precision(config, tmp_path, before, after):
    """With precision "auto" a run may move to a device that is fast at something else."""
    training = Training(config.replace(precision=before), CPU)
    train_epoch(training, batches(2))
    other = Training(config.replace(precision=after), CPU)
    other.load_state_dict(carried(training, tmp_path))
    assert_equal(dict(training.model.state_dict()), dict(other.model.state_dict()))
    assert other.scaler.is_enabled() == (after == "float16")
    train_epoch(other, batches(2, seed=1))
    assert bool(other.state_dict()["scaler"]) == (after == "float16")
    again = Training(config.replace(precision=before), CPU)
    again.load_state_dict(other.state_dict())
    assert not again.scaler.is_enabled() or again.scaler.get_scale() == 65536
    loss, _ = train_epoch(again, batches(1, seed=2))
    assert 0 < loss < 10


# --- compiled -----------------------------------------------------------------------------------------------


def test_compile_is_called_for_the_step_and_leaves_the_names_alone(config, monkeypatch):
    compiled = []

    class Compiled(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            compiled.append(model)
            self._orig_mod = model

        def forward(self, L):
            compiled.append("called")
            return self._orig_mod(L)

    monkeypatch.setattr(torch, "compile", Compiled)
    plain = Training(config, CPU)
    assert compiled == []
    training = Training(config.replace(compile=True), CPU)
    assert compiled == [training.model] and isinstance(training.network, Compiled)
    train_epoch(training, batches(2))
    assert compiled[1:] == ["called"] * 2
    assert list(training.model.state_dict()) == list(plain.model.state_dict()) == list(training.state_dict()["model"])
    assert isinstance(training.model, UNet)


def test_step_of_the_compiled_network_equals_that_of_the_plain_one(config, monkeypatch):
    """torch.compile traces the network for real; only the machine code, which needs a C++ compiler, is left out."""
    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: original(model, backend="eager"))
    config = config.replace(dropout=0.0)
    plain, traced = Training(config, CPU), Training(config.replace(compile=True), CPU)
    assert traced.network is not traced.model
    losses = [train_epoch(training, batches(2))[0] for training in (plain, traced)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(traced.model.state_dict()[name], value, atol=1e-6, rtol=1e-5)
    plain.load_state_dict(copy.deepcopy(traced.state_dict()))
    traced.load_state_dict(copy.deepcopy(plain.state_dict()))
    assert_equal(dict(plain.model.state_dict()), dict(traced.model.state_dict()))


# --- random numbers -----------------------------------------------------------------------------------------


def dropped(training: Training) -> torch.Tensor:
    """Which features the next dropout lets through."""
    return F.dropout(torch.ones(200), training.config.dropout)


def test_epoch_number_alone_decides_about_dropout(config):
    first, second = Training(config, CPU), Training(config, CPU)
    drawn = []
    for training in (first, second):
        torch.rand(training.step + len(drawn) + 3)
        training.history = [{"epoch": 1}, {"epoch": 2}]
        training.new_epoch()
        drawn.append(dropped(training))
    assert torch.equal(*drawn)
    first.history.append({"epoch": 3})
    first.new_epoch()
    assert not torch.equal(dropped(first), drawn[0])
    assert 50 < drawn[0].count_nonzero() < 150


def test_seed_decides_about_dropout(config):
    drawn = [dropped(Training(config.replace(seed=seed), CPU)) for seed in (3, 3, 4)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_new_epoch_counts_from_zero(config):
    training = Training(config, CPU)
    train_epoch(training, batches(3))
    assert (training.step, training.photos) == (3, 6) and training.loss_sum > 0
    training.new_epoch()
    assert (training.step, training.photos, training.loss_sum.item()) == (0, 0, 0)


def test_each_process_drops_other_features_but_orders_the_photos_alike(config, monkeypatch, tmp_path):
    drawn, orders = [], set()
    first = Training(config, CPU)
    train_epoch(first, batches(2))
    found = carried(first, tmp_path)
    for number in range(3):
        monkeypatch.setattr(state, "rank", lambda number=number: number)
        training = Training(config, CPU)
        drawn.append(dropped(training))
        orders.add(training.epoch_seed)
        training.load_state_dict(copy.deepcopy(found))
        drawn.append(dropped(training))
        assert training.step == 2, "all begin at the same batch"
        assert training.photos == (4 if number == 0 else 0), "the sums count once"
        assert training.loss_sum.item() == (pytest.approx(found["loss_sum"]) if number == 0 else 0)
    assert len({tuple(one.tolist()) for one in drawn}) == 6 and len(orders) == 1

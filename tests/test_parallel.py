"""Two processes train like one; one process does not notice that there could be more."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.distributed as dist

from colorlib import parallel, train
from colorlib.checkpoint import load_checkpoint, load_model
from colorlib.config import Config
from colorlib.data import ColorizationDataset, get_dataloader, split_paths
from colorlib.environment import pick_device
from colorlib.model import UNet
from colorlib.parallel import first_process_first, process_group, processes, rank, sum_over_processes
from colorlib.state import Training
from colorlib.train import fit, validate_epoch

CPU = torch.device("cpu")
ROOT = Path(parallel.__file__).parent.parent
SETTINGS = {
    "width": 4, "depth": 4, "dropout": 0.0, "image_size": 16, "photo_size": 16, "val_fraction": 0.3,
    "test_fraction": 0.0, "batch_size": 4, "learning_rate": 2e-3, "precision": "float32", "num_workers": 0,
    "samples": 2, "seed": 3, "min_crop": 1.0, "flip": False, "crops_per_photo": 2,
}  # fmt: skip
PLAIN = Config(**SETTINGS, epochs=2)  # of ten photos: 14 items in batches of 4, 4, 4, 2, and 3 to validate


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(train, "pick_device", lambda name: pick_device(name or "cpu"))


# --- alone --------------------------------------------------------------------------------------------------


def test_alone_nothing_happens(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: pytest.fail("nobody to meet"))
    with process_group():
        assert (rank(), processes()) == (0, 1)
        assert not dist.is_initialized()
        with first_process_first():
            assert sum_over_processes(1, 2.5, torch.tensor(3.0), device=CPU) == [1, 2.5, 3]
    network = Training(PLAIN, CPU).network
    assert isinstance(network, UNet), "not wrapped"


def test_error_ends_a_block_for_one_process_as_usual():
    with pytest.raises(OSError, match="no disk"), process_group(), first_process_first():
        raise OSError("no disk")


class FakeCuda:
    """A computer with this many GPUs, for a process that is number `here` on it."""

    def __init__(self, monkeypatch, gpus: int, here: int):
        self.chosen, self.backends = [], []
        for name, value in {"WORLD_SIZE": 4, "RANK": here, "LOCAL_RANK": here}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "set_device", self.chosen.append)
        monkeypatch.setattr(dist, "init_process_group", lambda backend, **_: self.backends.append(backend))
        monkeypatch.setattr(dist, "destroy_process_group", lambda: self.backends.append("left"))


def test_fewer_gpus_than_processes(monkeypatch):
    fake = FakeCuda(monkeypatch, gpus=2, here=2)
    with pytest.raises(ValueError, match=r"more processes than GPUs: start torchrun with --nproc_per_node=2"):
        process_group().__enter__()
    assert fake.backends == [], "the others are not kept waiting"


def test_each_process_takes_a_gpu_of_its_own_or_the_cpu(monkeypatch):
    for gpus, device, backend, chosen in [
        (4, None, "nccl", [3]), (4, "cuda", "nccl", [3]), (4, "cpu", "gloo", []), (0, None, "gloo", []),
    ]:  # fmt: skip
        fake = FakeCuda(monkeypatch, gpus, here=3)
        with process_group(device):
            assert fake.backends == [backend] and fake.chosen == chosen
        assert fake.backends == [backend, "left"]


def test_after_an_error_nobody_is_waited_for(monkeypatch):
    """Leaving the group waits for the others, who wait for this process: it has to end, so that torchrun ends them."""
    fake = FakeCuda(monkeypatch, gpus=0, here=0)
    with pytest.raises(FloatingPointError), process_group():
        raise FloatingPointError
    assert fake.backends == ["gloo"]


def test_too_many_processes_are_explained_without_a_traceback(monkeypatch, capsys):
    FakeCuda(monkeypatch, gpus=1, here=1)
    assert train.main(["--run", "none"]) == 2
    assert capsys.readouterr().err == "error: more processes than GPUs: start torchrun with --nproc_per_node=1\n"


def test_batch_that_cannot_be_shared_evenly(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(train, "processes", lambda: 2)
    with pytest.raises(ValueError, match="batch_size 5 cannot be shared evenly by 2 processes"):
        fit(PLAIN.replace(batch_size=5), photos, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [0, 1])
def test_only_the_first_process_writes_and_talks(tmp_path, photos, monkeypatch, capsys, number):
    """The others compute the same and keep still."""
    monkeypatch.setattr(train, "rank", lambda: number)
    calls = []
    fit(PLAIN, photos, tmp_path / "run", on_epoch=None if number == 0 else lambda *_: calls.append(1))
    assert (tmp_path / "run").exists() == bool(capsys.readouterr().out) == (number == 0)
    assert calls == []


# --- two processes that meet through torchrun ---------------------------------------------------------------


def torchrun(*arguments: str, folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", *arguments]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg",
        "COLORLIB_OUTPUTS": str(folder / "outputs"), "COLORLIB_CACHE": str(folder / "cache"),
    }  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def halves(batch: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    return [{name: planes[k::2] for name, planes in batch.items()} for k in (0, 1)]


def step_by_hand(model: UNet, parts: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    """The mean loss and gradient over parts of a batch that do not see each other, in a single process.

    Each part has batch statistics of its own; those that are kept for validation are the first part's.
    """
    model.train()
    model.zero_grad()
    loss, kept = torch.zeros(()), []
    for part in parts:
        share = (model(part["L"]) - part["ab"]).abs().mean() / len(parts)
        share.backward()
        loss += share.detach()
        kept = kept or [buffer.clone() for buffer in model.buffers()]
    for buffer, value in zip(model.buffers(), kept, strict=True):
        buffer.copy_(value)
    return loss


def batch_of(count: int, seed: int) -> dict[str, torch.Tensor]:
    planes = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) - 0.5
    return {"L": planes[:, :1], "ab": planes[:, 1:]}


SCRIPT = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
from test_parallel import CPU, PLAIN, batch_of, halves, stopped_after
from colorlib.parallel import first_process_first, process_group, processes, rank, sum_over_processes
from colorlib.state import Training
from colorlib.train import fit, train_epoch, validate_epoch
torch.set_num_threads(1)
folder, photos = Path(sys.argv[1]), sorted(Path(sys.argv[3]).iterdir())
with process_group("cpu"):
    k = rank()
    found = {"rank": k, "processes": processes(), "sum": sum_over_processes(k + 1, torch.tensor(0.5), device=CPU)}

    if k == 1:
        time.sleep(0.2)  # the second process comes late to the first block and early to the next one
    for number in range(2):
        with first_process_first():
            began = time.monotonic()
            found[f"saw {number}"] = (folder / f"left {number}").exists()
            if k == 0:
                time.sleep(0.2)
                (folder / f"left {number}").touch()
            found[f"time {number}"] = [began, time.monotonic()]

    training = Training(PLAIN, CPU)
    found["seed"] = torch.initial_seed()
    batches = [batch_of(4, seed=1), batch_of(2, seed=2)]
    found["loss"], speed = train_epoch(training, [halves(batch)[k] for batch in batches])
    torch.save({name: p.grad for name, p in training.model.named_parameters()}, folder / f"gradients {k}.pt")
    torch.save(training.model.state_dict(), folder / f"weights {k}.pt")
    found["state"] = {name: training.state_dict()[name] for name in ("loss_sum", "photos", "step")}
    val = [halves(batch_of(4, seed=3))[k]] + ([batch_of(1, seed=4)] if k == 0 else [])  # more batches for the first
    found["val"] = validate_epoch(training, val)

    training = Training(PLAIN.replace(ema=0.75), CPU)
    train_epoch(training, [halves(batch)[k] for batch in batches])
    found["val of the average"] = validate_epoch(training, val)
    torch.save(training.result.state_dict(), folder / f"average {k}.pt")

    stopped_after(2, lambda: fit(PLAIN.replace(checkpoint_every=1), photos, folder / "begun by two", device="cpu"))
    fit(PLAIN, photos, folder / "begun by one", device="cpu")
    (folder / f"found {k}.json").write_text(json.dumps(found))
"""


def stopped_after(count: int, call) -> None:
    """Let a run be stopped by Ctrl-C right after it has written last.pt so many times."""
    original, calls = train._save, []

    def stopping(*arguments):
        original(*arguments)
        calls.append(1)
        if len(calls) == count:
            raise KeyboardInterrupt

    train._save = stopping
    try:
        with pytest.raises(KeyboardInterrupt):
            call()
    finally:
        train._save = original


@pytest.fixture(scope="module")
def meeting(tmp_path_factory, photo_folder, photos):
    """What two processes have left: their folder, and the printed text."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLORLIB_CACHE", str(folder / "cache"))
        stopped_after(2, lambda: fit(PLAIN.replace(checkpoint_every=1), photos, folder / "begun by one", device="cpu"))
    (folder / "script.py").write_text(SCRIPT)
    arguments = [str(folder / "script.py"), str(folder), str(Path(__file__).parent), str(photo_folder)]
    return folder, torchrun(*arguments, folder=folder)


@pytest.fixture
def found(meeting):
    return [json.loads((meeting[0] / f"found {k}.json").read_text()) for k in (0, 1)]


def test_processes_know_their_number_and_add_up(found):
    assert [(one["rank"], one["processes"]) for one in found] == [(0, 2), (1, 2)]
    assert all(one["sum"] == [3, 1] for one in found)


def test_first_process_goes_first(found):
    for number in (0, 1):
        (_, left), (entered, _) = (one[f"time {number}"] for one in found)
        assert left <= entered
        assert [one[f"saw {number}"] for one in found] == [False, True]


def test_step_of_two_equals_the_mean_of_two_halves(meeting, found):
    """Gradients and weights of both processes, after two steps."""
    model = Training(PLAIN, CPU).model
    optimizer = torch.optim.Adam(model.parameters(), PLAIN.learning_rate)
    total = 0.0
    for batch in (batch_of(4, seed=1), batch_of(2, seed=2)):
        total += step_by_hand(model, halves(batch)).item() * len(batch["L"])
        optimizer.step()
    for k in (0, 1):
        gradients, weights = (torch.load(meeting[0] / f"{name} {k}.pt") for name in ("gradients", "weights"))
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-6, rtol=1e-4)
            torch.testing.assert_close(weights[name], parameter.detach(), atol=1e-6, rtol=0)
        assert found[k]["loss"] == pytest.approx(total / 6, rel=1e-5)
        assert found[k]["state"] == {"loss_sum": pytest.approx(total, rel=1e-5), "photos": 6, "step": 2}
    assert found[0]["seed"] != found[1]["seed"], "each drops features of its own"


def test_both_validate_the_network_that_is_saved(meeting, found):
    """With the first process's batch statistics, also where one process has fewer batches."""
    training = Training(PLAIN, CPU)
    training.model.load_state_dict(torch.load(meeting[0] / "weights 0.pt"))
    expected = validate_epoch(training, [batch_of(4, seed=3), batch_of(1, seed=4)])
    for k in (0, 1):
        assert found[k]["val"] == pytest.approx(expected, rel=1e-5)


def test_both_validate_the_running_average_that_is_saved(meeting, found):
    """Of the weights that they share, and of the first process's batch statistics."""
    model = Training(PLAIN, CPU).model
    optimizer = torch.optim.Adam(model.parameters(), PLAIN.learning_rate)
    states = []
    for batch in (batch_of(4, seed=1), batch_of(2, seed=2)):
        step_by_hand(model, halves(batch))
        optimizer.step()
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    averages = [torch.load(meeting[0] / f"average {k}.pt") for k in (0, 1)]
    for name, value in states[1].items():
        assert torch.equal(averages[0][name], averages[1][name]), name
        if value.is_floating_point():
            wanted = 0.75 * states[0][name] + 0.25 * value
            torch.testing.assert_close(averages[0][name], wanted, atol=1e-6, rtol=1e-4)
    training = Training(PLAIN, CPU)
    training.model.load_state_dict(averages[0])
    expected = validate_epoch(training, [batch_of(4, seed=3), batch_of(1, seed=4)])
    for one in found:
        assert one["val of the average"] == pytest.approx(expected, rel=1e-5) != one["val"]


def epochs_by_hand(config: Config, photos: list[Path], alone: set[tuple[int, int]] = frozenset()) -> list[float]:
    """The training losses of a run by two processes, in one; `alone`: (epoch, step) that one process took by itself."""
    split = split_paths(photos, config.val_fraction, config.test_fraction, config.seed)
    dataset = ColorizationDataset(split["train"], config, augment=True)
    training = Training(config, CPU)
    optimizer = torch.optim.Adam(training.model.parameters(), config.learning_rate)
    losses = []
    for epoch in range(config.epochs):
        dataset.set_epoch(epoch)
        total = 0.0
        for step, batch in enumerate(get_dataloader(dataset, config.batch_size, True, training.epoch_seed)):
            parts = [batch] if (epoch, step) in alone else halves(batch)
            total += step_by_hand(training.model, parts).item() * len(batch["L"])
            optimizer.step()
        losses.append(total / len(dataset))
        training.history.append({})
    return losses


def test_run_begun_by_one_process_is_continued_by_two(meeting, photos):
    """From the middle of the first epoch: two steps alone, and from then on in halves."""
    history = load_checkpoint(meeting[0] / "begun by one" / "last.pt")["history"]
    assert [row["epoch"] for row in history] == [1, 2]
    expected = epochs_by_hand(PLAIN, photos, alone={(0, 0), (0, 1)})
    assert [row["train_loss"] for row in history] == pytest.approx(expected, rel=1e-4)
    assert meeting[1].stdout.count("continuing begun by one after epoch 0 of 2, step 2\n") == 1


def test_run_begun_by_two_processes_is_continued_by_one(meeting, photos):
    run = meeting[0] / "begun by two"
    state = load_checkpoint(run / "last.pt")
    assert (state["epoch"], state["step"], state["photos"]) == (0, 2, 8)
    history = fit(PLAIN, photos, run)
    alone = {(epoch, step) for epoch in range(2) for step in range(4)} - {(0, 0), (0, 1)}
    assert history["train_loss"].tolist() == pytest.approx(epochs_by_hand(PLAIN, photos, alone), rel=1e-4)


def test_nothing_is_said_on_the_error_channel(meeting):
    assert meeting[1].stderr == ""


# --- the command line ---------------------------------------------------------------------------------------


def test_command_line_of_two_processes(tmp_path, photo_folder, photos):
    """One set of files, one set of lines; then one process goes on."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items() if name != "flip"]
    command = ["-m", "colorlib.train", "--preset", "tiny", "--epochs", "2", "--no-flip", *options]
    command += ["--data", str(photo_folder), "--run-name", "two", "--device", "cpu"]
    done = torchrun(*command, folder=tmp_path)
    run = tmp_path / "outputs" / "two"
    assert done.stderr == ""
    for line in ("epoch   1/2  train", "epoch   2/2  train", f"done: {run}\n"):
        assert done.stdout.count(line) == 1, done.stdout
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert files == {
        "config.json", "environment.json", "split.json", "history.csv", "last.pt", "best.safetensors",
        "samples/epoch_000.png", "samples/epoch_001.png",
    }  # fmt: skip
    history = pd.read_csv(run / "history.csv")
    assert history["epoch"].tolist() == [1, 2]
    assert history["train_loss"].tolist() == pytest.approx(epochs_by_hand(PLAIN, photos), rel=1e-4)

    training = Training(PLAIN, CPU)
    training.load_state_dict(load_checkpoint(run / "last.pt"))
    val = split_paths(photos, PLAIN.val_fraction, PLAIN.test_fraction, PLAIN.seed)["val"]
    loss, gray_loss = validate_epoch(training, get_dataloader(ColorizationDataset(val, PLAIN), 4))
    assert (loss, gray_loss) == pytest.approx(tuple(history.iloc[-1][["val_loss", "gray_loss"]]), rel=1e-5)

    assert len(fit(PLAIN.replace(epochs=3), photos, run)) == 3
    assert load_model(run)[1].width == 4

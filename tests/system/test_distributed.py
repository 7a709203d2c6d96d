"""Two processes train like one; all other tests of training show that one needs no group."""

import json

import pytest
import torch
import torch.distributed as dist
from conftest import torchrun

from colorlib.config import Config
from colorlib.data import ColorizationDataset, get_dataloader, split_paths
from colorlib.system import process_group
from colorlib.train import TrainState, fit, main, validate_epoch

CPU = torch.device("cpu")
# of ten photos: an epoch has 14 items, in batches of 4, 4, 4 and 2; 3 photos validate
SETTINGS = Config(
    width=4, depth=4, dropout=0.0, image_size=16, photo_size=16, val_fraction=0.3, test_fraction=0.0, batch_size=4,
    learning_rate=2e-3, precision="float32", num_workers=0, samples=2, seed=3, crops_per_photo=2, ema=0.75, palette=3,
)  # fmt: skip
SCRIPT = """
import json, sys, time
from pathlib import Path
import torch
from colorlib.config import Config
from colorlib.system import all_reduce_sum, broadcast_from_main, main_process_first, process_group, rank, world_size
from colorlib.train import fit
torch.set_num_threads(1)
folder, photos, config = Path(sys.argv[1]), sorted(Path(sys.argv[2]).iterdir()), Config.from_json(sys.argv[3])
with process_group("cpu"):
    k, tensor = rank(), torch.tensor([1.0 + rank()])
    broadcast_from_main([tensor])
    found = [k, world_size(), all_reduce_sum(k + 1, torch.tensor(0.5), device=torch.device("cpu")), tensor.item()]
    for late in (1, 0):
        time.sleep(0.3 if k == late else 0)
        with main_process_first():
            found.append((folder / f"left {late}").exists())
            time.sleep(0.3)
            (folder / f"left {late}").touch()
    (folder / f"found {k}.json").write_text(json.dumps(found))
    fit(config, photos, folder / "run", device="cpu")
"""


@pytest.mark.parametrize(
    ("gpus", "device", "backend", "chosen"),
    [(4, None, "nccl", [3]), (4, "cuda", "nccl", [3]), (4, "cpu", "gloo", []), (0, None, "gloo", [])],
)
def test_each_process_takes_a_gpu_of_its_own_or_the_cpu(monkeypatch, capsys, gpus, device, backend, chosen):
    backends, devices = [], []
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **_: backends.append(backend))
    with process_group(device):
        assert (backends, devices) == ([backend], chosen)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    if backend == "nccl":
        assert main(["--run", "none"]) == 2 and len(backends) == 1, "the others are not kept waiting"
        assert capsys.readouterr().err == "error: more processes than GPUs: start torchrun with --nproc_per_node=2\n"


def train_by_hand(state: TrainState, L: torch.Tensor, ab: torch.Tensor, shares: int) -> float:
    """One step on a batch whose shares do not see each other; the batch statistics that stay are the first share's."""
    model, kept, total = state.train_model.train(), [], 0.0
    state.optimizer.zero_grad()
    for k in range(shares):
        predicted, palette = model.forward_with_palette(L[k::shares])
        (state.loss(L[k::shares], predicted, ab[k::shares], palette) / shares).backward()
        total += (predicted - ab[k::shares]).abs().mean().item() / shares
        kept = kept or [buffer.clone() for buffer in model.buffers()]
    for buffer, value in zip(model.buffers(), kept, strict=True):
        buffer.copy_(value)
    state.optimizer.step()
    state.ema_model.update_parameters(model)
    return total * len(L)


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", [0.0, 0.05])
def test_two_processes_train_as_one_does_and_go_on_where_it_stopped(tmp_path, photo_folder, photos, likelihood):
    """With a palette; without its likelihood, some of its weights get no gradient."""
    run, config = tmp_path / "run", SETTINGS.replace(palette_likelihood=likelihood)
    fit(config.replace(epochs=1), photos, run, device="cpu")
    (tmp_path / "script.py").write_text(SCRIPT)
    arguments = str(tmp_path), str(photo_folder), config.replace(epochs=2).to_json()
    printed = torchrun("script.py", *arguments, folder=tmp_path)
    found = [json.loads((tmp_path / f"found {k}.json").read_text()) for k in (0, 1)]
    assert found == [[0, 2, [3, 1], 1, False, False], [1, 2, [3, 1], 1, True, True]]
    for line in ("continuing run after epoch 1 of 2", "epoch   2/2"):
        assert printed.count(line) == 1, "only the main process talks"
    history = fit(config.replace(epochs=3), photos, run, device="cpu")

    split = split_paths(photos, config.val_fraction, config.test_fraction, config.seed)
    train, val = ColorizationDataset(split["train"], config, augment=True), ColorizationDataset(split["val"], config)
    torch.manual_seed(config.seed)
    state = TrainState(config, CPU, total_steps=12)
    for epoch, shares in enumerate((1, 2, 1)):
        train.set_epoch(epoch)
        loader = get_dataloader(train, config.batch_size, True, state.epoch_seed)
        loss = sum(train_by_hand(state, batch["L"], batch["ab"], shares) for batch in loader) / len(train)
        losses = loss, *validate_epoch(state, get_dataloader(val, config.batch_size))
        assert tuple(history.loc[epoch, ["train_loss", "val_loss", "gray_loss"]]) == pytest.approx(losses, rel=1e-4)
        state.history.append({})

"""Weights and run state: whole, bit for bit, and never executed; runs are found where they lie."""

import copy
import json
import os
import pickle
from pathlib import Path

import pytest
import safetensors
import torch
from conftest import assert_same

from colorlib import checkpoint
from colorlib.checkpoint import BEST, LAST, CheckpointError, find_run, load_checkpoint, load_model, load_state
from colorlib.model import UNet
from colorlib.train import TrainState


@pytest.fixture
def begun(tmp_path, config):
    """A run that has a state: (its folder, its settings, its split, the state)."""
    run, split = tmp_path / "run", {"train": [tmp_path / "a.png", tmp_path / "b.png"], "val": [tmp_path / "c.png"]}
    state = TrainState(config, torch.device("cpu"), total_steps=4)
    checkpoint.RunRecorder(run, state, split, ())
    state.take_step(torch.rand(2, 1, 16, 16), torch.rand(2, 2, 16, 16))
    state.history.append({"epoch": 1, "val_loss": 0.1 + 0.2})  # 0.30000000000000004
    checkpoint.save_checkpoint(run / LAST, state.state_dict())
    return run, config, split, state.state_dict()


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
@pytest.mark.parametrize("load", [load_checkpoint, load_model])
def test_nothing_in_a_file_is_executed(tmp_path, write, load):
    write({"model": Malicious(tmp_path / "trap")}, tmp_path / LAST)
    with pytest.raises(CheckpointError):
        load(tmp_path / LAST)
    assert not (tmp_path / "trap").exists()


def test_files_that_are_no_state(begun):
    run, config, split, state = begun
    others = [{name: state[name] for name in state if name != missing} for missing in state]
    for other in [*others, 5, [1, 2]]:  # such as one of an older version
        torch.save(other, run / LAST)
        with pytest.raises(CheckpointError, match=r"^last\.pt of run run is not the state .*: delete it to start anew"):
            load_state(run, config, split)
    checkpoint.save_checkpoint(run / LAST, state)
    whole = (run / LAST).read_bytes()
    for content in (b"", b"dear diary", whole[: len(whole) // 3], whole[:-100], b"PK\x03\x04" + bytes(100)):
        (run / LAST).write_bytes(content)
        with pytest.raises(CheckpointError, match=r"^last\.pt is damaged.*delete it to start anew"):
            load_checkpoint(run / LAST)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(run / "none.pt")


def test_a_run_goes_on_with_its_photos_wherever_they_lie_and_with_the_settings_of_an_older_version(begun, tmp_path):
    run, config, split, _ = begun
    moved = {part: [tmp_path / "elsewhere" / path.name for path in paths] for part, paths in split.items()}
    assert load_state(run, config, moved) is not None
    for other in ({"train": split["train"]}, {"train": split["val"], "val": split["train"]}):
        with pytest.raises(ValueError, match="begun with other photos: give the new run another name"):
            load_state(run, config, other)
    settings = json.loads((run / "config.json").read_text())
    for name in ("schedule", "palette", "ema", "vividness"):  # an older version did not know them
        del settings[name]
    (run / "config.json").write_text(json.dumps(settings))
    assert load_state(run, config, split) is not None


@pytest.mark.parametrize("palette, residual, half", [(0, 0, False), (5, 2, False), (3, 0, True), (0, 1, True)])
def test_weights_round_trip(tmp_path, config, palette, residual, half):
    config = config.replace(palette=palette, residual_blocks=residual, palette_likelihood=0.1 if palette else 0.0)
    model = UNet(**config.network).to(memory_format=torch.channels_last)
    model(torch.rand(4, 1, 32, 32))
    saved = copy.deepcopy(model).half() if half else model
    checkpoint.save_model(tmp_path / BEST, saved, config, epoch=3)
    assert model.training, "saving changes nothing"
    for run in (tmp_path, tmp_path / BEST):
        loaded, settings = load_model(run)
        assert settings == config and not any(module.training for module in loaded.modules())
        assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
        assert_same(loaded.state_dict(), saved.float().state_dict())
    L = torch.rand(1, 1, 20, 30)
    with torch.no_grad():
        torch.testing.assert_close(loaded(L), model.eval()(L), atol=0.01 if half else 1e-6, rtol=1e-5)
    with safetensors.safe_open(tmp_path / BEST, framework="pt") as file:
        assert json.loads(file.metadata()["notes"]) == {"epoch": 3}


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The three places that runs lie in, all of them empty: outputs, Kaggle's input, the repository."""
    places = tmp_path / "working" / "outputs", tmp_path / "input", tmp_path / "repository" / "outputs"
    monkeypatch.setenv("COLORLIB_OUTPUTS", str(places[0]))
    monkeypatch.setenv("COLORLIB_KAGGLE_INPUT", str(places[1]))
    monkeypatch.setattr("colorlib.checkpoint.repository_dir", lambda: places[2].parent)
    return places


def make_run(folder: Path, age: float = 0) -> Path:
    """A folder that looks like a trained run, `age` seconds old."""
    folder.mkdir(parents=True)
    (folder / BEST).write_bytes(b"")
    os.utime(folder / BEST, (1e9 - age, 1e9 - age))
    return folder


def test_runs_are_the_release_and_then_the_newest(places, tmp_path):
    release = make_run(places[2] / "release", age=1000)
    old, new = make_run(places[0] / "old", age=50), make_run(places[0] / "new")
    (places[0] / "half").mkdir()  # without weights
    make_run(places[0] / "old" / "release")  # too deep to be a run
    assert list(checkpoint.find_runs().items()) == [("release", release), ("new", new), ("old", old)]
    assert find_run() == find_run("") == find_run("release") == release and find_run("old") == old
    elsewhere = make_run(tmp_path / "elsewhere" / "mine")
    assert find_run(elsewhere) == find_run(str(elsewhere)) == elsewhere


@pytest.mark.parametrize("depth", ["run", "set/run", "set/outputs/run", "datasets/someone/set/run"])
def test_outputs_come_before_kaggles_inputs_and_those_before_the_repository(places, depth):
    for run in (places[2] / "run", places[1] / depth, places[0] / "run"):
        make_run(run)
        assert find_run("run") == find_run() == run


def test_no_such_run_and_no_name_for_one(places):
    with pytest.raises(FileNotFoundError, match=r"no trained run in .*notebook 03") as caught:
        find_run()
    assert all(str(place) in str(caught.value) for place in places)
    with pytest.raises(FileNotFoundError, match="no run 'mine' in "):
        find_run("mine")
    assert checkpoint.run_folder("mine") == places[0] / "mine" and checkpoint.run_folder("./a/mine") == Path("a/mine")
    for name in ("", "..", "a/.."):
        with pytest.raises(ValueError, match="a run needs a name of its own"):
            checkpoint.run_folder(name)

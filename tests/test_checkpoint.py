"""Weights and run state: whole, bit for bit, and never executed."""

import copy
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from colorlib.checkpoint import (
    BEST,
    MAY_CHANGE,
    CheckpointError,
    describe_run,
    find_run,
    load_checkpoint,
    load_model,
    load_state,
    save_checkpoint,
    save_model,
)
from colorlib.model import UNet
from colorlib.state import Training


@pytest.fixture
def model(config):
    model = UNet(config.width, config.depth, config.dropout)
    model(torch.rand(4, 1, 32, 32))  # so that the batch norms' buffers are not the initial ones
    return model


def state_of(model) -> dict:
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    model(torch.rand(2, 1, 16, 16)).abs().mean().backward()
    optimizer.step()
    history = [{"epoch": 1, "val_loss": 0.1 + 0.2}]  # 0.30000000000000004
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}


def assert_same(a, b) -> None:
    assert type(a) is type(b) or {type(a), type(b)} <= {dict, type(UNet(4, 4).state_dict())}
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        assert a == b


# --- the state of a run -------------------------------------------------------------------------------------


def test_state_round_trip_bit_for_bit(tmp_path, model):
    state = state_of(model)
    save_checkpoint(tmp_path / "run" / "last.pt", state)
    assert_same(load_checkpoint(tmp_path / "run" / "last.pt"), state)
    assert os.listdir(tmp_path / "run") == ["last.pt"]


def test_failed_write_leaves_the_old_state(tmp_path, model, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})

    def disk_full(state, file):
        Path(file).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path) == {"epoch": 1}
    assert os.listdir(tmp_path) == ["last.pt"]


def test_failed_write_leaves_the_old_weights(tmp_path, model, config, monkeypatch):
    save_model(tmp_path / BEST, model, config)
    before = (tmp_path / BEST).read_bytes()

    def disk_full(weights, file, **_):
        Path(file).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save_model(tmp_path / BEST, model, config)
    assert (tmp_path / BEST).read_bytes() == before
    assert os.listdir(tmp_path) == [BEST]


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_truncated_state(tmp_path, model, keep):
    path = tmp_path / "last.pt"
    save_checkpoint(path, state_of(model))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(CheckpointError, match=r"^last\.pt is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"dear diary", b"\0" * 1000, b"PK\x03\x04" + b"\0" * 100])
def test_foreign_state(tmp_path, content):
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"^last\.pt .*delete it"):
        load_checkpoint(tmp_path / "last.pt")


def test_foreign_zip_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "last.pt", "w") as file:
        file.writestr("a.txt", "not a checkpoint")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "last.pt")


def test_missing_state(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "last.pt")


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [torch.save, lambda obj, path: path.write_bytes(pickle.dumps(obj))])
def test_nothing_in_a_file_is_executed(tmp_path, write):
    write({"model": Malicious(tmp_path / "trap")}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "last.pt")
    assert not (tmp_path / "trap").exists()
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "last.pt")
    assert not (tmp_path / "trap").exists()


# --- a run that goes on -------------------------------------------------------------------------------------


@pytest.fixture
def begun(tmp_path, config):
    """A run that has a state: (its folder, its settings, its split, the state)."""
    run, split = tmp_path / "run", {"train": [tmp_path / "a.png", tmp_path / "b.png"], "val": [tmp_path / "c.png"]}
    describe_run(run, config, split)
    training = Training(config, torch.device("cpu"))
    save_checkpoint(run / "last.pt", training.state_dict())
    return run, config, split, training.state_dict()


def test_new_run_has_no_state(tmp_path, config):
    assert load_state(tmp_path / "run", config, {"train": [tmp_path / "a.png"]}) is None
    describe_run(tmp_path / "run", config, {"train": [tmp_path / "a.png"]})
    assert load_state(tmp_path / "run", config, {"train": [tmp_path / "b.png"]}) is None, "nothing was trained yet"


def test_state_of_a_run(begun):
    run, config, split, state = begun
    assert_same(load_state(run, config, split), state)


def test_state_without_all_its_parts_says_what_to_do(begun):
    """Such as one of an older version, or of something else."""
    run, config, split, state = begun
    others = [{name: state[name] for name in state if name != missing} for missing in state]
    assert len(others) == 11
    for other in [*others, {}, 5, torch.zeros(3), [1, 2]]:
        torch.save(other, run / "last.pt")
        with pytest.raises(CheckpointError, match=r"^last\.pt of run run is not the state .*: delete it to start anew"):
            load_state(run, config, split)
    (run / "last.pt").write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"^last\.pt is damaged.*delete it to start anew"):
        load_state(run, config, split)


def test_settings_of_a_run_stay_but_for_those_that_decide_nothing(begun):
    run, config, split, _ = begun
    values = {
        "epochs": 99, "compile": True, "num_workers": 5, "checkpoint_every": 7, "keep_every": 3, "samples": 9,
        "test_flips": True,
    }  # fmt: skip
    assert values.keys() == MAY_CHANGE
    assert load_state(run, config.replace(**values), split) is not None
    with pytest.raises(ValueError, match=r"run run was begun otherwise \(depth was 4, is 5; schedule was constant, is"):
        load_state(run, config.replace(depth=5, schedule="cosine", **values), split)


def test_photos_of_a_run_stay_in_their_parts_but_may_move(begun, tmp_path):
    run, config, split, _ = begun
    moved = {part: [tmp_path / "elsewhere" / path.name for path in paths] for part, paths in split.items()}
    assert load_state(run, config, moved) is not None
    for other in ({"train": split["train"]}, {"train": split["val"], "val": split["train"]}):
        with pytest.raises(ValueError, match="begun with other photos: give the new run another name"):
            load_state(run, config, other)


def test_settings_that_an_older_version_did_not_know_have_their_defaults(begun):
    run, config, split, _ = begun
    settings = json.loads((run / "config.json").read_text())
    for name in ("schedule", "compile", "palette", "loss", "weight_decay", "ema", "test_flips"):
        del settings[name]
    (run / "config.json").write_text(json.dumps(settings))
    assert load_state(run, config, split) is not None


# --- weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_weights_round_trip_bit_for_bit(tmp_path, model, config, memory):
    model.to(memory_format=memory)
    save_model(tmp_path / BEST, model, config, epoch=3)
    loaded, settings = load_model(tmp_path)
    assert settings == config
    assert_same(loaded.state_dict(), model.state_dict())
    L = torch.rand(1, 1, 20, 30)
    torch.testing.assert_close(loaded(L), model.eval()(L), atol=1e-6, rtol=1e-5)


def test_loaded_model_is_ready_for_use(tmp_path, model, config):
    assert model.training
    save_model(tmp_path / BEST, model, config)
    assert model.training, "saving changes nothing"
    loaded, _ = load_model(tmp_path / BEST, device="cpu")
    assert not any(module.training for module in loaded.modules())
    assert next(loaded.parameters()).dtype == torch.float32
    L = torch.rand(2, 1, 16, 16)
    assert torch.equal(loaded(L), loaded(L)), "no dropout"


@pytest.mark.parametrize(("palette", "residual"), [(5, 2), (3, 0), (0, 1)])
def test_network_with_a_palette_and_residual_blocks_round_trip(tmp_path, config, palette, residual):
    config = config.replace(palette=palette, residual=residual, loss="huber", ema=0.9, test_flips=True)
    model = UNet(*config.network)
    with torch.no_grad():
        for parameter in model.parameters():  # none stays at its start, at which residual blocks do nothing
            parameter.add_(0.1 * torch.randn_like(parameter))
    model(torch.rand(4, 1, 32, 32))
    save_model(tmp_path / BEST, model, config)
    loaded, settings = load_model(tmp_path)
    assert settings == config
    assert_same(loaded.state_dict(), model.state_dict())
    L = torch.rand(2, 1, 20, 30)
    with torch.no_grad():
        (ab, colors), (expected, wanted) = loaded.paint(L), model.eval().paint(L)
    torch.testing.assert_close(ab, expected, atol=1e-6, rtol=1e-5)
    assert (colors is None) == (palette == 0)
    if palette:
        assert colors.colors.shape == (2, palette, 2)
        torch.testing.assert_close(colors, wanted, atol=1e-6, rtol=1e-5)
    save_model(tmp_path / BEST, model, config.replace(palette=palette + 2))
    with pytest.raises(CheckpointError, match="do not fit their settings"):
        load_model(tmp_path)


def test_weights_in_half_precision_load_in_float32(tmp_path, config):
    """A file of half the size; the weights are those of half precision."""
    config = config.replace(palette=4, residual=1)
    model = UNet(*config.network)
    model(torch.rand(4, 1, 32, 32))
    half = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    save_model(tmp_path / BEST, copy.deepcopy(model).half(), config)
    with safetensors.safe_open(tmp_path / BEST, framework="pt") as file:
        assert file.get_tensor("final.weight").dtype == torch.float16
    loaded, _ = load_model(tmp_path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert_same(loaded.state_dict(), {n: v.float() if v.is_floating_point() else v for n, v in half.items()})
    L = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        assert loaded(L).dtype == torch.float32
        torch.testing.assert_close(loaded(L), model.eval()(L), atol=0.01, rtol=0)


def test_settings_decide_the_networks_shape(tmp_path, config):
    other = config.replace(width=6, depth=5)
    save_model(tmp_path / BEST, UNet(6, 5), other)
    loaded, settings = load_model(tmp_path)
    assert settings == other and loaded.depth == 5 and loaded.final.in_channels == 12


def test_settings_and_notes_lie_in_the_files_metadata(tmp_path, model, config):
    save_model(tmp_path / "a.safetensors", model, config, epoch=3, val_loss=0.25)
    with safetensors.safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["config"])["width"] == config.width
        assert json.loads(file.metadata()["notes"]) == {"epoch": 3, "val_loss": 0.25}


def test_no_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no trained weights at .*best\.safetensors.*notebook 03"):
        load_model(tmp_path)
    with pytest.raises(FileNotFoundError, match="no trained weights"):
        load_model(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.99])
def test_truncated_weights(tmp_path, model, config, keep):
    save_model(tmp_path / BEST, model, config)
    (tmp_path / BEST).write_bytes((tmp_path / BEST).read_bytes()[: int((tmp_path / BEST).stat().st_size * keep)])
    with pytest.raises(CheckpointError, match=r"^best\.safetensors is damaged"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"dear diary, today I trained", b"\0" * 1000, b"\xff" * 1000])
def test_foreign_weights(tmp_path, content):
    (tmp_path / BEST).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"^best\.safetensors "):
        load_model(tmp_path)


def test_weights_of_someone_else(tmp_path, model, config):
    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / BEST)
    with pytest.raises(CheckpointError, match="holds no settings"):
        load_model(tmp_path)
    save_model(tmp_path / BEST, model, config.replace(width=8))
    with pytest.raises(CheckpointError, match="do not fit their settings"):
        load_model(tmp_path)


@pytest.mark.parametrize("settings", ["not JSON", "[]", '{"width": 4, "attention": true}', '{"width": 0}'])
def test_weights_with_settings_that_this_version_cannot_read(tmp_path, model, settings):
    safetensors.torch.save_file(dict(model.state_dict()), tmp_path / BEST, metadata={"config": settings})
    with pytest.raises(ValueError):
        load_model(tmp_path)


# --- find a run ---------------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The three places that runs lie in, all of them empty: outputs, Kaggle's input, the repository."""
    places = tmp_path / "working" / "outputs", tmp_path / "input", tmp_path / "repository"
    monkeypatch.setenv("COLORLIB_OUTPUTS", str(places[0]))
    monkeypatch.setenv("COLORLIB_KAGGLE_INPUT", str(places[1]))
    monkeypatch.setattr("colorlib.checkpoint.repository_dir", lambda: places[2])
    return places


def make_run(folder, age: float = 0):
    """A folder that looks like a trained run, `age` seconds old."""
    folder.mkdir(parents=True)
    (folder / BEST).write_bytes(b"")
    os.utime(folder / BEST, (1e9 - age, 1e9 - age))
    return folder


def test_find_run_takes_the_newest(places):
    make_run(places[0] / "old", age=50)
    newest = make_run(places[0] / "new")
    make_run(places[0] / "older", age=100)
    assert find_run() == find_run("") == newest


def test_find_run_by_name(places):
    old = make_run(places[0] / "old", age=50)
    make_run(places[0] / "new")
    assert find_run("old") == old


def test_find_run_by_path(places, tmp_path):
    run = make_run(tmp_path / "elsewhere" / "mine")
    make_run(places[0] / "new")
    assert find_run(str(run)) == run


def test_find_run_looks_in_the_outputs_then_in_kaggles_inputs_then_in_the_repository(places):
    bundled = make_run(places[2] / "outputs" / "tiny")
    other = make_run(places[2] / "outputs" / "other", age=20)
    assert find_run() == find_run("tiny") == bundled
    mounted = make_run(places[1] / "notebook-03" / "outputs" / "tiny", age=50)
    assert find_run() == find_run("tiny") == mounted
    assert find_run("other") == other, "a name is looked for everywhere"
    own = make_run(places[0] / "tiny", age=100)
    assert find_run() == find_run("tiny") == own


@pytest.mark.parametrize("where", ["outputs", "notebook-03/outputs", "datasets/someone/set"])
def test_find_run_prefers_the_release_wherever_it_lies(places, where):
    """Other runs may be newer, and lie where it is looked first."""
    for place in (places[0], places[1], places[2] / "outputs"):
        make_run(place / "mine")
    release = make_run((places[2] if where == "outputs" else places[1]) / where / "release", age=1000)
    assert find_run() == find_run("") == find_run("release") == release
    assert find_run("mine") == places[0] / "mine"
    own = make_run(places[0] / "release", age=2000)
    assert find_run() == find_run("release") == own, "of two releases, that in the outputs"


def test_find_run_takes_the_newest_of_several_releases_among_kaggles_inputs(places):
    make_run(places[1] / "older" / "outputs" / "release", age=50)
    newest = make_run(places[1] / "newer" / "release")
    make_run(places[1] / "oldest" / "release", age=100)
    assert find_run() == find_run("release") == newest


def test_find_run_takes_no_run_for_the_release_by_a_part_of_its_name(places):
    make_run(places[0] / "release-2", age=50)
    make_run(places[2] / "outputs" / "release" / "weights", age=0)
    newest = make_run(places[0] / "mine")
    assert find_run() == newest


@pytest.mark.parametrize("depth", ["run", "set/run", "set/outputs/run", "datasets/someone/set/run"])
def test_find_run_in_kaggles_inputs_at_any_usual_depth(places, depth):
    run = make_run(places[1] / depth)
    assert find_run("run") == find_run() == run


def test_find_run_ignores_folders_without_weights(places):
    (places[0] / "half" / "samples").mkdir(parents=True)
    (places[0] / "half" / "last.pt").write_bytes(b"")
    release = make_run(places[2] / "outputs" / "release")
    assert find_run() == release
    with pytest.raises(FileNotFoundError):
        find_run("half")


def test_find_run_says_where_it_looked_and_what_to_do(places):
    with pytest.raises(FileNotFoundError, match=r"no trained run in .*notebook 03") as caught:
        find_run()
    assert all(str(place) in str(caught.value) for place in places)
    with pytest.raises(FileNotFoundError, match="no run 'mine' in "):
        find_run("mine")

"""Weights and run state: whole, bit for bit, and never executed; runs are found where they lie."""

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import torch
from conftest import assert_same, files, small_disk

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
    # those of other kinds, histories that lack an epoch, or what the next one is compared with
    others += [state | {name: "word"} for name in state]
    histories = [], [7], [{"epoch": 1}], [{"val_loss": None}], state["history"] * 2
    others += [state | {"history": rows} for rows in histories]
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


def wrong_contents(state):
    """States with all the right keys and kinds, and something else inside."""
    optimizer, weights = state["optimizer"], state["model"]
    first, moments = next(iter(optimizer["state"].items()))
    shapes = moments | {"exp_avg": torch.zeros(5)}
    yield state | {"model": {}}
    yield state | {"ema_model": {"final.bias": torch.zeros(2)}}
    yield state | {"model": {**weights, "final.bias": torch.zeros(9)}}
    yield state | {"model": dict.fromkeys(weights, "word")}
    yield state | {"optimizer": {}}
    yield state | {"optimizer": {"state": {}, "param_groups": []}}
    yield state | {"optimizer": {**optimizer, "state": {first: {}}}}
    yield state | {"optimizer": {**optimizer, "state": {first: shapes}}}
    yield state | {"schedule": {"last_epoch": "word"}}
    yield state | {"random": {}}
    yield state | {"random": {"cpu": torch.zeros(3)}}
    yield state | {"step": -1}


def test_a_state_with_the_right_keys_and_wrong_content(begun):
    run, config, split, state = begun
    contents = list(wrong_contents(state))
    for number, content in enumerate(contents):
        torch.save(content, run / LAST)
        with pytest.raises(CheckpointError, match=r"^last\.pt .*: delete it to start anew"):
            saved = load_state(run, config, split)
            TrainState(config, torch.device("cpu"), total_steps=4).load_state_dict(saved)
            pytest.fail(f"content {number} was taken")


@pytest.mark.parametrize("name", ["config.json", "split.json"])
@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"a":' * 100_000, "dear diary", "[]", "7"])
def test_a_damaged_record_ends_in_a_sentence(begun, name, text):
    run, config, split, _ = begun
    (run / name).write_text(text)
    with pytest.raises(ValueError, match=r"run run .*(is missing or damaged|was begun with other photos)"):
        load_state(run, config, split)


def test_the_machines_of_a_run_are_all_told(begun, config, monkeypatch):
    """A run that goes on elsewhere keeps the machine that began; one that goes on where it was adds nothing."""
    run, config, split, _ = begun
    (first,) = checkpoint.read_machines(run)
    assert first["trained_on"] == "cpu" and first["versions"]["torch"]
    state = TrainState(config, torch.device("cpu"), total_steps=4)
    state.history.append({"epoch": 1, "val_loss": 0.5})
    checkpoint.RunRecorder(run, state, split, ())
    assert checkpoint.read_machines(run) == [first]
    here = {name: value for name, value in first.items() if name not in ("trained_on", "precision")}
    monkeypatch.setattr(checkpoint, "describe_environment", lambda: here | {"device": "Tesla T4"})
    for _ in range(2):
        checkpoint.RunRecorder(run, state, split, ())
        assert checkpoint.read_machines(run) == [first, first | {"device": "Tesla T4"}]
    (run / checkpoint.MACHINES).write_text(json.dumps(first))  # as an earlier version wrote it
    checkpoint.RunRecorder(run, state, split, ())
    assert checkpoint.read_machines(run) == [first, first | {"device": "Tesla T4"}]
    state.history.clear()  # a new run
    checkpoint.RunRecorder(run, state, split, ())
    assert checkpoint.read_machines(run) == [first | {"device": "Tesla T4"}]
    (run / checkpoint.MACHINES).write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"environment\.json of run run is damaged"):
        checkpoint.read_machines(run)


def savers(config):
    """Each function that saves something: its name, and what it saves to a path."""
    model, batch = UNet(**config.network), {"L": torch.rand(2, 1, 16, 16), "ab": torch.rand(2, 2, 16, 16)}
    state = {"model": model.state_dict()}
    yield "model", lambda path: checkpoint.save_model(path, model, config)
    yield "state", lambda path: checkpoint.save_checkpoint(path, state)
    yield "picture", lambda path: checkpoint.save_some_examples(model, **batch, path=path.with_suffix(".png"))


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_full_disk_leaves_no_half_file_and_what_was_there(tmp_path, config):
    for name, save in savers(config):
        folder = tmp_path / name
        save(folder / "file.pt")
        (path,) = folder.iterdir()
        whole = path.read_bytes()
        for room in (0, 100, len(whole) // 2, len(whole) - 1):
            with small_disk(room), pytest.raises(OSError):
                save(folder / "file.pt")
            assert os.listdir(folder) == [path.name] and path.read_bytes() == whole, (name, room)


@pytest.mark.skipif(os.name != "posix", reason="needs rights")
def test_what_is_saved_can_be_read_by_others(tmp_path, config):
    """By those whom the user's umask allows it: safetensors' own writer allows the user alone."""
    before = os.umask(0o022)
    try:
        for name, save in savers(config):
            save(tmp_path / f"{name}.pt")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644} and len(files(tmp_path)) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process to kill")
def test_a_training_removes_what_a_killed_one_left(begun):
    run, config, split, _ = begun
    before = files(run)
    for name in ("best.safetensors", "samples/epoch_000.png", "weights/epoch_000.safetensors"):
        if (child := os.fork()) == 0:
            with checkpoint.replacing(run / name) as temporary:
                temporary.write_bytes(b"half")
                os.kill(os.getpid(), 9)
        os.waitpid(child, 0)
    assert len(files(run)) == len(before) + 3
    checkpoint.RunRecorder(run, TrainState(config, torch.device("cpu"), total_steps=4), split, ())
    assert files(run) == before


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


@pytest.mark.parametrize("palette", [0, 3])
@pytest.mark.parametrize(("part", "value", "words"), [
    ("running_var", -1.0, "is a variance, but holds negative values"),
    ("weight", 3e38, "the colors are no numbers: copy or train it again"),
    ("weight", float("nan"), "holds NaN or infinite values"),
    ("bias", float("-inf"), "holds NaN or infinite values"),
])  # fmt: skip
def test_weights_that_give_no_colors(tmp_path, config, palette, part, value, words):
    """They would paint black pictures without a word."""
    config = config.replace(palette=palette)
    model = UNet(**config.network)
    for name, weight in model.state_dict().items():
        if name.endswith(part):
            weight.copy_(value * (2 * torch.rand_like(weight) - 1).sign() if value == 3e38 else torch.tensor(value))
    checkpoint.save_model(tmp_path / BEST, model, config)
    with pytest.raises(CheckpointError, match=f"^{BEST}.*{words}"):
        load_model(tmp_path)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The three places that runs lie in, all of them empty: outputs, Kaggle's input, the repository."""
    places = tmp_path / "working" / "outputs", tmp_path / "input", tmp_path / "repository" / "outputs"
    monkeypatch.setenv("COLORLIB_OUTPUTS", str(places[0]))
    monkeypatch.setenv("COLORLIB_KAGGLE_INPUT", str(places[1]))
    monkeypatch.setattr("colorlib.checkpoint.repository_dir", lambda: places[2].parent)
    monkeypatch.setattr("colorlib.checkpoint.WEIGHTS", tmp_path / "package")  # without a run that is shipped
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


def test_a_shipped_runs_weights_lie_in_the_package(places, config, monkeypatch):
    """Its record lies in the repository; without one, only the package is needed, and scores go to outputs/."""
    model = UNet(**config.network)
    checkpoint.save_model(checkpoint.WEIGHTS / "release.safetensors", model, config)
    (places[2] / "release").mkdir(parents=True)
    mine = make_run(places[0] / "mine")
    for folder in (places[2] / "release", places[0] / "release"):
        assert find_run() == find_run("release") == find_run(folder) == folder
        assert list(checkpoint.find_runs().items()) == [("release", folder), ("mine", mine)]
        assert_same(load_model(find_run())[0].state_dict(), model.eval().state_dict())
        monkeypatch.setattr("colorlib.checkpoint.repository_dir", lambda: None)
    other = places[0].parent / "release"  # another folder of that name has weights of its own, or none
    other.mkdir()
    with pytest.raises(FileNotFoundError):
        load_model(other)
    make_run(places[0] / "release")
    with pytest.raises(CheckpointError):
        load_model(find_run())  # a run's own weights, damaged ones here, come first


@pytest.mark.parametrize("folder", ["release", "deep/release", "Release", "link"])
def test_shipped_names_are_refused_wherever_they_lie(places, config, folder):
    places[0].mkdir(parents=True)
    (places[0] / "link").symlink_to(places[2] / "release")
    for place in places:
        if folder != "link" or place == places[0]:
            with pytest.raises(ValueError, match=r"comes with colorlib: .* such as my-release"):
                checkpoint.find_start(place / folder, config)


def test_weights_of_another_training_are_refused(tmp_path, config):
    """But not those of this one's first epoch, which was killed before it could write last.pt."""
    run, model = tmp_path / "run", UNet(**config.network)
    assert checkpoint.find_start(run, config) == run
    checkpoint.save_model(run / BEST, model, config, epoch=1, val_loss=0.1)
    assert checkpoint.find_start(run, config) == run
    for others in (config.replace(seed=9), config.replace(width=5)):
        with pytest.raises(ValueError, match=r"holds weights \(best\.safetensors\), but no last\.pt"):
            checkpoint.find_start(run, others)
    for notes in ({"epoch": 2}, {}):
        checkpoint.save_model(run / BEST, model, config, **notes)
        with pytest.raises(ValueError, match="give the new run another name, or move them away"):
            checkpoint.find_start(run, config)
    for content in (b"", b"dear diary"):
        (run / BEST).write_bytes(content)
        with pytest.raises(ValueError, match="give the new run another name, or move them away"):
            checkpoint.find_start(run, config)
    (run / LAST).touch()
    assert checkpoint.find_start(run, config) == run


def test_a_run_among_kaggles_inputs_is_found_by_its_name(places, config, tmp_path):
    def leave(folder: Path, epochs: int) -> Path:
        folder.mkdir(parents=True)
        (folder / LAST).touch()
        (folder / "history.csv").write_text("epoch\n" + "1\n" * epochs)
        return folder

    run = places[0] / "run"
    for number, depth in enumerate(("set/outputs/other", "a/outputs/run", "b/run", "c/d/outputs/run")):
        folder = leave(places[1] / depth, number + 1)
        assert checkpoint.find_start(run, config) == (folder if number else run), "the one with the most epochs"
    leave(places[1] / "run", 2)
    assert checkpoint.find_start(run, config) == folder
    assert checkpoint.find_start(tmp_path / "elsewhere" / "run", config) == tmp_path / "elsewhere" / "run"
    leave(run, 0)
    assert checkpoint.find_start(run, config) == run, "its own folder comes first"


def test_what_a_run_left_is_copied_whole_and_no_other_weights_are_overwritten(begun, tmp_path, monkeypatch):
    source, config, split, _ = begun
    checkpoint.save_model(source / BEST, UNet(**config.network), config)
    for name in ("history.csv", "samples/epoch_000.png", "weights/epoch_000.safetensors", "notes/mine.txt"):
        checkpoint.write_text(source / name, name)
    for path in source.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)  # as Kaggle's inputs are
    run, copyfile = tmp_path / "copy", checkpoint.shutil.copyfile
    for stop in range(7):  # interrupted at each of its files, it begins anew

        def copying(source, target, *, stop=stop):
            if len(list(run.rglob("[!.]*.*"))) >= stop:
                raise KeyboardInterrupt
            copyfile(source, target)

        monkeypatch.setattr(checkpoint.shutil, "copyfile", copying)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.copy_record(source, run)
        assert not (run / LAST).exists()
    monkeypatch.undo()
    checkpoint.copy_record(source, run)
    assert files(run) == [name for name in files(source) if name != "notes/mine.txt"]
    assert all((run / name).read_bytes() == (source / name).read_bytes() for name in files(run))
    assert os.access(run / LAST, os.W_OK) and load_state(run, config, split) is not None
    (run / BEST).write_bytes(b"mine")
    with pytest.raises(ValueError, match="move it away, or give another name"):
        checkpoint.copy_record(source, run)
    assert (run / BEST).read_bytes() == b"mine"


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


@pytest.mark.slow
def test_an_installed_package_brings_its_network(tmp_path, photos):
    """Not editable, used from another folder, without the repository: README's `pip install .`."""
    pytest.importorskip("setuptools")
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    root = Path(checkpoint.__file__).parents[1]
    shutil.copytree(root / "colorlib", source / "colorlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    built = subprocess.run([*pip, "--target", str(site), str(source)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    environment = {name: value for name, value in os.environ.items() if name != "COLORLIB_OUTPUTS"}
    command = [sys.executable, "-m", "colorlib", str(photos[0]), "-o", "out"]
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        command, cwd=tmp_path / "elsewhere", env=environment | {"PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert done.returncode == 0 and "1 colored" in done.stdout, done.stderr
    assert (tmp_path / "elsewhere" / "out" / "photo_00-colorized.png").is_file()

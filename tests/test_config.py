"""Settings: types, ranges, JSON and the presets."""

import dataclasses
import inspect
import json

import pytest

from colorlib.config import LOSSES, PRECISIONS, PRESETS, RELEASE, SCHEDULES, SEED, TINY, Config
from colorlib.model import UNet


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SEED.width = 32


def test_every_field_is_annotated_with_a_plain_type():
    assert {field.type for field in dataclasses.fields(Config)} <= {int, float, bool, str}
    names = {name for name, value in vars(Config).items() if isinstance(value, (int, float, str))}
    assert names - {"__module__", "__doc__"} <= {field.name for field in dataclasses.fields(Config)} | {
        name for name in names if name.startswith("__")
    }


def test_defaults_are_the_original_recipe():
    assert Config() == SEED
    recipe = {
        "width": 64, "depth": 7, "dropout": 0.5, "image_size": 256, "batch_size": 16, "learning_rate": 2e-4,
        "epochs": 50, "schedule": "constant", "loss": "l1",
    }  # fmt: skip
    assert {name: getattr(SEED, name) for name in recipe} == recipe
    assert not SEED.augments
    off = ("palette", "residual", "gamma", "small_size", "small_epochs", "perceptual", "weight_decay", "warmup", "ema")
    assert not any(getattr(SEED, name) for name in (*off, "test_flips"))


def test_network_gives_the_arguments_of_the_unet():
    assert SEED.network == (64, 7, 0.5, 0, 0)
    config = Config(width=4, depth=5, dropout=0.25, palette=3, residual=2)
    assert config.network == (4, 5, 0.25, 3, 2)
    names = inspect.signature(UNet).parameters
    assert config.network == tuple(getattr(config, name) for name in names)
    model = UNet(*config.network)
    assert len(model.palette.queries) == 3 and [len(blocks) for blocks in model.deeper] == [2, 2]
    assert UNet(*config.replace(palette=0, residual=0).network).palette is None


def test_arithmetic_and_extras_are_left_to_the_device_unless_asked_for():
    for config in PRESETS.values():
        assert (config.precision, config.compile, config.checkpoint_every) == ("auto", False, 0)
        assert config.num_workers == 2, "photos are read by helpers the first time"


def test_presets_are_named_and_different():
    assert PRESETS == {"tiny": TINY, "seed": SEED, "release": RELEASE}
    assert len(set(PRESETS.values())) == 3
    assert TINY.augments and RELEASE.augments


@pytest.mark.parametrize("preset", PRESETS)
def test_json_round_trip(preset):
    text = PRESETS[preset].to_json()
    assert Config.from_json(text) == PRESETS[preset]
    assert set(json.loads(text)) == {field.name for field in dataclasses.fields(Config)}


def test_json_with_missing_settings_keeps_the_defaults():
    assert Config.from_json('{"width": 8}') == Config(width=8)


@pytest.mark.parametrize("text", ["[1, 2]", "3", "null", "not JSON", ""])
def test_json_that_holds_no_settings(text):
    with pytest.raises(ValueError):
        Config.from_json(text)


def test_unknown_setting_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown setting widht; the settings are width, depth"):
        Config.from_json('{"widht": 8}')
    with pytest.raises(ValueError, match="unknown setting colour"):
        SEED.replace(colour=1)


def test_replace_changes_a_copy():
    changed = SEED.replace(width=8, flip=True)
    assert (changed.width, changed.flip, SEED.width, SEED.flip) == (8, True, 64, False)
    assert changed.replace(width=64, flip=False) == SEED


def test_whole_numbers_are_taken_for_floats_but_nothing_else_is():
    config = Config(rotate=10, dropout=0)
    assert type(config.rotate) is float and type(config.dropout) is float
    assert config.to_json() == Config(rotate=10.0, dropout=0.0).to_json()


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", 8.0), ("width", "8"), ("width", True), ("flip", 1), ("flip", "yes"), ("precision", 32), ("rotate", "5"),
     ("rotate", True), ("seed", None), ("precision", None), ("schedule", 1), ("schedule", True), ("compile", 1),
     ("compile", "yes"), ("checkpoint_every", 1.0), ("checkpoint_every", True), ("palette", 8.0), ("palette", True),
     ("residual", 1.0), ("residual", None), ("gamma", "0.2"), ("small_size", 64.0), ("small_epochs", False),
     ("loss", 1), ("loss", None), ("perceptual", True), ("weight_decay", "0.01"), ("warmup", False), ("ema", "0.99"),
     ("test_flips", 1), ("test_flips", "yes")],
)  # fmt: skip
def test_wrong_type(name, value):
    with pytest.raises(ValueError, match=f"{name} must be of type .*got {value!r}"):
        Config(**{name: value})


WRONG = {
    "width": [0, -1], "batch_size": [0], "epochs": [0], "crops_per_photo": [0], "samples": [0],
    "depth": [3, 11], "image_size": [15], "photo_size": [15], "dropout": [-0.1, 1.0, float("nan")],
    "val_fraction": [-0.1, 0.96, 1.0], "test_fraction": [-0.1, 0.96], "min_crop": [0.0, 1.1, -0.5],
    "rotate": [-1.0, 46.0, float("nan")], "contrast": [-0.1, 1.0], "saturation": [-0.1, 1.0],
    "learning_rate": [0.0, -1e-3, float("nan")], "num_workers": [-1], "keep_every": [-1], "seed": [-1],
    "precision": ["float64", "", "Float32", "AUTO", "fp16"], "schedule": ["linear", "", "Cosine"],
    "checkpoint_every": [-1], "palette": [1, -1], "residual": [-1], "gamma": [-0.1, 2.1, float("nan")],
    "small_size": [-1], "small_epochs": [-1, 1], "loss": ["l2", "", "L1", "Huber"],
    "perceptual": [-0.1, float("nan")], "weight_decay": [-0.01], "warmup": [-0.1, 1.0, float("nan")],
    "ema": [-0.1, 1.0, float("nan")],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_out_of_range(name, value):
    with pytest.raises(ValueError, match=rf"(?s){name}.*got .*{name}="):  # the rule, and what came
        Config(**{name: value})


def test_every_setting_but_the_switches_has_a_range():
    assert set(WRONG) == {field.name for field in dataclasses.fields(Config)} - {"flip", "compile", "test_flips"}


RIGHT = {"depth": [4, 10], "image_size": [16], "photo_size": [16], "dropout": [0.0, 0.99], "min_crop": [1.0, 0.01],
         "rotate": [0.0, 45.0], "contrast": [0.0, 0.99], "val_fraction": [0.0, 0.9], "precision": list(PRECISIONS),
         "width": [1], "keep_every": [0, 1], "num_workers": [0], "seed": [0],
         "schedule": list(SCHEDULES), "checkpoint_every": [0, 1, 10**6], "compile": [False, True],
         "palette": [0, 2, 313], "residual": [0, 1, 8], "gamma": [0.0, 2.0], "small_size": [0, 8, 512],
         "small_epochs": [0], "loss": list(LOSSES), "perceptual": [0.0, 10.0], "weight_decay": [0.0, 1.0],
         "warmup": [0.0, 0.99], "ema": [0.0, 0.9999], "test_flips": [False, True]}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in RIGHT.items() for value in values])
def test_limits_are_allowed(name, value):
    assert getattr(Config(**{name: value}), name) == value


def test_smaller_pictures_at_first_need_a_size():
    assert Config(small_epochs=1, small_size=16).small_epochs == 1
    for side in (0, 15):
        with pytest.raises(ValueError, match="small_epochs needs a small_size of at least 16; got"):
            Config(small_epochs=1, small_size=side)


@pytest.mark.parametrize(
    "change",
    [{"flip": True}, {"min_crop": 0.9}, {"rotate": 1.0}, {"contrast": 0.1}, {"gamma": 0.1}, {"saturation": 0.1}],
)
def test_each_part_of_the_augmentation_switches_it_on(change):
    assert SEED.replace(**change).augments


def test_choices_are_named_when_another_one_is_asked_for():
    assert PRECISIONS == ("auto", "float32", "bfloat16", "float16") and SCHEDULES == ("constant", "cosine")
    with pytest.raises(ValueError, match=r"precision must be one of auto, float32, bfloat16, float16; got .*'half'"):
        Config(precision="half")
    with pytest.raises(ValueError, match=r"schedule must be one of constant, cosine; got .*'step'"):
        Config(schedule="step")
    assert LOSSES == ("l1", "huber")
    with pytest.raises(ValueError, match=r"loss must be one of l1, huber; got .*'mse'"):
        Config(loss="mse")
    with pytest.raises(ValueError, match="num_workers, checkpoint_every, keep_every and seed must not be negative"):
        Config(checkpoint_every=-5)


@pytest.mark.parametrize(
    "change",
    [{"schedule": "cosine"}, {"compile": True}, {"precision": "bfloat16"}, {"palette": 8, "residual": 1},
     {"small_size": 64, "small_epochs": 2}, {"loss": "huber", "ema": 0.9, "warmup": 0.1}, {"test_flips": True}],
)  # fmt: skip
def test_what_is_computed_and_how_is_no_augmentation(change):
    assert not SEED.replace(**change).augments

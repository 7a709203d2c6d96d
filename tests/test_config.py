"""Settings: types, ranges, JSON and the presets."""

import dataclasses
import json

import pytest

from colorlib.config import PRECISIONS, PRESETS, RELEASE, SCHEDULES, SEED, TINY, Config


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
        "epochs": 50, "schedule": "constant",
    }  # fmt: skip
    assert {name: getattr(SEED, name) for name in recipe} == recipe
    assert not SEED.augments


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
     ("compile", "yes"), ("checkpoint_every", 1.0), ("checkpoint_every", True)],
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
    "checkpoint_every": [-1],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_out_of_range(name, value):
    with pytest.raises(ValueError, match=rf"(?s){name}.*got .*{name}="):  # the rule, and what came
        Config(**{name: value})


def test_every_setting_but_the_switches_has_a_range():
    assert set(WRONG) == {field.name for field in dataclasses.fields(Config)} - {"flip", "compile"}


RIGHT = {"depth": [4, 10], "image_size": [16], "photo_size": [16], "dropout": [0.0, 0.99], "min_crop": [1.0, 0.01],
         "rotate": [0.0, 45.0], "contrast": [0.0, 0.99], "val_fraction": [0.0, 0.9], "precision": list(PRECISIONS),
         "width": [1], "keep_every": [0, 1], "num_workers": [0], "seed": [0],
         "schedule": list(SCHEDULES), "checkpoint_every": [0, 1, 10**6], "compile": [False, True]}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in RIGHT.items() for value in values])
def test_limits_are_allowed(name, value):
    assert getattr(Config(**{name: value}), name) == value


@pytest.mark.parametrize(
    "change", [{"flip": True}, {"min_crop": 0.9}, {"rotate": 1.0}, {"contrast": 0.1}, {"saturation": 0.1}]
)
def test_each_part_of_the_augmentation_switches_it_on(change):
    assert SEED.replace(**change).augments


def test_choices_are_named_when_another_one_is_asked_for():
    assert PRECISIONS == ("auto", "float32", "bfloat16", "float16") and SCHEDULES == ("constant", "cosine")
    with pytest.raises(ValueError, match=r"precision must be one of auto, float32, bfloat16, float16; got .*'half'"):
        Config(precision="half")
    with pytest.raises(ValueError, match=r"schedule must be one of constant, cosine; got .*'step'"):
        Config(schedule="step")
    with pytest.raises(ValueError, match="num_workers, checkpoint_every, keep_every and seed must not be negative"):
        Config(checkpoint_every=-5)


@pytest.mark.parametrize("change", [{"schedule": "cosine"}, {"compile": True}, {"precision": "bfloat16"}])
def test_how_it_is_computed_is_no_augmentation(change):
    assert not SEED.replace(**change).augments

"""Settings: types, bounds that stand beside them, JSON, and the presets."""

import dataclasses
import json
from math import nan

import pytest

from colorlib.config import PRESETS, RELEASE, SEED, TINY, Config
from colorlib.model import UNet

FIELDS = {field.name: field for field in dataclasses.fields(Config)}

# of each setting the values that are just within its bounds, and those that are just without
BOUNDS = {
    "width": ([1, 256], [0, 257]), "depth": ([4, 10], [3, 11]), "dropout": ([0.0, 0.99], [-0.1, 1.0, nan]),
    "palette": ([0, 2, 256], [-1, 1, 257]), "residual_blocks": ([0, 16], [-1, 17]),
    "encoder": (["", "tf_efficientnet_lite0"], [None]), "encoder_weights": (["", "weights.pth"], [None]),
    "encoder_rate": ([0.0, 1.0], [-0.1, 1.1, nan]), "most_per_folder": ([0, 1], [-1]),
    "render_size": ([0, 16, 1024], [-1, 15, 1025]),
    "image_size": ([16, 1024], [15, 1025]), "photo_size": ([16, 4096], [15, 4097]),
    "val_fraction": ([0.0, 0.9], [-0.1, 0.95, 1.0]), "test_fraction": ([0.0, 0.9], [-0.1, 0.95, 1.0]),
    "min_crop": ([0.01, 1.0], [0.0, 1.1, nan]), "flip": ([True], []), "rotate": ([0.0, 45.0], [-1.0, 46.0]),
    "contrast": ([0.0, 0.99], [-0.1, 1.0]), "gamma": ([0.0, 2.0], [-0.1, 2.1]), "saturation": ([0.0, 0.9], [-0.1, 1.0]),
    "crops_per_photo": ([1], [0]), "small_size": ([16, 1024], [15, 1025]), "small_epochs": ([0, 5], [-1]),
    "batch_size": ([1], [0]), "loss": (["l1", "huber"], ["l2", "", "L1"]), "palette_likelihood": ([0.0], [-0.1, 0.5]),
    "perceptual": ([0.0, 10.0], [-0.1, nan]), "learning_rate": ([1e-6, 1.0], [0.0, -1e-3, nan]),
    "weight_decay": ([0.0], [-0.01]), "warmup": ([0.0, 0.99], [-0.1, 1.0]),
    "schedule": (["constant", "cosine", "trapezoid"], ["step", "Cosine"]), "ema": ([0.0, 0.9999], [-0.1, 1.0]),
    "epochs": ([1], [0]), "precision": (["auto", "float32", "bfloat16", "float16"], ["float64", "fp16", ""]),
    "start_from": (["", "release"], [None]), "compile": ([True], []), "num_workers": ([0], [-1]),
    "checkpoint_every": ([0, 1], [-5]), "keep_every": ([0, 1], [-1]), "samples": ([1], [0]), "seed": ([0], [-1]),
    "flip_tta": ([True], []), "vividness": ([0.0, 1.0], [-0.1, 1.1, nan]),
}  # fmt: skip


def test_every_setting_has_a_plain_type_a_help_text_and_a_row_in_the_table_of_bounds():
    assert set(BOUNDS) == set(FIELDS)
    assert {field.type for field in FIELDS.values()} == {int, float, bool, str}
    assert [name for name, field in FIELDS.items() if len(field.metadata["help"]) < 10] == []


@pytest.mark.parametrize("name", BOUNDS)
def test_values_up_to_the_bounds_are_taken_and_beyond_them_refused(name):
    allowed, refused = BOUNDS[name]
    assert [getattr(Config(**{name: value}), name) for value in allowed] == allowed
    for value in refused:
        with pytest.raises(ValueError, match=rf"^(val_fraction and )?{name} "):  # the message begins with the name
            Config(**{name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [({"dropout": 1.0}, r"dropout must be below 1 \(share of features .*\), got 1.0"),
     ({"depth": 3}, r"depth must be 4 or more \(how often .*\), got 3"),
     ({"precision": "half"}, r"precision must be one of auto, float32, bfloat16, float16 \(.*\), got 'half'"),
     ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave no photos to train on: lower one of them"),
     ({"palette_likelihood": 0.1}, "palette_likelihood needs a palette"),
     ({"encoder": "resnet18", "residual_blocks": 1}, "residual_blocks are part of the U-Net's own encoder"),
     ({"width": 8.0}, "width must be of type int, got 8.0"), ({"width": True}, "width must be of type int, got True"),
     ({"flip": 1}, "flip must be of type bool, got 1"), ({"rotate": "5"}, "rotate must be of type float, got '5'")],
)  # fmt: skip
def test_what_is_wrong_is_said(change, message):
    with pytest.raises(ValueError, match=message):
        SEED.replace(**change)


def test_whole_numbers_are_taken_for_floats():
    assert Config(rotate=10, dropout=0).to_json() == Config(rotate=10.0, dropout=0.0).to_json()


def test_defaults_are_the_original_recipe_with_everything_else_switched_off():
    assert Config() == SEED and not SEED.augments
    assert PRESETS == {"tiny": TINY, "seed": SEED, "release": RELEASE} and len(set(PRESETS.values())) == 3
    assert (SEED.width, SEED.depth, SEED.dropout, SEED.image_size) == (64, 7, 0.5, 256)
    assert (SEED.batch_size, SEED.learning_rate, SEED.epochs) == (16, 2e-4, 50)
    assert (SEED.schedule, SEED.loss, SEED.precision) == ("constant", "l1", "auto")
    off = "palette residual_blocks gamma small_epochs palette_likelihood perceptual weight_decay warmup ema flip_tta"
    assert not any(getattr(SEED, name) for name in (*off.split(), "vividness", "compile"))


def test_json_keeps_everything_and_the_defaults_of_what_it_lacks_and_refuses_what_it_does_not_know():
    for config in PRESETS.values():
        assert Config.from_json(config.to_json()) == config and set(json.loads(config.to_json())) == set(FIELDS)
    assert Config.from_json('{"width": 8}') == Config(width=8)
    with pytest.raises(ValueError, match="unknown setting contrst, widht; the settings are width, depth"):
        Config.from_json('{"widht": 8, "contrst": 0.1}')
    for text in ("[1, 2]", "3", "null", "not JSON", ""):
        with pytest.raises(ValueError):
            Config.from_json(text)


def test_network_gives_the_arguments_of_the_unet():
    model = UNet(**Config(width=4, depth=5, dropout=0.25, palette=3, residual_blocks=2).network)
    assert model.down[0].conv.out_channels == 4 and len(model.down) == 4 and model.up[0].dropout.p == 0.25
    assert len(model.palette.queries) == 3 and [len(blocks) for blocks in model.deeper] == [2, 2]


def test_only_the_augmentation_counts_as_one():
    on = [{"flip": True}, *({name: 0.1} for name in ("min_crop", "rotate", "contrast", "gamma", "saturation"))]
    assert all(SEED.replace(**change).augments for change in on)
    assert not SEED.replace(palette=8, residual_blocks=1, loss="huber", ema=0.9, flip_tta=True, small_epochs=2).augments

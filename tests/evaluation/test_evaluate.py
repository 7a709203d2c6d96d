"""The evaluation against predictors whose score is known."""

import numpy as np
import pytest
import torch
from conftest import blobs
from PIL import Image
from skimage.color import rgb2lab

from colorlib.color import encode_lab, lab_to_rgb_image, rgb_to_lab
from colorlib.evaluation import constant_color, evaluate_model, format_summary
from colorlib.metrics import calculate_colorfulness, score_pictures
from colorlib.photo import read_photo, resize_photo, to_tensor

COLUMNS = [
    "image", "method", "psnr", "ssim", "rmse", "snr", "ciede2000", "colorfulness", "colorfulness_error", "ab_error",
    "ab_histogram", "true_colorfulness", "in_color",
]  # fmt: skip


@pytest.fixture
def photos(photos, tmp_path):
    """Three photos in color and a gray one."""
    Image.fromarray(blobs(3)).convert("L").save(tmp_path / "gray.png")
    return [*photos[:3], tmp_path / "gray.png"]


def test_scores_are_those_of_the_rounded_pictures(photos):
    """Of a predictor that knows the photos, and returns half of their true color."""
    seen, pairs = {}, [encode_lab(rgb_to_lab(to_tensor(resize_photo(read_photo(path), 48)))) for path in photos]

    def predict(L):
        return torch.stack([next(ab for known, ab in pairs if torch.equal(known, l)) for l in L]) / 2  # noqa: E741

    metrics = evaluate_model({"half": predict}, photos, 48, False, lambda name, *rest: seen.update({name: rest}))
    assert list(metrics.columns) == COLUMNS and list(seen) == [path.name for path in photos]
    assert list(metrics["in_color"][::2]) == [True, True, True, False]
    pictures, scores = seen["photo_01.png"]
    true = np.asarray(read_photo(photos[1]).resize((48, 48), Image.Resampling.BICUBIC))
    L, ab = encode_lab(rgb_to_lab(to_tensor(true)[None]))
    assert np.array_equal(pictures["true"], true)
    assert np.array_equal(pictures["predicted"], lab_to_rgb_image(L, ab / 2))
    assert np.array_equal(pictures["gray"], lab_to_rgb_image(L, 0 * ab))
    rows = metrics[metrics["image"] == "photo_01.png"].set_index("method")
    for method, picture in (("half", "predicted"), ("gray", "gray")):
        expected = score_pictures(true, pictures[picture])
        assert scores[method] == expected and rows.loc[method, list(expected)].to_dict() == expected
    assert rows["true_colorfulness"].tolist() == [calculate_colorfulness(true)] * 2


def test_several_methods_and_more_photos_than_are_predicted_at_a_time(photos):
    """Side by side, in the order they were given, and the same numbers as one by one."""
    methods = {"model": lambda L: L.repeat(1, 2, 1, 1) / 8, "mean color": constant_color(3, 12)}
    many = photos * 5
    table = evaluate_model(methods, many, size=16, progress=False)
    assert list(table["method"]) == ["model", "mean color", "gray"] * 20
    assert list(table["image"][::3]) == [path.name for path in many]
    for number, (name, predict) in enumerate(methods.items()):
        for i, path in enumerate(photos):
            alone = evaluate_model({name: predict}, [path], size=16, progress=False)
            for repeat in table[number::3][i::4].to_dict("records"):
                assert repeat == pytest.approx(alone.iloc[0].to_dict(), abs=1e-6)


def test_a_true_picture_is_converted_once_for_all_methods(photos, monkeypatch):
    converted = []
    monkeypatch.setattr("colorlib.metrics.rgb2lab", lambda rgb: converted.append(1) or rgb2lab(rgb))
    evaluate_model({"a": constant_color(3, 12), "b": constant_color(9, 0)}, photos, size=16, progress=False)
    assert len(converted) == len(photos) * (1 + 3)


def test_constant_color_is_in_units_of_lab():
    ab = constant_color(12.8, -64)(torch.zeros(2, 1, 3, 4))
    assert ab.shape == (2, 2, 3, 4) and ab[1, :, 2, 3].tolist() == pytest.approx([0.1, -0.5])


def test_unreadable_photos_are_named(photos, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    Image.fromarray(blobs(0)).save(half := tmp_path / "half.jpg")
    half.write_bytes(half.read_bytes()[:-90])
    with pytest.raises(ValueError, match="none of the 1 given can be read"):
        evaluate_model(constant_color(0, 9), [half], size=16, progress=False)
    capsys.readouterr()
    metrics = evaluate_model(constant_color(0, 9), [photos[0], tmp_path / "broken.png"], size=16)
    assert list(metrics["image"]) == ["photo_00.png"] * 2
    [(name, reason)] = metrics.attrs["skipped"]
    assert name == "broken.png" and "broken.png" in reason
    out, err = capsys.readouterr()
    assert "evaluating" in out and "Skipped 1 of 2 photos: broken.png" in out and err == ""
    assert "Skipped: broken.png" in format_summary(metrics)

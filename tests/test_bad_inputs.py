"""Bad inputs: each gets its own clear error, and leaves nothing half-written behind."""

import errno
import io
import os
import random
import struct
from unittest.mock import Mock

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import Constant, blobs
from PIL import Image

from colorlib.checkpoint import CheckpointError, load_model, save_checkpoint, save_model
from colorlib.colorize import Colorizer, Hint, add_color, colorize_folder, palette_strip, recolor_palette
from colorlib.colorize.export import SaveError, save_picture
from colorlib.config import Config
from colorlib.data import find_images
from colorlib.model import UNet
from colorlib.palette import Palette
from colorlib.photo import FORMATS, PHOTO_SUFFIXES, PhotoError, read_photo

CONFIG = Config(width=4, depth=4, image_size=16)
COLORIZER = Colorizer(Constant(0.1, -0.1), CONFIG, "float32")
PHOTO = blobs(0)


def claiming(width: int, height: int) -> bytes:
    """A BMP of a few bytes whose header promises more."""
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "BMP")
    return file.getvalue()[:18] + struct.pack("<ii", width, height) + file.getvalue()[26:]


def written(path, content: bytes):
    path.write_bytes(content)
    return path


def half(path):
    """The first half of a file of weights, or of a photo."""
    if path.suffix == ".safetensors":
        save_model(path, UNet(4, 4), CONFIG)
    else:
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(path)
    return written(path, path.read_bytes()[: path.stat().st_size // 2])


def other_weights(path, value, dtype=torch.float32):
    """Weights of a small network, one tensor of which is of another kind."""
    model = UNet(**CONFIG.network)
    weights = model.state_dict() | {"final.bias": torch.full((2,), value, dtype=dtype)}
    safetensors.torch.save_file(weights, path, {"config": CONFIG.to_json(), "notes": "{}"})
    return path


def state_and_fail(folder, monkeypatch):
    full_disk = RuntimeError("unexpected pos 64 vs 0")  # PyTorch's words
    monkeypatch.setattr(torch, "save", Mock(side_effect=full_disk))
    save_checkpoint(folder / "last.pt", {})


def foreign_weights(path, **metadata):
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path, metadata=metadata or None)
    return path


def save_and_fail(folder, monkeypatch, code):
    monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(code, os.strerror(code))))
    save_picture(folder / "out" / "a.jpg", PHOTO)


def pipe(path):
    os.mkfifo(path)
    return path


def circle(link):
    link.symlink_to(link)
    return link


color = COLORIZER.colorize
GIANT = Config(width=256, depth=10, palette=256, residual_blocks=16)
SETTINGS = {"no JSON": "not JSON", "a list": "[]", "unknown": '{"attention": true}', "others": CONFIG.to_json()}
SETTINGS["a giant's"] = GIANT.to_json()
PALETTE = Palette(torch.zeros(1, 2, 2), torch.zeros(1, 2, 4, 4), torch.ones(1, 2))


def hint(*values):
    color(PHOTO, hints=[Hint(*values)])


# name: what is done in a folder, the kind of error, and its words
BAD = {
    "no file": (lambda f, _: color(f / "none.jpg"), FileNotFoundError, "there is no photo .*none.jpg.*check the path"),
    "a folder": (lambda f, _: color(f), PhotoError, "is a folder: give the path of one photo"),
    "a pipe": (lambda f, _: color(pipe(f / "a.jpg")), PhotoError, "a.jpg is a pipe, a socket or a device: give the pa"),
    "an empty file": (lambda f, _: color(written(f / "a.jpg", b"")), PhotoError, "a.jpg: not an image file"),
    "bytes of a text": (lambda f, _: color(b"Dear diary"), PhotoError, "the image: not an image file"),
    "half a JPEG": (lambda f, _: color(half(f / "a.jpg")), PhotoError, "a.jpg: broken image file .*truncated"),
    "half a TIFF": (lambda f, _: color(half(f / "a.tif")), PhotoError, "a.tif: .*image file"),
    "a bomb": (lambda f, _: color(written(f / "a.bmp", claiming(60_000, 60_000))), PhotoError,
               "a.bmp: too many pixels to open safely"),
    "over 100 megapixels": (lambda f, _: color(claiming(10_001, 10_000)), PhotoError,
                            "too many pixels .*10001×10000 px, the limit is 100 megapixels.*save it smaller"),
    "an array of floats": (lambda f, _: color(PHOTO / 255), PhotoError, "expected a uint8 array .*got float64"),
    "four channels": (lambda f, _: color(np.zeros((4, 4, 4), np.uint8)), PhotoError, r"got uint8 \(4, 4, 4\)"),
    "nothing at all": (lambda f, _: color(None), PhotoError, "expected a path, a file's bytes, .*got NoneType"),
    "a bad reference": (lambda f, _: color(PHOTO, reference=written(f / "b.jpg", b"x")), PhotoError, "b.jpg: not an"),
    "saturation that is no number": (lambda f, _: color(PHOTO, saturation=float("nan")), ValueError, "got nan"),
    "a render size of a half": (lambda f, _: color(PHOTO, render_size=64.5), ValueError, "whole number, 16 to .*64.5"),
    "a hint outside": (lambda f, _: hint(1.2, 0.5, "#ff0000"), ValueError, "shares of width and .*got 1.2, 0.5"),
    "a hint nowhere": (lambda f, _: hint(float("nan"), 0, "#ff0000"), ValueError, "shares of width and .*got nan"),
    "no name of a color": (lambda f, _: hint(0.5, 0.5, "reddish"), ValueError, "such as navy, .*got 'reddish'"),
    "too vivid": (lambda f, _: color(PHOTO, vividness=1.5), ValueError, "vividness must be between 0 and 1, got 1.5"),
    "no palette": (lambda f, _: color(PHOTO, recolor=[("red", "tan")]), ValueError, "has no palette .*another run"),
    "half a change": (lambda f, _: recolor_palette(PALETTE, ["red"]), ValueError, "pairs of colors, .*got 'red'"),
    "a hint beyond 255": (lambda f, _: hint(0.5, 0.5, (300, 0, 0)), ValueError, "in 0 to 255; got .300, 0, 0"),
    "colors of two photos": (lambda f, _: add_color(PHOTO, torch.zeros(2, 2, 4, 4)), ValueError, "of one photo, ab"),
    "L of three channels": (lambda f, _: COLORIZER.predict_ab(torch.zeros(1, 3, 9, 9)), ValueError, "of shape .B, 1, "),
    "a batch of palettes": (lambda f, _: palette_strip(torch.zeros(1, 4, 2), torch.zeros(1, 4)), ValueError,
                            r"expected colors \(K, 2\) and shares \(K,\), got \(1, 4, 2\), \(1, 4\)"),
    "no weights": (lambda f, _: load_model(f), FileNotFoundError, "no trained weights at .*train with notebook 03"),
    "half the weights": (lambda f, _: load_model(half(f / "a.safetensors")), CheckpointError, "a.safetensors is dam"),
    "weights of others": (lambda f, _: load_model(foreign_weights(f / "a.safetensors")), CheckpointError,
                          "holds no settings: it was not written by colorlib"),
    **{f"settings: {name}": (lambda f, _, text=text: load_model(foreign_weights(f / "a.safetensors", config=text)),
                             CheckpointError, "a.safetensors: the weights do not fit their settings")
       for name, text in SETTINGS.items()},
    "weights of NaN": (lambda f, _: load_model(other_weights(f / "a.safetensors", torch.nan)), CheckpointError,
                       "final.bias holds NaN or infinite values"),
    "whole numbers": (lambda f, _: load_model(other_weights(f / "a.safetensors", 1, torch.int32)), CheckpointError,
                      "final.bias is of type torch.int32"),
    "no room for a state": (lambda f, m: state_and_fail(f, m), OSError, "last.pt could not be written .*make room"),
    "an unknown format": (lambda f, _: save_picture(f / "a.gif", PHOTO), SaveError, "saved as .jpg, .*not as '.gif'"),
    "a gray picture": (lambda f, _: save_picture(f / "a.png", PHOTO[..., 0]), SaveError, r"got uint8 \(40, 48\)"),
    "too wide a WebP": (lambda f, _: save_picture(f / "a.webp", np.zeros((1, 17_000, 3), np.uint8)), SaveError, "a.we"),
    "another photo's source": (lambda f, _: save_picture(f / "a.png", PHOTO, Image.new("RGBA", (5, 5))), SaveError,
                               "photo that was colored as the source, but it has 5×5 px, the picture 48×40"),
    "a file as folder": (lambda f, _: save_picture(written(f / "out", b"") / "a.jpg", PHOTO), SaveError,
                         "a.jpg cannot be written to .*out .File exists.: make room there, or choose another folder"),
    "a name too long": (lambda f, _: save_picture(f / f"{300 * 'a'}.jpg", PHOTO), SaveError, "File name too long"),
    "no permission": (lambda f, m: save_and_fail(f, m, errno.EACCES), SaveError, "Permission denied.*another folder"),
    "a full disk": (lambda f, m: save_and_fail(f, m, errno.ENOSPC), SaveError, "No space left on device.*make room"),
    "a folder without photos": (lambda f, _: colorize_folder(f, f / "out", COLORIZER), ValueError, "no photo in"),
    "a path of nothing": (lambda f, _: colorize_folder("", f / "out", COLORIZER), ValueError, "a photo is empty"),
    "results nowhere": (lambda f, _: colorize_folder(f, "", COLORIZER), ValueError, "results' folder is empty"),
    "photos of nowhere": (lambda f, _: find_images(""), ValueError, "path of the folder is empty: give"),
    "a home of nobody": (lambda f, _: colorize_folder(f, "~no.body/out", COLORIZER), ValueError,
                         "no user has the home ~no.body: give another folder, or ./~no.body/out"),
    "photos of nobody": (lambda f, _: find_images("~no.body"), FileNotFoundError, "there is no folder ~no.body"),
    "results in a circle": (lambda f, _: colorize_folder(written(f / "a.bmp", b""), circle(f / "out"), COLORIZER),
                            ValueError, "out: Too many levels of symbolic links: give another folder"),
    "results below a file": (lambda f, _: colorize_folder(written(f / "a.bmp", b""), f / "a.bmp" / "out", COLORIZER),
                             ValueError, "out: Not a directory: give another folder"),
    "wildcards for nothing": (lambda f, _: colorize_folder(f / "*.jpg", f / "out", COLORIZER), FileNotFoundError,
                              "there is no photo or folder '.*[*].jpg'"),
    "a file for a folder": (lambda f, _: find_images(written(f / "a.txt", b"")), NotADirectoryError, "a.txt is a file"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # Pillow's own remarks on the damage
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_in_words_and_leaves_nothing_half_written(name, tmp_path, monkeypatch):
    action, kind, words = BAD[name]
    with pytest.raises(kind, match=words) as caught:
        action(tmp_path, monkeypatch)
    assert type(caught.value) is kind, "the promised kind itself"
    assert len(str(caught.value)) < 1000, "a sentence, not a dump"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name.startswith(".")]
    assert not (tmp_path / "out").is_dir() or not list((tmp_path / "out").iterdir())


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, most of them near the beginning."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(min(len(content), rng.choice((60, 300, 10_000))))] = rng.randrange(256)
    return bytes(content)


@pytest.mark.filterwarnings("ignore")
def test_mutated_photos_and_folders_of_them_are_read_or_refused_in_words(tmp_path):
    """Nothing but `PhotoError` comes out, whatever a decoder or a broken EXIF block raises."""
    exif, rng, refused = Image.Exif(), random.Random(0), 0
    exif[0x0112], exif[0x010F] = 6, "camera"
    for number in range(300):
        kind, file = FORMATS[number % len(FORMATS)], io.BytesIO()
        Image.fromarray(PHOTO).save(file, kind, exif=exif)
        content = mutated(file.getvalue(), rng)
        if number < 50:
            (tmp_path / f"{number}{next(s for s in PHOTO_SUFFIXES if Image.EXTENSION[s] == kind)}").write_bytes(content)
        try:
            assert read_photo(content).mode == "RGB"
        except PhotoError:
            refused += 1
    assert 20 < refused < 280
    result = colorize_folder(tmp_path, tmp_path / "out", COLORIZER, progress=False)
    assert len(result.done) + len(result.failed) == 50 and result.done and result.failed


def test_mutated_weights_are_read_or_refused_in_words(tmp_path):
    save_model(tmp_path / "model.safetensors", UNet(4, 4), CONFIG)
    content, rng, refused = (tmp_path / "model.safetensors").read_bytes(), random.Random(0), 0
    for _ in range(200):
        try:
            load_model(written(tmp_path / "model.safetensors", mutated(content, rng)))
        except CheckpointError:
            refused += 1
    assert refused > 100

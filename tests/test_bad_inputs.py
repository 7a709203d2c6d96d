"""Thirty bad inputs: each gets its own clear error, and leaves nothing half-written behind."""

import errno
import os
import struct
import zlib

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import Constant, blobs
from PIL import Image

from colorlib.checkpoint import CheckpointError, load_model, save_model
from colorlib.colorize import Colorizer, add_color
from colorlib.config import Config
from colorlib.export import SaveError, save_picture
from colorlib.folder import colorize_folder
from colorlib.model import UNet
from colorlib.photo import PhotoError
from colorlib.steer import Hint

CONFIG = Config(width=4, depth=4, image_size=16)
COLORIZER = Colorizer(Constant(0.1, -0.1), CONFIG, "float32")
PHOTO = blobs(0)


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises more."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def written(path, content: bytes):
    path.write_bytes(content)
    return path


def part_of(path, share: float):
    """The beginning of a photo's file."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(path)
    return written(path, path.read_bytes()[: int(path.stat().st_size * share)])


def model_file(path, change=lambda content: content):
    save_model(path, UNet(4, 4), CONFIG)
    return written(path, change(path.read_bytes()))


def foreign_weights(path, **metadata):
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path, metadata=metadata or None)
    return path


def pickled(path):
    torch.save(UNet(4, 4), path)  # a whole model: reading one would run what it says
    return path


def on_a_full_disk(folder, monkeypatch, code):
    def fail(self, path, **_):
        written(path, b"half a picture")
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Image.Image, "save", fail)
    save_picture(folder / "out" / "a.jpg", PHOTO)


def color(photo, **options):
    return COLORIZER.colorize(photo, **options)


def hint(*values):
    return color(PHOTO, hints=[Hint(*values)])


# name: what is done in a folder, the kind of error, and its words
BAD = {
    "no file": (lambda f, _: color(f / "none.jpg"), FileNotFoundError, "there is no photo .*none.jpg.*check the path"),
    "a folder": (lambda f, _: color(f), PhotoError, "is a folder: give the path of one photo"),
    "an empty file": (lambda f, _: color(written(f / "a.jpg", b"")), PhotoError, "a.jpg: not an image file"),
    "a text": (lambda f, _: color(written(f / "a.jpg", b"Dear diary")), PhotoError, "a.jpg: not an image file"),
    "bytes of a text": (lambda f, _: color(b"Dear diary"), PhotoError, "the image: not an image file"),
    "a JPEG's first two bytes": (lambda f, _: color(written(f / "a.jpg", b"\xff\xd8")), PhotoError, "a.jpg: not an"),
    "half a JPEG": (lambda f, _: color(part_of(f / "a.jpg", 0.5)), PhotoError, "a.jpg: broken image file .*truncated"),
    "half a PNG": (lambda f, _: color(part_of(f / "a.png", 0.5)), PhotoError, "a.png: broken image file"),
    "half a WebP": (lambda f, _: color(part_of(f / "a.webp", 0.5)), PhotoError, "a.webp: broken image file"),
    "half a BMP": (lambda f, _: color(part_of(f / "a.bmp", 0.5)), PhotoError, "a.bmp: broken image file .*truncated"),
    "half a TIFF": (lambda f, _: color(part_of(f / "a.tif", 0.5)), PhotoError, "a.tif: .*image file"),
    "a bomb": (lambda f, _: color(written(f / "a.png", png_that_claims(60_000, 60_000))), PhotoError,
               "a.png: too many pixels to open safely"),
    "over 100 megapixels": (lambda f, _: color(png_that_claims(10_001, 10_000)), PhotoError,
                            "too many pixels .*10001×10000 px, the limit is 100 megapixels.*save it smaller"),
    "an array of floats": (lambda f, _: color(PHOTO / 255), PhotoError, "expected a uint8 array .*got float64"),
    "an array without pixels": (lambda f, _: color(PHOTO[:0]), PhotoError, r"got uint8 \(0, 48, 3\)"),
    "nothing at all": (lambda f, _: color(None), PhotoError, "expected a path, a file's bytes, .*got NoneType"),
    "a bad reference": (lambda f, _: color(PHOTO, reference=written(f / "b.jpg", b"x")), PhotoError, "b.jpg: not an"),
    "saturation below 0": (lambda f, _: color(PHOTO, saturation=-0.5), ValueError, "saturation must be 0 .*got -0.5"),
    "saturation that is no number": (lambda f, _: color(PHOTO, saturation=float("nan")), ValueError, "got nan"),
    "too small a render size": (lambda f, _: color(PHOTO, render_size=8), ValueError, "16 to 1024 px, got 8"),
    "a render size of a half": (lambda f, _: color(PHOTO, render_size=64.5), ValueError, "whole number, .*got 64.5"),
    "a hint outside": (lambda f, _: hint(1.2, 0.5, "#ff0000"), ValueError, "shares of width and .*got 1.2, 0.5"),
    "a hint's name of a colour": (lambda f, _: hint(0.5, 0.5, "red"), ValueError, "written #rrggbb, .*got 'red'"),
    "a hint beyond 255": (lambda f, _: hint(0.5, 0.5, (300, 0, 0)), ValueError, "in 0 to 255; got .300, 0, 0"),
    "colours of two photos": (lambda f, _: add_color(PHOTO, torch.zeros(2, 2, 4, 4)), ValueError, "of one photo, ab"),
    "no weights": (lambda f, _: load_model(f), FileNotFoundError, "no trained weights at .*train with notebook 03"),
    "half the weights": (lambda f, _: load_model(model_file(f / "a.safetensors", lambda c: c[: len(c) // 2])),
                         CheckpointError, "a.safetensors is damaged .*copy or train it again"),
    "weights of a text": (lambda f, _: load_model(written(f / "a.safetensors", b"x" * 99)), CheckpointError, "damaged"),
    "a pickled model": (lambda f, _: load_model(pickled(f / "a.pt")), CheckpointError, "no safetensors file"),
    "weights of others": (lambda f, _: load_model(foreign_weights(f / "a.safetensors")), CheckpointError,
                          "holds no settings: it was not written by colorlib"),
    "weights that do not fit": (lambda f, _: load_model(foreign_weights(f / "a.safetensors", config=CONFIG.to_json())),
                                CheckpointError, "the weights do not fit their settings"),
    "an unknown format": (lambda f, _: save_picture(f / "a.gif", PHOTO), SaveError, "saved as .jpg, .*not as '.gif'"),
    "a file as folder": (lambda f, _: save_picture(written(f / "out", b"") / "a.jpg", PHOTO), SaveError,
                         "a.jpg cannot be written to .*out: a file has the folder's name"),
    "a folder as file": (lambda f, _: save_picture((f / "a.jpg").mkdir() or f / "a.jpg", PHOTO), SaveError,
                         "a.jpg cannot be written .*a folder has the file's name"),
    "a name too long": (lambda f, _: save_picture(f / f"{300 * 'a'}.jpg", PHOTO), SaveError, "the name is too long"),
    "a folder without permission": (lambda f, m: on_a_full_disk(f, m, errno.EACCES), SaveError, "no permission"),
    "a full disk": (lambda f, m: on_a_full_disk(f, m, errno.ENOSPC), SaveError, "the disk is full; make room"),
    "no such folder": (lambda f, _: colorize_folder(f / "none", f / "out", COLORIZER), FileNotFoundError,
                       "there is no photo or folder .*check the path"),
    "a folder without photos": (lambda f, _: colorize_folder(f, f / "out", COLORIZER), ValueError, "no photo in"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # Pillow's own remarks on the damage
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_in_words_and_leaves_nothing_half_written(name, tmp_path, monkeypatch):
    action, kind, words = BAD[name]
    with pytest.raises(kind, match=words) as caught:
        action(tmp_path, monkeypatch)
    assert type(caught.value) is kind, "the promised kind itself"
    assert isinstance(caught.value, ValueError | FileNotFoundError)
    assert len(str(caught.value)) < 1000, "a sentence, not a dump"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name.startswith(".")]
    assert not (tmp_path / "out").is_dir() or not list((tmp_path / "out").iterdir())


def test_there_are_thirty_at_least():
    assert len(BAD) >= 30

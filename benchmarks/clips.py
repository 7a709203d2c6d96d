"""How steady the colors of a clip are, and how fast it is colored, beside coloring each frame alone.

    python benchmarks/clips.py                      # about three minutes on two CPU cores; needs no data
    python benchmarks/clips.py --data data/val2017  # with the first 8 photos of a folder

Prints a table and writes it to benchmarks/clips.csv. The clips are made from photos by known motions, so that
the true colors are known, and where each pixel of a frame was in the frame before. Flicker is the mean change of a
pixel's (a*, b*) along that motion; the photo's own is 0.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.ndimage import map_coordinates
from skimage.color import rgb2lab

from colorlib.colorize import Colorizer, SteadyColors, add_color, colorize_video
from colorlib.data import find_images, sample_photos
from colorlib.metrics import calculate_psnr
from colorlib.photo import read_photo

HERE = Path(__file__).parent
SIZE, FRAMES = (320, 180), 24  # of a clip made from a photo
SPEED_SIZE, SPEED_FRAMES = (640, 360), 100
# frame → left edge and top edge, shares of the room there is; width, share of the photo's
Motion = Callable[[int], tuple[float, float, float]]
MOTIONS: dict[str, Motion] = {
    "pan": lambda t: (0.2 + 0.6 * t / FRAMES, 0.4, 0.6),
    "zoom": lambda t: (0.5, 0.5, 0.9 - 0.4 * t / FRAMES),
    "shaking hand": lambda t: (0.5 + 0.04 * np.sin(1.7 * t), 0.5 + 0.04 * np.cos(2.3 * t), 0.7),
}
GRAIN = 6.0  # standard deviation of the film grain that the last clip has, 8-bit levels; its brightness sways by 3%


def places(motion: Motion, t: int, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where in the photo the pixels of frame t lie: rows and columns (h, w)."""
    (width, height), (x, y, share) = SIZE, motion(t)
    w = share * min(photo.shape[1], photo.shape[0] * width / height)
    h = w * height / width
    columns = x * (photo.shape[1] - w) + (np.arange(width) + 0.5) * w / width - 0.5
    rows = y * (photo.shape[0] - h) + (np.arange(height) + 0.5) * h / height - 0.5
    return np.meshgrid(rows, columns, indexing="ij")


def sample(picture: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The picture (H, W, 3) at these places, bilinear; NaN outside of it."""
    picture = picture.astype(np.float32)
    channels = [map_coordinates(picture[..., c], (rows, columns), order=1, cval=np.nan) for c in range(3)]
    return np.stack(channels, axis=2)


def make_clip(photo: np.ndarray, motion: Motion, grain: float = 0.0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The true frames, uint8 (h, w, 3), and the ones that are colored: the same, but for grain."""
    noise, true, seen = np.random.default_rng(0), [], []
    for t in range(FRAMES):
        true.append(np.nan_to_num(sample(photo, *places(motion, t, photo))).round().astype(np.uint8))
        sway = 1 + 0.03 * np.sin(2.0 * t) if grain else 1
        rough = true[-1] * sway + noise.normal(0, grain, (*true[-1].shape[:2], 1))
        seen.append(rough.clip(0, 255).round().astype(np.uint8))
    return true, seen


def color_clip(colorizer: Colorizer, frames: list[np.ndarray], steadiness: float) -> list[np.ndarray]:
    """Color frames as `colorize_video` does."""
    steady, colored = SteadyColors(steadiness), []
    for frame in frames:
        ab = steady(colorizer.network_input(frame), colorizer.predict(frame).cpu())
        colored.append(add_color(frame, ab))
    return colored


def flicker(colored: list[np.ndarray], photo: np.ndarray, motion: Motion) -> float:
    """The mean distance in (a*, b*) between a frame's pixels and the same points in the frame before."""
    changes, labs = [], [rgb2lab(frame) for frame in colored]
    for t in range(1, len(labs)):
        rows, columns = places(motion, t, photo)
        old_rows, old_columns = places(motion, t - 1, photo)  # evenly spaced: a linear map from photo to frame
        r = (rows - old_rows[0, 0]) / (old_rows[1, 0] - old_rows[0, 0])
        c = (columns - old_columns[0, 0]) / (old_columns[0, 1] - old_columns[0, 0])
        changes.append(np.nanmean(np.hypot(*np.moveaxis((labs[t] - sample(labs[t - 1], r, c))[..., 1:], 2, 0))))
    return float(np.mean(changes))


def left_after_cut(colorizer: Colorizer, photos: list[np.ndarray], steadiness: float) -> list[float]:
    """How unlike the new scene's own the colors of the first three frames after a cut are; 1: as the old scene's."""
    shares = []
    for old, new in zip(photos, photos[1:] + photos[:1], strict=True):
        old, new = (make_clip(photo, MOTIONS["pan"])[0] for photo in (old, new))
        joined, alone = (color_clip(colorizer, old[:6] + new[:3], value)[6:] for value in (steadiness, 0.0))
        unlike = [np.abs(rgb2lab(a)[..., 1:] - rgb2lab(b)[..., 1:]).mean() for a, b in zip(joined, alone, strict=True)]
        before = np.abs(rgb2lab(color_clip(colorizer, old[5:6], 0.0)[0])[..., 1:] - rgb2lab(alone[0])[..., 1:]).mean()
        shares.append(np.array(unlike) / before)
    return np.mean(shares, axis=0).tolist()


def frames_per_second(colorizer: Colorizer, photo: np.ndarray, steadiness: float, count: int) -> float:
    """Color a clip of 640×360 from file to file."""
    import av

    with tempfile.TemporaryDirectory() as folder:
        path, large = Path(folder) / "clip.mp4", Image.fromarray(photo).resize((1280, 720))
        with av.open(path, "w") as out:
            stream = out.add_stream("libx264", 25)
            stream.width, stream.height, stream.pix_fmt = *SPEED_SIZE, "yuv420p"
            for t in range(count):
                frame = np.asarray(large.crop((4 * t, 2 * t, 4 * t + SPEED_SIZE[0], 2 * t + SPEED_SIZE[1])))
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
            out.mux(stream.encode())
        start = time.perf_counter()
        colorize_video(path, path.with_name("colored.mp4"), colorizer, steadiness=steadiness, progress=False)
        return count / (time.perf_counter() - start)


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Read the command line, measure, write the table and return it."""
    parser = argparse.ArgumentParser(description="Measure flicker, error and speed of colored clips.")
    parser.add_argument("--data", help="folder of photos, of which 8 are used; default: the sample photos")
    parser.add_argument("--run", help="a run's name or folder (default: the release)")
    parser.add_argument("--steadiness", type=float, nargs="+", default=[0.85], help="beside 0 (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the table")
    parser.add_argument("--quick", action="store_true", help="one photo and a short clip: does everything run?")
    options = parser.parse_args(arguments)
    paths = find_images(options.data) if options.data else sample_photos()
    photos = [np.asarray(read_photo(path)) for path in paths[: 1 if options.quick else 8]]
    colorizer, rows = Colorizer.from_run(options.run), []
    clips = [(name, motion, 0.0) for name, motion in MOTIONS.items()] + [("pan of grainy film", MOTIONS["pan"], GRAIN)]
    for steadiness in [0.0, *options.steadiness]:
        for name, motion, grain in clips:
            found = []
            for photo in photos:
                true, seen = make_clip(photo, motion, grain)
                colored = color_clip(colorizer, seen, steadiness)
                psnr = [calculate_psnr(*pair) for pair in zip(true, colored, strict=True)]
                found.append((flicker(colored, photo, motion), np.mean(psnr)))
            rows.append({"steadiness": steadiness, "clip": name, "flicker": found[0][0], "psnr": 0.0})
            rows[-1]["flicker"], rows[-1]["psnr"] = np.mean(found, axis=0)
        after = left_after_cut(colorizer, photos, steadiness) if steadiness else [0.0] * 3
        rate = frames_per_second(colorizer, photos[0], steadiness, 5 if options.quick else SPEED_FRAMES)
        for frame, difference in enumerate(after):
            name = f"frame {frame} after a cut"
            rows.append({"steadiness": steadiness, "clip": name, "unlike_its_own": difference})
        rows.append({"steadiness": steadiness, "clip": "640×360, from file to file", "frames_per_second": rate})
    table = pd.DataFrame(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "clips.csv", index=False, float_format="%.4g", lineterminator="\n")
    print(f"{torch.get_num_threads()} threads\n{table.to_string(index=False, na_rep='', float_format='%.3f')}")
    return table


if __name__ == "__main__":
    main(sys.argv[1:])

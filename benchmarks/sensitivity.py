"""How much do the settings of the original recipe matter, when each may use the same time of one processor core?

python benchmarks/sensitivity.py run [SETTING=VALUE …]   train all runs, or those named; finished ones are kept
python benchmarks/sensitivity.py table                   outputs/release/sensitivity.csv, from all that are finished

Every run starts from the original recipe at half width and 64 px, changes one setting, and trains for 75 seconds of
processor time on one core: what counts is the loss after so much work, not after so many photos. Reading the photos
and validating are not counted. The base is trained with two seeds: their difference is what luck is worth. Photos
are those of --data; --val are other photos, the same for all runs, on which nothing is chosen. A run lies in
outputs/sensitivity/.
"""

import argparse
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from colorlib.cache import PhotoCache
from colorlib.checkpoint import run_folder
from colorlib.color import encode_lab, lab_to_rgb_image, rgb_to_lab
from colorlib.colorize import Colorizer
from colorlib.compare import bootstrap_interval
from colorlib.config import SEED, Config
from colorlib.data import ColorizationDataset, find_images, get_dataloader
from colorlib.environment import cache_dir
from colorlib.evaluation import calculate_psnr
from colorlib.files import write_text
from colorlib.state import Training
from colorlib.train import train_epoch, validate_epoch

SECONDS = 75.0  # of one core, for the training steps of a run
POINTS = 6  # of a run's curve
TRAIN_PIXELS = 320 * 512**2  # of the photos that a run draws: about what the quickest can look at
CURVE_PHOTOS = 48  # validation photos of the curve
SCORED_PHOTOS = 200  # validation photos of the final score
SIDE = 256  # px, of the pictures that are scored
# the original network at half width; depth 5 leaves 2×2 of 64 px, as 7 does of 256 px
BASE = SEED.replace(width=32, depth=5, image_size=64, photo_size=64)
SETTINGS = {
    "learning_rate": (5e-5, 8e-4, 3.2e-3),
    "batch_size": (4, 64),
    "image_size": (128, 256, 512),
    "loss": ("huber",),
    "width": (16, 64),
}


def runs() -> dict[str, tuple[str, str, Config]]:
    """All runs: name → setting, value, and the recipe; another side gets the depth that keeps a bottleneck of 2×2."""
    found = {f"base={seed}": ("base", f"seed {seed}", BASE.replace(seed=seed)) for seed in (0, 1)}
    for setting, values in SETTINGS.items():
        for value in values:
            config = BASE.replace(**{setting: value})
            config = config.replace(depth=int(math.log2(config.image_size)) - 1, photo_size=config.image_size)
            text = value if isinstance(value, str) else f"{value:g}"
            found[f"{setting}={text}"] = (setting, text, config)
    return found


def train(config: Config, photos: list[Path], val: list[Path], seconds: float) -> pd.DataFrame:
    """Train one run for so many seconds of processor time; returns its curve, the score in the last row."""
    device = torch.device("cpu")
    order = torch.randperm(len(photos), generator=torch.Generator().manual_seed(0)).tolist()
    chosen = [photos[number] for number in order[: max(1, TRAIN_PIXELS // config.image_size**2)]]
    training_photos = ColorizationDataset(chosen, config, True, device, cache_dir())
    val_photos = ColorizationDataset(val[:: max(1, len(val) // CURVE_PHOTOS)], config, False, device, cache_dir())
    training = Training(config, device)
    batches, spent, images, points = _endless(training_photos, config), 0.0, 0, []
    for point in range(1, POINTS + 1):
        start = time.process_time()
        train_epoch(training, _until(batches, start + seconds * point / POINTS - spent), f"part {point}/{POINTS}")
        spent += time.process_time() - start
        images += training.photos
        val_loss, gray_loss = validate_epoch(training, get_dataloader(val_photos, config.batch_size))
        points.append({"images": images, "seconds": spent, "val_loss": val_loss, "gray_loss": gray_loss})
        training.history.append(points[-1])
        training.new_epoch()
    curve = pd.DataFrame(points)
    curve.insert(0, "parameters", sum(p.numel() for p in training.model.parameters()))
    curve.insert(1, "photos", len(training_photos))
    scores = score(Colorizer(training.result, config), val)
    for name, number in scores.items():
        curve.loc[curve.index[-1], name] = number
    return curve


def score(colorizer: Colorizer, val: list[Path]) -> dict[str, float]:
    """Mean PSNR (dB) of a network and of gray on validation photos of 256×256 px, and the gain's 95 % interval."""
    photos = PhotoCache(val[:: max(1, len(val) // SCORED_PHOTOS)], SIDE, cache_dir())
    psnr = []
    for number in range(len(photos)):
        true = photos[torch.tensor([number])]  # (1, 256, 256, 3)
        L, ab = encode_lab(rgb_to_lab(true.permute(0, 3, 1, 2).float() / 255))
        pictures = (lab_to_rgb_image(L, colors) for colors in (colorizer.predict_ab(L), torch.zeros_like(ab)))
        psnr.append([calculate_psnr(true[0].numpy(), picture) for picture in pictures])
    ours, gray = np.array(psnr)[np.isfinite(psnr).all(axis=1)].T
    low, high = bootstrap_interval(lambda i: (ours - gray)[i].mean(), len(ours))
    gain = (ours - gray).mean()
    means = {"psnr": ours.mean(), "gray_psnr": gray.mean(), "psnr_gain": gain, "psnr_low": low, "psnr_high": high}
    return {"val_photos": len(ours)} | means


def _endless(photos: ColorizationDataset, config: Config) -> Iterator[dict[str, Tensor]]:
    for number in itertools.count():
        photos.set_epoch(number)
        yield from get_dataloader(photos, config.batch_size, True, config.seed * 100_003 + number)


def _until(batches: Iterator[dict[str, Tensor]], end: float) -> Iterator[dict[str, Tensor]]:
    """At least one batch, and on until the process has used `end` seconds."""
    yield next(batches)
    while time.process_time() < end:
        yield next(batches)


def main() -> None:
    """Read the command line; train, or write the table."""
    parser = argparse.ArgumentParser(description="The sensitivity to the settings of the recipe.")
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("names", nargs="*", metavar="SETTING=VALUE", help=f"of {', '.join(runs())}; none: all")
    parser.add_argument("--data", type=Path, default="data/corpus/train", help="folder of training photos")
    parser.add_argument("--val", type=Path, default="data/corpus/val", help="folder of validation photos")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in runs()]:
        parser.error(f"no run {', '.join(unknown)}; there are {', '.join(runs())}")
    folder = run_folder("sensitivity")
    if options.what == "run":
        torch.set_num_threads(1)
        photos, val = find_images(options.data), find_images(options.val)
        for name in options.names or runs():
            if not (folder / f"{name}.csv").exists():
                setting, value, config = runs()[name]
                curve = train(config, photos, val, SECONDS)
                curve.insert(0, "setting", setting)
                curve.insert(1, "value", value)
                write_text(folder / f"{name}.csv", curve.to_csv(index=False))
                last = curve.iloc[-1]
                print(f"{name}: {last['images']:.0f} photos, {last['psnr_gain']:+.2f} dB over gray", flush=True)
        return
    finished = [folder / f"{name}.csv" for name in runs() if (folder / f"{name}.csv").exists()]
    if not finished:
        parser.error("no run is finished: train them first, python benchmarks/sensitivity.py run")
    table = pd.concat([pd.read_csv(path, dtype={"value": str}) for path in finished])
    write_text(run_folder("release") / "sensitivity.csv", table.to_csv(index=False, float_format="%.5g"))
    print(table[table["psnr"].notna()].to_string(index=False))


if __name__ == "__main__":
    main()

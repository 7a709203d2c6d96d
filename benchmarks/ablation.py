"""What is each part of the recipe worth, and how much does it help to have seen the test photos?

python benchmarks/ablation.py train ROW [--seed N]     one row of the ablation, or a run of the leak, on --data
python benchmarks/ablation.py score [ROW]              the table, from all rows that are trained, or one row of it anew

Each row sees the same number of photos with the same, half-width network, at 64 px: what an idle processor core can
do in five to ten minutes. The rows of the leak train on 1,000 photos for 50 epochs by the original recipe, with the
100 test photos among them, or with 100 of COCO's training photos in their place. Runs lie in outputs/ablation-*; the
table is written to outputs/release/ablation.csv.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from colorlib.checkpoint import BEST, load_model, read_machines, run_folder
from colorlib.colorize import Colorizer
from colorlib.config import SEED
from colorlib.data import find_images
from colorlib.evaluation import compare_methods, count_wins, evaluate_model
from colorlib.system import write_text
from colorlib.train import fit

# the original network at half width; depth 5 leaves 2×2 of 64 px, as depth 7 leaves of 256 px
ORIGINAL = SEED.replace(width=32, depth=5, image_size=64, photo_size=96, epochs=4, test_fraction=0.0, val_fraction=0.02)
RECIPE = ORIGINAL.replace(
    batch_size=32, learning_rate=1e-3, weight_decay=0.01, warmup=0.05, schedule="cosine", ema=0.995, dropout=0.1,
    min_crop=0.4, flip=True, contrast=0.2, gamma=0.2,
)  # fmt: skip
CHANGES = {  # of each further row, to the row before it
    "new recipe, Huber": {"loss": "huber"},
    "+ residual blocks": {"residual_blocks": 1},
    "+ palette": {"palette": 32},
    "+ second residual block": {"residual_blocks": 2},
    "+ palette likelihood": {"palette_likelihood": 0.02},
}
ROWS = {"original recipe": ORIGINAL, "new recipe": RECIPE}
for row, change in CHANGES.items():
    ROWS[row] = [*ROWS.values()][-1].replace(**change)
FLIPS = "+ mirror images in use"  # the last row's run, scored once more with test-time flips
LEAK = ORIGINAL.replace(depth=6, epochs=50, val_fraction=0.0)
LEAK_ROWS = ("leak: test photos among the training photos", "leak: other COCO photos in their place")
TABLE = (*ROWS, FLIPS, *LEAK_ROWS)


def run_name(row: str, seed: int) -> str:
    """The folder's name of a row's run."""
    letters = "".join(c if c.isalnum() else "-" for c in row.lower())
    return f"ablation-{'-'.join(filter(None, letters.split('-')))}-{seed}"


def trained_run(row: str, seed: int) -> Path:
    """The folder that holds a row's weights."""
    return run_folder(run_name([*ROWS][-1] if row == FLIPS else row, seed))


def leak_photos(photos: list[Path], coco: list[Path]) -> list[Path]:
    """1,000 photos: 900, drawn evenly, and the first 100 of COCO's kind, which are the test photos, or others."""
    order = torch.randperm(len(photos), generator=torch.Generator().manual_seed(0)).tolist()
    return [*(photos[number] for number in order[:900]), *coco[:100]]


def train(row: str, seed: int, data: Path, coco: Path) -> None:
    """Train a row; interrupted, it goes on where it stopped."""
    photos = find_images(data)
    if row in ROWS:
        fit(ROWS[row].replace(seed=seed), photos, run_name(row, seed))
        return
    with tempfile.TemporaryDirectory() as folder:
        for number, photo in enumerate(leak_photos(photos, find_images(coco))):
            # under new names: photos named as in COCO are kept out of the training
            (Path(folder) / f"photo_{number:04d}{photo.suffix}").symlink_to(photo.absolute())
        fit(LEAK.replace(seed=seed), find_images(folder), run_name(row, seed))


def score(row: str, seed: int, photos: list[Path]) -> dict:
    """A row's numbers on the photos in color (psnr_all: on all), beside gray's, and the gains' intervals."""
    run = trained_run(row, seed)
    model, config = load_model(run)
    config = config.replace(flip_tta=row == FLIPS)
    metrics = evaluate_model(Colorizer(model, config, "float32").predict_ab, photos)
    every = metrics.loc[(metrics["method"] == "model") & np.isfinite(metrics["psnr"]), "psnr"].mean()
    metrics = metrics[metrics["in_color"]]
    wins, count = count_wins(metrics)
    history = pd.read_csv(run / "history.csv")
    split = json.loads((run / "split.json").read_text(encoding="utf-8"))
    cores = max(machine["cores"] for machine in read_machines(run))
    result = {
        "row": row, "seed": seed, "parameters": sum(p.numel() for p in model.parameters()),
        "photos_seen": len(split["train"]) * len(history),
        "minutes": round(history["seconds"].sum() / 60, 1), "cores": cores,
        "val_loss": history["val_loss"].min(), "photos": count, "wins": wins, "psnr_all": every,
    }  # fmt: skip
    for line in compare_methods(metrics).to_dict("records"):
        name = line["metric"]
        result |= {name: line["model"], f"gray_{name}": line["gray"]}
        result |= {f"{name}_gain": line["difference"], f"{name}_low": line["low"], f"{name}_high": line["high"]}
    return result


def main() -> None:
    """Read the command line and train a row or score all."""
    parser = argparse.ArgumentParser(description="The ablation of the training recipe, and the leak.")
    parser.add_argument("what", choices=("train", "score"))
    parser.add_argument("row", nargs="?", choices=TABLE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default="data/corpus/train", help="folder of training photos")
    parser.add_argument("--others", type=Path, default="data/coco128", help="folder of other COCO photos, for the leak")
    parser.add_argument("--test", type=Path, default="data/corpus/coco-val2017-first100", help="folder of test photos")
    options = parser.parse_args()
    if options.what == "train":
        if options.row not in {*ROWS, *LEAK_ROWS}:
            parser.error("name the row to train, one that has a training of its own")
        coco = options.test if options.row == LEAK_ROWS[0] else options.others
        return train(options.row, options.seed, options.data, coco)
    path = run_folder("release") / "ablation.csv"
    photos = find_images(options.test)
    rows = [
        score(row, seed, photos)
        for row in ([options.row] if options.row else TABLE)
        for seed in range(10)
        if (trained_run(row, seed) / BEST).is_file()
    ]
    table = pd.DataFrame(rows)
    if path.exists():  # rows whose runs are elsewhere stay as they are
        before = pd.read_csv(path)
        table = pd.concat([before, table]).drop_duplicates(["row", "seed"], keep="last")
    table = table.sort_values(["row", "seed"], key=lambda c: c.map(TABLE.index) if c.name == "row" else c)
    write_text(path, table.to_csv(index=False, float_format="%.5g"))
    print(table.to_string())


if __name__ == "__main__":
    main()

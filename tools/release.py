"""Make a run the release: its record, its weights in half precision, its scores and pictures, its model card.

python tools/release.py RUN --data FOLDER [--train FOLDER] [--beside RUN=LABEL …]

writes outputs/release/, and the weights to colorlib/weights/release.safetensors. --data: photos that the run has not
seen; --train: those it was trained on, for their mean color; --beside: other runs to score on the same photos, such as
one by the original recipe. Pictures show the bundled sample photos only, whatever was scored. ablation.csv is left as
it is. Where config.json and history.csv cannot tell a training alone, such as one of several parts, recipe.json in the
run's folder tells the parts, and how their weights were joined.
"""

import argparse
import io
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

import colorlib
from colorlib.checkpoint import WEIGHTS, find_run, load_model, read_machines, save_model
from colorlib.colorize import palette_strip
from colorlib.config import Config
from colorlib.data import sample_photos
from colorlib.evaluation import compare_methods, count_wins
from colorlib.evaluation.__main__ import main as score
from colorlib.metrics import METRICS
from colorlib.photo import read_photo, resize_photo
from colorlib.plots import sample_grid
from colorlib.system import write_text, write_whole

RELEASE = Path(__file__).resolve().parent.parent / "outputs" / "release"
RECORD = ("config.json", "environment.json", "split.json", "history.csv")
RELEASED_WEIGHTS = WEIGHTS / "release.safetensors"
LIMIT = 24e6  # bytes of weights: the repository stays small

CARD = """\
# Model card: the colorlib release

A U-Net of {parameters:,} parameters with a palette of {palette} colors, trained from nothing; it guesses the a* and
b* of a photo from its L*. `colorlib/weights/release.safetensors` holds its weights in half precision,
{megabytes:.1f} MB, with the settings in the header. `colorlib.load()` reads both.

## Data

{train:,} photographs, and {val:,} to choose the best epoch. {tiny:,} are small (64 px): Tiny ImageNet, 200 kinds of
things. The others have a short side of 150 to 256 px: {houses:,} rooms and houses (Ahmed and Moustafa 2016),
Imagenette and Imagewoof (ten ImageNet classes each, one of them dogs only), one photo for each of 600 ImageNet classes,
outdoor scenes, Caltech-101. Near-gray photos were left out. No COCO image is among them. `split.json` names them all.

## Recipe

{epochs} epochs, {looks:,} looks at photos, {minutes:.0f} minutes on {cores} of a CPU ({device}), {precision}.
The loss is {loss} on ab, and {likelihood:g} times the negative log-likelihood of the true colors under the palette.
AdamW, a running average of the weights; random crops, mirror images, changed contrast and gamma.

{recipe}

In use, the photo and its mirror image are both asked, at a vividness of {vividness:g}. Settings: `config.json`;
loss by epoch: `history.csv`, that of validation always on the same photos. Choices among recipes were made on
validation photos.

## Numbers

First 100 images of MS COCO val2017, squeezed to 256×256 px; the {photos} of them that are in color (colorfulness of
at least 5). No recipe was chosen on them.

| | gray | this network | difference, 95 % bootstrap interval |
|---|---|---|---|
{rows}
| closer to the photo than gray | – | {wins} of {photos} | |

The photos themselves have a colorfulness of {truth:.1f}.

## Biases that we saw

Day skies, lawns and fur get a likely hue, usually too little of it. Strong colors that lightness does not give away are
missing: a red saucer comes out brown, the inside of an eye gray-blue, an orange space suit tan, a flag gray; a wooden
table turns partly green. Even planes get a color by mistake: the moon becomes a blue sea, the cloth behind old coins
glows red; one end of a lawn stays gray. Skin is little warmer than gray; the training photos hold few portraits,
and we know nothing of how it treats different skins. Small things take the color of what is around.

## Limits

Colors are a guess, not a record: say so when you show a colorized photograph, above all a historical one, and keep
the original. The network sees a square of {image_size} px, so that small things get the color of their surroundings.
It paints photos that never had colors, and things that it has never seen, with the same confidence. Not for
medicine, evidence, or any use where color carries meaning.
"""


def recipe_text(release: Path, config: Config) -> str:
    """Tell how a network was trained: a table of the parts in recipe.json, or, without one, the settings in words."""
    path = release / "recipe.json"
    if not path.is_file():
        schedules = {"constant": "stays", "cosine": "falls along a cosine", "trapezoid": "falls in the last quarter"}
        sizes = f"{config.image_size} px"
        if config.small_epochs:
            sizes += f", but for the first {config.small_epochs} epochs, at {config.small_size} px"
        rate = f"The learning rate of {config.learning_rate:g} {schedules[config.schedule]}"
        return f"{rate}. All epochs are at {sizes}."
    recipe = json.loads(path.read_text(encoding="utf-8"))
    head = "part", "begins with", "epochs × photos, at px", "looks", "minutes", "learning rate"
    lines = [head, ("---",) * len(head)]
    for part in recipe["parts"]:
        stages = [f"{stage['epochs']} × {stage['photos']:,}, {stage['side_px']}" for stage in part.get("stages", ())]
        stages = "; ".join(stages) + (f" ({part['remark']})" if "remark" in part else "")
        looks = f"{part['looks']:,}" if "looks" in part else ""
        minutes = part.get("minutes", "")
        lines.append((part["part"], part.get("begins_with", ""), stages, looks, minutes, part.get("learning_rate", "")))
    table = "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)
    words = [f"The weights are {recipe['weights']}."] if "weights" in recipe else []
    text = textwrap.fill(" ".join([*words, *recipe.get("remarks", ())]), 119)
    return f"The parts of the training (`recipe.json`; `config.json` has their epochs together):\n\n{table}\n\n{text}"


def model_card(release: Path) -> str:
    """The card's text, with the numbers of the files beside it."""
    config = Config.from_json((release / "config.json").read_text(encoding="utf-8"))
    machines, split = read_machines(release), json.loads((release / "split.json").read_text(encoding="utf-8"))
    history, metrics = pd.read_csv(release / "history.csv"), pd.read_csv(release / "metrics.csv")
    colored = metrics[metrics["in_color"]]
    wins, photos = count_wins(colored)
    most = max(machine["cores"] for machine in machines)
    cores = "one core" if most == 1 else f"up to {most} cores"
    devices, precisions = (
        ", ".join(dict.fromkeys(machine[name] for machine in machines)) for name in ("device", "precision")
    )
    rows = []
    for row in compare_methods(colored).itertuples():
        metric = METRICS[row.metric]
        level, change = f".{metric.digits}f", f"+.{metric.digits}f"  # how a score and a difference are written
        interval = f"{row.low:{change}} to {row.high:{change}}"
        cells = metric.title, f"{row.gray:{level}}", f"{row.model:{level}}", f"{row.difference:{change}} ({interval})"
        rows.append(f"| {' | '.join(cells)} |")
    return CARD.format(
        parameters=sum(p.numel() for p in load_model(release)[0].parameters()), palette=config.palette,
        megabytes=RELEASED_WEIGHTS.stat().st_size / 1e6, train=len(split["train"]), val=len(split["val"]),
        epochs=len(history), looks=history["photos"].sum(), recipe=recipe_text(release, config),
        minutes=history["seconds"].sum() / 60, cores=cores, device=devices,
        precision=precisions, loss={"l1": "L1", "huber": "Huber's"}[config.loss],
        image_size=config.image_size,
        tiny=sum("tiny_" in name for name in split["train"]), houses=sum("house_" in name for name in split["train"]),
        likelihood=config.palette_likelihood, vividness=config.vividness,
        photos=photos, rows="\n".join(rows), wins=wins,
        truth=colored.loc[colored["method"] == "model", "true_colorfulness"].mean(),
    )  # fmt: skip


def save_palettes(photos: Sequence[Path], path: Path, reduce: int = 1) -> None:
    """Save photos above, as the release colors them below, and its palettes, as a PNG; `reduce` 2 halves it."""
    colorizer = colorlib.load(RELEASE)
    before = [resize_photo(read_photo(photo), 256) for photo in photos]
    palettes = [colorizer.palette(photo) for photo in before]
    strips = [palette_strip(palette.colors[0], palette.shares[0], width=256) for palette in palettes]
    picture = sample_grid([before, [colorizer.colorize(photo) for photo in before]])
    encoded = io.BytesIO()
    Image.fromarray(np.vstack([picture, sample_grid([strips])[4:]])).reduce(reduce).save(encoded, "PNG")
    write_whole(path, encoded.getbuffer())


def main() -> None:
    """Read the command line and write outputs/release/ and the weights."""
    parser = argparse.ArgumentParser(description="Make a run the release.")
    parser.add_argument("run", help="a run's name or folder")
    parser.add_argument("--data", required=True, help="folder of photos to score on")
    parser.add_argument("--train", help="folder of the training photos: their mean color is scored, too")
    parser.add_argument("--beside", action="append", default=[], metavar="RUN[=LABEL]", help="score this run, too")
    options = parser.parse_args()
    run = find_run(options.run)
    model, config = load_model(run)
    size = 2 * sum(weight.numel() for weight in model.state_dict().values())  # bytes in half precision
    if size > LIMIT:
        parser.error(
            f"{size / 1e6:.0f} MB of weights: the repository stays small, train a network of at most 12 M weights"
        )
    RELEASE.mkdir(parents=True, exist_ok=True)
    if run.resolve() != RELEASE.resolve():
        for name in RECORD:
            shutil.copyfile(run / name, RELEASE / name)
        (RELEASE / "recipe.json").unlink(missing_ok=True)  # the one of the release before
        if (run / "recipe.json").is_file():
            shutil.copyfile(run / "recipe.json", RELEASE / "recipe.json")
    save_model(RELEASED_WEIGHTS, model.half(), config)
    arguments = ["--run", str(RELEASE), "--data", options.data, "--out", str(RELEASE)]
    arguments += ["--train", options.train] if options.train else []
    arguments += [word for other in options.beside for word in ("--beside", other)]
    if status := score(arguments, sample_photos()):
        sys.exit(status)  # it has said why
    save_palettes(sample_photos(), RELEASE / "figures" / "palettes.png", reduce=2)
    save_palettes(sample_photos("gray"), RELEASE / "figures" / "black_and_white.png")
    write_text(RELEASE / "MODEL_CARD.md", model_card(RELEASE))


if __name__ == "__main__":
    main()

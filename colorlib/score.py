"""Judge a run on photos that it has not seen: its folder in, tables, text and pictures out.

python -m colorlib.score --run NAME --data FOLDER [--beside OTHER=LABEL …] [--train FOLDER] [--lpips]
"""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from colorlib.analysis import Failures, tone_changes
from colorlib.checkpoint import find_run
from colorlib.color import rgb_to_lab
from colorlib.colorize import Colorizer, palette_strip
from colorlib.data import find_images, sample_photos
from colorlib.environment import outputs_dir
from colorlib.evaluation import constant_color, evaluate_model, format_summary
from colorlib.files import replacing, write_text
from colorlib.perceptual import load_lpips
from colorlib.photo import PhotoError, read_photo, resize_photo, to_tensor
from colorlib.plots import plot_metrics_distribution, sample_grid, save_comparison, save_figure

SHOWN = 10  # photos that get a picture
TOGETHER = 16  # photos that are predicted and scored at a time
TONED = 50  # photos, drawn evenly, on which changes of L are tried
AVERAGED = 1000  # training photos, drawn evenly, whose mean colour is taken


def score_run(
    run: str | os.PathLike,
    photos: Sequence[str | os.PathLike],
    out: str | os.PathLike | None = None,
    shown: Sequence[str | os.PathLike] | None = None,
    beside: Mapping[str, str] | None = None,
    lpips: bool = False,
) -> pd.DataFrame:
    """Evaluate a trained run and leave the results as files, each of them whole or not there.

    run: a run's name or folder. photos: paths, which the run should not have seen (`unseen` picks them). out:
    folder for the results, by default the run's in outputs/ (a run among Kaggle's inputs cannot be written to).
    shown: the photos that get a picture, by default the first ten; others than the scored ones where those may
    not be published. beside: other runs to score on the same photos, label → name or folder. lpips: score it too, see
    `perceptual`. Methods of the table: "model", the others, "mean colour" where baseline.json (`mean_color`) lies in
    `out` or the run, and "gray". Writes metrics.csv, metrics_summary.txt, failures.csv and tones.csv (see `analysis`),
    comparisons/comparison_000.png … (in place of those that lie there), figures/examples.png (gray, predicted, true;
    half size) and figures/metrics_distribution.png.
    Returns the table of `evaluate_model`, raises like it, and `FileNotFoundError` without such a run. See
    tests/test_score.py.
    """
    run = find_run(str(run))
    out = outputs_dir() / run.name if out is None else Path(out)
    colorizer = Colorizer.from_run(run, precision="float32")  # the same scores on every device
    methods = {"model": colorizer.predict_ab}
    for label, other in (beside or {}).items():
        methods[label] = Colorizer.from_run(other, precision="float32").predict_ab
    baseline = next((path for folder in (out, run) if (path := folder / "baseline.json").is_file()), None)
    if baseline:
        methods["mean colour"] = constant_color(*json.loads(baseline.read_text(encoding="utf-8"))["mean_ab"])
    else:
        print("no mean colour beside it: there is no baseline.json; --train FOLDER makes one of the training photos")
    extra = {"lpips": load_lpips(colorizer.device)} if lpips else None
    failures = Failures()
    metrics = evaluate_model(
        methods, photos, on_photo=failures.add, batch=TOGETHER, device=colorizer.device, extra=extra
    )
    write_text(out / "metrics.csv", metrics.to_csv(index=False, lineterminator="\n"))
    write_text(out / "metrics_summary.txt", format_summary(metrics))
    write_text(out / "failures.csv", failures.table().to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    read = [path for path in photos if Path(path).name not in dict(metrics.attrs["skipped"])]
    tones = tone_changes(colorizer.predict_ab, read[:: -(-len(read) // TONED)])
    write_text(out / "tones.csv", tones.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    two = metrics[metrics["method"].isin(["model", "gray"])]
    save_figure(plot_metrics_distribution(two), out / "figures" / "metrics_distribution.png")

    for earlier in (out / "comparisons").glob("comparison_*.png"):
        earlier.unlink()
    columns = []

    def compare(name: str, pictures: dict, scores: dict) -> None:
        path = out / "comparisons" / f"comparison_{len(columns):03d}.png"
        save_comparison(path, **pictures, scores=scores, title=name)
        columns.append(pictures)

    shown = photos[:SHOWN] if shown is None else shown
    evaluate_model(colorizer.predict_ab, shown, progress=False, on_photo=compare)
    rows = [[pictures[row] for pictures in columns] for row in ("gray", "predicted", "true")]
    with replacing(out / "figures" / "examples.png") as temporary:
        Image.fromarray(sample_grid(rows)).reduce(2).save(temporary)
    return metrics


def mean_color(run: str | os.PathLike, photos: Sequence[Path], out: str | os.PathLike) -> tuple[float, float]:
    """The mean a* and b* of a run's training photos, also written to baseline.json in the folder `out`.

    photos: paths, among them those that split.json names as training photos; 1,000 of these, drawn evenly, at 64 px,
    stand for all. Raises `ValueError` when there is none, `FileNotFoundError` without the run or its split.json.
    """
    split = json.loads((find_run(str(run)) / "split.json").read_text(encoding="utf-8"))
    names = {Path(name).name for name in split["train"]}
    chosen = [path for path in photos if path.name in names]
    if not chosen:
        raise ValueError(f"none of the {len(photos)} photos is a training photo of the run: name their folder")
    colors = []
    for path in chosen[:: -(-len(chosen) // AVERAGED)]:
        try:
            colors.append(rgb_to_lab(to_tensor(resize_photo(read_photo(path), 64)))[1:].mean(dim=(1, 2)).tolist())
        except PhotoError as error:
            print(f"left out of the mean colour: {error}")
    a, b = np.mean(colors, axis=0).tolist()
    write_text(Path(out) / "baseline.json", json.dumps({"mean_ab": [a, b], "photos": len(colors)}) + "\n")
    return a, b


def save_palettes(
    run: str | os.PathLike, photos: Sequence[str | os.PathLike], path: str | os.PathLike, reduce: int = 1
) -> None:
    """Save a picture of photos, coloured below, each with the palette that was chosen for it.

    run: a run's name or folder. photos: paths. path: of a PNG file. reduce: 2 halves the picture. Raises
    `FileNotFoundError` without such a run. Checked by tests/test_score.py.
    """
    side = 256
    colorizer = Colorizer.from_run(run, precision="float32")
    before = [resize_photo(read_photo(photo), side) for photo in photos]
    after = [colorizer.colorize(photo) for photo in before]
    picture = sample_grid([before, after])
    if palettes := [palette for photo in before if (palette := colorizer.palette(photo))]:
        strips = [palette_strip(colors[0], shares[0], width=side) for colors, shares in palettes]
        picture = np.vstack([picture, sample_grid([strips])[4:]])
    with replacing(path) as temporary:
        Image.fromarray(picture).reduce(reduce).save(temporary)


def unseen(run: str | os.PathLike, photos: Sequence[Path]) -> list[Path]:
    """Leave out the photos that a run was trained or chosen on, by the relative paths in its split.json.

    run: a run's name or folder; without a split.json, nothing is left out. Raises `FileNotFoundError` when it
    does not exist and `ValueError` when no photo is left. Checked by tests/test_score.py.
    """
    path = find_run(str(run)) / "split.json"
    split = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    seen = {*split.get("train", []), *split.get("val", [])}
    tails = {photo: Path(photo).absolute().parts for photo in photos}
    kept = [p for p, t in tails.items() if not any("/".join(t[i:]) in seen for i in range(len(t)))]
    if not kept:
        raise ValueError(f"the run was trained or chosen on all {len(photos)} photos: judge it on others")
    return kept


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line (see `--help`), score the run on photos it has not seen, print the summary."""
    parser = argparse.ArgumentParser(prog="python -m colorlib.score", description="Judge a trained run.")
    parser.add_argument("--run", default="", help="a run's name or folder (default: the release)")
    parser.add_argument("--data", required=True, help="folder of photos; those the run has seen are left out")
    parser.add_argument("--out", help="folder for the results (default: the run's)")
    parser.add_argument("--show-samples", action="store_true", help="make pictures of the bundled sample photos only")
    parser.add_argument("--beside", action="append", default=[], metavar="RUN[=LABEL]", help="score this run, too")
    parser.add_argument("--train", help="folder of the training photos: score their mean colour, too")
    parser.add_argument("--lpips", action="store_true", help="score LPIPS, too: pip install '.[lpips]'")
    options = parser.parse_args(arguments)
    others = {label or name: name for name, _, label in (text.partition("=") for text in options.beside)}
    photos = find_images(options.data)
    kept = unseen(options.run, photos)
    for other in others.values():
        kept = unseen(other, kept)
    print(f"{len(kept)} photos to judge on; {len(photos) - len(kept)} left out: the run was made with them")
    shown = unseen(options.run, sample_photos()) if options.show_samples else None
    out = outputs_dir() / find_run(options.run).name if options.out is None else Path(options.out)
    if options.train:
        a, b = mean_color(options.run, find_images(options.train), out)
        print(f"mean colour of the training photos: a* {a:.2f}, b* {b:.2f}")
    print(format_summary(score_run(options.run, kept, out, shown, others, options.lpips)), end="")
    if shown:
        save_palettes(options.run, shown, out / "figures" / "palettes.png", reduce=2)
        save_palettes(options.run, sample_photos("gray"), out / "figures" / "black_and_white.png")


if __name__ == "__main__":
    main()

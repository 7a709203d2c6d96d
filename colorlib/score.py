"""Judge a run on photos that it has not seen: its folder in, tables, text and pictures out.

python -m colorlib.score --run NAME --data FOLDER
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from colorlib.checkpoint import find_run
from colorlib.colorize import Colorizer
from colorlib.data import find_images
from colorlib.evaluation import evaluate_model, format_summary
from colorlib.files import write_text
from colorlib.plots import plot_metrics_distribution, save_comparison, save_figure


def score_run(
    run: str | os.PathLike,
    photos: Sequence[str | os.PathLike],
    out: str | os.PathLike | None = None,
    comparisons: int = 10,
) -> pd.DataFrame:
    """Evaluate a trained run and leave the results as files, each of them whole or not there.

    run: a run's name or folder. photos: paths, which the run should not have seen (`unseen` picks them). out:
    folder for the results, by default the run's. comparisons: how many photos get a picture, the first ones.
    Writes metrics.csv, metrics_summary.txt, comparisons/comparison_000.png … and the figure
    figures/metrics_distribution.png; removes other comparisons that lie there. Returns the table of
    `evaluate_model`, raises like it, and `FileNotFoundError` without such a run. See tests/test_score.py.
    """
    run = find_run(str(run))
    out = Path(run if out is None else out)
    colorizer = Colorizer.from_run(str(run))
    written = []

    def compare(name: str, pictures: dict, scores: dict) -> None:
        if len(written) < comparisons:
            written.append(out / "comparisons" / f"comparison_{len(written):03d}.png")
            save_comparison(written[-1], **pictures, scores=scores, title=name)

    metrics = evaluate_model(colorizer.predict_ab, photos, on_photo=compare)
    for earlier in set((out / "comparisons").glob("comparison_*.png")) - set(written):
        earlier.unlink()
    write_text(out / "metrics.csv", metrics.to_csv(index=False, lineterminator="\n"))
    write_text(out / "metrics_summary.txt", format_summary(metrics))
    save_figure(plot_metrics_distribution(metrics), out / "figures" / "metrics_distribution.png")
    return metrics


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
    parser.add_argument("--run", default="", help="a run's name or folder (default: the newest run)")
    parser.add_argument("--data", required=True, help="folder of photos; those the run has seen are left out")
    parser.add_argument("--out", help="folder for the results (default: the run's)")
    parser.add_argument("--comparisons", type=int, default=10, help="photos that get a picture (default: 10)")
    options = parser.parse_args(arguments)
    photos = find_images(options.data)
    kept = unseen(options.run, photos)
    print(f"{len(kept)} photos to judge on; {len(photos) - len(kept)} left out: the run was made with them")
    print(format_summary(score_run(options.run, kept, options.out, options.comparisons)), end="")


if __name__ == "__main__":
    main()

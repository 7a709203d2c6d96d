"""Judge a run on photos that it has not seen: its folder in; tables, text and pictures out."""

import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from PIL import Image

from colorlib.checkpoint import find_run
from colorlib.color import rgb_to_lab
from colorlib.colorize import Colorizer
from colorlib.evaluation.evaluate import constant_color, evaluate_model
from colorlib.evaluation.failures import Failures
from colorlib.evaluation.statistics import format_summary
from colorlib.plots import plot_comparison, plot_metrics_distribution, sample_grid
from colorlib.system import PhotoCache, outputs_dir, write_text, write_whole

SHOWN = 10  # photos that get a picture
AVERAGED = 1000  # training photos, drawn evenly, whose mean color stands for that of all


def score_run(
    run: str | os.PathLike, photos: Sequence[str | os.PathLike], out: str | os.PathLike | None = None,
    shown: Sequence[str | os.PathLike] | None = None, beside: Mapping[str, str] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Evaluate a trained run, beside gray and beside the mean color of its training photos if `mean_color` was called.

    Writes metrics.csv, metrics_summary.txt, failures.csv, comparisons/comparison_000.png …, figures/examples.png
    (gray, predicted, true) and figures/metrics_distribution.png; returns `evaluate_model`'s table.

    A run is a name or a folder; `beside` has others to score on the same photos, by label. The photos should be new to
    all of them, see `unseen`. The first ten get a picture, or those that are `shown`: scored photos may not be free to
    publish. The results go to `out`, or else to the run's folder in outputs/: Kaggle's inputs cannot be written to.
    """
    run = find_run(run)
    out = outputs_dir() / run.name if out is None else Path(out)
    runs = {"model": run} | dict(beside or {})
    methods = {label: Colorizer.from_run(name, precision="float32").predict_ab for label, name in runs.items()}
    if baseline := next((path for folder in (out, run) if (path := folder / "baseline.json").is_file()), None):
        methods["mean color"] = constant_color(*json.loads(baseline.read_text(encoding="utf-8"))["mean_ab"])
    else:
        print("no mean color beside it: there is no baseline.json; --train FOLDER makes one of the training photos")
    failures = Failures()
    metrics = evaluate_model(methods, photos, on_photo=failures.add)
    write_text(out / "metrics.csv", metrics.to_csv(index=False, lineterminator="\n"))
    write_text(out / "metrics_summary.txt", format_summary(metrics))
    write_text(out / "failures.csv", failures.table().to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    two = metrics[metrics["method"].isin(["model", "gray"])]
    plot_metrics_distribution(two).savefig(file := io.BytesIO())
    write_whole(out / "figures" / "metrics_distribution.png", file.getbuffer())

    for earlier in (out / "comparisons").glob("comparison_*.png"):
        earlier.unlink()
    shown, seen = photos[:SHOWN] if shown is None else shown, []
    evaluate_model(methods["model"], shown, progress=False, on_photo=lambda *photo: seen.append(photo))
    for number, (name, pictures, scores) in enumerate(seen):
        plot_comparison(**pictures, scores=scores, title=name).savefig(file := io.BytesIO())
        write_whole(out / "comparisons" / f"comparison_{number:03d}.png", file.getbuffer())
    examples = sample_grid([[pictures[row] for _, pictures, _ in seen] for row in ("gray", "predicted", "true")])
    Image.fromarray(examples).reduce(2).save(file := io.BytesIO(), "PNG")
    write_whole(out / "figures" / "examples.png", file.getbuffer())
    return metrics


def mean_color(run: str | os.PathLike, photos: Sequence[Path], out: str | os.PathLike) -> tuple[float, float]:
    """Average a* and b* over a run's training photos among `photos` into `out`/baseline.json; `ValueError` if none."""
    split = json.loads((find_run(run) / "split.json").read_text(encoding="utf-8"))
    names = {Path(name).name for name in split["train"]}
    chosen = [path for path in photos if path.name in names]
    if not chosen:
        raise ValueError(f"none of the {len(photos)} photos is a training photo of the run: name their folder")
    pictures = PhotoCache(chosen[:: -(-len(chosen) // AVERAGED)], side=64)
    rgb = pictures[torch.arange(len(pictures))].permute(0, 3, 1, 2) / 255
    a, b = rgb_to_lab(rgb)[:, 1:].mean(dim=(0, 2, 3)).tolist()
    write_text(Path(out) / "baseline.json", json.dumps({"mean_ab": [a, b], "photos": len(pictures)}) + "\n")
    return a, b


def unseen(run: str | os.PathLike, photos: Sequence[Path]) -> list[Path]:
    """Leave out the photos that a run was trained or chosen on: those whose paths end as a path in its split.json does.

    Without a split.json, none is left out. `ValueError` if no photo is left.
    """
    path = find_run(run) / "split.json"
    split = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    seen = {*split.get("train", []), *split.get("val", [])}
    kept = []
    for photo in photos:
        path = photo.absolute()
        if seen.isdisjoint(path.relative_to(folder).as_posix() for folder in path.parents):
            kept.append(photo)
    if not kept:
        raise ValueError(f"the run was trained or chosen on all {len(photos)} photos: judge it on others")
    return kept

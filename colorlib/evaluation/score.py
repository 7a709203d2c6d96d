"""Judge a run on photos that it has not seen: its folder in; tables, text and pictures out."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from colorlib.checkpoint import find_run
from colorlib.color import rgb_to_lab
from colorlib.colorize import Colorizer, palette_strip
from colorlib.evaluation.evaluate import constant_color, evaluate_model
from colorlib.evaluation.failures import Failures, tone_changes
from colorlib.evaluation.statistics import format_summary
from colorlib.photo import read_photo, resize_photo, to_tensor
from colorlib.plots import plot_comparison, plot_metrics_distribution, sample_grid, save_figure
from colorlib.system import PhotoCache, outputs_dir, replacing, write_text

SHOWN = 10  # photos that get a picture
TONED = 50  # photos, drawn evenly, on which changes of L are tried
AVERAGED = 1000  # training photos, drawn evenly, whose mean color is taken


def score_run(
    run: str | os.PathLike,
    photos: Sequence[str | os.PathLike],
    out: str | os.PathLike | None = None,
    shown: Sequence[str | os.PathLike] | None = None,
    beside: Mapping[str, str] | None = None,
    lpips: bool = False,
) -> pd.DataFrame:
    """Evaluate a trained run, beside gray and beside the mean color of its training photos if `mean_color` was called.

    Writes metrics.csv, metrics_summary.txt, failures.csv, tones.csv, comparisons/comparison_000.png …,
    figures/examples.png (gray, predicted, true) and figures/metrics_distribution.png; returns `evaluate_model`'s table.

    Args:
        run: A run's name or folder.
        photos: Paths of photos that the run has not seen; see `unseen`.
        out: Folder for the results; None: the run's in outputs/, since Kaggle's inputs cannot be written to.
        shown: Photos that get a picture; None: the first ten. Scored photos may not be free to publish.
        beside: Other runs to score on the same photos, label → name or folder.
        lpips: Score LPIPS, too; see `load_lpips`.
    """
    run = find_run(run)
    out = outputs_dir() / run.name if out is None else Path(out)
    runs = {"model": run} | dict(beside or {})
    colorizers = {label: Colorizer.from_run(name, precision="float32") for label, name in runs.items()}
    methods = {label: colorizer.predict_ab for label, colorizer in colorizers.items()}
    if baseline := next((path for folder in (out, run) if (path := folder / "baseline.json").is_file()), None):
        methods["mean color"] = constant_color(*json.loads(baseline.read_text(encoding="utf-8"))["mean_ab"])
    else:
        print("no mean color beside it: there is no baseline.json; --train FOLDER makes one of the training photos")
    device, failures = colorizers["model"].device, Failures()
    extra = {"lpips": load_lpips(device)} if lpips else None
    metrics = evaluate_model(methods, photos, on_photo=failures.add, device=device, extra=extra)
    read = [path for path in photos if Path(path).name not in dict(metrics.attrs["skipped"])]
    tones = tone_changes(methods["model"], read[:: -(-len(read) // TONED)])
    write_text(out / "metrics.csv", metrics.to_csv(index=False, lineterminator="\n"))
    write_text(out / "metrics_summary.txt", format_summary(metrics))
    for name, table in {"failures": failures.table(), "tones": tones}.items():
        write_text(out / f"{name}.csv", table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    two = metrics[metrics["method"].isin(["model", "gray"])]
    save_figure(plot_metrics_distribution(two), out / "figures" / "metrics_distribution.png")

    for earlier in (out / "comparisons").glob("comparison_*.png"):
        earlier.unlink()
    shown, seen = photos[:SHOWN] if shown is None else shown, []
    evaluate_model(methods["model"], shown, progress=False, on_photo=lambda *photo: seen.append(photo), device=device)
    for number, (name, pictures, scores) in enumerate(seen):
        figure = plot_comparison(**pictures, scores=scores, title=name)
        save_figure(figure, out / "comparisons" / f"comparison_{number:03d}.png")
    examples = sample_grid([[pictures[row] for _, pictures, _ in seen] for row in ("gray", "predicted", "true")])
    with replacing(out / "figures" / "examples.png") as temporary:
        Image.fromarray(examples).reduce(2).save(temporary)
    return metrics


def mean_color(run: str | os.PathLike, photos: Sequence[Path], out: str | os.PathLike) -> tuple[float, float]:
    """Average a* and b* over a run's training photos among `photos`, and leave them in `out`/baseline.json.

    1,000 of them, drawn evenly, at 64 px, stand for all. `ValueError` if there is no training photo.
    """
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


def save_palettes(run: str | os.PathLike, photos: Sequence, path: str | os.PathLike, reduce: int = 1) -> None:
    """Save photos above, colored below, with the palette that a run chose for each, as a PNG; `reduce` 2 halves it."""
    colorizer = Colorizer.from_run(run, precision="float32")
    before = [resize_photo(read_photo(photo), 256) for photo in photos]
    picture = sample_grid([before, [colorizer.colorize(photo) for photo in before]])
    if palettes := [palette for photo in before if (palette := colorizer.palette(photo))]:
        strips = [palette_strip(palette.colors[0], palette.shares[0], width=256) for palette in palettes]
        picture = np.vstack([picture, sample_grid([strips])[4:]])
    with replacing(path) as temporary:
        Image.fromarray(picture).reduce(reduce).save(temporary)


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


def load_lpips(device: str | torch.device = "cpu") -> Callable[[np.ndarray, np.ndarray], float]:
    """Load LPIPS 0.1 on AlexNet (Zhang et al. 2018, arXiv:1801.03924) for `extra` of `evaluate_model`; by torchmetrics.

    `OSError` if torchmetrics is not installed, or AlexNet's weights (233 MB, fetched once) cannot be downloaded.
    """
    try:
        from torchmetrics.functional.image.lpips import _NoTrainLpips

        network = _NoTrainLpips(net="alex").to(device).eval()
    except (ImportError, OSError, RuntimeError) as error:  # not installed, no network, or a file that was cut short
        remedy = "pip install 'colorlib[lpips]' and score once with internet, or score without --lpips"
        raise OSError(f"LPIPS cannot be computed ({error}): {remedy}") from error

    @torch.inference_mode()
    def distance(true: np.ndarray, predicted: np.ndarray) -> float:
        return network(*(to_tensor(picture)[None].to(device) * 2 - 1 for picture in (true, predicted))).item()

    return distance

"""The scores of many photos in a few lines: means, verdicts, and whether a difference is more than luck."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from scipy.stats import bootstrap, permutation_test, wilcoxon

from colorlib.metrics import METRICS, pooled_psnr

VERDICTS = {  # the first word above its bound, the others from their bound on
    "psnr": ((40, "Excellent"), (30, "Good"), (20, "Acceptable"), (-np.inf, "Poor")),
    "ssim": ((0.9, "Excellent"), (0.7, "Good"), (0.5, "Moderate"), (-np.inf, "Poor")),
    "snr": ((20, "Good"), (-np.inf, "Below good")),
}
VERDICTS["pooled_psnr"] = VERDICTS["psnr"]
COLUMNS = ["subset", "metric", "method", "mean", "std", "min", "max", "count", "infinite", "verdict"]
DRAWS = {"n_resamples": 2000, "batch": 500, "rng": 0}  # of photos for an interval, of signs for a p-value
TITLES = {"all": "All photos", "in_color": "Photos in color", "near_gray": "Near-gray photos"}


def verdict(metric: str, value: float) -> str:
    """Put a score into a word ("rmse" by the PSNR that it makes); gray earns good words too: read both side by side."""
    if metric == "rmse":
        metric, value = "psnr", pooled_psnr([value])
    if metric not in VERDICTS:
        raise ValueError(f"expected a metric with thresholds, rmse or one of {[*VERDICTS]}, got {metric!r}")
    (top, best), *others = VERDICTS[metric]
    return best if value > top else next((word for bound, word in others if value >= bound), "n/a")


def summarize(metrics: pd.DataFrame) -> pd.DataFrame:
    """Condense the table of `evaluate_model` to a row a subset, metric and method.

    Returns:
        subset (of the photos: "all", "in_color", "near_gray"), metric, method, mean, std (population), min, max, count
        (photos), infinite (values of ±inf, which the four numbers leave out), verdict (of the mean).
    """
    metrics, rows = _checked(metrics, ["in_color"]), []
    for subset, chosen in _subsets(metrics).items():
        for name in _known(metrics):
            for method, table in chosen.groupby("method", sort=False):
                if name == "pooled_psnr":
                    row = {"mean": pooled_psnr(table["rmse"]), "infinite": int(not table["rmse"].any())}
                else:
                    finite = table[name][np.isfinite(table[name])]
                    row = {"mean": finite.mean(), "std": finite.std(ddof=0), "infinite": len(table) - len(finite)}
                    row |= {"min": finite.min(), "max": finite.max()}
                row["verdict"] = verdict(name, row["mean"]) if name in (*VERDICTS, "rmse") else ""
                rows.append({"subset": subset, "metric": name, "method": method, "count": len(table)} | row)
    return pd.DataFrame(rows, columns=COLUMNS)


def format_summary(metrics: pd.DataFrame) -> str:
    """Lay the numbers of `summarize` out as text, and say how often each method beats gray."""
    metrics = _checked(metrics, ["psnr", "true_colorfulness", "in_color"], ["gray"])
    summary, lines = summarize(metrics), []
    for subset, chosen in _subsets(metrics).items():
        table = summary[summary["subset"] == subset]
        title = f"{TITLES[subset]}: {table['count'].iloc[0]}"
        lines += ["", "", f"{title:33}     mean      std      min      max  infinite  verdict", "-" * 91]
        for row in table.itertuples():
            metric = METRICS[row.metric]
            label = metric.title if row.method == table["method"].iloc[0] else ""
            cells = "".join(f"{x:9.{metric.digits}f}" for x in (row.mean, row.std, row.min, row.max))
            line = f"{label:<17} {row.method:<15}{cells}{row.infinite:10}  {row.verdict}"
            lines.append(line.replace("nan", "   ").rstrip())
        lines += ["", f"Colorfulness of the photos themselves: {chosen['true_colorfulness'].mean():.1f}"]
        for method in chosen.loc[chosen["method"] != "gray", "method"].unique():
            wins, photos = count_wins(chosen, method)
            lines.append(f"{method} beats gray, by PSNR, on {wins} of {photos} photos ({wins / photos:.1%})")
        if subset == "near_gray":
            lines.append("They are: " + ", ".join(chosen["image"].unique()))
    lines += ["", "Infinite values are counted, and kept out of mean, std, min and max."]
    lines += [f"Skipped: {reason}" for _, reason in metrics.attrs.get("skipped", [])]
    return "\n".join(lines).strip() + "\n"


def count_wins(metrics: pd.DataFrame, method: str = "model") -> tuple[int, int]:
    """Count the photos on which `method` has a higher PSNR than gray (a tie is no win), and all photos."""
    metrics = _checked(metrics, ["psnr"], [method, "gray"])
    nth = metrics.groupby(["method", "image"]).cumcount()  # tells photos of one name apart
    psnr = metrics.assign(nth=nth).pivot(index=["image", "nth"], columns="method", values="psnr")
    return int((psnr[method] > psnr["gray"]).sum()), int(psnr[method].count())


def compare_methods(metrics: pd.DataFrame, method: str = "model", other: str = "gray") -> pd.DataFrame:
    """Say by how much a method is ahead of another on the same photos, and whether that may be luck.

    The interval is a percentile bootstrap (Efron 1979, doi:10.1214/aos/1176344552) over photos. Both p-values are
    two-sided. Wilcoxon's signed ranks (1945, doi:10.2307/3001968) are not decided by a few large differences. The
    permutation test asks how often the mean is as far from zero when the sign of each photo's difference is random.
    Photos with an infinite value are left out of that metric.

    Returns:
        A row a metric: metric, each method's mean, difference, low and high (95%), wilcoxon, permutation. The p-values
        of pooled_psnr are those of the squared errors.
    """
    metrics = _checked(metrics, [], [method, other])
    mine, theirs = (metrics[metrics["method"] == name].reset_index(drop=True) for name in (method, other))
    if list(mine["image"]) != list(theirs["image"]):
        raise ValueError(f"{method} and {other} were scored on different photos: score them together")
    rows = []
    for name in _known(metrics):
        pooled = name == "pooled_psnr"
        x, y = (table["rmse" if pooled else name].to_numpy() for table in (mine, theirs))
        finite = np.isfinite(x) & np.isfinite(y)
        x, y = x[finite], y[finite]
        if len(x) < 2:
            raise ValueError(f"expected two photos or more with a finite {name} by both methods, got {len(x)}")
        average, differences = (pooled_psnr, x**2 - y**2) if pooled else (np.mean, x - y)
        options = {"paired": True, "vectorized": False, "method": "percentile"} | DRAWS
        interval = bootstrap((x, y), lambda x, y, of=average: of(x) - of(y), **options).confidence_interval
        ranks = wilcoxon(differences).pvalue if differences.any() else 1.0
        signs = permutation_test((differences,), np.mean, permutation_type="samples", **DRAWS).pvalue
        rows.append([name, average(x), average(y), average(x) - average(y), *interval, ranks, signs])
    return pd.DataFrame(rows, columns=["metric", method, other, "difference", "low", "high", "wilcoxon", "permutation"])


def _checked(metrics: pd.DataFrame, columns: Sequence[str], methods: Sequence[str] = ()) -> pd.DataFrame:
    """The table, numbered anew; `ValueError` if a column or method is missing, or its rows are not one for each."""
    expected = "expected a table of evaluate_model, but"
    if missing := [name for name in ("image", "method", *columns) if name not in metrics]:
        raise ValueError(f"{expected} it has no column {', '.join(missing)}")
    scores = [name for name in METRICS if name in metrics]
    if not scores or not len(metrics):
        raise ValueError(f"{expected} it has no {'rows' if scores else 'column of a metric'}")
    if wrong := [name for name in scores if not is_numeric_dtype(metrics[name])]:
        raise ValueError(f"{expected} the values of {', '.join(wrong)} are no numbers")
    empty = metrics[list(dict.fromkeys(["image", "method", *columns, *scores]))].isna().any()
    if empty.any():
        raise ValueError(f"{expected} values of {', '.join(empty[empty].index)} are missing")
    if missing := [name for name in methods if name not in set(metrics["method"])]:
        have = sorted(set(metrics["method"]))
        raise ValueError(f"the table has no method {missing[0]!r}, only {have}")
    paired = metrics[metrics["method"].isin(methods)] if len(methods) == 2 else metrics
    counts = paired.groupby(["image", "method"]).size().unstack(fill_value=0)
    uneven = counts[counts.ne(counts.iloc[:, 0], axis=0).any(axis=1)]
    if len(uneven):
        rows = ", ".join(f"{count} of {name}" for name, count in uneven.iloc[0].items())
        raise ValueError(f"{expected} of the photo {uneven.index[0]} it has these rows: {rows}")
    doubled = metrics[metrics.duplicated()]
    if len(doubled):
        photo = doubled["image"].iloc[0]
        raise ValueError(f"{expected} rows are doubled, such as those of {photo}: drop_duplicates() mends it")
    return metrics.reset_index(drop=True)


def _known(metrics: pd.DataFrame) -> list[str]:
    """The metrics that a table has, in the order of METRICS."""
    return [name for name in METRICS if name in metrics or (name == "pooled_psnr" and "rmse" in metrics)]


def _subsets(metrics: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """All photos, those in color and those that are nearly gray, where there are any."""
    in_color = metrics["in_color"].astype(bool)
    subsets = {"all": metrics, "in_color": metrics[in_color], "near_gray": metrics[~in_color]}
    return {name: table for name, table in subsets.items() if len(table)}

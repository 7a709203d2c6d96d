"""The scores of many photos in a few lines: means, spreads, verdicts. Checked by tests/test_evaluation.py."""

from itertools import product

import numpy as np
import pandas as pd

from colorlib.compare import MAX, count_wins, pooled_psnr

VERDICTS = {  # the first word above its bound, the others from their bound on
    "psnr": ((40, "Excellent"), (30, "Good"), (20, "Acceptable"), (-np.inf, "Poor")),
    "ssim": ((0.9, "Excellent"), (0.7, "Good"), (0.5, "Moderate"), (-np.inf, "Poor")),
    "snr": ((20, "Good"), (-np.inf, "Below good")),
}
VERDICTS["pooled_psnr"] = VERDICTS["psnr"]
COLUMNS = ["subset", "metric", "method", "mean", "std", "min", "max", "count", "infinite", "verdict"]
LABELS = {  # of the summary's rows, with the decimals worth printing
    "psnr": ("PSNR (dB)", 2), "ssim": ("SSIM", 4), "rmse": ("RMSE (levels)", 2), "snr": ("SNR (dB)", 2),
    "pooled_psnr": ("Pooled PSNR (dB)", 2), "ab_error": ("L1 of a*b*", 2), "ciede2000": ("CIEDE2000", 2),
    "ab_histogram": ("ab histogram", 3), "lpips": ("LPIPS", 3), "colorfulness": ("Colourfulness", 1),
    "colorfulness_error": ("… off by", 1),
}  # fmt: skip
TITLES = {"all": "All photos", "in_color": "Photos in colour", "near_gray": "Near-gray photos"}


def verdict(metric: str, value: float) -> str:
    """Put a number into a word; gray earns good words too, so read a model's beside gray's.

    metric: a key of VERDICTS, or "rmse", with the bounds of the PSNR it makes (2.55, 8.06 and 25.5 levels).
    Returns "n/a" for NaN. Raises `ValueError` for other metrics. Checked by tests/test_evaluation.py.
    """
    if metric == "rmse":
        metric, value = "psnr", 20 * np.log10(MAX / value) if value else np.inf
    if metric not in VERDICTS:
        raise ValueError(f"expected a metric with thresholds, rmse or one of {[*VERDICTS]}, got {metric!r}")
    (top, best), *others = VERDICTS[metric]
    return best if value > top else next((word for bound, word in others if value >= bound), "n/a")


def summarize(metrics: pd.DataFrame) -> pd.DataFrame:
    """Condense `evaluation.evaluate_model`'s table to a row a subset, method and metric.

    Columns: subset ("all", "in_color", "near_gray", each if there are such photos), metric (those of LABELS that the
    table has), method, mean, std (population), min, max, count (photos), infinite (how many are ±inf: kept out of
    those four), verdict (of the mean). "pooled_psnr" is the PSNR of the mean MSE, found under mean. By hand in
    tests/test_evaluation.py.
    """
    rows = []
    known = [metric for metric in LABELS if metric in metrics or metric == "pooled_psnr"]
    in_color = metrics["in_color"].astype(bool)
    for subset, chosen in {"all": metrics, "in_color": metrics[in_color], "near_gray": metrics[~in_color]}.items():
        for metric, (method, table) in product(known, chosen.groupby("method", sort=False)):
            if metric == "pooled_psnr":
                row = {"mean": pooled_psnr(table["rmse"]), "infinite": int(not table["rmse"].any())}
            else:
                finite = table[metric][np.isfinite(table[metric])]
                row = {"mean": finite.mean(), "std": finite.std(ddof=0), "infinite": len(table) - len(finite)}
                row |= {"min": finite.min(), "max": finite.max()}
            judged = metric == "rmse" or metric in VERDICTS
            row["verdict"] = verdict(metric, row["mean"]) if judged else ""
            rows.append({"subset": subset, "metric": metric, "method": method, "count": len(table)} | row)
    return pd.DataFrame(rows, columns=COLUMNS)


def format_summary(metrics: pd.DataFrame) -> str:
    """Lay `summarize`'s numbers out as text, gray below the other methods, and tell how often each beats gray."""
    lines = []
    for subset, table in summarize(metrics).groupby("subset", sort=False):
        chosen = metrics if subset == "all" else metrics[metrics["in_color"] == (subset == "in_color")]
        title = f"{TITLES[subset]}: {table['count'].iloc[0]}"
        lines += ["", "", f"{title:33}     mean      std      min      max  infinite  verdict", "-" * 91]
        for row in table.itertuples():
            label, digits = LABELS[row.metric]
            label = label if row.method == table["method"].iloc[0] else ""
            cells = "".join(format(x, f"9.{digits}f") for x in row[4:8]).replace("nan", "   ")  # mean … max
            lines.append(f"{label:<17} {row.method:<15}{cells}{row.infinite:10}  {row.verdict}".rstrip())
        lines += ["", f"Colourfulness of the photos themselves: {chosen['true_colorfulness'].mean():.1f}"]
        for method in chosen.loc[chosen["method"] != "gray", "method"].unique():
            wins, photos = count_wins(chosen, method)
            lines.append(f"{method} beats gray, by PSNR, on {wins} of {photos} photos ({wins / photos:.1%})")
        if subset == "near_gray":
            lines.append("They are: " + ", ".join(dict.fromkeys(chosen["image"])))
    lines += ["", "Infinite values are counted, and kept out of mean, std, min and max."]
    lines += [f"Skipped: {reason}" for _, reason in metrics.attrs.get("skipped", [])]
    return "\n".join(lines).strip() + "\n"

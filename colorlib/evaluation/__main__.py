"""Judge a run on photos that it has not seen: python -m colorlib.evaluation --run NAME --data FOLDER."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from colorlib.checkpoint import find_run
from colorlib.data import find_images
from colorlib.evaluation import format_summary, mean_color, score_run, unseen
from colorlib.system import outputs_dir


def main(arguments: Sequence[str] | None = None, shown: Sequence[Path] | None = None) -> int:
    """Read the command line (see `--help`), score the run, print the summary; `shown` is as for `score_run`.

    Returns the exit status: 0 if all went well, 2 if not, 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="python -m colorlib.evaluation", description="Judge a trained run.")
    parser.add_argument("--run", help="a run's name or folder (default: the release)")
    parser.add_argument("--data", required=True, help="folder of photos; those the run has seen are left out")
    parser.add_argument("--out", type=Path, help="folder for the results (default: the run's)")
    parser.add_argument("--beside", action="append", default=[], metavar="RUN[=LABEL]", help="score this run, too")
    parser.add_argument("--train", help="folder of the training photos: score their mean color, too")
    options = parser.parse_args(arguments)
    try:
        _judge(options, shown)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _judge(options: argparse.Namespace, shown: Sequence[Path] | None) -> None:
    run = find_run(options.run)
    out = options.out or outputs_dir() / run.name
    others = _by_label(options.beside)
    photos = kept = find_images(options.data)
    for judged in (run, *others.values()):
        kept = unseen(judged, kept)
    print(f"{len(kept)} photos to judge on; {len(photos) - len(kept)} left out: a run was made with them")
    if options.train:
        a, b = mean_color(run, find_images(options.train), out)
        print(f"mean color of the training photos: a* {a:.2f}, b* {b:.2f}")
    print(format_summary(score_run(run, kept, out, shown, others)), end="")


def _by_label(texts: Sequence[str]) -> dict[str, str]:
    """The names of runs by their labels, of texts RUN=LABEL or RUN."""
    names: dict[str, str] = {}
    for name, _, label in (text.partition("=") for text in texts):
        if not name:
            raise ValueError(f"--beside takes a run's name or folder, or RUN=LABEL; got {'=' + label!r}")
        label = label or name
        if label in names:
            raise ValueError(f"two runs beside this one are called {label!r}: --beside RUN=LABEL names them apart")
        names[label] = name
    return names


if __name__ == "__main__":
    sys.exit(main())

"""`python -m colorlib photo.jpg folder/ -o out/`: colour photos and folders from the command line."""

import argparse
import sys
from collections.abc import Sequence

from colorlib.colorize import Colorizer
from colorlib.folder import FolderResult, colorize_folder
from colorlib.steer import Hint

__all__ = ["colorize_folder", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line (see `--help`), colour the photos, and say what became of them.

    Returns the exit status: 0 if all went well, 1 if photos failed, 2 if nothing could begin, 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="python -m colorlib", description="Give black-and-white photos colours.")
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="photos, and folders of them")
    parser.add_argument("-o", "--out", required=True, help="folder for the results, name-colorized.jpg and so on")
    parser.add_argument("--saturation", type=float, default=1.0, help="strength of the colours; 0: gray (default: 1)")
    parser.add_argument("--render-size", type=int, help="side in which the network sees the photo, px")
    parser.add_argument("--reference", metavar="PHOTO", help="a photo whose colours the results take on")
    hint = "a colour that the photo shall have at a point: --hint 0.5 0.3 #3060c0 (shares of width and height)"
    parser.add_argument("--hint", nargs=3, action="append", default=[], metavar=("X", "Y", "COLOR"), help=hint)
    parser.add_argument("--run", help="a run's name or folder (default: the release)")
    parser.add_argument("--overwrite", action="store_true", help="colour anew what is in the folder already")
    options = parser.parse_args(arguments)
    steering = {name: getattr(options, name) for name in ("saturation", "render_size", "reference")}
    try:
        steering["hints"] = [Hint(float(x), float(y), color) for x, y, color in options.hint]
        colorizer = Colorizer.from_run(options.run)
        result = colorize_folder(options.photos, options.out, colorizer, overwrite=options.overwrite, **steering)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _report(result)
    return 1 if result.failed else 0


def _report(result: FolderResult) -> None:
    print(f"{len(result.done)} coloured, {len(result.skipped)} there already, {len(result.failed)} failed")
    if result.sheet:
        print(f"contact sheet: {result.sheet}")
    if result.failed:
        print("failed:", file=sys.stderr)
        for path, reason in result.failed.items():
            print(f"  {path}: {reason}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

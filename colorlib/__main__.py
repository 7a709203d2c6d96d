"""`python -m colorlib photo.jpg film.mp4 folder/ -o out/`: color photos, clips and folders from the command line."""

import argparse
import io
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Color photos and clips from the command line (see `--help`), and say what became of them.

    Returns the exit status: 0 if all went well, 1 if photos failed, 2 if nothing could begin, 130 after Ctrl-C or
    SIGTERM.
    """
    parser = argparse.ArgumentParser(prog="python -m colorlib", description="Give photos and clips colors.")
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="photos, clips, and folders of them; * and ? work")
    out = "folder for the results, name-colorized.jpg and so on (default: %(default)s, here)"
    parser.add_argument("-o", "--out", default="colorized", help=out)
    parser.add_argument("--saturation", type=float, default=1.0, help="strength of the colors; 0: gray (default: 1)")
    parser.add_argument("--vividness", type=float, help="from mean (0) to likeliest color (1; default: the run's)")
    parser.add_argument("--render-size", type=int, help="side in which the network sees the photo, px")
    parser.add_argument("--reference", metavar="PHOTO", help="a photo whose colors the results take on")
    hint = "a color that the photo shall have at a point: --hint 0.5 0.3 '#3060c0' (shares of width and height)"
    parser.add_argument("--hint", nargs=3, action="append", default=[], metavar=("X", "Y", "COLOR"), help=hint)
    change = "recolor what wears a color of the palette: --palette brown=teal"
    pairs = {"dest": "recolor", "type": lambda text: text.split("="), "action": "append", "default": []}
    parser.add_argument("--palette", metavar="FROM=TO", help=change, **pairs)
    parser.add_argument("--restore", action="store_true", help="first stretch the tones of faded prints")
    share = "of a clip: share of the colors of the frames before, 0 for each frame alone (default: %(default)s)"
    parser.add_argument("--steadiness", type=float, default=0.85, help=share)
    parser.add_argument("--run", help="a run's name or folder (default: the release)")
    parser.add_argument("--overwrite", action="store_true", help="color anew what is in the folder already")
    options = vars(parser.parse_args(arguments))
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be text that it can write
        sys.stdout.reconfigure(errors="backslashreplace")
    sources, folder, run = (options.pop(name) for name in ("photos", "out", "run"))
    try:
        from colorlib.colorize import Colorizer, Hint, colorize_folder  # seconds, in which Ctrl-C may come
        from colorlib.system import stop_as_ctrl_c_does

        stop_as_ctrl_c_does()
        options["hints"] = [Hint(float(x), float(y), color) for x, y, color in options.pop("hint")]
        result = colorize_folder(sources, folder, Colorizer.from_run(run), **options)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    counts = f"{len(result.done)} colored, {len(result.skipped)} there already, {len(result.failed)} failed"
    print(f"{counts}; the results are in {result.folder}")
    if result.skipped:
        print("those there already keep the settings that they were made with; --overwrite colors them anew")
    if result.sheet:
        print(f"contact sheet: {result.sheet}")
    if earlier := result.left_out.pop("earlier result", 0):
        print(f"left out, as results of earlier calls: {earlier}")
    if result.left_out:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(result.left_out.items()))
        print(f"left out, as no photos or clips: {kinds}")
    for path, note in result.notes.items():
        print(f"note: {path}: {note}")
    for path, reason in result.failed.items():
        print(f"failed: {path}: {reason}", file=sys.stderr)
    return 1 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main())

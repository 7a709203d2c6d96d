"""The web page: colour photos in a browser, with Gradio. `python -m colorlib.app` serves it on this machine.

It needs the optional extra: `pip install '.[app]'`. Nothing leaves the machine: no analytics, no fonts from elsewhere,
no public link unless --share asks for one. Checked by tests/test_app.py, and in Chromium by tests/test_browser.py.
"""

import argparse
import functools
import html
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from colorlib.checkpoint import find_run
from colorlib.colorize import Colorizer, add_color
from colorlib.data import sample_photos
from colorlib.environment import pick_device
from colorlib.photo import PHOTO_SUFFIXES
from colorlib.steer import Hint
from colorlib.studio import Work, draw_hints, find_runs, swatches

try:
    import gradio as gr
except ModuleNotFoundError as missing:
    words = "the web page needs Gradio, which is not installed: pip install '.[app]' in colorlib's folder"
    raise (SystemExit(words) if __name__ == "__main__" else ModuleNotFoundError(words)) from missing

SUFFIXES = list(PHOTO_SUFFIXES)
UPLOAD_MB = 50  # what the page takes unless told otherwise
FONTS = ["Segoe UI", "Helvetica Neue", "Arial", "sans-serif"]  # of the reader's machine
THEME = gr.themes.Default(primary_hue="teal", neutral_hue="slate", font=FONTS, font_mono=["monospace"])
CSS = """
.gradio-container { max-width: 1180px !important; margin: auto }
.samples .grid-wrap { min-height: 0 }
.samples .grid-container { grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); overflow: hidden }
#status { opacity: 0.75 }
"""


def build_app(run: str | None = None, device: str | None = None) -> gr.Blocks:
    """The page, ready for `launch`.

    run: what is chosen at first: a run's name or folder; None: the release. device: None takes the best there is.
    Raises `FileNotFoundError` or `CheckpointError` like `Colorizer.from_run`.
    """
    networks = Networks(run, device)
    samples = [*sample_photos("color"), *sample_photos("gray")]
    with gr.Blocks(title="colorlib", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        work, hints, reference = gr.State(None), gr.State([]), gr.State(None)
        gr.Markdown("# Colour a photograph\nUpload a photo or choose a sample. Its colours, if any, are not looked at.")
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                file = gr.File(label="Your photo", file_types=SUFFIXES, height=250)
            with gr.Column(scale=5, min_width=320):
                gallery = samples_gallery(samples, "samples")
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                with gr.Tab("Before and after"):
                    compared = gr.ImageSlider(
                        label="Gray, and coloured by the network", show_label=False, type="numpy", format="jpeg",
                        interactive=False, buttons=["fullscreen"], elem_id="compared",
                    )  # fmt: skip
                with gr.Tab("Hints"):
                    gr.Markdown("Choose a colour, then click on the picture where you know it.")
                    board = gr.Image(
                        label="Hints", show_label=False, type="numpy", format="jpeg", interactive=False, buttons=[],
                        elem_id="board",
                    )  # fmt: skip
                    with gr.Row():
                        color = gr.ColorPicker("#3b6fb6", label="Colour", min_width=100)
                        undo = gr.Button("Undo the last", size="md", min_width=100)
                        clear = gr.Button("Clear", size="md", min_width=100)
                with gr.Tab("Reference"):
                    gr.Markdown("The picture takes the colours of another photo: upload one, or choose a sample.")
                    with gr.Row():
                        with gr.Column(min_width=240):
                            reference_file = gr.File(label="Reference", file_types=SUFFIXES, height=130)
                            references = samples_gallery(sample_photos("color"), "references")
                            no_reference = gr.Button("No reference", size="md")
                        recolored = gr.Image(
                            label="Your photo", type="numpy", format="jpeg", interactive=False, buttons=[],
                            elem_id="recolored",
                        )  # fmt: skip
                status = gr.Markdown(elem_id="status")
            with gr.Column(scale=2, min_width=280):
                saturation = gr.Slider(0, 2, 1, step=0.05, label="Saturation", info="0 is gray")
                side = gr.Slider(1, 4, 1, step=1, label="Render size", info="1 is the network's own; more looks closer")
                network = gr.Dropdown(list(networks.known), value=networks.first, label="Network")
                palette = gr.HTML(elem_id="palette")
                save = gr.Button("Save at full size", variant="primary", interactive=False, size="md")
                download = gr.DownloadButton("Download", visible=False, size="md", elem_id="download")

        shown = [compared, board, recolored, palette, status, save, download]
        wishes = [hints, saturation, side, network, reference]

        def show(work: Work | None, *values: Any) -> list[Any]:
            return networks.show(work, *values) if work else [gr.skip()] * len(shown)

        def open_file(path: str) -> tuple[Work, list[Hint]]:
            return Work(path), []  # the hints were another photo's

        def open_sample(event: gr.SelectData) -> tuple[Work, list[Hint]]:
            return open_file(str(samples[event.index]))

        def add_hint(event: gr.SelectData, work: Work, hints: list[Hint], color: str) -> list[Hint]:
            x, y = event.index
            width, height = work.small.size
            return [*hints, Hint(x / max(1, width - 1), y / max(1, height - 1), as_hex(color))]

        def take_reference(path: str) -> str:
            return Work(path).source  # raises for a broken one, before it is taken

        def take_sample(event: gr.SelectData) -> tuple[str, None]:
            return str(sample_photos("color")[event.index]), None

        # a photo is read first, and shown only then: what was shown stays when it is broken
        for opened in (
            file.upload(in_words(open_file), file, [work, hints]),
            gallery.select(in_words(open_sample), None, [work, hints]),
            page.load(in_words(lambda: open_file(str(samples[0]))), None, [work, hints]),
        ):
            opened.success(in_words(show), [work, *wishes], shown, show_progress_on=compared)
        gallery.select(lambda: None, None, file)
        board.select(in_words(add_hint), [work, hints, color], hints)
        undo.click(lambda hints: hints[:-1], hints, hints)
        clear.click(lambda: [], None, hints)
        reference_file.upload(in_words(take_reference), reference_file, reference)
        references.select(take_sample, None, [reference, reference_file])
        no_reference.click(lambda: (None, None), None, [reference, reference_file])
        for control in (saturation, side, network, hints, reference):
            control.change(in_words(show), [work, *wishes], shown, trigger_mode="always_last", show_progress="hidden")
        save.click(in_words(save_full_size), [work, saturation], download)
    return page


def samples_gallery(photos: Sequence[Path], name: str) -> gr.Gallery:
    """Small pictures to choose from, with their names; name: of the element on the page."""
    return gr.Gallery(
        [(str(path), path.stem.replace("_", " ")) for path in photos], show_label=False, columns=6, height="auto",
        object_fit="cover", allow_preview=False, interactive=False, buttons=[], elem_id=name, elem_classes="samples",
    )  # fmt: skip


class Networks:
    """The networks that the page offers: loaded when first asked for, kept from then on.

    run, device: see `build_app`.
    """

    def __init__(self, run: str | None = None, device: str | None = None):
        self.device = pick_device(device)
        first = find_run(run)
        self.first = first.name
        self.known = find_runs() | {first.name: first}
        self.get = functools.cache(self._load)
        self.get(self.first)

    def _load(self, name: str) -> Colorizer:
        return Colorizer.from_run(self.known[name], self.device)

    def show(
        self, work: Work, hints: Sequence[Hint], saturation: float, side: int, network: str, reference: str | None
    ) -> list[Any]:
        """What the page shows of a photo: before and after, the board for hints, palette, words, the two buttons.

        side: times the network's own. reference: the path of a photo. The network runs only for another wish.
        """
        colorizer, wish = self.get(network), (network, side, tuple(hints), reference)
        if work.wish != wish:
            render_size = None if side == 1 else int(side) * colorizer.config.image_size
            work.guess(colorizer, render_size=render_size, hints=hints, reference=reference)
            work.wish = wish
        colored = work.preview(saturation)
        pair = add_color(work.small, work.ab, saturation=0), colored
        words = f"{html.escape(str(work))}: coloured in {work.seconds:.2f} s."
        palette = swatches(colorizer.palette(work.image))
        palette = palette and f"<p>The network's palette for it</p>{palette}"
        buttons = gr.Button(interactive=True), gr.DownloadButton(visible=False)
        return [pair, draw_hints(colored, hints), colored, palette, words, *buttons]


def save_full_size(work: Work, saturation: float) -> gr.DownloadButton:
    """Write the coloured photo at its own size and format, and offer it; the page's cache holds it for an hour."""
    with tempfile.TemporaryDirectory() as folder:
        path = work.save(folder, saturation)
        kept = gr.processing_utils.save_file_to_cache(path, cache_dir=gr.utils.get_upload_folder())
    return gr.DownloadButton(f"Download {path.name}", value=kept, visible=True)


def in_words(action: Callable[..., Any]) -> Callable[..., Any]:
    """The same action, with what is wrong with a photo or a file as a message on the page."""

    @functools.wraps(action)
    def told(*values: Any, **named: Any) -> Any:
        try:
            return action(*values, **named)
        except (ValueError, OSError) as error:
            raise gr.Error(html.escape(str(error)), duration=None, print_exception=False) from error

    return told


def as_hex(color: str) -> str:
    """A colour as "#rrggbb"; Gradio's picker gives that, or "rgba(59, 111.5, 182, 1)"."""
    if color.startswith("#"):
        return color
    red, green, blue = (min(255, round(float(part))) for part in re.findall(r"[\d.]+", color)[:3])
    return f"#{red:02x}{green:02x}{blue:02x}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: serve the page until Ctrl-C. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m colorlib.app", description="A web page that colours photos.")
    parser.add_argument("--run", help="a run's name or folder (default: the release)")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the best there is)")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: %(default)s)")
    parser.add_argument("--port", type=int, help="(default: the first free one from 7860)")
    parser.add_argument("--max-upload", type=int, default=UPLOAD_MB, metavar="MB", help="(default: %(default)s)")
    parser.add_argument("--share", action="store_true", help="a public link through Gradio's servers, for a week")
    options = parser.parse_args(arguments)
    try:
        page = build_app(options.run, options.device)
        page.launch(
            server_name=options.host, server_port=options.port, share=options.share, ssr_mode=False, quiet=True,
            max_file_size=f"{options.max_upload}mb", theme=THEME, css=CSS, footer_links=[], show_error=True,
            prevent_thread_lock=True,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"The page is at {page.local_url} until Ctrl-C.", flush=True)
    page.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())

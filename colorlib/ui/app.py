"""The web page: color photos in a browser, with Gradio. `python -m colorlib.ui.app` serves it on this machine.

It needs the extra: `pip install '.[app]'`. Nothing leaves the machine: no analytics, no fonts from elsewhere.
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
from colorlib.colorize import Colorizer, Hint
from colorlib.data import sample_photos
from colorlib.photo import PHOTO_SUFFIXES
from colorlib.ui.session import Networks, Session, draw_hints, swatches

try:
    import gradio as gr
except ModuleNotFoundError as missing:
    words = "the web page needs Gradio, which is not installed: pip install '.[app]' in colorlib's folder"
    raise (SystemExit(words) if __name__ == "__main__" else ModuleNotFoundError(words)) from missing

FONTS = ["Segoe UI", "Helvetica Neue", "Arial", "sans-serif"]  # of the reader's machine
THEME = gr.themes.Default(primary_hue="teal", neutral_hue="slate", font=FONTS, font_mono=["monospace"])
CSS = """
.gradio-container { max-width: 1180px !important; margin: auto }
.samples .grid-wrap { min-height: 0 }
.samples .grid-container { grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); overflow: hidden }
#status { opacity: 0.75 }
"""
PICTURE = {"type": "numpy", "format": "jpeg", "interactive": False}
UNNAMED = PICTURE | {"show_label": False}


def build_app(run: str | None = None, device: str | None = None) -> gr.Blocks:
    """Make the page, ready for `launch`; takes and raises what `Colorizer.from_run` does, for the first network."""
    first = find_run(run)
    networks = Networks(first.name, Colorizer.from_run(first, device))
    color_samples, suffixes = sample_photos("color"), list(PHOTO_SUFFIXES)
    samples = [*color_samples, *sample_photos("gray")]
    with gr.Blocks(title="colorlib", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        session, hints, reference = gr.State(None), gr.State([]), gr.State(None)
        gr.Markdown("# Color a photograph\nUpload a photo or choose a sample. Its colors, if any, are not looked at.")
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                file = gr.File(label="Your photo", file_types=suffixes, height=250)
            with gr.Column(scale=5, min_width=320):
                gallery = _gallery(samples, "samples")
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                with gr.Tab("Before and after"):
                    compared = gr.ImageSlider(
                        label="Gray, and colored by the network", buttons=["fullscreen"], elem_id="compared", **UNNAMED
                    )
                with gr.Tab("Hints"):
                    gr.Markdown("Choose a color, then click on the picture where you know it.")
                    board = gr.Image(label="Hints", buttons=[], elem_id="board", **UNNAMED)
                    with gr.Row():
                        color = gr.ColorPicker("#3b6fb6", label="Color", min_width=100)
                        undo = gr.Button("Undo the last", size="md", min_width=100)
                        clear = gr.Button("Clear", size="md", min_width=100)
                with gr.Tab("Reference"):
                    gr.Markdown("The picture takes the colors of another photo: upload one, or choose a sample.")
                    with gr.Row():
                        with gr.Column(min_width=240):
                            reference_file = gr.File(label="Reference", file_types=suffixes, height=130)
                            references = _gallery(color_samples, "references")
                            no_reference = gr.Button("No reference", size="md")
                        recolored = gr.Image(label="Your photo", buttons=[], elem_id="recolored", **PICTURE)
                status = gr.Markdown(elem_id="status")
            with gr.Column(scale=2, min_width=280):
                saturation = gr.Slider(0, 2, 1, step=0.05, label="Saturation", info="0 is gray")
                scale = gr.Slider(1, 4, 1, step=1, label="Render size", info="1: the network's own; more looks closer")
                network = gr.Dropdown(networks.names, value=first.name, label="Network")
                palette = gr.HTML(elem_id="palette")
                save = gr.Button("Save at full size", variant="primary", interactive=False, size="md")
                download = gr.DownloadButton("Download", visible=False, size="md", elem_id="download")

        shown = [compared, board, recolored, palette, status, save, download]
        options = [session, network, scale, hints, reference, saturation]

        def show(session: Session | None, network: str, *options: Any) -> list[Any]:
            scale, hints, reference, strength = options
            if session is None:
                return [gr.skip()] * len(shown)
            session.predict(networks[network], scale, hints=hints, reference=reference)
            colored, squares = session.preview(strength), swatches(session.palette)
            pictures = (session.preview(0), colored), draw_hints(colored, hints), colored
            words = squares and f"<p>The network's palette for it</p>{squares}", html.escape(str(session))
            return [*pictures, *words, gr.Button(interactive=True), gr.DownloadButton(visible=False)]

        def open_file(path: str) -> tuple[Session, list[Hint]]:
            return Session(path), []  # the hints were another photo's

        def open_sample(event: gr.SelectData) -> tuple[Session, list[Hint]]:
            return open_file(str(samples[event.index]))

        def add_hint(event: gr.SelectData, session: Session, hints: list[Hint], color: str) -> list[Hint]:
            (x, y), (width, height) = event.index, session.small.size
            if not color.startswith("#"):  # Gradio's picker also gives "rgba(59, 111.5, 182, 1)"
                color = tuple(map(float, re.findall(r"[\d.]+", color)[:3]))
            return [*hints, Hint(x / max(1, width - 1), y / max(1, height - 1), color)]

        def take_reference(path: str) -> str:
            return Session(path).source  # an error for a broken one, before it is taken

        def take_sample(event: gr.SelectData) -> tuple[str, None]:
            return str(color_samples[event.index]), None

        # a photo is read first, and shown only then: what was shown stays when it is broken
        for opened in (
            file.upload(in_words(open_file), file, [session, hints]),
            gallery.select(in_words(open_sample), None, [session, hints]),
            page.load(in_words(lambda: open_file(str(samples[0]))), None, [session, hints]),
        ):
            opened.success(in_words(show), options, shown, show_progress_on=compared)
        gallery.select(lambda: None, None, file)
        board.select(in_words(add_hint), [session, hints, color], hints)
        undo.click(lambda hints: hints[:-1], hints, hints)
        clear.click(lambda: [], None, hints)
        reference_file.upload(in_words(take_reference), reference_file, reference)
        references.select(take_sample, None, [reference, reference_file])
        no_reference.click(lambda: (None, None), None, [reference, reference_file])
        for control in options[1:]:
            control.change(in_words(show), options, shown, trigger_mode="always_last", show_progress="hidden")
        save.click(in_words(save_full_size), [session, saturation], download)
    return page


def save_full_size(session: Session, saturation: float) -> gr.DownloadButton:
    """Write the colored photo at its own size and format, and offer it; the page's cache holds it for an hour."""
    with tempfile.TemporaryDirectory() as folder:
        path = session.save(folder, saturation)
        kept = gr.processing_utils.save_file_to_cache(path, cache_dir=gr.utils.get_upload_folder())
    return gr.DownloadButton(f"Download {path.name}", value=kept, visible=True)


def in_words(action: Callable[..., Any]) -> Callable[..., Any]:
    """Make the same action, with what is wrong with a photo or a file as a message on the page."""

    @functools.wraps(action)
    def told(*values: Any, **named: Any) -> Any:
        try:
            return action(*values, **named)
        except (ValueError, OSError) as error:
            raise gr.Error(html.escape(str(error)), duration=None, print_exception=False) from error

    return told


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl-C, from the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m colorlib.ui.app", description="A web page that colors photos.")
    parser.add_argument("--run", help="a run's name or folder (default: the release)")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the best there is)")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: %(default)s)")
    parser.add_argument("--port", type=int, help="(default: the first free one from 7860)")
    parser.add_argument("--max-upload", type=int, default=50, metavar="MB", help="(default: %(default)s)")
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


def _gallery(photos: Sequence[Path], name: str) -> gr.Gallery:
    """Small pictures to choose from, with their names."""
    return gr.Gallery(
        [(str(path), path.stem.replace("_", " ")) for path in photos], show_label=False, columns=6, height="auto",
        object_fit="cover", allow_preview=False, interactive=False, buttons=[], elem_id=name, elem_classes="samples",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

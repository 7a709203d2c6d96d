"""The web page: color photos and clips in a browser, with Gradio. `python -m colorlib.ui.app` serves it here.

It needs the extra: `pip install '.[app]'`. Nothing leaves the machine: no analytics, no fonts from elsewhere.
"""

import argparse
import contextlib
import functools
import html
import os
import socket
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from PIL import Image

from colorlib.checkpoint import find_run
from colorlib.colorize import Colorizer, Hint, colorize_video, colorized_name, is_video
from colorlib.data import sample_photos
from colorlib.ui.session import SUFFIXES, Networks, Session, color_name, draw_hints, own_name, render_size, shrink, wipe


@contextlib.contextmanager
def past_proxies(hosts: Iterable[str]) -> Iterator[None]:
    """Let what a block asks of these hosts go to no proxy, whatever is set; "*" means of all."""
    proxies = getproxies()  # the computer's own settings, too, which variables would hide
    proxies["no"] = ",".join([*filter(None, [proxies.get("no")]), *sorted(hosts)])
    before = {name: os.environ.get(name) for name in map("{}_proxy".format, proxies)}
    os.environ.update(zip(before, proxies.values(), strict=True))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


try:
    with past_proxies({"*"}):  # Gradio makes a client at once, which fails for a SOCKS proxy
        import gradio as gr
    from starlette.datastructures import Headers  # Gradio brings it
    from starlette.middleware import Middleware
    from starlette.requests import ClientDisconnect
    from starlette.responses import PlainTextResponse
except ModuleNotFoundError as missing:
    words = "the web page needs Gradio, which is not installed: pip install '.[app]' in colorlib's folder"
    raise (SystemExit(words) if __name__ == "__main__" else ModuleNotFoundError(words)) from missing

KEPT_SECONDS = 3600  # how long an upload stays on the disk
OPEN_PAGES = 100  # whose photos are remembered, some megabytes each; the one that rests longest is forgotten
MAX_HINTS = 100  # each costs time, and a photo has room for no more
LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}
FONTS = ["Segoe UI", "Helvetica Neue", "Arial", "sans-serif"]  # of the reader's machine
THEME = gr.themes.Default(primary_hue="teal", neutral_hue="slate", font=FONTS, font_mono=["monospace"])
CSS = """
.gradio-container { max-width: 1180px !important; margin: auto }
#photos .grid-wrap { min-height: 0; max-height: 340px; padding-top: 32px }
#photos .grid-container { grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)) }
#picture img { cursor: crosshair }
#palette .prose, #hints .prose { display: flex; flex-wrap: wrap; gap: 6px }
#palette label { min-width: 32px; text-align: center; font-size: 12px }
#hints button { padding: 2px 8px; border: 1px solid; border-radius: 8px }
input[type=color] { width: 100%; height: 32px; padding: 0; border: 0; background: none; cursor: pointer }
"""
# what gr.HTML shows for a value, and the JavaScript by which a person changes that
PALETTE = """{{#each value}}<label style="flex: {{percent}}">
<input type="color" value="{{now}}" data-at="{{@index}}" title="{{words}}" aria-label="{{words}}">{{percent}}%
</label>{{/each}}"""
PICK = """element.addEventListener("input", ({target}) => {
    props.value = props.value.map((swatch, at) => at == target.dataset.at ? {...swatch, now: target.value} : swatch)
    trigger("input")
})"""
HINTS = """{{#each value}}<button data-at="{{@index}}" aria-label="Remove the hint {{this.[0]}}, {{this.[1]}}">
<span style="color: {{this.[2]}}">&#11044;</span> {{this.[0]}}, {{this.[1]}} ×</button>{{/each}}"""
REMOVE = """element.addEventListener("click", ({target}) => {
    const button = target.closest("button")
    if (button) props.value = props.value.filter((_, at) => at != button.dataset.at)
})"""
COLOR = '<label>Color <input type="color" value="{{value}}"></label>'
CHOOSE = 'element.addEventListener("input", ({target}) => { props.value = target.value })'
IN_VIEW = '() => document.querySelector("#work").scrollIntoView({behavior: "smooth"})'


def build_app(run: str | None = None, device: str | None = None) -> gr.Blocks:
    """Make the page, ready for `launch`; takes and raises what `Colorizer.from_run` does, for the first network."""
    first = find_run(run)
    networks = Networks(first.name, Colorizer.from_run(first, device))
    closed: set[str] = set()  # the sessions of pages that were
    samples = [_listed(str(path)) for path in (*sample_photos("color"), *sample_photos("gray"))]
    with gr.Blocks(title="colorlib", analytics_enabled=False, delete_cache=(600, KEPT_SECONDS)) as page:
        session, aim, clip = gr.State(None), gr.State(None), gr.State(None)
        photos = gr.State(samples)  # to choose from, uploads first
        gr.Markdown("# Color a photograph\nA photo's own colors, if it has any, are not looked at: only its lightness.")
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                kinds = list(SUFFIXES)
                file = gr.File(label="Upload photos or a clip", file_count="multiple", file_types=kinds, height=200)
            with gr.Column(scale=5, min_width=300):
                gallery = gr.Gallery(
                    [photo[:2] for photo in samples], label="Your photos, and samples", height="auto",
                    object_fit="cover", allow_preview=False, interactive=False, buttons=[], elem_id="photos",
                )  # fmt: skip
        with gr.Row(elem_id="work"):
            with gr.Column(scale=5, min_width=300):
                color_clip = gr.Button(visible=False, variant="primary", size="md")
                video = gr.Video(visible=False, interactive=False, buttons=["download"])
                look = {"format": "jpeg", "interactive": False, "buttons": ["fullscreen"]}
                picture = gr.Image(label="Colored by the network", elem_id="picture", **look)
                amount = gr.Slider(0, 1, 1, step=0.01, label="Gray to color")
                with gr.Column(visible=False) as repaint:
                    gr.Markdown("**The network's palette:** pick another color, and what wears it changes.")
                    palette = gr.HTML([], html_template=PALETTE, js_on_load=PICK, elem_id="palette")
                    reset = gr.Button("Reset the palette", size="sm")
                status = gr.HTML("", html_template='<p role="status">${value}</p>', elem_id="status")
            with gr.Column(scale=2, min_width=280):
                gr.Markdown("**Hints:** choose a color, then click on the picture where you know it.")
                color = gr.HTML("#3b6fb6", html_template=COLOR, js_on_load=CHOOSE)
                hints = gr.HTML([], html_template=HINTS, js_on_load=REMOVE, elem_id="hints")
                with gr.Row():
                    undo, clear = (gr.Button(name, size="sm", min_width=80) for name in ("Undo the last", "Clear"))
                with gr.Accordion("Hints without a mouse", open=False):
                    left, top = (gr.Slider(0, 1, 0.5, step=0.01, label=name) for name in ("From left", "From top"))
                    add = gr.Button("Add", size="sm")
                saturation = gr.Slider(0, 2, 1, step=0.05, label="Saturation", info="0 is gray")
                start = networks[first.name].config.vividness
                vividness = gr.Slider(0, 1, start, step=0.05, label="Vividness", info="0 is cautious")
                tone = gr.Checkbox(False, label="Restore tone", info="for faded or tinted prints")
                with gr.Accordion("Another photo's colors, another network", open=False):
                    sources = ["none", *(photo[1:] for photo in samples)]
                    reference = gr.Dropdown(sources, value="none", label="Colors of", info="uploads join the list")
                    network = gr.Dropdown(networks.names, value=first.name, label="Network")
                    scale = gr.Slider(1, 4, 1, step=1, label="Render size", info="1: its own; more looks closer")
                save = gr.Button("Save at full size", variant="primary", interactive=False, size="md")
                save_all = gr.Button("Save all as ZIP", visible=False, size="md")
                download = gr.DownloadButton("Download", visible=False, size="md", elem_id="download")

        options = [session, network, scale, vividness, tone, reference, hints, palette]
        fresh = [session, tone, reference, hints, palette, aim]  # what each photo starts with
        shown = [picture, status, palette, repaint, vividness, save, download]

        def color_by(session: Session, network: str, scale: int, vividness: float, *steering: Any) -> None:
            tone, reference, given, swatches = steering or (False, "none", [], [])
            changes = [(swatch["was"], swatch["now"]) for swatch in swatches]
            own = {"hints": _hints(given), "reference": None if reference == "none" else reference}
            session = _known(session)
            session.predict(networks[network], scale, tone, changes, vividness=vividness, **own)

        def draw(session: Session, given: list, saturation: float, amount: float, aim: Hint | None) -> gr.Image:
            if session is None or session.ab is None:  # a new photo, which `show` is about to color
                return gr.skip()
            mixed = wipe(session.gray, session.preview(saturation), amount)
            marked = draw_hints(mixed, _hints(given), aim)
            return gr.Image(marked, alt_text=f"{session.name}, colored by the network")

        def show(saturation: float, amount: float, aim: Hint | None, *options: Any) -> dict[Any, Any]:
            session, *_, given, swatches = options
            color_by(*options)
            if [swatch["was"] for swatch in swatches] != [code for code, _ in session.swatches]:
                swatches = [_swatch(*swatch) for swatch in session.swatches]
            drawn, can = draw(session, given, saturation, amount, aim), gr.update(visible=bool(swatches))
            saving = {save: gr.Button(interactive=True), download: gr.update(visible=False)}
            words = {status: html.escape(str(session))}
            return {picture: drawn, palette: swatches, repaint: can, vividness: can} | words | saving

        def open_photo(path: str) -> dict[Any, Any]:
            return {session: Session(path), tone: False, reference: "none", hints: [], palette: [], aim: None}

        def open_chosen(event: gr.SelectData, known: list, session: Session) -> dict[Any, Any]:
            _known(session)  # or what is known is another list than the one that the page shows
            return open_photo(known[event.index][2])

        def take_files(paths: list[str], known: list) -> dict[Any, Any]:
            clips = [path for path in paths if is_video(path)]
            new = _each([path for path in paths if path not in clips], _listed)
            changed = {file: None}
            if new:
                known = [*new, *known]
                changed |= open_photo(new[0][2]) | {
                    photos: known, gallery: gr.Gallery([photo[:2] for photo in known], selected_index=0),
                    reference: gr.Dropdown(["none", *(photo[1:] for photo in known)], value="none"),
                    save_all: gr.Button(visible=len(known) > len(samples) + 1),
                }  # fmt: skip
            for path in clips[:1]:
                button = gr.Button(f"Color this clip: {Path(path).name}", visible=True)
                changed |= {clip: path, color_clip: button, video: gr.Video(None, visible=False)}
            if clips[1:]:
                gr.Info(html.escape(f"One clip at a time: {Path(clips[0]).name} was taken, the others were not."))
            return changed

        def add_hint(given: list, color: str, x: float, y: float) -> tuple[list, None]:
            return [*given, [round(x, 3), round(y, 3), color]], None

        def add_clicked(event: gr.SelectData, given: list, color: str, session: Session) -> tuple[list, None]:
            (x, y), (width, height) = event.index, _known(session).small.size
            return add_hint(given, color, x / max(1, width - 1), y / max(1, height - 1))

        def save_clip(
            path: str, saturation: float, network: str, scale: int, vividness: float, tone: bool, request: gr.Request
        ) -> gr.Video:
            def write(folder: Path) -> Path:
                target, by = folder / colorized_name(_known(path), clip=True), networks[network]
                options = {"vividness": vividness, "render_size": render_size(by, scale), "progress": False}
                return colorize_video(
                    path, target, by, saturation=saturation, restore=tone, on_frame=on_frame, on_note=on_note, **options
                )

            def on_frame(done: int, total: int) -> None:
                if request.session_hash in closed:  # nobody waits for it, but others for their turn
                    raise ValueError("the page was closed")
                gr.Progress()((done, total or None), unit="frames")

            def on_note(words: str) -> None:
                gr.Warning(html.escape(words), duration=None)

            return gr.Video(_kept(write), visible=True, label=f"{Path(path).name}, colored by the network")

        def save_photo(saturation: float, session: Session, *settings: Any) -> gr.DownloadButton:
            color_by(session, *settings)
            return _offer(lambda folder: session.save(folder, saturation))

        def save_photos(known: list, saturation: float, session: Session, *settings: Any) -> gr.DownloadButton:
            def write(folder: Path) -> Path:
                taken: dict[str, Hashable] = {}  # see `own_name`
                shown = _known(session).source

                def add_photo(path: str) -> None:
                    is_shown = path == shown
                    photo, by = (session, settings) if is_shown else (Session(path), settings[:3])
                    color_by(photo, *by)
                    name = colorized_name(own_name(photo.name, path, taken))
                    archive.write(photo.save(folder, saturation), name)

                with zipfile.ZipFile(folder / "colorized.zip", "w") as archive:
                    paths = dict.fromkeys(path for *_, path in known[: -len(samples)])
                    _each(gr.Progress().tqdm(paths, unit="photos"), add_photo)
                    if not archive.namelist():
                        raise ValueError("none of the photos could be saved")
                return folder / "colorized.zip"

            return _offer(write)

        def close(request: gr.Request) -> None:
            closed.add(request.session_hash)

        page.unload(close)
        # a photo is read first, and shown only then: what was shown stays when it is broken
        page.load(in_words(lambda: open_photo(samples[0][2])), None, fresh)
        chosen = gallery.select(in_words(open_chosen), [photos, session], fresh)
        chosen.failure(lambda: gr.Gallery(selected_index=None), None, gallery)
        changed = [*fresh, file, photos, gallery, save_all, clip, color_clip, video]
        taken = file.upload(take_files, [file, photos], changed)
        for event in (chosen, taken):
            event.success(None, js=IN_VIEW)
        picture.select(in_words(add_clicked), [hints, color, session], [hints, aim])
        add.click(add_hint, [hints, color, left, top], [hints, aim])
        undo.click(lambda given: given[:-1], hints, hints)
        clear.click(lambda: ([], None), None, [hints, aim])
        gr.on([left.input, top.input], Hint, [left, top, color], aim)
        often = {"trigger_mode": "always_last", "show_progress_on": picture}
        looks = [saturation, amount, aim]
        changed = [session.change, hints.change, palette.input]
        changed += [control.input for control in (saturation, vividness, tone, reference, network, scale)]
        gr.on(changed, in_words(show), [*looks, *options], shown, show_progress="minimal", **often)
        reset.click(lambda: [], None, palette).success(in_words(show), [*looks, *options], shown, **often)
        drawn = [session, hints, *looks]
        gr.on([amount.input, aim.change], in_words(draw), drawn, picture, show_progress="hidden", **often)
        save.click(in_words(save_photo), [saturation, *options], download)
        save_all.click(in_words(save_photos), [photos, saturation, *options], download, concurrency_limit=1)
        seen = [clip, saturation, network, scale, vividness, tone]
        color_clip.click(in_words(save_clip), seen, video, concurrency_limit=1)
    return page.queue(default_concurrency_limit=4)


def _known(state: Any) -> Any:
    """What the server keeps for a page; an error if it does not.

    It was started again, the tab was asleep for long, or more than OPEN_PAGES were used since.
    """
    if state is None:
        raise ValueError("the page has forgotten this photo: reload it")
    return state


def _hints(given: Sequence[Sequence[Any]]) -> list[Hint]:
    """Hints from what the page's list of them holds; an error if they are too many."""
    if len(given) > MAX_HINTS:
        raise ValueError(f"a photo takes at most {MAX_HINTS} hints, got {len(given)}: remove some")
    return [Hint(*hint) for hint in given]


def _listed(path: str) -> tuple[Image.Image, str, str]:
    """A photo as the page lists it: a small picture, its name, its path; an error for a broken one."""
    return shrink(Session(path).small, 208), Path(path).stem.replace("_", " "), path


def _swatch(code: str, share: float) -> dict[str, Any]:
    """A color of a palette as the page shows it, to be changed."""
    words = f"{color_name(code)}, {share:.0%} of the picture"
    return {"was": code, "now": code, "percent": round(100 * share), "words": words}


def _each(paths: Iterable[str], action: Callable[[str], Any]) -> list[Any]:
    """What an action gives for each file; those that it fails for are named on the page."""
    results, wrong = [], []
    for path in paths:
        try:
            results.append(action(path))
        except (ValueError, OSError) as error:
            wrong.append(html.escape(str(error)))
    if wrong:
        gr.Warning("<br>".join(wrong), duration=None)
    return results


def _kept(write: Callable[[Path], Path]) -> str:
    """The file that `write` puts into a folder, moved to the page's cache, which holds it for an hour."""
    with tempfile.TemporaryDirectory() as folder:
        return gr.processing_utils.save_file_to_cache(write(Path(folder)), cache_dir=gr.utils.get_upload_folder())


def _offer(write: Callable[[Path], Path]) -> gr.DownloadButton:
    """The button that downloads what `write` puts into a folder."""
    path = _kept(write)
    return gr.DownloadButton(f"Download {Path(path).name}", value=path, visible=True)


def in_words(action: Callable[..., Any]) -> Callable[..., Any]:
    """Make the same action, with what is wrong with a photo or a file as a message on the page."""

    @functools.wraps(action)
    def told(*values: Any, **named: Any) -> Any:
        try:
            return action(*values, **named)
        except (ValueError, OSError, ModuleNotFoundError) as error:
            is_gone = isinstance(error, FileNotFoundError)
            words = "this file was deleted, as all are after an hour: upload it again" if is_gone else str(error)
            raise gr.Error(html.escape(words), duration=None, print_exception=False) from error

    return told


def guarded(serve: Callable[..., Any], hosts: Callable[[], set[str]]) -> Callable[..., Any]:
    """Make an ASGI middleware that refuses requests to other hosts, and from the pages of other hosts.

    A site can bind its own name anew to 127.0.0.1 once it is open in a browser here (DNS
    rebinding). What it asks for names that site as the host. Also sweeps before each upload.

    Args:
        serve: The application behind it.
        hosts: Tells which names are the page's own; an empty set stands for all names.
    """

    async def answer(scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        if scope["type"] == "lifespan":
            return await serve(scope, receive, send)
        headers, own = Headers(scope=scope), hosts()
        host, origin = _host_name(f"//{headers.get('host')}"), headers.get("origin")
        is_own = not own or host in own
        if not is_own or (origin is not None and _host_name(origin) not in own | {host}):
            words = "this is none of the page's addresses; --host 0.0.0.0 lets others in"
            return await PlainTextResponse(words, 403)(scope, receive, send)
        if scope["path"].endswith("/upload"):
            sweep(Path(gr.utils.get_upload_folder()))
        with contextlib.suppress(ClientDisconnect):  # nobody waits for an answer
            await serve(scope, receive, send)

    return answer


def _host_name(address: str) -> str:
    """The host in an address, in small letters, without its port; "" if there is none."""
    with contextlib.suppress(ValueError):
        return urlsplit(address).hostname or ""
    return ""


def sweep(folder: Path) -> None:
    """Delete what is left of uploads that were cut off: of them, Gradio forgets the temporary file."""
    for path in folder.glob("tmp*"):
        with contextlib.suppress(OSError):  # another request was faster
            if path.is_file() and time.time() - path.stat().st_mtime > KEPT_SECONDS:
                path.unlink()


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Make an argparse type for whole numbers between two bounds."""

    def read(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= int(text) <= most:
                return int(text)
        words = f"expected a whole number from {least} to {most}, got {text!r}"
        raise argparse.ArgumentTypeError(words)

    return read


def _check_host(host: str) -> None:
    """Raise an `OSError` in words if one cannot serve at an address: Gradio would try 100 ports."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host or "no address", 0), family=family).close()
    except (OSError, UnicodeError) as error:
        words = "expected an address or name of this machine"
        raise OSError(f"--host: {words}, got {host!r} ({error})") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl-C, from the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m colorlib.ui.app", description="A web page that colors photos.")
    parser.add_argument("--run", help="a run's name or folder (default: the release)")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the best there is)")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: %(default)s)")
    port, size = whole_number(1, 65535), whole_number(1, 1_000_000)
    parser.add_argument("--port", type=port, help="(default: the first free one from 7860)")
    parser.add_argument("--max-upload", type=size, default=50, metavar="MB", help="(default: %(default)s)")
    parser.add_argument("--share", action="store_true", help="a public link through Gradio's servers, for a week")
    options = parser.parse_args(arguments)
    host = options.host.strip("[]")  # as IPv6 addresses stand in a URL
    hosts = LOCAL_HOSTS | {host.lower()}

    def own_hosts() -> set[str]:
        if host in ("0.0.0.0", "::"):  # other machines come by whatever name they know
            return set()
        shared = {_host_name(page.share_url)} if page.share_url else set()
        return hosts | shared

    try:
        _check_host(host)
        page = build_app(options.run, options.device)
        sweep(Path(gr.utils.get_upload_folder()))
        # Gradio asks its own server whether it is there; only a link for sharing needs a proxy
        straight = hosts if options.share else {"*"}
        with past_proxies(straight):
            page.launch(
                server_name=f"[{host}]" if ":" in host else host, server_port=options.port,
                share=options.share, ssr_mode=False, quiet=True, theme=THEME, css=CSS,
                max_file_size=f"{options.max_upload}mb", footer_links=[], show_error=True,
                prevent_thread_lock=True, state_session_capacity=OPEN_PAGES,
                app_kwargs={"middleware": [Middleware(guarded, hosts=own_hosts)]},
            )  # fmt: skip
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"The page is at {page.local_url} until Ctrl-C.", flush=True)
    page.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())

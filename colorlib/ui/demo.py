"""The demo of notebook 05: a photo, its colors, and what changes them, in plain ipywidgets."""

import base64
import html
import os
import tempfile
import time
from collections.abc import Hashable, Sequence
from functools import partial
from pathlib import Path

import ipywidgets as W
import numpy as np

from colorlib.colorize import Colorizer, Hint, colorize_video, colorized_name, is_video
from colorlib.colorize.hints import color_rgb
from colorlib.data import sample_photos
from colorlib.photo import Photo
from colorlib.system import outputs_dir
from colorlib.ui import controls as C
from colorlib.ui.session import SUFFIXES, Networks, Session, draw_hints, own_name, render_size, wipe

LINK_BYTES, CLIP_BYTES = 3_000_000, 20_000_000  # larger files get no download link, larger clips are not shown
SCALES = [("its own size", 1), ("2 times its size", 2), ("3 times its size", 3), ("4 times its size", 4)]
SHARE = {"max": 1, "step": 0.01}  # a slider's range
# the kernel hears nothing of what the server drops: all that one can do is to say so before
LOST = (
    "Nothing happens after an upload? Many a server drops more than about 10 MB at once: put the "
    "file beside the notebook, type its path, and press Open; the upload button works again then."
)


class ColorizeDemo(W.VBox):
    """A widget that colors samples, uploads, files and clips, takes hints and a reference, and shows the truth.

    The colorizer stands in the list of networks under the name `run`, before all trained runs; without photos, the
    gallery has the bundled samples. The browser gets 640 px at most; Save writes full size to `outputs_dir()/demo`.
    Network, size, saturation and vividness stay when another photo is chosen; hints, changes of the palette, tone and
    reference begin anew. Sliders aim a hint: ipywidgets alone cannot tell where on a picture somebody clicked.
    """

    def __init__(self, colorizer: Colorizer, photos: Sequence[Photo] | None = None, run: str = "the one given"):
        self.networks, self.status, self.hint_status = Networks(run, colorizer), C.Status(), C.Status()
        self.session: Session | None = None
        self.hints: list[Hint] = []
        self.aim: Hint | None = None  # the hint that is being prepared
        self.references: dict[str, Photo | None] = {"none": None} | {p.name: p for p in sample_photos("color")}
        self.uploads: dict[str, W.HBox] = {}  # their cards in the gallery
        self._names: dict[str, Hashable] = {}  # of results, and what each belongs to, see `own_name`
        for path in sample_photos("color"):
            own_name(path.name, path, self._names)
        self.pickers: list[tuple[str, W.ColorPicker]] = []  # the palette's colors, as the network chose them
        self._button = partial(C.button, status=self.status)
        samples = [*sample_photos("color"), *sample_photos("gray")] if photos is None else photos
        panel, self.columns = self._photo_panel(samples), self._picture_columns()
        rows = [panel, self.status, self.columns, self.clip]
        super().__init__(rows, layout={"max_width": "960px", "grid_gap": "10px"})
        for card in self.gallery.children[:1]:  # something to see at once
            card.children[1].click()

    def _photo_panel(self, photos: Sequence[Photo]) -> W.VBox:
        """Where a photo comes from: a gallery of samples and uploads, a path."""
        self._samples = []
        for number, photo in enumerate(photos, start=1):
            is_path = isinstance(photo, str | os.PathLike)
            name = None if is_path else f"photo {number}"
            self._samples.append(self._card(self._open(photo, name)))
        self.gallery = C.row(*self._samples)
        self._last_upload: W.FileUpload | None = None
        self.upload = self._upload_button()
        self.path = W.Text(description="or a path", placeholder="photo.jpg", layout={"flex": "1 1 200px"})
        self.path.style.description_width = "72px"
        self.open_path = self._button("Open", "folder-open", "Open the photo or clip at this path", self._open_path)
        self.path.on_msg(lambda _, message, __: message.get("event") == "submit" and self.open_path.click())
        title = "Photo: of one in color, the network sees only the lightness"
        self.sources = C.row(self.upload, self.path, self.open_path)
        return C.panel(title, self.gallery, self.sources, C.note(LOST))

    def _upload_button(self) -> W.FileUpload:
        words = "Upload photos or clips"
        return C.upload_button(words, SUFFIXES, self._take_uploads, self.status)

    def _renew_upload(self) -> None:
        """Put another upload button in its place.

        One whose files the server dropped waits for an answer forever, and sends no other file. The
        last one still takes what is on its way.
        """
        if self._last_upload is not None:
            self._last_upload.close()
        self._last_upload, self.upload = self.upload, self._upload_button()
        self.sources.children = [self.upload, *self.sources.children[1:]]

    def _picture_columns(self) -> W.Box:
        """The picture, what is saved of it, and its hints, whose cross one sees; beside them the truth and the rest."""
        self.result, self.truth = C.image_box(), C.image_box()
        self.truth_figure = C.figure("As it really was", self.truth, "none")
        draw = self.status.reporting(self._draw)
        self.amount = C.control(W.FloatSlider, "Gray to color", draw, "96px", value=1, **SHARE)
        self.save = self._button("Save", "download", "Write it at the photo's own size", self._save)
        self.save.button_style, self.save.layout.width = "primary", "112px"
        self.clip = W.Video(format="mp4", autoplay=False, loop=False, layout={"max_width": "100%", "display": "none"})
        result = C.figure("Colored by the network", self.result, "none")
        left = result, self.amount, C.row(self.save), self._hint_panel(), self._palette_panel()
        right = self.truth_figure, *self._steering()
        layout = {"flex": "1 1 300px", "grid_gap": "8px"}
        columns = C.row(*(W.VBox(column, layout=layout) for column in (left, right)), align="flex-start")
        columns.layout.display = "none"  # until there is a photo
        return columns

    def _hint_panel(self) -> W.VBox:
        """What aims a color at a point of the picture, and the hints given, each of which can be taken back."""
        aim = self.hint_status.reporting(self._take_aim)
        slider = partial(C.control, W.FloatSlider, on_change=aim, label="64px", value=0.5, **SHARE)
        self.left, self.top = slider("from left"), slider("from top")
        self.hint_color = C.control(W.Text, "color", aim, "64px", value="#3b6fb6", continuous_update=False)
        self.hint_color.layout = {"flex": "1 1 140px", "width": "auto"}
        self.hint_picker = W.ColorPicker(value=self.hint_color.value, concise=True, layout={"width": "32px"})
        self.hint_picker.observe(lambda change: self.hint_color.set_trait("value", change["new"]), "value")
        self.add = C.button("Add", "plus", "The photo shall have this color here", self._add_hint, self.hint_status)
        self.given, color = C.row(), C.row(self.hint_color, self.hint_picker, self.add)
        return C.panel("Hints: you know a color", self.left, self.top, color, self.hint_status, self.given)

    def _palette_panel(self) -> W.VBox:
        self.palette = W.HBox(layout={"grid_gap": "4px"})
        self.reset = self._button("Reset", "undo", "The colors that the network chose", self._reset_palette)
        rule = ".colorlib-swatch div, .colorlib-swatch input {width: 100% !important; min-width: 0 !important}"
        wide = W.HTML(f"<style>{rule}</style>", layout={"display": "none"})
        title = "Palette: pick another color, and what wears it changes"
        self.palette_panel = C.panel(title, wide, self.palette, C.row(self.reset))
        return self.palette_panel

    def _steering(self) -> tuple[W.VBox, W.VBox]:
        """What the colors depend on: the network, the photo's tones, another photo."""
        predict, draw = map(self.status.reporting, (self.predict, self._draw))
        self.network = C.control(W.Dropdown, "network", predict, options=self.networks.names)
        self.scale = C.control(W.Dropdown, "looks at", predict, options=SCALES)
        self.saturation = C.control(W.FloatSlider, "saturation", draw, value=1, max=2, step=0.05)
        start = self.networks[self.network.value].config.vividness
        self.vividness = C.control(W.FloatSlider, "vividness", predict, value=start, max=1, step=0.05)
        self.tone = C.control(W.Checkbox, "restore a faded print's tone", predict, indent=False)
        colors = C.panel("Colors", self.network, self.scale, self.saturation, self.vividness, self.tone)
        self.reference_choice = C.control(W.Dropdown, "take from", predict, options=list(self.references))
        return colors, C.panel("Reference: colors of another photo, uploads too", self.reference_choice)

    def _open(self, photo: Photo, name: str | None = None) -> Session:
        """Read a photo, under a name that no other photo has."""
        session = Session(photo, name)
        session.name = own_name(session.name, photo, self._names)
        return session

    def _card(self, session: Session, *more: W.Button) -> W.HBox:
        """A button that shows a photo and looks like it, and more buttons beside it."""
        text = Path(session.name).stem.replace("_", " ")
        show = partial(self._show_card, session.source, session.name)
        face = self._button(text, "", f"Color {session.name}", show)
        face.photo = session.source
        return W.HBox([C.photo_face(face, session), face, *more])

    def _take_uploads(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Put photos into the gallery and show the first sound one, color clips; then name what is neither."""
        errors, sound, clips = [], [], []
        with tempfile.TemporaryDirectory() as folder:
            for number, (name, content) in enumerate(files, start=1):
                self.status.say(f"Reading {name} ({number} of {len(files)}) …")
                try:
                    path = Path(folder) / str(number) / name  # two can have one name
                    path.parent.mkdir()
                    path.write_bytes(content)
                    if is_video(path):
                        clips.append((path, own_name(name, content, self._names, clip=True)))
                    else:
                        sound.append(self._add_upload(content, name))
                except (ValueError, OSError) as error:
                    errors.append(str(error))
            self.gallery.children = [*self._samples, *self.uploads.values()]
            self.reference_choice.options = list(self.references)
            for session in sound[:1]:
                self._color(session, [])
            colored = []
            for path, name in clips:
                try:
                    colored.append(self._color_clip(path, name))
                except (ValueError, OSError, ModuleNotFoundError) as error:
                    errors.append(str(error))
        if errors:
            raise ValueError("; ".join([*errors, *(f"saved all the same: {path.absolute()}" for path in colored)]))

    def _add_upload(self, content: bytes, name: str) -> Session:
        """Make an uploaded photo's card and reference; one that came before keeps its own."""
        session = self._open(content, name)
        remove = partial(self._remove_upload, session.name)
        cross = self._button("", "times", f"Remove {session.name}", remove)
        self.uploads[session.name] = self._card(session, cross)
        self.references[session.name] = content
        return session

    def _remove_upload(self, name: str) -> None:
        del self.uploads[name]
        self.gallery.children = [*self._samples, *self.uploads.values()]

    def _show_card(self, photo: Photo, name: str) -> None:
        self._renew_upload()
        self.show_photo(photo, name)

    def _open_path(self) -> None:
        self._renew_upload()
        text = self.path.value.strip().strip("\"'")
        if not text:
            raise ValueError("type the path of a photo first, or upload one")
        path = Path(text).expanduser()
        if is_video(path):
            self._color_clip(path, own_name(path.name, path, self._names, clip=True))
        else:
            self.show_photo(path)

    def _color_clip(self, path: Path, name: str) -> Path:
        """Color a clip into an MP4 file named after `name`, show that, and return its path."""

        def say(done: int, total: int) -> None:
            self.status.say(f"Coloring {name}: frame {done} of {total or 'many'} …")

        start, colorizer = time.perf_counter(), self.networks[self.network.value]
        options = {"saturation": self.saturation.value, "vividness": self.vividness.value, "restore": self.tone.value}
        options["render_size"] = render_size(colorizer, self.scale.value)
        target = outputs_dir() / "demo" / colorized_name(name, clip=True)
        notes: list[str] = []
        calls = {"on_frame": say, "on_note": notes.append}
        saved = colorize_video(path, target, colorizer, progress=False, **calls, **options)
        is_small = saved.stat().st_size <= CLIP_BYTES
        self.clip.value, self.clip.layout.display = (saved.read_bytes(), None) if is_small else (b"", "none")
        self._say_saved(saved, start, *notes)
        return saved

    def _take_aim(self) -> None:
        """Aim with the values of the controls; a color that is none leaves all as it was."""
        code = f"#{bytes(color_rgb(self.hint_color.value.strip())).hex()}"
        self.hint_status.value, self.hint_picker.value = "", code
        self.aim = Hint(self.left.value, self.top.value, code)
        self._draw()

    def _add_hint(self) -> None:
        self._take_aim()
        self.status.reporting(partial(self._color, self.session, [*self.hints, self.aim]))()

    def show_photo(self, photo: Photo, name: str | None = None) -> None:
        """Read, color and show a photo; when that fails, what was shown stays."""
        self._color(self._open(photo, name), [])

    def predict(self) -> None:
        """Color the photo at work as the controls say, and show it."""
        if self.session is not None:
            self._color(self.session, self.hints, self.aim)

    def _color(self, session: Session, hints: list[Hint], aim: Hint | None = None) -> None:
        """Color a photo, and show it; what was set for the one at work is for that one alone."""
        self.status.say(f"Coloring {session.name} …")
        options = {"vividness": self.vividness.value, "hints": hints, "reference": None}
        if session is self.session:
            options["reference"] = self.references[self.reference_choice.value]
            options["recolor"] = [(code, picker.value) for code, picker in self.pickers]
            options["restore"] = self.tone.value
        session.predict(self.networks[self.network.value], self.scale.value, **options)
        if session is not self.session:
            self._begin_photo(session)
        self.session, self.hints, self.aim = session, hints, aim
        self._show_palette()
        self._show_hints()
        self._draw()
        self.status.say(str(session))

    def _begin_photo(self, session: Session) -> None:
        """Show what belongs to another photo, and take back what was set for the one before."""
        self.session, self.pickers = None, []  # so that nothing is colored while the controls change
        self.reference_choice.value, self.tone.value, self.hint_status.value = "none", False, ""
        self.columns.layout.display = None
        self.truth.value = C.jpeg(np.asarray(session.small))
        self.truth_figure.layout.display = None if session.in_color else "none"
        self.clip.layout.display = "none"
        for _, face, *_ in (card.children for card in self.gallery.children):
            face.button_style, face.icon = ("primary", "check") if face.photo is session.source else ("", "")

    def _show_hints(self) -> None:
        chips = []
        for number, hint in enumerate(self.hints):
            others = [*self.hints[:number], *self.hints[number + 1 :]]
            remove = partial(self._color, self.session, others)
            chip = self._button(f"{hint.x:.0%}, {hint.y:.0%}", "times", "Take back this hint", remove)
            chip.layout = W.Layout(width="auto", height="36px", border=f"3px solid {hint.color}")
            chips.append(chip)
        self.given.children = chips

    def _show_palette(self) -> None:
        """Make a color picker for each of the most used colors, unless they are there already."""
        swatches = self.session.swatches
        for part in (self.palette_panel, self.vividness):
            part.layout.display = None if swatches else "none"
        if [code for code, _ in self.pickers] != [code for code, _ in swatches]:
            self.pickers, boxes = [], []
            for code, share in swatches:
                picker = W.ColorPicker(value=code, concise=True, layout={"width": "auto"})
                picker.add_class("colorlib-swatch")
                picker.observe(self.status.reporting(self.predict), "value")
                self.pickers.append((code, picker))
                layout = {"flex": f"{100 * share:.1f} 1 24px", "align_items": "stretch"}
                boxes.append(W.VBox([picker, W.HTML(f"{share:.0%}")], layout=layout))
            self.palette.children = boxes

    def _reset_palette(self) -> None:
        for code, picker in self.pickers:
            picker.value = code

    def _draw(self) -> None:
        if self.session is not None:
            self.gray, self.color = self.session.gray, self.session.preview(self.saturation.value)
            shown = wipe(self.gray, self.color, self.amount.value)
            self.result.value = C.jpeg(draw_hints(shown, self.hints, self.aim))

    def _save(self) -> None:
        start = time.perf_counter()
        self.status.say(f"Saving {self.session.name} …")
        self._say_saved(self.session.save(outputs_dir() / "demo", self.saturation.value), start)

    def _say_saved(self, saved: Path, start: float, *notes: str) -> None:
        link = ""
        if saved.stat().st_size <= LINK_BYTES:
            name, data = html.escape(saved.name), base64.b64encode(saved.read_bytes()).decode()
            address = f"data:application/octet-stream;base64,{data}"
            link = f'<a download="{name}" style="text-decoration:underline" href="{address}">Download it</a>'
        seconds = time.perf_counter() - start
        words = f"Saved {saved.name} in {saved.parent.absolute()} ({seconds:.2f} s)."
        self.status.say(" ".join([words, *(f"{note}." for note in notes)]), link=link)

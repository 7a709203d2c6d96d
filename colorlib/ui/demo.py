"""The demo of notebook 05: a photo, its colors, and what changes them, in plain ipywidgets."""

import base64
import html
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import ipywidgets as W
import numpy as np

from colorlib.colorize import Colorizer, Hint
from colorlib.data import sample_photos
from colorlib.palette import Palette
from colorlib.photo import Photo
from colorlib.system import outputs_dir
from colorlib.ui import controls as C
from colorlib.ui.session import Networks, Session, describe_hints, draw_hints, swatch_codes, wipe

LINK_BYTES = 3_000_000  # larger files get no download link
SCALES = [("its own size", 1), ("2 times its size", 2), ("3 times its size", 3), ("4 times its size", 4)]
SHARE = {"max": 1, "step": 0.01}  # a slider's range
SWATCHES = 8  # of a palette, that can be changed


class ColorizeDemo(W.VBox):
    """A widget that colors samples, uploads and files, takes hints and a reference, and compares with the truth.

    The colorizer stands in the list of networks under the name `run`, before all trained runs; without photos, the
    gallery has the bundled samples. The browser gets 640 px at most; Save writes full size to `outputs_dir()/demo`.
    """

    def __init__(self, colorizer: Colorizer, photos: Sequence[Photo] | None = None, run: str = "the one given"):
        self.networks, self.status = Networks(run, colorizer), C.Status()
        self.session: Session | None = None
        self.hints: list[Hint] = []
        self.aim: Hint | None = None  # the hint that is being prepared
        self.references: dict[str, Photo | None] = {"none": None} | {p.name: p for p in sample_photos("color")}
        self.choices: dict[str, W.Button] = {}  # the gallery's buttons, by file name
        self.uploads: dict[str, bytes] = {}
        self._cards: dict[str, W.VBox] = {}  # of the uploads
        self.pickers: list[tuple[str, W.ColorPicker]] = []  # the palette's colors, as the network chose them
        self._shown_palette: Palette | None = None
        self._button = partial(C.button, status=self.status)
        first, last = self._photo_panel(photos), self._steering()
        rows = [first, self.status, *self._pictures(), last]
        super().__init__(rows, layout={"max_width": "960px", "grid_gap": "10px"})
        for choice in list(self.choices.values())[:1]:  # something to see at once
            choice.click()

    def _photo_panel(self, photos: Sequence[Photo] | None) -> W.VBox:
        """Where a photo comes from: a gallery of samples, uploads (which join the gallery), a path."""
        groups = {"Photos": photos} if photos is not None else {
            "In color (the network sees only their lightness)": sample_photos("color"),
            "Black-and-white from the start": sample_photos("gray"),
        }  # fmt: skip
        galleries = [C.figure(title, C.row(*map(self._card, group)), "none") for title, group in groups.items()]
        self._own = C.figure("Your uploads", C.row(), "none")
        self._own.layout.display = "none"
        self.upload = C.upload_button("Upload photos", True, self._take_uploads, self.status)
        self.path = W.Text(description="or a path", placeholder="photo.jpg", layout={"flex": "1 1 240px"})
        self.path.style.description_width = "72px"
        self.open_path = self._button("Open", "folder-open", "Open the photo at this path", self._open_path)
        self.path.on_msg(lambda _, message, __: message.get("event") == "submit" and self.open_path.click())
        return C.panel("Photo", *galleries, self._own, C.row(self.upload, self.path, self.open_path), flex="none")

    def _steering(self) -> W.Box:
        """What the colors depend on: the network, hints, a reference."""
        actions = self.predict, self._draw_anew, self._take_aim, self._choose_reference
        predict, draw, aim, choose = map(self.status.reporting, actions)
        self.network = C.control(W.Dropdown, "network", predict, options=self.networks.names)
        self.scale = C.control(W.Dropdown, "looks at", predict, options=SCALES)
        self.saturation = C.control(W.FloatSlider, "saturation", draw, value=1, max=2, step=0.05)
        start = self.networks[self.network.value].config.vividness
        self.vividness = C.control(W.FloatSlider, "vividness", predict, value=start, max=1, step=0.05)
        self.left = C.control(W.FloatSlider, "from left", aim, "64px", value=0.5, **SHARE)
        self.top = C.control(W.FloatSlider, "from top", aim, "64px", value=0.5, **SHARE)
        self.hint_color = C.control(W.ColorPicker, "color", aim, "64px", value="#3b6fb6")
        self.add = self._button("Add", "plus", "The photo shall have this color here", self._add_hint)
        undo, clear = (lambda: self._color(self.session, self.hints[:-1])), (lambda: self._color(self.session, []))
        self.undo = self._button("Undo", "undo", "Take back the last hint", undo)
        self.clear = self._button("Clear", "trash", "Take back all hints", clear)
        self.given, self.reference_shown = W.HTML(describe_hints([])), W.HTML()
        self.reference_choice = C.control(W.Dropdown, "take from", choose, options=list(self.references))
        self.reference_upload = C.upload_button("Upload another", False, self._take_reference, self.status)
        hints = self.left, self.top, self.hint_color, C.row(self.add, self.undo, self.clear), self.given
        reference = self.reference_choice, C.row(self.reference_upload), self.reference_shown
        colors = C.panel("Colors", self.network, self.scale, self.saturation, self.vividness)
        panels = C.panel("Hints: you know a color", *hints), C.panel("Reference: colors of another photo", *reference)
        return C.row(colors, *panels, align="stretch")

    def _pictures(self) -> list[W.Widget]:
        """What is shown and saved."""
        self.result, self.truth, self.palette = C.image_box(), C.image_box(), C.row()
        self.palette.layout.width, self.palette.layout.flex_flow = "100%", "row nowrap"
        self.truth_figure = C.figure("As it really was", self.truth)
        self.reset = self._button("Reset", "undo", "The colors that the network chose", self._reset_palette)
        title = "The palette that the network chose for it: pick another color, and what wears it changes"
        self.palette_figure = C.figure(title, W.VBox([self.palette, self.reset], layout={"width": "100%"}), "none")
        self.palette_figure.layout.align_self = "stretch"
        draw = self.status.reporting(self._draw)
        self.amount = C.control(W.FloatSlider, "Gray to color", draw, "96px", value=1, **SHARE)
        self.amount.layout.flex = "1 1 280px"
        save, save_all = (lambda: self._save([self.session])), (lambda: self._save(self._uploads()))
        self.save = self._button("Save", "download", "Write it at the photo's own size", save)
        self.save.button_style, self.save.layout.width = "primary", "112px"
        self.save_all = self._button("Save all uploads", "files-o", "Color and write all uploads", save_all)
        self.save_all.layout.display = "none"
        self.controls = [self.amount, self.saturation, self.vividness, self.save, self.scale, self.reference_choice]
        self.controls += [self.add, self.undo, self.clear]
        for control in self.controls:
            control.disabled = True  # until there is a photo
        pictures = C.row(C.figure("Colored by the network", self.result), self.truth_figure, align="flex-start")
        return [pictures, C.row(self.amount, self.save, self.save_all), self.palette_figure]

    def _card(self, photo: Photo, name: str = "") -> W.VBox:
        """A small picture, and below it the button that shows the photo."""
        session = Session(photo, name or f"photo {len(self.choices) + 1}")
        picture, name = W.HTML(C.thumbnail(session)), session.name
        show = partial(self.show_photo, photo, name)
        self.choices[name] = self._button(Path(name).stem.replace("_", " "), "", f"Color {name}", show)
        self.choices[name].layout = W.Layout(width="96px", padding="0")
        return W.VBox([picture, self.choices[name]])

    def _take_uploads(self, files: dict[str, bytes]) -> None:
        """Put uploads into the gallery and show the first sound one; then name the ones that are not."""
        errors, sound = [], []
        for number, (name, content) in enumerate(files.items(), start=1):
            self.status.say(f"Reading {name} ({number} of {len(files)}) …")
            try:
                self._cards[name], self.uploads[name] = self._card(content, name), content
                sound.append(name)
            except ValueError as error:
                errors.append(str(error))
        self._own.children[1].children = tuple(self._cards.values())
        self._own.layout.display = None if self.uploads else "none"
        for name in sound[:1]:
            self.show_photo(files[name], name)
        if errors:
            raise ValueError("; ".join(errors))

    def _open_path(self) -> None:
        text = self.path.value.strip().strip("\"'")
        if not text:
            raise ValueError("type the path of a photo first, or upload one")
        self.show_photo(Path(text).expanduser())

    def _take_aim(self) -> None:
        self.aim = Hint(self.left.value, self.top.value, self.hint_color.value)
        self._draw()

    def _add_hint(self) -> None:
        self._take_aim()
        self._color(self.session, [*self.hints, self.aim])

    def _choose_reference(self) -> None:
        name = self.reference_choice.value
        photo = self.references[name]
        self.reference_shown.value = "" if photo is None else C.thumbnail(Session(photo, name), 128, 96)
        self.predict()

    def _take_reference(self, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            Session(content, name)  # an error for a broken one, before it can be chosen
            self.references[name] = content
            self.reference_choice.options = list(self.references)
            self.reference_choice.value = name

    def show_photo(self, photo: Photo, name: str = "photo") -> None:
        """Read, color and show a photo; when that fails, what was shown stays."""
        self._color(Session(photo, name), [])  # the old hints were another photo's

    def predict(self) -> None:
        """Color the photo at work as the controls say, and show it."""
        if self.session is not None:
            self._color(self.session, self.hints, self.aim)

    def _color(self, session: Session, hints: list[Hint], aim: Hint | None = None) -> None:
        self._predict(session, hints)
        self.session, self.hints, self.aim = session, hints, aim
        self.gray, self.given.value = session.preview(0), describe_hints(hints)
        self.truth.value = C.jpeg(np.asarray(session.small))
        self.truth_figure.layout.display = None if session.in_color else "none"
        self._show_palette()
        self.save_all.layout.display = None if len(self.uploads) > 1 else "none"
        self._draw_anew()
        for control in self.controls:
            control.disabled = False
        self.status.say(str(session))

    def _show_palette(self) -> None:
        """Make a color picker for each of the most used colors, unless they are there already."""
        palette = self.session.palette
        for part in (self.palette_figure, self.vividness):
            part.layout.display = None if palette else "none"
        if palette is not self._shown_palette and palette:
            self._shown_palette, self.pickers, boxes = palette, [], []
            for code, share in list(zip(*swatch_codes(palette), strict=True))[:SWATCHES]:
                picker = W.ColorPicker(value=code, concise=True, layout={"width": "32px"})
                picker.observe(self.status.reporting(self.predict), "value")
                self.pickers.append((code, picker))
                layout = {"flex": f"{share:.3f} 1 64px", "align_items": "stretch"}
                boxes.append(W.VBox([W.HTML(), W.HBox([picker, W.HTML(f"{share:.0%}")])], layout=layout))
            self.palette.children = boxes
        for (_, picker), box in zip(self.pickers, self.palette.children, strict=True):
            box.children[0].value = f'<div style="height:24px;background:{picker.value};border-radius:4px"></div>'

    def _reset_palette(self) -> None:
        for code, picker in self.pickers:
            picker.value = code

    def _predict(self, session: Session, hints: Sequence[Hint] = ()) -> Session:
        self.status.say(f"Coloring {session.name} …")
        reference = self.references[self.reference_choice.value]
        changes = [(code, picker.value) for code, picker in self.pickers if picker.value != code]
        recolor = changes if session is self.session else []  # another photo has another palette
        options = {"vividness": self.vividness.value, "recolor": recolor, "hints": hints, "reference": reference}
        session.predict(self.networks[self.network.value], self.scale.value, **options)
        return session

    def _draw_anew(self) -> None:
        if self.session is not None:
            self.color = self.session.preview(self.saturation.value)
            self._draw()

    def _draw(self) -> None:
        if self.session is not None:
            shown = wipe(self.gray, self.color, self.amount.value)
            self.result.value = C.jpeg(draw_hints(shown, self.hints, self.aim))

    def _uploads(self) -> Iterator[Session]:
        """All uploads, colored; the one at work with its hints."""
        for name, content in self.uploads.items():
            yield self.session if self.session.source is content else self._predict(Session(content, name))

    def _save(self, sessions: Iterable[Session]) -> None:
        start, saved, link = time.perf_counter(), [], ""
        for session in sessions:
            self.status.say(f"Saving {session.name} …")
            saved.append(session.save(outputs_dir() / "demo", self.saturation.value))
        if len(saved) == 1 and saved[0].stat().st_size <= LINK_BYTES:
            name, data = html.escape(saved[0].name), base64.b64encode(saved[0].read_bytes()).decode()
            link = f'<a download="{name}" href="data:application/octet-stream;base64,{data}">Download it</a>'
        names, seconds = ", ".join(path.name for path in saved), time.perf_counter() - start
        self.status.say(f"Saved {names} in the folder demo of the outputs, in {seconds:.2f} s.", link=link)

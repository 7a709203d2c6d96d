"""The demo of notebook 05: a photo, its colors, and what changes them, in plain ipywidgets."""

import base64
import html
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import ipywidgets as W
import numpy as np

from colorlib.colorize import Colorizer, Hint
from colorlib.data import sample_photos
from colorlib.photo import Photo
from colorlib.system import outputs_dir
from colorlib.ui import controls as C
from colorlib.ui.session import Networks, Session, blend, describe_hints, draw_hints, swatches, wipe

LINK_BYTES = 3_000_000  # larger files get no download link
VIEWS = {"Wipe": wipe, "Blend": blend}
SCALES = [("its own size", 1), ("2 times its size", 2), ("3 times its size", 3), ("4 times its size", 4)]
SHARE = {"value": 0.5, "max": 1, "step": 0.01}  # a slider's range


class ColorizeDemo(W.VBox):
    """A widget that colors samples, uploads and files, takes hints and a reference, and compares with the truth.

    Pictures go to the browser at 640 px at most; Save writes the full size to `outputs_dir()/demo`.

    Args:
        colorizer: The network to begin with; the others are the trained runs, see `find_runs`.
        photos: The gallery; None: the bundled samples.
        run: The name of `colorizer` in the list of networks.

    Raises:
        PhotoError: If a photo of the gallery cannot be read.
    """

    def __init__(self, colorizer: Colorizer, photos: Sequence[Photo] | None = None, run: str = "the one given"):
        self.networks, self.status = Networks(run, colorizer), C.Status()
        self.session: Session | None = None
        self.reporting = self.status.reporting
        panels = [self._photo_panel(photos), self._color_panel(), self._hint_panel(), self._reference_panel()]
        self.result, self.truth, self.palette = C.image_box(), C.image_box(), W.HTML()
        self.truth_figure = C.figure("As it really was", self.truth)
        self.palette_figure = C.figure("The palette that the network chose for it", self.palette, "none")
        self.view = W.ToggleButtons(options=list(VIEWS), layout={"width": "auto"})
        self.view.style.button_width = "72px"
        self.view.observe(self.reporting(self._draw), "value")
        self.amount = C.control(W.FloatSlider, "Gray to color", self.reporting(self._draw), "96px", **SHARE)
        self.amount.value, self.amount.layout.flex = 1, "1 1 280px"
        save, save_all = (lambda: self._save([self.session])), (lambda: self._save(self._uploads()))
        self.save = C.button("Save", "download", "Write it at the photo's own size", save, self.status)
        self.save.button_style, self.save.layout.width = "primary", "112px"
        self.save_all = C.button("Save all uploads", "files-o", "Color and write all uploads", save_all, self.status)
        self.save_all.layout.display = "none"
        self.controls = [self.amount, self.saturation, self.save, self.scale, self.reference_choice]
        self.controls += [self.add, self.undo, self.clear]
        for control in self.controls:
            control.disabled = True  # until there is a photo
        pictures = C.row(C.figure("Colored by the network", self.result), self.truth_figure, align="flex-start")
        under = C.row(self.view, self.amount, self.save, self.save_all)
        rows = [panels[0], self.status, pictures, under, self.palette_figure, C.row(*panels[1:], align="stretch")]
        super().__init__(rows, layout={"max_width": "960px", "grid_gap": "10px"})
        for first in list(self.choices.values())[:1]:  # something to see at once
            first.click()

    # --- where a photo comes from: a gallery of samples, uploads (which join the gallery), a path

    def _photo_panel(self, photos: Sequence[Photo] | None) -> W.VBox:
        groups = {"Photos": photos or []}
        if photos is None:
            groups = {"In color (the network sees only their lightness)": sample_photos("color")}
            groups["Black-and-white from the start"] = sample_photos("gray")
        self.choices: dict[str, W.Button] = {}  # the gallery's buttons, by file name
        self.uploads: dict[str, bytes] = {}
        self._cards: dict[str, W.VBox] = {}  # of the uploads
        galleries = [C.figure(title, C.row(*map(self._card, group)), "none") for title, group in groups.items()]
        self._own = C.figure("Your uploads", C.row(), "none")
        self._own.layout.display = "none"
        self.upload = C.upload_button("Upload photos", True, self._take_uploads, self.status)
        self.path = W.Text(description="or a path", placeholder="photo.jpg", layout={"flex": "1 1 240px"})
        self.path.style.description_width = "72px"
        self.open_path = C.button("Open", "folder-open", "Open the photo at this path", self._open_path, self.status)
        self.path.on_msg(lambda _, message, __: message.get("event") == "submit" and self.open_path.click())
        return C.panel("Photo", *galleries, self._own, C.row(self.upload, self.path, self.open_path), flex="none")

    def _card(self, photo: Photo, name: str = "") -> W.VBox:
        """A small picture, and below it the button that shows the photo."""
        session = Session(photo, name or f"photo {len(self.choices) + 1}")
        picture, name = W.HTML(C.thumbnail(session)), session.name
        label, show = Path(name).stem.replace("_", " "), lambda: self.show_photo(photo, name)
        self.choices[name] = C.button(label, "", f"Color {name}", show, self.status)
        self.choices[name].layout = W.Layout(width="96px", padding="0")
        return W.VBox([picture, self.choices[name]])

    def _take_uploads(self, files: dict[str, bytes]) -> None:
        """Put uploads into the gallery and show the first sound one; then name the ones that are not."""
        errors, sound = [], []
        for number, (name, content) in enumerate(files.items(), start=1):
            self.status.say(f"Reading {name} ({number} of {len(files)}) …")
            try:
                self._cards[name] = self._card(content, name)
                sound.append(name)
            except ValueError as error:
                errors.append(str(error))
        self.uploads |= {name: files[name] for name in sound}
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
        self.show_photo(Path(text).expanduser(), Path(text).name)

    # --- what its colors depend on: the network, hints, a reference

    def _color_panel(self) -> W.VBox:
        predict, draw = self.reporting(self.predict), self.reporting(self._draw_anew)
        self.network = C.control(W.Dropdown, "network", predict, options=self.networks.names)
        self.scale = C.control(W.Dropdown, "looks at", predict, options=SCALES)
        self.saturation = C.control(W.FloatSlider, "saturation", draw, value=1, max=2, step=0.05)
        return C.panel("Colors", self.network, self.scale, self.saturation)

    def _hint_panel(self) -> W.VBox:
        self.hints: list[Hint] = []
        self.aim: Hint | None = None  # the one that is being prepared
        aim = self.reporting(self._take_aim)
        self.left = C.control(W.FloatSlider, "from left", aim, "64px", **SHARE)
        self.top = C.control(W.FloatSlider, "from top", aim, "64px", **SHARE)
        self.hint_color = C.control(W.ColorPicker, "color", aim, "64px", value="#3b6fb6")
        add, undo = lambda: self._give_hints([*self.hints, self._hint()]), lambda: self._give_hints(self.hints[:-1])
        self.add = C.button("Add", "plus", "The photo shall have this color here", add, self.status)
        self.undo = C.button("Undo", "undo", "Take back the last hint", undo, self.status)
        self.clear = C.button("Clear", "trash", "Take back all hints", lambda: self._give_hints([]), self.status)
        self.given = W.HTML(describe_hints([]))
        buttons = C.row(self.add, self.undo, self.clear)
        return C.panel("Hints: you know a color", self.left, self.top, self.hint_color, buttons, self.given)

    def _hint(self) -> Hint:
        return Hint(self.left.value, self.top.value, self.hint_color.value)

    def _take_aim(self) -> None:
        self.aim = self._hint()
        self._draw()

    def _give_hints(self, hints: list[Hint]) -> None:
        self.hints, self.aim = hints, None
        self.given.value = describe_hints(hints)
        self.predict()

    def _reference_panel(self) -> W.VBox:
        self.references: dict[str, Photo | None] = {"none": None} | {p.name: p for p in sample_photos("color")}
        choose = self.reporting(self._choose_reference)
        self.reference_choice = C.control(W.Dropdown, "take from", choose, options=list(self.references))
        self.reference_upload = C.upload_button("Upload another", False, self._take_reference, self.status)
        self.reference_shown = W.HTML()
        widgets = self.reference_choice, C.row(self.reference_upload), self.reference_shown
        return C.panel("Reference: colors of another photo", *widgets)

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

    # --- what is shown and saved

    def show_photo(self, photo: Photo, name: str = "photo") -> None:
        """Read, color and show a photo; when that fails, what was shown stays."""
        self.status.say(f"Coloring {name} …")
        session = Session(photo, name)
        self._predict(session)
        self.session = session
        self._give_hints([])  # the old ones were another photo's; calls `predict`

    def predict(self) -> None:
        """Color the photo at work as the controls say, and show it."""
        if self.session is None:
            return
        self.status.say(f"Coloring {self.session.name} …")
        self._predict(self.session, self.hints)
        self.gray = self.session.preview(0)
        self.truth.value = C.jpeg(np.asarray(self.session.small))
        self.palette.value = swatches(self.session.palette)
        self.truth_figure.layout.display = None if self.session.in_color else "none"
        self.palette_figure.layout.display = None if self.palette.value else "none"
        self.save_all.layout.display = None if len(self.uploads) > 1 else "none"
        self._draw_anew()
        for control in self.controls:
            control.disabled = False
        self.status.say(str(self.session))

    def _predict(self, session: Session, hints: Sequence[Hint] = ()) -> None:
        reference = self.references[self.reference_choice.value]
        session.predict(self.networks[self.network.value], self.scale.value, hints, reference)

    def _draw_anew(self) -> None:
        if self.session is not None:
            self.color = self.session.preview(self.saturation.value)
            self._draw()

    def _draw(self) -> None:
        if self.session is not None:
            shown = VIEWS[self.view.value](self.gray, self.color, self.amount.value)
            self.result.value = C.jpeg(draw_hints(shown, self.hints, self.aim))

    def _uploads(self) -> Iterator[Session]:
        """All uploads, colored; the one at work with its hints."""
        for number, (name, content) in enumerate(self.uploads.items(), start=1):
            session = self.session
            if session.source is not content:
                self.status.say(f"Coloring {name} ({number} of {len(self.uploads)}) …")
                session = Session(content, name)
                self._predict(session)
            yield session

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

"""The demo's controls by topic: where a photo comes from, colours at points, colours of another photo.

Each panel keeps its own widgets and calls back when something is chosen. Checked by tests/test_demo.py.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import ipywidgets as W

from colorlib.colorize import Photo
from colorlib.parts import Panel, Status, button, dropdown, figure, row, slider, thumbnail, upload_button
from colorlib.steer import Hint
from colorlib.studio import Work, describe_hints


class PhotoPanel(Panel):
    """Where photos come from: a gallery of samples, uploads, a path.

    groups: the gallery's titles and photos; raises like `colorize.open_photo` for a bad one. show: called with a photo
    and its name. uploads: names and files of what was uploaded, which the gallery shows, too.
    """

    def __init__(self, groups: dict[str, Sequence[Photo]], show: Callable[[Photo, str], None], status: Status):
        self._show, self._status = show, status
        self.choices: dict[str, W.Button] = {}  # the gallery's buttons, by file name
        self.uploads: dict[str, bytes] = {}
        galleries = [figure(title, row(*map(self._card, photos)), flex="none") for title, photos in groups.items()]
        self.upload = upload_button("Upload photos", True, self._take, status)
        self.path = W.Text(description="or a path", placeholder="photo.jpg", layout={"flex": "1 1 240px"})
        self.path.style.description_width = "72px"
        self.open_path = button("Open", "folder-open", "Open the photo at this path", status.reporting(self._open))
        self.path.on_msg(lambda _, message, __: message.get("event") == "submit" and self.open_path.click())
        self._own_cards = row()
        self._own = figure("Your uploads", self._own_cards, flex="none")
        self._own.layout.display = "none"
        files = row(self.upload, self.path, self.open_path)
        super().__init__("Photo", *galleries, self._own, files, flex="none")

    def _card(self, photo: Photo) -> W.VBox:
        name = Path(photo).name if isinstance(photo, str | Path) else f"photo {len(self.choices) + 1}"
        return self._named_card(name, Work(photo, name), photo)

    def _named_card(self, name: str, work: Work, photo: Photo) -> W.VBox:
        show = self._status.reporting(partial(self._show, photo, name))
        choose = button(Path(name).stem.replace("_", " "), "", f"Colour {name}", show, width="96px")
        choose.layout.padding = "0"
        self.choices[name] = choose
        return W.VBox([W.HTML(thumbnail(work.small, name)), choose])

    def _take(self, files: list[tuple[str, bytes]]) -> None:
        """Put uploads into the gallery and show the first sound one; then name the ones that are not."""
        errors, sound = [], []
        for number, (name, content) in enumerate(files, start=1):
            self._status.say(f"Reading {name} ({number} of {len(files)}) …")
            try:
                work = Work(content, name)
            except ValueError as error:
                errors.append(str(error))
                continue
            sound.append(name)
            card = self._named_card(name, work, content)
            cards = [card for old, card in zip(self.uploads, self._own_cards.children, strict=True) if old != name]
            self._own_cards.children = [*cards, card]
            self.uploads = {old: held for old, held in self.uploads.items() if old != name} | {name: content}
        self._own.layout.display = None if self.uploads else "none"
        if sound:
            self._show(self.uploads[sound[0]], sound[0])
        if errors:
            raise ValueError("; ".join(errors))

    def _open(self) -> None:
        text = self.path.value.strip().strip("\"'")
        if not text:
            raise ValueError("type the path of a photo first, or upload one")
        self._show(Path(text).expanduser(), Path(text).name)


class HintPanel(Panel):
    """Colours at points: a position by two sliders, a colour picker, and the hints that were given.

    changed: called when the hints are others. moved: called when only the aim is elsewhere. aim: the hint that is
    being prepared, None while nobody prepares one.
    """

    def __init__(self, changed: Callable[[], None], moved: Callable[[], None], status: Status):
        self.hints: list[Hint] = []
        self.aim: Hint | None = None
        self._changed, self._moved = changed, moved
        aiming = status.reporting(self._take_aim)
        self.x = slider("from left", 0.5, 0, 1, 0.01, aiming, label="64px")
        self.y = slider("from top", 0.5, 0, 1, 0.01, aiming, label="64px")
        self.color = W.ColorPicker(value="#3b6fb6", description="colour", layout={"width": "auto"})
        self.color.style.description_width = "64px"
        self.color.observe(aiming, "value")
        self.add = button("Add", "plus", "The photo shall have this colour here", status.reporting(self._add))
        self.undo = button("Undo", "undo", "Take back the last hint", status.reporting(self._undo))
        self.clear = button("Clear", "trash", "Take back all hints", status.reporting(self._clear))
        self.given = W.HTML(describe_hints([]))
        buttons = row(self.add, self.undo, self.clear)
        super().__init__("Hints: you know a colour", self.x, self.y, self.color, buttons, self.given)

    def forget(self) -> None:
        """Drop all hints without a call back: another photo is at work."""
        self.hints, self.aim = [], None
        self.given.value = describe_hints([])

    def _take_aim(self) -> None:
        self.aim = Hint(self.x.value, self.y.value, self.color.value)
        self._moved()

    def _give(self, hints: list[Hint]) -> None:
        self.hints, self.aim = hints, None
        self.given.value = describe_hints(hints)
        self._changed()

    def _add(self) -> None:
        self._give([*self.hints, Hint(self.x.value, self.y.value, self.color.value)])

    def _undo(self) -> None:
        self._give(self.hints[:-1])

    def _clear(self) -> None:
        self._give([])


class ReferencePanel(Panel):
    """Another photo whose colours shall be taken: one of the samples, or an upload.

    photos: what can be chosen, by name. changed: called when another one is chosen. reference: it, None for none.
    """

    def __init__(self, photos: dict[str, Photo], changed: Callable[[], None], status: Status):
        self.reference: Photo | None = None
        self._changed = changed
        self._options: list[tuple[str, Photo | None]] = [("none", None), *photos.items()]
        self.choice = dropdown("take from", [name for name, _ in self._options], status.reporting(self._choose))
        self.upload = upload_button("Upload another", False, self._take, status)
        self.shown = W.HTML()
        super().__init__("Reference: colours of another photo", self.choice, row(self.upload), self.shown)

    def _choose(self) -> None:
        self.reference = dict(self._options)[self.choice.value]
        self.shown.value = ""
        if self.reference is not None:
            self.shown.value = thumbnail(Work(self.reference, self.choice.value).small, self.choice.value, 128, 96)
        self._changed()

    def _take(self, files: list[tuple[str, bytes]]) -> None:
        ((name, content),) = files
        Work(content, name)  # raises for a broken one, before it can be chosen
        self._options = [option for option in self._options if option[0] != name] + [(name, content)]
        self.choice.options = [option for option, _ in self._options]
        self.choice.value = name

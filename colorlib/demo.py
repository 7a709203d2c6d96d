"""The demo of notebook 05: a photo, its colours, and what steers them, in plain ipywidgets.

What a callback raises appears in words in the widget itself. Checked by tests/test_demo.py (both versions, without a
browser) and tests/test_browser.py (JupyterLab in Chromium).
"""

import base64
import html
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets as W
import numpy as np

from colorlib.colorize import Colorizer, Photo, add_color
from colorlib.data import sample_photos
from colorlib.environment import outputs_dir
from colorlib.panels import HintPanel, PhotoPanel, ReferencePanel
from colorlib.parts import Panel, Status, button, dropdown, figure, image_box, jpeg, row, slider, wide
from colorlib.studio import Work, blend, draw_hints, find_runs, swatches, wipe

LINK_BYTES = 3_000_000  # larger files get no download link
GIVEN = "the one given"
VIEWS = {"Wipe": wipe, "Blend": blend}
SIDES = [("its own size", 1), ("2 times its size", 2), ("3 times its size", 3), ("4 times its size", 4)]


class ColorizeDemo(W.VBox):
    """A widget that colours sample photos, uploads and files, steers the colours, and compares with the truth.

    colorizer: the network to begin with; the others are the runs that `studio.find_runs` finds. photos: what the
    gallery offers (None: the bundled samples); raises like `colorize.open_photo` for a bad one. run: the name under
    which the list of networks shows `colorizer`. Pictures go to the browser at 640 px at most; Save writes the full
    size to `outputs_dir()/demo`.
    """

    def __init__(self, colorizer: Colorizer, photos: Sequence[Photo] | None = None, run: str = GIVEN):
        self.colorizer, self.status = colorizer, Status()
        self.work: Work | None = None
        if photos is None:
            groups = {"In colour (the network sees only their lightness)": sample_photos("color")}
            groups["Black-and-white from the start"] = sample_photos("gray")
        else:
            groups = {"Photos": photos}
        reporting = self.status.reporting
        self.source = PhotoPanel(groups, self.show_photo, self.status)
        self.hints = HintPanel(self.guess, self._show_pictures, self.status)
        self.reference = ReferencePanel({path.name: path for path in sample_photos("color")}, self.guess, self.status)

        self.result, self.truth, self.palette = image_box(), image_box(), W.HTML()
        self.truth_figure = figure("As it really was", self.truth)
        self.palette_figure = figure("The palette that the network chose for it", self.palette, flex="none")
        self.view = W.ToggleButtons(options=list(VIEWS), layout={"width": "auto"})
        self.view.style.button_width = "72px"
        self.view.observe(reporting(self._show_pictures), "value")
        self.amount = slider("Gray to colour", 1.0, 0, 1, 0.01, reporting(self._show_pictures), label="96px")

        self.networks: dict[str, Colorizer | Path] = find_runs() | {run: colorizer}
        names = [run, *(name for name in self.networks if name != run)]
        self.network = dropdown("network", names, reporting(self._choose_network))
        self.detail = dropdown("looks at", SIDES, reporting(self.guess))
        self.saturation = slider("saturation", 1.0, 0, 2, 0.05, reporting(self._show_colors))
        colors = Panel("Colours", self.network, self.detail, self.saturation)

        self.save = button("Save", "download", "Write it at the photo's own size", reporting(self._save), "112px")
        self.save.button_style = "primary"
        self.save_all = button("Save all uploads", "files-o", "Colour and write all uploads", reporting(self._save_all))
        self.save_all.layout.display = "none"
        controls = [self.amount, self.saturation, self.save, self.detail, self.hints.add]
        self.controls = (*controls, self.hints.undo, self.hints.clear, self.reference.choice)
        for control in self.controls:
            control.disabled = True  # until there is a photo
        pictures = row(figure("Coloured by the network", self.result), self.truth_figure)
        pictures.layout.align_items = "flex-start"
        panels = row(colors, self.hints, self.reference)
        panels.layout.align_items = "stretch"
        under = row(self.view, wide(self.amount), self.save, self.save_all)
        rows = [self.source, self.status, pictures, under, self.palette_figure, panels]
        super().__init__(rows, layout={"max_width": "960px", "grid_gap": "10px"})
        for first in list(self.source.choices.values())[:1]:  # something to see at once
            first.click()

    def show_photo(self, photo: Photo, name: str) -> None:
        """Read, colour and show a photo; when that fails, what was shown stays."""
        self.status.say(f"Colouring {name} …")
        work = Work(photo, name)
        work.guess(self.colorizer, **self._wishes())
        self.hints.forget()  # their points were another photo's
        self._show(work)

    def guess(self) -> None:
        """Let the network guess the colours of the photo that is shown anew, as the controls wish."""
        if self.work is not None:
            self.status.say(f"Colouring {self.work.name} …")
            self.work.guess(self.colorizer, **self._wishes(), hints=self.hints.hints)
            self._show(self.work)

    def _wishes(self) -> dict[str, Any]:
        """What holds for every photo: the side at which the network looks, and the reference."""
        side = None if self.detail.value == 1 else self.detail.value * self.colorizer.config.image_size
        return {"render_size": side, "reference": self.reference.reference}

    def _show(self, work: Work) -> None:
        self.work = work
        self.gray = add_color(work.small, work.ab, saturation=0)
        self.truth.value = jpeg(np.asarray(work.small))
        self.truth_figure.layout.display = None if work.colorful else "none"
        self.palette.value = swatches(self.colorizer.palette(work.image))
        self.palette_figure.layout.display = None if self.palette.value else "none"
        self.save_all.layout.display = None if len(self.source.uploads) > 1 else "none"
        self._show_colors()
        for control in self.controls:
            control.disabled = False
        self.status.say(f"{work}: coloured in {work.seconds:.2f} s.")

    def _show_colors(self) -> None:
        if self.work is not None:
            self.color = self.work.preview(self.saturation.value)
            self._show_pictures()

    def _show_pictures(self) -> None:
        if self.work is not None:
            shown = VIEWS[self.view.value](self.gray, self.color, self.amount.value)
            self.result.value = jpeg(draw_hints(shown, self.hints.hints, self.hints.aim))

    def _choose_network(self) -> None:
        name = self.network.value
        if isinstance(self.networks[name], Path):
            self.status.say(f"Loading run {name} …")
            self.networks[name] = Colorizer.from_run(self.networks[name], self.colorizer.device)
        self.colorizer = self.networks[name]
        self.guess()

    def _save(self) -> None:
        self.status.say(f"Saving {self.work.name} …")
        start = time.perf_counter()
        path = self.work.save(outputs_dir() / "demo", self.saturation.value)
        seconds = time.perf_counter() - start
        link = ""
        if path.stat().st_size <= LINK_BYTES:
            data = base64.b64encode(path.read_bytes()).decode()
            name = html.escape(path.name)
            link = f'<a download="{name}" href="data:application/octet-stream;base64,{data}">Download it</a>'
        self.status.say(f"Saved {path.name} in the folder demo of the outputs, in {seconds:.2f} s.", link=link)

    def _save_all(self) -> None:
        start, saved = time.perf_counter(), []
        for name, content in self.source.uploads.items():
            self.status.say(f"Colouring and saving {name} ({len(saved) + 1} of {len(self.source.uploads)}) …")
            if self.work is not None and self.work.source is content:  # with its hints
                work = self.work
            else:
                work = Work(content, name)
                work.guess(self.colorizer, **self._wishes())
            saved.append(work.save(outputs_dir() / "demo", self.saturation.value).name)
        seconds = time.perf_counter() - start
        self.status.say(f"Saved {', '.join(saved)} in the folder demo of the outputs, in {seconds:.2f} s.")


colorize_demo = ColorizeDemo

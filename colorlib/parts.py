"""The parts that widgets are made of: plain ipywidgets that work in versions 7.7.1 (Colab) and 8 alike.

Colours of the page are left to the front end's theme, light or dark: text is muted by opacity, lines are half
transparent. Checked by tests/test_parts.py.
"""

import base64
import html
import io
from collections.abc import Callable, Sequence
from pathlib import PureWindowsPath
from typing import Any

import ipywidgets as W
import numpy as np
from PIL import Image

from colorlib.studio import shrink

RED = "#C62828"
LINE = "1px solid rgba(128, 128, 128, 0.35)"


class Status(W.HTML):
    """A line of words that says what happened, and what went wrong: front ends would drop an error in a callback."""

    def say(self, text: str, error: bool = False, link: str = "") -> None:
        """Show a text (never taken as markup), as an error or not; link: HTML to put behind it."""
        role, style, prefix = ("alert", f"color:{RED}", "<b>Error:</b> ") if error else ("status", "opacity:0.75", "")
        words = f'<div role="{role}" style="{style};line-height:1.5">{prefix}{html.escape(text)} {link}</div>'
        self.value = words

    def reporting(self, action: Callable[[], None]) -> Callable[..., None]:
        """A callback for events, whose arguments are dropped, that shows in words whatever `action` raises."""

        def callback(*_: Any) -> None:
            try:
                action()
            except Exception as error:  # all of them: a front end would show nothing
                kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
                self.say(f"{kind}{error}", error=True)

        return callback


class Panel(W.VBox):
    """Controls that belong together: framed, with a heading, as wide as `flex` says."""

    def __init__(self, title: str, *children: W.Widget, flex: str = "1 1 280px"):
        heading = W.HTML(f'<div style="font-weight:600">{html.escape(title)}</div>')
        layout = W.Layout(flex=flex, border=LINE, padding="8px 12px", grid_gap="4px")
        super().__init__([heading, *children], layout=layout)


def uploaded_files(value: dict | Sequence[dict]) -> list[tuple[str, bytes]]:
    """Names and contents in a FileUpload's value: a dict by name in ipywidgets 7, a tuple of dicts in 8."""
    files = value.items() if isinstance(value, dict) else ((file["name"], file) for file in value)
    # a name must not lead out of a folder; PureWindowsPath knows both kinds of slash
    return [(PureWindowsPath(name).name or "upload", bytes(file["content"])) for name, file in files]


def upload_button(text: str, multiple: bool, action: Callable[[list[tuple[str, bytes]]], None], status: Status) -> Any:
    """A FileUpload that hands over names and contents, and forgets them, so that the same file can come again."""
    upload = W.FileUpload(accept="image/*", multiple=multiple, description=text, layout={"width": "auto"})

    def take() -> None:
        if files := uploaded_files(upload.value):
            upload.set_trait("value", type(upload.value)())
            action(files)

    upload.observe(status.reporting(take), "value")
    return upload


def button(text: str, icon: str, tooltip: str, on_click: Callable[..., None], width: str = "auto") -> W.Button:
    """A button with a symbol of Font Awesome 4, which both versions bring along."""
    made = W.Button(description=text, icon=icon, tooltip=tooltip, layout={"width": width})
    made.on_click(on_click)
    return made


def slider(
    text: str, value: float, low: float, high: float, step: float, on_change: Callable[..., None], label: str = "84px"
) -> W.FloatSlider:
    """A slider as wide as the column that it is in, with a text of the width `label` before it."""
    made = W.FloatSlider(value, description=text, min=low, max=high, step=step)
    made.layout = W.Layout(width="auto", min_width="220px")
    made.readout_format, made.style.description_width = ".0f" if step == 1 else ".2f", label
    made.observe(on_change, "value")
    return made


def dropdown(text: str, options: Sequence[tuple[str, Any]], on_change: Callable[..., None]) -> W.Dropdown:
    """A choice among (label, value) pairs, the first one chosen, as wide as there is room."""
    made = W.Dropdown(options=options, description=text, layout={"width": "auto", "min_width": "220px"})
    made.style.description_width = "84px"
    made.observe(on_change, "value")
    return made


def wide(control: W.Widget) -> W.Widget:
    """The same control, which in a row takes the room that the others leave."""
    control.layout.flex = "1 1 280px"
    return control


def row(*children: W.Widget) -> W.Box:
    """Side by side, and below each other where there is no room."""
    return W.Box(children, layout={"flex_flow": "row wrap", "align_items": "center", "grid_gap": "8px"})


def image_box() -> W.Image:
    """A place for a picture, never wider than its surrounding."""
    return W.Image(format="jpeg", layout={"max_width": "100%", "max_height": "440px", "margin": "0"})


def figure(title: str, content: W.Widget, flex: str = "1 1 300px") -> W.VBox:
    """Something to look at, under a muted title."""
    layout = W.Layout(flex=flex, align_items="flex-start", align_self="flex-start")
    return W.VBox([W.HTML(f'<div style="opacity:0.7">{html.escape(title)}</div>'), content], layout=layout)


def thumbnail(image: Image.Image, name: str, width: int = 96, height: int = 72) -> str:
    """HTML of a small picture, cropped to width × height px, that carries its own data."""
    data = base64.b64encode(jpeg(np.asarray(shrink(image, 2 * width)))).decode()
    style = f"display:block;width:{width}px;height:{height}px;object-fit:cover;border-radius:3px"
    return f'<img alt="{html.escape(name)}" src="data:image/jpeg;base64,{data}" style="{style}">'


def jpeg(pixels: np.ndarray) -> bytes:
    """A picture uint8 (H, W, 3) as the bytes of a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90, subsampling=0)
    return file.getvalue()

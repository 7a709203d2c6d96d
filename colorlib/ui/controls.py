"""What the notebooks' widgets are made of: plain ipywidgets that work in versions 7.7.1 (Colab) and 8 alike.

Text is muted by opacity, lines are half transparent: they fit the front end's theme, light or dark.
"""

import base64
import html
import io
from collections.abc import Callable, Sequence
from pathlib import PureWindowsPath
from typing import Any

import ipywidgets as W
import numpy as np
from PIL import Image, ImageOps

from colorlib.ui.session import Session


class Status(W.HTML):
    """A line of words that says what happened, and what went wrong: front ends would drop an error in a callback."""

    def say(self, text: str, error: bool = False, link: str = "") -> None:
        """Show a text (never taken as markup), as an error or not, with a link (HTML) behind it."""
        role, style, prefix = ("alert", "color:#C62828", "<b>Error:</b> ") if error else ("status", "opacity:0.75", "")
        self.value = f'<div role="{role}" style="{style};line-height:1.5">{prefix}{html.escape(text)} {link}</div>'

    def reporting(self, action: Callable[[], None]) -> Callable[..., None]:
        """Make a callback for events, whose arguments are dropped, that shows in words whatever `action` raises."""

        def callback(*_: Any) -> None:
            try:
                action()
            except Exception as error:  # all of them: a front end would show nothing
                kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
                self.say(f"{kind}{error}", error=True)

        return callback


def upload_button(
    text: str, suffixes: Sequence[str], action: Callable[[list[tuple[str, bytes]]], None], status: Status
) -> Any:
    """A FileUpload that gives `action` names and contents, and forgets them: a file can come again."""
    upload = W.FileUpload(accept=",".join(suffixes), multiple=True, description=text, layout={"width": "auto"})
    upload.tooltip = text  # ipywidgets 8 would show "null"

    def take() -> None:
        value = upload.value  # a dict by name in ipywidgets 7, a tuple of dicts in 8
        files = value.items() if isinstance(value, dict) else [(file["name"], file) for file in value]
        if files:
            upload.set_trait("value", type(value)())
            # a name must not lead out of a folder; PureWindowsPath knows both kinds of slash
            names = [PureWindowsPath(name).name or "upload" for name, _ in files]
            contents = [bytes(file["content"]) for _, file in files]
            action(list(zip(names, contents, strict=True)))

    upload.observe(status.reporting(take), "value")
    return upload


def button(text: str, icon: str, tooltip: str, action: Callable[[], None], status: Status) -> W.Button:
    """A button with a symbol of Font Awesome 4, which both versions have; `status` tells what `action` raises."""
    made = W.Button(description=text, icon=icon, tooltip=tooltip, layout={"width": "auto"})
    made.on_click(status.reporting(action))
    return made


def control(kind: type, text: str, on_change: Callable[..., None], label: str = "84px", **traits: Any) -> Any:
    """A widget of ipywidgets' class `kind`, as wide as its column, with a text of the width `label` before it."""
    made = kind(description=text, layout={"width": "auto", "min_width": "220px"}, **traits)
    made.style.description_width = label
    made.observe(on_change, "value")
    made.tooltip = text  # ipywidgets 8 would show "null"
    return made


def note(text: str) -> W.HTML:
    """A muted sentence that is always there."""
    return W.HTML(f'<div style="opacity:0.75;line-height:1.5">{html.escape(text)}</div>')


def row(*children: W.Widget, align: str = "center") -> W.Box:
    """Side by side, and below each other where there is no room; align: CSS align-items."""
    return W.Box(children, layout={"flex_flow": "row wrap", "align_items": align, "grid_gap": "8px"})


def panel(title: str, *children: W.Widget) -> W.VBox:
    """Controls that belong together: framed, under a heading."""
    heading = W.HTML(f'<div style="font-weight:600">{html.escape(title)}</div>')
    border = "1px solid rgba(128, 128, 128, 0.35)"
    return W.VBox([heading, *children], layout=W.Layout(flex="none", border=border, padding="8px 12px", grid_gap="4px"))


def figure(title: str, content: W.Widget, flex: str = "1 1 300px") -> W.VBox:
    """Something to look at, under a muted title, as wide as `flex` (CSS) says."""
    layout = W.Layout(flex=flex, align_items="flex-start", align_self="flex-start")
    return W.VBox([W.HTML(f'<div style="opacity:0.7">{html.escape(title)}</div>'), content], layout=layout)


def image_box() -> W.Image:
    """A place for a picture, never wider than its surrounding."""
    return W.Image(format="jpeg", layout={"max_width": "100%", "max_height": "440px", "margin": "0"})


def photo_face(face: W.Button, session: Session) -> W.HTML:
    """Make a button as large as a thumbnail with a name, and give the style sheet that paints it: buttons hold text."""
    face.layout = W.Layout(width="100px", height="102px", padding="74px 2px 0")
    face.add_class(name := f"photo-{face.model_id}")
    small = base64.b64encode(jpeg(np.asarray(ImageOps.fit(session.small, (192, 144))))).decode()
    image = f"url(data:image/jpeg;base64,{small})"
    rules = f"background-image: {image}; background-size: 100% 74px; background-repeat: no-repeat"
    return W.HTML(f"<style>button.{name} {{{rules}}}</style>", layout={"display": "none"})


def jpeg(picture: np.ndarray) -> bytes:
    """A picture, uint8 (H, W, 3), as the bytes of a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=90, subsampling=0)
    return file.getvalue()

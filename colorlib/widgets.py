"""The notebooks' widgets: thin views in plain ipywidgets that work in versions 7.7.1 (Colab) and 8 alike.

What a callback raises appears in words in the widget itself: front ends would drop it. Checked by
tests/test_widgets.py (both versions, without a browser) and tests/test_browser.py (JupyterLab in Chromium).
"""

import base64
import html
import io
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

import ipywidgets as W
import numpy as np
import torch
from PIL import Image

from colorlib.color import decode_lab, encode_lab, lab_to_rgb_image, out_of_gamut, rgb_to_lab
from colorlib.colorize import Colorizer, Photo, add_color, open_photo
from colorlib.data import sample_photos
from colorlib.environment import outputs_dir
from colorlib.files import replacing
from colorlib.photo import PhotoError, to_tensor

PREVIEW = 512  # longest side of a picture that goes to the browser, px
LINK_BYTES = 3_000_000  # larger files get no download link
MUTED, RED = "#666", "#B00020"


class ColorizeDemo(W.VBox):
    """A widget that colours sample photos, uploads and files, and compares with the truth.

    photos: what the gallery offers (None: the bundled samples); raises like `colorize.open_photo` for a bad one.
    Pictures go to the browser at 512 px at most; Save writes the full size to `outputs_dir()/demo`.
    """

    def __init__(self, colorizer: Colorizer, photos: Sequence[Photo] | None = None):
        self.colorizer, self.status = colorizer, W.HTML()
        self.choices: dict[str, W.Button] = {}  # the gallery's buttons, by file name
        if photos is None:
            groups = {"In colour (the network sees only their lightness)": sample_photos("color")}
            groups["Black-and-white from the start"] = sample_photos("gray")
        else:
            groups = {"Photos": photos}
        galleries = [self._gallery(title, group) for title, group in groups.items()]
        self.upload = W.FileUpload(accept="image/*", multiple=False, description="Upload a photo")
        self.upload.layout.width = "160px"
        self.upload.observe(self._reporting(self._open_upload), "value")
        self.path = W.Text(description="or its path", placeholder="photo.jpg", layout={"flex": "1 1 240px"})
        self.path.style.description_width = "72px"
        self.open_path = self._button("Open", self._open_path, "folder-open", "Open the photo at this path")
        self.path.on_msg(lambda _, message, __: message.get("event") == "submit" and self.open_path.click())

        self.result, self.truth = _picture(), _picture()
        self.truth_figure = _figure("As it really was", self.truth)
        self.blend = _slider("Gray to colour", 1.0, 0, 1, 0.05, self._reporting(self._show_blend))
        self.saturation = _slider("Saturation", 1.0, 0, 2, 0.05, self._reporting(self._show_colors))
        self.colorize = self._button(
            "Colorize", lambda: self.show_photo(self.photo, self.name), "paint-brush", "Run the network again"
        )
        self.colorize.button_style = "primary"
        self.save = self._button("Save", self._save, "download", "Write a PNG file at the photo's own size")
        self.controls = (self.blend, self.saturation, self.colorize, self.save)
        for control in self.controls:
            control.disabled = True  # until there is a photo
        pictures = _row(_figure("Coloured by the network", self.result), self.truth_figure)
        files = _row(self.upload, self.path, self.open_path)
        rows = [*galleries, files, _row(*self.controls), self.status, pictures]
        super().__init__(rows, layout={"max_width": "900px", "grid_gap": "8px"})
        for button in list(self.choices.values())[:1]:  # something to see at once
            button.click()

    def show_photo(self, photo: Photo, name: str) -> None:
        """Read, colour and show a photo; when that fails, what was shown stays."""
        self._say(f"Colouring {name} …")
        image = open_photo(photo)
        start = time.perf_counter()
        ab = self.colorizer.predict_ab(self.colorizer.network_input(image))
        seconds = time.perf_counter() - start
        self.photo, self.name, self.ab, self.small = image, name, ab, _shrink(image, PREVIEW)
        self.gray = add_color(self.small, ab, saturation=0)
        self.truth.value = _jpeg(np.asarray(self.small))
        colorful = np.ptp(np.asarray(self.small), axis=2).mean() >= 4  # mean range of the channels, in levels
        self.truth_figure.layout.display = None if colorful else "none"
        self._show_colors()
        for control in self.controls:
            control.disabled = False
        self._say(f"{name}, {image.width}×{image.height} px: coloured in {seconds:.2f} s.")

    def _show_colors(self) -> None:
        self.color = add_color(self.small, self.ab, self.saturation.value)
        self._show_blend()

    def _show_blend(self) -> None:
        blended = self.gray + (self.color - self.gray.astype(float)) * self.blend.value
        self.result.value = _jpeg(blended.round().astype(np.uint8))

    def _open_upload(self) -> None:
        for name, content in uploaded_files(self.upload.value):
            self.upload.set_trait("value", type(self.upload.value)())  # so that the same file can come again
            try:
                self.show_photo(content, name)
            except PhotoError as error:
                raise PhotoError(str(error).replace("the image", name, 1)) from error

    def _open_path(self) -> None:
        text = self.path.value.strip().strip("\"'")
        if not text:
            raise ValueError("type the path of a photo first, or upload one")
        self.show_photo(Path(text).expanduser(), Path(text).name)

    def _save(self) -> None:
        target = f"{Path(self.name).stem}-colorized.png"
        self._say(f"Saving {target} …")
        path = outputs_dir() / "demo" / target
        with replacing(path) as temporary:
            Image.fromarray(add_color(self.photo, self.ab, self.saturation.value)).save(temporary)
        link = ""
        if path.stat().st_size <= LINK_BYTES:
            data = base64.b64encode(path.read_bytes()).decode()
            link = f'<a download="{html.escape(target)}" href="data:image/png;base64,{data}">Download it</a>'
        self._say(f"Saved {target} in the folder demo of the outputs.", link=link)

    def _gallery(self, title: str, photos: Sequence[Photo]) -> W.VBox:
        cards = []
        for number, photo in enumerate(photos, start=1):
            name = Path(photo).name if isinstance(photo, str | Path) else f"photo {number}"
            data = base64.b64encode(_jpeg(np.asarray(_shrink(open_photo(photo), 192)))).decode()
            style = "display:block;width:96px;height:72px;object-fit:cover"
            picture = f'<img alt="{html.escape(name)}" src="data:image/jpeg;base64,{data}" style="{style}">'
            show = partial(self.show_photo, photo, name)
            button = self._button(Path(name).stem.replace("_", " "), show, "", f"Colour {name}")
            button.layout.width, button.layout.padding = "96px", "0"
            self.choices[name] = button
            cards.append(W.VBox([W.HTML(picture), button]))
        return _figure(title, _row(*cards), flex="none")

    def _button(self, text: str, action: Callable[[], None], icon: str, tooltip: str) -> W.Button:
        button = W.Button(description=text, icon=icon, tooltip=tooltip, layout={"width": "104px"})
        button.on_click(self._reporting(action))
        return button

    def _reporting(self, action: Callable[[], None]) -> Callable[..., None]:
        """A callback that puts whatever `action` raises into the status line."""

        def callback(*_: Any) -> None:
            try:
                action()
            except Exception as error:  # all of them: a front end would show nothing
                kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
                self._say(f"{kind}{error}", error=True)

        return callback

    def _say(self, text: str, error: bool = False, link: str = "") -> None:
        role, color, prefix = ("alert", RED, "<b>Error:</b> ") if error else ("status", MUTED, "")
        self.status.value = f'<div role="{role}" style="color:{color}">{prefix}{html.escape(text)} {link}</div>'


class LabExplorer(W.VBox):
    """A widget to get a feeling for CIE Lab: one colour by three sliders, and a photo's planes.

    photo: see `colorize.open_photo`; raises like it. The a* and b* planes are drawn at L* 65, scaled by the
    strength; colours that sRGB lacks are marked or counted.
    """

    def __init__(self, photo: Photo):
        self.L, self.ab = encode_lab(rgb_to_lab(to_tensor(np.asarray(_shrink(open_photo(photo), 320)))))
        self.lightness = _slider("L* (lightness)", 60, 0, 100, 1, self._show_patch)
        self.a = _slider("a* (green–red)", 30, -110, 110, 1, self._show_patch)
        self.b = _slider("b* (blue–yellow)", 40, -110, 110, 1, self._show_patch)
        self.strength = _slider("Strength of ab", 1.0, 0, 2, 0.05, self._show_planes)
        self.patch, self.note = W.HTML(), W.HTML()
        self.pictures = {name: _picture() for name in ("All three", "L* alone", "a* alone", "b* alone")}
        sliders = W.GridBox([self.lightness, self.a, self.b], layout={"flex": "1 1 320px"})
        figures = [_figure(name, picture, "1 1 180px") for name, picture in self.pictures.items()]
        rows = [_row(sliders, self.patch), _row(self.strength, self.note), _row(*figures)]
        super().__init__(rows, layout={"max_width": "900px", "grid_gap": "8px"})
        self._show_patch()
        self._show_planes()

    def _show_patch(self, *_: Any) -> None:
        lab = torch.tensor([self.lightness.value, self.a.value, self.b.value]).view(3, 1, 1)
        rgb = lab_to_rgb_image(*encode_lab(lab))[0, 0].tolist()
        code = "#" + "".join(f"{value:02x}" for value in rgb)
        border, words = "solid #ccc", "inside sRGB"
        if out_of_gamut(lab):
            border, words = f"dashed {RED}", "outside sRGB: this is the clamped colour"
        self.patch.value = (
            f'<div style="background:{code};border:3px {border};height:64px"></div>'
            f'<div role="status" style="width:300px;line-height:1.4">sRGB {tuple(rgb)} = {code}<br>{words}</div>'
        )

    def _show_planes(self, *_: Any) -> None:
        ab, middle = self.ab * self.strength.value, torch.full_like(self.L, 0.3)
        a, b = (ab * torch.tensor(mask).view(2, 1, 1) for mask in ([1.0, 0.0], [0.0, 1.0]))
        shown = ((self.L, ab), (self.L, ab * 0), (middle, a), (middle, b))
        for picture, pair in zip(self.pictures.values(), shown, strict=True):
            picture.value = _jpeg(lab_to_rgb_image(*pair))
        share = out_of_gamut(decode_lab(self.L, ab)).float().mean().item()
        self.note.value = f"{share:.1%} of the pixels have a colour that sRGB lacks"


colorize_demo, lab_explorer = ColorizeDemo, LabExplorer


def uploaded_files(value: dict | Sequence[dict]) -> list[tuple[str, bytes]]:
    """Names and contents in a FileUpload's value: a dict by name in ipywidgets 7, a tuple of dicts in 8."""
    files = value.items() if isinstance(value, dict) else ((file["name"], file) for file in value)
    # a name must not lead out of a folder; PureWindowsPath knows both kinds of slash
    return [(PureWindowsPath(name).name or "upload", bytes(file["content"])) for name, file in files]


def _slider(text: str, value: float, low: float, high: float, step: float, on_change: Callable) -> W.FloatSlider:
    slider = W.FloatSlider(value, description=text, min=low, max=high, step=step)
    slider.layout = W.Layout(width="auto", min_width="280px", flex="1 1 300px")
    slider.readout_format, slider.style.description_width = ".0f" if step == 1 else ".2f", "116px"
    slider.observe(on_change, "value")
    return slider


def _row(*children: W.Widget) -> W.Box:
    """Side by side, and below each other where there is no room."""
    return W.Box(children, layout={"flex_flow": "row wrap", "align_items": "center", "grid_gap": "8px"})


def _picture() -> W.Image:
    return W.Image(format="jpeg", layout={"max_width": "100%", "max_height": "420px", "margin": "0"})


def _figure(title: str, content: W.Widget, flex: str = "1 1 300px") -> W.VBox:
    layout = W.Layout(flex=flex, align_items="flex-start", align_self="flex-start")
    return W.VBox([W.HTML(f'<div style="color:{MUTED}">{title}</div>'), content], layout=layout)


def _shrink(image: Image.Image, side: int) -> Image.Image:
    """A copy of at most side × side px, its aspect kept."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.BICUBIC)
    return small


def _jpeg(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=90, subsampling=0)
    return file.getvalue()

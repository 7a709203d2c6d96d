"""The notebooks' widgets: the demo (from `demo`) and a view of CIE Lab, in ipywidgets 7.7.1 (Colab) and 8 alike.

Checked by tests/test_widgets.py and, in JupyterLab in Chromium, by tests/test_browser.py.
"""

from typing import Any

import ipywidgets as W
import numpy as np
import torch

from colorlib.color import decode_lab, encode_lab, lab_to_rgb_image, out_of_gamut, rgb_to_lab
from colorlib.colorize import Photo, open_photo
from colorlib.demo import ColorizeDemo, colorize_demo
from colorlib.parts import RED, figure, image_box, jpeg, row, slider, wide
from colorlib.photo import to_tensor
from colorlib.studio import shrink

__all__ = ["ColorizeDemo", "LabExplorer", "colorize_demo", "lab_explorer"]


class LabExplorer(W.VBox):
    """A widget to get a feeling for CIE Lab: one colour by three sliders, and a photo's planes.

    photo: see `colorize.open_photo`; raises like it. The a* and b* planes are drawn at L* 65, scaled by the
    strength; colours that sRGB lacks are marked or counted.
    """

    def __init__(self, photo: Photo):
        self.L, self.ab = encode_lab(rgb_to_lab(to_tensor(np.asarray(shrink(open_photo(photo), 320)))))
        self.lightness = slider("L* (lightness)", 60, 0, 100, 1, self._show_patch, "116px")
        self.a = slider("a* (green–red)", 30, -110, 110, 1, self._show_patch, "116px")
        self.b = slider("b* (blue–yellow)", 40, -110, 110, 1, self._show_patch, "116px")
        self.strength = slider("Strength of ab", 1.0, 0, 2, 0.05, self._show_planes, "116px")
        self.patch, self.note = W.HTML(), W.HTML()
        self.pictures = {name: image_box() for name in ("All three", "L* alone", "a* alone", "b* alone")}
        sliders = W.GridBox([self.lightness, self.a, self.b], layout={"flex": "1 1 320px"})
        figures = [figure(name, picture, "1 1 180px") for name, picture in self.pictures.items()]
        rows = [row(sliders, self.patch), row(wide(self.strength), self.note), row(*figures)]
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
            picture.value = jpeg(lab_to_rgb_image(*pair))
        share = out_of_gamut(decode_lab(self.L, ab)).float().mean().item()
        self.note.value = f"{share:.1%} of the pixels have a colour that sRGB lacks"


lab_explorer = LabExplorer

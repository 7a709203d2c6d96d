"""A widget of notebook 01: what the three numbers of CIE Lab mean."""

from typing import Any

import ipywidgets as W
import numpy as np
import torch

from colorlib.color import decode_lab, encode_lab, lab_to_rgb_image, out_of_gamut, rgb_to_lab
from colorlib.photo import Photo, read_photo, to_tensor
from colorlib.ui.controls import RED, control, figure, image_box, jpeg, row
from colorlib.ui.session import shrink


class LabExplorer(W.VBox):
    """A widget to get a feeling for CIE Lab: one color by three sliders, and a photo's planes.

    The a* and b* planes are drawn at L* 65, times the strength; colors that sRGB lacks are marked or counted.
    """

    def __init__(self, photo: Photo):
        self.L, self.ab = encode_lab(rgb_to_lab(to_tensor(np.asarray(shrink(read_photo(photo), 320)))))
        show, steps, ab = self._show_patch, {"step": 1, "readout_format": ".0f"}, {"min": -110, "max": 110}
        self.lightness = control(W.FloatSlider, "L* (lightness)", show, "116px", value=60, max=100, **steps)
        self.a = control(W.FloatSlider, "a* (green–red)", show, "116px", value=30, **ab, **steps)
        self.b = control(W.FloatSlider, "b* (blue–yellow)", show, "116px", value=40, **ab, **steps)
        self.strength = control(W.FloatSlider, "Strength of ab", self._show_planes, "116px", value=1, max=2, step=0.05)
        self.strength.layout.flex = "1 1 280px"
        self.patch, self.note = W.HTML(layout={"flex": "1 1 240px"}), W.HTML()
        self.pictures = {name: image_box() for name in ("All three", "L* alone", "a* alone", "b* alone")}
        sliders = W.GridBox([self.lightness, self.a, self.b], layout={"flex": "1 1 320px"})
        figures = [figure(name, picture, "1 1 0") for name, picture in self.pictures.items()]
        pairs = [W.HBox(pair, layout={"flex": "1 1 290px", "grid_gap": "8px"}) for pair in (figures[:2], figures[2:])]
        rows = [row(sliders, self.patch), row(self.strength, self.note), row(*pairs, align="flex-start")]
        super().__init__(rows, layout={"max_width": "900px", "grid_gap": "8px"})
        self._show_patch()
        self._show_planes()

    def _show_patch(self, *_: Any) -> None:
        lab = torch.tensor([self.lightness.value, self.a.value, self.b.value]).view(3, 1, 1)
        rgb = lab_to_rgb_image(*encode_lab(lab))[0, 0].tolist()
        code, border, words = f"#{bytes(rgb).hex()}", "solid #999", "inside sRGB"
        if out_of_gamut(lab):
            border, words = f"dashed {RED}", "outside sRGB: this is the clamped color"
        self.patch.value = (
            f'<div style="background:{code} content-box;border:3px {border};padding:4px;height:56px"></div>'
            f'<div role="status" style="line-height:1.4">sRGB {tuple(rgb)} = {code}<br>{words}</div>'
        )

    def _show_planes(self, *_: Any) -> None:
        ab, middle = self.ab * self.strength.value, torch.full_like(self.L, 0.3)
        a, b = (ab * torch.tensor(mask).view(2, 1, 1) for mask in ([1.0, 0.0], [0.0, 1.0]))
        shown = ((self.L, ab), (self.L, ab * 0), (middle, a), (middle, b))
        for picture, pair in zip(self.pictures.values(), shown, strict=True):
            picture.value = jpeg(lab_to_rgb_image(*pair))
        share = out_of_gamut(decode_lab(self.L, ab)).float().mean().item()
        self.note.value = f"{share:.1%} of the pixels have a color that sRGB lacks"

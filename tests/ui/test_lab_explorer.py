"""The view of CIE Lab, driven in plain Python; test_ipywidgets7.py runs it in 7.7.1, too."""

from conftest import blobs
from test_demo import chroma, shown

from colorlib.data import sample_photos
from colorlib.ui import LabExplorer


def test_one_color():
    explorer = LabExplorer(blobs(0))
    explorer.lightness.value, explorer.a.value, explorer.b.value = 100, 0, 0
    assert "sRGB (255, 255, 255) = #ffffff" in explorer.patch.value and "inside sRGB" in explorer.patch.value
    explorer.lightness.value, explorer.a.value, explorer.b.value = 53.24, 80.09, 67.20  # sRGB's red
    assert "#ff0000" in explorer.patch.value and "inside sRGB" in explorer.patch.value
    explorer.b.value = -100
    assert "outside sRGB" in explorer.patch.value and "inside sRGB" not in explorer.patch.value


def test_a_photos_planes():
    explorer = LabExplorer(sample_photos()[0])
    together, L, a, b = explorer.pictures.values()
    assert shown(together).shape == (213, 320, 3)
    assert chroma(shown(L)) < 1 < chroma(shown(a))
    assert shown(b)[..., 2].mean() < shown(b)[..., 0].mean() - 10  # a warm photo: little blue in b*
    before = [picture.value for picture in (together, L, a, b)]
    explorer.strength.value = 0
    assert all(chroma(shown(picture)) < 1 for picture in (together, L, a, b))
    assert "0.0% of the pixels" in explorer.note.value
    explorer.strength.value = 2
    assert float(explorer.note.value.partition("%")[0]) > 1
    explorer.strength.value = 1
    assert [picture.value for picture in (together, L, a, b)] == before

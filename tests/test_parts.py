"""The parts of widgets, in the ipywidgets that is installed; tests/test_widgets.py runs them in 7.7.1, too."""

import io

import ipywidgets as W
import numpy as np
from conftest import blobs
from PIL import Image

from colorlib.parts import Panel, Status, button, dropdown, jpeg, slider, thumbnail, uploaded_files


def test_uploaded_files_in_both_formats():
    seven = {"a.png": {"metadata": {"name": "a.png", "type": "image/png"}, "content": b"123"}}
    eight = ({"name": "a.png", "type": "image/png", "size": 3, "content": memoryview(b"123")},)
    assert uploaded_files(seven) == uploaded_files(eight) == [("a.png", b"123")]
    assert uploaded_files({}) == uploaded_files(()) == []
    for name in ("../../a.png", "C:\\photos\\a.png"):
        assert uploaded_files(({"name": name, "content": b""},)) == [("a.png", b"")]


def test_what_a_callback_raises_is_said_in_words():
    status, raised = Status(), [ValueError("too <wide>"), FileNotFoundError("no such photo"), RuntimeError("oh")]
    action = status.reporting(lambda: (_ for _ in ()).throw(raised.pop(0)))
    for words in ("too &lt;wide&gt;", "no such photo", "RuntimeError: oh"):
        action("whatever an event brings along")
        assert 'role="alert"' in status.value and words in status.value
    status.say("done", link='<a href="x">it</a>')
    assert 'role="status"' in status.value and '<a href="x">it</a>' in status.value


def test_controls_call_back():
    heard = []
    slider("Amount", 1, 0, 2, 0.5, lambda change: heard.append(change["new"])).value = 1.5
    dropdown("kind", [("one", 1), ("two", 2)], lambda change: heard.append(change["new"])).value = 2
    button("Go", "play", "Begin", lambda _: heard.append("go")).click()
    assert heard == [1.5, 2, "go"]


def test_a_panel_has_a_heading_and_its_parts():
    inner = W.Text()
    panel = Panel("Colours & light", inner)
    assert "Colours &amp; light" in panel.children[0].value and panel.children[1] is inner


def test_pictures_for_the_browser():
    picture = blobs(0, 300, 400)
    assert np.abs(np.asarray(Image.open(io.BytesIO(jpeg(picture)))).astype(int) - picture).mean() < 3
    code = thumbnail(Image.fromarray(picture), '"<cat>')
    assert 'alt="&quot;&lt;cat&gt;"' in code and "data:image/jpeg;base64," in code and len(code) < 20_000

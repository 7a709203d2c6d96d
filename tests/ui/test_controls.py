"""What widgets are made of, in the ipywidgets that is installed; test_ipywidgets7.py runs it in 7.7.1, too."""

import io

import numpy as np
from conftest import blobs
from PIL import Image

from colorlib.ui import Session
from colorlib.ui.controls import Status, jpeg, thumbnail


def test_what_a_callback_raises_is_said_in_words():
    status, raised = Status(), [ValueError("too <wide>"), FileNotFoundError("no such photo"), RuntimeError("oh")]
    action = status.reporting(lambda: (_ for _ in ()).throw(raised.pop(0)))
    for words in ("too &lt;wide&gt;", "no such photo", "RuntimeError: oh"):
        action("whatever an event brings along")
        assert 'role="alert"' in status.value and words in status.value
    status.say("done", link='<a href="x">it</a>')
    assert 'role="status"' in status.value and '<a href="x">it</a>' in status.value


def test_pictures_for_the_browser():
    picture = blobs(0, 300, 400)
    assert np.abs(np.asarray(Image.open(io.BytesIO(jpeg(picture)))).astype(int) - picture).mean() < 3
    code = thumbnail(Session(picture, '"<cat>'))
    assert 'alt="&quot;&lt;cat&gt;"' in code and "data:image/jpeg;base64," in code and len(code) < 20_000

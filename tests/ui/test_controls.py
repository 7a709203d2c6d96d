"""What widgets are made of, in the ipywidgets that is installed; test_ipywidgets7.py runs it in 7.7.1, too."""

from colorlib.ui.controls import Status


def test_what_a_callback_raises_is_said_in_words():
    status, raised = Status(), [ValueError("too <wide>"), FileNotFoundError("no such photo"), RuntimeError("oh")]
    action = status.reporting(lambda: (_ for _ in ()).throw(raised.pop(0)))
    for words in ("too &lt;wide&gt;", "no such photo", "RuntimeError: oh"):
        action("whatever an event brings along")
        assert 'role="alert"' in status.value and words in status.value
    status.say("done", link='<a href="x">it</a>')
    assert 'role="status"' in status.value and '<a href="x">it</a>' in status.value

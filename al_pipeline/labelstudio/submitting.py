"""Which keys submit an answer, in Label Studio's own words for its pages and in ours for people."""

import json
from collections.abc import Iterable
from typing import Literal

# Ctrl+Enter always does; `enter`: so does Enter; `key`: so do the keys of classes and buttons, which choose as well.
Submit = Literal["ctrl+enter", "enter", "key"]


def editor_keymap(submit: Submit, keys: Iterable[str] = ()) -> str:
    """Return what the environment variable EDITOR_KEYMAP of a Label Studio server is to be.

    A key of a class submits first and chooses then, and both are done before the answer is looked at: so it is in
    1.23.2. Therefore the answer must not be required.

    Parameters
    ----------
    submit : str
    keys : iterable of str
        Those of classes and buttons. Another key would submit an answer with nothing chosen.
    """
    more = {"ctrl+enter": (), "enter": ("enter",), "key": keys}[submit]
    key = ",".join(["ctrl+enter", "command+enter", *more])
    return json.dumps({"annotation:submit": {"key": key, "description": "Submit annotation"}})


def told_to_answer(submit: Submit) -> str:
    """Return the HTML that tells people how to answer."""
    if submit == "key":
        return (
            "Press the key of the one class that the image shows: that is your answer, and the next image comes. After "
            "a click on a class, press <code>Ctrl+Enter</code> (Submit)."
        )
    return f"Choose the one class that the image shows, then press {pressed(submit)} (Submit)."


def told_to_change(submit: Submit) -> str:
    """Return the HTML that tells people how to change an answer."""
    choose = "choose the other class" if submit == "key" else "choose again"
    return (
        f"<p><b>To change an answer</b>, go back with the arrow at the bottom left, {choose} and press "
        f"{pressed(submit)} (Update); the other arrow goes on.</p>"
    )


def pressed(submit: Submit) -> str:
    """Return the HTML of the key that people are told to submit with."""
    return f"<code>{'Enter' if submit == 'enter' else 'Ctrl+Enter'}</code>"

"""What the Label Studio of a home is told of keys when it starts: its pages know the classes only later."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from al_pipeline.settings import Settings


def keymap(settings: "Settings") -> str | None:
    """Return EDITOR_KEYMAP for the server that `al up` starts; None leaves Label Studio its own.

    Of a class that is added while it runs, the key chooses, and Ctrl+Enter submits, until it starts again.

    Raises
    ------
    InputError
        The classes are not clear.
    """
    from al_pipeline.labelstudio.submitting import editor_keymap

    if settings.submits == "ctrl+enter":
        return None
    return editor_keymap(settings.submits, _keys(settings) if settings.submits == "key" else ())


def _keys(settings: "Settings") -> list[str]:
    from al_pipeline.core.data.pool import glance
    from al_pipeline.labelstudio.config import Interface
    from al_pipeline.loop.classes import check_declared, listing_options

    if settings.images is None:
        return []
    names = check_declared(settings, glance(settings.images, **listing_options(settings)))
    return Interface(names, "", settings.unsure_class, settings.ask_groups).keys

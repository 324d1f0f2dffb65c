"""The guideline that annotators read before they start: a text of one's own, and a few images of each class."""

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.kinds import SUFFIXES
from al_pipeline.core.errors import ImageError, InputError
from al_pipeline.labelstudio.config import IMAGE_FOLDER
from al_pipeline.labelstudio.images import publish

# So many fit beside each other in the dialog, so wide.
EXAMPLES, WIDTH = 4, 120


def guideline(
    instructions: str | None,
    examples: Path | None,
    class_names: Sequence[str],
    published: Path,
    *,
    of: Callable[[str], str | None] = str,
    how: HowRead = AS_EVER,
    shown: Callable[[str], str] = f"{IMAGE_FOLDER}/{{}}".format,
) -> str:
    """Return the guideline as HTML, empty if there is none.

    Parameters
    ----------
    instructions : str, optional
        Markdown, or the path of a file of it, which ends with ``.md``.
    examples : Path, optional
        A folder with a folder of images for each class; classes without one have no examples.
    class_names : sequence of str
    published : Path
        The folder of images that Label Studio serves: the examples are put there.
    of : callable
        The class that a folder's name means today, None for one that is no class any more.
    how : HowRead
        How the images of the pool are read, so that the examples look as they do.
    shown : callable
        Where the project's pages find a published image, by its name.

    Raises
    ------
    InputError
        A file cannot be read, an example is no image, or a folder of examples is named like no class.
    """
    text = "" if instructions is None else _rendered(_read(instructions))
    return (
        text
        if examples is None
        else text + _shown(_found(examples, class_names, of), lambda path: shown(_publish(path, published, how)))
    )


def _read(instructions: str) -> str:
    if not instructions.endswith(".md"):
        return instructions
    try:
        return Path(instructions).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{instructions} (AL_INSTRUCTIONS) cannot be read: {error.strerror}; check the path, or give the text"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{instructions} (AL_INSTRUCTIONS) is no UTF-8 text: save it as UTF-8") from None


def _rendered(markdown: str) -> str:
    # Label Studio lets through more HTML than a text needs.
    return MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)


def _found(folder: Path, class_names: Sequence[str], of: Callable[[str], str | None]) -> dict[str, list[Path]]:
    """Return the first images of each class that has a folder, in the order of the classes."""
    try:
        folders = {
            unicodedata.normalize("NFC", path.name).strip(): path
            for path in folder.iterdir()
            if path.is_dir() and not path.name.startswith(".")
        }
    except OSError as error:
        raise InputError(
            f"{folder} (AL_EXAMPLES) cannot be read: {error.strerror}; it is to hold a folder of images for each class"
        ) from None
    if unknown := sorted(name for name in folders if of(name) not in {None, *class_names}):
        raise InputError(
            f"{folder} (AL_EXAMPLES) has the folder {unknown[0]!r}, and the classes are "
            f"{', '.join(map(repr, class_names))}: name it like one of them, or move it away"
        )
    found: dict[str, list[Path]] = {name: [] for name in class_names}
    for called, path in sorted(folders.items()):
        if (name := of(called)) is not None:
            found[name] += _images(path)
    return {name: images[:EXAMPLES] for name, images in found.items() if images}


def _images(folder: Path) -> list[Path]:
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]
    if not files:
        raise InputError(f"{folder} (AL_EXAMPLES) holds no images: put some there, or remove the folder")
    return files[:EXAMPLES]


def _shown(examples: dict[str, list[Path]], shown: Callable[[Path], str]) -> str:
    rows = (
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{_image(shown(path))}</td>' for path in paths)}</tr>"
        for name, paths in examples.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _image(source: str) -> str:
    return f'<img src="{source}" width="{WIDTH}" alt="">'


def _publish(path: Path, published: Path, how: HowRead) -> str:
    """Publish an example, and return its name."""
    try:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256")
        # Read otherwise it is another picture, and browsers keep what they have got under a name.
        content.update(how.key.encode())
        return publish(path, content.hexdigest()[:32], published, how)
    except (OSError, ImageError) as error:
        raise InputError(f"The example {path} (AL_EXAMPLES) cannot be shown: {error}. Or move it away") from None

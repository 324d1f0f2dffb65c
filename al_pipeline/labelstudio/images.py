"""Put images where Label Studio can serve them, named by content: a class folder in a URL would tell the answer."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from al_pipeline.core.data.images import open_rgb
from al_pipeline.core.data.montage import QUALITY, montage
from al_pipeline.core.errors import ImageError
from al_pipeline.core.files import whole_file

# What every browser shows as it is.
AS_IS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "MPO": ".jpg"}
SHOWN_MODES = {"RGB", "L", "P", "RGBA", "LA", "1"}


def publish(uri: str | Path, sample_id: str, folder: Path) -> str:
    """Make an image available as ``folder/<sample_id>.<suffix>`` and return that file name.

    A hard link where possible (the original takes no second place on the disk), a copy elsewhere; CMYK, TIFF, BMP and
    16-bit images become PNG files. The file appears whole; one that is there already is kept.

    Raises
    ------
    ImageError
        The image cannot be decoded, or the file cannot be written.
    """
    source = Path(uri)
    suffix = _suffix_as_is(source)
    target = folder / f"{sample_id}{suffix or '.png'}"
    if target.exists():
        return target.name
    with whole_file(target, "The image", error=ImageError, sync=False) as temporary:
        if suffix is None:
            _convert(source, temporary)
        else:
            _link_or_copy(source, temporary)
        if temporary.stat().st_nlink == 1:
            # Label Studio may run as another user, whatever the umask.
            temporary.chmod(0o644)
    return target.name


def published(sample_id: str, folder: Path) -> str | None:
    """Return the name of the file under which an image is available already; None if it is not."""
    names = (f"{sample_id}{suffix}" for suffix in sorted({*AS_IS.values(), ".png"}))
    return next((name for name in names if (folder / name).is_file()), None)


def publish_together(places: Mapping[str, str | None], folder: Path) -> tuple[str, list[str]]:
    """Put several samples into one picture in the folder; return its name, and the samples that could not be shown.

    What is there already is kept. Where nothing can be shown beside the first, it is that one's own file.

    Parameters
    ----------
    places : mapping
        Sample id → image, in the order in which they are numbered, None for one that is gone. The first is published.
    folder : Path

    Raises
    ------
    ImageError
        The first image cannot be decoded, or the file cannot be written.
    """
    if (folder / _name_together(places)).exists():
        return _name_together(places), []
    first, *others = places
    left = [i for i in others if not _can_be_shown(places[i])]
    shown = {i: place for i, place in places.items() if i not in left and place is not None}
    if len(shown) == 1:
        return Path(shown[first]).name, left
    if not (target := folder / _name_together(shown)).exists():
        with whole_file(target, "The picture", error=ImageError, sync=False) as temporary:
            montage(list(shown.values())).save(temporary, format="JPEG", quality=QUALITY)
            temporary.chmod(0o644)
    return target.name, left


def _name_together(sample_ids: Iterable[str]) -> str:
    """Return a name that begins with the first sample, and is another one for each set."""
    first, *others = sample_ids
    return f"{first}-group-{hashlib.sha256(' '.join(others).encode()).hexdigest()[:16]}.jpg"


def _can_be_shown(place: str | None) -> bool:
    try:
        return place is not None and bool(open_rgb(place, at_least=1))
    except ImageError:
        return False


def _suffix_as_is(source: Path) -> str | None:
    """Return the suffix under which browsers show the file as it is, None if it must be converted."""
    try:
        with Image.open(source) as image:
            return AS_IS.get(image.format or "") if image.mode in SHOWN_MODES else None
    except UnidentifiedImageError:
        raise ImageError(f"{source} is no image (any more): scan the images again (image_pool)") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImageError(f"{source} cannot be read: {reason}; put it back, or scan the images again") from None


def _convert(source: Path, target: Path) -> None:
    try:
        open_rgb(source).save(target, format="PNG")
    except ImageError as error:
        raise ImageError(f"{source} cannot be converted: {error}") from None


def _link_or_copy(source: Path, target: Path) -> None:
    target.unlink()
    try:
        os.link(source.resolve(), target)
    except OSError:
        # Another file system, or one without links.
        shutil.copyfile(source, target)

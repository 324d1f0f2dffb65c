"""Put images where Label Studio can serve them, named by content: a class folder in a URL would tell the answer."""

import hashlib
import os
import shutil
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.images import open_rgb
from al_pipeline.core.data.montage import QUALITY, montage
from al_pipeline.core.data.places import Loaded, is_address, load
from al_pipeline.core.data.plain import LARGEST, plain_suffix
from al_pipeline.core.errors import ImageError
from al_pipeline.core.files import whole_file

SUFFIXES = (".bmp", ".gif", ".jpg", ".png", ".webp")
# A third of the time of Pillow's own choice, and photos become as small.
COMPRESSION = zlib.Z_RLE
# Of a reduced photo: a quarter of a PNG's bytes, a tenth of its time, and 0.5 to 2 of 255 levels beside it on average.
REDUCED_QUALITY = 90


def publish(
    uri: str | Path | Loaded,
    sample_id: str,
    folder: Path,
    how: HowRead = AS_EVER,
    *,
    anew: bool = False,
    shown_px: int | None = None,
) -> str:
    """Make an image available as ``folder/<sample_id>.<suffix>`` and return that file name.

    What people see is what the model gets: a hard link to the original (a copy on another disk) if every browser paints
    that as it is decoded, else the decoded pixels as PNG, or as JPEG where they are to be reduced. The file appears
    whole. A plain one that is there is kept; another one is made anew under its name, because tasks know it, and
    browsers tell a kind from the content.

    Parameters
    ----------
    uri : path-like
        The original, also an object's address or what was read of one; it may be gone if it is published already.
    sample_id : str
    folder : Path
    how : HowRead
    anew : bool
        Make it of the original also if a plain one is there: that was read otherwise.
    shown_px : int, optional
        Pixels that the longer side is reduced to.

    Raises
    ------
    ImageError
        The image cannot be decoded, or the file cannot be written.
    PlaceError
        The bucket of the original is away.
    """
    source, kept = (uri if isinstance(uri, Loaded) or is_address(uri) else Path(uri)), published(sample_id, folder)
    if kept is not None and not anew:
        if _suffix_if_plain(folder / kept) is not None:
            return kept
        # It has the content of the original, which may have left the pool.
        source = _there(source) or folder / kept
    if not isinstance(source, Path | Loaded):
        source = _loaded(source)
    suffix = None if shown_px else _suffix_if_plain(source)
    target = folder / (kept or f"{sample_id}{suffix or ('.jpg' if shown_px else '.png')}")
    with whole_file(target, "The image", error=ImageError, sync=False) as temporary:
        if suffix is None:
            _convert(source, temporary, how, shown_px)
        else:
            _link_or_copy(source, temporary)
        if temporary.stat().st_nlink == 1:
            # Label Studio may run as another user, whatever the umask.
            temporary.chmod(0o644)
    return target.name


def published(sample_id: str, folder: Path) -> str | None:
    """Return the name of the file under which an image is available already; None if it is not."""
    names = (f"{sample_id}{suffix}" for suffix in SUFFIXES)
    return next((name for name in names if (folder / name).is_file()), None)


def publish_together(places: Mapping[str, str | None], folder: Path, how: HowRead = AS_EVER) -> tuple[str, list[str]]:
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
    left = [i for i in others if not _can_be_shown(places[i], how)]
    shown = {i: place for i, place in places.items() if i not in left and place is not None}
    if len(shown) == 1:
        return Path(shown[first]).name, left
    if not (target := folder / _name_together(shown)).exists():
        _show_together(list(shown.values()), target, how)
    return target.name, left


def together_anew(places: Mapping[str, str], folder: Path, how: HowRead) -> bool:
    """Make the picture of several samples anew under its name, and say whether there is one.

    Parameters
    ----------
    places, folder, how
        As of `publish_together`; all images are there.

    Raises
    ------
    ImageError
        An image cannot be decoded, or the file cannot be written; the old picture stays.
    """
    if not (target := folder / _name_together(places)).exists():
        return False
    _show_together(list(places.values()), target, how)
    return True


def _show_together(paths: Sequence[str], target: Path, how: HowRead) -> None:
    with whole_file(target, "The picture", error=ImageError, sync=False) as temporary:
        montage(paths, how).save(temporary, format="JPEG", quality=QUALITY)
        temporary.chmod(0o644)


def _name_together(sample_ids: Iterable[str]) -> str:
    """Return a name that begins with the first sample, and is another one for each set."""
    first, *others = sample_ids
    return f"{first}-group-{hashlib.sha256(' '.join(others).encode()).hexdigest()[:16]}.jpg"


def _can_be_shown(place: str | None, how: HowRead) -> bool:
    try:
        return place is not None and bool(open_rgb(place, at_least=1, how=how))
    except ImageError:
        return False


def _there(source: str | Path | Loaded) -> Path | Loaded | None:
    """Return an original if there is one."""
    if isinstance(source, Path):
        return source if source.is_file() else None
    try:
        return source if isinstance(source, Loaded) else load(source)
    except OSError:
        return None


def _loaded(uri: str) -> Loaded:
    try:
        return load(uri)
    except OSError as error:
        raise ImageError(f"{uri} cannot be read: {error.strerror}; put it back, or scan the images again") from None


def _suffix_if_plain(path: Path | Loaded) -> str | None:
    """Return the suffix under which browsers show the file as it is decoded, None if it must be converted."""
    if isinstance(path, Loaded):
        return plain_suffix(path.getvalue()) if path.entry.size <= LARGEST else None
    try:
        return plain_suffix(path.read_bytes()) if path.stat().st_size <= LARGEST else None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImageError(f"{path} cannot be read: {reason}; put it back, or scan the images again") from None


def _convert(source: Path | Loaded, target: Path, how: HowRead, shown_px: int | None) -> None:
    try:
        pixels = open_rgb(source, at_least=shown_px, how=how)
    except ImageError as error:
        name = source.uri if isinstance(source, Loaded) else source
        raise ImageError(f"{name} cannot be shown: {error}. If it has changed, scan the images again") from None
    # Pillow would write what the original's profile and transparency were.
    pixels.info = {}
    if shown_px is None:
        pixels.save(target, format="PNG", compress_type=COMPRESSION)
        return
    pixels.thumbnail((shown_px, shown_px), Image.Resampling.LANCZOS)
    pixels.save(target, format="JPEG", quality=REDUCED_QUALITY, subsampling=0)


def _link_or_copy(source: Path | Loaded, target: Path) -> None:
    if isinstance(source, Loaded):
        target.write_bytes(source.getvalue())
        return
    target.unlink()
    try:
        os.link(source.resolve(), target)
    except OSError:
        # Another file system, or one without links.
        shutil.copyfile(source, target)

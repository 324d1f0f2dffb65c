"""Put images where Label Studio can serve them, named by content: a class folder in a URL would tell the answer."""

import os
import shutil
import tempfile
from pathlib import Path

from PIL import Image

# What every browser shows as it is.
AS_IS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif"}
SHOWN_MODES = {"RGB", "L", "P", "RGBA", "LA", "1"}


def publish(uri: str | Path, sample_id: str, folder: Path) -> str:
    """Make an image available as ``folder/<sample_id>.<suffix>`` and return that file name.

    A hard link where possible (the original takes no second place on the disk), a copy elsewhere; CMYK, TIFF, BMP and
    16-bit images become PNG files. The file appears whole; one that is there already is kept.

    Raises
    ------
    ImageError
        The image cannot be decoded.
    """
    source = Path(uri)
    with Image.open(source) as image:
        suffix = AS_IS.get(image.format or "") if image.mode in SHOWN_MODES else None
    target = folder / f"{sample_id}{suffix or '.png'}"
    if target.exists():
        return target.name
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=".")
    os.close(handle)
    temporary = Path(name)
    try:
        if suffix is None:
            from al_pipeline.core.images import open_rgb

            open_rgb(source).save(temporary, format="PNG")
        else:
            _link_or_copy(source, temporary)
        if temporary.stat().st_nlink == 1:
            # Label Studio may run as another user, and mkstemp leaves a file to its owner alone.
            temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target.name


def _link_or_copy(source: Path, target: Path) -> None:
    target.unlink()
    try:
        os.link(source.resolve(), target)
    except OSError:
        # Another file system, or one without links.
        shutil.copyfile(source, target)

"""PNG of 16 bits: which value is white by the chunk of significant bits, and several channels whole.

Pillow reads neither: of colours, and of gray with opacity, it keeps the first 8 bits.
"""

import itertools
import struct
from typing import IO, Any

import numpy.typing as npt
from PIL import Image

from al_pipeline.core.data.colour import PRIMARIES, SAID, TONE_MAPPED, note_cicp
from al_pipeline.core.data.hdr import HDR, tone_mapped
from al_pipeline.core.data.how_read import HowRead
from al_pipeline.core.data.raster import Raster, to_image
from al_pipeline.core.data.truncated import PNG, chunk, chunks

# What the pixels are made of; what libpng dislikes in others it would tell the terminal.
_PIXELS = frozenset({b"IHDR", b"tRNS", b"IDAT", b"IEND"})
_TOLD = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt"})


def deep_png(image: Image.Image, how: HowRead) -> Image.Image | None:
    """Return a PNG of 16 bits in two to four channels whole, with the values as ``raster`` in ``info``.

    One clear colour, or gray level, is opacity as a channel of its own is.

    Parameters
    ----------
    image : PIL.Image.Image
        As opened, not loaded.
    how : HowRead

    Returns
    -------
    PIL.Image.Image or None
        None: it is another PNG, an animation, or one that libpng does not decode.
    """
    file = getattr(image, "fp", None)
    if file is None or not _has_deep_channels(image):
        return None
    before = file.tell()
    file.seek(0)
    found = list(chunks(file.read()))
    file.seek(before)
    names = [name for name, _ in found]
    if not {b"IDAT", b"IEND"} <= set(names):
        return None
    end = names.index(b"IEND") + 1
    values = _values([part for part in found[:end] if part[0] in _PIXELS])
    if values is None:
        return None
    note_cicp(image)
    white = significant_white(file, values[..., :-1] if values.shape[2] in (2, 4) else values)
    if not _TOLD.isdisjoint(names[names.index(b"IDAT") : end]):
        # Pillow reads what stands behind the pixels with them.
        image.load()
    return _picture(image, values, white, how)


def is_deep_with_opacity(image: Image.Image) -> bool:
    """Say whether a PNG, not loaded yet, has colours of 16 bits and opacity, one clear colour included."""
    return image.mode in ("RGB", "RGBA") and image.has_transparency_data and _has_deep_channels(image)


def _has_deep_channels(image: Image.Image) -> bool:
    several = image.mode in ("RGB", "RGBA") or (image.mode == "I;16" and "transparency" in image.info)
    # How Pillow will unpack them.
    deep = several and any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))
    return deep and not getattr(image, "is_animated", False)


def _values(parts: list[tuple[bytes, bytes]]) -> npt.NDArray[Any] | None:
    """Return the values of a PNG, one clear colour as opacity; None if it is damaged, which Pillow may tell better."""
    import imagecodecs

    try:
        return imagecodecs.png_decode(PNG + b"".join(itertools.starmap(chunk, parts)))
    except imagecodecs.PngError:
        return None


def _picture(image: Image.Image, values: npt.NDArray[Any], white: float | None, how: HowRead) -> Image.Image:
    alpha = values.shape[2] in (2, 4)
    info = {key: value for key, value in image.info.items() if key != "transparency"}
    primaries, transfer, *others = info.get("cicp", (0,) * 4)
    if primaries in PRIMARIES and transfer in HDR and others == [0, 1]:
        values, white = tone_mapped(values, 65535, transfer, PRIMARIES[primaries], alpha=alpha), 255.0
        info = {**{key: value for key, value in info.items() if key not in SAID}, TONE_MAPPED: True}
    raster = Raster(values, white=white, alpha=alpha)
    whole = to_image(raster, how)
    whole.format, whole.info = image.format, {**info, "raster": raster}
    return whole


def significant_white(file: IO[bytes] | None, values: npt.NDArray[Any]) -> float | None:
    """Return white if the file says that of 16 bits fewer count; None if it does not.

    By the standard such values are scaled to 16 bits, and the rest of the bits repeats the first or is 0: white is that
    of 16 bits then. Cameras and microscopes write them as they are.

    Parameters
    ----------
    file : binary file
        Of the PNG; its position is kept.
    values : array, shape (height, width) or (height, width, channels)
        Of all pixels, without opacity.
    """
    bits = _significant_bits(file, 1 if values.ndim == 2 else values.shape[2])
    if bits is None or not 0 < bits < 16:
        return None
    rest = (1 << 16 - bits) - 1
    as_they_are = int(values.max()) < 1 << bits and bool((values & rest).any())
    return float((1 << bits) - 1) if as_they_are else 65535.0


def _significant_bits(file: IO[bytes] | None, channels: int) -> int | None:
    """Return the most bits that count in one of the first channels."""
    if file is None:
        return None
    before = file.tell()
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == b"sBIT" and length:
                return max(file.read(min(length, channels)))
            if name in (b"IDAT", b"IEND"):
                return None
            file.seek(length + 4, 1)
        return None
    finally:
        file.seek(before)

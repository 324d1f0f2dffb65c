"""What EXIF says about how a picture is shown, where every reader understands it alike."""

import struct

from PIL import ExifTags, Image

ORIENTATION, DIRECTORY = 0x0112, 0x8769
# Horizontal and vertical: pixels in an inch, and the size that the camera gave.
RESOLUTION, DIMENSION = (0x011A, 0x011B), (0xA002, 0xA003)
# Form, count and place of what a tag says.
Entry = tuple[int, int, int]


def written(orientation: int = 1, taken: str = "") -> bytes:
    """Return EXIF that says how a picture is turned and when it was taken, "" for unknown, as Pillow keeps it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    if taken:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken
    return exif.tobytes()


def orientation_of(exif: bytes) -> int | None:
    """Return the orientation, in the form that all readers know; None if there is none.

    Raises
    ------
    ValueError, KeyError, struct.error
        It has another form, or the directory is damaged: readers may disagree.
    """
    tiff, order, start = _tiff(exif)
    entry = _directory(tiff, order, start).get(ORIENTATION)
    if entry is None:
        return None
    if entry[:2] != (3, 1):
        raise ValueError("an orientation of another form")
    return int(_number(tiff, order, entry))


def is_scaled(exif: bytes, size: tuple[int, int]) -> bool:
    """Say whether browsers give a JPEG another size: one that EXIF names, and that has 72 pixels in its inches.

    The HTML standard calls it the density-corrected natural size.

    Parameters
    ----------
    exif : bytes
    size : tuple of int
        Width and height in pixels.

    Raises
    ------
    ValueError, KeyError, struct.error
        As of `orientation_of`.
    """
    tiff, order, start = _tiff(exif)
    tags = _directory(tiff, order, start)
    if DIRECTORY in tags:
        tags |= _directory(tiff, order, int(_number(tiff, order, tags[DIRECTORY])))
    if not tags.keys() >= {*RESOLUTION, *DIMENSION}:
        return False
    resolutions, sides = ([_number(tiff, order, tags[tag]) for tag in each] for each in (RESOLUTION, DIMENSION))
    # Browsers round, each in its way.
    return (*sides,) != size and all(
        density > 0 and abs(pixels * 72 / density - side) <= 1
        for pixels, density, side in zip(size, resolutions, sides, strict=True)
    )


def _tiff(exif: bytes) -> tuple[bytes, str, int]:
    """Return the file that EXIF is, the order of its bytes as struct knows it, and where its directory begins."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}[tiff[:4]]
    return tiff, order, struct.unpack_from(f"{order}I", tiff, 4)[0]


def _directory(tiff: bytes, order: str, start: int) -> dict[int, Entry]:
    """Return the entries of a directory by their tags; ValueError if one is there twice."""
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    entries = dict[int, Entry]()
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", tiff, at)
        entries[tag] = (kind, values, at + 8)
    if len(entries) != count:
        raise ValueError("a tag that is there twice")
    return entries


def _number(tiff: bytes, order: str, entry: Entry) -> float:
    """Return a number, short, long or a fraction: 0 for one without a denominator; KeyError for another form."""
    kind, _, at = entry
    if kind == 5:
        (at,) = struct.unpack_from(f"{order}I", tiff, at)
        above, below = struct.unpack_from(f"{order}II", tiff, at)
        return above / below if below else 0.0
    return struct.unpack_from(order + {3: "H", 4: "I"}[kind], tiff, at)[0]

"""Which of a TIFF file's pages are pictures of one kind: reduced copies, masks and previews are none."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from al_pipeline.core.data.kinds import NO_RAW
from al_pipeline.core.errors import ImageError

# What a TIFF, and a BigTIFF, begins with.
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# The sensor's own values, or what a camera's converter made of them: without its processing nobody shows them.
RAW = {32803, 34892}
MAX_PAGES = 100_000

SUBFILE_TYPE, OLD_SUBFILE_TYPE, WIDTH, LENGTH, PHOTOMETRIC, SUBIFDS, DNG_VERSION = 254, 255, 256, 257, 262, 330, 50706
WANTED = frozenset({SUBFILE_TYPE, OLD_SUBFILE_TYPE, WIDTH, LENGTH, PHOTOMETRIC, SUBIFDS, DNG_VERSION})
# Tag types of whole numbers, and their struct formats.
NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


class CameraRawError(ImageError):
    """The file holds the values of a camera's sensor."""

    def __init__(self, what: str) -> None:
        super().__init__(f"a camera RAW ({what}): {NO_RAW}")


class Page(NamedTuple):
    """What a directory says about its page.

    Attributes
    ----------
    offset : int
        Where the directory begins, in bytes.
    tags : dict
        Tag → its numbers, of the tags that tell pages apart.
    after : int
        Offset of the next directory; 0 at the end.
    """

    offset: int
    tags: dict[int, tuple[int, ...]]
    after: int

    def number(self, tag: int) -> int:
        """Return the tag's first number, 0 without it."""
        return next(iter(self.tags.get(tag, ())), 0)

    @property
    def is_picture(self) -> bool:
        """Whether it is not a reduced copy, nor a mask."""
        return not self.number(SUBFILE_TYPE) & 0b101 and self.number(OLD_SUBFILE_TYPE) != 2

    @property
    def pixels(self) -> int:
        return self.number(WIDTH) * self.number(LENGTH)


class Pages(NamedTuple):
    """Where the directories of pages begin.

    Attributes
    ----------
    alike : list of int
        The picture, and the pages behind it that are of its size and neither reduced copies nor masks.
    every : list of int
        All that follow each other, as their numbers count.
    """

    alike: list[int]
    every: list[int]


def find_pictures(data: bytes) -> Pages:
    """Return which pages are the picture and others like it.

    Raises
    ------
    CameraRawError
        It is a camera's RAW file.
    ImageError
        The directories are damaged.
    """
    if data[8:10] == b"CR":
        raise CameraRawError("CR2")
    if (only := _only_page(data)) is not None:
        return Pages([only], [only])
    pages, inner = list[Page](), list[Page]()
    for page in _walk(data):
        pages.append(page)
        if DNG_VERSION in page.tags:
            raise CameraRawError("DNG")
        if len(pages) == 1:
            inner = [_page(data, offset) for offset in page.tags.get(SUBIFDS, ()) if 0 < offset < len(data)]
        if page.number(PHOTOMETRIC) in RAW or (len(pages) == 1 and any(p.number(PHOTOMETRIC) in RAW for p in inner)):
            raise CameraRawError("values of a sensor in a TIFF")
    if not pages:
        raise ImageError("damaged: a TIFF file without a page")
    whole = [page for page in pages if page.is_picture]
    if not whole and (inside := [page for page in inner if page.is_picture]):
        # A preview comes first, and the picture hangs below it (TIFF/EP).
        whole = [max(inside, key=lambda page: page.pixels)]
    picture = (whole or pages)[0]
    size = picture.number(WIDTH), picture.number(LENGTH)
    alike = [page.offset for page in whole or [picture] if (page.number(WIDTH), page.number(LENGTH)) == size]
    return Pages(alike, [page.offset for page in pages])


def _only_page(data: bytes) -> int | None:
    """Return where the directory of a file with one page begins, and nothing below it; None where more must be seen.

    That is what most files are, and finding it out takes a third of the time.
    """
    order, big = _form(data)
    if big:
        return None
    try:
        (offset,) = struct.unpack_from(f"{order}I", data, 4)
        (entries,) = struct.unpack_from(f"{order}H", data, offset)
        end = offset + 2 + 12 * entries
        (after,) = struct.unpack_from(f"{order}I", data, end)
    except struct.error:
        return None
    tags = dict(struct.iter_unpack(f"{order}H10s", data[offset + 2 : end]))
    if not offset or after or SUBIFDS in tags or DNG_VERSION in tags or PHOTOMETRIC not in tags:
        return None
    kind, count, photometric = struct.unpack_from(f"{order}HIH", tags[PHOTOMETRIC])
    return offset if (kind, count) == (3, 1) and photometric not in RAW else None


def _walk(data: bytes) -> Iterator[Page]:
    order, big = _form(data)
    try:
        (offset,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    except struct.error:
        raise ImageError("damaged: a TIFF file without its header") from None
    seen = set[int]()
    while offset:
        if offset in seen:
            raise ImageError("damaged: the pages of the TIFF file follow each other in a circle")
        if len(seen) == MAX_PAGES:
            raise ImageError(f"too large: more than {MAX_PAGES:,} pages")
        seen.add(offset)
        page = _page(data, offset)
        yield page
        offset = page.after


def _form(data: bytes) -> tuple[str, bool]:
    return "<" if data[:1] == b"I" else ">", data[2:4] in (b"+\0", b"\0+")


def _page(data: bytes, offset: int) -> Page:
    order, big = _form(data)
    form = order + ("HHQ8s" if big else "HHI4s")
    try:
        (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, offset)
        begin = offset + (8 if big else 2)
        end = begin + entries * struct.calcsize(form)
        (after,) = struct.unpack_from(order + ("Q" if big else "I"), data, end)
    except struct.error:
        raise ImageError("image file is truncated (a page of the TIFF file lies behind its end)") from None
    tags = dict[int, tuple[int, ...]]()
    for tag, kind, count, value in struct.iter_unpack(form, data[begin:end]):
        if tag in WANTED and kind in NUMBERS and 0 < count <= 1024:
            # Formats that come again are kept by the module, Structs are made anew.
            numbers = f"{order}{count}{NUMBERS[kind]}"
            if (size := struct.calcsize(numbers)) <= len(value):
                tags[tag] = struct.unpack_from(numbers, value)
            else:
                (at,) = struct.unpack(order + ("Q" if big else "I"), value)
                tags[tag] = struct.unpack_from(numbers, data, at) if at + size <= len(data) else ()
    return Page(offset, tags, after)

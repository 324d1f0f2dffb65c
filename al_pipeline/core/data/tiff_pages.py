"""Which of a TIFF file's pages are pictures of one kind: reduced copies, masks and previews are none."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from al_pipeline.core.errors import ImageError

# What a TIFF, and a BigTIFF, begins with.
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# The sensor's own values, or what a camera's converter made of them: without its processing nobody shows them.
RAW = {32803, 34892}
RAW_REASON = "a camera RAW ({}): export it as JPEG or TIFF with the camera's program, darktable or RawTherapee"
MAX_PAGES = 100_000

SUBFILE_TYPE, OLD_SUBFILE_TYPE, WIDTH, LENGTH, PHOTOMETRIC, SUBIFDS, DNG_VERSION = 254, 255, 256, 257, 262, 330, 50706
# Tag types of whole numbers, and their struct formats.
NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


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
    ImageError
        It is a camera's RAW file, or the directories are damaged.
    """
    if data[8:10] == b"CR":
        raise ImageError(RAW_REASON.format("CR2"))
    pages, inner = list[Page](), list[Page]()
    for page in _walk(data):
        pages.append(page)
        if DNG_VERSION in page.tags:
            raise ImageError(RAW_REASON.format("DNG"))
        if len(pages) == 1:
            inner = [_page(data, offset) for offset in page.tags.get(SUBIFDS, ()) if 0 < offset < len(data)]
        if page.number(PHOTOMETRIC) in RAW or (len(pages) == 1 and any(p.number(PHOTOMETRIC) in RAW for p in inner)):
            raise ImageError(RAW_REASON.format("values of a sensor in a TIFF"))
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
    entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    try:
        (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, offset)
        begin = offset + (8 if big else 2)
        end = begin + entries * entry.size
        (after,) = struct.unpack_from(order + ("Q" if big else "I"), data, end)
    except struct.error:
        raise ImageError("image file is truncated (a page of the TIFF file lies behind its end)") from None
    wanted = {SUBFILE_TYPE, OLD_SUBFILE_TYPE, WIDTH, LENGTH, PHOTOMETRIC, SUBIFDS, DNG_VERSION}
    tags = dict[int, tuple[int, ...]]()
    for tag, kind, count, value in entry.iter_unpack(data[begin:end]):
        if tag in wanted and kind in NUMBERS and 0 < count <= 1024:
            numbers = struct.Struct(f"{order}{count}{NUMBERS[kind]}")
            if numbers.size <= len(value):
                tags[tag] = numbers.unpack_from(value)
            else:
                (at,) = struct.unpack(order + ("Q" if big else "I"), value)
                tags[tag] = numbers.unpack_from(data, at) if at + numbers.size <= len(data) else ()
    return Page(offset, tags, after)

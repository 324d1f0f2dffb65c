"""Which pages of a TIFF file are planes, and which are channels of one, by what OME [1]_ and ImageJ wrote of them.

tifffile can tell too, but makes lists as long as the numbers in the text promise, before it looks for the pages.

References
----------
.. [1] The OME-TIFF specification, https://docs.openmicroscopy.org/ome-model/latest/ome-tiff/specification.html
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

from al_pipeline.core.data.tiff_pages import MAX_PAGES, Pages

if TYPE_CHECKING:
    from tifffile import TiffPage

# Characters of a description that is parsed: with an element every few of them its tree takes 40 times as much.
MOST_TEXT = 4_000_000
AXES = "CZT"


class Place(NamedTuple):
    """Where the directory of a page begins, and how far behind what it names the values of the plane are."""

    offset: int
    shift: int = 0


class Stack(NamedTuple):
    """The planes of a picture, slices first and then moments.

    Attributes
    ----------
    planes : list of tuple of Place
        Of each plane the pages that are its channels; one page may also hold several.
    slices : int
        Planes of one moment.
    """

    planes: list[tuple[Place, ...]]
    slices: int


def arrange(first: "TiffPage", pages: Pages, size: int) -> Stack:
    """Return how the pages of a file belong together.

    Descriptions that do not fit the pages (a file of several, pages that were taken away) do not count: then each page
    is a plane.

    Parameters
    ----------
    first : TiffPage
        The first of `pages.alike`, which has the description.
    pages : Pages
    size : int
        Bytes of the file.
    """
    places = [Place(offset) for offset in pages.alike]
    if first.imagedepth > 1:
        # Its planes are in the page itself.
        return Stack([(places[0],)], 1)
    stack = _by_ome(first.description, pages) if first.is_ome and len(places) > 1 else None
    if stack is None and first.is_imagej:
        stack = _by_imagej(first, places, size)
    if stack is None:
        return Stack([(place,) for place in places], len(places))
    if first.samplesperpixel > 1 or first.photometric not in (0, 1):
        # A page that is a picture by itself.
        return Stack([channels[:1] for channels in stack.planes], stack.slices)
    return stack


def _by_imagej(page: "TiffPage", places: list[Place], size: int) -> Stack:
    told = dict(line.split("=", 1) for line in (page.imagej_description or "").splitlines() if "=" in line)
    sizes = {axis: _number(told, name) for axis, name in zip(AXES, ("channels", "slices", "frames"), strict=True)}
    images = min(_number(told, "images"), MAX_PAGES)
    if len(places) == 1 and page.is_final and page.dataoffsets[0] + 2 * page.nbytes <= size:
        # One directory may stand for planes that follow each other. Is there no second, the text is another file's.
        places = [Place(places[0].offset, number * page.nbytes) for number in range(images)]
    if page.samplesperpixel > 1:
        sizes["C"] = 1
    order = told.get("order", "").upper()
    order = order if sorted(order) == sorted(AXES) else AXES
    if math.prod(sizes.values()) != len(places):
        sizes = {"C": 1, "Z": len(places), "T": 1}
    return _stack(places, sizes, _steps(sizes, order))


def _number(told: Mapping[str, str], name: str) -> int:
    text = told.get(name, "1").strip()
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 10 else 1


def _by_ome(description: str, pages: Pages) -> Stack | None:
    # A document type brings entities, which may grow without end; OME has none.
    if len(description) > MOST_TEXT or "<!DOCTYPE" in description:
        return None
    try:
        root = ElementTree.fromstring(description)  # noqa: S314 - short, and without entities
        pixels = root.find("{*}Image/{*}Pixels")
        if pixels is None:
            return None
        order = pixels.attrib["DimensionOrder"].removeprefix("XY")
        sizes = {axis: int(pixels.attrib[f"Size{axis}"]) for axis in AXES}
        channel = pixels.find("{*}Channel")
        sizes["C"] //= int(channel.get("SamplesPerPixel", 1)) if channel is not None else 1
        steps = _steps(sizes, order)
        pages_of = _named_pages(pixels, root.get("UUID"), sizes, steps, pages)
    except (ElementTree.ParseError, ValueError, ArithmeticError, LookupError):
        return None
    return None if pages_of is None else _stack(pages_of, sizes, steps)


def _named_pages(
    pixels: ElementTree.Element, own: str | None, sizes: Mapping[str, int], steps: Mapping[str, int], pages: Pages
) -> list[Place] | None:
    """Return the pages in the order of the dimensions; None if one is in another file, or is no such picture."""
    total, alike = math.prod(sizes.values()), set(pages.alike)
    if min(sizes.values()) < 1 or total > len(pages.alike):
        return None
    found, left = dict[int, int](), total
    for data in pixels.findall("{*}TiffData"):
        uuid = data.find("{*}UUID")
        own = own or (None if uuid is None else uuid.text)
        if uuid is not None and uuid.text != own:
            return None
        begin, page = sum(int(data.get(f"First{axis}", 0)) * steps[axis] for axis in AXES), int(data.get("IFD", 0))
        usual = 1 if "IFD" in data.attrib else total
        number = min(int(data.get("PlaneCount", data.get("NumPlanes", usual))), total - begin)
        if min(begin, page, number) < 0 or (left := left - number) < 0:
            return None
        found |= {begin + i: pages.every[page + i] for i in range(number)}
    if len(found) < total or not alike.issuperset(found.values()):
        return None
    return [Place(found[number]) for number in range(total)]


def _steps(sizes: Mapping[str, int], order: str) -> dict[str, int]:
    """Return how far apart neighbours are along each axis; that of the first changes fastest."""
    return {axis: math.prod(sizes[before] for before in order[: order.index(axis)]) for axis in AXES}


def _stack(places: Sequence[Place], sizes: Mapping[str, int], steps: Mapping[str, int]) -> Stack:
    return Stack(
        [
            tuple(places[c * steps["C"] + z * steps["Z"] + t * steps["T"]] for c in range(sizes["C"]))
            for t in range(sizes["T"])
            for z in range(sizes["Z"])
        ],
        sizes["Z"],
    )

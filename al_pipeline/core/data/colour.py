"""Bring the pixels of a file to sRGB by what the file says about its colours, as browsers do.

Networks learn from numbers, and the numbers of sRGB are those of nearly all pictures. A photo in Display P3 or Adobe
RGB that is taken for sRGB is paler than what a person sees: by 10 levels of 255 on average.

In the order in which PNG ranks them (third edition, 4.3): cICP, the ICC profile, "this is sRGB", gamma and primaries;
other formats have ICC profiles only. "Adobe RGB" that only EXIF says is ignored, by browsers too. What can't be used,
like a damaged profile, is ignored: `profile_problem` tells. HDR, for which a screen's white is not the brightest value,
is tone-mapped first (`hdr`).
"""

import functools
import io
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from al_pipeline.core.data.display_p3 import by_tables
from al_pipeline.core.data.hdr import BT2020, HDR, tone_mapped
from al_pipeline.core.data.profiles import BT709, D65, SRGB_CURVE, Curve, Primaries, rgb_profile

if TYPE_CHECKING:
    from PIL import ImageCms

# What a file said about its colours, which is no longer true of pixels that were converted.
SAID = ("icc_profile", "gamma", "chromaticity", "srgb", "cicp")
# In ``info`` of pixels of HDR that are in sRGB already, because there were more than 8 bits of them.
TONE_MAPPED = "tone_mapped"
# The gamma that programs write where they mean sRGB, and how far browsers take it for that.
SRGB_GAMMA, GAMMA_LEEWAY = 1 / 2.2, 0.05

# The colours that are stored, by Pillow's mode. The others (32-bit and float gray, L*a*b*) are no device's.
KINDS = {
    **dict.fromkeys(("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N"), "L"),
    **dict.fromkeys(("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "YCbCr"), "RGB"),
    "CMYK": "CMYK",
}
SPACES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
CALLED = {"L": "gray levels", "RGB": "red, green and blue", "CMYK": "CMYK"}

# ITU-T H.273, tables 2 and 3, as far as browsers know them. What cameras take by BT.709 is shown by a gamma of 2.4
# (BT.1886).
C = (0.310, 0.316)
PRIMARIES: dict[int, Primaries] = {
    1: BT709,
    4: (C, (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
    5: (D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    **dict.fromkeys((6, 7), (D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070))),
    8: (C, (0.681, 0.319), (0.243, 0.692), (0.145, 0.049)),
    9: BT2020,
    10: ((1 / 3, 1 / 3), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)),
    11: ((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: (D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    22: (D65, (0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
TRANSFERS: dict[int, Curve] = {
    **dict.fromkeys((1, 6, 11, 14, 15), (2.4,)),
    4: (2.2,),
    5: (2.8,),
    7: (1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4, 0.0913),
    8: (1.0,),
    13: SRGB_CURVE,
}

Apply = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class _Conversion:
    """How pixels of one kind come to sRGB by one profile: not at all where both are None."""

    apply: Apply | None = None
    problem: str | None = None


def to_srgb(image: Image.Image) -> Image.Image:
    """Return the same pixels in sRGB, by the file's own colour information.

    Parameters
    ----------
    image : PIL.Image.Image
        Of any mode, with what its file says in ``info``: "icc_profile", "gamma", "chromaticity", "srgb" as Pillow reads
        them, "cicp" as `note_cicp` does (also where another reader knows primaries and transfer function by number).

    Returns
    -------
    PIL.Image.Image
        Of mode RGB, RGBA, L or LA, without colour information in ``info``; the image itself if it is in sRGB, if it
        doesn't say, or if what it says can't be used.
    """
    conversion = _conversion_of(image)
    if conversion.apply is None:
        return image
    kind, alpha = KINDS[image.mode], None
    if image.mode.startswith("I;16"):
        colours = image
    elif image.has_transparency_data:
        whole = image.convert("LA" if kind == "L" else "RGBA")
        colours, alpha = whole.convert(kind), whole.getchannel("A")
    else:
        colours = image if image.mode == kind else image.convert(kind)
    converted = conversion.apply(colours)
    if alpha is not None:
        converted.putalpha(alpha)
    converted.info = {key: value for key, value in image.info.items() if key not in (*SAID, "transparency")}
    return converted


def converts(image: Image.Image) -> bool:
    """Return whether `to_srgb` changes pixels."""
    return _conversion_of(image).apply is not None


def profile_problem(image: Image.Image) -> str | None:
    """Return why what the file says about its colours is ignored; None if it is not. The pixels are not looked at."""
    return _conversion_of(image).problem


def note_cicp(image: Image.Image) -> None:
    """Put a PNG's cICP chunk, which Pillow does not read, into ``info["cicp"]``: four numbers of ITU-T H.273.

    Parameters
    ----------
    image : PIL.Image.Image
        As opened: its file is not closed.
    """
    file = getattr(image, "fp", None)
    if image.format != "PNG" or file is None:
        return
    before = file.tell()
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name == b"cICP" and length == 4:
            image.info["cicp"] = tuple(file.read(4))
        if name in (b"cICP", b"IDAT", b"IEND"):
            break
        file.seek(length + 4, os.SEEK_CUR)
    file.seek(before)


def _conversion_of(image: Image.Image) -> _Conversion:
    kind, problem = KINDS.get(image.mode), None
    if kind is not None and not image.info.keys().isdisjoint(SAID):
        for found in _conversions(image.info, kind):
            if found.problem is None:
                return found if problem is None else replace(found, problem=problem)
            problem = problem or found.problem
    return _Conversion(problem=problem)


def _conversions(info: Mapping[str | tuple[int, int], Any], kind: str) -> Iterator[_Conversion]:
    """Yield the conversions by all that the file says, the best first."""
    if "cicp" in info:
        yield _by_numbers(info["cicp"], kind)
    if "icc_profile" in info:
        yield _by_profile(info["icc_profile"] or b"", kind)
    if "srgb" in info:
        yield _Conversion()
    # Primaries without a gamma are ignored by browsers.
    elif "gamma" in info:
        yield _by_gamma(info["gamma"], info.get("chromaticity"), kind)


def _by_numbers(cicp: tuple[int, int, int, int], kind: str) -> _Conversion:
    primaries, transfer, matrix, full_range = cicp
    if primaries not in PRIMARIES or transfer not in (*TRANSFERS, *HDR) or matrix or not full_range:
        return _Conversion(problem=f"the colours {primaries}/{transfer}/{matrix}/{full_range} of cICP are not known")
    if transfer in HDR:
        return _from_hdr(primaries, transfer, kind)
    return _by_profile(rgb_profile(PRIMARIES[primaries], TRANSFERS[transfer]), kind)


@functools.cache
def _from_hdr(primaries: int, transfer: int, kind: str) -> _Conversion:
    if kind == "CMYK":
        return _Conversion(problem="the colours of cICP are HDR, the picture has CMYK")

    def apply(image: Image.Image) -> Image.Image:
        return Image.fromarray(tone_mapped(np.asarray(image), 255, transfer, PRIMARIES[primaries]))

    return _gray(apply, "RGB") if kind == "L" else _Conversion(apply)


def _by_gamma(gamma: float, chromaticity: tuple[float, ...] | None, kind: str) -> _Conversion:
    if chromaticity is None and abs(gamma / SRGB_GAMMA - 1) <= GAMMA_LEEWAY:
        return _Conversion()
    xy = BT709 if chromaticity is None else tuple(zip(chromaticity[::2], chromaticity[1::2], strict=True))
    try:
        profile = rgb_profile(cast("Primaries", xy), (1 / gamma,))
    except (ValueError, ZeroDivisionError) as error:
        return _Conversion(problem=f"the gamma or the primaries of the PNG file can't be used: {error}")
    return _by_profile(profile, kind)


@functools.lru_cache(maxsize=16)
def _by_profile(profile: bytes, kind: str) -> _Conversion:
    """Return the conversion of pixels of a kind by an ICC profile: made once, and safe to use in several threads."""
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        called = profile[16:20].decode("latin-1").strip()
        space = SPACES.get(called)
        if space is None or (space != kind and (space, kind) != ("RGB", "L")):
            return _Conversion(problem=f"the colour profile is one of {called}, the picture has {CALLED[kind]}")
        transform = _transform(source, space)
    except (OSError, ValueError):
        return _Conversion(problem="the colour profile is damaged")
    if kind == "L":
        return _gray(transform.apply, space)
    if kind == "RGB" and _same(transform.apply, lambda image: image):
        return _Conversion()
    tables = by_tables(source) if kind == "RGB" else None
    return _Conversion(tables if tables is not None and _same(transform.apply, tables) else transform.apply)


def _transform(source: "ImageCms.ImageCmsProfile", space: str) -> "ImageCms.ImageCmsTransform":
    from PIL import ImageCms

    # Browsers look for the perceptual table first, and take the colorimetric one if it is the only one.
    for intent in (ImageCms.Intent.PERCEPTUAL, ImageCms.Intent.RELATIVE_COLORIMETRIC):
        try:
            return ImageCms.ImageCmsTransform(
                source, _srgb(), space, "RGB", intent, flags=ImageCms.Flags.HIGHRESPRECALC
            )
        except ValueError as error:
            failed = error
    raise failed


@functools.cache
def _srgb() -> "ImageCms.ImageCmsProfile":
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # Between profiles of version 4 littleCMS always lifts black to black, which browsers never do.
    profile[8] = 2
    return ImageCms.ImageCmsProfile(io.BytesIO(profile))


def _same(one: Apply, other: Apply) -> bool:
    """Return whether no colour of a grid, and no gray, differs by more than the one level that rounding may make."""
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    probe = Image.fromarray(np.concatenate([grid, np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)])[None])
    first, second = (np.asarray(apply(probe)).astype(int) for apply in (one, other))
    return bool(np.abs(first - second).max() <= 1)


def _gray(convert: Callable[[Image.Image], Image.Image], space: str) -> _Conversion:
    """Return a conversion by a table: one gray level gives another, whatever is beside it."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    table = np.asarray(convert(ramp.convert(space)))[0, :, 1]
    if np.abs(table.astype(int) - np.arange(256)).max() <= 1:
        return _Conversion()

    def apply(image: Image.Image) -> Image.Image:
        if image.mode == "L":
            return image.point(table.tolist())
        levels = np.interp(np.asarray(image, dtype=np.float64) / 257, np.arange(256), table)
        return Image.fromarray(levels.round().astype(np.uint8))

    return _Conversion(apply)

"""Files that say what their colours are, and what these are in sRGB by arithmetic of its own.

Colorants are those of the profiles that makers of cameras, phones and programs put into files; the matrices of the
arithmetic are those of CSS Color 4, which start from the primaries instead.
"""

import functools
import io
import itertools
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float64]

D50 = (0.9642, 1.0, 0.8249)
XYZ_TO_SRGB = np.array(
    [
        (3.2409699419045226, -1.537383177570094, -0.4986107602930034),
        (-0.9692436362808796, 1.8759675015077202, 0.04155505740717559),
        (0.05563007969699366, -0.20397695888897652, 1.0569715142428786),
    ]
)
D50_TO_D65 = np.array(
    [
        (0.9554734527042182, -0.023098536874261423, 0.0632593086610217),
        (-0.028369706963208136, 1.0099954580058226, 0.021041398966943008),
        (0.012314001688319899, -0.020507696433477912, 1.3303659366080753),
    ]
)
SRGB_TO_XYZ = np.linalg.inv(XYZ_TO_SRGB)
P3_TO_XYZ = np.array(
    [
        (0.4865709486482162, 0.26566769316909306, 0.1982172852343625),
        (0.2289745640697488, 0.6917385218365064, 0.079286914093745),
        (0.0, 0.04511338185890264, 1.043944368900976),
    ]
)
ADOBE_TO_XYZ = np.array(
    [
        (0.5766690429101305, 0.1855582379065463, 0.1882286462349947),
        (0.29734497525053605, 0.6273635662554661, 0.07529145849399788),
        (0.02703136138641234, 0.07068885253582723, 0.9913375368376388),
    ]
)
REC2020_TO_XYZ = np.array(
    [
        (0.6369580483012914, 0.14461690358620832, 0.1688809751641721),
        (0.2627002120112671, 0.6779980715188708, 0.05930171646986196),
        (0.0, 0.028072693049087428, 1.060985057710791),
    ]
)
PROPHOTO_TO_XYZ = D50_TO_D65 @ np.array(
    [
        (0.7977666449006423, 0.13518129740053308, 0.0313477341283922),
        (0.2880748288194013, 0.711835234241873, 0.00008993693872564),
        (0.0, 0.0, 0.8251046025104602),
    ]
)


def srgb_light(values: Floats) -> Floats:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def power(gamma: float) -> Callable[[Floats], Floats]:
    return lambda values: values**gamma


def srgb_levels(light: Floats) -> Floats:
    """Return levels from 0 to 255 of linear sRGB: what no screen of that kind shows is cut off, channel by channel."""
    light = light.clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def converted(stored: npt.NDArray[np.uint8], to_xyz: Floats, light: Callable[[Floats], Floats]) -> Floats:
    """Return levels of sRGB for stored levels of another space, shape (…, 3)."""
    return srgb_levels(light(stored / 255) @ (XYZ_TO_SRGB @ to_xyz).T)


# Name: the curve and the colorants that profiles have, the matrix and the curve that are meant.
SRGB_PARA = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
SPACES: dict[str, tuple[Sequence[float], Sequence[Sequence[float]], Floats, Callable[[Floats], Floats]]] = {
    "Display P3": (
        SRGB_PARA,
        ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)),
        P3_TO_XYZ,
        srgb_light,
    ),
    "Adobe RGB": (
        (563 / 256,),
        ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
        ADOBE_TO_XYZ,
        power(563 / 256),
    ),
    "ProPhoto": (
        (1.8,),
        ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00009, 0.82491)),
        PROPHOTO_TO_XYZ,
        power(1.8),
    ),
}
SRGB_COLORANTS = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def curve(numbers: Sequence[float]) -> bytes:
    """Return a gamma, as profiles of version 2 have it, or the five numbers of a curve with a straight beginning."""
    if len(numbers) == 1:
        return b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(numbers[0] * 256))
    return b"para\0\0\0\0" + struct.pack(">Hxx5i", 3, *(round(number * 65536) for number in numbers))


def table_curve(light: Floats) -> bytes:
    """Return a curve as a table of linear light from 0 to 1, as scanners and old monitors have it."""
    return b"curv\0\0\0\0" + struct.pack(f">I{len(light)}H", len(light), *np.rint(light * 65535).astype(int))


def icc(space: bytes, tags: Mapping[bytes, bytes], *, meets: bytes = b"XYZ ", kind: bytes = b"mntr") -> bytes:
    """Return an ICC profile, version 2.4."""
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        value += b"\0" * (-len(value) % 4)
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(data), len(value))
        data += value
    head = struct.pack(">I4xI4s4s4s12x4s", 128 + len(table) + len(data), 0x02400000, kind, space, meets, b"acsp")
    light = struct.pack(">3i", *(round(value * 65536) for value in D50))
    return head.ljust(68, b"\0") + light.ljust(60, b"\0") + table + data


def rgb_icc(
    shape: bytes, colorants: Sequence[Sequence[float]], more: Mapping[bytes, bytes] = MappingProxyType({})
) -> bytes:
    tags = {f"{name}XYZ".encode(): xyz(colorant) for name, colorant in zip("rgb", colorants, strict=True)}
    tags |= {f"{name}TRC".encode(): shape for name in "rgb"}
    return icc(b"RGB ", {**tags, b"wtpt": xyz(D50), **more})


def profile_of(space: str) -> bytes:
    numbers, colorants, _, _ = SPACES[space]
    return rgb_icc(curve(numbers), colorants)


def gray_icc(shape: bytes) -> bytes:
    return icc(b"GRAY", {b"wtpt": xyz(D50), b"kTRC": shape})


# L*, a*, b* of paper and of cyan, magenta and yellow ink on it; others are drawn over each other.
PAPER, INKS = (100.0, 0.0, 0.0), ((62.0, -30.0, -20.0), (58.0, 44.0, -6.0), (88.0, -4.0, 50.0))


def printed(inks: Sequence[float]) -> Floats:
    """Return L*, a*, b* of inks over each other, from 0 to 1, cyan to black: each takes its part of the light."""
    lab = np.array(PAPER)
    for ink, amount in zip(INKS, inks, strict=False):
        lab = (1 - amount) * lab + amount * np.array((lab[0] * ink[0] / 100, *(lab[1:] + ink[1:]) * 0.8))
    return (1 - inks[3]) * lab + inks[3] * np.array((lab[0] * 0.1, 0.0, 0.0))


# Presses measure about so many steps of each ink; what is between them is up to who reads the table.
GRID = 9
STEPS = list(itertools.product(np.linspace(0, 1, GRID).tolist(), repeat=4))


def stored_lab(lab: Floats) -> list[int]:
    """Return the bytes that an 8-bit table has for L*, a*, b*."""
    return [round(lab[0] * 2.55), round(lab[1]) + 128, round(lab[2]) + 128]


@functools.cache
def cmyk_icc() -> bytes:
    """Return a press's profile: a table over cyan, magenta, yellow and black."""
    identity, straight = (1, 0, 0, 0, 1, 0, 0, 0, 1), bytes(range(256))
    colours = bytes(value for inks in STEPS for value in stored_lab(printed(inks)))
    head = b"mft1\0\0\0\0" + bytes((4, 3, GRID, 0)) + struct.pack(">9i", *(65536 * value for value in identity))
    tags = {b"wtpt": xyz(D50), b"A2B0": head + 4 * straight + colours + 3 * straight}
    return icc(b"CMYK", tags, meets=b"Lab ", kind=b"prtr")


def lab_levels(stored: Sequence[int]) -> Floats:
    """Return levels of sRGB for the bytes of L*, a*, b* under D50 (CIE 15:2004)."""
    lightness, a, b = stored[0] / 2.55, stored[1] - 128.0, stored[2] - 128.0
    middle = (lightness + 16) / 116
    roots = np.array((middle + a / 500, middle, middle - b / 200))
    light = np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29)) * D50
    return srgb_levels(XYZ_TO_SRGB @ D50_TO_D65 @ light)


def png(pixels: npt.NDArray[np.uint8] | Image.Image, chunks: Mapping[bytes, bytes], **options: object) -> bytes:
    """Return a PNG file with chunks of our own before the pixels, in this order."""
    buffer = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(buffer, format="PNG", **options)
    data, extra = buffer.getvalue(), b""
    for name, value in chunks.items():
        extra += struct.pack(">I", len(value)) + name + value + struct.pack(">I", zlib.crc32(name + value))
    return data[:33] + extra + data[33:]


def gama(gamma: float) -> bytes:
    return struct.pack(">I", round(gamma * 100_000))


def chrm(*xy: float) -> bytes:
    """Return x and y of white, red, green and blue."""
    return struct.pack(">8I", *(round(value * 100_000) for value in xy))


SRGB_CHRM = chrm(0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
P3_CHRM = chrm(0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)


def iccp(profile: bytes) -> bytes:
    return b"a profile\0\0" + zlib.compress(profile)


def colours(side: int = 48) -> npt.NDArray[np.uint8]:
    """Return pixels of all kinds: some of the corners and edges of the cube, most of them inside of it."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    pixels[:8] = rng.choice(np.array((0, 255), dtype=np.uint8), (8, side, 3))
    pixels[8:12] = pixels[8:12, :, :1]
    return pixels

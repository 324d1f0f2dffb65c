"""Files of high dynamic range that hold a usual picture: by the standards' formulas, written down here once more."""

from collections.abc import Callable, Mapping
from typing import Any

import imagecodecs
import numpy as np

from al_pipeline_tests.core.data import writers
from al_pipeline_tests.core.data.colours import (
    REC2020_TO_XYZ,
    SRGB_TO_XYZ,
    XYZ_TO_SRGB,
    Floats,
    srgb_levels,
    srgb_light,
)
from al_pipeline_tests.core.data.other_kinds import RGB, Pixels, deep_heif, heif, jxl

PQ, HLG = 16, 18
# sRGB's white and the screen's of HLG, in cd/m².
WHITE, BRIGHT = 203, 1000
BT2020, BT709 = REC2020_TO_XYZ, SRGB_TO_XYZ
LUMINANCE = np.array((0.2627, 0.6780, 0.0593))


def pq(light: Pixels) -> Pixels:
    """Return signals of PQ for light in cd/m² (SMPTE ST 2084, the inverse EOTF)."""
    root = (light / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * root) / (1 + 18.6875 * root)) ** 78.84375


def hlg(light: Pixels) -> Pixels:
    """Return signals of HLG for light in cd/m² of red, green and blue (BT.2100, the inverse OOTF, then the OETF)."""
    luminance = (light @ LUMINANCE / BRIGHT)[..., None]
    scene = light / BRIGHT * np.maximum(luminance, 1e-9) ** (1 / 1.2 - 1)
    logarithm = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), logarithm)


CURVES: Mapping[int, Callable[[Pixels], Pixels]] = {PQ: pq, HLG: hlg}


def signals(levels: Pixels, transfer: int, to_xyz: Floats = BT2020) -> Pixels:
    """Return the signals from 0 to 1, shape (…, 3), of levels of sRGB, 255 of which are a sheet of paper."""
    light = srgb_light(levels / 255) @ (np.linalg.inv(to_xyz) @ SRGB_TO_XYZ).T
    return CURVES[transfer](WHITE * light.clip(0))


def light_levels(light: Pixels) -> Pixels:
    """Return levels of sRGB for light of BT.2020, 1 for white, shape (…, 3)."""
    return srgb_levels(light @ (XYZ_TO_SRGB @ REC2020_TO_XYZ).T)


# Where nothing is bent: below 88 of 203 cd/m², the level 175.
DIM = (RGB * 0.65).round()
GRAY = DIM[..., :1].repeat(3, axis=-1)


def stored(levels: Pixels, transfer: int, bits: int = 16, to_xyz: Floats = BT2020) -> Pixels:
    values = (signals(levels, transfer, to_xyz) * ((1 << bits) - 1)).round()
    return values.astype(np.uint8 if bits == 8 else np.uint16)


def png(levels: Pixels, transfer: int, bits: int = 16, *, gray: bool = False) -> bytes:
    values = stored(levels, transfer, bits)
    return writers.png(values[..., 0] if gray else values, (b"cICP", bytes((9, transfer, 0, 1))), bits=bits)


def avif(levels: Pixels) -> bytes:
    values = stored(levels, PQ, 10)
    options: dict[str, Any] = {"primaries": 9, "transfer": PQ, "matrix": 9}
    return bytes(imagecodecs.avif_encode(values, 100, bitspersample=10, pixelformat="444", **options))


def pq_jxl(levels: Pixels) -> bytes:
    """Return a file that imagecodecs wrote as linear light, with another number in its header."""
    data = jxl(stored(levels, PQ, to_xyz=BT709))
    # Linear light is 8 and PQ 16, as four bits above 2: from the 51st of the codestream on.
    at = data.index(b"\xff\x0a")
    head = int.from_bytes(data[at : at + 16], "little")
    assert head >> 51 & 15 == 8 - 2
    return data[:at] + (head + (8 << 51)).to_bytes(16, "little") + data[at + 16 :]


NUMBERS: dict[str, Any] = {"color_primaries": 9, "save_nclx_profile": True}

# Name → what makes the file, the levels that are meant, and how far off those of 8 or 10 bits are: most where a strong
# colour has a dark channel, of which BT.2020 keeps little.
CASES: dict[str, tuple[Callable[[], bytes], Pixels, float]] = {
    "PNG, PQ": (lambda: png(DIM, PQ), DIM, 1),
    "PNG, HLG": (lambda: png(DIM, HLG), DIM, 1),
    "PNG, PQ, 8 bits": (lambda: png(DIM, PQ, 8), DIM, 18),
    "PNG, HLG, 8 bits": (lambda: png(DIM, HLG, 8), DIM, 9),
    "PNG, PQ, gray": (lambda: png(GRAY, PQ, gray=True), GRAY, 1),
    "PNG, HLG, gray, 8 bits": (lambda: png(GRAY, HLG, 8, gray=True), GRAY, 2),
    "HEIC, PQ": (lambda: deep_heif(stored(DIM, PQ), transfer_characteristics=PQ, **NUMBERS), DIM, 9),
    "HEIC, HLG": (lambda: deep_heif(stored(DIM, HLG), transfer_characteristics=HLG, **NUMBERS), DIM, 9),
    "HEIC, PQ, 8 bits": (lambda: heif(stored(DIM, PQ, 8), transfer_characteristics=PQ, **NUMBERS), DIM, 25),
    "AVIF, PQ": (lambda: avif(DIM), DIM, 9),
    "JPEG XL, PQ": (lambda: pq_jxl(DIM), DIM, 1),
}

"""Files that browsers show, with colours of their own."""

import io

import numpy as np
from PIL import Image

from al_pipeline.core.data.colour import PRIMARIES, TRANSFERS
from al_pipeline_tests.core.data.colours import (
    P3_CHRM,
    SPACES,
    SRGB_CHRM,
    SRGB_COLORANTS,
    cmyk_icc,
    colours,
    curve,
    gama,
    gray_icc,
    iccp,
    png,
    profile_of,
    rgb_icc,
)

SIDE = 48
PIXELS = colours(SIDE)
GRAY = Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint32).reshape(SIDE, SIDE).astype(np.uint8))
GRAY_ICC = gray_icc(curve((563 / 256,)))
P3, ADOBE = profile_of("Display P3"), profile_of("Adobe RGB")


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def clear() -> Image.Image:
    picture = Image.fromarray(PIXELS)
    picture.putalpha(GRAY)
    return picture


def inks() -> Image.Image:
    """Return inks without black: Chromium 156 turns black into the three others before it looks at the profile."""
    amounts = np.random.default_rng(1).integers(0, 256, (6, 6, 4), dtype=np.uint8)
    amounts[..., 3] = 0
    return Image.fromarray(amounts, mode="CMYK").resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def photo() -> Image.Image:
    return Image.fromarray(PIXELS[::8, ::8]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def numbers(*cicp: int) -> dict[bytes, bytes]:
    return {b"cICP": bytes(cicp)}


FILES: dict[str, bytes] = {
    **{f"{space} in PNG": saved(Image.fromarray(PIXELS), "PNG", icc_profile=profile_of(space)) for space in SPACES},
    **{f"{space} in JPEG": saved(photo(), "JPEG", icc_profile=profile_of(space), quality=95) for space in SPACES},
    "P3 in WebP": saved(Image.fromarray(PIXELS), "WEBP", lossless=True, icc_profile=P3),
    "P3 of a palette": saved(photo().quantize(64), "PNG", icc_profile=P3),
    "linear light": saved(photo(), "PNG", icc_profile=rgb_icc(curve((1.0,)), SRGB_COLORANTS)),
    "gray, gray profile": saved(GRAY, "PNG", icc_profile=GRAY_ICC),
    "gray JPEG, gray profile": saved(GRAY, "JPEG", quality=95, icc_profile=GRAY_ICC),
    "gray, colour profile": saved(GRAY, "PNG", icc_profile=ADOBE),
    "gray JPEG, colour profile": saved(GRAY, "JPEG", quality=95, icc_profile=ADOBE),
    "colours, gray profile": saved(Image.fromarray(PIXELS), "PNG", icc_profile=GRAY_ICC),
    "colours, gray profile, JPEG": saved(photo(), "JPEG", quality=95, icc_profile=GRAY_ICC),
    "inks": saved(inks(), "JPEG", quality=100, icc_profile=cmyk_icc()),
    "half a profile": saved(Image.fromarray(PIXELS), "PNG", icc_profile=ADOBE[:200]),
    "gamma 1.0": png(PIXELS, {b"gAMA": gama(1.0)}),
    "gamma 1.8": png(PIXELS, {b"gAMA": gama(1 / 1.8)}),
    "gamma 2.2": png(PIXELS, {b"gAMA": gama(0.45455)}),
    **{f"gamma {gamma}": png(PIXELS, {b"gAMA": gama(gamma)}) for gamma in (0.43, 0.433, 0.45, 0.477, 0.479)},
    "gamma 2.2, primaries of sRGB": png(PIXELS, {b"gAMA": gama(0.45455), b"cHRM": SRGB_CHRM}),
    "gamma 2.2, primaries of P3": png(PIXELS, {b"gAMA": gama(0.45455), b"cHRM": P3_CHRM}),
    "primaries of P3": png(PIXELS, {b"cHRM": P3_CHRM}),
    "gray, gamma 1.0": png(GRAY, {b"gAMA": gama(1.0)}),
    "sRGB before gamma": png(PIXELS, {b"sRGB": b"\0", b"gAMA": gama(1.0), b"cHRM": P3_CHRM}),
    "a profile before sRGB": png(PIXELS, {b"iCCP": iccp(ADOBE), b"sRGB": b"\0"}),
    "numbers before a profile": png(PIXELS, {**numbers(12, 13, 0, 1), b"iCCP": iccp(ADOBE)}),
    "unknown numbers, then a profile": png(PIXELS, {**numbers(200, 13, 0, 1), b"iCCP": iccp(ADOBE)}),
    "numbers of video": png(PIXELS, numbers(12, 13, 0, 0)),
    "half a profile, then gamma": png(PIXELS, {b"iCCP": iccp(ADOBE[:200]), b"gAMA": gama(1.0)}),
    **{f"primaries {number}": png(PIXELS, numbers(number, 13, 0, 1)) for number in sorted(PRIMARIES)},
    **{f"transfer {number}": png(PIXELS, numbers(1, number, 0, 1)) for number in (*sorted(TRANSFERS), 0, 2, 12)},
    "half clear": saved(clear(), "PNG", icc_profile=P3),
    "half clear, WebP": saved(clear(), "WEBP", lossless=True, exact=True, icc_profile=P3),
    "half clear, gray": png(clear().convert("LA"), {b"gAMA": gama(1.0)}),
}

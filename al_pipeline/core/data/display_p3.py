"""Display P3, the colours of phones, brought to sRGB by two tables: twice as fast as littleCMS.

Both have one curve and, nearly, one blue. So red and green of sRGB follow from red and green alone, and what these add
to its blue is one number, of which together with the blue of the photo the blue of sRGB follows.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from al_pipeline.core.data.profiles import BT709, SRGB_CURVE, colorants

if TYPE_CHECKING:
    from PIL import ImageCms

Levels = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float64]

_GAMMA, _A, _B, _C, _D = cast("tuple[float, float, float, float, float]", SRGB_CURVE)
# How finely what red and green add to blue is told: half a step is a sixth of a level where that is most, near black.
BITS = 10
# How much of the light of blue may be in red and green, of 1: a level near black is 0.0003.
LEAST_LIGHT = 2e-4
# Pixels that are converted together stay in a core's cache.
AT_A_TIME = 1 << 15


def by_tables(profile: "ImageCms.ImageCmsProfile") -> Callable[[Image.Image], Image.Image] | None:
    """Return a conversion of RGB pictures by the primaries of a profile, as if its curve was that of sRGB.

    Parameters
    ----------
    profile : ImageCmsProfile
        Of red, green and blue.

    Returns
    -------
    callable or None
        None if blue is not sRGB's. Whether the profile means this, and has no other curve or tables of its own, is for
        the caller to find out.
    """
    stored: Any = profile.profile
    columns = [stored.red_colorant, stored.green_colorant, stored.blue_colorant]
    if None in columns:
        return None
    light = np.linalg.solve(colorants(BT709), np.array([xyz for xyz, _ in columns]).T)
    if np.abs(light[:2, 2]).max() > LEAST_LIGHT:
        return None
    linear = _light(np.arange(256) / 255)
    # Of all pairs: red is the lower byte, as it comes first in a pixel.
    red, green = np.tile(linear, 256), np.repeat(linear, 256)
    added = light[2, 0] * red + light[2, 1] * green
    low, step = added.min(), (added.max() - added.min()) / ((1 << BITS) - 1) or 1.0
    pairs: npt.NDArray[Any] = np.rint((added - low) / step).astype(np.uint32) << 16
    for channel in (0, 1):
        pairs |= _level(light[channel, 0] * red + light[channel, 1] * green) << 8 * channel
    blues = _level(light[2, 2] * linear[:, None] + low + step * np.arange(1 << BITS)).astype(np.uint8).reshape(-1)

    def apply(image: Image.Image) -> Image.Image:
        shown, rows = Image.new("RGB", image.size), max(1, AT_A_TIME // image.width)
        for top in range(0, image.height, rows):
            part = image.crop((0, top, image.width, min(top + rows, image.height)))
            stored = np.frombuffer(part.tobytes("raw", "RGBX"), "<u4")
            # Without a check of each index, which takes longer than the look-up.
            pixels = pairs.take((stored & 0xFFFF).astype(np.intp), mode="wrap")
            at = stored >> 16 - BITS
            at &= 0xFF << BITS
            at |= pixels >> 16
            pixels &= 0xFFFF
            pixels |= blues.take(at.astype(np.intp), mode="wrap").astype(np.uint32) << 16
            pixels = pixels.astype("<u4", copy=False)
            shown.paste(Image.frombuffer("RGB", part.size, pixels, "raw", "RGBX", 0, 1), (0, top))
        return shown

    return apply


def _light(values: Floats) -> Floats:
    """Return light from 0 to 1 of values from 0 to 1."""
    return np.where(values >= _D, (_A * values + _B) ** _GAMMA, _C * values)


def _level(light: Floats) -> Levels:
    """Return the levels from 0 to 255 of light that may be out of range."""
    light = light.clip(0, 1)
    values = np.where(light >= _C * _D, (light ** (1 / _GAMMA) - _B) / _A, light / _C)
    return np.rint(255 * values).astype(np.uint32)

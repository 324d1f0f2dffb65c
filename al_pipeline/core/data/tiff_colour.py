"""Colours that TIFF files store otherwise than as red, green and blue."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from al_pipeline.core.data.raster import Values, by_rows

CIELAB, ICCLAB, ITULAB = 8, 9, 10
# Rec. 601, and the whole range of a byte: what holds where a file says nothing (TIFF 6.0, sections 20 and 21).
LUMA = (0.299, 0.587, 0.114)
RANGES = (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)

# CIE 15, and IEC 61966-2-1 with Bradford's adaptation from D50 to D65 (as ICC's sRGB profile has it).
D50 = np.array([0.96422, 1.0, 0.82521])
XYZ_TO_RGB = np.array(
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]]
)


def ycbcr_to_rgb(values: Values, luma: Sequence[float] = LUMA, ranges: Sequence[float] = RANGES) -> Values:
    """Convert brightness and colour differences of 8 bits.

    Parameters
    ----------
    values : uint8 array, shape (height, width, 3)
    luma : sequence of 3 floats
        YCbCrCoefficients: the parts of red, green and blue in the brightness.
    ranges : sequence of 6 floats
        ReferenceBlackWhite: of each of the three what stands for 0, and for the largest value.

    Returns
    -------
    rgb : uint8 array, shape (height, width, 3)
    """
    red, green, blue = luma
    zero, full = np.array(ranges[::2], np.float32), np.array(ranges[1::2], np.float32)
    steps = np.array([255, 127, 127], np.float32) / np.where(full == zero, 1, full - zero)

    def convert(some: Values) -> Values:
        y, cb, cr = np.moveaxis((some - zero) * steps, -1, 0)
        r = y + cr * (2 - 2 * red)
        b = y + cb * (2 - 2 * blue)
        g = (y - blue * b - red * r) / green
        return np.stack([r, g, b], axis=-1).clip(0, 255).round()

    return by_rows(convert, values, np.uint8, 3)


def lab_to_rgb(values: Values, photometric: int, ranges: Sequence[float] | None = None) -> Values:
    """Convert CIE L*a*b* for D50 to sRGB.

    Parameters
    ----------
    values : uint8 or uint16 array, shape (height, width, 3)
    photometric : {8, 9, 10}
        How a* and b* are stored: as signed numbers (CIELab), above the middle of the range (ICCLab), or in `ranges`.
    ranges : sequence of 6 floats, optional
        Smallest and largest L*, a* and b* of ITULab (the Decode tag).

    Returns
    -------
    rgb : uint16 array, shape (height, width, 3)
        65535 is white.
    """
    bits = 8 * values.dtype.itemsize
    # 16 bits have the 8 bits above the point, for a* and b*, and in ICCLab for L* too (ICC.1:2001, 6.3.4.2).
    unit = 1 << (bits - 8)
    largest = (1 << bits) - 1

    def convert(some: Values) -> Values:
        stored = np.asarray(some, np.float64)
        if photometric == ITULAB:
            low, high = np.reshape(ranges or (0, 100, -85, 85, -75, 125), (3, 2)).T
            lab = low + stored / largest * (high - low)
        elif photometric == ICCLAB:
            lab = stored / unit - (0, 128, 128)
            lab[..., 0] *= 100 / 255
        else:
            lab = np.where(stored > largest // 2, stored - largest - 1, stored) / unit
            lab[..., 0] = stored[..., 0] * 100 / largest
        return (_encoded(_xyz(lab) @ XYZ_TO_RGB.T) * 65535).round()

    return by_rows(convert, values, np.uint16, 3)


def _xyz(lab: npt.NDArray[Any]) -> npt.NDArray[Any]:
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    return D50 * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))


def _encoded(linear: npt.NDArray[Any]) -> npt.NDArray[Any]:
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def undo_palette(indices: Values, colour_map: npt.NDArray[Any]) -> Values:
    """Return the colours that indices stand for, uint8 of shape (height, width, 3).

    Parameters
    ----------
    indices : array, shape (height, width, 1)
    colour_map : uint16 array, shape (3, colours)

    Raises
    ------
    IndexError
        An index has no colour.
    """
    # Some programs write bytes where TIFF has 16 bits.
    colours = colour_map if colour_map.max(initial=0) < 256 else colour_map >> 8
    # Of one bit the indices are bool, which would choose rows.
    places = indices[..., 0].view(np.uint8) if indices.dtype == np.bool_ else indices[..., 0]
    return np.ascontiguousarray(colours.T.astype(np.uint8))[places]


def straight(values: Values, white: float | None) -> Values:
    """Return colours that were multiplied with the opacity in the last channel without that; clear is black.

    Parameters
    ----------
    values : array, shape (height, width, channels)
    white : float or None
        Full opacity; None: the largest number of the type, 1 of floats.
    """
    whole = values.dtype.kind in "iu"
    largest = white or (float(np.iinfo(values.dtype).max) if whole else 1.0)

    def divide(some: Values) -> Values:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            made = np.array(some, np.float64)
            alpha = made[..., -1:]
            colours = np.where(alpha > 0, made[..., :-1] * largest / alpha, 0)
        made[..., :-1] = colours.clip(0, largest).round() if whole else colours
        return made

    return by_rows(divide, values, values.dtype, values.shape[2])

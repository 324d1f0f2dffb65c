"""Values as a file stores them, and how they become a picture of 8 bits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from al_pipeline.core.data.exif import written
from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.levels import Levels
from al_pipeline.core.errors import ImageError

Values = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

# Values that are computed with at a time: float64 copies of a whole image would take up to 2 GB, and those of so many
# stay in a core's cache.
AT_A_TIME = 1 << 16


@dataclass(frozen=True)
class Raster:
    """An image's values, and what its file says about them.

    Attributes
    ----------
    values : array, shape (height, width, channels)
        In native byte order, as stored: integers of 8 to 64 bits, floats, or bool.
    white, black : float or None
        The values that the file itself calls so; None: nobody said.
    nodata : float or None
        What stands for "not measured"; a pixel is that if all its channels are.
    inverted : bool
        Small values are bright (WhiteIsZero, MONOCHROME1).
    alpha : bool
        The last channel is straight alpha.
    profile : bytes or None
        ICC profile.
    planes : int
        Pages, frames or slices in the file, of which `values` is one, or the brightest of all.
    channels : int
        Those of the file, where no others were read than are shown; 0: those of `values`.
    inks : bool
        The first four channels are cyan, magenta, yellow and black, 0 for none of it.
    orientation : int
        How the values must be turned, by EXIF's tag 274.
    taken : str
        When, as EXIF writes it; "" if unknown.
    """

    values: Values
    white: float | None = None
    black: float | None = None
    nodata: float | None = None
    inverted: bool = False
    alpha: bool = False
    profile: bytes | None = None
    planes: int = 1
    channels: int = 0
    inks: bool = False
    orientation: int = 1
    taken: str = ""

    @property
    def said(self) -> tuple[float, float] | None:
        """Black and white by the file itself, or by their type where they are of 8 bits or fewer."""
        if self.white is not None and self.white > (black := self.black or 0.0):
            return black, self.white
        return {"b1": (0.0, 1.0), "u1": (0.0, 255.0)}.get(self.values.dtype.str[1:])

    @property
    def several(self) -> bool:
        """Whether there are other channels than gray or colours, opacity apart, of which some are shown."""
        return not self.inks and (self.channels or self.values.shape[2] - self.alpha) not in (1, 3)

    def colours(self, channels: tuple[int, ...] = ()) -> Values:
        """Return what is shown, shape (height, width, 1, 3 or, of inks, 4); see `HowRead.channels`."""
        there = self.values.shape[2] - self.alpha
        if self.inks:
            return self.values[..., :4]
        seen = tuple(range(there)) if self.channels else shown_channels(there, channels)
        colours = self.values[..., : len(seen)] if seen == tuple(range(len(seen))) else self.values[..., list(seen)]
        return np.pad(colours, ((0, 0), (0, 0), (0, 1))) if len(seen) == 2 else colours


def shown_channels(there: int, channels: tuple[int, ...]) -> tuple[int, ...]:
    """Return which of so many channels are shown; see `HowRead.channels`.

    Raises
    ------
    ImageError
        One that is asked for is not there, and they are neither gray nor red, green and blue: those are shown as ever.
    """
    if not channels or there == 1 or (there == 3 and max(channels) >= there):
        return (0, 1, 2) if there >= 3 else (0,)
    if max(channels) >= there:
        raise ImageError(f"no channel {max(channels)}, which AL_CHANNELS asks for ({there} channels, counted from 0)")
    return channels


def to_image(raster: Raster, how: HowRead = AS_EVER) -> Image.Image:
    """Return a picture of 8 bits in the mode L, RGB, RGBA (straight alpha) or CMYK, as stored: not yet turned.

    Between black and white, which the file says, else the levels of its pool; without them they are 0 and the largest
    number of unsigned integers of 8 and 16 bits, and an image's own range for all other types. What is not measured and
    not a number is black.
    Of other channels than gray or colours, the first three are shown as red, green and blue, the first of two as gray.
    The ICC profile and the orientation are in ``info``.
    """
    pixels = _shades(raster.colours(how.channels), raster, how.levels)
    if raster.alpha and not raster.inks:
        opacity = _scaled(raster.values[..., -1:], 0, _opaque(raster.values[..., -1], raster.white, how.levels))
        pixels = np.concatenate([np.broadcast_to(pixels, (*pixels.shape[:2], 3)), opacity], axis=-1)
    mode = "CMYK" if raster.inks else {1: "L", 3: "RGB", 4: "RGBA"}[pixels.shape[2]]
    height, width = pixels.shape[:2]
    image = Image.frombuffer(mode, (width, height), np.ascontiguousarray(pixels), "raw", mode, 0, 1)
    if raster.profile:
        image.info["icc_profile"] = raster.profile
    if raster.orientation != 1 or raster.taken:
        image.info["exif"] = written(raster.orientation, raster.taken)
    return image


def _opaque(opacity: Values, white: float | None, levels: Levels) -> float:
    """Return the value of full opacity."""
    dtype = opacity.dtype
    if dtype.kind not in "iu":
        return 1.0
    if white is None and dtype.kind == "u" and (found := levels.of(dtype)) and opacity.max() <= found[1]:
        return found[1]
    return white or float(np.iinfo(dtype).max)


def _shades(colours: Values, raster: Raster, levels: Levels) -> Bytes:
    missing = _missing(colours, raster.nodata)
    black, white = raster.said or levels.of(colours.dtype) or _limits(colours, missing)
    shades = _scaled(colours, black, white, inverted=raster.inverted)
    if missing is not None:
        shades = np.where(missing[..., None], np.uint8(0), shades)
    return shades


def _missing(colours: Values, nodata: float | None) -> npt.NDArray[np.bool_] | None:
    """Return which pixels were not measured, shape (height, width); None if all were."""
    if nodata is None:
        return None
    missing = np.asarray(is_nodata(colours, nodata).all(axis=-1))
    return missing if missing.any() else None


def is_nodata(values: Values, nodata: float) -> npt.NDArray[np.bool_]:
    """Return which values stand for "not measured"."""
    with np.errstate(over="ignore"):
        # The text of a tag has more digits than a float32 has.
        return values == (values.dtype.type(nodata) if values.dtype.kind == "f" else nodata)


def _limits(colours: Values, missing: npt.NDArray[np.bool_] | None) -> tuple[float, float]:
    """Return black and white if neither the file nor the pool says them."""
    if colours.dtype == np.uint16:
        return 0.0, 65535.0
    low, high = np.inf, -np.inf
    for rows in blocks(colours):
        some = colours[rows] if missing is None else colours[rows][~missing[rows]]
        if some.dtype.kind == "f":
            some = some[np.isfinite(some)]
        if some.size:
            low, high = min(low, float(some.min())), max(high, float(some.max()))
    return (low, high) if low <= high else (0.0, 1.0)


def _scaled(values: Values, black: float, white: float, *, inverted: bool = False) -> Bytes:
    if values.dtype == np.uint8 and (black, white) == (0, 255):
        return ~values if inverted else values

    def scale(some: Values) -> Bytes:
        with np.errstate(invalid="ignore", over="ignore"):
            # Of halves, because the difference of two floats may be no float any more.
            shades, low, high = np.divide(some, 2, dtype=np.float64), black / 2, white / 2
            shades -= low
            shades /= (high - low) or 1.0
            shades *= 255
            np.minimum(np.maximum(shades, 0, out=shades), 255, out=shades)
        if inverted:
            np.subtract(255, shades, out=shades)
        if some.dtype.kind == "f":
            shades[np.isnan(shades)] = 0
        return np.rint(shades, out=shades).astype(np.uint8)

    # Of few values a table would have more entries than there are pixels.
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2 and values.size > 1 << 8 * values.dtype.itemsize:
        unsigned = np.dtype(f"u{values.dtype.itemsize}")
        table = scale(np.arange(1 << 8 * unsigned.itemsize, dtype=np.uint32).astype(unsigned).view(values.dtype))
        return table[values.view(unsigned)]
    return by_rows(scale, values, np.uint8, values.shape[2])


def by_rows(convert: Callable[[Values], Values], values: Values, dtype: npt.DTypeLike, channels: int) -> Values:
    """Apply a function to some rows at a time, so that what it makes in between stays small.

    Parameters
    ----------
    convert : callable
        Given and returning an array of shape (rows, width, any number of channels).
    values : array, shape (height, width, any)
    dtype, channels
        Of the result.
    """
    made = np.empty((*values.shape[:2], channels), dtype)
    for rows in blocks(values):
        made[rows] = convert(values[rows])
    return made


def blocks(values: Values) -> list[slice]:
    """Return rows of an array, some at a time."""
    step = max(1, AT_A_TIME // max(1, values[0].size))
    return [slice(start, start + step) for start in range(0, values.shape[0], step)]

"""Files of several planes (pages, slices, frames): which one is taken, or of each pixel the brightest of all."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from al_pipeline.core.data.how_read import Plane
from al_pipeline.core.data.raster import Raster, blocks, is_nodata
from al_pipeline.core.errors import ImageError

# Whose planes can be chosen, as `kind_of` names them.
FORMATS = frozenset({"TIFF", "DICOM"})
# Of the brightest of all planes: some seconds per picture.
MOST_PLANES = 1_000
MOST_PIXELS = 1_000_000_000


def position(plane: Plane, planes: int, slices: int | None = None) -> int:
    """Return the number of the plane that is taken.

    Parameters
    ----------
    plane : str or int
        As `HowRead.plane`, but for ``max``. The only plane of a file is taken whatever it is.
    planes : int
        How many the file has.
    slices : int, optional
        How many of them, one after the other, are of one moment: all by default. ``middle`` is the middle one of the
        middle moment; where there is none, the later one of the two.

    Raises
    ------
    ImageError
        The file has fewer planes.
    """
    if planes == 1:
        return 0
    if isinstance(plane, int):
        if plane >= planes:
            raise ImageError(f"no plane {plane}, which AL_PLANE asks for ({planes:,} planes, counted from 0)")
        return plane
    slices = slices or planes
    return planes // slices // 2 * slices + slices // 2 if plane == "middle" else 0


def of_planes(read: Callable[[int], Raster], planes: int, plane: Plane, slices: int | None = None) -> Raster:
    """Return what is taken of a file's planes.

    Parameters
    ----------
    read : callable
        Returns the plane of a number, from 0.
    planes, plane, slices
        As for `position`; ``max`` reads one plane after the other, and keeps of each value the brightest.

    Raises
    ------
    ImageError
        The file has fewer planes than were asked for, or too many to look at all of them.
    """
    if plane != "max" or planes == 1:
        found = read(position(plane, planes, slices))
        return replace(found, planes=max(planes, found.planes))
    first = read(0)
    height, width = first.values.shape[:2]
    if planes > MOST_PLANES or planes * height * width > MOST_PIXELS:
        raise ImageError(
            f"too large ({planes:,} planes of {width} × {height} pixels): AL_PLANE=max looks at {MOST_PLANES:,} planes "
            f"and {MOST_PIXELS / 1e6:,.0f} megapixels at most; choose one plane, or save the projection as TIFF"
        )
    brightest = replace(first, values=first.values.copy(), planes=planes)
    for number in range(1, planes):
        _brighten(brightest, read(number))
    return brightest


def _brighten(brightest: Raster, other: Raster) -> None:
    """Put in place what is brighter in another plane, or was not measured before."""
    if (other.values.shape, other.values.dtype) != (brightest.values.shape, brightest.values.dtype):
        raise ImageError("planes of different sizes or types: AL_PLANE=max needs them alike, choose one")
    for rows in blocks(brightest.values):
        seen, new = brightest.values[rows], other.values[rows]
        taken = new < seen if brightest.inverted or brightest.inks else new > seen
        if seen.dtype.kind == "f":
            taken |= np.isnan(seen)
        if brightest.nodata is not None:
            taken = (taken | is_nodata(seen, brightest.nodata)) & ~is_nodata(new, brightest.nodata)
        np.copyto(seen, new, where=taken)


def joined(channels: list[Raster], there: int) -> Raster:
    """Return one picture of channels that a file stores as pages of their own.

    Parameters
    ----------
    channels : list of Raster
        One channel each, in the order in which they are shown.
    there : int
        How many channels the file has.

    Raises
    ------
    ImageError
        They are of different types.
    """
    first = channels[0]
    if len({(each.values.shape, each.values.dtype, each.inverted) for each in channels}) > 1:
        raise ImageError("damaged: channels of one picture that have different sizes or types")
    whites = [each.white for each in channels if each.white is not None]
    return replace(
        first,
        values=np.concatenate([each.values for each in channels], axis=2),
        white=max(whites) if len(whites) == len(channels) else None,
        black=min(each.black or 0.0 for each in channels) if whites else None,
        channels=there,
    )

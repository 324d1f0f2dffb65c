"""DICOM: a frame as a person in front of a viewer sees it [1]_, by pydicom.

Stored values become those of the modality (rescale, or a table), and a window or a table says which of them are black
and white. The tables are looked up here: pydicom keeps positions in the type of the entries, so that a table of more
than 256 entries of 8 bits begins anew every 256.

References
----------
.. [1] DICOM PS3.3, C.7.6.3 (pixels), C.11.1 (modality) and C.11.2 (values of interest).
"""

import functools
import io
import logging
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.limits import refuse_large
from al_pipeline.core.data.raster import Raster
from al_pipeline.core.data.stacks import of_planes
from al_pipeline.core.errors import ImageError

if TYPE_CHECKING:
    from pydicom import Dataset

Values = npt.NDArray[Any]

_DEFLATED = b"1.2.840.10008.1.2.1.99"
# Bytes a pixel that a deflated file may have: a volume of few slices; what is more is taken for a bomb.
_INFLATED = 8


def read_dicom(data: bytes, max_pixels: int, how: HowRead = AS_EVER) -> Raster:
    """Return the frame that is asked for, or the brightest of all, with black and white by its window if it has one.

    Parameters
    ----------
    data : bytes
        A whole file, from its preamble on.
    max_pixels : int
    how : HowRead

    Returns
    -------
    Raster
        ``planes`` is the number of frames. Gray values are those after rescale; without a window nobody said what is
        black or white, but for 8 bits and fewer. Colours are red, green and blue, whatever was stored.

    Raises
    ------
    ImageError
        It has no pixels or too many, is damaged, is compressed in a way that nobody here can read, or has
        no such frame.
    """
    import pydicom

    prepare()
    _refuse_bomb(data, max_pixels)
    dataset = pydicom.dcmread(io.BytesIO(data))
    frames = int(dataset.get("NumberOfFrames") or 1)
    return of_planes(functools.partial(_raster, dataset, max_pixels), frames, how.plane)


def _raster(dataset: "Dataset", max_pixels: int, frame: int) -> Raster:
    values, photometric = _frame(dataset, max_pixels, frame)
    bits = int(dataset.get("BitsStored") or 0)
    if photometric == "PALETTE COLOR":
        colours, depth = _palette(dataset, values)
        return Raster(colours, white=2.0**depth - 1, black=0.0)
    if values.ndim == 3:
        if photometric != "RGB":
            raise ImageError(f"DICOM with the colours {photometric}, which are not read: export it as PNG")
        profile = dataset.get("ICCProfile")
        return Raster(values, white=2.0**bits - 1, black=0.0, profile=bytes(profile or b"") or None)
    if not photometric.startswith("MONOCHROME"):
        raise ImageError(f"DICOM with the colours {photometric}, which are not read: export it as PNG")
    return _gray(dataset, values, bits, frame, inverted=photometric == "MONOCHROME1")


@functools.cache
def prepare() -> None:
    """Tell pydicom about the codecs of imagecodecs, and to be still: what can't be read is said by our errors."""
    import pydicom.config

    from al_pipeline.core.data.dicom_codecs import register

    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    register()


def _refuse_bomb(data: bytes, max_pixels: int) -> None:
    """Raise ImageError if a deflated data set is larger than any image that is read."""
    if _DEFLATED not in data[132:1024]:
        return
    # The first element gives the length of the group that is not deflated.
    start = 144 + int.from_bytes(data[140:144], "little")
    unpacked = zlib.decompressobj(-zlib.MAX_WBITS)
    unpacked.decompress(data[start:], _INFLATED * max_pixels)
    if unpacked.unconsumed_tail:
        raise ImageError(f"too large: the limit is {max_pixels / 1e6:g} megapixels")


def _frame(dataset: "Dataset", max_pixels: int, number: int) -> tuple[Values, str]:
    """Return a frame, shape (height, width) or (height, width, 3), and what its colours are now."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import as_pixel_options

    from al_pipeline.core.data.dicom_codecs import refuse_other_size

    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        kind = getattr(dataset.get("SOPClassUID"), "name", "of an unknown class")
        raise ImageError(f"DICOM without pixels ({kind}), not an image")
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    refuse_large(columns, rows, max_pixels)
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        decoder = None
    if decoder is None or not decoder.is_available:
        raise ImageError(
            f"DICOM compressed as {syntax.name}, which is not read: convert it with `gdcmconv --raw IN OUT`, or export "
            "it as PNG"
        )
    if syntax.is_encapsulated:
        refuse_other_size(dataset, columns, rows, number)
    # A view where the values are stored plainly: nobody writes to them.
    values, told = decoder.as_array(dataset, index=number, **as_pixel_options(dataset, view_only=True))
    return values, str(told["photometric_interpretation"])


def _gray(dataset: "Dataset", stored: Values, bits: int, frame: int, *, inverted: bool) -> Raster:
    # Of 16 bits and a slope nothing is lost in 32-bit float.
    values = stored.astype(np.float32 if stored.dtype.itemsize <= 2 else np.float64)
    nodata = _padding(dataset, values)
    rescale = _group(dataset, "PixelValueTransformationSequence", frame)
    is_stored = False
    if tables := dataset.get("ModalityLUTSequence"):
        values, nodata = _looked_up(tables[0], values)[0], None
    elif rescale.get("RescaleSlope") is not None:
        slope, intercept = _first(rescale.get("RescaleSlope")) or 1.0, _first(rescale.get("RescaleIntercept")) or 0.0
        values *= slope
        values += intercept
        nodata = None if nodata is None else float(values.dtype.type(nodata) * slope + intercept)
        is_stored = (slope, intercept) == (1, 0)
    else:
        is_stored = True

    def raster(values: Values, black: float | None, white: float | None, nodata: float | None = None) -> Raster:
        return Raster(values[..., None], white=white, black=black, nodata=nodata, inverted=inverted)

    chosen = _group(dataset, "FrameVOILUTSequence", frame)
    if (tables := chosen.get("VOILUTSequence")) and tables[0].get("LUTData"):
        looked_up, depth = _looked_up(tables[0], values)
        return raster(looked_up, 0.0, 2.0**depth - 1)
    centre, width = _first(chosen.get("WindowCenter")), _first(chosen.get("WindowWidth"))
    function = str(chosen.get("VOILUTFunction") or "LINEAR").upper()
    if centre is not None and width is not None and width > 0:
        if function == "SIGMOID":
            with np.errstate(over="ignore"):
                return raster(1 / (1 + np.exp(-4 * (values - centre) / width)), 0.0, 1.0)
        if function == "LINEAR":
            # Between the first value that is not black and the last that is not white (C.11.2.1.2.1).
            centre, width = centre - 0.5, width - 1
        # A width of nothing is a threshold.
        return raster(values, centre - width / 2, centre + max(width, 1e-6) / 2, nodata)
    if is_stored and 0 < bits <= 8 and not dataset.get("PixelRepresentation"):
        return raster(values, 0.0, 2.0**bits - 1, nodata)
    return raster(values, None, None, nodata)


def _padding(dataset: "Dataset", values: Values) -> float | None:
    """Return the stored value around what was measured; those up to the limit of its range become that value."""
    if (padding := _first(dataset.get("PixelPaddingValue"))) is None:
        return None
    if (limit := _first(dataset.get("PixelPaddingRangeLimit"))) is not None:
        values[(values >= min(padding, limit)) & (values <= max(padding, limit))] = padding
    return padding


def _group(dataset: "Dataset", name: str, frame: int) -> "Dataset":
    """Return what holds a module: the data set, or of an enhanced one the frame's group or the shared one."""
    for groups, number in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups) or ()
        if number < len(items) and (found := items[number].get(name)):
            return found[0]
    return dataset


def _first(value: Any) -> float | None:
    """Return the first of one or several numbers."""
    if value is None or value == "":
        return None
    each = next(iter(value), None) if hasattr(value, "__iter__") else value
    return None if each is None else float(each)


def _looked_up(item: "Dataset", values: Values) -> tuple[Values, int]:
    """Return what the table of a modality or VOI LUT gives, and the bits of its entries."""
    number, first, depth = (int(each) for each in item.LUTDescriptor)
    return _entries(item.LUTData, number, item)[_positions(values, first, number)], depth


def _palette(dataset: "Dataset", values: Values) -> tuple[Values, int]:
    """Return red, green and blue, shape (height, width, 3), and their bits."""
    from pydicom.pixels.processing import apply_color_lut

    if "RedPaletteColorLookupTableData" not in dataset:
        # In segments, which are of 16 bits nearly always.
        number, first, depth = (int(each) for each in dataset.RedPaletteColorLookupTableDescriptor)
        every = apply_color_lut(np.arange(min(number or 65536, 256 if depth == 8 else 65536)) + first, dataset)
        return every[_positions(values, first, len(every))][..., :3], depth
    channels: list[Values] = []
    for colour in ("Red", "Green", "Blue"):
        number, first, depth = (int(each) for each in dataset[f"{colour}PaletteColorLookupTableDescriptor"].value)
        table = _entries(dataset[f"{colour}PaletteColorLookupTableData"].value, number, dataset)
        channels.append(table[_positions(values, first, number)])
    return np.stack(channels, axis=-1), int(dataset.RedPaletteColorLookupTableDescriptor[2])


def _positions(values: Values, first: int, number: int) -> Values:
    return (np.rint(values).astype(np.int32) - first).clip(0, (number or 65536) - 1)


def _entries(table: Any, number: int, dataset: "Dataset") -> Values:
    """Return the entries of a table that is stored as numbers, as bytes, or as words of two bytes."""
    number = number or 65536
    if not isinstance(table, bytes):
        entries = np.atleast_1d(np.asarray(table))
    elif len(table) >= 2 * number:
        little = dataset.original_encoding[1] is not False
        entries = np.frombuffer(table, "<u2" if little else ">u2", number).astype(np.uint16)
    else:
        entries = np.frombuffer(table, np.uint8)
    if len(entries) < number:
        raise ImageError(f"damaged: a table of {len(entries)} entries in place of {number}")
    return entries[:number]

"""The kinds of files that Pillow doesn't open, or not rightly, and who reads them."""

from PIL import Image

from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.kinds import READS_RAW
from al_pipeline.core.data.raster import Raster, to_image
from al_pipeline.core.data.tiff_pages import CameraRawError

RAW = "camera RAW"
# As `kind_of` names them, but for the maker of a camera RAW in brackets.
OTHERS = frozenset({"TIFF", "HEIC", "AVIF", "JPEG 2000", "JPEG XL", "DICOM", RAW})


def reader_of(kind: str | None) -> str | None:
    """Return which of `OTHERS` reads a kind, as `kind_of` names it; None if none does."""
    family = kind.partition(" (")[0] if kind is not None else None
    return family if family in OTHERS and (family != RAW or READS_RAW) else None


def read(kind: str, data: bytes, max_pixels: int, how: HowRead = AS_EVER) -> Image.Image:
    """Return the picture of a file of another kind than Pillow's.

    Parameters
    ----------
    kind : str
        One of `OTHERS`.
    data : bytes
        The whole file.
    max_pixels : int
        Checked on the header.
    how : HowRead

    Returns
    -------
    PIL.Image.Image
        With EXIF, ICC profile and other colours of the file in ``info``, and the values as stored as ``raster`` if they
        may be of more than 8 bits; ``format`` is the kind, and "camera RAW" of those that are TIFF files too.

    Raises
    ------
    ImageError
        It is too large, or of a sort that cannot be read. Damaged bytes lead the libraries into errors of any kind.
    """
    try:
        found = _read(kind, data, max_pixels, how)
    except CameraRawError:
        if not READS_RAW:
            raise
        kind = RAW
        found = _read(kind, data, max_pixels, how)
    if isinstance(found, Raster):
        image = to_image(found, how)
        # A scan tells files apart by all that they store, also where 8 bits look alike.
        image.info["raster"] = found
    else:
        image = found
    image.format = kind
    return image


def _read(kind: str, data: bytes, max_pixels: int, how: HowRead) -> Image.Image | Raster:
    # The libraries are imported with the first file that needs them: a folder of JPEG never waits for them.
    match kind:
        case "TIFF":
            from al_pipeline.core.data.tiff import read_tiff

            return read_tiff(data, max_pixels=max_pixels, how=how)
        case "HEIC":
            from al_pipeline.core.data.heif import read_heif

            return read_heif(data, max_pixels)
        case "AVIF":
            from al_pipeline.core.data.heif import read_avif

            return read_avif(data, max_pixels)
        case "JPEG 2000":
            from al_pipeline.core.data.jpeg2000 import read_jpeg2000

            return read_jpeg2000(data, max_pixels)
        case "JPEG XL":
            from al_pipeline.core.data.jpegxl import read_jpegxl

            return read_jpegxl(data, max_pixels, how)
        case "camera RAW":
            from al_pipeline.core.data.camera_raw import read_raw

            return read_raw(data, max_pixels)
        case _:
            from al_pipeline.core.data.dicom import read_dicom

            return read_dicom(data, max_pixels, how)

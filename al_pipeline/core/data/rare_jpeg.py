"""The sorts of JPEG that Pillow and browsers do not decode: of 12 bits, lossless of other than 8 bits, and JPEG-LS.

They come from scanners, from medical and from scientific cameras; within DICOM `dicom_codecs` reads them.
"""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from al_pipeline.core.data.dicom_codecs import whole_jpeg
from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.jpeg_header import JpegFrame, jpeg_frame, segments
from al_pipeline.core.data.limits import refuse_large
from al_pipeline.core.data.raster import Raster, to_image
from al_pipeline.core.data.truncated import ends
from al_pipeline.core.errors import ImageError

_EXIF, _XMP, _ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
# How libjpeg begins to tell that a file is of a kind that it doesn't decode.
_NOT_READ = ("Unsupported", "Sorry", "Not implemented", "Bogus sampling")
# Of JPEG-LS (T.87, C.2.4.1): parameters, of which these are a palette.
_PARAMETERS, _PALETTE = 0xF8, (b"\2", b"\3")
# Of SPIFF (T.84, table F.1), which JPEG-LS files begin with: bits, unknown, gray, and red, green and blue.
_RGB = {0, 2, 8, 10}


def read_rare_jpeg(data: bytes, max_pixels: int, how: HowRead = AS_EVER) -> Image.Image | None:
    """Return the picture, not turned yet, with ``exif``, ``xmp`` and the values as ``raster`` in ``info``.

    Parameters
    ----------
    data : bytes
        The whole file.
    max_pixels : int
        Checked on the header.
    how : HowRead

    Returns
    -------
    PIL.Image.Image or None
        None: it is a usual JPEG, or none at all.

    Raises
    ------
    ImageError
        It is too large, cut off, or coded in a way that nobody decodes.
    """
    frame = jpeg_frame(data)
    if frame is None or (sort := frame.sort()) is None:
        return None
    refuse_large(frame.width, frame.height, max_pixels)
    parts = list(segments(data))
    if why := _unreadable(frame, parts):
        raise ImageError(f"a {sort} with {why}, which is not read: export it as PNG or TIFF")
    try:
        values = _decoded(data, frame)
    except Exception as error:
        if not ends(io.BytesIO(data)):
            raise ImageError("cut off: copy or download it again") from error
        if str(error).startswith(_NOT_READ):
            raise ImageError(f"a {sort}, which is not read ({error}): export it as PNG or TIFF") from error
        raise
    # Values of 16 bits are as often those of 12: the pool says what is white.
    white = None if frame.bits == 16 else 2.0**frame.bits - 1
    # Each part begins with its number and how many there are.
    profile = sorted(body[len(_ICC) :] for marker, body in parts if marker == 0xE2 and body.startswith(_ICC))
    raster = Raster(
        values.reshape(*values.shape[:2], -1), white=white, profile=b"".join(part[2:] for part in profile) or None
    )
    image = to_image(raster, how)
    image.format, image.info["raster"] = "JPEG", raster
    for marker, body in parts:
        for name, start in (("exif", _EXIF), ("xmp", _XMP)):
            if marker == 0xE1 and body.startswith(start):
                image.info.setdefault(name, body if name == "exif" else body.removeprefix(start))
    return image


def _unreadable(frame: JpegFrame, parts: list[tuple[int, bytes]]) -> str | None:
    """Return what a file has that no decoder here heeds; None if there is nothing."""
    if frame.channels not in (1, 3):
        return f"{frame.channels} channels"
    if any(marker == _PARAMETERS and body[:1] in _PALETTE for marker, body in parts):
        return "a palette"
    spaces = {body[18] for marker, body in parts if marker == 0xE8 and body.startswith(b"SPIFF\0") and len(body) > 18}
    return None if frame.channels == 1 or spaces <= _RGB else "other colours than red, green and blue"


def _decoded(data: bytes, frame: JpegFrame) -> npt.NDArray[np.generic]:
    """Return the values of a frame, shape (height, width) or (height, width, 3)."""
    import imagecodecs

    return imagecodecs.jpegls_decode(data) if frame.sort() == "JPEG-LS" else whole_jpeg(data, None)

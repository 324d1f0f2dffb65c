"""The codecs of DICOM that pydicom has no library for where only imagecodecs is installed, as a plugin of it.

Lossless JPEG (what scanners and archives write), JPEG-LS, JPEG of 12 bits, high-throughput JPEG 2000, and JPEG 2000 of
more than 8 bits in several channels.
"""

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from al_pipeline.core.data.jpeg_header import jpeg_frame
from al_pipeline.core.data.truncated import END_OF_JPEG, NOISE
from al_pipeline.core.errors import ImageError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.pixels.decoders.base import DecodeRunner

# Transfer syntax → the decoder of imagecodecs.
_CODECS = {
    "1.2.840.10008.1.2.4.51": "jpeg8_decode",
    "1.2.840.10008.1.2.4.57": "jpeg8_decode",
    "1.2.840.10008.1.2.4.70": "jpeg8_decode",
    "1.2.840.10008.1.2.4.80": "jpegls_decode",
    "1.2.840.10008.1.2.4.81": "jpegls_decode",
    "1.2.840.10008.1.2.4.90": "jpeg2k_decode",
    "1.2.840.10008.1.2.4.91": "jpeg2k_decode",
    "1.2.840.10008.1.2.4.201": "jpeg2k_decode",
    "1.2.840.10008.1.2.4.202": "jpeg2k_decode",
    "1.2.840.10008.1.2.4.203": "jpeg2k_decode",
}
_EXTENDED = "1.2.840.10008.1.2.4.51"
# What pydicom asks of a plugin that is not available.
DECODER_DEPENDENCIES = dict.fromkeys(_CODECS, ("imagecodecs",))
_NAME = "imagecodecs"


def register() -> None:
    """Add the codecs to pydicom's, for this process; once is enough."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    for syntax in _CODECS:
        decoder = get_decoder(UID(syntax))
        if _NAME not in decoder.available_plugins:
            decoder.add_plugin(_NAME, (__name__, "decode_frame"))


def is_available(syntax: str) -> bool:
    """Say whether a transfer syntax can be decoded, as pydicom asks its plugins."""
    return syntax in _CODECS


def decode_frame(source: bytes, runner: "DecodeRunner") -> bytes:
    """Return the values of a frame, and tell pydicom how they are laid out."""
    import imagecodecs

    codec, samples = _CODECS[runner.transfer_syntax], runner.samples_per_pixel
    if codec == "jpeg8_decode":
        # The data set says which colours the three samples of a lossless JPEG are, and they are left alone.
        values = whole_jpeg(source, "RGB" if samples == 3 and runner.transfer_syntax != _EXTENDED else None)
    else:
        values = getattr(imagecodecs, codec)(source)
    expected = (runner.rows, runner.columns) if samples == 1 else (runner.rows, runner.columns, samples)
    if values.shape != expected:
        raise ValueError(f"the frame has the shape {values.shape} in place of {expected}")
    runner.set_option("bits_allocated", 8 * values.dtype.itemsize)
    if samples > 1:
        runner.set_option("planar_configuration", 0)
        if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):
            runner.set_option("photometric_interpretation", "RGB")
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def whole_jpeg(source: bytes, colours: str | None) -> "np.ndarray[Any, Any]":
    """Decode a JPEG of any sort, and raise ValueError if its data end before its pixels do.

    libjpeg makes up the rest without a word, another one with noise in the place of the end. Decoders of lossless JPEG
    alone read on in the memory behind the data: the pixels are other ones each time.
    """
    import imagecodecs

    end = source.rfind(END_OF_JPEG)
    data = source if end < 0 else source[:end]
    values, noisy = (
        imagecodecs.jpeg8_decode(data + rest, colorspace=colours, outcolorspace=colours)
        for rest in (END_OF_JPEG, NOISE + END_OF_JPEG)
    )
    if not np.array_equal(values, noisy):
        raise ValueError("the compressed frame is cut off")
    return values


def refuse_other_size(dataset: "Dataset", columns: int, rows: int, number: int) -> None:
    """Raise ImageError if a frame has another size than the data set says: it would be decoded first."""
    from pydicom.encaps import get_frame

    frame = get_frame(dataset.PixelData, number, number_of_frames=int(dataset.get("NumberOfFrames") or 1))
    size = _coded_size(frame)
    if size is not None and size != (columns, rows):
        raise ImageError(f"damaged: the frame has {size[0]} × {size[1]} pixels in place of {columns} × {rows}")


def _coded_size(frame: bytes) -> tuple[int, int] | None:
    """Return width and height by the header of JPEG, JPEG-LS or JPEG 2000; None if it is none of them."""
    at = frame.find(b"\xff\x4f\xff\x51", 0, 1 << 12)
    if at >= 0 and len(frame) >= at + 24:
        right, bottom, left, top = struct.unpack_from(">4I", frame, at + 8)
        return right - left, bottom - top
    coded = jpeg_frame(frame)
    return None if coded is None else (coded.width, coded.height)

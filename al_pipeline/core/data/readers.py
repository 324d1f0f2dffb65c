"""Who reads which kind of file: all of them give a Pillow image, decoded or that can be."""

from collections.abc import Callable

from PIL import Image

Reader = Callable[[bytes, int], Image.Image]


def _heic(data: bytes, max_pixels: int) -> Image.Image:
    from al_pipeline.core.data.heif import read_heif

    return read_heif(data, max_pixels)


def _avif(data: bytes, max_pixels: int) -> Image.Image:
    from al_pipeline.core.data.heif import read_avif

    return read_avif(data, max_pixels)


def _jpeg2000(data: bytes, max_pixels: int) -> Image.Image:
    from al_pipeline.core.data.jpeg2000 import read_jpeg2000

    return read_jpeg2000(data, max_pixels)


def _jpegxl(data: bytes, max_pixels: int) -> Image.Image:
    from al_pipeline.core.data.jpegxl import read_jpegxl

    return read_jpegxl(data, max_pixels)


def _dicom(data: bytes, max_pixels: int) -> Image.Image:
    from al_pipeline.core.data.dicom import read_dicom
    from al_pipeline.core.data.raster import to_image

    return to_image(read_dicom(data, max_pixels))


# By kind, as `kind_of` names it; Pillow opens the others. The libraries are imported with the first file that needs
# them: a folder of JPEG never waits for them.
READERS: dict[str, Reader] = {"HEIC": _heic, "AVIF": _avif, "JPEG 2000": _jpeg2000, "JPEG XL": _jpegxl, "DICOM": _dicom}


def read(kind: str, data: bytes, max_pixels: int) -> Image.Image:
    """Return the first image of a file.

    Parameters
    ----------
    kind : str
        A key of `READERS`.
    data : bytes
        The whole file.
    max_pixels : int
        Checked on the header.

    Raises
    ------
    ImageError
        It is too large, or of a sort that cannot be read. Damaged bytes lead the libraries into errors of any kind.
    """
    image = READERS[kind](data, max_pixels)
    image.format = kind
    return image

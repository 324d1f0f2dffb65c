"""RAW files of cameras, developed by LibRaw [1]_ into a picture in sRGB, where the extra `raw` is installed.

White balance is the camera's. Exposure is left as it was taken: cameras' own JPEGs are brighter by a curve that each
maker keeps to itself, but LibRaw's brightening differs from picture to picture, and how bright one is may be its class.

References
----------
.. [1] LibRaw, a library for reading the values of cameras' sensors; by rawpy.
"""

import contextlib
import io
from collections.abc import Generator
from datetime import datetime

import numpy as np
import numpy.typing as npt
from PIL import Image

from al_pipeline.core.data.exif import written
from al_pipeline.core.data.kinds import EXPORT_RAW
from al_pipeline.core.data.limits import refuse_large
from al_pipeline.core.errors import ImageError

# LibRaw keeps four values of 16 bits a pixel beside those of the sensor, and the picture.
MOST_PIXELS = 50_000_000
# Power and slope near black of the curve of sRGB.
_SRGB_CURVE = (2.4, 12.92)
# The bit by which LibRaw tells that rows are columns.
_ON_ITS_SIDE = 4


class Negative(Image.Image):
    """A RAW file that is developed when its pixels are asked for: upright, in a quarter of its pixels where they do.

    Parameters
    ----------
    data : bytes
        The whole file.
    size : tuple of int
        Width and height as shown, in pixels.
    taken : datetime
        Of 1970 if unknown.
    """

    def __init__(self, data: bytes, size: tuple[int, int], taken: datetime) -> None:
        super().__init__()
        self._data: bytes | None = data
        self._mode, self._size, self._is_half = "RGB", size, False
        if taken.year > 1970:
            self.info["exif"] = written(taken=f"{taken:%Y:%m:%d %H:%M:%S}")

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> None:
        """Develop at half the size if both sides keep so many pixels; the mode is RGB."""
        if self._data is not None and size is not None and self.width >= 2 * size[0] and self.height >= 2 * size[1]:
            self._size, self._is_half = (self.width // 2, self.height // 2), True

    def load(self) -> "Image.core.PixelAccess | None":
        """Develop it, once."""
        if self._data is not None:
            developed = Image.fromarray(_developed(self._data, half=self._is_half))
            self._data, self.im, self._size = None, developed.im, developed.size
        return super().load()


def read_raw(data: bytes, max_pixels: int) -> Image.Image:
    """Return the picture of a RAW file, not developed yet.

    Parameters
    ----------
    data : bytes
        The whole file.
    max_pixels : int
        Checked on the header; more than `MOST_PIXELS` are refused too.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, upright; ``draft`` allows half its size.

    Raises
    ------
    ImageError
        It is too large, or LibRaw does not know it. Damaged bytes lead it into errors of its own.
    """
    import rawpy

    with _true_reasons(), rawpy.RawPy() as header:
        header.open_buffer(io.BytesIO(data))
        sizes, taken = header.sizes, header.other.timestamp
    # Sensors have a border that is not shown.
    refuse_large(sizes.raw_width, sizes.raw_height, min(max_pixels, MOST_PIXELS))
    width, height = sizes.iwidth, sizes.iheight
    return Negative(data, (height, width) if sizes.flip & _ON_ITS_SIDE else (width, height), taken)


@contextlib.contextmanager
def _true_reasons() -> Generator[None]:
    import rawpy

    try:
        yield
    except rawpy.LibRawFileUnsupportedError as error:
        version = ".".join(map(str, rawpy.libraw_version))
        raise ImageError(f"a camera RAW that LibRaw {version} does not know: {EXPORT_RAW}") from error
    except rawpy.LibRawIOError as error:
        raise ImageError("cut off or damaged: copy it again") from error
    except rawpy.LibRawError as error:
        # LibRaw says it in bytes.
        raise ImageError(f"damaged: {error.args[0].decode()}") from error


def _developed(data: bytes, *, half: bool) -> npt.NDArray[np.uint8]:
    import rawpy

    with _true_reasons(), rawpy.imread(io.BytesIO(data)) as raw:
        return raw.postprocess(
            half_size=half,
            use_camera_wb=True,
            output_color=rawpy.ColorSpace.sRGB,
            output_bps=8,
            no_auto_bright=True,
            # Else the brightest value of a picture would be its white.
            adjust_maximum_thr=0.0,
            gamma=_SRGB_CURVE,
        )

"""Every kind of file that the tests know, by name, and the pixels that it means by its writer or another decoder."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import numpy.typing as npt

from al_pipeline_tests.core.data import colour_kinds, dicom_kinds, hdr_kinds, kinds_table, other_kinds, tiff_kinds

DECODERS: dict[str, Callable[[bytes], npt.NDArray[Any]]] = {
    "JPEG": imagecodecs.jpeg8_decode,
    "PNG": imagecodecs.png_decode,
    "WebP": imagecodecs.webp_decode,
    "GIF": imagecodecs.gif_decode,
    "BMP": imagecodecs.bmp_decode,
}


class Meant(NamedTuple):
    """A file, and the levels that it means: of shape (height, width, 3), 0 to 255, or None where nobody wrote them."""

    data: bytes
    levels: npt.NDArray[Any] | None = None
    within: float = 1.0


@functools.cache
def every_kind() -> dict[str, Meant]:
    """Return hundreds of small files, two fifths of those of TIFF among them."""
    table = {name: Meant(kind.data, _by_imagecodecs(name, kind)) for name, kind in kinds_table.KINDS.items()}
    table |= {f"colours: {name}": Meant(data) for name, data in colour_kinds.FILES.items()}
    # All of them are read in the tests of TIFF. Five divides none of the table's periods, so that every sort is met.
    tiffs = [kind for i, kind in enumerate(tiff_kinds.kinds()) if i % 5 in (0, 2)]
    table |= {f"TIFF: {kind.name}": Meant(kind.data, kind.picture, kind.within) for kind in tiffs}
    table |= {name: Meant(make(), levels, within) for name, (make, levels, within) in other_kinds.CASES.items()}
    table |= {f"HDR: {name}": Meant(make(), levels, within) for name, (make, levels, within) in hdr_kinds.CASES.items()}
    table |= {
        f"DICOM: {name}": Meant(make(), levels, within) for name, (make, levels, within) in dicom_kinds.COLOURS.items()
    }
    # A window of their writer.
    window: dict[str, Any] = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2000, "WindowWidth": 3000}
    for name, (syntax, encode) in dicom_kinds.COMPRESSED.items():
        data = dicom_kinds.dicom(dicom_kinds.GRAY12, syntax=syntax, frames=[encode()], **window)
        table[f"DICOM: {name}"] = Meant(data, dicom_kinds.linear(dicom_kinds.GRAY12, 2000, 3000), 2)
    shipped = {name for pair in dicom_kinds.SAME for name in pair} | set(dicom_kinds.OTHERS)
    table |= {f"DICOM: {name}": Meant(dicom_kinds.shipped(name)) for name in sorted(shipped)}
    return {name: each._replace(levels=_three(each.levels)) for name, each in table.items()}


def _by_imagecodecs(name: str, kind: kinds_table.Kind) -> npt.NDArray[Any] | None:
    """Decode what needs no turning by a build of the libraries that is not Pillow's."""
    decode = DECODERS.get(name.split()[0])
    if not kind.plain or decode is None or "EXIF" in name:
        return None
    levels = decode(kind.data)
    return levels * 255.0 if levels.dtype == np.bool_ else levels


def _three(levels: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
    if levels is None:
        return None
    levels = levels if levels.ndim == 3 else levels[..., None]
    return np.broadcast_to(levels, (*levels.shape[:2], 3)).astype(float)

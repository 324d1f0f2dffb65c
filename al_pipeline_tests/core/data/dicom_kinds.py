"""DICOM files by hand and by other writers, and how a viewer shows their values."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid

Pixels = npt.NDArray[Any]

HEIGHT, WIDTH = 24, 40
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
HOUNSFIELD = (X * 60 + Y * 3 - 1024).astype(np.int16)
RGB = np.stack([X * 6, Y * 10, 255 - X * 3 - Y], axis=-1).astype(np.uint8)


def dicom(
    values: Pixels,
    photometric: str = "MONOCHROME2",
    *,
    syntax: str = ExplicitVRLittleEndian,
    frames: list[bytes] | None = None,
    **elements: Any,
) -> bytes:
    """A file by hand: `values` are stored as they are, or as the frames that encode them."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(entropy_srcs=["test"])
    dataset.Rows, dataset.Columns = HEIGHT, WIDTH
    dataset.SamplesPerPixel = 1 if photometric.startswith(("MONO", "PALETTE")) else 3
    if dataset.SamplesPerPixel == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    bits = 8 * values.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    for name, value in elements.items():
        setattr(dataset, name, value)
    big = syntax == ExplicitVRBigEndian
    stored = values.astype(values.dtype.newbyteorder(">" if big else "<")).tobytes()
    dataset.PixelData = stored if frames is None else encapsulate(frames)
    dataset["PixelData"].VR = "OB" if frames or bits == 8 else "OW"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True, little_endian=not big, implicit_vr=False)
    return buffer.getvalue()


def linear(values: Pixels, centre: float, width: float) -> Pixels:
    """PS3.3 C.11.2.1.2.1, for y from 0 to 255, as it stands there."""
    x = values.astype(float)
    shown = ((x - (centre - 0.5)) / max(width - 1, 1e-9) + 0.5) * 255
    shown[x <= centre - 0.5 - (width - 1) / 2] = 0
    shown[x > centre - 0.5 + (width - 1) / 2] = 255
    return shown


def ybr(rgb: Pixels) -> Pixels:
    """PS3.3 C.7.6.3.1.2."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    return (rgb @ matrix.T + [0, 128, 128]).round().clip(0, 255).astype(np.uint8)


def halved(planes: Pixels) -> Pixels:
    """Two lumas, then their chroma: how YBR_FULL_422 is stored."""
    pairs = planes.reshape(HEIGHT, WIDTH // 2, 2, 3)
    return np.concatenate([pairs[..., 0], pairs[:, :, 0, 1:]], axis=-1).astype(np.uint8)


def lossless(values: Pixels) -> bytes:
    """Return a lossless JPEG without the mark of Adobe that says which colours they are."""
    frame = bytes(imagecodecs.jpeg8_encode(values, lossless=True))
    return dicom(values, "RGB", syntax="1.2.840.10008.1.2.4.70", frames=[frame[:2] + frame[18:]])


COLOURS: dict[str, tuple[Callable[[], bytes], Pixels, float]] = {
    "RGB": (lambda: dicom(RGB, "RGB"), RGB, 0),
    "planes": (lambda: dicom(np.moveaxis(RGB, -1, 0), "RGB", PlanarConfiguration=1), RGB, 0),
    "16 bits": (lambda: dicom(RGB.astype(np.uint16) * 257, "RGB"), RGB, 0),
    "YBR": (lambda: dicom(ybr(RGB), "YBR_FULL"), RGB, 2),
    "lossless JPEG": (lambda: lossless(RGB), RGB, 0),
    "YBR 4:2:2": (
        lambda: dicom(halved(ybr(RGB[:, :1].repeat(WIDTH, 1))), "YBR_FULL_422"), RGB[:, :1].repeat(WIDTH, 1), 2,
    ),
}  # fmt: skip


GRAY12 = (X * 100 + Y).astype(np.uint16)
COMPRESSED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "JPEG-LS": ("1.2.840.10008.1.2.4.80", lambda: bytes(imagecodecs.jpegls_encode(GRAY12))),
    "JPEG 2000": (
        "1.2.840.10008.1.2.4.90",
        lambda: bytes(imagecodecs.jpeg2k_encode(GRAY12, 0, reversible=True, codecformat="J2K", bitspersample=12)),
    ),
    "lossless JPEG": (
        "1.2.840.10008.1.2.4.70", lambda: bytes(imagecodecs.ljpeg_encode(GRAY12, bitspersample=12)),
    ),
    "lossless JPEG, any prediction": (
        "1.2.840.10008.1.2.4.57",
        lambda: bytes(imagecodecs.jpeg8_encode(GRAY12, lossless=True, predictor=6, bitspersample=12)),
    ),
    "JPEG of 12 bits": (
        "1.2.840.10008.1.2.4.51", lambda: bytes(imagecodecs.jpeg8_encode(GRAY12, 100, bitspersample=12)),
    ),
}  # fmt: skip


def shipped(name: str) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path).read_bytes()


# Files of other writers that come with pydicom, in pairs of the same pixels.
SAME = [
    ("MR_small.dcm", "MR_small_RLE.dcm"),
    ("MR_small.dcm", "MR_small_jp2klossless.dcm"),
    ("MR_small.dcm", "MR_small_jpeg_ls_lossless.dcm"),
    ("MR_small.dcm", "MR_small_bigendian.dcm"),
    ("SC_rgb_rle.dcm", "SC_rgb_rle_16bit.dcm"),
    ("SC_rgb_rle.dcm", "SC_rgb_rle_2frame.dcm"),
    ("SC_rgb_rle.dcm", "SC_rgb_gdcm_KY.dcm"),
]
OTHERS = [
    "CT_small.dcm",
    "JPEG2000.dcm",
    "JPGExtended.dcm",
    "JPEGLSNearLossless_16.dcm",
    "examples_palette.dcm",
    "examples_ybr_color.dcm",
    "rtdose.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "GDCMJ2K_TextGBR.dcm",
    "image_dfl.dcm",
]

"""How long reading a DICOM file takes: ours against pydicom alone, on one core.

`python -m benchmarks.dicom [REPEATS]`: both in turn, in seconds of the processor. pydicom's part is `pixel_array`,
`apply_modality_lut` and `apply_voi_lut`, which gives floats (colours become a picture of Pillow); ours ends with a
picture of 8 bits. For JPEG-LS pydicom is given our codec: alone it has none. Bar: ≥ 0.8 × as fast.
"""

import io
import sys
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless, generate_uid

from al_pipeline.core.data.dicom import prepare, read_dicom
from al_pipeline.core.data.images import MAX_PIXELS
from al_pipeline.core.data.raster import to_image
from benchmarks.pairs import in_turn
from benchmarks.table import print_table

Pixels = npt.NDArray[Any]


def body(side: int, white: int) -> Pixels:
    """Return smooth gray values with some noise, as a scanner has them, shape (side, side), uint16."""
    y, x = np.mgrid[0:side, 0:side] / side
    smooth = white * (0.4 + 0.3 * np.sin(12 * x) * np.cos(9 * y) + 0.2 * x * y)
    noise = np.random.default_rng(0).normal(0, white / 400, (side, side))
    return (smooth + noise).clip(0, white).astype(np.uint16)


def file(values: Pixels, syntax: UID = ExplicitVRLittleEndian, frame: bytes | None = None, **elements: Any) -> bytes:
    """Return a DICOM file with the elements of an image, and of a patient and a study as scanners fill them in."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["benchmark"])
    dataset.PatientName, dataset.PatientID, dataset.StudyDate, dataset.StudyTime = "A^B", "1", "20260101", "101010"
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["study"])
    dataset.Manufacturer, dataset.InstanceNumber, dataset.PixelSpacing = "None", 7, [0.7, 0.7]
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.SamplesPerPixel = 1 if values.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if values.ndim == 2 else "RGB"
    if values.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8 * values.dtype.itemsize
    dataset.BitsStored = 12 if values.dtype == np.uint16 else 8
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.PixelData = values.tobytes() if frame is None else encapsulate([frame])
    dataset["PixelData"].VR = "OW" if frame is None and values.dtype == np.uint16 else "OB"
    if syntax == RLELossless:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.compress(RLELossless, generate_instance_uid=False)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def files() -> dict[str, bytes]:
    """Return the kinds that are measured."""
    window: dict[str, Any] = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 400, "WindowWidth": 1600}
    slice_, small, film = body(512, 4095), body(128, 4095), body(2000, 4095)
    colours = np.stack([body(640, 255)[:480], body(640, 255)[160:], body(640, 200)[80:560]], axis=-1).astype(np.uint8)
    j2k = bytes(imagecodecs.jpeg2k_encode(slice_, 0, reversible=True, codecformat="J2K", bitspersample=12))
    jls = bytes(imagecodecs.jpegls_encode(slice_))
    return {
        "CT, 512²": file(slice_, **window),
        "CT, 512², RLE": file(slice_, RLELossless, **window),
        "CT, 512², JPEG 2000": file(slice_, JPEG2000Lossless, j2k, **window),
        "CT, 512², JPEG-LS": file(slice_, JPEGLSLossless, jls, **window),
        "CT, 128²": file(small, **window),
        "CR, 2,000², 12 bits": file(film, WindowCenter=2000, WindowWidth=3000),
        "RGB, 640 × 480": file(colours),
    }


def theirs(data: bytes) -> object:
    """Return what a viewer shows, by pydicom."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    values = dataset.pixel_array
    return Image.fromarray(values) if values.ndim == 3 else apply_voi_lut(apply_modality_lut(values, dataset), dataset)


def ours(data: bytes) -> object:
    """Return the picture of 8 bits."""
    return to_image(read_dicom(data, MAX_PIXELS))


def main(repeats: int) -> None:
    """Print medians in milliseconds, and the median of the pairs' ratios."""
    prepare()
    rows = list[list[str]]()
    for name, data in files().items():
        found = in_turn(lambda data=data: theirs(data), lambda data=data: ours(data), repeats)
        rows.append([name, f"{1000 * found.theirs:.2f}", f"{1000 * found.ours:.2f}", f"{found.ratio:.2f} ×"])
    columns = ["file", "pydicom", "ours", "times as fast"]
    print_table("DICOM, milliseconds of one core per image", columns, rows)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 31)

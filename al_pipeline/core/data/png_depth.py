"""White of a gray PNG of 16 bits, by its chunk of significant bits, which Pillow does not read."""

import struct
from typing import IO, Any

import numpy.typing as npt


def significant_white(file: IO[bytes] | None, values: npt.NDArray[Any]) -> float | None:
    """Return white if the file says that of 16 bits fewer count; None if it does not.

    By the standard such values are scaled to 16 bits, and the rest of the bits repeats the first or is 0: white is that
    of 16 bits then. Cameras and microscopes write them as they are.

    Parameters
    ----------
    file : binary file
        Of the PNG; its position is kept.
    values : array
        Of all pixels.
    """
    bits = _significant_bits(file)
    if bits is None or not 0 < bits < 16:
        return None
    rest = (1 << 16 - bits) - 1
    as_they_are = int(values.max()) < 1 << bits and bool((values & rest).any())
    return float((1 << bits) - 1) if as_they_are else 65535.0


def _significant_bits(file: IO[bytes] | None) -> int | None:
    if file is None:
        return None
    before = file.tell()
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == b"sBIT" and length:
                return file.read(1)[0]
            if name in (b"IDAT", b"IEND"):
                return None
            file.seek(length + 4, 1)
        return None
    finally:
        file.seek(before)

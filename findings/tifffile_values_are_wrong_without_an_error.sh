#!/usr/bin/env bash
# tifffile 2026.3.3: valid TIFF files whose values it reads, or writes, wrong without an error.
#
# Behaviour:
#     big-endian TIFF with LERC inside, uint16: the bytes of every value come swapped; LERC has a byte order of its own,
#       and the same file little-endian is right
#     `TiffWriter(byteorder=">")` with `compression="jpeg2000"`, uint16: the values of the codestream are swapped, for
#       every other reader; tifffile itself reads them swapped too
#     uncompressed 24-bit integers, 1, 2, 300: little-endian 65536, 131072, 2883840, big-endian 16777216, 33554432,
#       738263040
# Why it surprises: neither an error nor a warning; the values look like noise, or like a plausible measurement.
# Who is hurt: whoever reads elevation models (GDAL writes LERC), or what big-endian programs wrote.
# Exit: 0 while it is so, not 0 if it has changed.
set -euo pipefail

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
if ! command -v uv >/dev/null; then
    python3 -m venv "$temporary/bootstrap"
    "$temporary/bootstrap/bin/pip" install --quiet uv
    PATH="$temporary/bootstrap/bin:$PATH"
fi
cd "$temporary"
uv venv --quiet --python 3.11 venv
uv pip install --quiet --python venv/bin/python tifffile==2026.3.3 imagecodecs==2026.3.6 numpy==2.4.6

venv/bin/python - <<'PYTHON'
import io
import struct
import sys

import imagecodecs
import numpy as np
import tifffile

y, x = np.mgrid[0:48, 0:64]
VALUES = (x * 900 + y).astype(np.uint16)


def tiff(order, bits, compression, segment, width, height):
    """Write a gray TIFF of one strip by hand, by TIFF 6.0."""
    entries = [(256, width), (257, height), (258, bits), (259, compression), (262, 1), (273, 134), (277, 1)]
    entries += [(278, height), (279, len(segment)), (339, 1)]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    directory = b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, value)
        if tag in (273, 279)
        else struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
        for tag, value in entries
    )
    assert len(head + directory) == 130
    return head + directory + bytes(4) + segment


def look(name, found, expected):
    swapped = np.array_equal(found.byteswap(), expected)
    outcome = "right" if np.array_equal(found, expected) else "swapped" if swapped else found.ravel()[:3].tolist()
    print(f"{name}: {outcome}")
    return outcome


seen = []
for order in "<>":
    data = tiff(order, 16, 34887, bytes(imagecodecs.lerc_encode(VALUES)), 64, 48)
    seen.append(look(f"LERC in {order}", tifffile.imread(io.BytesIO(data)), VALUES))
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, byteorder=order) as writer:
        writer.write(VALUES, compression="jpeg2000")
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as file:
        page = file.pages[0]
        begin, length = page.dataoffsets[0], page.databytecounts[0]
        codestream = imagecodecs.jpeg2k_decode(buffer.getvalue()[begin : begin + length])
        seen.append(look(f"written JPEG 2000 in {order}, the codestream", codestream, VALUES))
        seen.append(look(f"written JPEG 2000 in {order}, read again", file.asarray(), VALUES))
    numbers = np.array([[1, 2, 300]], dtype=np.uint32)
    packed = b"".join(int(n).to_bytes(3, "little" if order == "<" else "big") for n in numbers[0])
    found = tifffile.imread(io.BytesIO(tiff(order, 24, 1, packed, 3, 1)))
    print(f"24 bits in {order}: {found.tolist()}")
    seen.append(found[0].tolist())
expected = [*["right"] * 3, [65536, 131072, 2883840], *["swapped"] * 3, [16777216, 33554432, 738263040]]
sys.exit(0 if seen == expected else "What is read or written has changed.")
PYTHON

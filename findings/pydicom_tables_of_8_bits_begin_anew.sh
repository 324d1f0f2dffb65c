#!/usr/bin/env bash
# pydicom 3.0.2: a table of more than 256 entries of 8 bits is read at its position modulo 256.
#
# Behaviour: of stored values 0, 255, 256, 500 and 1023, through a table of 1024 entries that rises from 0 to 255,
#     `apply_voi_lut` and `apply_color_lut` both give 0, 63, 0, 61, 63 in place of 0, 63, 64, 125, 255
#   No error, no warning. With the same table in 16 bits both are right.
# Why it surprises: DICOM (PS3.3 C.7.6.3.1.5, C.11.2.1.1) allows entries of 8 bits in a table of any length. The positions
#   are kept in the type of the entries.
# Who is hurt: whoever shows or learns from such images: bright tissue becomes dark, in bands.
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
uv pip install --quiet --python venv/bin/python pydicom==3.0.2 numpy==2.4.6

venv/bin/python - <<'PYTHON'
import sys

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_voi_lut
from pydicom.sequence import Sequence

stored = np.array([[0, 255, 256, 500, 1023]], dtype=np.uint16)
table = (np.arange(1024) // 4).astype(np.uint8)


def look(depth):
    entries = table if depth == 8 else table.astype(np.uint16) * 257
    item, gray, palette = Dataset(), Dataset(), Dataset()
    item.LUTDescriptor = [1024, 0, depth]
    item.add_new("LUTData", "US", entries.tolist())
    gray.BitsStored, gray.PixelRepresentation, gray.VOILUTSequence = 10, 0, Sequence([item])
    for name in ("Red", "Green", "Blue"):
        setattr(palette, f"{name}PaletteColorLookupTableDescriptor", [1024, 0, depth])
        setattr(palette, f"{name}PaletteColorLookupTableData", entries.tobytes())
    palette.PhotometricInterpretation = "PALETTE COLOR"
    unit = 1 if depth == 8 else 257
    shown = apply_voi_lut(stored, gray), apply_color_lut(stored, palette)[..., 0]
    found = [(values // unit).ravel().tolist() for values in shown]
    print(f"{depth} bits: apply_voi_lut {found[0]}, apply_color_lut {found[1]}; the table: {table[stored].tolist()}")
    return found


right, wrong = [0, 63, 64, 125, 255], [0, 63, 0, 61, 63]
sys.exit(0 if (look(8), look(16)) == ([wrong] * 2, [right] * 2) else "What such tables give has changed.")
PYTHON

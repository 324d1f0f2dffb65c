#!/usr/bin/env bash
# Pillow 13.0.0: white of a JPEG 2000 file with fewer than 8 bits is gray, with 9 to 15 bits not quite white.
#
# Behaviour: of files in which every value is the largest, Pillow gives
#     1 bit 128, 2 bits 192, 4 bits 240, 7 bits 254 (mode L), 12 bits 65520 (mode I;16)
#   in place of 255 and 65535, which it gives for PNG and TIFF of 1, 2 and 4 bits.
# Why it surprises: bits are shifted up, and not filled: a black and white scan becomes black and mid-gray.
# Who is hurt: whoever reads masks or scanned pages from JPEG 2000: a comparison with 255 finds no white, and the same
#   picture as PNG is another one.
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
uv pip install --quiet --python venv/bin/python imagecodecs==2026.3.6 pillow==13.0.0 numpy==2.4.6

venv/bin/python - <<'PYTHON'
import io
import sys

import imagecodecs
import numpy as np
from PIL import Image


def white(bits):
    values = np.full((16, 16), 2**bits - 1, dtype=np.uint16 if bits > 8 else np.uint8)
    data = bytes(imagecodecs.jpeg2k_encode(values, level=0, reversible=True, bitspersample=bits))
    if not np.array_equal(imagecodecs.jpeg2k_decode(data), values):
        sys.exit("The file has other values than were written.")
    image = Image.open(io.BytesIO(data))
    print(f"{bits} bits, all of them {values[0, 0]}: {image.mode}, {np.asarray(image).max()}")
    return int(np.asarray(image).max())


seen = {bits: white(bits) for bits in (1, 2, 4, 7, 8, 12, 16)}
expected = {1: 128, 2: 192, 4: 240, 7: 254, 8: 255, 12: 65520, 16: 65535}
sys.exit(0 if seen == expected else "What is white has changed.")
PYTHON

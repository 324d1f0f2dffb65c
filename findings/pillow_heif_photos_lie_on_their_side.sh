#!/usr/bin/env bash
# pillow-heif 1.8.1: a photo that EXIF turns, saved as HEIC, is turned twice or not at all.
#
# Behaviour: of a JPEG with the EXIF orientation 6 (to be turned to the right), saved in four ways,
#     `pillow_heif.from_pillow(image).save(...)`: turned to the right twice
#     `image.save(..., "HEIF", exif=image.getexif())`, with the opener registered: not turned
#     `image.save(..., "HEIF")`, and with `exif=image.info["exif"]`: right, as Pillow's own AVIF with `exif=` of each
#   The EXIF of the files says 1, as if their pixels were upright.
# Why it surprises: Pillow takes EXIF as bytes and as `Image.Exif`, and saves the same. Here the turn is read in bytes
#   alone.
# Who is hurt: whoever converts photos of cameras: portraits lie on their side, and nothing in the file tells.
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
uv pip install --quiet --python venv/bin/python pillow-heif==1.8.1 pillow==13.0.0 numpy==2.4.6

venv/bin/python - <<'PYTHON'
import io
import sys

import numpy as np
import pillow_heif
from PIL import Image, ImageOps

pillow_heif.register_heif_opener()
y, x = np.mgrid[0:48, 0:64]
exif, photo = Image.Exif(), io.BytesIO()
exif[274] = 6
Image.fromarray(np.stack([x * 4, y * 5, 255 - x - y], axis=-1).astype(np.uint8)).save(photo, "JPEG", exif=exif)
meant = np.asarray(ImageOps.exif_transpose(Image.open(photo))).astype(int)


def turns(name, save):
    """Return the quarter turns to the right that a saved file shows too many."""
    buffer = io.BytesIO()
    save(Image.open(photo), buffer)
    file = Image.open(buffer)
    seen = np.asarray(ImageOps.exif_transpose(file)).astype(int)
    more = [np.rot90(meant, -k) for k in range(4)]
    off = [np.abs(seen - each).mean() if seen.shape == each.shape else 999 for each in more]
    print(f"{name}: {int(np.argmin(off))} quarter turns too many, EXIF orientation {file.getexif().get(274)}")
    return int(np.argmin(off)) if min(off) < 10 else None


seen = [
    turns("from_pillow", lambda jpeg, buffer: pillow_heif.from_pillow(jpeg).save(buffer)),
    turns("save", lambda jpeg, buffer: jpeg.save(buffer, "HEIF")),
]
for kind in ("HEIF", "AVIF"):
    seen += [
        turns(f"{kind}, bytes", lambda jpeg, buffer: jpeg.save(buffer, kind, exif=jpeg.info["exif"])),
        turns(f"{kind}, Image.Exif", lambda jpeg, buffer: jpeg.save(buffer, kind, exif=jpeg.getexif())),
    ]
sys.exit(0 if seen == [1, 0, 0, 3, 0, 0] else "How photos are turned has changed.")
PYTHON

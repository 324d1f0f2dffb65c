#!/usr/bin/env bash
# imagecodecs 2026.3.6: a picture saved as JPEG XL of 16 bits or float looks brighter than the same one of 8 bits.
#
# Behaviour: `jpegxl_encode` marks uint8 as sRGB, and uint16 and float as linear light. A mid-gray, 128 of 255, saved
#   three times and shown by another reader (pillow-jxl-plugin, colour managed by littlecms):
#     uint8 128, uint16 188, float32 188
#   `jpegxl_decode` gives the stored values back in all three, so a round trip through imagecodecs shows nothing of it.
# Why it surprises: no parameter and no word of the function's documentation is about colour. As PNG or TIFF the same
#   values are the same picture, whatever their depth.
# Who is hurt: whoever keeps pictures of more than 8 bits as JPEG XL: programs that heed colours show them pale.
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
uv pip install --quiet --python venv/bin/python imagecodecs==2026.3.6 pillow-jxl-plugin==1.3.8 \
    pillow==13.0.0 numpy==2.4.6

venv/bin/python - <<'PYTHON'
import io
import sys

import imagecodecs
import numpy as np
import pillow_jxl  # noqa: F401
from PIL import Image, ImageCms


def shown(gray):
    data = bytes(imagecodecs.jpegxl_encode(np.full((8, 8, 3), gray), lossless=True))
    image = Image.open(io.BytesIO(data))
    profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    seen = ImageCms.profileToProfile(image.convert("RGB"), profile, ImageCms.createProfile("sRGB")).getpixel((0, 0))
    name, back = ImageCms.getProfileDescription(profile).strip(), imagecodecs.jpegxl_decode(data)[0, 0, 0]
    print(f"{gray.dtype} {gray}: profile {name}, shown as {seen}; jpegxl_decode gives {back}")
    return seen[0] if back == gray else None


seen = [shown(np.uint8(128)), shown(np.uint16(128 * 257)), shown(np.float32(128 / 255))]
sys.exit(0 if seen == [128, 188, 188] else "What is shown has changed.")
PYTHON

#!/usr/bin/env bash
# cleanvision 0.3.7: pictures of different colours, or of different sizes, are "exact duplicates".
#
# Behaviour: `Imagelab.find_issues({"exact_duplicates": {}})` puts into one set
#     two palette PNG files that show a square, one red on white, the other blue on black: each has a palette of its own
#     a file of 64 × 16 pixels whose left half is black, and one of 16 × 64 that is striped: the same bytes in other rows
#   The same pictures as RGB are told apart, those of one size too.
# Why it surprises: "exact duplicates" reads as the same picture. What is hashed are the decoded bytes, without the
#   palette that gives them their colours and without width and height.
# Who is hurt: whoever deletes exact duplicates unseen: icons, charts, maps, GIF frames and segmentation masks are
#   palette images, and sets that were recoloured (night, heat, false colour) lose all versions but one.
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
uv pip install --quiet --python venv/bin/python cleanvision==0.3.7 imagehash==4.3.2 pillow==13.0.0

cat >look.py <<'PYTHON'
import contextlib
import io
import sys
from pathlib import Path

import numpy as np
from cleanvision import Imagelab
from PIL import Image

square = np.zeros((32, 32), np.uint8)
square[8:24, 8:24] = 1
palettes = {"red": [255, 255, 255, 220, 0, 0], "blue": [0, 0, 0, 0, 0, 220]}
wide = np.full((16, 64), 255, np.uint8)
wide[:, :32] = 0


def sets(name, pictures):
    """Return the sets of exact duplicates among some pictures, by file name."""
    Path(name).mkdir()
    for file, picture in pictures.items():
        picture.save(Path(name, f"{file}.png"))
    lab = Imagelab(data_path=name)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        lab.find_issues({"exact_duplicates": {}}, n_jobs=1, verbose=False)
    found = [sorted(Path(path).stem for path in each) for each in lab.info["exact_duplicates"]["sets"]]
    print(f"{name}: {', '.join(pictures)}: exact duplicates {found}")
    return found


def with_palette(colours):
    picture = Image.frombytes("P", (32, 32), square.tobytes())
    picture.putpalette(colours)
    return picture


shown = {name: with_palette(colours) for name, colours in palettes.items()}
seen = [
    sets("palettes", shown),
    sets("colours", {name: picture.convert("RGB") for name, picture in shown.items()}),
    sets("sizes", {"wide": Image.fromarray(wide), "high": Image.fromarray(wide.reshape(64, 16))}),
]
sys.exit(0 if seen == [[["blue", "red"]], [], [["high", "wide"]]] else "What counts as an exact duplicate has changed.")
PYTHON
venv/bin/python look.py

"""How long decoding a TIFF takes: ours against tifffile alone and against Pillow, on one core.

`python -m benchmarks.tiff [REPEATS]`: both in turn, in seconds of the processor. Bar: values ≥ 0.8 × tifffile.
"""

import io
import sys

import numpy as np
import tifffile
from PIL import Image

from al_pipeline.core.data.images import MAX_PIXELS, to_rgb
from al_pipeline.core.data.raster import to_image
from al_pipeline.core.data.tiff import read_tiff
from benchmarks.pairs import in_turn
from benchmarks.table import print_table

SIDE = 2000


def picture() -> np.ndarray:
    """Return smooth colours with some noise, as a camera has them, uint8."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    waves = np.stack([128 + 90 * np.sin(x / 90), 128 + 90 * np.cos(y / 70), (x + y) / 17], axis=-1)
    return (waves + np.random.default_rng(0).normal(0, 1.5, waves.shape)).clip(0, 255).astype(np.uint8)


def main(repeats: int) -> None:
    """Print what the values take, and the 8-bit picture made of them."""
    colours = picture()
    gray = colours[..., 0].astype(np.uint16) * 257
    small = colours[:200, :200]
    rows = list[list[str]]()
    for name, values, compression in (
        ("8-bit RGB", colours, None),
        ("8-bit RGB LZW", colours, "lzw"),
        ("8-bit RGB Deflate", colours, "deflate"),
        ("16-bit gray", gray, None),
        ("16-bit gray LZW", gray, "lzw"),
        ("8-bit RGB, 200 px", small, None),
    ):
        tifffile.imwrite(
            buffer := io.BytesIO(),
            values,
            compression=compression,
            photometric="rgb" if values.ndim == 3 else "minisblack",
            rowsperstrip=64,
            metadata=None,
        )
        data = buffer.getvalue()
        values = in_turn(
            lambda data=data: tifffile.TiffFile(io.BytesIO(data)).pages[0].asarray(maxworkers=1),
            lambda data=data: read_tiff(data, max_pixels=MAX_PIXELS),
            repeats,
        )
        shown = in_turn(
            lambda data=data: to_rgb(Image.open(io.BytesIO(data))),
            lambda data=data: to_rgb(to_image(read_tiff(data, max_pixels=MAX_PIXELS))),
            repeats,
        )
        row = [f"{1000 * t:.2f}" for t in (values.theirs, values.ours, shown.ours, shown.theirs)]
        rows.append([name, *row, f"{values.ratio:.2f} ×", f"{shown.ratio:.2f} ×"])
    columns = ["file", "tifffile", "our values", "our picture", "Pillow", "values / tifffile", "picture / Pillow"]
    print_table("TIFF, milliseconds of one core per image", columns, rows)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)

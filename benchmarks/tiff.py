"""How long decoding a TIFF takes: ours against tifffile alone and against Pillow, on one core."""

import io
import time
from collections.abc import Callable

import numpy as np
import tifffile
from PIL import Image

from al_pipeline.core.data.images import to_rgb
from al_pipeline.core.data.raster import to_image
from al_pipeline.core.data.tiff import read_tiff
from benchmarks.table import print_table

SIDE, REPEATS = 2000, 7


def picture() -> np.ndarray:
    """Return smooth colours with some noise, as a camera has them, uint8."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    waves = np.stack([128 + 90 * np.sin(x / 90), 128 + 90 * np.cos(y / 70), (x + y) / 17], axis=-1)
    return (waves + np.random.default_rng(0).normal(0, 1.5, waves.shape)).clip(0, 255).astype(np.uint8)


def seconds(decode: Callable[[], object]) -> float:
    """Return the processor time of the fastest of several runs: the others were disturbed."""
    times = list[float]()
    for _ in range(REPEATS):
        begin = time.process_time()
        decode()
        times.append(time.process_time() - begin)
    return min(times)


def main() -> None:
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
        by_library = seconds(lambda data=data: tifffile.TiffFile(io.BytesIO(data)).pages[0].asarray(maxworkers=1))
        ours = seconds(lambda data=data: read_tiff(data, max_pixels=64_000_000))
        shown = seconds(lambda data=data: to_rgb(to_image(read_tiff(data, max_pixels=64_000_000))))
        pillow = seconds(lambda data=data: to_rgb(Image.open(io.BytesIO(data))))
        row = [f"{1000 * t:.1f}" for t in (by_library, ours, shown, pillow)]
        rows.append([name, *row, f"{by_library / ours:.2f} ×", f"{pillow / shown:.2f} ×"])
    columns = ["file", "tifffile", "our values", "our picture", "Pillow", "values / tifffile", "picture / Pillow"]
    print_table("TIFF, milliseconds of one core per image", columns, rows)


if __name__ == "__main__":
    main()

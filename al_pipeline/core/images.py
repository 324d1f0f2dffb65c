"""Decode image files of every common kind to RGB, in parallel, and lay them out on contact sheets."""

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from al_pipeline.core.errors import ImageError

# Decoded, 64 megapixels take 192 MB; a 100-megapixel bomb is refused on its header, before it is decoded.
MAX_PIXELS = 64_000_000
# Pillow's own guard warns or raises depending on the size; ours comes first and always raises.
Image.MAX_IMAGE_PIXELS = None

Path_ = str | os.PathLike[str]


def open_rgb(path: Path_, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode one image file to RGB as a person sees it.

    EXIF rotation is applied, animations give their first frame, transparency is put on white, CMYK, palette, gray
    and 16-bit images are converted.

    Raises
    ------
    ImageError
        The file cannot be used; the message is a short reason.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(
                    f"too large: {image.width}x{image.height} is over the limit of {max_pixels // 10**6} megapixels"
                )
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except UnidentifiedImageError:
        empty = Path(path).is_file() and Path(path).stat().st_size == 0
        raise ImageError("empty file" if empty else "not an image") from None
    except IsADirectoryError:
        raise ImageError("unreadable: it is a folder") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(f"unreadable: {error.strerror}") from None
        raise ImageError(f"damaged: {error}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        pixels = np.asarray(image, dtype=np.float64)
        # 16-bit gray comes as mode I or I;16; Pillow would clip it at 255.
        scale = 257.0 if pixels.max(initial=0) > 255 else 1.0
        return Image.fromarray((pixels / scale).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def decode(path: Path_, size: int) -> npt.NDArray[np.uint8]:
    """Decode an image to a square: shorter side resized to `size`, then the centre cropped; uint8, (size, size, 3)."""
    image = open_rgb(path)
    return np.asarray(ImageOps.fit(image, (size, size), method=Image.Resampling.BILINEAR), dtype=np.uint8)


def iter_blocks(
    paths: Sequence[Path_], size: int, *, block: int = 256, workers: int | None = None
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Yield ``(start, pixels)`` with pixels uint8 (n, size, size, 3), decoding the next block while the caller works.

    At most two blocks are in memory.
    """
    if not paths:
        return
    workers = workers or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:

        def submit(start: int) -> list:
            return [pool.submit(decode, path, size) for path in paths[start : start + block]]

        pending = submit(0)
        for start in range(0, len(paths), block):
            following = submit(start + block)
            yield start, np.stack([future.result() for future in pending])
            pending = following


def contact_sheet(
    paths: Sequence[Path_],
    captions: Sequence[str] | None = None,
    *,
    columns: int = 8,
    tile: int = 72,
    max_images: int = 40,
    max_bytes: int = 100_000,
) -> bytes:
    """Return a PNG of at most `max_bytes` bytes with the first `max_images` images and their captions below them."""
    shown = list(paths[:max_images])
    words = list(captions[: len(shown)]) if captions is not None else []
    while True:
        for colours in (256, 64, 16):
            sheet = _sheet(shown, words, columns, tile).quantize(colours)
            buffer = io.BytesIO()
            sheet.save(buffer, format="PNG", optimize=True)
            if buffer.tell() <= max_bytes:
                return buffer.getvalue()
        tile = max(16, tile * 3 // 4)
        if tile == 16:
            shown, words = shown[: max(1, len(shown) // 2)], words[: max(1, len(words) // 2)]


def _sheet(paths: Sequence[Path_], captions: Sequence[str], columns: int, tile: int) -> Image.Image:
    font = ImageFont.load_default(size=11)
    gap, line = 4, 15 if captions else 0
    columns = min(columns, max(1, len(paths)))
    rows = -(-max(1, len(paths)) // columns)
    sheet = Image.new("RGB", (columns * (tile + gap) + gap, rows * (tile + line + gap) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for i, path in enumerate(paths):
        x = gap + (i % columns) * (tile + gap)
        y = gap + (i // columns) * (tile + line + gap)
        thumbnail = ImageOps.contain(open_rgb(path), (tile, tile))
        sheet.paste(thumbnail, (x + (tile - thumbnail.width) // 2, y + (tile - thumbnail.height) // 2))
        if captions:
            text = captions[i]
            while len(text) > 1 and draw.textlength(text, font=font) > tile:
                text = text[:-2] + "…"
            draw.text((x, y + tile + 1), text, fill="black", font=font)
    return sheet

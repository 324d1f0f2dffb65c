"""Decode image files of every kind to RGB, in parallel."""

import contextlib
import io
import os
import struct
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from al_pipeline.core.data.ahead import Ahead
from al_pipeline.core.data.colour import converts, note_cicp, to_srgb
from al_pipeline.core.data.frames import on_its_canvas
from al_pipeline.core.data.framing import frame
from al_pipeline.core.data.hdr import HDR
from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.kinds import HEAD, READ, kind_of, reason_not_read
from al_pipeline.core.data.limits import refuse_large
from al_pipeline.core.data.places import Loaded, is_address, load
from al_pipeline.core.data.png_depth import deep_png, is_deep_with_opacity, significant_white
from al_pipeline.core.data.readers import read, reader_of
from al_pipeline.core.data.truncated import complete, ends, reason_truncated
from al_pipeline.core.errors import ImageError, PlaceError

ImagePath = str | os.PathLike[str] | Loaded
Made = TypeVar("Made")
Result = TypeVar("Result")

# Decoded, 64 megapixels take 192 MB per thread. What is larger is a bomb, or a scan that should be tiled first.
MAX_PIXELS = 64_000_000
# Pillow would try every format it knows whatever the file is called, and some of them start programs (EPS).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
# Bytes of a PNG's colour profile. Pillow refuses the whole picture above 1 MB, which the tables of a scanner exceed.
PngImagePlugin.MAX_TEXT_CHUNK = 8 << 20

# Pixels that are converted together where the steps between take several times the memory of the picture.
STRIP = 1 << 20


def open_rgb(
    path: ImagePath,
    *,
    max_pixels: int = MAX_PIXELS,
    at_least: int | None = None,
    square: int | None = None,
    how: HowRead = AS_EVER,
) -> Image.Image:
    """Decode one image file to RGB, as a person sees it.

    EXIF rotation is applied, animations give their first frame on the whole canvas, colours become those of sRGB,
    transparency is put on white; CMYK, palette, gray and 16-bit images are converted. 32-bit gray has no agreed white:
    its own range becomes black to white, unless the file or `how` says what is white.

    Parameters
    ----------
    path : path-like
    max_pixels : int
        Checked on the header, before anything is decoded. Pillow's own limit of 179 megapixels stays in force.
    at_least : int, optional
        Allow a JPEG to be decoded at 1/2, 1/4 or 1/8 of its size, as long as both sides keep this many pixels: several
        times faster for photos that are shown or learned from small.
    how : HowRead

    Returns
    -------
    PIL.Image.Image
        Mode RGB; ``format`` is the file's.

    Raises
    ------
    ImageError
        The file cannot be used; the message is a short reason without the path.
    """
    with opened(path, max_pixels=max_pixels, how=how) as image:
        note_cicp(image)
        image.info.pop("raster", None)
        if at_least is not None:
            image.draft(None, (at_least, at_least))
        shown = upright(on_its_canvas(image))
        if "limits" in shown.info:
            # Before colours are converted, which leaves 8 bits.
            stretched = _gray(np.asarray(shown, dtype=np.float64), shown.info.pop("limits"))
            stretched.info, shown = shown.info, stretched
        if converts(shown):
            shown = to_srgb(_less(shown, at_least, square))
        rgb = to_rgb(shown)
        # Pillow would write it into every copy: a profile that was in use already, or that is of no use.
        rgb.info.pop("icc_profile", None)
        rgb.format = image.format
        return rgb


@contextlib.contextmanager
def opened(
    source: ImagePath | io.BytesIO, *, max_pixels: int = MAX_PIXELS, how: HowRead = AS_EVER
) -> Generator[Image.Image]:
    """Open an image of a known kind; whatever goes wrong with it there and in the block is an ImageError.

    Parameters
    ----------
    source : path-like or BytesIO
    max_pixels : int
        Checked on the header.
    how : HowRead

    Raises
    ------
    ImageError
        The message is a short reason without the path.
    PlaceError
        It is an object of a bucket that is away.
    """
    head = b""
    try:
        if is_address(source):
            source = load(str(source))
        # Not by pathlib: of 100,000 small files it takes a tenth longer.
        with contextlib.nullcontext(source) if isinstance(source, io.BytesIO) else open(source, "rb") as file:  # noqa: PTH123
            head = file.read(HEAD)
            file.seek(0)
            kind = kind_of(head)
            if (reader := reader_of(kind)) is not None:
                yield read(reader, file.read(), max_pixels, how)
                return
            if kind not in READ:
                raise ImageError(reason_not_read(head))
            with _by_pillow(_whole(file, kind) if how.truncated == "use" else file, kind, max_pixels, how) as image:
                refuse_large(image.width, image.height, _most(image, max_pixels))
                deep = deep_png(image, how) if kind == "PNG" else None
                if deep is None and image.mode == "I;16":
                    _note_limits(image, how)
                yield deep or image
    except (ImageError, PlaceError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"too large: the limit is {max_pixels / 1e6:g} megapixels") from error
    except Exception as error:
        # Damaged bytes lead Pillow's plugins into errors of any kind: struct.error, SyntaxError, KeyError, …
        raise ImageError(_reason(error, source, head)) from error


def _most(image: Image.Image, max_pixels: int) -> int:
    """Return how many pixels an image may have, so that none takes more than 1 GB."""
    if image.format == "WEBP":
        # Its decoder keeps several canvases: a picture takes up to 28 bytes a pixel.
        return max_pixels // 2
    # The file, four channels of 16 bits, and what is made of them: 16 bytes a pixel.
    return max_pixels * 7 // 8 if image.format == "PNG" and is_deep_with_opacity(image) else max_pixels


def _by_pillow(file: IO[bytes], kind: str, max_pixels: int, how: HowRead) -> Image.Image:
    """Open an image that is not decoded yet, or a JPEG of a sort that Pillow does not decode."""
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        if kind != "JPEG":
            raise
        # With the first file that needs it, as its libraries.
        from al_pipeline.core.data.rare_jpeg import read_rare_jpeg

        file.seek(0)
        if (image := read_rare_jpeg(file.read(), max_pixels, how)) is None:
            raise
        return image


def _whole(file: IO[bytes], kind: str) -> IO[bytes]:
    """Return a file that is not cut off: of one that is, what is there of it and plain rows."""
    if kind not in ("JPEG", "PNG") or ends(file):
        return file
    data = file.read()
    completed = complete(data)
    return io.BytesIO(data if completed is None or not completed.share else completed.data)


def _note_limits(image: Image.Image, how: HowRead) -> None:
    """Put into ``info`` what the file calls its ``white``, and the ``limits`` between which its values are shown."""
    # While there is a file: Pillow forgets it with the pixels.
    note_cicp(image)
    if image.info.get("cicp", (0, 0))[1] in HDR:
        return
    file, values = getattr(image, "fp", None), np.asarray(image)
    if (white := significant_white(file, values)) is not None:
        image.info["white"] = white
    limits = how.levels.of(np.dtype(np.uint16)) if white is None else (0.0, white)
    if limits is not None:
        image.info["limits"] = limits


def _reason(error: Exception, source: ImagePath | io.BytesIO, head: bytes) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"unreadable: {error.strerror}"
    text = str(error) or type(error).__name__
    unknown = isinstance(error, UnidentifiedImageError)
    if unknown or "truncated" in text.lower() or "broken" in text:
        data = source.getvalue() if isinstance(source, io.BytesIO) else Path(source).read_bytes()
        if not unknown and (reason := reason_truncated(data)) is not None:
            return reason
    return reason_not_read(head) if unknown else f"damaged: {text}"


def upright(image: Image.Image) -> Image.Image:
    """Return a copy turned as its EXIF says."""
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, struct.error, ValueError, TypeError, LookupError):
        # Unreadable EXIF says nothing about the rotation; if it was the pixels that failed, they fail again.
        return image.copy()


def _less(image: Image.Image, at_least: int | None, square: int | None) -> Image.Image:
    """Leave less to convert, as `open_rgb` allows: converting 12 megapixels takes longer than decoding them."""
    plain = image.mode in ("RGB", "CMYK") and "transparency" not in image.info
    if at_least is not None and plain and (factor := min(image.size) // at_least) > 1:
        # What decoding a JPEG at a part of its size does.
        image = image.reduce(factor)
    if square is None:
        return image
    # `ImageOps.fit` cuts a square out, and its filter looks past the edge.
    short = min(image.size)
    seen = short + 2 * (short // square + 2)
    left, top = (max(0, side - seen) // 2 for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB, transparency on white; what is RGB already is returned itself."""
    if image.mode.startswith(("I", "F")):
        limits = image.info.get("limits") or ((0.0, 65535.0) if image.mode.startswith("I;16") else None)
        return _gray(np.asarray(image), limits).convert("RGB")
    if image.has_transparency_data:
        if image.width * image.height <= STRIP:
            return _on_white(image)
        shown, rows = Image.new("RGB", image.size), max(1, STRIP // image.width)
        for top in range(0, image.height, rows):
            shown.paste(_on_white(image.crop((0, top, image.width, min(top + rows, image.height)))), (0, top))
        shown.info = {key: value for key, value in image.info.items() if key != "transparency"}
        return shown
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _gray(values: npt.NDArray[Any], limits: tuple[float, float] | None) -> Image.Image:
    """Scale to 8 bits, where Pillow's own conversion would clip at 255."""
    low, high = limits or _own_range(values)
    shown, rows = np.empty(values.shape, dtype=np.uint8), max(1, STRIP // max(1, values.shape[1]))
    for top in range(0, len(values), rows):
        part = np.nan_to_num(values[top : top + rows].astype(np.float64), nan=low, posinf=high, neginf=low)
        shown[top : top + rows] = ((part - low) * (255.0 / ((high - low) or 1.0))).clip(0, 255).round()
    return Image.fromarray(shown)


def _own_range(values: npt.NDArray[Any]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 65535.0)


def decode(path: ImagePath, size: int, framing: str = "crop", how: HowRead = AS_EVER) -> npt.NDArray[np.uint8]:
    """Decode an image to a square, uint8, shape (size, size, 3), as `framing.frame` makes it.

    Raises
    ------
    ImageError
        The file cannot be used; the message names it.
    """
    return frame(open_known(path, size, square=size if framing == "crop" else None, how=how), size, framing)


def open_known(path: ImagePath, size: int, *, square: int | None = None, how: HowRead = AS_EVER) -> Image.Image:
    """Open a file that was readable when the pool was scanned, at twice the size needed or more."""
    try:
        return open_rgb(path, at_least=2 * size, square=square, how=how)
    except ImageError as error:
        name = path.uri if isinstance(path, Loaded) else os.fspath(path)
        raise ImageError(f"{name}: {error}. If it has changed or moved, scan the image pool again") from error


def decode_next(ahead: Ahead, row: int, size: int, framing: str, how: HowRead) -> npt.NDArray[np.uint8]:
    """Decode as `decode` does what is being read ahead, where it is an object of a bucket."""
    try:
        source = ahead.take(row)
    except OSError as error:
        raise ImageError(f"{error.filename}: unreadable: {error.strerror}. Scan the image pool again") from None
    return decode(source, size, framing, how)


def iter_blocks(
    paths: Sequence[ImagePath],
    size: int,
    *,
    framing: str = "crop",
    how: HowRead = AS_EVER,
    block: int = 256,
    workers: int | None = None,
) -> Generator[tuple[int, npt.NDArray[np.uint8]]]:
    """Decode any number of images in blocks, the next one in threads while the caller works on the last.

    Parameters
    ----------
    paths : sequence of length n
    size, framing, how
        Of the squares, as in `decode`.
    block : int
        Images per block. Two blocks are in memory at a time: 2 · block · 3 · size² bytes.
    workers : int, optional
        Threads; the number of cores, at most 8, by default. Pillow decodes outside of the interpreter lock.

    Yields
    ------
    start : int
        Index in `paths` of the block's first image.
    pixels : uint8 array, shape (m, size, size, 3)
        m = `block`, or fewer at the end.

    Raises
    ------
    ImageError
        A file cannot be decoded; the message names it.
    """

    def begin(pool: ThreadPoolExecutor, rows: slice) -> tuple[npt.NDArray[np.uint8], list[Future[None]]]:
        chosen = paths[rows]
        pixels, ahead = np.empty((len(chosen), size, size, 3), dtype=np.uint8), Ahead(chosen)

        def fill(i: int) -> None:
            pixels[i] = decode_next(ahead, i, size, framing, how)

        return pixels, [pool.submit(fill, i) for i in range(len(chosen))]

    for start, pixels, _ in read_ahead(len(paths), begin, block=block, workers=workers):
        yield start, pixels


def read_ahead(
    n: int,
    begin: Callable[[ThreadPoolExecutor, slice], tuple[Made, list[Future[Result]]]],
    *,
    block: int,
    workers: int | None,
) -> Generator[tuple[int, Made, list[Result]]]:
    """Yield the start of each block of n rows, what `begin` made for it, and what its tasks returned.

    `begin` hands its tasks to the threads; those of the next block are at work while the caller is.
    """
    pool = ThreadPoolExecutor(workers or default_workers())
    try:
        following = begin(pool, slice(block))
        for start in range(0, n, block):
            made, tasks = following
            results = [task.result() for task in tasks]
            following = begin(pool, slice(start + block, start + 2 * block))
            yield start, made, results
    finally:
        # A caller that stops early, or a damaged file, must not wait for the rest of the block.
        pool.shutdown(cancel_futures=True)


def default_workers() -> int:
    """Return the number of threads for decoding: one per core, at most 8."""
    return min(8, os.cpu_count() or 1)

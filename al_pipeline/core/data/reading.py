"""What one file of an image is: its bytes, its pixels, its size, how it looks and when it was taken."""

import errno
import functools
import hashlib
import io
import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from al_pipeline.core.data.colour import note_cicp
from al_pipeline.core.data.conversions import conversions
from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.images import opened, to_rgb, upright
from al_pipeline.core.data.levels import HIGH, LOW, SHARES, Note, note
from al_pipeline.core.data.places import Loaded, is_address, load
from al_pipeline.core.data.raster import Raster, to_image
from al_pipeline.core.errors import ImageError

Gray = npt.NDArray[np.uint8]

# Both sides of what is decoded keep so many pixels: hashes look at 32 of them.
AT_LEAST = 64
THUMBNAIL = 16
# Twice such a smaller side is halved: it says all that the hashes see, and no product below is so large that BLAS would
# wake threads for it, which cost more than they bring.
LARGE = 48
# Begins what is hashed of the pixels: a change of how that is done gives other hashes, and no false likeness.
PIXELS_VERSION = "pixels 1"
# A pipe would wait for its writer; Windows has no pipes among its files, and another idea of text.
TO_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
NOT_REGULAR = "not a regular file"
# Bytes of a file that grew while it was read.
MORE = 1 << 20
# A file written this shortly before it was read may be written again within the same tick of its file system's clock.
SETTLED_NS = 2_000_000_000


class Reading(NamedTuple):
    """What was found in a file; without `problem` all of it is known.

    Attributes
    ----------
    file_id : str or None
        First 32 hex digits of the SHA-256 of the bytes; None if they could not be read.
    pixels : str or None
        32 hex digits of a hash of the decoded pixels, before EXIF turns them: the same after a tag was written.
    width, height : int
        Pixels of the whole image as shown; 0 if unknown.
    format : str
    thumbnail : bytes
        16 × 16 gray levels of the image as shown; empty if unknown.
    phash : str
        64-bit perceptual hash of it as 16 hex digits; "" if unknown.
    levels : bytes
        `levels.Note` of a file with more than 8 bits, packed; empty for others.
    bytes : int
    taken : str or None
        When, by the camera's clock, in ISO 8601.
    mtime_ns, inode : int
        Of the file as it was read; 0 if unknown. An object of a bucket has the stamp of its etag as its time.
    settled : bool
        Writing to the file would have changed these.
    notes : str
        Why other pixels are shown than are stored, as `conversions.conversions` returns it.
    planes : int
        Pages, frames or slices in the file, of which one is the image.
    problem : str or None
        Why it cannot be used.
    """

    file_id: str | None = None
    pixels: str | None = None
    width: int = 0
    height: int = 0
    format: str = ""
    thumbnail: bytes = b""
    phash: str = ""
    levels: bytes = b""
    bytes: int = 0
    taken: str | None = None
    mtime_ns: int = 0
    inode: int = 0
    settled: bool = False
    notes: str = ""
    planes: int = 1
    problem: str | None = None


def read_file(path: str, now_ns: int, how: HowRead = AS_EVER) -> Reading:
    """Read a file once, and look at its bytes and its pixels; a JPEG's are decoded at 1/2 to 1/8 of its size.

    Parameters
    ----------
    path : str
    now_ns : int
        Unix time before the file was opened, in nanoseconds.
    how : HowRead
    """
    return see([decode_file(path, now_ns, how)])[0]


def see(read: Sequence[tuple[Reading, Gray | None]]) -> list[Reading]:
    """Return readings that know what their gray levels look like: those of one shape together."""
    shapes: dict[tuple[int, ...], list[int]] = {}
    for row, (_, gray) in enumerate(read):
        if gray is not None:
            shapes.setdefault(gray.shape, []).append(row)
    seen = [reading for reading, _ in read]
    for rows in shapes.values():
        for row, (phash, thumbnail) in zip(rows, looks([cast("Gray", read[row][1]) for row in rows]), strict=True):
            seen[row] = seen[row]._replace(phash=phash, thumbnail=thumbnail)
    return seen


def decode_file(path: str | Loaded, now_ns: int, how: HowRead = AS_EVER) -> tuple[Reading, Gray | None]:
    """Return what was found in a file or object but what it looks like, and its gray levels for that."""
    seen = Reading()
    try:
        if is_address(path):
            path = load(str(path))
        if isinstance(path, Loaded):
            return _look_at(path.getvalue(), _stamped(path), how)
        # Python's files ask the system twice as often, and each time another thread may take the interpreter.
        file = os.open(path, TO_READ)
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                return seen._replace(problem=NOT_REGULAR), None
            data = os.read(file, status.st_size + 1)
            while len(data) != status.st_size and (more := os.read(file, MORE)):
                data += more
        finally:
            os.close(file)
    except OSError as error:
        # What a socket says.
        return seen._replace(
            problem=NOT_REGULAR if error.errno == errno.ENXIO else f"unreadable: {error.strerror}"
        ), None
    seen = Reading(
        file_id=hashlib.sha256(data).hexdigest()[:32],
        bytes=len(data),
        mtime_ns=status.st_mtime_ns,
        inode=_signed(status.st_ino),
        settled=len(data) == status.st_size and abs(now_ns - status.st_mtime_ns) > SETTLED_NS,
    )
    return _look_at(data, seen, how)


def _stamped(loaded: Loaded) -> Reading:
    data = loaded.getvalue()
    stamp = loaded.entry.stamp
    return Reading(file_id=hashlib.sha256(data).hexdigest()[:32], bytes=len(data), mtime_ns=stamp, settled=True)


def _look_at(data: bytes, seen: Reading, how: HowRead) -> tuple[Reading, Gray | None]:
    """Decode what was read of a file."""
    try:
        try:
            return _decode(data, seen, "YCbCr", how)
        except ImageError:
            # A JPEG that stores red, green and blue cannot be decoded to YCbCr; what is damaged fails again.
            return _decode(data, seen, None, how)
    except ImageError as error:
        return seen._replace(problem=str(error)), None


def _decode(data: bytes, seen: Reading, mode: str | None, how: HowRead) -> tuple[Reading, Gray]:
    with opened(io.BytesIO(data), how=how) as image:
        width, height = image.size
        if image.format == "PNG":
            note_cicp(image)
        # As JPEG stores them: the colours of a screen would be computed for nothing.
        image.draft(mode, (AT_LEAST, AT_LEAST))
        image.load()
        decoded = _stored(image)
        noted, exif = _noted(image, how), _exif(image)
        orientation = exif.get(ExifTags.Base.Orientation) if exif else None
        turned = orientation in (5, 6, 7, 8)
        if image.mode == "YCbCr" and not exif and min(image.size) < 2 * LARGE:
            # What `_gray` gives, without taking the pixels out of Pillow again.
            gray = np.frombuffer(decoded, np.uint8)[::3].reshape(image.height, image.width)
        else:
            seen_as = _stretched(image, noted, how)
            gray = _gray(upright(seen_as) if exif else seen_as)
        return seen._replace(
            pixels=_hash_pixels(image, (width, height), decoded),
            width=height if turned else width,
            height=width if turned else height,
            format=image.format or "",
            taken=_taken(exif) if exif else None,
            notes=conversions(image, data, turned=turned or orientation in (2, 3, 4)),
            planes=_planes(image),
            levels=b"" if noted is None else noted.packed(),
        ), gray


def _planes(image: Image.Image) -> int:
    raster: Raster | None = image.info.get("raster")
    return raster.planes if raster is not None else getattr(image, "n_frames", 1)


def _noted(image: Image.Image, how: HowRead) -> Note | None:
    """Return what is to be known of values of more than 8 bits, None of others."""
    raster: Raster | None = image.info.get("raster")
    if image.mode == "I;16":
        if "white" not in image.info:
            return note(np.asarray(image))
    elif raster is None or raster.values.dtype.itemsize == 1:
        return None
    elif raster.said is None:
        return note(raster.colours(how.channels), raster.nodata)
    gray = to_rgb(image).convert("L")
    return Note(unsigned=True, distinct=sum(number > 0 for number in gray.histogram()))


def _stretched(image: Image.Image, noted: Note | None, how: HowRead) -> Image.Image:
    """Return what is looked at: of values whose white nobody says, what lies between nearly all of them.

    The pool's white is not known yet, and what a picture looks like is not to hang on it. With the whole range of 16
    bits those of 12 would have sixteen gray levels; with a picture's own, one hot pixel would leave it two.
    """
    if noted is None or not noted.ends:
        return image
    black, white = (noted.ends[SHARES.index(share)] for share in (LOW, HIGH))
    if white <= black:
        return image
    raster: Raster | None = image.info.get("raster")
    if raster is not None:
        return to_image(replace(raster, black=black, white=white), how)
    image.info["limits"] = black, white
    return image


def _stored(image: Image.Image) -> bytes | memoryview:
    """Return an image's pixels, or the values that they were made of and that say more."""
    raster: Raster | None = image.info.get("raster")
    if raster is None or (raster.values.dtype == np.uint8 and raster.values.shape[2] == len(image.getbands())):
        return image.tobytes()
    return raster.values.reshape(-1).data


def _hash_pixels(image: Image.Image, size: tuple[int, int], decoded: bytes | memoryview) -> str:
    digest = hashlib.sha256(f"{PIXELS_VERSION} {image.mode} {size} {image.size}\0".encode())
    if isinstance(decoded, memoryview):
        raster: Raster = image.info["raster"]
        digest.update(f"{raster.values.dtype.str} {raster.values.shape} {raster.inverted}\0".encode())
    # The same indices of other colours are another picture.
    if image.palette is not None:
        digest.update(image.palette.tobytes())
    if "transparency" in image.info:
        digest.update(repr(image.info["transparency"]).encode())
    digest.update(decoded)
    return digest.hexdigest()[:32]


def _exif(image: Image.Image) -> "Image.Exif | None":
    if image.format == "JPEG" and image.info.keys().isdisjoint(("exif", "xmp")):
        return None
    try:
        return image.getexif()
    except Exception:  # noqa: BLE001 - damaged EXIF leads Pillow into errors of any kind, and the pixels are whole
        return None


def _taken(exif: "Image.Exif") -> str | None:
    try:
        details = exif.get_ifd(ExifTags.IFD.Exif)
        text = str(details.get(ExifTags.Base.DateTimeOriginal, "")).strip("\0 ")
        moment = datetime.strptime(text, "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007 - cameras know no zone
        fraction = str(details.get(ExifTags.Base.SubsecTimeOriginal, "")).strip("\0 ")
    except Exception:  # noqa: BLE001 - as above, and cameras without a clock write zeros
        return None
    return moment.isoformat() + (f".{fraction}" if fraction.isascii() and fraction.isdigit() else "")


def _gray(image: Image.Image) -> Gray:
    """Return gray levels, shape (height, width); of what is very large, those of its reduced image."""
    gray = image.getchannel(0) if image.mode == "YCbCr" else to_rgb(image).convert("L")
    if (factor := min(gray.size) // LARGE) > 1:
        gray = gray.reduce(factor)
    return np.frombuffer(gray.tobytes(), np.uint8).reshape(gray.height, gray.width)


def looks(grays: Sequence[Gray]) -> list[tuple[str, bytes]]:
    """Return of images of one shape the perceptual hash [1]_ as hex digits, that of the ImageHash library, and a
    thumbnail each.

    Both are sums over rows and columns: of the 32 × 32 pixels of a Lanczos filter the lowest 8 × 8 frequencies, and the
    means of 16 × 16 boxes. So two small matrix products do what resizing and transforming take ten times as long for.
    Of several images at once, because threads hand the interpreter over before and after each step.

    References
    ----------
    .. [1] C. Zauner, Implementation and benchmarking of perceptual image hash functions, 2010 (pHash).
    """
    height, width = grays[0].shape
    # One after the other: of a list of arrays NumPy converts number by number.
    levels = np.empty((len(grays), height, width), dtype=np.float32)
    for row, gray in enumerate(grays):
        levels[row] = gray
    sums = _weights(height) @ levels @ _weights(width).T
    # Whole numbers: what is equal in a plain image stays equal on every machine.
    low = sums[:, :8, :8].round().reshape(len(grays), 64)
    ordered = np.sort(low, axis=1)
    bits = np.packbits(low > (ordered[:, 31:32] + ordered[:, 32:33]) / 2, axis=1)
    thumbnails = (sums[:, 8:, 8:] + 0.5).astype(np.uint8)
    return [(one.tobytes().hex(), small.tobytes()) for one, small in zip(bits, thumbnails, strict=True)]


@functools.lru_cache(maxsize=1024)
def _weights(length: int) -> npt.NDArray[np.float32]:
    """Return the sums over a side of an image, shape (24, length): 8 frequencies and 16 boxes."""
    cosines = 2 * np.cos(np.pi * np.arange(8)[:, None] * (2 * np.arange(32) + 1) / 64)
    at, centre, scale = _positions(length, 32)
    lanczos = np.where(np.abs(at - centre) < 3 * scale, np.sinc((at - centre) / scale), 0)
    lanczos = lanczos * np.sinc((at - centre) / scale / 3)
    at, centre, scale = _positions(length, THUMBNAIL)
    # Of a pixel on the edge of two boxes each has its part, and of few pixels every box has one.
    box = (scale / 2 + 0.5 - np.abs(at - centre)).clip(0, 1)
    lanczos, box = (rows / rows.sum(axis=1, keepdims=True) for rows in (lanczos, box))
    return np.concatenate([cosines @ lanczos, box]).astype(np.float32)


def _positions(length: int, parts: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], float]:
    """Return where the pixels of a side and the centres of its parts are, and how many pixels a part has, 1 or more."""
    return np.arange(length) + 0.5, (np.arange(parts)[:, None] + 0.5) * length / parts, max(1.0, length / parts)


def turned_hashes(path: str, how: HowRead = AS_EVER) -> list[str]:
    """Return the perceptual hashes of an image as shown, in all eight turns and mirrors.

    Raises
    ------
    ImageError
        It cannot be decoded any more.
    """
    with opened(path, how=how) as image:
        image.draft(None, (AT_LEAST, AT_LEAST))
        image.load()
        gray = _gray(upright(_stretched(image, _noted(image, how), how)))
    return [looks([np.rot90(side, turns)])[0][0] for side in (gray, gray[:, ::-1]) for turns in range(4)]


def file_stamp(path: str) -> tuple[int, int, int]:
    """Return size in bytes, time of the last change in ns and inode of a file, as a reading has them."""
    status = os.stat(path)  # noqa: PTH116 - of 100,000 files
    return status.st_size, status.st_mtime_ns, _signed(status.st_ino)


def _signed(number: int) -> int:
    """Return a number of 64 bits as a signed one, as tables store it."""
    return number - (1 << 64) if number >= 1 << 63 else number

"""The first frame of an animation, which may cover a part of its canvas alone."""

import struct
from typing import IO

from PIL import Image

Box = tuple[int, int, int, int]

# The bit in the header of a WebP that says that it has frames.
HAS_FRAMES = 0x02


def on_its_canvas(image: Image.Image) -> Image.Image:
    """Return the first frame of a GIF or WebP with nothing around it, where Pillow gives a colour that nobody chose.

    Parameters
    ----------
    image : PIL.Image.Image
        As opened, not loaded yet.

    Returns
    -------
    PIL.Image.Image
        Mode RGBA, clear where the frame is not; the identical object if there is no such place.
    """
    box = None
    if image.format == "GIF":
        box = getattr(image, "dispose_extent", None)
    elif image.format == "WEBP":
        box = _webp_box(getattr(image, "fp", None))
    if box is None or box == (0, 0, *image.size):
        return image
    # A damaged WebP may promise a frame of any size, which its decoder does not believe.
    box = box[0], box[1], min(box[2], image.width), min(box[3], image.height)
    if box[0] >= box[2] or box[1] >= box[3]:
        return image
    frame = image.crop(box).convert("RGBA")
    canvas = Image.new("RGBA", image.size)
    canvas.paste(frame, box)
    canvas.info = frame.info
    return canvas


def _webp_box(file: IO[bytes] | None) -> Box | None:
    """Return the edges of the first frame, which Pillow does not tell; None for a still image."""
    at, name = 12, b"VP8X"
    while file is not None:
        file.seek(at)
        head = file.read(24)
        if len(head) < 24 or (at == 12 and not (head.startswith(name) and head[8] & HAS_FRAMES)):
            return None
        name, length = struct.unpack_from("<4sI", head)
        if name == b"ANMF":
            left, upper, width, height = (int.from_bytes(head[i : i + 3], "little") for i in (8, 11, 14, 17))
            return 2 * left, 2 * upper, 2 * left + width + 1, 2 * upper + height + 1
        at += 8 + length + length % 2
    return None

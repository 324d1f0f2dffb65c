"""Pictures in rows with captions below them, as one small file."""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from al_pipeline.core.data.ahead import Ahead
from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.images import ImagePath, open_known
from al_pipeline.core.errors import ImageError, InputError, PlaceError

# Pixels between tiles, and the height of one line of caption.
GAP, LINE, FONT_SIZE = 4, 14, 10


def contact_sheet(
    paths: Sequence[ImagePath],
    captions: Sequence[str] | None = None,
    *,
    columns: int = 8,
    tile: int = 72,
    max_images: int = 40,
    max_bytes: int = 100_000,
    how: HowRead = AS_EVER,
) -> bytes:
    """Lay images out in rows, with a caption below each, and return one small PNG file.

    Parameters
    ----------
    paths : sequence
        The first `max_images` are shown; of a file that cannot be decoded any more a gray square.
    captions : sequence of str, optional
        One per path; may have several lines. What is wider than the tile goes on in the next line.
    columns, tile : int
        Tiles per row, and their side in pixels.
    max_bytes : int
        Colours, then tiles, then images become fewer until the file is no larger.
    how : HowRead

    Raises
    ------
    InputError
        Captions and paths differ in number, or not even one small tile fits into `max_bytes`.
    """
    if captions is not None and len(captions) != len(paths):
        raise InputError(f"contact_sheet got {len(captions)} captions for {len(paths)} images: give one per image")
    ahead = Ahead(paths[:max_images])
    thumbnails = [_thumbnail(ahead, row, tile, how) for row in range(len(paths[:max_images]))]
    lines = [caption.splitlines() for caption in (captions or [])[:max_images]]
    while True:
        sheet = _sheet(thumbnails, lines, columns, tile)
        for colours in (256, 64):
            buffer = io.BytesIO()
            sheet.quantize(colours).save(buffer, format="PNG", optimize=True)
            if buffer.tell() <= max_bytes:
                return buffer.getvalue()
        if tile >= 48:
            tile = tile * 3 // 4
            thumbnails = [ImageOps.contain(thumbnail, (tile, tile)) for thumbnail in thumbnails]
        elif len(thumbnails) > 1:
            kept = len(thumbnails) // 2
            thumbnails, lines = thumbnails[:kept], lines[:kept]
        else:
            raise InputError(f"a contact sheet of one {tile} px tile is larger than max_bytes = {max_bytes}: raise it")


def _thumbnail(ahead: Ahead, row: int, tile: int, how: HowRead) -> Image.Image:
    try:
        return ImageOps.contain(open_known(ahead.take(row), tile, how=how), (tile, tile))
    except (ImageError, PlaceError, OSError):
        # Files vanish while rounds run, and a picture for people is no reason to end one.
        return Image.new("RGB", (tile, tile), "#999999")


def _sheet(
    thumbnails: Sequence[Image.Image], captions: Sequence[Sequence[str]], columns: int, tile: int
) -> Image.Image:
    import matplotlib as mpl

    # Pillow's own font has no ä, é or σ; this one has Latin, Greek and Cyrillic.
    font = ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), FONT_SIZE)
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    captions = [
        [part for line in lines for part in _wrapped(line, tile, lambda text: pen.textlength(text, font=font))]
        for lines in captions
    ]
    columns = max(1, min(columns, len(thumbnails)))
    rows = max(1, -(-len(thumbnails) // columns))
    height = tile + LINE * max((len(lines) for lines in captions), default=0)
    sheet = Image.new("RGB", (columns * (tile + GAP) + GAP, rows * (height + GAP) + GAP), "white")
    draw = ImageDraw.Draw(sheet)

    for i, thumbnail in enumerate(thumbnails):
        x, y = GAP + (i % columns) * (tile + GAP), GAP + (i // columns) * (height + GAP)
        sheet.paste(thumbnail, (x + (tile - thumbnail.width) // 2, y + (tile - thumbnail.height) // 2))
        for number, text in enumerate(captions[i] if captions else ()):
            draw.text((x + tile // 2, y + tile + number * LINE + 1), text, fill="#222222", font=font, anchor="ma")
    return sheet


def _wrapped(text: str, width: int, length: Callable[[str], float]) -> Iterator[str]:
    """Yield a text in lines that are no longer than a width, in pixels; broken between words where that can be."""
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if length(longer) <= width:
            line = longer
            continue
        if line:
            yield line
        line = word
        while length(line) > width and len(line) > 1:
            fits = next(n for n in range(len(line), 0, -1) if n == 1 or length(line[:n]) <= width)
            yield line[:fits]
            line = line[fits:]
    yield line

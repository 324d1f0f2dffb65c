"""Several images in one picture, each with its number: what a person looks at to answer about all of them at once."""

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.images import ImagePath, open_rgb
from al_pipeline.core.errors import ImageError

# A picture of 1,200 px a side fills a screen: nine images get 400 px each, two get 600.
SIDE, GAP, FONT_SIZE = 1200, 6, 22
QUALITY = 88


def montage(paths: Sequence[ImagePath], how: HowRead = AS_EVER) -> Image.Image:
    """Return images in rows, as large as fits on a screen, with the numbers 1, 2, … in their corners.

    Parameters
    ----------
    paths : sequence
        Up to nine stay large enough to be judged.
    how : HowRead

    Raises
    ------
    ImageError
        A file cannot be decoded; the message names it.
    """
    import matplotlib as mpl

    columns = math.ceil(math.sqrt(len(paths)))
    tile, rows = SIDE // max(2, columns), math.ceil(len(paths) / columns)
    sheet = Image.new("RGB", (columns * (tile + GAP) - GAP, rows * (tile + GAP) - GAP), "white")
    font = ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf"), FONT_SIZE)
    draw = ImageDraw.Draw(sheet)
    for number, path in enumerate(paths):
        try:
            shown = ImageOps.contain(open_rgb(path, at_least=tile, how=how), (tile, tile))
        except ImageError as error:
            raise ImageError(f"{path}: {error}. If it has changed or moved, scan the image pool again") from error
        x, y = number % columns * (tile + GAP), number // columns * (tile + GAP)
        left, top = x + (tile - shown.width) // 2, y + (tile - shown.height) // 2
        sheet.paste(shown, (left, top))
        text, edge = str(number + 1), FONT_SIZE + 10
        draw.rectangle((left, top, left + edge, top + edge), fill="#222222")
        draw.text((left + edge / 2, top + edge / 2), text, fill="white", font=font, anchor="mm")
    return sheet

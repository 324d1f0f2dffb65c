"""Write docs/images/formats.png: what the network gets of a choice of kinds, beside what a browser shows of them."""

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageOps

from al_pipeline.core.data.images import open_rgb
from al_pipeline.labelstudio.images import publish
from al_pipeline_tests.core.data.every_kind import every_kind
from al_pipeline_tests.labelstudio.test_same_picture import page_at, paint, sample_id

TARGET = Path(__file__).parent / "images" / "formats.png"
CHOICE = {
    "JPEG EXIF 6": "JPEG, turned by EXIF",
    "JPEG CMYK": "JPEG, CMYK",
    "colours: inks": "JPEG, CMYK, profile",
    "colours: Display P3 in JPEG": "JPEG, Display P3",
    "colours: linear light": "PNG, linear light",
    "PNG swapped colours": "PNG, G and B swapped",
    "PNG RGBA": "PNG, transparent",
    "PNG gray 16 bit": "PNG, 16 bits",
    "PNG turned": "PNG, turned by EXIF",
    "PNG animated": "PNG, animated",
    "WebP lossy with alpha": "WebP, transparent",
    "WebP small first frame, turned": "WebP, animated, turned",
    "GIF small first frame": "GIF, animated, small",
    "BMP 16 bit": "BMP, 16 bits a pixel",
    "TIFF turned": "TIFF, turned",
    "TIFF CMYK": "TIFF, CMYK",
    "TIFF gray 16 bit": "TIFF, gray, 16 bits",
    "TIFF inverted": "TIFF, white is 0",
    "HEIC": "HEIC",
    "HEIC, transparent": "HEIC, transparent",
    "AVIF": "AVIF",
    "JP2, palette": "JPEG 2000, palette",
    "JP2, 12 bits colour": "JPEG 2000, 12 bits",
    "JPEG XL": "JPEG XL",
    "JPEG XL, 16-bit float": "JPEG XL, linear light",
    "DICOM: RGB": "DICOM, RGB",
    "DICOM: YBR": "DICOM, YBR",
    "DICOM: JPEG-LS": "DICOM, JPEG-LS, window",
}
# Pixels.
TILE, GAP, CAPTION, COLUMNS = 76, 10, 16, 4


def main() -> None:
    """Publish, paint, lay out; refuse to write a page on which the two sides differ."""
    with tempfile.TemporaryDirectory() as folder:
        original, shown = Path(folder, "original"), Path(folder, "shown")
        shown.mkdir()
        model, files = dict[str, npt.NDArray[np.uint8]](), dict[str, str]()
        for name in CHOICE:
            original.write_bytes(every_kind()[name].data)
            model[name] = np.asarray(open_rgb(original))
            files[name] = publish(original, sample_id(name), shown)
            # The next one must not be written into what is linked.
            original.unlink()
        with page_at(shown) as page:
            painted = paint(page, list(files.values()))
    rows = -(-len(CHOICE) // COLUMNS)
    width, height = 2 * TILE + 3 * GAP, TILE + CAPTION + GAP
    sheet = Image.new("RGB", (COLUMNS * width, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (name, caption) in enumerate(CHOICE.items()):
        x, y = GAP + i % COLUMNS * width, GAP // 2 + i // COLUMNS * height
        browser = painted[files[name]]
        assert browser is not None, name
        assert np.abs(browser.astype(int) - model[name]).max() <= 1, name
        for side, pixels in enumerate((model[name], browser)):
            tile = ImageOps.contain(Image.fromarray(np.ascontiguousarray(pixels)), (TILE, TILE))
            sheet.paste(tile, (x + side * (TILE + GAP // 2) + (TILE - tile.width) // 2, y + (TILE - tile.height) // 2))
        draw.text((x + TILE, y + TILE + 1), caption, fill="#222222", anchor="ma")
    sheet.save(TARGET, optimize=True)


if __name__ == "__main__":
    main()

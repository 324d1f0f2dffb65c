"""Why people and the model get other pixels than a file stores, in a few words: counted by a scan."""

from PIL import Image

from al_pipeline.core.data.colour import SAID, TONE_MAPPED, converts, profile_problem
from al_pipeline.core.data.plain import GAIN_MAPS, LARGEST, plain_suffix, starts_plain
from al_pipeline.core.data.raster import Raster
from al_pipeline.core.data.readers import OTHERS

FORMAT = "format that not every browser shows"
COLOURS, INKS = "colour profile", "CMYK"
TRANSPARENT, DEEP = "transparency", "more than 8 bits"
MOVING, PAGES, CHANNELS, TURNED = "animation", "several pages", "several channels", "turned"
GAIN_MAP, RARE = "gain map", "rare build"
# No conversion: the pixels are taken for those of sRGB.
IGNORED = "colours that can't be used"

_MOVES = frozenset({"GIF", "PNG", "WEBP"})


def conversions(image: Image.Image, data: bytes, *, turned: bool) -> str:
    """Return the reasons that hold for a file, separated by commas; "" where nothing is converted.

    They come from what Pillow knows after decoding, and from the file where that tells of none. There are some if and
    only if the decoded pixels are published (`labelstudio.images.publish`), but for one exception: what stands between
    the pixels of a baseline JPEG and its end is not looked at.

    Parameters
    ----------
    image : PIL.Image.Image
        As opened and loaded, with the file's ``info``.
    data : bytes
        The whole file.
    turned : bool
        Whether it says that it lies on its side, upside down or mirrored. All browsers turn as a JPEG's EXIF says, and
        by nothing else.
    """
    kind, info = image.format or "", image.info
    jpeg = kind in ("JPEG", "MPO")
    if jpeg and image.mode != "CMYK" and info.keys().isdisjoint(("icc_profile", "xmp", "raster")):
        return "" if _is_plain(data) else RARE
    raster: Raster | None = info.get("raster")
    said = not info.keys().isdisjoint(SAID)
    held = {
        FORMAT: kind in OTHERS,
        COLOURS: TONE_MAPPED in info or (said and converts(image)),
        INKS: image.mode == "CMYK",
        TRANSPARENT: image.has_transparency_data or _is_on_a_canvas(image),
        DEEP: _is_deep(image, data, raster),
        MOVING: kind in _MOVES and _moves(image),
        PAGES: raster is not None and raster.planes > 1,
        CHANNELS: raster is not None and raster.several,
        TURNED: turned and not (jpeg and "exif" in info),
        GAIN_MAP: jpeg and any(name in (info.get("xmp") or b"") for name in GAIN_MAPS),
    }
    told = [name for name, holds in held.items() if holds]
    if (jpeg and raster is not None) or not (told or _is_plain(data)):
        told.append(RARE)
    return ",".join(told + [IGNORED] * (said and profile_problem(image) is not None))


def _is_plain(data: bytes) -> bool:
    return len(data) <= LARGEST and (starts_plain(data) or plain_suffix(data) is not None)


def _is_deep(image: Image.Image, data: bytes, raster: Raster | None) -> bool:
    if image.format == "PNG":
        return data[24:25] == b"\x10"
    return raster is not None and raster.values.dtype.itemsize > 1


def _is_on_a_canvas(image: Image.Image) -> bool:
    box = getattr(image, "dispose_extent", None)
    return box is not None and tuple(box) != (0, 0, *image.size)


def _moves(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # noqa: BLE001 - a damaged second frame leads Pillow into errors of any kind, and nobody needs it
        return True

"""How a picture becomes the square that the network sees: its middle, or all of it, squeezed or with a border."""

import re
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from al_pipeline.core.errors import InputError

Framing = Literal["crop", "squeeze", "pad"]
FRAMINGS: tuple[Framing, ...] = get_args(Framing)
Filter = Literal["bilinear", "bicubic"]

# ImageNet's mean colour. Normalised it is zero, what the network's own convolutions put around a picture: of all plain
# colours it adds the least edge. Black is two standard deviations away from it; detectors' 114 gray is nearly the same.
BORDER = (124, 116, 104)
# With less than this of the median picture in its middle square, what the class hangs on is often outside: 4:3 shows
# three quarters, 3:2 two thirds.
LEAST_SEEN = 0.7


class Resized(NamedTuple):
    """How a network of others had its images resized: the filter, and the share of the middle square a crop shows.

    The share is in thousandths.
    """

    by: Filter = "bilinear"
    share: int = 1000


AS_EVER = Resized()


def named(framing: Framing, resized: Resized = AS_EVER) -> str:
    """Return what squares of a framing are called; ``crop``, ``squeeze`` and ``pad`` where nothing else is to be said.

    Only crops leave something out: the share is of them alone.
    """
    by = "" if resized.by == "bilinear" else resized.by
    share = "" if resized.share == 1000 or framing != "crop" else f"{resized.share}"
    return "-".join(filter(None, [framing, by, share]))


def is_name(name: str) -> bool:
    """Say whether squares may be called so."""
    return _found(name) is not None


def read_name(name: str) -> tuple[Framing, Resized]:
    """Return what `named` has named.

    Raises
    ------
    InputError
        Nothing that this version knows has this name.
    """
    found = _found(name)
    if found is None:
        raise InputError(f"unknown framing {name!r}; choose one of {', '.join(FRAMINGS)}")
    return found


@lru_cache
def _found(name: str) -> tuple[Framing, Resized] | None:
    parts = re.fullmatch(r"(crop|squeeze|pad)(-bicubic)?(-\d{1,3})?", name)
    if parts is None:
        return None
    framing: Framing = parts[1]  # type: ignore[assignment]
    found = framing, Resized("bicubic" if parts[2] else "bilinear", -int(parts[3] or -1000))
    return found if named(*found) == name else None


def frame(image: Image.Image, size: int, framing: str) -> npt.NDArray[np.uint8]:
    """Return a picture as a square, uint8, shape (size, size, 3).

    Parameters
    ----------
    image : Image
        Mode RGB, of any size.
    size : int
        Side of the square in pixels.
    framing : str
        ``crop``: the shorter side is resized to `size`, and the middle taken. ``squeeze``: both sides are resized to
        `size`. ``pad``: the longer side is resized to `size`, and the rest filled with `BORDER` on both sides alike.
        With the filter, and of a crop the share of the middle square, that its name says (`named`).

    Raises
    ------
    InputError
        The framing is none of these.
    """
    shown, resized = read_name(framing)
    filtered = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[resized.by]
    if shown == "crop":
        square = ImageOps.fit(image, (size, size), method=filtered, bleed=(1 - resized.share / 1000) / 2)
    elif shown == "squeeze":
        square = image.resize((size, size), filtered)
    else:
        # Not Pillow's own, which leaves nothing of what is thinner than a pixel.
        scale = size / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        square = Image.new("RGB", (size, size), BORDER)
        square.paste(image.resize((width, height), filtered), ((size - width) // 2, (size - height) // 2))
    return np.asarray(square, dtype=np.uint8)


def share_seen(width: npt.ArrayLike, height: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return which share of a picture a crop shows, above 0 to 1, elementwise; sides are in pixels."""
    return np.minimum(width, height) / np.maximum(width, height)


def by_shapes(width: npt.ArrayLike, height: npt.ArrayLike) -> tuple[Framing, float]:
    """Return the framing that suits pictures of these shapes, and which share of the median one a crop shows.

    Squares and what is near them are cropped, as networks are trained usually; where the median picture would lose
    more than 30 %, all of it is shown with a border, as squeezing changes what things look like.

    Parameters
    ----------
    width, height : array_like, shape (n,)
        In pixels; with n = 0 the share is 1.
    """
    shares = share_seen(width, height)
    median = float(np.median(shares)) if shares.size else 1.0
    return ("pad" if median < LEAST_SEEN else "crop"), median

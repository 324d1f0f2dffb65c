"""How a picture becomes the square that the network sees: its middle, or all of it, squeezed or with a border."""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from al_pipeline.core.errors import InputError

Framing = Literal["crop", "squeeze", "pad"]
FRAMINGS: tuple[Framing, ...] = get_args(Framing)

# ImageNet's mean colour. Normalised it is zero, what the network's own convolutions put around a picture: of all plain
# colours it adds the least edge. Black is two standard deviations away from it; detectors' 114 gray is nearly the same.
BORDER = (124, 116, 104)
# With less than this of the median picture in its middle square, what the class hangs on is often outside: 4:3 shows
# three quarters, 3:2 two thirds.
LEAST_SEEN = 0.7


def frame(image: Image.Image, size: int, framing: Framing) -> npt.NDArray[np.uint8]:
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

    Raises
    ------
    InputError
        The framing is none of these.
    """
    filtered = Image.Resampling.BILINEAR
    if framing == "crop":
        square = ImageOps.fit(image, (size, size), method=filtered)
    elif framing == "squeeze":
        square = image.resize((size, size), filtered)
    elif framing == "pad":
        # Not Pillow's own, which leaves nothing of what is thinner than a pixel.
        scale = size / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        square = Image.new("RGB", (size, size), BORDER)
        square.paste(image.resize((width, height), filtered), ((size - width) // 2, (size - height) // 2))
    else:
        raise InputError(f"unknown framing {framing!r}; choose one of {', '.join(FRAMINGS)}")
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

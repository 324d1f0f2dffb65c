"""How large an image may be, told by its header before anything is decoded."""

from al_pipeline.core.errors import ImageError


def refuse_large(width: int, height: int, max_pixels: int) -> None:
    """Raise ImageError if an image has more pixels than allowed, or none."""
    if width * height > max_pixels:
        raise ImageError(f"too large: {width} × {height} pixels, the limit is {max_pixels / 1e6:g} megapixels")
    if width < 1 or height < 1:
        raise ImageError(f"damaged: {width} × {height} pixels")

"""The size that pictures inside of other files promise, against what their own encoders were given."""

import io
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from al_pipeline.core.data.codestreams import promised_size


def by_pillow(kind: str, **options: Any) -> Callable[[np.ndarray[Any, Any]], bytes]:
    def encode(pixels: np.ndarray[Any, Any]) -> bytes:
        Image.fromarray(pixels).save(buffer := io.BytesIO(), kind, **options)
        return buffer.getvalue()

    return encode


ENCODERS: dict[str, Callable[[np.ndarray[Any, Any]], Any]] = {
    "JPEG": by_pillow("JPEG"),
    "JPEG with a profile": by_pillow("JPEG", icc_profile=bytes(100_000), progressive=True),
    "JPEG 2000": imagecodecs.jpeg2k_encode,
    "JPEG 2000 without a box": lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k"),
    "JPEG XL": imagecodecs.jpegxl_encode,
    "JPEG XL in boxes": lambda pixels: imagecodecs.jpegxl_encode(pixels, usecontainer=True),
    "WebP": by_pillow("WEBP"),
    "WebP without loss": by_pillow("WEBP", lossless=True),
    "WebP with a profile": by_pillow("WEBP", icc_profile=b"a profile"),
    "PNG": by_pillow("PNG"),
    "LERC": imagecodecs.lerc_encode,
}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (16, 9), (300, 200), (24, 31), (513, 256), (700, 525), (12, 10)])
def test_the_size_is_what_was_encoded(name: str, size: tuple[int, int]) -> None:
    width, height = size
    found = promised_size(bytes(ENCODERS[name](np.zeros((height, width, 3), np.uint8))))
    assert found is not None
    assert found[:2] == size
    assert 3 <= found[2] <= 4


@settings(max_examples=200)
@given(name=st.sampled_from([b"\xff\xd8", b"RIFF....WEBPVP8X", b"\x89PNG", b"Lerc2 ", b"\xff\x0a"]), rest=st.binary())
def test_damaged_data_have_some_size_or_none(name: bytes, rest: bytes) -> None:
    found = promised_size(name + rest)
    assert found is None or len(found) == 3

"""What was read of many files comes as columns of their rows, from whatever pieces in whatever order."""

import numpy as np
import pyarrow as pa
import pytest

from al_pipeline.core.data.columns import column, column_of
from al_pipeline.core.data.reading import Reading

READ = [Reading(pixels="b", phash="2", width=2, thumbnail=b"2"), Reading(phash="0", thumbnail=b"0")]


@pytest.mark.parametrize(
    ("name", "kept", "expected"),
    [
        ("phash", pa.array(["4", "3"]), ["0", "", "2", "3", "4"]),
        ("pixels", pa.array([None, "c"]), [None, None, "b", "c", None]),
        ("thumbnail", pa.array([b"4", b""]), [b"0", b"", b"2", b"", b"4"]),
        ("width", pa.array([4, 3]), [0, 0, 2, 3, 4]),
    ],
)
def test_rows_have_what_was_read_or_kept_of_them_and_others_nothing(
    name: str, kept: pa.Array, expected: list[object]
) -> None:
    pieces = [(np.array([2, 0]), column_of(name, READ)), (np.array([4, 3]), kept), (np.array([], int), kept[:0])]
    found = column(name, 5, pieces)
    assert [None if value != value else value for value in found] == expected

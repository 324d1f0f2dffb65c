"""White and black of a pool, from notes of values made by hand."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from al_pipeline.core.data.levels import LOW, SHARES, Levels, Note, note, pool_levels


def noted(values: npt.NDArray[Any], nodata: float | None = None) -> Note:
    found = note(values, nodata)
    assert found is not None
    return found


def ramp(top: int, code: str = "u2", count: int = 10_000) -> npt.NDArray[Any]:
    return np.linspace(0, top, count).astype(code).reshape(100, -1, 1)


@pytest.mark.parametrize(
    ("top", "white"),
    [
        (5, 1023),
        (1023, 1023),
        (1024, 4095),
        (4095, 4095),
        (4096, 16383),
        (16384, 65535),
        (65535, 65535),
        (65536, 131071),
    ],
)
def test_white_of_whole_numbers_is_the_next_depth_of_a_converter(top: int, white: int) -> None:
    darker = noted(ramp(3))
    assert pool_levels([darker, noted(ramp(top, "u4"))]) == Levels(white=white)


def test_a_number_is_white_for_all_that_there_is() -> None:
    counts, floats = noted(ramp(3000)), noted(ramp(3, "f4"))
    assert pool_levels([counts], 2000) == Levels(white=2000)
    assert pool_levels([counts, floats], 2000) == Levels(white=2000, low=0, high=2000)


def test_percentiles_leave_hot_pixels_out_where_auto_takes_them_for_values() -> None:
    values = ramp(4000)
    values[50, 50] = 65535
    hot = noted(values)
    assert pool_levels([hot]).white == 65535
    found = pool_levels([hot], "percentile")
    assert found.white == pytest.approx(0.999 * 4000, rel=0.001)
    assert found.black == pytest.approx(0.001 * 4000, abs=2)


def test_floats_are_between_the_percentiles_of_the_pool_without_what_was_not_measured() -> None:
    values = ramp(1000, "f4") - 200
    values[0, :40] = -9999
    values[1, :40], values[2, 0] = np.nan, np.inf
    values[3, 3] = 1e30
    found = pool_levels([noted(values, -9999)])
    assert found.white is None
    assert found.low == pytest.approx(-200 + 4 + 1, abs=1)
    assert found.high == pytest.approx(-200 + 0.999 * 1000, abs=2)


def test_the_range_is_that_of_all_pictures_not_of_one() -> None:
    dark, bright = noted(np.linspace(0, 1, 1000)), noted(np.linspace(5, 9, 1000))
    found = pool_levels([dark, bright])
    assert (found.low, found.high) == (pytest.approx(0, abs=0.02), pytest.approx(9, abs=0.05))
    # One bright picture of two thousand is beyond; half of them is not.
    assert pool_levels([dark] * 2000 + [bright]).high == pytest.approx(1, abs=0.01)


def test_numbers_with_a_sign_have_a_black_of_their_own() -> None:
    found = pool_levels([noted(np.arange(-1000, 3001, dtype=np.int16))])
    assert (found.white, found.low, found.high) == (None, pytest.approx(-996, abs=2), pytest.approx(2996, abs=2))


def test_shares_are_of_the_values_and_the_ends_are_exact() -> None:
    values = np.random.default_rng(1).permutation(np.arange(1, 1001)).astype(np.uint16)
    found = noted(values)
    assert found.ends == tuple(max(1, round(share * 1000)) for share in SHARES)
    assert (found.unsigned, found.distinct) == (True, 1000)
    large = np.zeros((600, 700), np.uint16)
    large[311, 222] = 65535
    assert noted(large).ends[-1] == 65535
    assert noted(large).ends[-2] == 0


def test_a_file_in_which_nothing_was_measured_has_no_say() -> None:
    assert note(np.full((3, 3), np.nan)) is None
    assert note(np.full((3, 3), 7, np.uint16), nodata=7) is None


def test_what_a_table_keeps_is_what_was_noted() -> None:
    for each in (noted(ramp(4095)), noted(ramp(3, "f8") / 7), Note(False, 17)):
        assert Note.unpacked(each.packed()) == each


def test_a_file_that_says_its_white_leaves_the_pool_alone() -> None:
    assert pool_levels([Note(True, 200)]) == Levels()
    assert pool_levels([]) == Levels()


def test_gray_levels_are_those_of_the_picture() -> None:
    twelve_bits = noted(ramp(4095))
    # 4095 of 65535 is a sixteenth.
    assert twelve_bits.gray_levels(Levels()) == 16
    assert twelve_bits.gray_levels(Levels(white=4095)) >= 255
    mask = np.zeros(1000, np.uint16)
    mask[500:] = 4095
    assert noted(mask).gray_levels(Levels(white=4095)) == 2
    hot = np.linspace(0, 1, 10_000)
    hot[77] = 1e6
    assert noted(hot).gray_levels(Levels()) == 1
    assert noted(hot).gray_levels(pool_levels([noted(hot)])) >= 254
    assert Note(True, 17).gray_levels(Levels(white=1023)) == 17


def test_levels_are_those_of_the_kind_of_numbers() -> None:
    both = Levels(white=1023, low=-1.0, high=1.0)
    assert [both.of(np.dtype(code)) for code in ("u2", "u4", "i2", "f4", "u1", "?")] == [
        *[(0, 1023)] * 2,
        *[(-1, 1)] * 2,
        *[None] * 2,
    ]
    assert Levels(low=3.0, high=3.0).of(np.dtype("f4")) is None
    assert SHARES[1] == LOW

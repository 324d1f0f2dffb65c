"""Black and white of values of more than 8 bits, where their files do not say them: the same for a whole pool.

Stretching each picture by itself would hide how bright it is, which may be the class; and one hot pixel would leave it
one gray level.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

White = Literal["auto", "percentile"] | float

# Cameras and microscopes have converters of so many bits, whatever the numbers are stored in.
BITS = (10, 12, 14, 16)
# Of all values; beyond them are hot pixels, dust and what was not measured but not called so either.
LOW, HIGH = 0.001, 0.999
# Shares of a file's values that a note tells the ends of: they and the two above are told exactly.
SHARES = (0.0, LOW, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, HIGH, 1.0)
# Values of a file that are looked at, evenly spread; smallest and largest are those of all.
MOST_VALUES = 1 << 16
# With fewer, shades that people tell apart are one to the network and in the browser.
FEW_LEVELS = 32


@dataclass(frozen=True)
class Levels:
    """Black and white of a pool; None: each file as if there was no pool (`raster.to_image`).

    Attributes
    ----------
    white : float or None
        Of whole numbers without a sign; `black` is theirs too.
    black : float
    high, low : float or None
        White and black of floats and of numbers with a sign.
    """

    white: float | None = None
    black: float = 0.0
    high: float | None = None
    low: float | None = None

    def of(self, dtype: np.dtype[Any]) -> tuple[float, float] | None:
        """Return black and white of values of a type, None if the pool has none."""
        black, white = (self.black, self.white) if dtype.kind == "u" else (self.low, self.high)
        if dtype.kind not in "uif" or dtype == np.uint8 or black is None or white is None or white <= black:
            return None
        return black, white


class Note(NamedTuple):
    """What a scan notes of a file's values.

    Attributes
    ----------
    unsigned : bool
        Whole numbers without a sign.
    distinct : int
        How many different values were seen, at most `MOST_VALUES`.
    ends : tuple of float
        For each of `SHARES` the value that so many are not above. Empty: the file says what is white, and `distinct`
        counts the gray levels of the picture.
    """

    unsigned: bool
    distinct: int
    ends: tuple[float, ...] = ()

    def packed(self) -> bytes:
        """Return it as bytes for a table."""
        return np.array([self.unsigned, self.distinct, *self.ends], "<f8").tobytes()

    @classmethod
    def unpacked(cls, data: bytes) -> "Note":
        """Return what was packed."""
        unsigned, distinct, *ends = np.frombuffer(data, "<f8").tolist()
        return cls(bool(unsigned), int(distinct), tuple(ends))

    def gray_levels(self, levels: Levels) -> int:
        """Return how many gray levels the picture has, without its brightest and darkest pixels, at most 256."""
        if not self.ends:
            return self.distinct
        found = levels.of(np.dtype("u2" if self.unsigned else "f8"))
        # Without a pool's, of unsigned numbers the whole range of 16 bits; of others their own.
        black, white = found or ((0.0, 65535.0) if self.unsigned else (self.ends[0], self.ends[-1]))
        seen = np.clip([self.ends[SHARES.index(LOW)], self.ends[SHARES.index(HIGH)]], black, white)
        return int(min(self.distinct, (seen[1] - seen[0]) / ((white - black) or 1.0) * 255 + 1))


def note(values: npt.NDArray[Any], nodata: float | None = None) -> Note | None:
    """Return what is to be known of a file's values for the levels of its pool, None if none was measured.

    Parameters
    ----------
    values : array of any shape
        Integers or floats.
    nodata : float, optional
        What stands for "not measured".
    """
    flat = values.reshape(-1)
    measured = np.isfinite(flat) if flat.dtype.kind == "f" else None
    if nodata is not None:
        with np.errstate(over="ignore"):
            told = flat != (flat.dtype.type(nodata) if flat.dtype.kind == "f" else nodata)
        measured = told if measured is None else measured & told
    if measured is not None and not measured.all():
        flat = flat[measured]
    if not flat.size:
        return None
    # Not a divisor of a row, which would look at one column.
    step = -(-flat.size // MOST_VALUES) | 1
    some = np.sort(flat[::step])
    # The value at or below which so many are, none in between.
    at = np.clip(np.ceil(np.array(SHARES) * some.size).astype(int) - 1, 0, some.size - 1)
    ends = [float(value) for value in some[at]]
    ends[0], ends[-1] = float(flat.min()), float(flat.max())
    return Note(flat.dtype.kind == "u", 1 + int(np.count_nonzero(some[1:] != some[:-1])), tuple(ends))


def pool_levels(notes: Iterable[Note], white: White = "auto") -> Levels:
    """Return the levels of a pool.

    Parameters
    ----------
    notes : iterable of Note
        Of its files; none has a say whose file tells its own white.
    white : "auto", "percentile" or float
        A number is white, and 0 black, for all. ``percentile``: black and white leave a thousandth of all values below
        and above. ``auto``: this for floats and numbers with a sign; for others black is 0 and white the largest number
        of 10, 12, 14 or 16 bits (more if there are any) that none is above.
    """
    unsigned, others = list[Note](), list[Note]()
    for each in notes:
        if each.ends:
            (unsigned if each.unsigned else others).append(each)
    if not isinstance(white, str):
        low, high = (0.0, float(white)) if others else (None, None)
        return Levels(white=float(white) if unsigned else None, high=high, low=low)
    low, high = _percentiles(others)
    if white == "percentile":
        black, brightest = _percentiles(unsigned)
    else:
        black, brightest = 0.0, _full(largest(unsigned)) if unsigned else None
    return Levels(white=brightest, black=black or 0.0, high=high, low=low)


def largest(notes: Iterable[Note]) -> float:
    """Return the largest number without a sign that has no white of its file, 0 if there is none."""
    return max((each.ends[-1] for each in notes if each.unsigned and each.ends), default=0.0)


def _full(value: float) -> float:
    whole = int(value)
    return float(next((2**bits - 1 for bits in BITS if whole < 2**bits), 2 ** whole.bit_length() - 1))


def _percentiles(notes: list[Note]) -> tuple[float | None, float | None]:
    """Return the values below and above which a thousandth is, each file counting the same."""
    if not notes:
        return None, None
    values = np.array([each.ends for each in notes]).reshape(-1)
    weights = np.tile(np.diff(SHARES, prepend=0.0), len(notes)) / len(notes)
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    # Sums of fractions are not exact.
    low, high = (values[order][int(np.searchsorted(below, share - 1e-9))] for share in (LOW, HIGH))
    return float(low), float(high)

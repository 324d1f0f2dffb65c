"""What was read of many files as columns: most of the memory of a scan, so they are kept small."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pandas.api.extensions import ExtensionArray

from al_pipeline.core.data.reading import Reading

# Texts that differ from file to file and that few look at. All in one block they take a third of what as many objects
# of Python's would: 200 MB less for a million files.
TEXTS = frozenset({"pixels", "phash", "taken"})

_TEXT = pd.StringDtype("pyarrow", na_value=np.nan)
_NOTHING = Reading()


def objects(values: Collection[Any]) -> npt.NDArray[np.object_]:
    """Return values as an array of objects, shape (n,)."""
    return np.fromiter(values, dtype=object, count=len(values))


def column_of(name: str, readings: Sequence[Reading]) -> npt.NDArray[Any] | pa.Array:
    """Return what readings have in one column."""
    values = [getattr(reading, name) for reading in readings]
    if name in TEXTS:
        return pa.array(values, pa.large_string())
    return np.array(values, dtype=np.int64) if isinstance(getattr(_NOTHING, name), int) else objects(values)


def column(name: str, n: int, pieces: Iterable[tuple[npt.NDArray[np.int64], Any]]) -> npt.NDArray[Any] | ExtensionArray:
    """Return a column of n rows.

    Parameters
    ----------
    name : str
        Of `Reading`.
    n : int
    pieces : iterable of pairs of arrays, shape (m,)
        Rows, each in one piece at most, and what they have, of NumPy or of Arrow. Rows in none have what an empty
        `Reading` has.

    Returns
    -------
    array, shape (n,)
        int64 or object; of `TEXTS` pandas' own strings, NaN where there is none.
    """
    default = getattr(_NOTHING, name)
    if name not in TEXTS:
        values = np.full(n, default, dtype=np.int64 if isinstance(default, int) else object)
        for rows, some in pieces:
            values[rows] = some.to_pandas().to_numpy() if isinstance(some, pa.Array) else some
        return values
    at, texts, first = np.full(n, -1), [], 0
    for rows, some in pieces:
        at[rows] = np.arange(first, first + len(rows))
        texts.append(some.cast(pa.large_string()))
        first += len(rows)
    found = pa.chunked_array(texts, pa.large_string()).take(pa.array(at, mask=at < 0))
    # What writing and joining have taken would stay with Arrow.
    texts.clear()
    pa.default_memory_pool().release_unused()
    return pd.array(found if default is None else found.fill_null(default), dtype=_TEXT)

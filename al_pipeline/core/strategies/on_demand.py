"""Features of candidates that are read when they are asked for: of a million a strategy may look at some thousands."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


class OnDemand:
    """Features, shape (n, d), float32 and finite, of which some rows are read at a time, or all.

    Parameters
    ----------
    n : int
    read : callable
        Returns the features of the rows it is given.
    """

    def __init__(self, n: int, read: Callable[[Rows], Vectors]) -> None:
        self._n, self._read = n, read

    def __len__(self) -> int:
        """Return n."""
        return self._n

    def __getitem__(self, rows: Any) -> Vectors:
        """Return the features of some rows: numbers, a mask or a slice."""
        return self._read(np.arange(self._n)[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return all."""
        return np.asarray(self._read(np.arange(self._n)), dtype=dtype)

    @cached_property
    def shape(self) -> tuple[int, int]:
        """n and d."""
        return self._n, self._read(np.arange(min(1, self._n))).shape[1]

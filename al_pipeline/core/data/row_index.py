"""Which row a sample is in, for as many samples as fit into memory: 44 bytes each."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from al_pipeline.core.data.row_file import Ids

Rows = npt.NDArray[np.int64]

# Odd, and like nothing in ids: equal sums of different ids are rare, and told apart.
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], dtype=np.uint64)

# How many follow one that is searched, if they are asked for in order.
_AHEAD = 32


class RowIndex:
    """Rows of several tables, numbered through, by sample id; a sample in two of them counts where it is first.

    Parameters
    ----------
    tables : sequence of bytes arrays
        Sample ids.
    """

    def __init__(self, tables: Sequence[Ids]) -> None:
        #: The first row of each table, and one more.
        self.starts: Rows = np.cumsum([0, *map(len, tables)])
        self.ids: Ids = np.concatenate([np.empty(0, dtype="S32"), *tables])
        sums = _sums(self.ids)
        order = np.argsort(sums)
        self._sums = sums[order]
        self._distinct = not (self._sums[1:] == self._sums[:-1]).any()
        if not self._distinct:
            # Which of equals comes first is known of a stable order only, which takes longer.
            order = np.argsort(sums, kind="stable")
        self._order = order.astype(np.int32)

    def find(self, ids: Ids) -> Rows:
        """Return the row of each sample, -1 where there is none."""
        if not self._distinct or not len(self.ids):
            return self._search(ids)
        # Many are asked for in the order in which they are stored: then one tells of those after it.
        ahead = np.arange(len(ids)) % _AHEAD
        rows = np.minimum(np.repeat(self._search(ids[::_AHEAD]), _AHEAD)[: len(ids)] + ahead, len(self.ids) - 1)
        others = np.flatnonzero(self.ids[rows] != ids)
        rows[others] = self._search(ids[others])
        return rows

    def _search(self, ids: Ids) -> Rows:
        sums = _sums(ids)
        # In ascending order: what is near each other is in the processor's cache.
        order = np.argsort(sums)
        at = np.empty(len(ids), dtype=np.int64)
        at[order] = np.searchsorted(self._sums, sums[order])
        found, left = np.full(len(ids), -1, dtype=np.int64), np.arange(len(ids))
        while len(left := left[at[left] < len(self._sums)]) and len(left := left[self._sums[at[left]] == sums[left]]):
            rows = self._order[at[left]]
            same = self.ids[rows] == ids[left]
            found[left[same]] = rows[same]
            left = left[~same]
            at[left] += 1
        return found


def _sums(ids: Ids) -> npt.NDArray[np.uint64]:
    """Return a number for each id by which it is looked up."""
    return np.ascontiguousarray(ids).view("<u8").reshape(-1, len(_FACTORS)) @ _FACTORS

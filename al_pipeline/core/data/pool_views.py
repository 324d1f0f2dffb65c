"""How the samples of a pool are looked at: what one has in a column, its place, some of them, those of the pool."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from al_pipeline.core.data.row_file import Ids, texts_of

if TYPE_CHECKING:
    from al_pipeline.core.data.known_pool import KnownPool

# Samples that are looked up one by one.
SEARCHED = 1000


class Column(Mapping[str, Any]):
    """What each sample has in a column, of those that have something there.

    Parameters
    ----------
    places : dict
        Sample id → place.
    values : pyarrow.Array
    """

    def __init__(self, places: Mapping[str, int], values: pa.Array) -> None:
        self._places, self._values = places, values

    def __getitem__(self, sample_id: str) -> Any:
        """Return the sample's value."""
        value = self._values[self._places[sample_id]].as_py()
        if value is None:
            raise KeyError(sample_id)
        return value

    def __contains__(self, sample_id: object) -> bool:
        """Say whether the sample has a value."""
        place = self._places.get(sample_id)  # type: ignore[call-overload]
        return place is not None and (not self._values.null_count or self._values[place].is_valid)

    def __iter__(self) -> Iterator[str]:
        """Go through the samples, in the order of the manifest."""
        if not self._values.null_count:
            return iter(self._places)
        there = self._values.is_valid().to_numpy(zero_copy_only=False)
        return (sample for sample, own in zip(self._places, there, strict=True) if own)

    def __len__(self) -> int:
        """Return how many samples have a value."""
        return len(self._values) - self._values.null_count

    def to_dict(self) -> dict[str, Any]:
        """Return the same as a dictionary, which takes a tenth of the time that going through all would."""
        values = zip(self._places, self._values.to_pylist(), strict=True)
        return {sample: value for sample, value in values if value is not None}


class Members(Set[str]):
    """The samples of the pool, without those of the holdout.

    Parameters
    ----------
    pool : KnownPool
    """

    def __init__(self, pool: "KnownPool") -> None:
        self._pool = pool

    def __contains__(self, sample_id: object) -> bool:
        """Say whether a sample is there and belongs to the pool."""
        place = self._pool.place.get(sample_id)  # type: ignore[call-overload]
        return place is not None and bool(self._pool.in_pool[place])

    def __iter__(self) -> Iterator[str]:
        """Go through them, in the order of the manifest."""
        return iter(self._pool.ids[self._pool.in_pool].tolist())

    def __len__(self) -> int:
        """Return how many there are."""
        return int(np.count_nonzero(self._pool.in_pool))

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> set[Any]:  # type: ignore[override]
        return set(it)


class ByText(Mapping[str, int]):
    """The place of each sample: searched for, until so many were asked for that a dictionary pays.

    Parameters
    ----------
    pool : KnownPool
    """

    def __init__(self, pool: "KnownPool") -> None:
        self._pool, self._searched = pool, 0

    def __getitem__(self, sample_id: str) -> int:
        """Return the sample's place."""
        if self._searched >= SEARCHED:
            return self._pool.by_text[sample_id]
        self._searched += 1
        place = int(self._pool.places([sample_id])[0])
        if place < 0:
            raise KeyError(sample_id)
        return place

    def __iter__(self) -> Iterator[str]:
        """Go through the samples, in the order of the manifest."""
        return iter(self._pool.ids.tolist())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._pool.ids)


class Subset(Sequence[str]):
    """Samples of a pool by their places: an id becomes a text when it is looked at, of a million it never need be.

    Parameters
    ----------
    pool : KnownPool
    places : int64 array, shape (n,)
    """

    def __init__(self, pool: "KnownPool", places: npt.NDArray[np.int64]) -> None:
        self.pool, self.places = pool, places

    def __len__(self) -> int:
        """Return n."""
        return len(self.places)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice | npt.NDArray[Any]) -> "Subset": ...
    def __getitem__(self, row: Any) -> "str | Subset":
        """Return the id of a row; of several rows, a mask or numbers, who they are."""
        places = self.places[row]
        return Subset(self.pool, places) if isinstance(places, np.ndarray) else str(self.pool.ids[places])

    def __iter__(self) -> Iterator[str]:
        """Go through the ids."""
        return iter(self.pool.ids[self.places].tolist())

    @cached_property
    def keys(self) -> Ids:
        """The ids as they stand in files."""
        return self.pool.keys[self.places]

    @property
    def texts(self) -> pa.Array:
        """The ids as Arrow's texts."""
        return texts_of(self.keys)

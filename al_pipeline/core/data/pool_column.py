"""What each sample of a pool has in a column of its manifest."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa


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

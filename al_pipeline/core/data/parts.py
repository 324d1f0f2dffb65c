"""Parts of a pool by the first two digits of sample ids: what several processes share the work on features by."""

from collections.abc import Iterator, Sequence

#: Ids are hashes: all parts of a pool are about as large.
PARTS = tuple(f"{number:02x}" for number in range(256))


def part_of(sample_id: str) -> str:
    """Return the part that a sample is in."""
    return sample_id[:2]


def pieces(sample_ids: Sequence[str], most: int) -> Iterator[list[str]]:
    """Yield samples of consecutive parts, as many whole parts as `most` samples hold, in the order given.

    A part of more than `most` samples is a piece by itself.
    """
    parts: dict[str, list[int]] = {}
    for row, sample_id in enumerate(sample_ids):
        parts.setdefault(part_of(sample_id), []).append(row)
    rows = list[int]()
    for part in sorted(parts):
        if rows and len(rows) + len(parts[part]) > most:
            yield [sample_ids[row] for row in sorted(rows)]
            rows = []
        rows += parts[part]
    if rows:
        yield [sample_ids[row] for row in sorted(rows)]

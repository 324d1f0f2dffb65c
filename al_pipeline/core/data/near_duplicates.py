"""Which pictures look alike: frames of a burst, a copy that was resized, retouched or saved again.

The perceptual hash finds candidates, and small gray thumbnails decide: their edges are laid over each other, also a
little moved. How alike is alike enough is read off the pictures themselves. Digits, or parts on one conveyor belt, all
look alike: there only what is nearly the same counts.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 16
# Frames of a burst move by some hundredths of their width; two places are an eighth of it.
SHIFT = 2
# Measured: of 1,600 pairs of moved frames 98 % are at least this alike, of 400,000 pairs of unrelated photos 3.
LEAST_ALIKE = 0.65
# What is this alike is the same picture anywhere, for all that thumbnails can tell.
SAME = 0.98
# Deviations above what pairs of the set are anyway: photos reach LEAST_ALIKE by it, digits pass SAME.
ABOVE_CHANCE = 6.0
# Frames that were taken in the same moment have to look somewhat alike only.
ABOVE_CHANCE_IN_BURST = 2.5
# Unrelated pictures are 32 bits apart, give or take 4.
MOST_BITS = 20
# Bounds on the work: the pairs that the hash lets through.
PAIRS_PER_PICTURE, MOST_PAIRS = 10, 3_000_000
COARSELY_ALIKE = 0.6
# Pieces that stay in a core's cache.
ROWS, COLUMNS, PART = 8, 16384, 1000
# A picture with less contrast than that, in gray levels, is a plain one: noise is not compared.
LEAST_EDGES = 1.0

Pairs = npt.NDArray[np.int64]
Likeness = npt.NDArray[np.float32]


def thumbnail(image: Image.Image) -> bytes:
    """Return the 16 × 16 gray levels by which pictures are compared, row by row."""
    return image.resize((SIDE, SIDE), Image.Resampling.BOX).convert("L").tobytes()


@dataclass(frozen=True)
class Looks:
    """What n pictures look like.

    Attributes
    ----------
    hashes : uint64 array, shape (n,)
        Perceptual hashes of 64 bits.
    thumbnails : uint8 array, shape (n, 256)
        Of `thumbnail`.
    workers : int
        Threads.
    """

    hashes: npt.NDArray[np.uint64]
    thumbnails: npt.NDArray[np.uint8]
    workers: int = 2

    def pairs(self, new: npt.NDArray[np.bool_] | None = None) -> tuple[Pairs, Likeness]:
        """Return the pairs of pictures that look alike, and how much.

        Every pair within the bits is looked at; n² / 2 comparisons of 8 bytes, in blocks.

        Parameters
        ----------
        new : bool array, shape (n,), optional
            Only pairs with at least one of these.

        Returns
        -------
        int64 array, shape (m, 2)
            Rows, the first below the second.
        float32 array, shape (m,)
        """
        if len(self.hashes) < 2:
            return np.empty((0, 2), np.int64), np.empty(0, np.float32)
        candidates = np.concatenate([np.empty((0, 2), np.int64), *self._candidates(new)])
        found = self._in_parts(self._coarsely_alike, candidates)
        likeness = self.likeness(found)
        enough = likeness >= self.least_alike
        return found[enough], likeness[enough]

    def likeness(self, pairs: Pairs) -> Likeness:
        """Return how alike pairs look, −1 to 1: the correlation of their edges where they fit best, 0 for plain ones.

        Parameters
        ----------
        pairs : int64 array, shape (m, 2)

        Returns
        -------
        float32 array, shape (m,)
        """
        return self._in_parts(self._likeness, pairs)

    def _likeness(self, pairs: Pairs) -> Likeness:
        rows, at = np.unique(pairs, return_inverse=True)
        edges = _edges(self.thumbnails[rows].reshape(-1, SIDE, SIDE).astype(np.float32))
        power = _sums((edges**2).sum(axis=3))
        one, other = at.reshape(pairs.shape).T
        first, second = edges[one], edges[other]
        best = np.zeros(len(pairs), np.float32)
        for down, right in product(range(-SHIFT, SHIFT + 1), repeat=2):
            here, there = _window(down, right), _window(-down, -right)
            fit = np.einsum("ijkl,ijkl->i", first[:, *here], second[:, *there])
            of_one, of_other = _sum(power, *here)[one], _sum(power, *there)[other]
            pixels = (SIDE - 1 - abs(down)) * (SIDE - 1 - abs(right))
            seen = np.flatnonzero(np.minimum(of_one, of_other) > LEAST_EDGES * pixels)
            best[seen] = np.maximum(best[seen], fit[seen] / np.sqrt(of_one[seen] * of_other[seen]))
        return best

    @cached_property
    def least_alike(self) -> float:
        """How alike pictures of this set have to be to count as the same scene."""
        middle, spread = self._chance
        return min(SAME, max(LEAST_ALIKE, middle + ABOVE_CHANCE * spread))

    @cached_property
    def least_alike_in_burst(self) -> float:
        """How alike frames have to be that were taken in the same moment."""
        middle, spread = self._chance
        return min(self.least_alike, middle + ABOVE_CHANCE_IN_BURST * spread)

    @cached_property
    def _chance(self) -> tuple[float, float]:
        """Middle and spread of how alike random pairs are, by quartiles: bursts are few of all pairs."""
        likeness = self.likeness(_random_pairs(len(self.hashes), 4_000))
        middle, upper = np.quantile(likeness, [0.5, 0.75])
        # The upper quartile of a normal distribution is 0.674 deviations above its middle.
        return float(middle), float((upper - middle) / 0.674)

    def _candidates(self, new: npt.NDArray[np.bool_] | None) -> Iterator[Pairs]:
        n, bits = len(self.hashes), self._bits()
        rows = np.arange(n) if new is None else np.flatnonzero(new)
        blocks = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]

        def within(block: npt.NDArray[np.int64]) -> Pairs:
            own, found = self.hashes[block, None], []
            for start in range(0, n if new is not None else int(block[-1]) + 1, COLUMNS):
                near = np.bitwise_count(own ^ self.hashes[start : start + COLUMNS]) <= bits
                here, there = np.divmod(np.flatnonzero(near), near.shape[1])
                found.append(np.stack([block[here], there + start], axis=1))
            pairs: Pairs = np.concatenate(found)
            # A pair of two new rows is found twice, and kept once: by its second row.
            once = pairs[:, 1] < pairs[:, 0]
            if new is not None:
                once |= ~new[pairs[:, 1]]
            return np.sort(pairs[once], axis=1)

        with ThreadPoolExecutor(self.workers) as pool:
            yield from pool.map(within, blocks)

    def _bits(self) -> int:
        """Return how many bits the hashes of a pair may differ by: fewer where too many pairs would have to be seen."""
        n = len(self.hashes)
        pairs = _random_pairs(n, 2_000_000)
        apart = np.bitwise_count(self.hashes[pairs[:, 0]] ^ self.hashes[pairs[:, 1]])
        within = np.cumsum(np.bincount(apart, minlength=65)) / len(pairs) * (n * (n - 1) / 2)
        few = within <= min(PAIRS_PER_PICTURE * n, MOST_PAIRS)
        return int(min(MOST_BITS, max(0, few.sum() - 1)))

    def _coarsely_alike(self, pairs: Pairs) -> Pairs:
        """Return the pairs whose gray levels and edges are alike at half the size, where moving matters little."""
        rows, at = np.unique(pairs, return_inverse=True)
        half = SIDE // 2
        small = self.thumbnails[rows].reshape(-1, half, 2, half, 2).mean(axis=(2, 4), dtype=np.float32)
        looks = np.concatenate([_unit(small), _unit(_edges(small))], axis=1)
        one, other = (looks[rows] for rows in at.reshape(pairs.shape).T)
        return pairs[np.einsum("ij,ij->i", one, other) / 2 >= COARSELY_ALIKE]

    def _in_parts(self, work: Callable[[Pairs], npt.NDArray[Any]], pairs: Pairs) -> npt.NDArray[Any]:
        with ThreadPoolExecutor(self.workers) as pool:
            return np.concatenate(list(pool.map(work, np.array_split(pairs, len(pairs) // PART + 1))))


def _random_pairs(n: int, most: int) -> Pairs:
    """Return pairs of different rows: all if they are at most `most`, else so many, always the same."""
    if n * (n - 1) // 2 <= most:
        return np.stack(np.triu_indices(n, 1), axis=1)
    rng = np.random.default_rng(0)
    one = rng.integers(0, n, most)
    return np.stack([one, (one + rng.integers(1, n, most)) % n], axis=1)


def _unit(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _edges(gray: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return how gray levels, shape (m, h, w), change to the right and down: float32, shape (m, h - 1, w - 1, 2).

    Less the mean change, so that a sky that grows lighter is as plain as any.
    """
    corner = gray[:, :-1, :-1]
    edges = np.stack([gray[:, :-1, 1:] - corner, gray[:, 1:, :-1] - corner], axis=3)
    return edges - edges.mean(axis=(1, 2), keepdims=True)


def _window(down: int, right: int) -> tuple[slice, slice]:
    """Return the part of an image that a moved one covers."""
    return tuple(slice(max(0, by), SIDE - 1 + min(0, by)) for by in (down, right))  # type: ignore[return-value]


def _sums(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the sums of all upper left corners, shape (m, 16, 16) for (m, 15, 15)."""
    return np.pad(values.cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))


def _sum(sums: npt.NDArray[np.float32], rows: slice, columns: slice) -> npt.NDArray[np.float32]:
    """Return the sums over a window."""
    top, bottom = sums[:, rows.start], sums[:, rows.stop]
    left, right = columns.start, columns.stop
    return bottom[:, right] - bottom[:, left] - top[:, right] + top[:, left]

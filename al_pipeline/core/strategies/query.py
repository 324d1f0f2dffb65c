"""What a strategy sees of one query, and how candidates are taken from it: best first, class quotas, no duplicates."""

from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from al_pipeline.core.errors import InputError
from al_pipeline.core.strategies.on_demand import OnDemand
from al_pipeline.core.strategies.utilities import Floats, Utility, block_rows

Indices = npt.NDArray[np.int64]
# Rows and their scores, one by one; what is sent is whether the row was taken.
Proposals = Generator[tuple[int, float], bool | None]

# Best-first lists that run out (near-duplicates were passed over) are made anew, this many times as long.
LONGER = 4
# Features that are read one by one for `dedup`; who needs more reads all.
SINGLE = 1000


@dataclass(frozen=True)
class Picks:
    """What a strategy answers, and what `select` hands on as a `Selection`.

    Attributes
    ----------
    indices : int64 array, shape (b,)
        Rows of the candidates, unique, in query order.
    scores : float64 array, shape (b,)
        The utility each was chosen for; NaN where there is none.
    propensities : float64 array, shape (b,), optional
        The probability with which each was drawn; None for a deterministic strategy.
    """

    indices: Indices
    scores: npt.NDArray[np.float64]
    propensities: npt.NDArray[np.float64] | None = None


def best(utility: Floats, count: int) -> Indices:
    """Return the positions of the `count` highest utilities, highest first, in O(n); of equal ones the first wins."""
    n = len(utility)
    if count <= 0:
        return np.empty(0, np.int64)
    if count >= n:
        chosen = np.arange(n)
    else:
        threshold = np.partition(utility, n - count)[n - count]
        above = np.flatnonzero(utility > threshold)
        tied = np.flatnonzero(utility == threshold)[: count - len(above)]
        chosen = np.sort(np.concatenate([above, tied]))
    return chosen[np.argsort(-utility[chosen], kind="stable")]


def best_of_blocks(utility: Utility, n: int, rows: int, count: int) -> tuple[Indices, npt.NDArray[np.float64]]:
    """Return what `best` returns, and the utilities, of utilities that are computed block by block and never held."""
    indices, values = np.empty(0, np.int64), np.empty(0)
    threshold = -np.inf
    for start in range(0, n, rows):
        block = utility(start, min(n, start + rows))
        # A later one that equals the worst so far comes too late.
        better = np.flatnonzero(block > threshold) if len(indices) >= count else np.arange(len(block))
        if not len(better):
            continue
        indices = np.concatenate([indices, start + better])
        values = np.concatenate([values, block[better]])
        if len(indices) > 2 * count + rows // 4 or start + rows >= n:
            kept = np.sort(best(values, count))
            indices, values = indices[kept], values[kept]
        if len(indices) >= count:
            threshold = np.partition(values, len(values) - count)[len(values) - count]
    order = best(values, count)
    return indices[order], values[order]


class Query:
    """One query: the candidates, how many to take, and what must not be taken.

    A strategy reads the inputs and calls `take`, once or several times, or chooses row after row and asks `admit`
    about each (`take_proposed` does so); a candidate is taken at most once.

    Parameters
    ----------
    n : int
        Number of candidates.
    batch_size : int
        Between 1 and n.
    rng : numpy.random.Generator
    probabilities : float array, shape (n, K), optional
    samples : float array, shape (T, n, K), optional
        Probabilities of T stochastic passes or heads, of which `probabilities` is the mean.
    embeddings : float array, shape (n, d), or OnDemand, optional
    labeled_embeddings : float array, shape (m, d), optional
    excluded : int64 array, optional
        Rows that are in the batch already; `labeled_embeddings` holds theirs.
    balanced : bool
        Whether each predicted class has an equal quota of the batch; reads `probabilities`.
    dedup : float, optional
        The largest cosine similarity that two samples of a batch may have; reads `embeddings`.
    """

    def __init__(
        self,
        *,
        n: int,
        batch_size: int,
        rng: np.random.Generator,
        probabilities: Floats | None = None,
        samples: Floats | None = None,
        embeddings: Floats | OnDemand | None = None,
        labeled_embeddings: Floats | None = None,
        excluded: Indices | None = None,
        balanced: bool = False,
        dedup: float | None = None,
    ) -> None:
        self.n, self.batch_size, self.rng = n, batch_size, rng
        self._samples, self.labeled_embeddings = samples, labeled_embeddings
        self._probabilities, self._embeddings = probabilities, embeddings
        self._dedup, self._looked_at = dedup, 0
        self._directions: list[npt.NDArray[np.float64]] = []
        self._taken: set[int] = set()
        self._classes = _Classes(self.probabilities, batch_size, rng) if balanced else None
        if excluded is not None:
            for row in excluded:
                self._note(int(row))
            if self._classes is not None:
                self._classes.remove(excluded)

    @property
    def probabilities(self) -> Floats:
        """Class probabilities, shape (n, K)."""
        if self._probabilities is None:
            raise InputError("probabilities are missing: this strategy, or balanced=True, cannot do without them")
        return self._probabilities

    @property
    def samples(self) -> Floats:
        """Class probabilities of several passes, shape (T, n, K)."""
        if self._samples is None:
            raise InputError("probabilities of several passes are missing: this strategy cannot do without them")
        return self._samples

    @property
    def has_probabilities(self) -> bool:
        """Whether there is a model's prediction to go by."""
        return self._probabilities is not None

    @property
    def has_embeddings(self) -> bool:
        """Whether features are given."""
        return self._embeddings is not None

    @property
    def embeddings(self) -> Floats:
        """Features, shape (n, d)."""
        found = self._embeddings
        if found is None:
            raise InputError("embeddings are missing: this strategy, or dedup, cannot do without them")
        if isinstance(found, OnDemand):
            self._embeddings = found = np.asarray(found)
        return found

    def features(self, rows: Indices) -> Floats:
        """Return the features of some rows, shape (r, d); all in their order are `embeddings`, and not copied."""
        if len(rows) == self.n or not isinstance(self._embeddings, OnDemand):
            found = self.embeddings
            return found if len(rows) == self.n and (rows == np.arange(self.n)).all() else found[rows]
        return self._embeddings[rows]

    @property
    def taken(self) -> Indices:
        """Rows that must not be taken again."""
        return np.array(sorted(self._taken), dtype=np.int64)

    @property
    def free(self) -> Indices:
        """Rows that may be taken."""
        return np.setdiff1d(np.arange(self.n), self.taken)

    @property
    def block_rows(self) -> int:
        """How many candidates to look at together."""
        return block_rows(1 if self._probabilities is None else self._probabilities.shape[1])

    def every(self, utility: Utility) -> npt.NDArray[np.float64]:
        """Return the utilities of all candidates, shape (n,)."""
        rows = self.block_rows
        return np.concatenate([utility(start, min(self.n, start + rows)) for start in range(0, self.n, rows)])

    @property
    def reach(self) -> int:
        """How far down the list of the best `take` may go for a whole batch; the end if some may be passed over."""
        if self._dedup is not None or self._classes is not None:
            return self.n
        return min(self.n, self.batch_size + len(self._taken))

    def admit(self, row: int) -> bool:
        """Take a row unless it was taken before or is too close to one of the batch; say whether it is taken."""
        if row in self._taken:
            return False
        if self._dedup is not None:
            direction = self._direction(row)
            for other in self._directions:
                # Two zero vectors have no angle between them, but they are the same.
                same = not direction.any() and not other.any()
                if same or float(direction @ other) > self._dedup:
                    return False
        self._note(row)
        return True

    def take_proposed(self, proposals: Proposals) -> Picks:
        """Take the rows that are proposed and that `admit` lets pass, until the batch is full or no other comes."""
        rows: list[int] = []
        scores: list[float] = []
        taken = None
        with suppress(StopIteration):
            while len(rows) < self.batch_size:
                row, score = proposals.send(taken)
                taken = self.admit(row)
                if taken:
                    rows.append(row)
                    scores.append(score)
        return Picks(np.array(rows, dtype=np.int64), np.array(scores))

    def _note(self, row: int) -> None:
        self._taken.add(row)
        if self._dedup is not None:
            self._directions.append(self._direction(row))

    def _direction(self, row: int) -> npt.NDArray[np.float64]:
        self._looked_at += 1
        one = self.embeddings[row] if self._looked_at > SINGLE else self.features(np.array([row]))[0]
        vector = one.astype(np.float64)
        length = np.linalg.norm(vector)
        return vector / length if length > 0 else vector

    def take(self, utility: Utility, count: int) -> Picks:
        """Take the best candidates that are left, within the class quotas.

        Classes are served in turns, one candidate each, so that a prefix of the batch is as balanced as the whole.
        Seats that no class can fill within its quota go to the best candidates of any class.

        Parameters
        ----------
        utility : callable
            Returns the finite float64 utilities of the rows from start to stop; higher is taken earlier, and of equal
            ones the first row.
        count : int
            How many; fewer are returned when fewer are left.

        Returns
        -------
        Picks
            Its propensities are those of a lottery: the probability of each candidate to be taken by this call had
            all utilities been drawn at random, given the number of seats of its class. A strategy that is no lottery
            drops them.
        """
        if self._classes is None:
            left = self.n - len(self._taken)
            indices, scores = self._best(utility, min(count, left))
            return Picks(indices, scores, np.full(len(indices), min(1.0, count / max(1, left))))
        values, classes = self.every(utility), self._classes
        sequence = classes.serve(count)
        seats = np.bincount(sequence, minlength=classes.count)
        first = np.divide(seats, classes.left, out=np.zeros(len(seats)), where=classes.left > 0)
        indices = np.full(len(sequence), -1, np.int64)
        for label in np.flatnonzero(seats):
            rows = classes.rows(int(label))
            found, _ = self._best_of(values, np.setdiff1d(rows, self.taken), int(seats[label]))
            indices[np.flatnonzero(sequence == label)[: len(found)]] = found
        indices = indices[indices >= 0]
        classes.remove(indices, seats)
        rest = self.free
        refill = min(count - len(indices), len(rest))
        second = refill / len(rest) if refill > 0 else 0.0
        if refill > 0:
            extra, _ = self._best_of(values, rest, refill)
            classes.remove(extra)
            indices = np.concatenate([indices, extra])
        of_class = first[classes.of[indices]]
        return Picks(indices, values[indices], of_class + (1 - of_class) * second)

    def _best(self, utility: Utility, count: int) -> tuple[Indices, npt.NDArray[np.float64]]:
        """Take the best of all rows, block by block."""
        kept: list[int] = []
        seen, length = 0, count + len(self._taken)
        while True:
            indices, values = best_of_blocks(utility, self.n, self.block_rows, length)
            # A longer list begins like the shorter one: it is walked on from where that ended.
            for position in range(seen, len(indices)):
                if len(kept) == count:
                    break
                if self.admit(int(indices[position])):
                    kept.append(position)
            if len(kept) == count or length >= self.n:
                return indices[kept].astype(np.int64, copy=False), values[kept]
            seen, length = len(indices), length * LONGER

    def _best_of(
        self, values: npt.NDArray[np.float64], rows: Indices, count: int
    ) -> tuple[Indices, npt.NDArray[np.float64]]:
        order = rows[best(values[rows], count if self._dedup is None else len(rows))]
        kept: list[int] = []
        for row in order:
            if len(kept) == count:
                break
            if self.admit(int(row)):
                kept.append(int(row))
        return np.array(kept, dtype=np.int64), values[kept]


class _Classes:
    """Equal quotas of the predicted classes."""

    def __init__(self, probabilities: Floats, batch_size: int, rng: np.random.Generator) -> None:
        self.count = probabilities.shape[1]
        # numpy sorts small integers by radix: the narrow type keeps the grouping linear in n.
        self.of = probabilities.argmax(axis=1).astype(np.min_scalar_type(self.count))
        self.left = np.bincount(self.of, minlength=self.count)
        # The remainder of B / K goes to classes by lot: a fixed order would favour the same class in every round.
        self._order = rng.permutation(self.count)
        self._quotas = np.full(self.count, batch_size // self.count)
        self._quotas[self._order[: batch_size % self.count]] += 1

    @cached_property
    def _sorted(self) -> Indices:
        return np.argsort(self.of, kind="stable")

    @cached_property
    def _starts(self) -> Indices:
        return np.concatenate([[0], np.cumsum(np.bincount(self.of, minlength=self.count))])

    def rows(self, label: int) -> Indices:
        """Return the rows of a class, in input order."""
        return self._sorted[self._starts[label] : self._starts[label + 1]]

    def serve(self, count: int) -> Indices:
        """Return whose turn each of the next seats is: class after class, while quota and candidates last."""
        limits = np.minimum(self._quotas, self.left)[self._order]
        turns = np.arange(limits.sum()) - np.repeat(np.cumsum(limits) - limits, limits)
        return np.repeat(self._order, limits)[np.argsort(turns, kind="stable")][:count]

    def remove(self, indices: Indices, seats: npt.NDArray[np.int64] | int = 0) -> None:
        """Count rows as gone and seats as used."""
        self.left = self.left - np.bincount(self.of[indices], minlength=self.count)
        self._quotas = self._quotas - seats

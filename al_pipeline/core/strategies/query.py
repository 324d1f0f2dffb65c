"""What a strategy sees of one query, and how candidates are taken from it: best first, fair ties, class quotas."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from al_pipeline.core.errors import InputError

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]


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


def best(utility: Floats, count: int, rng: np.random.Generator) -> Indices:
    """Return the rows of the `count` highest utilities, highest first, in O(n).

    Equal utilities are ordered, and cut, by lot: the order of files must not decide whom people are asked about.

    Parameters
    ----------
    utility : float array, shape (n,)
        No NaN.
    count : int
        At least 0; more than n returns all n.
    rng : numpy.random.Generator
    """
    n = len(utility)
    if count <= 0:
        return np.empty(0, np.int64)
    if count >= n:
        chosen = np.arange(n)
    else:
        threshold = np.partition(utility, n - count)[n - count]
        above = np.flatnonzero(utility > threshold)
        tied = np.flatnonzero(utility == threshold)
        chosen = np.concatenate([above, rng.choice(tied, count - len(above), replace=False)])
    chosen = rng.permutation(chosen)
    return chosen[np.argsort(-utility[chosen], kind="stable")].astype(np.int64, copy=False)


class Query:
    """One query: the candidates, how many to take, and the quotas that are left.

    A strategy reads the inputs and calls `take`, once or several times; a candidate is taken at most once.

    Parameters
    ----------
    n : int
        Number of candidates.
    batch_size : int
        Between 1 and n.
    rng : numpy.random.Generator
    probabilities : float array, shape (n, K), optional
    embeddings : float array, shape (n, d), optional
    labeled_embeddings : float array, shape (m, d), optional
    balanced : bool
        Whether each predicted class has an equal quota of the batch; reads `probabilities`.
    """

    def __init__(
        self,
        *,
        n: int,
        batch_size: int,
        rng: np.random.Generator,
        probabilities: Floats | None = None,
        embeddings: Floats | None = None,
        labeled_embeddings: Floats | None = None,
        balanced: bool = False,
    ) -> None:
        self.n, self.batch_size, self.rng = n, batch_size, rng
        self.embeddings, self.labeled_embeddings = embeddings, labeled_embeddings
        self._probabilities = probabilities
        # Without balance there is one group of everybody, with a quota of the whole batch.
        classes = self.probabilities.shape[1] if balanced else 1
        # numpy sorts small integers by radix: the narrow type keeps the grouping linear in n.
        narrow = np.min_scalar_type(classes)
        self._class_of = self.probabilities.argmax(axis=1).astype(narrow) if balanced else np.zeros(n, narrow)
        self._left = np.bincount(self._class_of, minlength=classes)
        # The remainder of B / K goes to classes by lot: a fixed order would favour the same class in every round.
        self._order = rng.permutation(classes) if balanced else np.zeros(1, np.int64)
        self._quotas = np.full(classes, batch_size // classes)
        self._quotas[self._order[: batch_size % classes]] += 1
        self._by_class = np.argsort(self._class_of, kind="stable") if balanced else None
        self._starts = np.concatenate([[0], np.cumsum(self._left)])
        self._taken = np.zeros(n, dtype=bool)

    @property
    def probabilities(self) -> Floats:
        """Class probabilities, shape (n, K)."""
        if self._probabilities is None:
            raise InputError("probabilities are missing: this strategy, or balanced=True, cannot do without them")
        return self._probabilities

    @cached_property
    def certainty(self) -> npt.NDArray[np.float64]:
        """max σ − 1/K of every candidate, shape (n,)."""
        return self.probabilities.max(axis=1).astype(np.float64) - 1 / self.probabilities.shape[1]

    def take(self, utility: npt.NDArray[np.float64], count: int) -> Picks:
        """Take the best candidates that are left, within the class quotas.

        Classes are served in turns, one candidate each, so that a prefix of the batch is as balanced as the whole.
        Seats that no class can fill within its quota go to the best candidates of any class.

        Parameters
        ----------
        utility : float64 array, shape (n,)
            Finite; higher is taken earlier.
        count : int
            How many; fewer are returned when fewer are left.

        Returns
        -------
        Picks
            Its propensities are those of a lottery: the probability of each candidate to be taken by this call had
            all utilities been equal, given the number of seats of its class. A deterministic strategy drops them.
        """
        sequence = self._serve(count)
        seats = np.bincount(sequence, minlength=len(self._left))
        first = np.divide(seats, self._left, out=np.zeros(len(seats)), where=self._left > 0)
        indices = np.empty(len(sequence), np.int64)
        for label in np.flatnonzero(seats):
            indices[sequence == label] = self._best(utility, int(seats[label]), int(label))
        self._remove(indices)
        self._quotas = self._quotas - seats

        left = int(self._left.sum())
        refill = min(count - len(indices), left)
        second = refill / left if refill > 0 else 0.0
        if refill > 0:
            extra = self._best(utility, refill, None)
            self._remove(extra)
            indices = np.concatenate([indices, extra])
        of_class = first[self._class_of[indices]]
        return Picks(indices, utility[indices], of_class + (1 - of_class) * second)

    def _serve(self, count: int) -> Indices:
        """Return whose turn each of the next seats is: class after class, while quota and candidates last."""
        limits = np.minimum(self._quotas, self._left)[self._order]
        turns = np.arange(limits.sum()) - np.repeat(np.cumsum(limits) - limits, limits)
        return np.repeat(self._order, limits)[np.argsort(turns, kind="stable")][:count]

    def _best(self, utility: npt.NDArray[np.float64], count: int, label: int | None) -> Indices:
        """Return the best candidates that are left, of one predicted class or (None) of all."""
        if label is not None and self._by_class is not None:
            rows = self._by_class[self._starts[label] : self._starts[label + 1]]
            rows = rows[~self._taken[rows]]
        elif not self._taken.any():
            return best(utility, count, self.rng)
        else:
            rows = np.flatnonzero(~self._taken)
        return rows[best(utility[rows], count, self.rng)]

    def _remove(self, indices: Indices) -> None:
        self._taken[indices] = True
        self._left = self._left - np.bincount(self._class_of[indices], minlength=len(self._left))

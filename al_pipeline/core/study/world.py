"""What the runs of a seed share: samples, answers and the truth about the holdout."""

from collections.abc import Sequence
from dataclasses import dataclass

from al_pipeline.core.learning.checkpoint import Checkpoint
from al_pipeline.core.study.oracle import SKIPPED
from al_pipeline.core.turn import Given, Rows


@dataclass(frozen=True)
class World:
    """What a seed's runs share.

    Attributes
    ----------
    pool, holdout : Given
        In the order of the ids, as in the real loop, so that a draw depends on the samples and not on where files lie.
    truth : sequence of str, length m
        The holdout's labels.
    tested : sequence of str, length m
        The holdout's groups.
    answers : int64 array, shape (n,)
        Of `oracle.answers`, for the pool.
    class_names : sequence of str, length K
    seed : int
    network : Checkpoint, optional
        The refined network whose features those of pool and holdout are; None: they are of the given weights.
    refined_on : int
        Labels of the last refining, whatever came of it.
    """

    pool: Given
    holdout: Given
    truth: Sequence[str]
    tested: Sequence[str]
    answers: Rows
    class_names: Sequence[str]
    seed: int
    network: Checkpoint | None = None
    refined_on: int = 0

    def labeled(self, asked: Rows) -> Rows:
        """Return those of the rows that got a label."""
        return asked[self.answers[asked] != SKIPPED]

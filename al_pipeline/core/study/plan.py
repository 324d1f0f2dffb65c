"""What an experiment compares, checked when it is made."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.strategies import available

STARTS = ("random", "own")


@dataclass(frozen=True)
class Plan:
    """Runs of the loop, one per strategy and seed, with an oracle in the place of people.

    Attributes
    ----------
    strategies : tuple of str
        Keys of `strategies.available()`; any sequence is taken.
    seeds : tuple of int
    batch_size : int
        B, samples asked about per round.
    sample_size : int or None
        S, candidates scored per round; None scores the whole unlabeled pool.
    options : TrainingOptions
        Without `warm_start`: every turn is trained anew, so that strategies that have asked the same share it.
    rounds : int or None
        Rounds per run. Round 0 has no labels, round k has those of k batches; the last one asks nobody.
    budget : int or None
        Labels per run, instead of rounds: the last batch is cut to fit, and skipped samples cost nothing.
    balanced : bool
        Equal quotas per predicted class.
    explore : float
        Share of each batch that is drawn at random, 0 to 1: see `strategies.select`.
    dedup : float or None
        The largest cosine similarity of two samples of a batch, −1 to 1: see `strategies.select`.
    error_rate : float
        Chance, 0 to 1, that the oracle's answer for a sample is a wrong class, any of the others alike.
    skip_rate : float
        Chance, 0 to below 1, that the oracle skips a sample: it is asked once and never labeled.
    start : str
        What chooses until the first training. ``random``: the same random batch for all strategies of a seed, so that
        they differ by what they do with a model alone. ``own``: each strategy's cold start, as in the real loop.
    stop_set : bool
        Whether the agreement of successive models on a stop set is measured, which rules to stop by need. Without
        features it is up to a third of a turn's time.

    Raises
    ------
    InputError
        An unknown or repeated strategy, a repeated seed, or values that cannot be used or do not fit together.
    """

    strategies: Sequence[str]
    seeds: Sequence[int]
    batch_size: int
    sample_size: int | None
    options: TrainingOptions
    rounds: int | None = None
    budget: int | None = None
    balanced: bool = False
    explore: float = 0.0
    dedup: float | None = None
    error_rate: float = 0.0
    skip_rate: float = 0.0
    start: str = "random"
    stop_set: bool = True

    def __post_init__(self) -> None:
        # Tuples, so that nobody changes them after the checks.
        object.__setattr__(self, "strategies", tuple(self.strategies))
        object.__setattr__(self, "seeds", tuple(self.seeds))
        self._check_lists()
        self._check_sizes()
        self._check_shares()
        if self.start not in STARTS:
            raise InputError(f"unknown start {self.start!r}; choose one of {', '.join(STARTS)}")
        if self.options.warm_start:
            raise InputError(
                "a simulation trains every round from the configured weights, not from the last round's: set "
                "training.warm_start to false"
            )

    def _check_lists(self) -> None:
        unknown = [name for name in self.strategies if name not in available()]
        if unknown or not self.strategies:
            wrong = f"unknown strategy {unknown[0]!r}" if unknown else "no strategy to simulate"
            raise InputError(f"{wrong}; choose from {', '.join(sorted(available()))}")
        for name in self.strategies:
            if self.balanced and not available()[name].balanced:
                raise InputError(f"the strategy {name!r} has no balanced form: leave it or balanced out")
        for what, values in (("strategies", list(self.strategies)), ("seeds", list(self.seeds))):
            if not values or len(set(values)) < len(values):
                raise InputError(f"{what} must be different from each other and at least one, not {values}")
        for seed in self.seeds:
            _whole("a seed", seed, 0)

    def _check_sizes(self) -> None:
        if (self.rounds is None) == (self.budget is None):
            given = "neither is given" if self.rounds is None else f"rounds is {self.rounds}, budget {self.budget}"
            raise InputError(f"a run ends after so many rounds or at a budget of labels: give one of them; {given}")
        for what in ("batch_size", "rounds", "budget"):
            if getattr(self, what) is not None:
                _whole(what, getattr(self, what), 1)
        if self.sample_size is not None:
            _whole("sample_size", self.sample_size, 1)
            if self.sample_size < self.batch_size:
                raise InputError(
                    f"batch_size {self.batch_size} is larger than sample_size {self.sample_size}: raise sample_size"
                )

    def _check_shares(self) -> None:
        for what, low in (("explore", 0), ("error_rate", 0), ("skip_rate", 0), ("dedup", -1)):
            value = getattr(self, what)
            # Written so that NaN, for which every comparison is false, fails too.
            if value is not None and (isinstance(value, bool) or not low <= value <= 1):
                raise InputError(f"{what} must lie between {low} and 1, not {value!r}")
        if math.isclose(self.skip_rate, 1):
            raise InputError("skip_rate must be below 1: an oracle that skips everything gives no label")

    def size(self, number: int, n_labels: int) -> int:
        """Return how many samples are asked about at most in a round that has so many labels."""
        if self.rounds is not None and number + 1 >= self.rounds:
            return 0
        return self.batch_size if self.budget is None else min(self.batch_size, max(0, self.budget - n_labels))

    @property
    def by_head(self) -> bool:
        """Whether heads on features of the given weights may be trained."""
        return self.options.weights != "none" and self.options.mode != "finetune"

    @property
    def by_features(self) -> bool:
        """Whether features of the pool are needed: for heads, guessed labels, strategies or `dedup`."""
        uses = any("embeddings" in available()[name].uses for name in self.strategies)
        return self.by_head or uses or self.dedup is not None or self.options.semi_supervised == "label_propagation"

    @property
    def with_passes(self) -> bool:
        """Whether a strategy goes by an ensemble of heads."""
        return any("passes" in available()[name].needs for name in self.strategies)


def _whole(what: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InputError(f"{what} must be at least {low}, not {value!r}: a whole number")

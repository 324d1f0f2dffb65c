"""What a study compares, checked when it is made."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.options import Options
from al_pipeline.core.strategies import available
from al_pipeline.core.strategies.options import BatchOptions, check_strategy


class StudyOptions(Options):
    """How long a run is, and how the oracle behaves."""

    rounds: int | None = Field(
        default=None,
        ge=1,
        description="Rounds per run, the start without labels included, instead of a budget; the last one asks nobody.",
    )
    budget: int | None = Field(
        default=None,
        ge=1,
        description="Labels per run: the last batch is cut to fit, and skipped samples cost nothing.",
    )
    start: Literal["random", "own"] = Field(
        default="random",
        description="What chooses until the first training: random is the same random batch for all strategies of a "
        "seed; own is each strategy's cold start, as in the real loop.",
    )
    ahead: bool = Field(
        default=False,
        description="Each batch is chosen while the one before is unanswered, as the loop does with prefetch.",
    )
    staged: bool = Field(
        default=False,
        description="The whole network is refined on the labels of a round while people label its batch; the next "
        "round's head and choice go by its features, if held-out labels show it better than the head.",
    )
    error_rate: float = Field(
        default=0.0, ge=0, le=1, description="Chance that a sample's answer is a wrong class, any of the others alike."
    )
    skip_rate: float = Field(
        default=0.0, ge=0, lt=1, description="Chance that a sample is skipped: asked about once and never labeled."
    )


class Plan(StudyOptions, BatchOptions):
    """Runs of the loop, one per strategy and seed, with an oracle in the place of people.

    Beside the options of a batch and of a study:

    Attributes
    ----------
    strategies : tuple of str
        Keys of `strategies.available()`; any sequence is taken.
    seeds : tuple of int
    options : TrainingOptions
        Without `warm_start`: every turn is trained anew, so that strategies that have asked the same share it.
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
    options: TrainingOptions
    stop_set: bool = True

    @field_validator("strategies", "seeds")
    @classmethod
    def _different(cls, values: Sequence[str | int]) -> tuple[str | int, ...]:
        values = tuple(values)
        if not values or len(set(values)) < len(values):
            raise InputError(f"strategies and seeds must be different from each other and at least one, not {values}")
        for value in values:
            if isinstance(value, str):
                check_strategy(value)
            elif value < 0:
                raise InputError(f"a seed must be at least 0, not {value}")
        return values

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        for name in self.strategies:
            self.check_balance(name)
        if (self.rounds is None) == (self.budget is None):
            given = "neither is given" if self.rounds is None else f"rounds is {self.rounds}, budget {self.budget}"
            raise InputError(f"a run ends after so many rounds or at a budget of labels: give one of them; {given}")
        if self.options.warm_start:
            raise InputError(
                "a study trains every round from the configured weights, not from the last round's: set "
                "training.warm_start to false"
            )
        if self.staged and not self.options.may_be_head:
            raise InputError(
                "a staged study refines the network that heads choose with: set training.weights to imagenet or a "
                "path, and training.mode to auto or head"
            )
        return self

    def size(self, number: int, n_labels: int) -> int:
        """Return how many samples are asked about at most in a round that has so many labels."""
        if self.rounds is not None and number + 1 >= self.rounds:
            return 0
        return self.batch_size if self.budget is None else min(self.batch_size, max(0, self.budget - n_labels))

    def waits(self, number: int) -> bool:
        """Say whether the newest batch is still unanswered when a round learns; the last round learns from all."""
        return self.ahead and (self.rounds is None or number + 1 < self.rounds)

    @property
    def by_head(self) -> bool:
        """Whether heads on features of the given weights may be trained."""
        return self.options.may_be_head

    @property
    def by_features(self) -> bool:
        """Whether features of the pool are needed: for heads, guessed labels, strategies or `dedup`."""
        uses = any("embeddings" in available()[name].uses for name in self.strategies)
        apart = self.dedup is not None and self.options.settled_weights != "none"
        return self.by_head or uses or apart or self.options.semi_supervised == "label_propagation"

    @property
    def with_passes(self) -> bool:
        """Whether a strategy goes by an ensemble of heads."""
        return any("passes" in available()[name].needs for name in self.strategies)

"""How a batch is chosen: the options that a round and a study share, and those of a round."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from al_pipeline.core.errors import InputError
from al_pipeline.core.options import Options
from al_pipeline.core.strategies import available


def check_strategy(name: str) -> str:
    """Return the name of a query strategy, or raise InputError with those that there are."""
    if name not in available():
        raise InputError(f"unknown strategy {name!r}; choose one of {', '.join(sorted(available()))}")
    return name


class BatchOptions(Options):
    """How many samples are scored and asked about in a round, and what keeps a batch balanced and apart.

    Raises
    ------
    InputError
        A value cannot be used, or two do not go together.
    """

    batch_size: int = Field(default=8, ge=1, description="B: how many samples people are asked about per round.")
    sample_size: int | None = Field(
        default=80,
        ge=1,
        description="S: how many candidates are drawn at random and scored per round; null (in al.toml and the "
        "environment: all) scores the whole pool. The paper uses 2B, 4B, 5B and 10B.",
    )
    balanced: bool = Field(
        default=False,
        description="Equal quotas per predicted class within the batch; for the strategies that rank candidates one by "
        "one.",
    )
    explore: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the batch that is drawn at random whatever the strategy says; propensities are logged.",
    )
    dedup: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="The largest cosine similarity that the features of two samples of a batch may have: 0.95 keeps "
        "near-duplicates apart; null (in al.toml and the environment: none) allows any. It plays no part without given "
        "weights: to an untrained network all images look alike.",
    )

    @model_validator(mode="after")
    def _batch_fits_sample(self) -> Self:
        if self.sample_size is not None and self.batch_size > self.sample_size:
            raise InputError(
                f"batch_size {self.batch_size} is larger than sample_size {self.sample_size}: "
                "raise sample_size, or set it to null (`all`) to score the whole pool"
            )
        return self

    def check_balance(self, strategy: str) -> None:
        """Raise InputError if the batch is to be balanced and the strategy cannot."""
        if self.balanced and not available()[strategy].balanced:
            can = ", ".join(name for name, info in available().items() if info.balanced)
            raise InputError(
                f"balanced = true does not go with the strategy {strategy!r}: set balanced to false, or choose one of "
                f"{can}"
            )


class RoundSettings(BatchOptions):
    """How a round chooses its query batch."""

    strategy: str = Field(
        default="auto",
        description=f"Query strategy, one of {', '.join(available())}. auto covers the pool where the model is unsure; "
        "the paper's are those by certainty, and random. While the checkpoint is not trained yet, those that go by the "
        "features alone are used as they are, others draw at random.",
    )
    review: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Largest share of the batch that asks once more about labels that people dispute or that look "
        "wrong.",
    )
    seed: int = Field(default=0, ge=0, description="The one seed that all randomness of a round comes from.")

    _known = field_validator("strategy")(check_strategy)

    @model_validator(mode="after")
    def _strategy_can_balance(self) -> Self:
        self.check_balance(self.strategy)
        return self

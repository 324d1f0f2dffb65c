"""The groups of settings that are also tunables of a run: Dagster shows their fields in the Launchpad."""

from datetime import timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class RoundSettings(BaseModel):
    """How a round chooses its query batch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: str = Field(
        default="auto",
        description="Query strategy: auto (uncertainty_herding, which covers the pool where the model is unsure); the "
        "paper's low_certainty, high_certainty, low_high_certainty, mid_certainty, random; or margin, entropy, "
        "least_confidence, power_margin, bald, batch_bald, k_center, typiclust, prob_cover, max_herding, badge, "
        "cluster_margin, tcm. "
        "While the checkpoint is not trained yet, those that go by the features alone are used as they are, others "
        "draw at random.",
    )
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
        "near-duplicates apart; null (in al.toml and the environment: none) allows any.",
    )
    review: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Largest share of the batch that asks once more about labels that people dispute or that look "
        "wrong.",
    )
    seed: int = Field(default=0, ge=0, description="The one seed that all randomness of a round comes from.")

    @field_validator("sample_size", "dedup", mode="before")
    @classmethod
    def _or_none(cls, value: Any) -> Any:
        return _none_if_said(value)

    @field_validator("strategy")
    @classmethod
    def _known_strategy(cls, value: str) -> str:
        from al_pipeline.core.strategies import available

        if value not in available():
            raise ValueError(f"unknown strategy {value!r}; choose one of {', '.join(sorted(available()))}")
        return value

    @model_validator(mode="after")
    def _strategy_can_balance(self) -> "RoundSettings":
        from al_pipeline.core.strategies import available

        if self.balanced and not available()[self.strategy].balanced:
            can = ", ".join(name for name, info in available().items() if info.balanced)
            raise ValueError(
                f"balanced = true does not go with the strategy {self.strategy!r}: set balanced to false, or choose "
                f"one of {can}"
            )
        return self

    @model_validator(mode="after")
    def _batch_fits_sample(self) -> "RoundSettings":
        if self.sample_size is not None and self.batch_size > self.sample_size:
            raise ValueError(
                f"batch_size {self.batch_size} is larger than sample_size {self.sample_size}: "
                "raise sample_size, or set it to null (`all`) to score the whole pool"
            )
        return self


class TrainingSettings(BaseModel):
    """How a round trains its checkpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: str = Field(
        default="auto",
        description="finetune trains the whole network (the paper's way); head trains the classifier alone, on cached "
        "features of the given weights, in seconds; auto is head with given weights on a CPU or with fewer than 10 "
        "labels per class, else finetune.",
    )
    architecture: str = Field(
        default="resnet18", description="resnet18, resnet34, resnet50, resnet101 or resnet152 (torchvision)."
    )
    weights: str = Field(
        default="none",
        description="Weights every round starts from: none (untrained, as in the paper), imagenet (downloaded once by "
        "torchvision), or the path of a .safetensors or .pt state dict in torchvision's layout.",
    )
    image_size: int = Field(default=64, ge=16, le=1024, description="Side in pixels of the square the network sees.")
    epochs: int = Field(default=30, ge=1, description="Passes over the labeled pool, at most.")
    learning_rate: float = Field(default=1e-4, gt=0, description="Step size of the optimizer; the paper's is 1e-4.")
    optimizer: str = Field(default="adam", description="adam (the paper's), adamw or sgd.")
    schedule: str = Field(default="constant", description="constant or one_cycle.")
    batch_size: int = Field(default=16, ge=2, description="Images per gradient step.")
    warm_start: bool = Field(
        default=False, description="Fine-tune from the last round's checkpoint instead of from the weights."
    )
    validation: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Share of the labels held out of fine-tuning, to keep its best epoch and to fit the temperature.",
    )
    patience: int = Field(
        default=0, ge=0, description="Epochs without a better validation loss that end fine-tuning; 0 never does."
    )
    class_weights: bool = Field(default=False, description="Weigh classes by the inverse of their number of labels.")
    clip_norm: float | None = Field(
        default=None, gt=0, description="Largest norm of a gradient; null (in al.toml and the environment: none): any."
    )
    precision: str = Field(
        default="auto",
        description="float32, bfloat16 or float16 (CUDA); auto is bfloat16 where the hardware multiplies it.",
    )
    augmentation: str = Field(
        default="none", description="none, crop, or crop_flip (mirrored too: not for digits, letters or signs)."
    )
    test_time_flip: bool = Field(
        default=False,
        description="Features and predictions are the mean over an image and its mirror image, in twice the time: not "
        "for digits, letters or signs.",
    )
    semi_supervised: str = Field(
        default="none", description="Learn from unlabeled samples too: none, pseudo_label, fixmatch, label_propagation."
    )
    confidence: float = Field(default=0.95, ge=0.5, le=1, description="Least probability of a guessed label.")

    @field_validator("clip_norm", mode="before")
    @classmethod
    def _or_none(cls, value: Any) -> Any:
        return _none_if_said(value)

    @model_validator(mode="after")
    def _usable(self) -> "TrainingSettings":
        from al_pipeline.core.learning.options import TrainingOptions

        TrainingOptions(**self.model_dump())
        return self


class PolicySettings(BaseModel):
    """When a round counts as answered and when the loop ends."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_fraction: float = Field(
        default=1.0, gt=0, le=1, description="Share of the planned batch that must be answered before the next round."
    )
    min_votes: int = Field(default=1, ge=1, description="Votes a sample needs before its label counts.")
    consensus: Literal["majority", "crowdlab"] = Field(
        default="majority",
        description="How several votes become a label: majority, or crowdlab, which weighs annotators by their quality "
        "and asks a model too.",
    )
    max_skips: int = Field(default=1, ge=1, description="Skips after which a sample is not asked about again.")
    prefetch: bool = Field(
        default=False,
        description="Keep the next batch ready while people label, so that they never wait; it is chosen by the "
        "checkpoint before.",
    )
    timeout_hours: float | None = Field(
        default=None, gt=0, description="Hours after which a partly answered round is closed; null waits for ever."
    )
    max_rounds: int | None = Field(default=None, ge=1, description="The loop is done after this many rounds.")
    label_budget: int | None = Field(default=None, ge=1, description="The loop is done once this many labels exist.")
    stop_agreement: float | None = Field(
        default=0.995,
        ge=0,
        le=1,
        description="Kappa from which on the models of two rounds count as the same; after three such rounds in a row "
        "the check worth_going_on says that more labels hardly pay. null (in al.toml and the environment: none) never "
        "says so. Nothing stops by itself.",
    )
    stop_gain: float | None = Field(
        default=0.005,
        ge=0,
        le=1,
        description="ROC-AUC that the labels left in label_budget must still be able to bring, without one as many "
        "labels again; worth_going_on says so once their upper 95 % limit is below. null (none) never says so.",
    )
    target_auc: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The ROC-AUC to reach: worth_going_on says so once its lower 95 % limit is there.",
    )
    price_per_label: float | None = Field(
        default=None,
        ge=0,
        description="What a label costs, in any currency. With value_per_point, worth_going_on says so once the next "
        "batch brings less than it costs.",
    )
    value_per_point: float | None = Field(
        default=None, ge=0, description="What a point (0.01) of ROC-AUC is worth, in the currency of price_per_label."
    )
    max_attempts: int = Field(default=3, ge=1, description="Runs a failing round gets before it counts as stalled.")

    @field_validator(
        "timeout_hours",
        "max_rounds",
        "label_budget",
        "stop_agreement",
        "stop_gain",
        "target_auc",
        "price_per_label",
        "value_per_point",
        mode="before",
    )
    @classmethod
    def _no_limit(cls, value: Any) -> Any:
        return _none_if_said(value)

    @property
    def timeout(self) -> timedelta | None:
        """The deadline as a time span."""
        return None if self.timeout_hours is None else timedelta(hours=self.timeout_hours)


def _none_if_said(value: Any) -> Any:
    """Return None for the words that stand for it where there is no null: TOML and environment variables."""
    return None if isinstance(value, str) and value.lower() in {"", "all", "none", "null"} else value

"""How a checkpoint is trained: every choice in one place, checked when it is made."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from al_pipeline.core.errors import CheckpointError, InputError
from al_pipeline.core.learning.architectures import ARCHITECTURES, TIMM, config
from al_pipeline.core.options import Options

if TYPE_CHECKING:
    from al_pipeline.core.learning.preparation import Preparation

# With fewer labels than this in half of the classes, given features teach more than training them does.
FEW_LABELS = 10
# What the weights of others were trained with, and what an untrained network learns from in bearable time.
SIZE_WITH_WEIGHTS, SIZE_WITHOUT = 224, 64
# Classes further apart than this, of those with so many labels, are weighed.
IMBALANCE, FEWEST_LABELS = 10, 3
# So many times the labels of the last refining are worth another one: to 1,000 labels 20 more add nothing.
GROWTH = 1.2


class TrainingOptions(Options):
    """How a round trains its checkpoint; the defaults are the paper's where it speaks, but for the weights.

    Raises
    ------
    InputError
        A value cannot be used, or two do not go together.
    """

    mode: Literal["auto", "finetune", "head"] = Field(
        default="auto",
        description="finetune trains the whole network (the paper's way); head trains the classifier alone, on cached "
        "features of the given weights, in seconds; auto is head with given weights on a CPU or with fewer than 10 "
        "labels in half of the classes, else finetune.",
    )
    refine: Literal["auto", "off"] = Field(
        default="auto",
        description="auto: where mode is auto and comes to a head on a CPU, the whole network is fine-tuned while "
        "people label, and the next round's heads learn on its features if labels that were held out say that it is "
        "better; off keeps the features of the weights.",
    )
    architecture: str = Field(
        default="resnet18",
        description="The network: resnet18, resnet34, resnet50, resnet101 or resnet152 of torchvision, or timm:NAME, "
        "any classifier or feature extractor of timm, which needs al_pipeline[timm].",
    )
    weights: str = Field(
        default="auto",
        description="Weights every round starts from: auto (imagenet where they can be had, else none with a warning; "
        "a home that has trained keeps what it has), imagenet (downloaded once, an error where they cannot be had), "
        "none (untrained, as in the paper), or the path of a .safetensors or .pt state dict in torchvision's layout. "
        "Of timm's networks auto is hub, those that go with the name, and a path is of a file in timm's layout.",
    )
    image_size: int | None = Field(
        default=None,
        ge=16,
        le=1024,
        description="Side in pixels of the square the network sees. Not set (in al.toml and the environment: none) it "
        "is 224 with given weights and 64 without, or what the network of timm was trained on; a home that has trained "
        "keeps what it has.",
    )
    framing: Literal["auto", "crop", "squeeze", "pad"] = Field(
        default="auto",
        description="How an image becomes that square: crop is its middle; squeeze is all of it, out of proportion; "
        "pad is all of it, with a plain border; auto is that of the last round's checkpoint, and in the first round "
        "pad if a crop would show less than 70 % of the pool's median image, else crop.",
    )
    epochs: int = Field(default=30, ge=1, le=10_000, description="Passes over the labeled pool, at most.")
    learning_rate: float = Field(
        default=1e-4, gt=0, description="Step size of the optimizer, the highest of one_cycle; the paper's is 1e-4."
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field(default="adam", description="adam is the paper's.")
    schedule: Literal["constant", "one_cycle"] = Field(
        default="constant", description="Of the learning rate; one_cycle is that of Smith & Topin (2019)."
    )
    batch_size: int = Field(
        default=16, ge=2, le=10_000, description="Images per gradient step: batch normalisation needs two."
    )
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
        default=0,
        ge=0,
        le=10_000,
        description="Epochs without a better validation loss that end fine-tuning; 0 never does.",
    )
    class_weights: Literal["auto", "true", "false"] = Field(
        default="auto",
        description="Weigh classes by the inverse of their number of labels, and fit a decision threshold per class on "
        "predictions for labels that were held out; auto does where one class has more than 10 times the labels of "
        "another one that has at least 3.",
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="Largest norm of a gradient; null (in al.toml and the environment: none): any."
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Of fine-tuning's forward pass; auto is bfloat16 where the hardware multiplies it, float16 is for "
        "CUDA.",
    )
    inference_precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        default="auto",
        description="Of features, and of predictions from images. auto is, for features of given weights on a CPU, "
        "bfloat16 where the hardware multiplies it, which heads learn as much from in half of the time or less, else "
        "float32; float32 and bfloat16 hold for networks that are trained, too. int8 is for "
        "features of heads on a CPU alone, and calibrated on images of the pool.",
    )
    threads: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="Threads that fine-tuning computes with on a CPU. The weights are the same to the bit on any "
        "number of cores, as this number is fixed; another one gives others, and is faster where cores are idle.",
    )
    augmentation: Literal["none", "crop", "crop_flip"] = Field(
        default="none", description="Random resized crops; crop_flip mirrors too: not for digits, letters or signs."
    )
    test_time_flip: bool = Field(
        default=False,
        description="Features and predictions are the mean over an image and its mirror image, in twice the time: not "
        "for digits, letters or signs.",
    )
    semi_supervised: Literal["none", "pseudo_label", "fixmatch", "label_propagation"] = Field(
        default="none", description="How unlabeled samples are learned from, too."
    )
    confidence: float = Field(default=0.95, ge=0.5, le=1, description="Least probability of a guessed label.")

    @field_validator("architecture")
    @classmethod
    def _has_a_name(cls, value: str) -> str:
        if value not in ARCHITECTURES and (not value.startswith(TIMM) or value == TIMM):
            raise ValueError(
                f"unknown architecture {value!r}; choose one of {', '.join(ARCHITECTURES)}, or {TIMM}NAME for one of "
                "timm's"
            )
        return value

    @field_validator("class_weights", mode="before")
    @classmethod
    def _in_words(cls, value: Any) -> Any:
        # It was true or false alone before, and files still say so.
        return str(value).lower() if isinstance(value, bool | str) else value

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.mode == "head" and self.weights == "none":
            raise InputError(
                "mode head learns from the features of given weights, and weights are none: set training.weights to "
                "imagenet or a path, or training.mode to finetune"
            )
        if self.weights in {"imagenet", "hub"} and self.weights != self.hub:
            raise InputError(
                f"weights {self.weights} are none of {self.architecture}'s: set training.weights to {self.hub}"
            )
        if self.mode == "head" and self.semi_supervised == "fixmatch":
            raise InputError(
                "fixmatch trains the whole network on augmented images, which mode head does not: set training.mode "
                "to finetune, or training.semi_supervised to pseudo_label or label_propagation"
            )
        if self.patience and not self.validation:
            raise InputError(f"patience {self.patience} needs a validation share: set training.validation, e.g. to 0.2")
        return self

    @property
    def settled_framing(self) -> Literal["crop", "squeeze", "pad"]:
        """The framing; of ``auto`` that nobody has settled by a pool of images the network's own, a crop mostly."""
        return self.network.framing or "crop" if self.framing == "auto" else self.framing

    @property
    def network(self) -> "Preparation":
        """How images are prepared for the network; timm is imported where it is one of timm's."""
        from al_pipeline.core.learning.preparation import preparation_of

        return preparation_of(self.architecture)

    @property
    def settled_weights(self) -> str:
        """The weights; of ``auto`` that nobody has settled none, or those of the hub for timm or a head."""
        if self.weights != "auto":
            return self.weights
        return self.hub if self.mode == "head" or self.hub == "hub" else "none"

    @property
    def hub(self) -> str:
        """The word for the weights that the network's makers give: imagenet of torchvision, hub of timm."""
        return "hub" if self.architecture.startswith(TIMM) else "imagenet"

    @property
    def settled_image_size(self) -> int:
        """The side of the square in pixels; what goes with the network or its weights, where it is not set."""
        if self.image_size is not None:
            return self.image_size
        usual = SIZE_WITHOUT if self.settled_weights == "none" else SIZE_WITH_WEIGHTS
        return self.network.size or usual

    @property
    def may_be_head(self) -> bool:
        """Whether heads on features of the given weights may be trained."""
        return self.settled_weights != "none" and self.mode != "finetune"

    def refines(self, device: str) -> bool:
        """Say whether the network is fine-tuned while people label; `device` is ``cpu`` or ``cuda``."""
        # On a CPU the labels play no part.
        asked = self.refine == "auto" and self.mode == "auto" and device == "cpu"
        return asked and self.resolve_mode([1], device) == "head"

    def weighs(self, counts: npt.ArrayLike) -> bool:
        """Say whether classes are weighed; `counts` are the labels of each class, of shape (K,)."""
        if self.class_weights != "auto":
            return self.class_weights == "true"
        # A label or two of a new class say nothing about how rare it is.
        found = np.asarray(counts)[np.asarray(counts) >= FEWEST_LABELS]
        return len(found) > 1 and bool(found.max() > IMBALANCE * found.min())

    def resolve_mode(self, counts: npt.ArrayLike, device: str) -> Literal["finetune", "head"]:
        """Return ``head`` or ``finetune``.

        Parameters
        ----------
        counts : array_like of int
            Labels of each class; those without play no part. The median counts: a class that is new to people is no
            reason to learn the others in another way.
        device : str
            ``cpu`` or ``cuda``.
        """
        if self.mode != "auto":
            return self.mode
        if self.settled_weights == "none" or self.semi_supervised == "fixmatch" or self.warm_start:
            return "finetune"
        found = np.asarray(counts)
        return "head" if device == "cpu" or np.median(found[found > 0]) < FEW_LABELS else "finetune"


def worth_refining(n_labels: int, refined_on: int) -> bool:
    """Say whether so many labels are worth refining again after the last time, which was on `refined_on`; 0: never."""
    return n_labels >= GROWTH * refined_on


def check_weights(weights: str, architecture: str = "") -> None:
    """Raise unless training can start from these weights as far as their name tells: before anything is loaded.

    A network of timm is looked for, too, if one is named.

    Raises
    ------
    InputError
        Neither a word that is known nor the path of a file of weights; timm is missing, or has no such network.
    CheckpointError
        There is no such file.
    """
    if architecture.startswith(TIMM):
        config(architecture)
    if weights in {"auto", "none", "imagenet", "hub"}:
        return
    path = Path(weights).expanduser()
    if path.suffix not in {".safetensors", ".pt", ".pth"}:
        raise InputError(
            f"unknown weights {weights!r}; choose auto, none, imagenet, or the path of a .safetensors, .pt or .pth "
            "file; for a network of timm also hub"
        )
    if not path.exists():
        raise CheckpointError(f"There is no file {path.absolute()} of weights: mend the path in training.weights")

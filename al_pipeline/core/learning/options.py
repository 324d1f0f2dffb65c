"""How a checkpoint is trained: every choice in one place, checked when it is made."""

import math
from dataclasses import dataclass

from al_pipeline.core.errors import InputError

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
OPTIMIZERS = ("adam", "adamw", "sgd")
MODES = ("auto", "finetune", "head")
SCHEDULES = ("constant", "one_cycle")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
AUGMENTATIONS = ("none", "crop", "crop_flip")
SEMI_SUPERVISED = ("none", "pseudo_label", "fixmatch", "label_propagation")
# With fewer labels per class than this, given features teach more than training them does.
FEW_LABELS = 10


@dataclass(frozen=True)
class TrainingOptions:
    """How a checkpoint is trained; the defaults are the paper's where it speaks (ResNet-18, untrained, Adam, 1e-4).

    Attributes
    ----------
    mode : str
        ``finetune`` trains the whole network, ``head`` the classifier alone, on features of the given weights;
        ``auto`` is `head` with given weights on a CPU or with fewer than `FEW_LABELS` labels per class, else
        `finetune`.
    architecture : str
        One of `ARCHITECTURES`.
    weights : str
        What training starts from: ``none``, ``imagenet`` or a path (see `model.build`).
    image_size : int
        Side in pixels of the square the network sees, 16 to 1024.
    epochs : int
        Passes over the labeled pool; at most so many with early stopping.
    learning_rate : float
        The highest of them, with ``one_cycle``.
    optimizer : str
        One of `OPTIMIZERS`.
    schedule : str
        ``constant``, or ``one_cycle`` (Smith & Topin 2019).
    batch_size : int
        Images per gradient step, at least 2: batch normalisation needs company.
    warm_start : bool
        Fine-tune from the last round's checkpoint instead of `weights`.
    validation : float
        Share of the labeled pool, 0 to 0.5, that is held out of fine-tuning to stop early and to fit the temperature.
    patience : int
        Epochs without a lower validation loss after which fine-tuning stops; 0 goes on to the end and still keeps the
        best epoch. Needs `validation`.
    class_weights : bool
        Weigh each class by the inverse of its number of labels.
    clip_norm : float or None
        Largest norm of a gradient.
    precision : str
        Of the forward pass in fine-tuning: ``auto`` is bfloat16 where the hardware multiplies it (CUDA, AMX), else
        float32. float16 is for CUDA, with a gradient scaler.
    augmentation : str
        ``crop`` (random resized crops), ``crop_flip`` (mirrored too: not for digits, letters or road signs).
    test_time_flip : bool
        Features and predictions are the mean over an image and its mirror image, in twice the time; not for digits,
        letters or road signs.
    semi_supervised : str
        How unlabeled samples are used: see `semi_supervised`.
    confidence : float
        Threshold on the probability of a guessed label, 0.5 to 1.

    Raises
    ------
    InputError
        A value cannot be used, or two do not go together.
    """

    mode: str = "auto"
    architecture: str = "resnet18"
    weights: str = "none"
    image_size: int = 64
    epochs: int = 30
    learning_rate: float = 1e-4
    optimizer: str = "adam"
    schedule: str = "constant"
    batch_size: int = 16
    warm_start: bool = False
    validation: float = 0.0
    patience: int = 0
    class_weights: bool = False
    clip_norm: float | None = None
    precision: str = "auto"
    augmentation: str = "none"
    test_time_flip: bool = False
    semi_supervised: str = "none"
    confidence: float = 0.95

    def __post_init__(self) -> None:
        check_architecture(self.architecture)
        for name, valid in (
            ("mode", MODES),
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
            ("augmentation", AUGMENTATIONS),
            ("semi_supervised", SEMI_SUPERVISED),
        ):
            if getattr(self, name) not in valid:
                raise InputError(f"unknown {name} {getattr(self, name)!r}; choose one of {', '.join(valid)}")
        whole = (("image_size", 16, 1024), ("epochs", 1, 10_000), ("batch_size", 2, 10_000), ("patience", 0, 10_000))
        for name, low, high in whole:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InputError(f"{name} must be a whole number from {low} to {high}, not {value!r}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise InputError(f"learning_rate must be above 0 and finite, not {self.learning_rate!r}")
        for name, low, high in (("validation", 0, 0.5), ("confidence", 0.5, 1)):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name} must lie between {low} and {high}, not {getattr(self, name)!r}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise InputError(f"clip_norm must be above 0, or none, not {self.clip_norm!r}")
        self._check_company()

    def _check_company(self) -> None:
        if self.mode == "head" and self.weights == "none":
            raise InputError(
                "mode head learns from the features of given weights, and weights are none: set training.weights to "
                "imagenet or a path, or training.mode to finetune"
            )
        if self.mode == "head" and self.semi_supervised == "fixmatch":
            raise InputError(
                "fixmatch trains the whole network on augmented images, which mode head does not: set training.mode "
                "to finetune, or training.semi_supervised to pseudo_label or label_propagation"
            )
        if self.patience and not self.validation:
            raise InputError(f"patience {self.patience} needs a validation share: set training.validation, e.g. to 0.2")

    def resolve_mode(self, fewest_labels: int, device: str) -> str:
        """Return ``head`` or ``finetune``.

        Parameters
        ----------
        fewest_labels : int
            Labels of the class that has the fewest, of those that have any.
        device : str
            ``cpu`` or ``cuda``.
        """
        if self.mode != "auto":
            return self.mode
        if self.weights == "none" or self.semi_supervised == "fixmatch" or self.warm_start:
            return "finetune"
        return "head" if device == "cpu" or fewest_labels < FEW_LABELS else "finetune"


def check_architecture(architecture: str) -> None:
    """Raise InputError, listing the valid ones, unless the architecture is known."""
    if architecture not in ARCHITECTURES:
        raise InputError(f"unknown architecture {architecture!r}; choose one of {', '.join(ARCHITECTURES)}")

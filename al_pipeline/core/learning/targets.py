"""What is learned from, in numbers: the classes that labels name."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from al_pipeline.core.errors import InputError

Integers = npt.NDArray[np.int64]


def class_numbers(labels: Sequence[str], class_names: Sequence[str]) -> Integers:
    """Return the class number of each label, int64, shape (n,).

    Raises
    ------
    InputError
        A label is none of the classes.
    """
    number = {name: i for i, name in enumerate(class_names)}
    if outside := sorted({str(label) for label in labels if label not in number}):
        raise InputError(
            f"labels outside of the classes: {', '.join(map(repr, outside[:5]))}; the classes are "
            f"{', '.join(class_names[:20])}{' …' if len(class_names) > 20 else ''}"
        )
    return np.array([number[label] for label in labels], dtype=np.int64)


def targets_of(n_images: int, labels: Sequence[str], class_names: Sequence[str]) -> Integers:
    """Return the class numbers of the labels of n images, int64, shape (n,), if there is something to learn from them.

    Raises
    ------
    InputError
        Not as many labels as images, fewer than two classes among them, or labels outside of the classes.
    """
    if n_images != len(labels):
        raise InputError(f"there are {n_images} images but {len(labels)} labels: training needs one label per image")
    targets = class_numbers(labels, class_names)
    present = sorted(set(labels))
    if len(present) < 2:
        raise InputError(
            f"training needs labels of at least 2 classes; {len(labels)} labels name {', '.join(present) or 'none'}: "
            "label more"
        )
    return targets

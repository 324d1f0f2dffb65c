"""The built-in images, for the demo and for tests: handwritten digits."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from al_pipeline.core.errors import InputError

# The originals have 8 × 8 pixels: too few for a person to read, or to find on a screen.
SIDE = 64
DIGITS = 1797


def write_digits(root: Path, *, holdout: int = 500, seed: int = 0) -> Path:
    """Write scikit-learn's 1,797 handwritten digits as PNG files, dark on white, in class folders.

    The folder `root`, which is returned, appears whole or not at all; one that is there already is left as it is.

    Parameters
    ----------
    root : Path
        Becomes ``root/pool/<digit>/…`` and ``root/holdout/<digit>/…``, images of 64 × 64 pixels.
    holdout : int
        Digits set apart for testing, in the classes' proportions; 10 to 1,787, so that each split has every class.
    seed : int
        Draws the split; the same seed gives the same files.

    Raises
    ------
    InputError
        `holdout` is out of its range, or `root` is a file.

    References
    ----------
    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998 (its
    test set; CC BY 4.0), https://doi.org/10.24432/C50P49.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if not 10 <= holdout <= DIGITS - 10:
        raise InputError(f"holdout = {holdout} digits: choose 10 to {DIGITS - 10}, so that each split has all classes")
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file: name a folder for the digits")
    if _filled(root):
        return root
    digits = load_digits()
    numbers = np.arange(DIGITS)
    splits = train_test_split(numbers, test_size=holdout, stratify=digits.target, random_state=seed)
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}-") as parent:
        # TemporaryDirectory's own folder is closed to other users, such as Label Studio's.
        folder = Path(parent) / root.name
        for split, members in zip(("pool", "holdout"), splits, strict=True):
            for number in members:
                _write(digits.images[number], folder / split / str(digits.target[number]) / f"{number:04d}.png")
        try:
            folder.rename(root)
        except OSError:
            # Another process may have been faster.
            if not _filled(root):
                raise
    return root


def _filled(root: Path) -> bool:
    return root.is_dir() and any(root.iterdir())


def _write(intensities: np.ndarray, path: Path) -> None:
    """Write one digit of intensities 0 (paper) to 16 (ink)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    paper_is_white = (255 - intensities * (255 / 16)).round().astype(np.uint8)
    Image.fromarray(paper_is_white).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)

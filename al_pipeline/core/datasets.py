"""The built-in images: scikit-learn's 1,797 handwritten digits, for the demo and the tests."""

import shutil
import tempfile
from pathlib import Path

SIDE = 64


def write_digits(root: Path, *, holdout: int = 500, seed: int = 0) -> Path:
    """Write the digits as PNG files of 64 × 64 pixels in ``root/{pool,holdout}/<digit>/`` and return `root`.

    The split is stratified and depends on the seed alone. The folder appears whole or not at all; one that is there
    is left as it is.
    """
    from PIL import Image
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if root.exists():
        return root
    digits = load_digits()
    pool, held = train_test_split(
        range(len(digits.target)), test_size=holdout, stratify=digits.target, random_state=seed
    )
    root.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}."))
    try:
        for split, members in (("pool", pool), ("holdout", held)):
            for i in members:
                folder = temporary / split / str(digits.target[i])
                folder.mkdir(parents=True, exist_ok=True)
                pixels = (255 - digits.images[i] * (255 / 16)).astype("uint8")
                image = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
                image.save(folder / f"digit_{i:04d}.png")
        temporary.chmod(0o755)
        temporary.rename(root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return root

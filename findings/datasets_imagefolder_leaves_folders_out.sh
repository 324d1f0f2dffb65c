#!/usr/bin/env bash
# Hugging Face datasets 5.2.0: "imagefolder" leaves folders out, or mixes them, for what other folders are called.
#
# Behaviour: as soon as one path has a word such as train, test, val or eval in it, `load_dataset("imagefolder",
#   data_dir=...)` reads those paths alone. Seen with class folders of small PNG files:
#     train/ and holdout/              -> the split train; the holdout's images are not loaded
#     labeled/ and holdout/            -> one split train, with the holdout's images in it
#     classes plane/, ship/, train/    -> the images of train/ alone, and no column of labels
#   No error, no warning, no count of what was left out.
# Why it surprises: which names are read as splits is documented; that all other folders then go unread, without a
#   word, is seen only by who counts.
# Who is hurt: who keeps a test set under a name of their own (a model is measured on what it was trained on, or not at
#   all), and who sorts pictures of vehicles.
# Exit: 0 while it is so, not 0 if it has changed.
set -euo pipefail

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
if ! command -v uv >/dev/null; then
    python3 -m venv "$temporary/bootstrap"
    "$temporary/bootstrap/bin/pip" install --quiet uv
    PATH="$temporary/bootstrap/bin:$PATH"
fi
cd "$temporary"
uv venv --quiet --python 3.11 venv
uv pip install --quiet --python venv/bin/python datasets==5.2.0 pillow==13.0.0

cat >look.py <<'PYTHON'
import sys
from pathlib import Path

from datasets import load_dataset
from PIL import Image


def load(name, folders):
    """Two images per folder; of each split that is read: how many images, which classes."""
    for folder in folders:
        Path(name, folder).mkdir(parents=True)
        for shade in (0, 200):
            Image.new("RGB", (8, 8), (shade, 0, 0)).save(Path(name, folder, f"{shade}.png"))
    read = {
        split: (rows.num_rows, rows.features["label"].names if "label" in rows.features else None)
        for split, rows in load_dataset("imagefolder", data_dir=name).items()
    }
    print(f"{', '.join(folders)}: {2 * len(folders)} images; read: {read}")
    return read


seen = [
    load("first", ["train/cat", "train/dog", "holdout/cat", "holdout/dog"]),
    load("second", ["labeled/cat", "labeled/dog", "holdout/cat", "holdout/dog"]),
    load("third", ["plane", "ship", "train"]),
]
expected = [{"train": (4, ["cat", "dog"])}, {"train": (8, ["cat", "dog"])}, {"train": (2, None)}]
sys.exit(0 if seen == expected else "The splits that are read have changed.")
PYTHON
HF_HOME="$temporary/cache" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 \
    venv/bin/python -W always look.py 2>messages.txt || { cat messages.txt >&2; exit 1; }
if grep --extended-regexp 'holdout|plane|ship' messages.txt; then
    echo "It tells what is left out now." >&2
    exit 1
fi

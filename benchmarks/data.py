"""The image sets of the experiments: where they come from, and the network whose features they are seen through."""

import tarfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from al_pipeline.core.data.datasets import write_digits
from al_pipeline.core.data.pool import class_names, scan
from al_pipeline.core.learning.options import TrainingOptions
from benchmarks.table import machine

RESULTS = Path(__file__).parents[1] / "docs" / "results"
WEIGHTS = "resnet18_tin199.safetensors"
ARCHIVES = {"photos": "chi_muf_224", "cifar10": "cifar10_small"}
TITLES = {"digits": "digits", "photos": "chihuahua and muffin photos", "cifar10": "CIFAR-10 subset"}
SIZES = {"digits": 64, "photos": 96, "cifar10": 64}


@dataclass(frozen=True)
class ImageSet:
    """A folder of images that has been scanned.

    Attributes
    ----------
    title : str
    manifest : DataFrame
        Of `pool.scan`.
    class_names : list of str
    options : TrainingOptions
        Heads on features of the given weights, at the image size that the set is measured with.
    """

    title: str
    manifest: pd.DataFrame
    class_names: list[str]
    options: TrainingOptions

    def count(self, split: str) -> int:
        """Return the number of images of a split."""
        return int((self.manifest["split"] == split).sum())


def load(name: str, folder: Path, place: Path) -> ImageSet:
    """Return an image set.

    Parameters
    ----------
    name : str
        A key of `TITLES`.
    folder : Path
        With the archives and the weights.
    place : Path
        Where images are unpacked, unless they are there already.
    """
    if name == "digits":
        root = write_digits(place / "digits")
    else:
        root = place / ARCHIVES[name]
        if not root.exists():
            with tarfile.open(folder / f"{ARCHIVES[name]}.tar") as tar:
                tar.extractall(place, filter="data")
    manifest = scan(root)
    options = TrainingOptions(mode="head", weights=str(folder / WEIGHTS), image_size=SIZES[name])
    return ImageSet(TITLES[name], manifest, class_names(manifest, None, root), options)


def made(command: str) -> str:
    """Return what a page of results says about its making: command, machine, versions, date."""
    return (
        "## How it was made\n\n"
        f"`{command}`: FOLDER holds the archives and weights, OUT is a folder in which finished runs are kept. "
        f"{machine()}; al_pipeline {version('al_pipeline')}, scikit-learn {version('scikit-learn')}.\n"
    )

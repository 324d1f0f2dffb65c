"""Fine-tuning that is kept on the disk between epochs: a run that was killed goes on to the same weights."""

import hashlib
import pickle
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from al_pipeline.core.files import content, whole_file

# Raise it whenever steps are made in another way. What the optimizer keeps lies in memory in the order of the weights:
# of an older version it would take one number for another, without a word.
VERSION = 2


@dataclass
class KeptTraining:
    """A file with a run of fine-tuning as it was after its last epoch.

    Attributes
    ----------
    path : Path
    key : str
        Names everything that the run depends on: what was kept under another one, or is damaged, is not there.
    every : float
        Seconds between two epochs that are kept: a network in training is three times its weights, and writing them
        may take as long as an epoch.
    """

    path: Path
    key: str
    every: float = 0.0
    written: float = field(default_factory=time.monotonic, init=False)

    @property
    def due(self) -> bool:
        """Whether the last one kept is so long ago."""
        return time.monotonic() - self.written >= self.every

    def read(self) -> dict[str, Any] | None:
        """Return what `write` was given last, or None."""
        try:
            found = torch.load(content(self.path), map_location="cpu", weights_only=True)
        # Whatever is wrong with it, training anew mends it.
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
            return None
        return found["run"] if isinstance(found, dict) and found.get("key") == self.key else None

    def write(self, run: dict[str, Any]) -> None:
        """Keep tensors, numbers, text and what is made of them, whole or not at all.

        Raises
        ------
        FileError
            The file cannot be written, for example because the disk is full.
        """
        with whole_file(self.path, "The network that is being trained") as file:
            torch.save({"key": self.key, "run": run}, file)
        self.written = time.monotonic()


def key_of(*parts: object) -> str:
    """Return the hash of what a run depends on, this version of training included; arrays by their bytes."""
    digest = hashlib.sha256()
    for part in (VERSION, *parts):
        content = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(f"{len(content)}\n".encode() + content)
    return digest.hexdigest()

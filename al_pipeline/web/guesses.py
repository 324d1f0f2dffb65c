"""What the network that serves thinks of samples: by their id alone, and never of the holdout."""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from al_pipeline.core.data.identity import SAMPLE_ID
from al_pipeline.core.data.images import decode
from al_pipeline.core.errors import ImageError, InputError
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.learning.checkpoint import Checkpoint, CheckpointInfo, read_info
from al_pipeline.core.learning.predict import predict
from al_pipeline.core.learning.thresholds import decided
from al_pipeline.core.rounds import round_key
from al_pipeline.labelstudio.images import published
from al_pipeline.ledger import Ledger
from al_pipeline.loop.deployment import Artifacts
from al_pipeline.loop.offline import BEST, find_checkpoint

NO_CHECKPOINT = "no checkpoint yet"


@dataclass(frozen=True)
class Guess:
    """The most probable class of a sample, and how probable it is."""

    name: str
    probability: float


class Guesses:
    """The network that serves in one AL_HOME, and the images that it is asked about.

    Parameters
    ----------
    artifacts : Artifacts
        The network that serves is used (`refined.served`), also one that appears later.
    images : Path
        `Settings.published_images`.
    ledger : Ledger
        Says which samples are of the holdout.
    find : callable, optional
        Returns the file of a sample that is not in the folder, None if there is none: `Copies.find`.
    """

    def __init__(
        self, artifacts: Artifacts, images: Path, ledger: Ledger, find: Callable[[str], Path | None] | None = None
    ) -> None:
        self._artifacts, self._images, self._ledger, self._find = artifacts, images, ledger, find
        self._lock = threading.Lock()
        self._loaded: tuple[Path, str, Checkpoint] | None = None

    def version(self) -> str:
        """Return the name of the network that serves, as tasks have it: ``r0007 0123456789abcdef``.

        It waits for no prediction: Label Studio gives up on it after 3 s.

        Raises
        ------
        CheckpointError
            The file is damaged.
        """
        path = self._serving()
        return NO_CHECKPOINT if path is None else _version(read_info(path))

    def guess(self, samples: Sequence[object]) -> tuple[list[Guess | None], str]:
        """Return a guess for each sample, in their order, and the version of the checkpoint that makes them.

        There is none, None, for what is no sample id, has no published image, is not known to be asked about as a query
        (the holdout's labels must be blind), cannot be decoded, or is taken for what is no class any more; and none at
        all from an untrained checkpoint. One call works at a time, others wait.

        Raises
        ------
        ALError
            The checkpoint is damaged or the ledger cannot be read.
        """
        with self._lock:
            checkpoint = self._checkpoint()
            if checkpoint is None:
                return [None] * len(samples), NO_CHECKPOINT
            found = self._guess(checkpoint, {s for s in samples if isinstance(s, str) and SAMPLE_ID.fullmatch(s)})
            return [found.get(s) if isinstance(s, str) else None for s in samples], _version(checkpoint.info)

    def _guess(self, checkpoint: Checkpoint, samples: Iterable[str]) -> dict[str, Guess]:
        if not checkpoint.info.trained:
            return {}
        files = {sample: path for sample in sorted(self._ledger.guessable(samples)) if (path := self._image(sample))}
        try:
            probabilities = predict(checkpoint, list(files.values()))
        except ImageError:
            # Every image was whole when it was published: this is rare, and only then all are decoded twice.
            files = {s: path for s, path in files.items() if _readable(path, checkpoint.info)}
            probabilities = predict(checkpoint, list(files.values()))
        names = checkpoint.info.class_names
        classes = self._ledger.class_set() or ClassSet(tuple(names))
        # A checkpoint goes on under the names that it has learned; people are asked for today's.
        sums = classes.sums(probabilities, names)
        table, today = np.column_stack(list(sums.values())), list(sums)
        best = table.argmax(axis=1)
        if thresholds := checkpoint.info.thresholds:
            said = [classes.of(names[i]) for i in decided(probabilities, thresholds)]
            best = np.array([today.index(name) for name in said], dtype=np.int64)
        rows = zip(files, best, table[np.arange(len(best)), best], strict=True)
        return {s: Guess(name, float(p)) for s, i, p in rows if (name := today[i]) is not None}

    def _image(self, sample: str) -> Path | None:
        """Return the published image of a checked sample id."""
        name = published(sample, self._images)
        if name is None:
            return self._find(sample) if self._find else None
        return self._images / name

    def _serving(self) -> Path | None:
        with suppress(InputError):
            return find_checkpoint(self._artifacts, BEST)

    def _checkpoint(self) -> Checkpoint | None:
        """Return what serves; it is read again when a round is newer, was trained anew, or refined."""
        path = self._serving()
        if path is None:
            return None
        weights = read_info(path).weights_hash
        if self._loaded is None or self._loaded[:2] != (path, weights):
            self._loaded = (path, weights, Checkpoint.load(path))
        return self._loaded[2]


def _version(info: CheckpointInfo) -> str:
    return f"{round_key(info.round)} {info.weights_hash[:16]}"


def _readable(path: Path, info: CheckpointInfo) -> bool:
    try:
        decode(path, info.image_size, info.framing, info.how)
    except ImageError:
        return False
    return True

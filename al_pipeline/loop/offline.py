"""Prediction outside of the loop: a folder of any size, a stored checkpoint, one table of the outcome."""

import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_pipeline.core.data.folder import walk
from al_pipeline.core.data.images import default_workers, open_rgb
from al_pipeline.core.data.kinds import NAMED
from al_pipeline.core.data.places import Place, Root
from al_pipeline.core.errors import CheckpointError, ImageError, InputError
from al_pipeline.core.files import whole_file
from al_pipeline.core.learning.thresholds import decided
from al_pipeline.core.rounds import is_round
from al_pipeline.loop.deployment import Artifacts
from al_pipeline.loop.presence import exists
from al_pipeline.loop.refined import served

if TYPE_CHECKING:
    from al_pipeline.core.learning.checkpoint import Checkpoint, CheckpointInfo

# Images whose outcome is in memory at a time, a multiple of the blocks that `predict` decodes ahead. Between two chunks
# nothing is decoded ahead and the network is built anew: together well under a tenth of the time of one chunk.
CHUNK = 1024
TABLES = (".csv", ".parquet")
# Names the network that is served: of the newest round the refined one, if it is better.
BEST = "best"


@dataclass(frozen=True)
class Outcome:
    """What became of a folder.

    Attributes
    ----------
    files : int
        All files with the suffix of an image.
    failed : dict of str to str
        Those that could not be read, relative to the folder, with why.
    counts : dict of str to int
        Images per predicted class, in the order of the checkpoint.
    seconds : float
        From the first image to the whole table.
    """

    files: int
    failed: dict[str, str]
    counts: dict[str, int]
    seconds: float

    @property
    def predicted(self) -> int:
        """Number of images with a prediction."""
        return self.files - len(self.failed)


def find_checkpoint(artifacts: Artifacts, name: str) -> Path:
    """Return the file of a checkpoint by its round, as ``best`` or ``latest``, or by its own path.

    Parameters
    ----------
    artifacts : Artifacts
    name : str
        ``best`` (`refined.served`), ``latest`` (that of the highest round stored), a round's key (``r0007``), or the
        path of a .safetensors file.

    Raises
    ------
    InputError
        No such round is stored, or the name is neither.
    CheckpointError
        There is no such file, or the round's was deleted.
    """
    folder = artifacts.fresh().checkpoints
    stored = sorted(path.stem for path in folder.glob("*.safetensors") if is_round(path.stem))
    if name in stored:
        return folder / f"{name}.safetensors"
    if name == BEST and (found := served(artifacts)) is not None:
        return found.path
    path = Path(name).expanduser()
    if name not in (BEST, "latest") and not is_round(name) and (path.suffix == ".safetensors" or path.exists()):
        if not path.is_file():
            raise CheckpointError(f"There is no file {path}: check the path, or name a round")
        return path
    if not stored:
        raise InputError(
            f"There is no checkpoint {name!r}: no round is stored in {folder}. Name the folder of a loop that has run "
            "(--home, AL_HOME), or the path of a .safetensors file"
        )
    if deleted := artifacts.deleted(name):
        raise CheckpointError(deleted)
    if name == "latest":
        return folder / f"{stored[-1]}.safetensors"
    rounds = ", ".join(stored) if len(stored) <= 10 else f"{stored[0]} to {stored[-1]}, {len(stored)} in all"
    raise InputError(
        f"There is no checkpoint {name!r} in {folder}. Stored are {rounds}: choose one, best, latest, or the path of a "
        ".safetensors file; --home names another loop's folder"
    )


def predict_folder(
    checkpoint: "Checkpoint", root: Root, output: Path, *, progress: Callable[[int, int], None] | None = None
) -> Outcome:
    """Predict every image in a folder or bucket, and write one table: a row per file, in the order of the paths.

    The columns are ``path`` (relative to `root`), ``predicted``, ``probability`` (of the predicted class), one
    ``p_<class>`` per class, and ``error``: empty, or why the file could not be read; then the others are empty. Hidden
    files and files without the suffix of an image are ignored, as in the pool.

    Parameters
    ----------
    checkpoint : Checkpoint
    root : Path or Place
        A folder, looked through to its depth, or one image of any suffix.
    output : Path
        A .csv or .parquet file, replaced only by a whole one.
    progress : callable, optional
        Called with the number of files done and of all files.

    Raises
    ------
    InputError
        `root` is missing or holds no images, none of them can be read, or `output` is no kind of table.
    PlaceError
        The bucket is away; no table is left.
    FileError
        The table cannot be written.
    """
    check_table(output)
    folder, found = _find(root)
    names = checkpoint.info.class_names
    failed: dict[str, str] = {}
    counts = Counter[str]()
    began = time.perf_counter()
    with whole_file(output, "The predictions") as temporary, _table(temporary, output.suffix.lower(), names) as write:
        for start in range(0, len(found), CHUNK):
            chunk = found[start : start + CHUNK]
            frame = _frame(checkpoint, folder, chunk)
            write(frame)
            counts.update(frame["predicted"].dropna())
            failed.update(frame.loc[frame["error"].notna(), ["path", "error"]].itertuples(index=False, name=None))
            if progress is not None:
                progress(start + len(chunk), len(found))
        if len(failed) == len(found):
            path, reason = next(iter(failed.items()))
            raise InputError(
                f"{root}: none of its {len(found)} image file{'s' * (len(found) != 1)} can be read, so nothing is "
                f"written; the first is {path}: {reason}"
            )
    seconds = time.perf_counter() - began
    return Outcome(len(found), failed, {name: counts[name] for name in names}, seconds)


def check_table(output: Path) -> None:
    """Raise InputError if a file's name is that of no kind of table."""
    if output.suffix.lower() not in TABLES:
        raise InputError(f"{output}: the table is written as {' or '.join(TABLES)}: give the file such a name")


def check_folder(root: Root) -> None:
    """Raise InputError if there is no such folder of images, or image, without looking through it.

    Raises
    ------
    InputError
        There is none.
    PlaceError
        The bucket is away.
    """
    there = (root.first() is not None or exists(root.url)) if isinstance(root, Place) else root.exists()
    if not there:
        raise InputError(f"There is no folder or image {root}: check the path")


def _find(root: Root) -> tuple[Root, list[tuple[PurePath, str | None]]]:
    """Return a folder and the files in it, each with what is known to be wrong with it, if anything."""
    check_folder(root)
    if not _is_folder(root):
        return root.parent, [(PurePath(root.name), None)]
    found = sorted(walk(root), key=lambda item: item[0].parts)
    if not found:
        raise InputError(
            f"{root} holds no images ({NAMED}, in any folder below it; docs/formats.md has all): check the path"
        )
    return root, found


def _is_folder(root: Root) -> bool:
    return root.first() is not None if isinstance(root, Place) else root.is_dir()


def _file(folder: Root, path: PurePath) -> str | Path:
    """Return the path or the address of a file."""
    return f"{folder}/{path.as_posix()}" if isinstance(folder, Place) else folder / path


def _frame(checkpoint: "Checkpoint", folder: Root, chunk: Sequence[tuple[PurePath, str | None]]) -> pd.DataFrame:
    """Return the table's rows of some files."""
    names = np.array(checkpoint.info.class_names, dtype=object)
    files = [_file(folder, path) for path, _ in chunk]
    probabilities, errors = _predict(checkpoint, files, [error for _, error in chunk])
    fine = np.array([error is None for error in errors])
    predicted = np.full(len(chunk), None, dtype=object)
    said = decided(probabilities[fine], checkpoint.info.thresholds)
    predicted[fine] = names[said]
    probability = np.full(len(chunk), np.nan)
    probability[fine] = probabilities[fine][np.arange(len(said)), said]
    columns = {
        # What is not UTF-8 in a name survives in no table.
        "path": [os.fsencode(path.as_posix()).decode(errors="backslashreplace") for path, _ in chunk],
        "predicted": predicted,
        "probability": probability,
    }
    columns |= {f"p_{name}": probabilities[:, i] for i, name in enumerate(names)}
    return pd.DataFrame(columns | {"error": np.array(errors, dtype=object)})


def _predict(
    checkpoint: "Checkpoint", paths: Sequence[str | Path], errors: Sequence[str | None]
) -> tuple[npt.NDArray[np.float32], list[str | None]]:
    """Return probabilities, NaN where there is an error, and the errors with those that came up."""
    from al_pipeline.core.learning.predict import predict

    probabilities = np.full((len(paths), len(checkpoint.info.class_names)), np.nan, dtype=np.float32)
    errors = [error or _no_file(path) for path, error in zip(paths, errors, strict=True)]
    while readable := [i for i, error in enumerate(errors) if error is None]:
        try:
            probabilities[readable] = predict(checkpoint, [paths[i] for i in readable])
            break
        except ImageError:
            # Damaged files are rare: only a chunk that has one is decoded twice.
            found = _damage([paths[i] for i in readable], checkpoint.info)
            if not any(found):
                raise
            for i, error in zip(readable, found, strict=True):
                errors[i] = error
    return probabilities, errors


def _no_file(path: str | Path) -> str | None:
    if isinstance(path, str):
        return None
    try:
        # Opening a pipe would wait for whoever writes to it.
        return None if stat.S_ISREG(path.stat().st_mode) else "not a regular file"
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _damage(paths: Sequence[str | Path], info: "CheckpointInfo") -> list[str | None]:
    """Return why each file cannot be decoded, None for those that can."""

    def reason(path: str | Path) -> str | None:
        try:
            open_rgb(path, at_least=2 * info.image_size, how=info.how)
        except ImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(default_workers()) as pool:
        return list(pool.map(reason, paths))


@contextmanager
def _table(path: Path, suffix: str, class_names: Sequence[str]) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Open a table; what is yielded appends rows to it."""
    if suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            yield lambda frame: frame.to_csv(file, index=False, header=file.tell() == 0)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Said here, because the first rows may hold nothing but empty values.
    schema = pa.schema(
        [("path", pa.string()), ("predicted", pa.string()), ("probability", pa.float32())]
        + [(f"p_{name}", pa.float32()) for name in class_names]
        + [("error", pa.string())]
    )
    with pq.ParquetWriter(path, schema) as writer:
        yield lambda frame: writer.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False))

"""What each round's checkpoint answers on a fixed stop set, kept per round so that two rounds can be compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from al_pipeline.core.evaluation.kappa import cohens_kappa
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.rounds import round_key, round_number
from al_pipeline.defs.io import write_whole

if TYPE_CHECKING:
    from al_pipeline.core.learning.checkpoint import Checkpoint


@dataclass(frozen=True)
class StopPredictions:
    """A folder with the stop set and, for each round whose checkpoint is trained, a Parquet file of its answers.

    The set is drawn once: samples that come later are not in it, and those that went away are left out. No label of it
    is looked at, so it may hold samples that people are asked about, and the holdout.

    Parameters
    ----------
    folder : Path
    """

    folder: Path

    def samples(self, pool: Sequence[str], training: TrainingOptions, seed: int) -> list[str]:
        """Return the sample ids of the stop set that are still in the pool; the first call draws the set."""
        path = self.folder / "stop_set.parquet"
        if not path.exists():
            ids = sorted(pool)
            from al_pipeline.core.turn import stop_rows

            rows = stop_rows(len(ids), seed, training)
            drawn = pd.DataFrame({"sample_id": [ids[row] for row in rows]})
            write_whole(path, lambda file: drawn.to_parquet(file, index=False))
        there = set(pool)
        return [sample_id for sample_id in pd.read_parquet(path)["sample_id"] if sample_id in there]

    def compare_with_previous(
        self, key: str, checkpoint: "Checkpoint", ids: list[str], predict: Callable[[list[str]], np.ndarray]
    ) -> float | None:
        """Keep a round's answers, and return their kappa with the round's before; None if either has none.

        Parameters
        ----------
        key : str
            Of the round.
        checkpoint : Checkpoint
        ids : list of str, length n
            Of `samples`.
        predict : callable
            Returns class probabilities of samples, shape (n, K).
        """
        if not checkpoint.info.trained or not ids:
            self._path(key).unlink(missing_ok=True)
            return None
        names = np.array(checkpoint.info.class_names)
        now = pd.Series(names[predict(ids).argmax(axis=1)], index=pd.Index(ids, name="sample_id"), name="predicted")
        write_whole(self._path(key), lambda file: now.reset_index().to_parquet(file, index=False))
        number = round_number(key)
        before_path = self._path(round_key(number - 1)) if number else None
        if before_path is None or not before_path.exists():
            return None
        before = pd.read_parquet(before_path).set_index("sample_id")["predicted"]
        shared = now.index.intersection(before.index)
        if not len(shared):
            return None
        # By their names: the numbers of the classes may have changed.
        codes, _ = pd.factorize(np.concatenate([before[shared].to_numpy(), now[shared].to_numpy()]))
        return cohens_kappa(codes[: len(shared)].astype(np.int64), codes[len(shared) :].astype(np.int64))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.parquet"

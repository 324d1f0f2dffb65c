"""What each round keeps of its checkpoint's answers, so that two rounds can be compared sample by sample."""

import json
from collections.abc import Callable, Collection, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from al_pipeline.core.evaluation.kappa import cohens_kappa
from al_pipeline.core.files import delete_file, whole_file
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.thresholds import decided
from al_pipeline.core.rounds import is_round, round_key, round_number
from al_pipeline.loop.again import AGAIN
from al_pipeline.loop.answers import agreed_labels
from al_pipeline.loop.classes import translated
from al_pipeline.loop.deployment import Deployment

if TYPE_CHECKING:
    from al_pipeline.core.evaluation.compare import Comparison
    from al_pipeline.core.evaluation.metrics import Interval
    from al_pipeline.core.learning.checkpoint import Checkpoint

# A class may have any name, also that of another column.
PREFIX = "p_"
# The class that was said, where it need not be the most probable one; no class has a column of this name.
SAID = "predicted"


@dataclass(frozen=True)
class _Kept:
    """A folder with a Parquet file per round.

    Parameters
    ----------
    folder : Path
    """

    folder: Path

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.parquet"

    def _keep(self, path: Path, frame: pd.DataFrame) -> None:
        with whole_file(path, "The kept predictions") as file:
            frame.to_parquet(file, index=False)

    def _of(self, key: str) -> pd.DataFrame | None:
        """Return what a round has kept, by sample id; None if it has kept nothing."""
        path = self._path(key)
        return pd.read_parquet(path).set_index("sample_id") if path.exists() else None

    def _before(self, key: str) -> pd.DataFrame | None:
        number = round_number(key)
        return self._of(round_key(number - 1)) if number else None


class HoldoutPredictions(_Kept):
    """Probabilities of the holdout's samples."""

    def write(
        self,
        key: str,
        holdout: pd.DataFrame,
        probabilities: np.ndarray,
        names: list[str],
        thresholds: Sequence[float] = (),
    ) -> None:
        """Keep a round's probabilities, shape (n, K), for the holdout's samples, and what it says by its thresholds."""
        frame = pd.DataFrame(probabilities, columns=_columns(names)).assign(sample_id=holdout["sample_id"].to_numpy())
        if thresholds:
            frame[SAID] = np.array(names, dtype=object)[decided(probabilities, thresholds)]
        self._keep(self._path(key), frame)

    def read(self, key: str, names: list[str]) -> pd.DataFrame | None:
        """Return a round's probabilities, one column per class by name, by sample id; None if there are none."""
        kept, columns = self._of(key), _columns(names)
        if kept is None or not set(columns) <= set(kept.columns):
            return None
        return kept[columns].set_axis(names, axis=1)

    def said(self, key: str, names: list[str]) -> pd.Series:
        """Return the numbers of the classes that a round, of which `read` returns something, has said, by sample id."""
        kept = self._of(key)
        assert kept is not None
        return _numbered(kept, names)

    def whole(self, key: str) -> tuple[list[str], pd.DataFrame, pd.Series] | None:
        """Return the classes that a round's model told apart, and what `read` and `said` return of them."""
        kept = self._of(key)
        if kept is None:
            return None
        names = [name.removeprefix(PREFIX) for name in kept if name.startswith(PREFIX)]
        return names, kept[_columns(names)].set_axis(names, axis=1), _numbered(kept, names)

    def compare_with_previous(
        self,
        key: str,
        holdout: pd.DataFrame,
        probabilities: np.ndarray,
        classes: ClassSet,
        thresholds: Sequence[float] = (),
        groups: Sequence[str] | None = None,
    ) -> "Comparison | None":
        """Compare with the round before, on the samples that both predicted; None if there is none to compare with.

        What the round before said under former names is added up. Where that does not give the same classes, the
        comparison says so and has no figures: the question was another one. `groups` are what the samples belong to.
        """
        from al_pipeline.core.evaluation.compare import Comparison, compare

        before = self._before(key)
        if before is None:
            return None
        shared = holdout["sample_id"].isin(before.index).to_numpy()
        if not shared.any():
            return None
        ids = holdout.loc[shared, "sample_id"]
        columns = [column for column in before.columns if column != SAID]
        before_names = [column.removeprefix(PREFIX) for column in columns]
        sums = classes.sums(before.loc[ids, columns].to_numpy(), before_names)
        if set(sums) != set(classes.names):
            return Comparison(
                n=0,
                note=f"no comparison with the last round, whose classes were {', '.join(sorted(before_names))}, "
                f"not {', '.join(sorted(classes.names))}",
            )
        previous = np.column_stack([sums[name] for name in classes.names])
        labels, numbers = holdout.loc[shared, "label"].tolist(), {name: i for i, name in enumerate(classes.names)}
        said = previous.argmax(axis=1)
        if SAID in before:
            said = translated(before.loc[ids, SAID], classes).map(numbers).to_numpy(np.int64)
        now = decided(probabilities[shared], thresholds)
        own = None if groups is None else np.array(groups, dtype=object)[shared].tolist()
        return compare(previous, probabilities[shared], labels, classes.names, said=(said, now), groups=own)


class StopPredictions(_Kept):
    """The stop set and, of each round whose checkpoint is trained, the classes that it names.

    The set is drawn once: samples that come later are not in it, and those that went away are left out. No label of it
    is looked at, so it may hold samples that people are asked about, and the holdout.
    """

    def samples(self, pool: Collection[str], training: TrainingOptions, seed: int) -> list[str]:
        """Return the sample ids of the stop set that are still in the pool; the first call draws the set."""
        path = self.folder / "stop_set.parquet"
        if not path.exists():
            from al_pipeline.core.turn import stop_rows

            ids = sorted(pool)
            drawn = pd.DataFrame({"sample_id": [ids[row] for row in stop_rows(len(ids), seed, training)]})
            self._keep(path, drawn)
        there = pool if isinstance(pool, Set) else set(pool)
        return [sample_id for sample_id in pd.read_parquet(path)["sample_id"] if sample_id in there]

    def compare_with_previous(
        self,
        key: str,
        checkpoint: "Checkpoint",
        ids: Sequence[str],
        predict: Callable[[Sequence[str]], np.ndarray],
        classes: ClassSet,
    ) -> float | None:
        """Keep a round's answers, and return their kappa with the round's before; None if either has none.

        There is none either where the round before has named what is no class any more.

        Parameters
        ----------
        key : str
            Of the round.
        checkpoint : Checkpoint
        ids : list of str, length n
            Of `samples`.
        predict : callable
            Returns class probabilities of samples, shape (n, K).
        classes : ClassSet
            Of the round.
        """
        if not checkpoint.info.trained or not ids:
            delete_file(self._path(key))
            return None
        names = np.array(checkpoint.info.class_names)
        said = decided(predict(ids), checkpoint.info.thresholds)
        now = pd.Series(names[said], index=pd.Index(ids, name="sample_id"), name="predicted")
        self._keep(self._path(key), now.reset_index())
        kept = self._before(key)
        if kept is None or not len(shared := now.index.intersection(kept.index)):
            return None
        before = translated(kept.loc[shared, "predicted"], classes)
        if before.isna().any():
            return None
        # By their names: the numbers of the classes may have changed.
        codes, _ = pd.factorize(np.concatenate([before.to_numpy(), now[shared].to_numpy()]))
        return cohens_kappa(codes[: len(shared)].astype(np.int64), codes[len(shared) :].astype(np.int64))


def prequential_accuracies(deployment: Deployment, min_votes: int) -> "dict[str, Interval]":
    """Return, per round, the accuracy of its checkpoint on the unlabeled pool, from the answers to its own batch.

    Only samples that were drawn with a known probability count, and only once all of them are answered: leaving out
    who was skipped would leave out the hard ones.
    """
    from al_pipeline.core.evaluation.prequential import prequential_accuracy

    planned = deployment.ledger.planned()
    batches = planned[(planned["purpose"] == "query") & planned["predicted"].notna()]
    if batches.empty:
        return {}
    classes = deployment.ledger.class_set() or ClassSet(tuple(sorted(batches["predicted"].unique())))
    batches = batches.assign(predicted=translated(batches["predicted"], classes))
    agreed = agreed_labels(deployment.ledger, classes, min_votes, purpose="query")
    labels = agreed.labels.set_index("sample_id")["label"]
    found = {}
    for key, batch in batches.groupby("round"):
        # What `explore` added is a sample of its own; without it a strategy that draws made the whole batch.
        batch = batch[~batch["strategy"].str.startswith(AGAIN)]
        explored = batch[batch["strategy"] == "random"]
        drawn = explored if len(explored) else batch
        scores = deployment.artifacts.uncertainty_scores / f"{key}.parquet"
        # A guess that names no class any more is neither right nor wrong.
        unclear = drawn["propensity"].isna().any() or drawn["predicted"].isna().any()
        if unclear or not drawn["sample_id"].isin(labels.index).all() or not scores.exists():
            continue
        hits = drawn["predicted"].to_numpy() == labels.loc[drawn["sample_id"]].to_numpy()
        candidates = pq.read_metadata(scores).num_rows
        interval = prequential_accuracy(hits, drawn["propensity"].to_numpy(float), candidates)
        if interval is not None:
            found[str(key)] = interval
    return found


def stored_rounds(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the documents that a partitioned asset has stored, by round, oldest first."""
    paths = sorted(path for path in folder.glob("*.json") if is_round(path.stem))
    return {path.stem: json.loads(path.read_text()) for path in paths}


def _said(kept: pd.DataFrame) -> pd.Series:
    """Return the classes that were said: the most probable ones, if there were no thresholds."""
    return kept[SAID] if SAID in kept else kept.idxmax(axis=1).str.removeprefix(PREFIX)


def _numbered(kept: pd.DataFrame, names: list[str]) -> pd.Series:
    return _said(kept).map({name: i for i, name in enumerate(names)})


def _columns(names: list[str]) -> list[str]:
    return [PREFIX + name for name in names]

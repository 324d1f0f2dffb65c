"""Predictions for the holdout, kept per round so that two rounds can be compared sample by sample."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from al_pipeline.core.rounds import round_key, round_number
from al_pipeline.defs.io import write_whole
from al_pipeline.loop.answers import agreed_labels
from al_pipeline.loop.deployment import Deployment

if TYPE_CHECKING:
    from al_pipeline.core.evaluation.compare import Comparison
    from al_pipeline.core.evaluation.metrics import Interval

# A class may have any name, also that of another column.
PREFIX = "p_"


@dataclass(frozen=True)
class HoldoutPredictions:
    """A folder of one Parquet file per round.

    Parameters
    ----------
    folder : Path
    """

    folder: Path

    def write(self, key: str, holdout: pd.DataFrame, probabilities: np.ndarray, names: list[str]) -> None:
        """Keep a round's probabilities, shape (n, K), for the samples of the holdout."""
        frame = pd.DataFrame(probabilities, columns=_columns(names)).assign(sample_id=holdout["sample_id"].to_numpy())
        write_whole(self._path(key), lambda file: frame.to_parquet(file, index=False))

    def read(self, key: str, names: list[str]) -> pd.DataFrame | None:
        """Return a round's probabilities, one column per class by name, by sample id; None if there are none."""
        path, columns = self._path(key), _columns(names)
        if not path.exists():
            return None
        kept = pd.read_parquet(path).set_index("sample_id")
        return kept[columns].set_axis(names, axis=1) if set(columns) <= set(kept.columns) else None

    def compare_with_previous(
        self, key: str, holdout: pd.DataFrame, probabilities: np.ndarray, names: list[str]
    ) -> "Comparison | None":
        """Compare with the round before, on the samples that both predicted; None if there is none to compare with.

        Where the classes differ, the comparison says so and has no figures: the question was another one.
        """
        from al_pipeline.core.evaluation.compare import Comparison, compare

        number = round_number(key)
        path = self._path(round_key(number - 1)) if number else None
        if path is None or not path.exists():
            return None
        before = pd.read_parquet(path).set_index("sample_id")
        shared = holdout["sample_id"].isin(before.index).to_numpy()
        if not shared.any():
            return None
        columns = _columns(names)
        if set(before.columns) != set(columns):
            before_names = sorted(column.removeprefix(PREFIX) for column in before.columns)
            return Comparison(
                n=0,
                note=f"no comparison with the last round, whose classes were {', '.join(before_names)}, "
                f"not {', '.join(sorted(names))}",
            )
        previous = before.loc[holdout.loc[shared, "sample_id"], columns].to_numpy()
        labels = holdout.loc[shared, "label"].tolist()
        return compare(previous, probabilities[shared], labels, names)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.parquet"


def prequential_accuracies(deployment: Deployment, min_votes: int) -> "dict[str, Interval]":
    """Return, per round, the accuracy of its checkpoint on the unlabeled pool, from the answers to its own batch.

    Only samples that were drawn with a known probability count, and only once all of them are answered: leaving out
    who was skipped would leave out the hard ones.
    """
    from al_pipeline.core.evaluation.prequential import prequential_accuracy

    planned = deployment.ledger.planned()
    batches = planned[(planned["purpose"] == "query") & planned["predicted"].notna()]
    answers = deployment.ledger.answers(purpose="query")
    names = sorted({*batches["predicted"], *answers["value"].dropna()})
    if batches.empty or not names:
        return {}
    labels = agreed_labels(deployment.ledger, names, min_votes, purpose="query").labels.set_index("sample_id")["label"]
    found = {}
    for key, batch in batches.groupby("round"):
        # What `explore` added is a sample of its own; without it a strategy that draws made the whole batch.
        explored = batch[batch["strategy"] == "random"]
        drawn = explored if len(explored) else batch
        scores = deployment.artifacts.uncertainty_scores(str(key))
        if drawn["propensity"].isna().any() or not drawn["sample_id"].isin(labels.index).all() or not scores.exists():
            continue
        hits = drawn["predicted"].to_numpy() == labels.loc[drawn["sample_id"]].to_numpy()
        candidates = len(pd.read_parquet(scores, columns=["sample_id"]))
        interval = prequential_accuracy(hits, drawn["propensity"].to_numpy(float), candidates)
        if interval is not None:
            found[str(key)] = interval
    return found


def _columns(names: list[str]) -> list[str]:
    return [PREFIX + name for name in names]

"""The state of the loop, read without its servers: what `al status` shows and `al demo` waits for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
import pandas as pd

from al_pipeline.core.data.pool import class_names
from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.metrics import Interval, stored_scores
from al_pipeline.core.rounds import Decision, decide
from al_pipeline.defs.observe import PARTITION_TAG, Facts, newest_round, observe
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.kept_predictions import stored_rounds
from al_pipeline.loop.local import instance_folder
from al_pipeline.settings import Settings


@dataclass(frozen=True)
class RoundRow:
    """One finished evaluation as a person reads it, with the metrics by their names."""

    key: str
    labels: int
    holdout: int
    scores: dict[str, Interval | None]
    seconds: float | None


class Loop:
    """The loop of one AL_HOME.

    Parameters
    ----------
    settings : Settings
    instance : dagster.DagsterInstance
    """

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings, self.deployment, self.instance = settings, Deployment(settings), instance

    def facts(self) -> Facts:
        """Return the facts of the newest round."""
        return observe(self.instance, self.deployment, self.settings.policy)

    def decision(self, facts: Facts) -> Decision:
        """Return what the sensor would decide now."""
        return decide(facts.status, self.settings.policy, datetime.now(UTC))

    def newest(self) -> int | None:
        """Return the number of the newest round, or None."""
        return newest_round(self.instance, self.deployment.ledger)

    def is_set_up(self) -> bool:
        """Say whether the job `setup` has succeeded."""
        return self.instance.get_latest_materialization_event(dg.AssetKey("labeling_project")) is not None

    def image_pool(self) -> pd.DataFrame:
        """Return the manifest that `setup` stored.

        Raises
        ------
        InputError
            There is none yet.
        """
        path = self.deployment.artifacts.image_pool
        if not path.exists():
            raise InputError(f"There is no image pool in {self.settings.home.resolve()} yet: run `al up`")
        return pd.read_parquet(path)

    def class_names(self) -> list[str]:
        """Return the class names, configured or taken from the folders."""
        return class_names(
            self.image_pool(), self.settings.classes, self.settings.images or self.deployment.artifacts.image_pool
        )

    def rounds(self) -> list[RoundRow]:
        """Return a row for each round that has an evaluation."""
        seconds = self._seconds()
        return [
            RoundRow(key, document["n_labels"], *stored_scores(document["evaluation"]), seconds.get(key))
            for key, document in stored_rounds(self.deployment.artifacts.evaluations).items()
        ]

    def _seconds(self) -> dict[str, float]:
        """Return how long the newest successful run of each round took."""
        succeeded = dg.RunsFilter(job_name="round", statuses=[dg.DagsterRunStatus.SUCCESS])
        return {
            record.dagster_run.tags[PARTITION_TAG]: record.end_time - record.start_time
            for record in reversed(self.instance.get_run_records(succeeded))
            if record.start_time and record.end_time and PARTITION_TAG in record.dagster_run.tags
        }


def truth(manifest: pd.DataFrame) -> dict[str, str]:
    """Return the class of every sample whose folder names it: what the simulated annotator answers.

    Raises
    ------
    InputError
        The images lie in no class folders.
    """
    known = manifest[(manifest["split"] != "excluded") & manifest["label"].notna()]
    if known.empty:
        raise InputError(
            "The simulated annotator knows the answers from class folders (images/<class>/…), and these images lie in "
            "none. Let people answer: `al up`"
        )
    return dict(zip(known["sample_id"], known["label"], strict=True))


@contextmanager
def open_loop(settings: Settings) -> Iterator[Loop]:
    """Open the loop of the settings, from DAGSTER_HOME if that is set, else from AL_HOME.

    Raises
    ------
    InputError
        Dagster never ran there.
    """
    with dg.DagsterInstance.from_config(str(instance_folder(settings))) as instance:
        yield Loop(settings, instance)

"""The state of the loop, read without its servers: what `al status` shows and `al demo` waits for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pandas as pd

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.metrics import Interval, stored_scores
from al_pipeline.core.rounds import Decision, decide
from al_pipeline.defs.observe import PARTITION_TAG, Facts, newest_round, observe
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.kept_predictions import stored_rounds
from al_pipeline.loop.samples import classes_of
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
        self.deployment, self.instance = Deployment(settings), instance

    @property
    def settings(self) -> Settings:
        """The settings."""
        return self.deployment.settings

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
        path = self.settings.artifacts / "image_pool.parquet"
        if not path.exists():
            raise InputError(f"There is no image pool in {self.settings.home.resolve()} yet: run `al up`")
        return pd.read_parquet(path)

    def class_names(self) -> list[str]:
        """Return the class names, configured or taken from the folders."""
        return classes_of(self.image_pool(), self.settings)

    def rounds(self) -> list[RoundRow]:
        """Return a row for each round that has an evaluation."""
        return [
            RoundRow(key, document["n_labels"], *stored_scores(document["evaluation"]), self._seconds(key))
            for key, document in stored_rounds(self.settings.artifacts / "evaluation").items()
        ]

    def _seconds(self, key: str) -> float | None:
        records = self.instance.get_run_records(
            dg.RunsFilter(tags={PARTITION_TAG: key}, job_name="round", statuses=[dg.DagsterRunStatus.SUCCESS]), limit=1
        )
        if not records or records[0].start_time is None or records[0].end_time is None:
            return None
        return records[0].end_time - records[0].start_time


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
    home = Path(os.environ.get("DAGSTER_HOME") or settings.dagster_home)
    if not (home / "dagster.yaml").exists():
        raise InputError(f"Dagster has never run in {home}: run `al up` (or `al demo`) first, or set AL_HOME")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield Loop(settings, instance)

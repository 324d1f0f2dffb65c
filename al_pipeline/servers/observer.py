"""The state of the loop, read without its servers: what `al status` shows and `al demo` waits for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pandas as pd

from al_pipeline.core.data.changes import Changes
from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.metrics import Interval, stored_notes, stored_scores
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.rounds import Decision, decide
from al_pipeline.defs.observe import PARTITION_TAG, Facts, newest_round, observe
from al_pipeline.loop.changes import is_older, is_submitted_otherwise, was_moved
from al_pipeline.loop.classes import classes_of, translated
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.how_read import how_of_home, in_words
from al_pipeline.loop.kept_predictions import stored_rounds
from al_pipeline.loop.local import Servers, instance_folder
from al_pipeline.loop.published import is_shown_otherwise
from al_pipeline.servers.dagster_api import without_class
from al_pipeline.settings import Settings


@dataclass(frozen=True)
class RoundRow:
    """One finished evaluation as a person reads it, with the metrics by their names.

    Its classes may be others than today's; notes say why a metric is missing, or partial, and what to mind. `alike` is
    the share of holdout images that have a near-duplicate in training, 0 to 1, None if it was not measured.
    """

    key: str
    labels: int
    holdout: int
    scores: dict[str, Interval | None]
    seconds: float | None
    other_classes: bool = False
    notes: tuple[str, ...] = ()
    alike: float | None = None


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

    def usual_seconds(self) -> float | None:
        """Return how long the newest round took from the last answer that it waited for, at most; None before one."""
        done = dg.RunsFilter(job_name="round", statuses=[dg.DagsterRunStatus.SUCCESS])
        for record in self.instance.get_run_records(done, limit=1):
            if record.start_time and record.end_time:
                return record.end_time - record.start_time + self.settings.sensor_interval
        return None

    def cause(self, run_id: str) -> str | None:
        """Return why a run failed, as the first step that did says it; else what was reported of it, or None."""
        for entry in self.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
            data = entry.get_dagster_event().step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                return data.user_failure_data.description
            if data.error is not None:
                # Dagster says that a step failed because of it.
                return without_class((data.error.cause or data.error).message)
        ends = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.PIPELINE_FAILURE)
        return next((entry.get_dagster_event().message for entry in ends), None)

    def how_seen(self) -> str | None:
        """Say how the network sees images where that is not as ever: their framing, and how files are read."""
        trained = self.instance.get_latest_materialization_event(dg.AssetKey("checkpoint"))
        if trained is None or trained.asset_materialization is None:
            framing = self.settings.training.framing
            told = f"Framing is {framing}, as set" if framing not in ("auto", "crop") else ""
        else:
            found = trained.asset_materialization.metadata.get("framing")
            told = str(found.value) if found is not None else ""
        seen = [] if told.startswith("Framing is crop") else [told]
        return ". ".join(filter(None, [*seen, in_words(how_of_home(self.deployment.artifacts))])) or None

    def newest(self) -> int | None:
        """Return the number of the newest round, or None."""
        return newest_round(self.instance, self.deployment.ledger)

    def is_set_up(self) -> bool:
        """Say whether the job `setup` has succeeded."""
        return self.instance.get_latest_materialization_event(dg.AssetKey("labeling_project")) is not None

    def why_set_up(self, changes: Changes | None) -> str | None:
        """Say why the job `setup` is to run, None if there is nothing for it to do.

        Parameters
        ----------
        changes : Changes, optional
            Of the folder of images, see `loop.changes.look`.
        """
        if not self.is_set_up():
            return "scan the images, create the Label Studio project"
        moved = "Label Studio is to learn where the images of this home are served from today"
        reasons = [moved] if was_moved(self.settings) else []
        reasons += ["the project is to be told which keys submit"] if is_submitted_otherwise(self.settings) else []
        reasons += ["the last scan was by an older version"] if is_older(self.settings) else []
        reasons += ["published pictures are to be made anew"] if is_shown_otherwise(self.settings) else []
        reasons += [changes.sentence] if changes else []
        return "; ".join(reasons) or None

    def told_of_reading(self) -> list[str]:
        """Return what the last scan said of how it reads the files, in sentences."""
        scanned = self.instance.get_latest_materialization_event(dg.AssetKey("image_pool"))
        if scanned is None or scanned.asset_materialization is None:
            return []
        found = scanned.asset_materialization.metadata.get("reading")
        return [] if found is None else str(found.value).splitlines()

    def is_setting_up(self) -> bool:
        """Say whether `al up` runs and is on its way to the first round."""
        from al_pipeline.defs.images import running_setup

        last = Servers.last(self.settings)
        return self.newest() is None and (
            running_setup(self.instance) is not None or (last is not None and last.running)
        )

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

    def classes(self) -> ClassSet:
        """Return today's classes."""
        return classes_of(self.deployment, self.image_pool())

    def rounds(self) -> list[RoundRow]:
        """Return a row for each round that has an evaluation."""
        seconds, classes = self._seconds(), self.deployment.ledger.class_set()

        def row(key: str, document: dict[str, Any]) -> RoundRow:
            measured = document["evaluation"]
            other = classes is not None and not classes.one_to_one(measured["class_names"])
            notes = stored_notes(document) + ((untrained,) if (untrained := document.get("untrained")) else ())
            scores, alike = stored_scores(measured), document.get("near_duplicates")
            # An untrained network has learned from none, however many there are.
            labels = document["n_labels"] or document.get("n_frozen", 0)
            return RoundRow(key, labels, *scores, seconds.get(key), other, notes, alike)

        return [row(*each) for each in stored_rounds(self.deployment.artifacts.evaluations).items()]

    def _seconds(self) -> dict[str, float]:
        """Return how long the newest successful run of each round took."""
        succeeded = dg.RunsFilter(job_name="round", statuses=[dg.DagsterRunStatus.SUCCESS])
        return {
            record.dagster_run.tags[PARTITION_TAG]: record.end_time - record.start_time
            for record in reversed(self.instance.get_run_records(succeeded))
            if record.start_time and record.end_time and PARTITION_TAG in record.dagster_run.tags
        }


def truth(manifest: pd.DataFrame, classes: ClassSet | None = None) -> dict[str, str]:
    """Return the class of every sample whose folder names it: what the simulated annotator answers.

    With a class set it is the class that the folder's name means today; who cannot tell is left to people.

    Raises
    ------
    InputError
        The images lie in no class folders.
    """
    if classes is not None:
        manifest = manifest.assign(label=translated(manifest["label"], classes))
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

"""Where one installation keeps and finds things: its ledger, its Label Studio, the files of a round."""

import json
from collections.abc import Callable, Collection
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from al_pipeline.core.data.places import Place
from al_pipeline.core.errors import CheckpointError, InputError
from al_pipeline.core.files import keep_also
from al_pipeline.core.rounds import round_key
from al_pipeline.labelstudio.identity import Project
from al_pipeline.loop.artifact_bucket import ArtifactBucket, bucket_of
from al_pipeline.loop.identity import owned
from al_pipeline.settings import Settings

if TYPE_CHECKING:
    from al_pipeline.core.learning.checkpoint import Checkpoint
    from al_pipeline.labelstudio.client import LabelStudio
    from al_pipeline.ledger import Ledger


class Artifacts:
    """Where the values of assets lie: `defs.io` writes there, everybody else reads.

    With a bucket the folder is this machine's copy of it (`loop.artifact_bucket`).

    Parameters
    ----------
    folder : Path
        `Settings.artifact_folder`, within AL_HOME.
    place : Place, optional
        `Settings.artifacts`.
    identities : callable, optional
        Returns the identities of the ledger's projects.

    Attributes
    ----------
    image_pool, labeling_project : Path
        The manifest that `setup` stored, and what it made in Label Studio.
    group_rule : Path
        The setting `group` as it was then.
    start_weights : Path
        Which weights rounds start from where nobody says it (`loop.weights`).
    int8 : Path
        What features in int8 are computed with, a .json file per network and kind of square.
    how_read, published_as : Path
        How the last scan has images read, and how those were read that are published.
    checkpoints, evaluations, uncertainty_scores : Path
        A .safetensors, .json or .parquet file per round.
    refined, refining, round_starts : Path
        Networks that were refined while people labeled, a .safetensors and a .json file each (`loop.refined`), which
        stay as checkpoints do (`loop.keeping`); the state of one that is being trained; a .json file per round, of the
        network that it has started from.
    holdout_predictions, stop_predictions : Path
        What each round's checkpoint answers on the holdout, and on the stop set.
    study_cells, comparison_page : Path
        A folder per seed with the results of each strategy; the report of them all.
    learning_curve, curve_picture, curve_table : Path
        The picture of all rounds, where people find it: in AL_HOME; the same for all machines; and what it was drawn
        from.
    labels_saved : Path
        What the labels have saved so far, in a sentence.
    review_requests : Path
        A file for each sample that somebody wants people to look at again.
    claims : Path
        A file for each run of a round that the loop has requested (`loop.claims`).
    known_tasks : Path
        Which tasks Label Studio had when a round looked (`loop.known_tasks`).
    tracked : Path
        A .json file for each checkpoint that MLflow is told of (`loop.tracking`).
    parts_wanted : Path
        Which parts of the pool lack features, while they are computed (`loop.fan_out`).
    """

    # Beside a round's checkpoint or refined network, or where it was: why it is kept, and what it was.
    PINNED, DELETED = ".pinned", ".deleted.json"

    def __init__(
        self, folder: Path, place: Place | None = None, identities: Callable[[], Collection[str]] = tuple
    ) -> None:
        self.folder, self._identities = folder, identities
        self._bucket = None if place is None else bucket_of(place, folder.absolute())
        if self._bucket is not None:
            keep_also(folder, self._bucket)
        self.image_pool, self.labeling_project = folder / "image_pool.parquet", folder / "labeling_project.json"
        self.group_rule, self.how_read = folder / "group_rule.txt", folder / "how_read.json"
        self.start_weights, self.int8 = folder / "start_weights.json", folder / "int8"
        self.published_as = folder / "published_as.json"
        self.checkpoints, self.evaluations = folder / "checkpoint", folder / "evaluation"
        self.refined, self.refining = folder / "refined_checkpoint", folder / "refining"
        self.round_starts = folder / "round_start"
        self.uncertainty_scores = folder / "uncertainty_scores"
        self.holdout_predictions, self.stop_predictions = folder / "holdout_predictions", folder / "stop_predictions"
        self.study_cells, self.comparison_page = folder / "simulation", folder / "strategy_comparison.html"
        self.learning_curve = folder.parent / "learning_curve.png"
        self.curve_picture = folder / "learning_curve.png"
        self.curve_table, self.tracked = folder / "learning_curve.parquet", folder / "tracked"
        self.labels_saved, self.review_requests = folder / "labels_saved.txt", folder / "review_requests"
        self.claims, self.parts_wanted = folder / "claims", folder / "parts_wanted.json"
        self.known_tasks = folder / "known_tasks.json"

    @classmethod
    def unread(cls, settings: Settings) -> "Artifacts":
        """Return those of an installation, of which nothing was looked at yet."""

        def identities() -> list[str]:
            from al_pipeline.ledger import Ledger

            with closing(Ledger(settings.ledger_url)) as ledger:
                return [project.identity for project in ledger.projects()]

        return cls(settings.artifact_folder, settings.artifacts, identities)

    @classmethod
    def of(cls, settings: Settings) -> "Artifacts":
        """Return those of an installation, as they are now; errors are those of `fresh`."""
        return cls.unread(settings).fresh()

    def fresh(self) -> "Artifacts":
        """Have what other machines have written; without a bucket that is there already.

        Raises
        ------
        PlaceError
            The bucket is away.
        InputError
            It is that of another deployment, and nothing was read of it, or written to it.
        """
        if self._bucket is not None:
            if not self._bucket.ours:
                self._check_owner(self._bucket)
            self._bucket.refresh()
        return self

    def own(self, identity: str) -> None:
        """Write down in the bucket, if there is one, that this project's ledger owns it; errors as of `fresh`."""
        self.check()
        if self._bucket is not None:
            self._bucket.own(identity)

    def check(self) -> None:
        """Look whose the bucket is, if there is one, and at nothing else; errors are those of `fresh`."""
        if self._bucket is not None:
            self._check_owner(self._bucket)

    def _check_owner(self, bucket: ArtifactBucket) -> None:
        owner = bucket.owner()
        if owner is not None and owner not in self._identities():
            raise InputError(
                f"{bucket.place} (AL_ARTIFACTS) holds what rounds of another ledger have written (of the project "
                f"{owner}), and this ledger knows of none of them. Set AL_DATABASE_URL to that ledger, or name an "
                "empty place"
            )
        # Until somebody owns it, it may be another's the next time.
        bucket.ours = owner is not None

    def stored_checkpoint(self, number: int) -> "Checkpoint | None":
        """Return the checkpoint of a round, if it has one.

        Raises
        ------
        CheckpointError
            It was deleted, or is damaged.
        """
        from al_pipeline.core.learning.checkpoint import Checkpoint

        if number < 0:
            return None
        if deleted := self.deleted(round_key(number)):
            raise CheckpointError(deleted)
        path = self.checkpoints / f"{round_key(number)}.safetensors"
        return Checkpoint.load(path) if path.exists() else None

    def deleted(self, key: str) -> str | None:
        """Say that a round's checkpoint was deleted, what it was and how it comes back; None if it was not deleted."""
        left = self.checkpoints / f"{key}{self.DELETED}"
        if (self.checkpoints / f"{key}.safetensors").exists() or not left.exists():
            return None
        was = json.loads(left.read_text(encoding="utf-8"))
        start = was.get("refined")
        again = ""
        if start and not (self.refined / f"{start}.safetensors").exists():
            again = f"the job `refine` for {start}, whose network it stands on, and then "
        return (
            f"The checkpoint of {key} ({was['weights_hash'][:16]}, learned from {was['n_labels']} labels) was deleted: "
            f"AL_KEEP_CHECKPOINTS says how many stay. To get it back launch {again}the job `retrain` for "
            f"{key}: from its frozen labels the same settings give the same weights"
        )


class Deployment:
    """Where this installation keeps and finds things; a resource without config, so that no secret enters one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._artifacts = Artifacts.unread(settings)
        self._project: tuple[str, Project] | None = None
        #: What was counted of a round at the last look, and all that it depends on: `loop.progress` keeps it here.
        self.counted: tuple[object, Any] | None = None

    @property
    def artifacts(self) -> Artifacts:
        """Where the values of assets lie, as they are now; errors are those of `Artifacts.fresh`."""
        return self._artifacts.fresh()

    @cached_property
    def ledger(self) -> "Ledger":
        """The ledger, opened (and migrated) on first use."""
        from al_pipeline.ledger import Ledger

        return Ledger(self.settings.ledger_url)

    @cached_property
    def label_studio(self) -> "LabelStudio":
        """A client for the configured Label Studio, or for the one that `al up` runs."""
        from al_pipeline.loop import local

        return local.label_studio(self.settings)

    def project(self, run_id: str | None = None) -> Project:
        """Return the labeling project and its identity; within one run Label Studio is asked once.

        Raises
        ------
        InputError
            No project has the configured title yet, or one that is another home's.
        """
        if run_id is not None and self._project is not None and self._project[0] == run_id:
            return self._project[1]
        title = self.settings.label_studio_project
        found = self.label_studio.find_project(title)
        if found is None:
            raise InputError(
                f"Label Studio at {self.label_studio.url} has no project titled {title!r} (AL_LABEL_STUDIO_PROJECT): "
                "launch the job `setup`, or materialize labeling_project"
            )
        project = owned(self.ledger, self.label_studio, found)
        if run_id is not None:
            self._project = (run_id, project)
        return project

    def project_id(self, run_id: str | None = None) -> int:
        """Return the id of the labeling project, see `project`."""
        return self.project(run_id).project_id

    def project_url(self, project_id: int) -> str:
        """Return where people open the project in their browser."""
        public = self.settings.label_studio_public_url
        url = self.label_studio.project_url(project_id)
        return url if public is None else url.replace(self.label_studio.url, public.rstrip("/"), 1)

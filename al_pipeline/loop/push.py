"""The batch in Label Studio: reconcile, import, verify. What is there is not sent again, what is answered not asked."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd

from al_pipeline.core.data.ahead import Ahead
from al_pipeline.core.errors import ALError, ImageError
from al_pipeline.core.rounds import RoundPolicy, round_number
from al_pipeline.ledger.schema import REVIEW
from al_pipeline.loop.answers import answered_samples, planned_before
from al_pipeline.loop.classes import check_project, classes_of, translated
from al_pipeline.loop.copies import Copies
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.holdout import mixed
from al_pipeline.loop.how_read import how_of_home
from al_pipeline.loop.presence import Files, exists
from al_pipeline.loop.published import reduced, shown_px
from al_pipeline.loop.together import cannot_return, with_pictures

if TYPE_CHECKING:
    from al_pipeline.labelstudio.client import LabelStudio
    from al_pipeline.labelstudio.push import Reconciliation
    from al_pipeline.ledger import Ledger


class BatchError(ALError):
    """A query batch that must not be sent."""


def prepare(
    deployment: Deployment, project_id: int, key: str, batch: pd.DataFrame, manifest: pd.DataFrame, policy: RoundPolicy
) -> pd.DataFrame:
    """Return what of a batch needs tasks, with its images put where Label Studio can serve them.

    Parameters
    ----------
    deployment : Deployment
    project_id : int
    key : str
        The round.
    batch : DataFrame
        The asset query_batch.
    manifest : DataFrame
        The image pool.
    policy : RoundPolicy

    Returns
    -------
    DataFrame
        Rows of the batch with the columns ``image``, the name of the published file, and ``shown``, how many images
        are in it. Samples whose image is away are left out, and withdrawn from the round.

    Raises
    ------
    BatchError
        The batch holds a sample twice, or one that was asked about before.
    InputError
        The project does not show the classes.
    PlaceError
        The bucket of originals, or of published images, is away.
    """
    refuse_bad_batch(deployment.ledger, key, batch)
    classes = classes_of(deployment, manifest)
    if len(batch):
        check_project(deployment, project_id, classes)
        studio = deployment.label_studio
        batch = to_ask(deployment.ledger, studio, project_id, key, batch, policy.min_votes, classes.names)
    # The classes may have changed since the checkpoint has guessed.
    batch = batch.assign(predicted=translated(batch["predicted"], classes))
    files = Files(manifest, deployment)
    copies, sides = Copies(deployment.settings), reduced(manifest, shown_px(deployment.settings))
    copies.fetch(batch["sample_id"].tolist())
    names, absent = _published(deployment, files, batch["sample_id"].tolist(), sides)
    if absent:
        # Nobody can be asked about them: they return to the pool, and are asked about when their images are back.
        deployment.ledger.withdraw(key, absent, datetime.now(UTC))
    batch = batch[batch["sample_id"].isin(list(names))].reset_index(drop=True)
    batch = with_pictures(deployment, key, batch.assign(image=batch["sample_id"].map(names)), files)
    copies.put(batch["image"])
    return batch


def _published(
    deployment: Deployment, files: Files, sample_ids: list[str], sides: dict[str, int | None]
) -> tuple[dict[str, str], dict[str, str]]:
    """Put images where Label Studio can serve them; return their names, and of the others why they are not there.

    What is there already needs no original. `sides` are those of what is shown reduced.
    """
    from al_pipeline.labelstudio.images import publish, published

    found, names = files.askable(sample_ids), dict[str, str]()
    absent, folder, how = dict(found.absent), deployment.settings.published_images, how_of_home(deployment.artifacts)
    # What is published already needs no original; objects of a bucket are read while others are made.
    places = [files.uris[i] if i in files.uris and published(i, folder) is None else "" for i in found.there]
    ahead = Ahead(places)
    for row, sample in enumerate(found.there):
        try:
            source = ahead.take(row) or files.uris.get(sample, "")
            names[sample] = publish(source, sample, folder, how, shown_px=sides.get(sample))
        except (ImageError, FileNotFoundError, PermissionError) as error:
            # It vanished just now; whatever else is wrong, such as a full disk, is no fault of the image.
            if sample in files.uris and exists(files.uris[sample]) and files.damage(sample) is None:
                raise
            absent[sample] = str(error)
    return names, absent


def create_missing(
    deployment: Deployment, project_id: int, key: str, batch: pd.DataFrame, log: logging.Logger
) -> pd.DataFrame:
    """Compare a batch with what Label Studio holds for the round, and create the tasks that are missing.

    It looks just before: doing this part alone again must not double a task.

    Returns
    -------
    DataFrame
        The batch with the columns ``created``, the id of the new task, none where `verify` has to choose; and
        ``place``, that of the image in a new task that asks about several.
    """
    from al_pipeline.labelstudio.config import cells_in, payload
    from al_pipeline.labelstudio.grid import as_grids
    from al_pipeline.labelstudio.push import import_missing, places_in, reconcile

    created, places = dict[str, int](), dict[str, int]()
    if len(batch):
        found = reconcile(deployment.label_studio, project_id, key, list(batch["sample_id"]))
        log.info("%d of %d tasks exist already", len(found.existing), len(batch))
        if found.foreign:
            log.warning("Tasks %s of this round ask about something nobody planned", found.foreign[:10])
        rows = mixed(batch[batch["sample_id"].isin(found.missing)], key).to_dict("records")
        guess = deployment.settings.predictions
        folder = Copies(deployment.settings).shown_at
        payloads = [
            payload(row, round_key=key, image_name=row["image"], prediction=guess, folder=folder) for row in rows
        ]
        cells = cells_in(deployment.label_studio.project_counts(project_id).label_config)
        payloads = as_grids(payloads, deployment.settings.grid, cells)
        made = import_missing(deployment.label_studio, project_id, payloads)
        if any("predictions" in task for task in payloads):
            deployment.label_studio.show_guesses(project_id)
        log.info("%d tasks created", len(payloads))
        # Where there were tasks before, `verify` has to choose among them.
        created = {} if found.existing or found.foreign else made
        places = places_in(payloads)
    samples = batch["sample_id"]
    return batch.assign(created=samples.map(created).astype("Int64"), place=samples.map(places).astype("Int64"))


def verify_and_record(
    deployment: Deployment, project_id: int, key: str, batch: pd.DataFrame
) -> "Reconciliation | None":
    """Look at the round's tasks once more, and record in the ledger which asks about what; None for an empty batch."""
    from al_pipeline.labelstudio.push import verify

    if batch.empty:
        deployment.ledger.record_pushed(key, {}, datetime.now(UTC))
        return None
    made, placed = batch[batch["created"].notna()], batch[batch["place"].notna()]
    created = dict(zip(made["sample_id"], made["created"].astype(int), strict=True))
    places = dict(zip(placed["sample_id"], placed["place"].astype(int), strict=True))
    found = verify(deployment.label_studio, project_id, key, list(batch["sample_id"]), created, places)
    deployment.ledger.record_pushed(key, found.existing, datetime.now(UTC), found.places)
    return found


def to_ask(
    ledger: "Ledger",
    client: "LabelStudio",
    project_id: int,
    key: str,
    batch: pd.DataFrame,
    min_votes: int,
    class_names: Sequence[str],
) -> pd.DataFrame:
    """Return the part of a batch that needs tasks; all of it, unless the round was pushed before.

    What people have answered is in the ledger, and they are not asked again when Label Studio lost its tasks. A sample
    that was withdrawn from this round may be asked about by another one by now; one that was withdrawn from another,
    skipped or answered with no class, is asked about here.
    """
    from al_pipeline.labelstudio.push import reconcile

    planned = ledger.planned()
    elsewhere = planned[(planned["round"] != key) & planned["withdrawn_at"].isna() & (planned["purpose"] != REVIEW)]
    batch = batch[(batch["purpose"] == REVIEW) | ~batch["sample_id"].isin(elsewhere["sample_id"])]
    batch = batch[~batch["sample_id"].isin(cannot_return(ledger, key))]
    settled = answered_samples(ledger, key, min_votes, class_names)
    if not settled:
        return batch
    there = reconcile(client, project_id, key, list(batch["sample_id"])).existing
    return batch[batch["sample_id"].isin(there) | ~batch["sample_id"].isin(settled)]


def refuse_bad_batch(ledger: "Ledger", key: str, batch: pd.DataFrame) -> None:
    """Raise if a batch holds a sample twice or one asked about before.

    The checks of query_batch say so too, but a run of labeling_tasks alone does not look at them.
    """
    twice = sorted(batch.loc[batch["sample_id"].duplicated(), "sample_id"])
    new = batch.loc[batch["purpose"] != REVIEW, "sample_id"]
    before = sorted(set(new) & planned_before(ledger, round_number(key)))
    if twice or before:
        raise BatchError(
            f"The batch of {key} cannot be sent: {len(twice)} samples are in it twice and {len(before)} were asked "
            f"about in earlier rounds (the first is {(twice + before)[0]}). Look at query_batch[{key}] and its checks"
        )

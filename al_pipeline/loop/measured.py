"""Rounds measured on the same test images while more and more of these are answered."""

from collections.abc import Iterable, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from al_pipeline.core.data.holdout import groups_of
from al_pipeline.loop.answers import holdout_labels
from al_pipeline.loop.classes import classes_of, classes_of_round
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.kept_predictions import HoldoutPredictions

if TYPE_CHECKING:
    from al_pipeline.ledger import Ledger


def tests_to_come(ledger: "Ledger", pool: Iterable[str], answered: pd.DataFrame) -> list[str]:
    """Return the drawn test images of the pool that nobody has answered yet, in the order of asking.

    Parameters
    ----------
    ledger : Ledger
    pool : iterable of str
        Sample ids.
    answered : DataFrame
        ``sample_id`` of those that have a label.
    """
    there, known = pool if isinstance(pool, Set) else set(pool), set(answered["sample_id"])
    return [sample for sample in ledger.drawn()["sample_id"] if sample in there and sample not in known]


def measured_alike(
    deployment: Deployment, manifest: pd.DataFrame, documents: dict[str, dict[str, Any]], min_votes: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Return the documents of rounds with every trained one measured on the same test images, those answered by now.

    A round's own document is measured on what was answered when it ran: two of them differ by their test images too. As
    they are stay rounds that tell other classes apart than today's, and all where most of what is answered by now was
    not predicted by every round, or nothing was drawn by the loop.

    Parameters
    ----------
    deployment : Deployment
    manifest : DataFrame
    documents : dict
        Round → what `evaluation` stores.
    min_votes : int
    seed : int
        Of the bootstrap.
    """
    from al_pipeline.core.evaluation.evaluate import evaluate

    if deployment.ledger.drawn().empty:
        return documents
    today, kept = classes_of(deployment, manifest), HoldoutPredictions(deployment.artifacts.holdout_predictions)
    alike: dict[str, tuple[list[str], pd.DataFrame]] = {}
    for key, document in documents.items():
        names = document["evaluation"]["class_names"]
        predicted = kept.read(key, names) if document["trained"] and today.one_to_one(names) else None
        if predicted is not None:
            alike[key] = names, predicted
    if not alike:
        return documents
    answered = set(holdout_labels(manifest, deployment.ledger, today, min_votes)["sample_id"])
    common = answered.intersection(*(predicted.index for _, predicted in alike.values()))
    if 2 * len(common) <= len(answered):
        return documents
    groups, measured = groups_of(manifest), dict(documents)
    for key, (names, predicted) in alike.items():
        classes = replace(classes_of_round(deployment, manifest, key), names=tuple(names))
        tests = holdout_labels(manifest, deployment.ledger, classes, min_votes)
        tests = tests[tests["sample_id"].isin(common)]
        ids, labels = tests["sample_id"].tolist(), tests["label"].tolist()
        said = kept.said(key, names).loc[ids].to_numpy("int64")
        theirs = [str(groups.get(sample, sample)) for sample in ids]
        result = evaluate(predicted.loc[ids].to_numpy(), labels, names, seed=seed, said=said, groups=theirs)
        measured[key] = documents[key] | {"evaluation": result.to_json()}
    return measured

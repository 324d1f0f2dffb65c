"""The live proof: the loop's newest model against what random labels would have given, from the ledger's own rows."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_pipeline.core.data.known_pool import known_pool
from al_pipeline.core.learning.folds import numbered
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.thresholds import decided
from al_pipeline.core.rng import generator
from al_pipeline.core.rounds import RoundPolicy, round_number
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.loop.answers import holdout_labels
from al_pipeline.loop.classes import classes_of_round
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.kept_predictions import HoldoutPredictions, stored_rounds
from al_pipeline.loop.samples import StoredSamples
from al_pipeline.loop.weights import settle_weights

if TYPE_CHECKING:
    from al_pipeline.core.learning.train import TrainingOptions
    from al_pipeline.core.outlook.random_arm import LabelsSaved

# A head takes a fraction of a second, a network minutes.
HEAD_PAIRS, NETWORK_PAIRS = 6, 2
Learn = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class Proof:
    """What the labels have saved so far, in words, and the figures if there is evidence enough."""

    sentence: str
    found: "LabelsSaved | None" = None


def live_proof(
    log: logging.Logger,
    deployment: Deployment,
    round_config: RoundSettings,
    training: TrainingOptions,
    policy: RoundPolicy,
    manifest: pd.DataFrame,
) -> Proof:
    """Compare the newest trained round with random labels; say why not where that cannot be done.

    The random labels are trained on as the round was, and tested on the same holdout.
    """
    from al_pipeline.core.learning.targets import class_numbers
    from al_pipeline.core.outlook.random_arm import labels_saved, measure, sentence, too_little

    if training.semi_supervised != "none":
        return _none(f"random labels are not followed with training.semi_supervised {training.semi_supervised}")
    documents = stored_rounds(deployment.artifacts.evaluations)
    trained = [key for key, document in documents.items() if document["trained"]]
    if not trained:
        return _none("no round has trained yet")
    key, seed = trained[-1], round_config.seed
    names: list[str] = documents[key]["evaluation"]["class_names"]
    classes = classes_of_round(deployment, manifest, key)
    holdout = holdout_labels(manifest, deployment.ledger, replace(classes, names=tuple(names)), policy.min_votes)
    kept = HoldoutPredictions(deployment.artifacts.holdout_predictions)
    predicted = kept.read(key, names)
    holdout = holdout[holdout["sample_id"].isin(() if predicted is None else predicted.index)]
    labels = deployment.ledger.frozen_labels(key)
    labels = labels[labels["label"].isin(names)]
    sequence = _random_sample(deployment, manifest, round_number(key), seed)
    # What a question shows beside its image costs no answer of its own.
    answered = labels[labels["asked_with"].isna()]
    by_id = answered.set_index("sample_id")["label"]
    arm = by_id[[sample for sample in sequence if sample in by_id.index]]
    reason = too_little(len(arm), len(answered), len(names), len(holdout))
    if reason is not None or predicted is None:
        return _none(reason or f"no predictions of {key} are kept")
    training = settle_weights(training, deployment.settings).training
    options = _options(training, labels)
    if options.mode != "head" and not round_config.explore:
        # A random first batch alone is no reason to train networks after every round.
        return _none("whole networks are trained on random labels only with a random share: set round.explore to 0.2")
    said = kept.said(key, names)
    samples, by_head = StoredSamples(manifest, deployment, training, seed, log), options.mode == "head"
    options = options.but(framing=samples.training.framing)

    def saved(there: Sequence[str]) -> "LabelsSaved | None":
        drawn, tests = arm[arm.index.isin(there)], holdout[holdout["sample_id"].isin(there)]
        if too_little(len(drawn), len(answered), len(names), len(tests)) is not None:
            return None
        truth = class_numbers(tests["label"].tolist(), names)
        own = said.loc[tests["sample_id"]].to_numpy() == truth
        learner = _learner(samples, drawn, tests, names, options, seed, round_number(key))
        rng = generator(seed, round_number(key), "random arm parts")
        points = measure(len(drawn), learner, pairs=HEAD_PAIRS if by_head else NETWORK_PAIRS, rng=rng)
        groups = numbered(samples.groups(tests["sample_id"].tolist()))
        beside = len(labels) - len(answered)
        return labels_saved(points, own, n_labels=len(answered), rng=rng, shown_beside=beside, groups=groups)

    found, present = samples.using([*arm.index, *holdout["sample_id"]], saved, by_features=by_head)
    return _none(present.sentence("labels are left,")) if found is None else Proof(sentence(found), found)


def _none(reason: str) -> Proof:
    return Proof(f"not enough evidence yet: {reason}")


def _random_sample(deployment: Deployment, manifest: pd.DataFrame, number: int, seed: int) -> list[str]:
    """Return a random sample of the pool among what rounds before `number` asked about."""
    from al_pipeline.core.outlook.random_arm import Asked, random_sequence

    planned = deployment.ledger.planned()
    members = known_pool(manifest).members
    apart = set(planned.loc[planned["purpose"] == "holdout", "sample_id"]) | deployment.ledger.holdout()
    apart = {sample for sample in apart | deployment.ledger.held_back() if sample in members}
    given = {sample for sample in deployment.ledger.imported() - apart if sample in members}
    # A sample that was withdrawn may be asked about again: it counts where it came first.
    query = planned[planned["purpose"] == "query"]
    # Without a row a list would be taken for names of columns.
    counts = [i in members and i not in apart and i not in given for i in query["sample_id"]]
    query = query[np.array(counts, dtype=bool)]
    query = query[query["round"].map(round_number) < number].sort_values(["round", "rank"])
    query = query.drop_duplicates("sample_id")
    asked = []
    for _, batch in query.groupby("round"):
        drawn = batch["strategy"] == "random"
        asked.append(Asked(batch.loc[drawn, "sample_id"].tolist(), batch.loc[~drawn, "sample_id"].tolist()))
    return random_sequence(asked, len(members) - len(apart), generator(seed, 0, "random arm"), given=given)


def _options(training: TrainingOptions, labels: pd.DataFrame) -> TrainingOptions:
    """Return how the round was trained, so that random labels are trained on the same way."""
    from al_pipeline.core.learning.checkpoint import device

    mode = training.resolve_mode(labels["label"].value_counts().to_numpy(), device().type)
    # The last checkpoint knows the labels that the strategy chose.
    return training.but(mode=mode, warm_start=False)


def _learner(
    samples: StoredSamples,
    arm: pd.Series,
    holdout: pd.DataFrame,
    names: list[str],
    options: TrainingOptions,
    seed: int,
    number: int,
) -> Learn:
    """Return a function that trains on rows of the arm and tells which holdout samples the model is right about."""
    from al_pipeline.core.learning.targets import class_numbers
    from al_pipeline.core.turn import Given, learn

    def given(ids: list[str]) -> Given:
        # Read once for all the trainings.
        features = samples.features(ids) if options.mode == "head" else None
        return Given(samples.images(ids), features, samples.groups(ids))

    drawn, tests = given(arm.index.tolist()), given(holdout["sample_id"].tolist())
    targets, truth = class_numbers(arm.tolist(), names), class_numbers(holdout["label"].tolist(), names)

    def hits(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        if len(present := np.unique(targets[rows])) == 1:
            return truth == present[0]
        model = learn(drawn, rows, targets[rows], names, options, seed=seed, number=number, network=False)
        return decided(model.predict(tests, np.arange(len(truth))), model.thresholds) == truth

    return hits

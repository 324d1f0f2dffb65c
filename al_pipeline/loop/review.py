"""Labels that are worth a second look go back to people: those in dispute, and those that look wrong."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.rounds import RoundPolicy, round_number
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.ledger.schema import REVIEW
from al_pipeline.loop.answers import agreed_labels

if TYPE_CHECKING:
    from al_pipeline.ledger import Ledger
    from al_pipeline.loop.samples import StoredSamples

# Times that people are asked to look again at the same sample.
MOST_REVIEWS = 2


def review_rows(
    ledger: "Ledger",
    samples: "StoredSamples",
    labeled_pool: pd.DataFrame,
    classes: ClassSet,
    config: RoundSettings,
    policy: RoundPolicy,
    number: int,
    count: int,
    requested: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Return the plan rows of the reviews of a round: what somebody requested, disputed samples, suspected errors.

    There are at most `count`, or as many as requests. A review shows no prediction and not what was answered. A sample
    with an open review, or with `MOST_REVIEWS` that nobody requested, is left alone; so is one whose image is gone.
    """
    if not count and not requested:
        return []
    planned = ledger.planned()
    earlier = planned[(planned["purpose"] == REVIEW) & (planned["round"].map(round_number) < number)]
    reviews = earlier["sample_id"].value_counts()
    waiting = {sample for _, sample in ledger.open_tasks()}
    tired = set(reviews[reviews >= MOST_REVIEWS].index) | waiting
    disputed = agreed_labels(ledger, classes, policy.min_votes, purpose="query").disputed["sample_id"].tolist()
    usable = labeled_pool[labeled_pool["label"].isin(classes.names)]
    # A request is about a label; it may be none any more.
    known = {*disputed, *usable["sample_id"]} - waiting
    wanted = [("requested", sample) for sample in requested if sample in known]
    tired, count = tired - {sample for _, sample in wanted}, max(count, len(wanted))
    wanted += [("disputed", sample) for sample in disputed if sample not in requested]
    if len(wanted) < count and len(usable):
        suspects = _suspects(samples, usable, list(classes.names), config.seed)
        wanted += [("suspected_error", sample) for sample in suspects if sample not in requested]
    there = set(samples.files.known(sample for _, sample in wanted).there)
    rows = [(why, sample) for why, sample in wanted if sample not in tired and sample in there][:count]
    return [
        {"sample_id": sample, "purpose": REVIEW, "rank": rank, "strategy": why, "seed": config.seed}
        for rank, (why, sample) in enumerate(rows)
    ]


def _suspects(samples: "StoredSamples", labels: pd.DataFrame, names: list[str], seed: int) -> list[str]:
    from al_pipeline.core.labels.label_quality import out_of_sample, suspected_errors
    from al_pipeline.core.learning.targets import class_numbers

    # A network that has learned from a label believes it.
    samples = samples.unrefined
    features, found = samples.using(labels["sample_id"].tolist(), samples.features)
    ids, labels = found.there, labels[labels["sample_id"].isin(found.there)]
    targets = class_numbers(labels["label"].tolist(), names)
    probabilities = out_of_sample(features, targets, len(names), seed=seed, groups=samples.groups(ids))
    return [] if probabilities is None else suspected_errors(ids, targets, probabilities)

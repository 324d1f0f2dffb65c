"""Which samples a round asks about: the draw of candidates, their scores, and the batch, written before it is sent."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from al_pipeline.core.data.known_pool import TEXT, Subset, known_pool
from al_pipeline.core.data.row_file import keys_of
from al_pipeline.core.learning.thresholds import decided
from al_pipeline.core.rounds import RoundPolicy, round_key
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.ledger import PLAN_COLUMNS
from al_pipeline.loop.again import again_rows
from al_pipeline.loop.answers import asked_blind, planned_before
from al_pipeline.loop.classes import classes_of, classes_of_round
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.holdout import blind_rows, kept_apart, newly_drawn
from al_pipeline.loop.kept_predictions import PREFIX
from al_pipeline.loop.requests import Requests
from al_pipeline.loop.review import review_rows
from al_pipeline.loop.together import asking_groups, members_for, one_of_each, parted

if TYPE_CHECKING:
    from al_pipeline.core.learning.checkpoint import Checkpoint
    from al_pipeline.ledger import Ledger
    from al_pipeline.loop.samples import StoredSamples

# Of a table of scores: columns of few different texts.
CATEGORIES = ("predicted", "checkpoint")
# Rows that are written together.
PART = 1 << 16


def draw_candidates(
    ledger: "Ledger",
    manifest: pd.DataFrame,
    config: RoundSettings,
    number: int,
    holdout_size: int,
    *,
    together: bool = False,
) -> tuple[Subset, int]:
    """Draw S samples at random from the unlabeled pool: pool samples that no earlier round has asked about.

    Nothing is drawn that belongs to a group of the holdout, and of samples that are asked about together one.

    Returns
    -------
    Subset
    int
        How many there were to draw from.
    """
    from al_pipeline.core.turn import draw

    known, places = known_pool(manifest), _unlabeled(ledger, manifest, config, number, holdout_size)
    if together:
        rows = manifest.iloc[known.rows[places]]
        one = one_of_each(rows, parted(ledger), seed=config.seed, number=number)
        places = known.places(one["sample_id"].tolist())
    drawn = draw(len(places), config.sample_size, seed=config.seed, number=number)
    return Subset(known, places[drawn]), len(places)


def _unlabeled(
    ledger: "Ledger", manifest: pd.DataFrame, config: RoundSettings, number: int, holdout_size: int
) -> npt.NDArray[np.int64]:
    """Return the places in the pool of whom people may be asked about, in the order of their ids.

    Sorted, so that the draw depends on the samples and the seed, not on where the files lie.
    """
    # Who was asked about blind stays so, also if the task is gone.
    asked = planned_before(ledger, number) | ledger.imported() | asked_blind(ledger)
    asked |= kept_apart(ledger, manifest, newly_drawn(ledger, manifest, holdout_size, config.seed, number))
    return known_pool(manifest).pool_without(asked)


def score_candidates(sample_ids: Sequence[str], probabilities: np.ndarray, checkpoint: "Checkpoint") -> pd.DataFrame:
    """Turn predictions into certainties, max softmax − 1/K.

    Parameters
    ----------
    sample_ids : sequence of str, length n
    probabilities : float64 array, shape (n, K)
    checkpoint : Checkpoint

    Returns
    -------
    DataFrame
        ``sample_id, predicted, predicted_probability, certainty, checkpoint, trained``, and a column for the
        probability of each class: ``p_`` and its name.
    """
    from al_pipeline.core.strategies import certainty

    info = checkpoint.info
    best = decided(probabilities, info.thresholds)
    # No texts for each of a million rows: ids as they stand in memory, and numbers of the few classes.
    texts = sample_ids.texts if isinstance(sample_ids, Subset) else pa.array(sample_ids, pa.large_string())
    told: dict[str, Any] = {
        "sample_id": pd.array(texts, dtype=TEXT),
        "predicted": pd.Categorical.from_codes(best, list(info.class_names)),
        "predicted_probability": probabilities[np.arange(len(best)), best],
        "certainty": certainty(probabilities),
        "checkpoint": pd.Categorical.from_codes(np.zeros(len(best), dtype=np.int8), [checkpoint.hash]),
        "trained": info.trained,
    }
    found = dict(zip(_columns(info.class_names), probabilities.T, strict=True))
    return pd.DataFrame(told | found, columns=[*told, *found])


def choose_batch(
    deployment: Deployment,
    samples: "StoredSamples",
    manifest: pd.DataFrame,
    labeled_pool: pd.DataFrame,
    checkpoint: "Checkpoint",
    scores: pd.DataFrame,
    config: RoundSettings,
    policy: RoundPolicy,
    number: int,
) -> pd.DataFrame:
    """Choose what people are asked about in a round, write it to the ledger, and return the rows of the plan.

    That is the query batch, with the samples that are reviewed in it, and beside it a share of tasks about the holdout:
    what round 0 has drawn, and later the part of it that images which came since have, while there is any left.

    Parameters
    ----------
    deployment : Deployment
    samples : StoredSamples
    manifest, labeled_pool, checkpoint, scores
        The assets image_pool, labeled_pool, checkpoint and uncertainty_scores of the round.
    config : RoundSettings
    policy : RoundPolicy
    number : int
        Of the round.
    """
    ledger = deployment.ledger
    left = _labels_left(ledger, policy, number)
    size, asks_nobody = min(config.batch_size, left), number > 0 and left < 1
    classes, most = classes_of_round(deployment, manifest, round_key(number)), int(config.review * size)
    holdout_size, together = deployment.settings.holdout_size, deployment.settings.ask_groups
    # The images may have changed since candidates were drawn.
    drawn = {} if asks_nobody else newly_drawn(ledger, manifest, holdout_size, config.seed, number)
    held = kept_apart(ledger, manifest, drawn)
    usable = set(samples.files.known(labeled_pool["sample_id"]).there) - held
    labeled_pool = labeled_pool[labeled_pool["sample_id"].isin(usable)]
    requested = Requests(deployment).open()[: max(0, size)]
    reviews = review_rows(ledger, samples, labeled_pool, classes, config, policy, number, most, requested)
    free = size - len(reviews)
    names, overlap = classes_of(deployment, manifest).names, deployment.settings.overlap
    mates, asked = held - set(ledger.drawn()["sample_id"]), ledger.planned(columns=("sample_id",))["sample_id"]
    free_to_ask = {sample for sample in asked if sample in samples.uris and sample not in mates}
    again = again_rows(ledger, number, names, policy, overlap, most=free, seed=config.seed, there=free_to_ask)
    there = set(samples.files.askable(row["sample_id"] for row in again).there)
    again = [row for row in again if row["sample_id"] in there]
    scores = _without(scores, held | {row["sample_id"] for row in again})
    alone, unlabeled, known = parted(ledger), manifest.head(0), known_pool(manifest)
    if together:
        unlabeled = manifest.iloc[known.rows[_unlabeled(ledger, manifest, config, number, holdout_size)]]
        groups = dict(zip(unlabeled["sample_id"], asking_groups(unlabeled, alone), strict=True))
        # What is asked again brings its group along.
        scores = scores[~scores["sample_id"].map(groups).isin({groups.get(row["sample_id"], "") for row in again})]
    free -= sum(row["purpose"] == "query" for row in again)
    choose = partial(_query_rows, ledger, samples, labeled_pool, checkpoint, config, free, number)
    rows = _askable_rows(samples, scores, choose) + again + reviews
    blind = sum(row["purpose"] == "holdout" for row in again)
    waiting = {} if asks_nobody else ledger.holdout_waiting() | drawn
    share = deployment.settings.holdout_share
    rows += blind_rows(waiting, known.members, len(rows) - blind, share, config.seed, first=blind)
    members = members_for(rows, unlabeled, alone)
    return ledger.plan(round_key(number), pd.DataFrame(rows, columns=list(PLAN_COLUMNS)), members, drawn)


def _askable_rows(
    samples: "StoredSamples", scores: pd.DataFrame, choose: Callable[[pd.DataFrame], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Return the plan rows that are chosen of scored candidates: anew while there is a sample that cannot be shown.

    Features are stored, so that nobody may have looked at the files since the last scan.
    """
    while True:
        rows = choose(scores)
        absent = samples.files.askable(row["sample_id"] for row in rows).absent
        if not absent:
            return rows
        scores = _without(scores, absent)


def _without(scores: pd.DataFrame, sample_ids: Collection[str]) -> pd.DataFrame:
    out = scores["sample_id"].isin(list(sample_ids)) if sample_ids else pd.Series(False, index=scores.index)
    return scores[~out] if out.any() else scores


def _query_rows(
    ledger: "Ledger",
    samples: "StoredSamples",
    labeled_pool: pd.DataFrame,
    checkpoint: "Checkpoint",
    config: RoundSettings,
    size: int,
    number: int,
    scores: pd.DataFrame,
) -> list[dict[str, Any]]:
    """Return the plan rows of the query batch: at most `size` of the scored candidates."""
    from al_pipeline.core import turn
    from al_pipeline.core.learning.targets import class_numbers

    if min(size, len(scores)) < 1:
        return []
    config = turn.applicable(config, checkpoint.info.weights)
    trained, names = checkpoint.info.trained, checkpoint.info.class_names
    at: dict[str, Any] = {"seed": config.seed, "number": number}
    asked = None
    if turn.uses_features(config.strategy, config):
        known = planned_before(ledger, number, purpose="query") | ledger.imported()
        asked = samples.using(sorted(sample for sample in known if sample in samples.uris), samples.features)[0]
        embeddings, found = samples.using(samples.some(scores["sample_id"]), samples.on_demand)
        scores = _without(scores, found.absent)
    else:
        embeddings = None
    probabilities = stored_probabilities(scores, names)
    if turn.needs_ensemble(config.strategy) and trained and len(scores):
        model, labels, ids = (
            samples.model(checkpoint),
            labeled_pool.set_index("sample_id")["label"],
            set(scores["sample_id"]),
        )

        def predicted(there: Sequence[str]) -> np.ndarray:
            labeled = [sample for sample in there if sample in labels.index]
            targets = class_numbers(labels[labeled].tolist(), names)
            candidates = [sample for sample in there if sample in ids]
            return turn.ensemble(model, samples, labeled, targets, candidates, len(names), **at)

        both = [*labels.index, *scores["sample_id"]]
        probabilities, found = samples.using(both, predicted, by_features=model.by_features)
        kept = scores["sample_id"].isin(found.there).to_numpy()
        scores, embeddings = scores[kept], None if embeddings is None else embeddings[kept]
    if not len(scores):
        return []
    selection = turn.choose(
        config.strategy,
        config,
        min(size, len(scores)),
        trained=trained,
        probabilities=probabilities,
        embeddings=embeddings,
        asked=asked,
        **at,
    )
    strategies = np.where(selection.explored, "random", selection.strategy)
    chosen = scores.iloc[selection.indices]
    return [
        {
            "sample_id": row.sample_id,
            "purpose": "query",
            "rank": rank,
            "strategy": str(strategy),
            "score": float(score),
            "propensity": float(propensity),
            "certainty": row.certainty,
            "predicted": row.predicted if row.trained else None,
            "predicted_probability": row.predicted_probability,
            "seed": config.seed,
            "checkpoint": row.checkpoint,
        }
        for rank, (row, strategy, score, propensity) in enumerate(
            zip(chosen.itertuples(), strategies, selection.scores, selection.propensities, strict=True)
        )
    ]


def fewer_than_asked(chosen: int, candidates: int, config: RoundSettings, weights: str) -> str | None:
    """Say why a batch is smaller than `batch_size`; None if it is not.

    Parameters
    ----------
    chosen : int
        Samples of the batch, reviews among them.
    candidates : int
        Samples that were drawn and scored.
    config : RoundSettings
    weights : str
        What training starts from.
    """
    missing = config.batch_size - chosen
    if missing <= 0:
        return None
    said = f"{missing} fewer than asked"
    if candidates <= chosen:
        return f"{said}: no other sample of the pool is unlabeled and not asked about yet"
    if config.dedup is not None and weights != "none":
        return (
            f"{said}: dedup {config.dedup:g} passed over the other candidates, each closer than that to one of the "
            "batch: raise round.dedup or round.sample_size"
        )
    return f"{said}: the policy allows no more labels (label_budget, max_rounds)"


def covers(scores: pd.DataFrame, absent: Collection[str], drawn: Subset) -> bool:
    """Say whether every candidate that was drawn has one row of scores, or is known to be absent."""
    scored = pa.array(scores["sample_id"])
    if not absent:
        # In the order of the draw, which texts of a million need not be made for.
        return np.array_equal(keys_of(scored), drawn.keys)
    candidates = {*scored.to_pylist(), *absent}
    return len(candidates) == len(scored) + len(absent) == len(drawn) and candidates.issuperset(drawn)


def write_scores(scores: pd.DataFrame, file: Path) -> None:
    """Write scored candidates as a Parquet file, in which everybody finds texts where there are categories."""
    table = pa.Table.from_pandas(scores, preserve_index=False).replace_schema_metadata()
    few = [name for name in table.column_names if pa.types.is_dictionary(table.schema.field(name).type)]
    # Nothing is found twice in the others, nor made smaller.
    packed = {name: "snappy" if name in few else "none" for name in table.column_names}
    pq.write_table(table, file, row_group_size=PART, use_dictionary=few, compression=packed, store_schema=False)


def read_scores(path: Path) -> pd.DataFrame:
    """Return scored candidates as `score_candidates` does; of earlier versions, with what they had."""
    names = pq.read_schema(path).names
    table = pq.read_table(path, read_dictionary=[name for name in CATEGORIES if name in names])
    kinds = {pa.string(): TEXT, pa.large_string(): TEXT}
    return table.replace_schema_metadata().to_pandas(types_mapper=kinds.get, split_blocks=True)


def stored_probabilities(scores: pd.DataFrame, class_names: Sequence[str]) -> np.ndarray:
    """Return the probabilities of scored candidates, float64, shape (n, K)."""
    if "probabilities" in scores:
        # Of an earlier version: a vector in each cell.
        rows = list(scores["probabilities"])
        return np.stack(rows).astype(np.float64) if rows else np.empty((0, len(class_names)))
    return scores[_columns(class_names)].to_numpy(dtype=np.float64)


def _columns(class_names: Sequence[str]) -> list[str]:
    return [PREFIX + name for name in class_names]


def _labels_left(ledger: "Ledger", policy: RoundPolicy, number: int) -> int:
    """Return how many more labels the policy allows; the last round asks nobody, since nothing would use the answer."""
    if policy.max_rounds is not None and number + 1 >= policy.max_rounds:
        return 0
    if policy.label_budget is None:
        return 2**31
    # A round that is opened ahead counts on the answers that people are about to give, also to a batch begun early.
    before = {round_key(each) for each in range(max(0, number - 2), number)} if policy.prefetch else set[str]()
    coming = {sample for key, sample in ledger.open_tasks() if key in before} if before else set[str]()
    coming -= ledger.holdout() if coming else set()
    return max(0, policy.label_budget - ledger.count_labels(policy.min_votes) - len(coming))

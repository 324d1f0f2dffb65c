"""A study's runs: the loop without people, with an oracle that knows the answers, to compare strategies fairly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_pipeline.core.data.holdout import groups_of, with_holdout
from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.image_cache import CachedImages, ImageCache
from al_pipeline.core.data.pool import select_split
from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.evaluate import Evaluation, evaluate
from al_pipeline.core.evaluation.kappa import cohens_kappa
from al_pipeline.core.evaluation.metrics import METRICS, columns
from al_pipeline.core.learning.int8 import calibrated, drawn, wants_images
from al_pipeline.core.learning.options import worth_refining
from al_pipeline.core.learning.predict import embed
from al_pipeline.core.learning.thresholds import decided
from al_pipeline.core.learning.train import Images, untrained
from al_pipeline.core.study.oracle import answers
from al_pipeline.core.study.plan import Plan
from al_pipeline.core.study.staged import Stage, staged
from al_pipeline.core.study.world import World
from al_pipeline.core.turn import (
    Features,
    Given,
    Probabilities,
    Rows,
    applicable,
    choose,
    draw,
    ensemble,
    learn,
    needs_ensemble,
    stop_rows,
    uses_features,
)

_NOTHING: Rows = np.empty(0, dtype=np.int64)
# Studies decode what they look at once, and keep features.
_NO_CACHE = ImageCache(Path("no cache"), 0)

Progress = Callable[[str], None]
Row = dict[str, str | int | float | None]


@dataclass(frozen=True)
class KnownSamples:
    """Pool and holdout whose classes are known: ``sample_id``, ``uri``, ``label`` and ``group``, by the id."""

    pool: pd.DataFrame
    holdout: pd.DataFrame
    class_names: tuple[str, ...]
    how: HowRead = AS_EVER

    def images(self, frame: pd.DataFrame) -> Images:
        """Return the images of pool or holdout, which are read as `how` says."""
        paths = frame["uri"].tolist()
        return paths if self.how == AS_EVER else CachedImages(_NO_CACHE, frame["sample_id"].tolist(), paths, self.how)

    @property
    def truth(self) -> npt.NDArray[np.int64]:
        """The pool's class numbers, int64, shape (n,)."""
        number = {name: i for i, name in enumerate(self.class_names)}
        return self.pool["label"].map(number).to_numpy(dtype=np.int64)


@dataclass(frozen=True)
class Embedded:
    """Features under the weights that training starts from: of the pool, (n, d), and the holdout, where heads learn."""

    pool: Features | None = None
    holdout: Features | None = None


def simulate(
    manifest: pd.DataFrame, class_names: Sequence[str], plan: Plan, *, progress: Progress | None = None
) -> pd.DataFrame:
    """Run the loop per strategy and seed on samples whose labels are known.

    It is the real loop's own training, scoring and selection with the same random generators: with these settings,
    `start` ``own`` and annotators who never err, the real loop asks about the same samples. Runs of one seed are
    paired. They share the oracle's answers, initial weights and draws, and, until the first training, random batches
    (with `start` ``own``: but for strategies that go by the features alone).

    Parameters
    ----------
    manifest : DataFrame
        Of `pool.scan`: the labels of the split ``pool`` are what the oracle goes by, those of ``holdout`` the test.
        Without any a quarter of the pool is held out, by whole groups.
    class_names : sequence of str
    plan : Plan
    progress : callable, optional
        Receives one sentence per round.

    Returns
    -------
    DataFrame
        One row per seed, strategy and round: strategy, seed, round, n_labels, n_asked (with those skipped), accuracy,
        accuracy_low, accuracy_high, roc_auc, roc_auc_low, roc_auc_high (NaN where not defined), ece, agreement. That
        is Cohen's kappa of this round's and the last round's model of the run on a fixed random part of the pool, NaN
        where either is not trained. The same plan and samples give the same bytes, in whatever order the manifest
        lists them. Runs that exhaust the pool end early. A staged plan adds refined, whether the refined network
        serves, and refine_seconds, by the clock: they alone differ from run to run.

    Raises
    ------
    InputError
        A pool or holdout sample without a label or with one outside of the classes, or no sample at all.
    """
    samples = known(manifest, class_names)
    shared = embedded(samples, plan) if shares_features(plan) else None
    return pd.concat([simulate_seed(samples, plan, seed, shared, progress) for seed in plan.seeds], ignore_index=True)


@dataclass(frozen=True)
class Turn:
    """What a round knows before it chooses: it follows from the seed, the round and what was asked before alone.

    Attributes
    ----------
    trained : bool
        Whether there were labels of two classes to train on.
    evaluation : Evaluation
    candidates : int64 array, shape (S,)
        Rows of the pool that were drawn.
    probabilities : float64 array, shape (S, K)
    passes : float64 array, shape (T, S, K), optional
        Predictions of an ensemble of heads, if a strategy needs them.
    stop : int64 array, shape (N,), optional
        Classes predicted for the stop set, if the model is trained and the plan wants them.
    """

    trained: bool
    evaluation: Evaluation
    candidates: Rows
    probabilities: Probabilities
    passes: Probabilities | None
    stop: Rows | None


def turn(
    world: World, plan: Plan, asked: Rows, number: int, sample_size: int | None, *, unanswered: Rows = _NOTHING
) -> Turn:
    """Train on the labels there are, test, draw candidates and predict them, and the stop set.

    Rows of the pool that earlier rounds have `asked` about ascend; those of them that are `unanswered` are not learned
    from. `sample_size` is 0 if nobody is to be asked.
    """
    pool = world.pool
    at: dict[str, Any] = {"seed": world.seed, "number": number}
    labeled = world.labeled(np.setdiff1d(asked, unanswered))
    rows = np.arange(len(pool.all_images))
    targets, n_classes = world.answers[labeled], len(world.class_names)
    others = np.setdiff1d(rows, labeled)
    own = {"others": others, "network": False, "refined": world.network}
    model = learn(pool, labeled, targets, world.class_names, plan.options, **at, **own)
    tested = model.predict(world.holdout, np.arange(len(world.truth)))
    stop = None
    if plan.stop_set and model.trained:
        found = model.predict(pool, stop_rows(len(rows), world.seed, plan.options))
        stop = decided(found, model.thresholds)
    unasked = np.setdiff1d(rows, asked)
    candidates = unasked[draw(len(unasked), sample_size, **at)]
    probabilities, passes = np.empty((0, n_classes)), None
    if len(candidates):
        probabilities = model.predict(pool, candidates)
        if plan.with_passes and model.trained:
            passes = ensemble(model, pool, labeled, targets, candidates, n_classes, **at)
    found = {"seed": world.seed, "thresholds": model.thresholds, "groups": world.tested}
    evaluation = evaluate(tested, world.truth, world.class_names, **found)
    return Turn(model.trained, evaluation, candidates, probabilities, passes, stop)


def simulate_seed(
    samples: KnownSamples,
    plan: Plan,
    seed: int,
    features: Embedded | None = None,
    progress: Progress | None = None,
    finished: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Run one seed of a plan, every strategy; `features` are those of `embedded`, computed here if none are given.

    `finished` is called with the number of each round once all strategies are through with it.
    """
    if features is None:
        features = embedded(samples, plan, seed)
    world = world_of(samples, plan, seed, features)
    rows: dict[str, list[Row]] = {strategy: [] for strategy in plan.strategies}
    asked: dict[str, Rows] = dict.fromkeys(plan.strategies, _NOTHING)
    worlds = dict.fromkeys(plan.strategies, world)
    batches = dict(asked)
    stops: dict[str, Rows | None] = dict.fromkeys(plan.strategies)
    number = 0
    while asked:
        # Strategies that have asked about the same samples so far are at the same point: it is computed once. Round by
        # round, because predictions of a large pool for all the rounds would fill the memory.
        turns: dict[tuple[bytes, bytes, int], tuple[Turn, Stage | None]] = {}
        for strategy, before in list(asked.items()):
            coming = batches[strategy] if plan.waits(number) else _NOTHING
            answered = np.setdiff1d(before, coming)
            n_labels = len(world.labeled(answered))
            size = plan.size(number, n_labels + len(coming))
            own = worlds[strategy]
            point = before.tobytes(), coming.tobytes(), id(own)
            if point not in turns:
                found = turn(own, plan, before, number, plan.sample_size if size else 0, unanswered=coming)
                turns[point] = found, _staged(world, own, plan, answered, number, found)
            now, stage = turns[point]
            kappa = _kappa(stops[strategy], now.stop)
            stops[strategy] = now.stop
            # The second batch ahead is chosen before anything has been learned.
            if len(answered) or not number:
                row = _row(strategy, seed, number, n_labels, len(answered), now, stage) | {"agreement": kappa}
                rows[strategy].append(row | (_stage_columns(stage) if plan.staged else {}))
            if progress is not None:
                accuracy = rows[strategy][-1]["accuracy"]
                said = "" if stage is None else f"; {stage.sentence(size)}"
                progress(f"{strategy}, seed {seed}, round {number}: {n_labels} labels, accuracy {accuracy:.3f}{said}")
            batches[strategy] = _NOTHING
            if len(now.candidates):
                batches[strategy] = _ask(own, now, plan, strategy, size, number, before)
                asked[strategy] = np.sort(np.concatenate([before, batches[strategy]]))
            elif not len(coming):
                del asked[strategy]
            if stage is not None:
                worlds[strategy] = stage.world
        if finished is not None:
            finished(number)
        number += 1
    return pd.DataFrame([row for run in rows.values() for row in run])


def world_of(samples: KnownSamples, plan: Plan, seed: int, features: Embedded) -> World:
    """Return what a seed's runs share."""
    rates = {"error_rate": plan.error_rate, "skip_rate": plan.skip_rate}
    return World(
        pool=Given(samples.images(samples.pool), features.pool, pd.factorize(samples.pool["group"])[0]),
        holdout=Given(samples.images(samples.holdout), features.holdout),
        truth=samples.holdout["label"].tolist(),
        tested=samples.holdout["group"].tolist(),
        answers=answers(samples.truth, len(samples.class_names), seed=seed, **rates),
        class_names=samples.class_names,
        seed=seed,
    )


def known(manifest: pd.DataFrame, class_names: Sequence[str], how: HowRead = AS_EVER) -> KnownSamples:
    """Return pool and holdout, each with an answer for every sample; without a test split a quarter is drawn.

    Whole groups are drawn, the same ones for every seed of a study, which are paired.

    Raises
    ------
    InputError
        A sample has no label or one outside of the classes, or a split is empty.
    """
    found, manifest, groups = [], with_holdout(manifest), groups_of(manifest)
    for split in ("pool", "holdout"):
        # By the ids, as in the real loop: neither the draw nor a sum's rounding depends on where the files lie.
        frame = select_split(manifest, split).sort_values("sample_id", ignore_index=True)
        frame = frame[["sample_id", "uri", "label"]].assign(group=[groups[i] for i in frame["sample_id"]])
        missing = int(frame["label"].isna().sum())
        if missing or not len(frame):
            what = f"{missing} of {len(frame)} samples have" if len(frame) else "it is empty, so there is"
            raise InputError(
                f"a simulation needs the label of every {split} sample, but {what} none: give it a folder with "
                "pool/<class>/… and holdout/<class>/…"
            )
        if outside := sorted(set(frame["label"]) - set(class_names)):
            raise InputError(
                f"{split} labels outside of the classes: {', '.join(map(repr, outside[:5]))}; the classes are "
                f"{', '.join(class_names[:20])}"
            )
        found.append(frame)
    return KnownSamples(found[0], found[1], tuple(class_names), how)


def shares_features(plan: Plan) -> bool:
    """Tell whether all seeds have the same features: given weights are theirs all, new ones are drawn per seed."""
    return plan.by_features and plan.options.settled_weights != "none"


def embedded(samples: KnownSamples, plan: Plan, seed: int = 0) -> Embedded:
    """Embed what heads, strategies or guesses go by, with the weights that training starts from, as in the real loop.

    The seed is that of the weights, where none are given.
    """
    if not plan.by_features:
        return Embedded()
    start = untrained(samples.class_names, plan.options, seed=seed, round_number=0, how=samples.how).checkpoint
    if wants_images(start):
        start = calibrated(start, samples.images(samples.pool.iloc[drawn(len(samples.pool), seed)]))
    tests = embed(start, samples.images(samples.holdout)) if plan.by_head else None
    return Embedded(embed(start, samples.images(samples.pool)), tests)


def _ask(world: World, now: Turn, plan: Plan, strategy: str, size: int, number: int, asked: Rows) -> Rows:
    """Return the rows of the pool that the strategy asks about."""
    plan = applicable(plan, plan.options.settled_weights)
    by_features = uses_features(strategy, plan)
    selection = choose(
        strategy,
        plan,
        size,
        trained=now.trained,
        probabilities=now.passes if now.passes is not None and needs_ensemble(strategy) else now.probabilities,
        embeddings=world.pool.on_demand(now.candidates) if by_features else None,
        asked=world.pool.features(asked) if by_features else None,
        seed=world.seed,
        number=number,
        start=plan.start,
    )
    return now.candidates[selection.indices]


def _staged(given: World, own: World, plan: Plan, answered: Rows, number: int, now: Turn) -> Stage | None:
    """Refine the network on what a turn has learned from, if the plan is staged and there are labels enough for it."""
    labeled = given.labeled(answered)
    if not (plan.staged and now.trained and worth_refining(len(labeled), own.refined_on)):
        return None
    return staged(given, plan, labeled, number, last=not len(now.candidates))


def _row(
    strategy: str, seed: int, number: int, n_labels: int, n_asked: int, now: Turn, stage: Stage | None = None
) -> Row:
    row: Row = {"strategy": strategy, "seed": seed, "round": number, "n_labels": n_labels, "n_asked": n_asked}
    tested = now.evaluation if stage is None or stage.evaluation is None else stage.evaluation
    for metric in METRICS:
        row |= columns(metric.name, getattr(tested, metric.name), np.nan)
    row["ece"] = np.nan if tested.ece is None else tested.ece
    return row


def _stage_columns(stage: Stage | None) -> Row:
    if stage is None:
        return {"refined": False, "refine_seconds": 0.0}
    return {"refined": stage.evaluation is not None, "refine_seconds": stage.seconds}


def _kappa(last: Rows | None, now: Rows | None) -> float:
    return np.nan if last is None or now is None else cohens_kappa(last, now)

"""Experiments without people: the loop with an oracle that knows the answers, to compare query strategies fairly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_pipeline.core.data.pool import select_split
from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.kappa import agreement
from al_pipeline.core.learning.predict import embed
from al_pipeline.core.learning.train import untrained
from al_pipeline.core.rng import generator
from al_pipeline.core.strategies import available, cold_start, select
from al_pipeline.core.study.oracle import answers
from al_pipeline.core.study.plan import Plan
from al_pipeline.core.turn import Features, Rows, Turn, World, turn

Progress = Callable[[str], None]
Row = dict[str, str | int | float]


@dataclass(frozen=True)
class Samples:
    """Pool and holdout whose classes are known.

    Attributes
    ----------
    pool, holdout : DataFrame
        ``sample_id``, ``uri`` and ``label``, sorted by the id.
    class_names : tuple of str, length K
    """

    pool: pd.DataFrame
    holdout: pd.DataFrame
    class_names: tuple[str, ...]

    @property
    def truth(self) -> npt.NDArray[np.int64]:
        """The pool's class numbers, int64, shape (n,)."""
        number = {name: i for i, name in enumerate(self.class_names)}
        return self.pool["label"].map(number).to_numpy(dtype=np.int64)


@dataclass(frozen=True)
class Embedded:
    """Features under the weights that training starts from: of the pool (n, d) and, where heads learn, of the holdout.

    Attributes
    ----------
    pool, holdout : float32 arrays, optional
    """

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
        lists them. Runs that exhaust the pool end early.

    Raises
    ------
    InputError
        A pool or holdout sample without a label or with one outside of the classes, or no sample at all.
    """
    samples = known(manifest, class_names)
    shared = embedded(samples, plan) if shares_features(plan) else None
    return pd.concat([simulate_seed(samples, plan, seed, shared, progress) for seed in plan.seeds], ignore_index=True)


def simulate_seed(
    samples: Samples, plan: Plan, seed: int, features: Embedded | None = None, progress: Progress | None = None
) -> pd.DataFrame:
    """Run one seed of a plan, every strategy.

    Parameters
    ----------
    samples : Samples
    plan : Plan
    seed : int
    features : Embedded, optional
        What `embedded` returned; computed here if they are needed and not given.
    progress : callable, optional
    """
    if features is None:
        features = embedded(samples, plan, seed)
    world = World(
        pool=samples.pool,
        holdout=samples.holdout,
        answers=answers(
            samples.truth,
            len(samples.class_names),
            seed=seed,
            error_rate=plan.error_rate,
            skip_rate=plan.skip_rate,
        ),
        class_names=samples.class_names,
        options=plan.options,
        seed=seed,
        features=features.pool,
        holdout_features=features.holdout,
    )
    rows: dict[str, list[Row]] = {strategy: [] for strategy in plan.strategies}
    asked: dict[str, Rows] = {strategy: np.empty(0, dtype=np.int64) for strategy in plan.strategies}
    stops: dict[str, Rows | None] = dict.fromkeys(plan.strategies)
    number = 0
    while asked:
        # Strategies that have asked about the same samples so far are at the same point: it is computed once. Round by
        # round, because predictions of a large pool for all the rounds would fill the memory.
        turns: dict[bytes, Turn] = {}
        for strategy, before in list(asked.items()):
            n_labels = len(world.labeled(before))
            size = plan.size(number, n_labels)
            point = before.tobytes()
            if point not in turns:
                drawn = plan.sample_size if size else 0
                turns[point] = turn(world, before, number, drawn, with_passes=plan.with_passes, with_stop=plan.stop_set)
            now = turns[point]
            kappa = _kappa(stops[strategy], now.stop)
            stops[strategy] = now.stop
            rows[strategy].append(_row(strategy, seed, number, n_labels, len(before), now) | {"agreement": kappa})
            if progress is not None:
                accuracy = rows[strategy][-1]["accuracy"]
                progress(f"{strategy}, seed {seed}, round {number}: {n_labels} labels, accuracy {accuracy:.3f}")
            if len(now.candidates):
                chosen = _ask(world, now, plan, strategy, size, number, before)
                asked[strategy] = np.sort(np.concatenate([before, chosen]))
            else:
                del asked[strategy]
        number += 1
    return pd.DataFrame([row for run in rows.values() for row in run])


def known(manifest: pd.DataFrame, class_names: Sequence[str]) -> Samples:
    """Return pool and holdout, each with an answer for every sample.

    Raises
    ------
    InputError
        A sample has no label or one outside of the classes, or a split is empty.
    """
    found = []
    for split in ("pool", "holdout"):
        # By the ids, as in the real loop: neither the draw nor a sum's rounding depends on where the files lie.
        frame = select_split(manifest, split).sort_values("sample_id", ignore_index=True)
        frame = frame[["sample_id", "uri", "label"]]
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
    return Samples(found[0], found[1], tuple(class_names))


def shares_features(plan: Plan) -> bool:
    """Tell whether all seeds have the same features: given weights are theirs all, new ones are drawn per seed."""
    return plan.by_features and plan.options.weights != "none"


def embedded(samples: Samples, plan: Plan, seed: int = 0) -> Embedded:
    """Embed what heads, strategies or guesses go by, with the weights that training starts from, as in the real loop.

    Parameters
    ----------
    samples : Samples
    plan : Plan
    seed : int
        Of the weights, where none are given.
    """
    if not plan.by_features:
        return Embedded()
    start = untrained(samples.class_names, plan.options, seed=seed, round_number=0).checkpoint
    tests = embed(start, samples.holdout["uri"].tolist()) if plan.by_head else None
    return Embedded(embed(start, samples.pool["uri"].tolist()), tests)


def _ask(world: World, now: Turn, plan: Plan, strategy: str, size: int, number: int, asked: Rows) -> Rows:
    """Return the rows of the pool that the strategy asks about, chosen as the asset `query_batch` does."""
    embeddings, before = None, None
    if plan.dedup is not None or "embeddings" in available()[strategy].uses:
        embeddings, before = world.rows(now.candidates), world.rows(asked) if len(asked) else None
    passes = now.passes if "passes" in available()[strategy].needs else None
    predicted = now.probabilities if passes is None else passes
    first = "random" if plan.start == "random" else cold_start(strategy)
    selection = select(
        strategy if now.trained else first,
        # An untrained network's probabilities say how many candidates there are, no more.
        probabilities=predicted if now.trained or embeddings is None else None,
        embeddings=embeddings,
        labeled_embeddings=before,
        batch_size=size,
        rng=generator(world.seed, number, "query"),
        balanced=plan.balanced and now.trained,
        explore=plan.explore,
        dedup=plan.dedup,
    )
    return now.candidates[selection.indices]


def _row(strategy: str, seed: int, number: int, n_labels: int, n_asked: int, now: Turn) -> Row:
    row: Row = {"strategy": strategy, "seed": seed, "round": number, "n_labels": n_labels, "n_asked": n_asked}
    for name, interval in (("accuracy", now.evaluation.accuracy), ("roc_auc", now.evaluation.roc_auc)):
        row[name], row[f"{name}_low"], row[f"{name}_high"] = interval or (np.nan,) * 3
    ece = now.evaluation.ece
    return row | {"ece": np.nan if ece is None else ece}


def _kappa(last: Rows | None, now: Rows | None) -> float:
    return np.nan if last is None or now is None else agreement(last, now)

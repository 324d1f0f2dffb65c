"""Experiments without people: the loop with an oracle that knows the answers, to compare query strategies fairly."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluate import Evaluation, evaluate
from al_pipeline.core.head import PASSES, head_passes
from al_pipeline.core.model import Checkpoint
from al_pipeline.core.options import TrainingOptions
from al_pipeline.core.pool import select_split
from al_pipeline.core.predict import embed, predict, predict_features
from al_pipeline.core.rng import generator
from al_pipeline.core.strategies import available, cold_start, select
from al_pipeline.core.train import Unlabeled, train, untrained


@dataclass(frozen=True)
class Turn:
    """What a round knows before it chooses: it follows from the seed, the round and the labeled samples alone.

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
    seconds : float
        Training, evaluation and scoring.
    """

    trained: bool
    evaluation: Evaluation
    candidates: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    passes: npt.NDArray[np.float64] | None
    seconds: float


@dataclass(frozen=True)
class _World:
    """What a seed's runs share: samples with answers, and their features under the starting weights."""

    pool: pd.DataFrame
    holdout: pd.DataFrame
    class_names: Sequence[str]
    options: TrainingOptions
    seed: int
    features: npt.NDArray[np.float32] | None
    holdout_features: npt.NDArray[np.float32] | None

    def rows(self, rows: npt.ArrayLike) -> npt.NDArray[np.float32] | None:
        """Return the features of some rows of the pool, if there are any."""
        return None if self.features is None else self.features[np.asarray(rows, dtype=np.int64)]


def simulate(
    manifest: pd.DataFrame,
    class_names: Sequence[str],
    *,
    strategies: Sequence[str],
    seeds: Sequence[int],
    batch_size: int,
    sample_size: int | None,
    balanced: bool,
    rounds: int,
    options: TrainingOptions,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Run the loop per strategy and seed on samples whose labels are known.

    It is the real loop's own training, scoring and selection with the same random generators: with these settings and
    annotators who never err, the real loop asks about the same samples. Runs of one seed are paired. They share initial
    weights and draws, and, until the first training, the batches too, which are random then (but for strategies that go
    by the features alone).

    Parameters
    ----------
    manifest : DataFrame
        Of `pool.scan`: the labels of the split ``pool`` are the oracle's answers, those of ``holdout`` the test.
    class_names : sequence of str
    strategies : sequence of str
        Keys of `strategies.available()`.
    seeds : sequence of int
    batch_size : int
        B, samples asked about per round.
    sample_size : int or None
        S, candidates scored per round; None scores the whole unlabeled pool.
    balanced : bool
        Equal quotas per predicted class.
    rounds : int
        Rounds per run. Round 0 has no labels and draws at random, so round k has k·B; the last one asks nobody.
    options : TrainingOptions
    progress : callable, optional
        Receives one sentence per round.

    Returns
    -------
    DataFrame
        One row per strategy, seed and round: strategy, seed, round, n_labels, accuracy, accuracy_low, accuracy_high,
        roc_auc, roc_auc_low, roc_auc_high (NaN where not defined), ece, seconds. Runs that exhaust the pool end early.

    Raises
    ------
    InputError
        A pool sample without a label, no holdout sample, an unknown or repeated strategy, a repeated seed, or sizes
        that do not fit.
    """
    _check(strategies, seeds, batch_size, sample_size, balanced, rounds)
    pool, holdout = _known(manifest)
    with_passes = any("passes" in available()[name].needs for name in strategies)
    rows = []
    for seed in seeds:
        # Strategies that have asked about the same samples so far are at the same point: it is computed once.
        turns: dict[frozenset[int], Turn] = {}
        world = _world(pool, holdout, class_names, options, seed, strategies)
        for strategy in strategies:
            labeled: list[int] = []
            for number in range(rounds):
                point = frozenset(labeled)
                if point not in turns:
                    size = sample_size if number + 1 < rounds else 0
                    turns[point] = _turn(world, labeled, number, size, with_passes)
                turn = turns[point]
                rows.append(_row(strategy, seed, number, len(labeled), turn))
                if progress is not None:
                    accuracy = rows[-1]["accuracy"]
                    progress(f"{strategy}, seed {seed}, round {number}: {len(labeled)} labels, accuracy {accuracy:.3f}")
                if not len(turn.candidates):
                    break
                labeled += _ask(world, turn, strategy, batch_size, balanced, number, labeled)
    return pd.DataFrame(rows)


def _check(
    strategies: Sequence[str],
    seeds: Sequence[int],
    batch_size: int,
    sample_size: int | None,
    balanced: bool,
    rounds: int,
) -> None:
    unknown = [name for name in strategies if name not in available()]
    if unknown or not strategies:
        wrong = f"unknown strategy {unknown[0]!r}" if unknown else "no strategy to simulate"
        raise InputError(f"{wrong}; choose from {', '.join(sorted(available()))}")
    for name in strategies:
        if balanced and not available()[name].balanced:
            raise InputError(f"the strategy {name!r} has no balanced form: leave it or balanced out")
    for what, values in (("strategies", list(strategies)), ("seeds", list(seeds))):
        if not values or len(set(values)) < len(values):
            raise InputError(f"{what} must be different from each other and at least one, not {values}")
    for what, value in (("batch_size", batch_size), ("rounds", rounds)):
        if value < 1:
            raise InputError(f"{what} must be at least 1, not {value}")
    if sample_size is not None and sample_size < batch_size:
        raise InputError(f"batch_size {batch_size} is larger than sample_size {sample_size}: raise sample_size")


def _known(manifest: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return pool and holdout, each with an answer for every sample."""
    # Sorted as in the real loop, so that the draw depends on the samples and not on where the files lie.
    pool = select_split(manifest, "pool").sort_values("sample_id", ignore_index=True)
    holdout = select_split(manifest, "holdout")
    for split, frame in (("pool", pool), ("holdout", holdout)):
        missing = int(frame["label"].isna().sum())
        if missing or not len(frame):
            found = f"{missing} of {len(frame)} samples have" if len(frame) else "it is empty, so there is"
            raise InputError(
                f"a simulation needs the label of every {split} sample, but {found} none: give it a folder with "
                "pool/<class>/… and holdout/<class>/…"
            )
    return pool, holdout


def _world(
    pool: pd.DataFrame,
    holdout: pd.DataFrame,
    class_names: Sequence[str],
    options: TrainingOptions,
    seed: int,
    strategies: Sequence[str],
) -> _World:
    """Embed what a head or a strategy goes by, with the weights that training starts from, as in the real loop."""
    head = options.weights != "none" and options.mode != "finetune"
    by_features = head or any("embeddings" in available()[name].uses for name in strategies)
    if not by_features:
        return _World(pool, holdout, class_names, options, seed, None, None)
    start = untrained(class_names, options, seed=seed, round_number=0).checkpoint
    features = embed(start, pool["uri"].tolist())
    tests = embed(start, holdout["uri"].tolist()) if head else None
    return _World(pool, holdout, class_names, options, seed, features, tests)


def _turn(world: _World, labeled: Sequence[int], number: int, sample_size: int | None, with_passes: bool) -> Turn:
    """Train on the labeled rows of the pool, test, draw candidates and predict them."""
    began = time.perf_counter()
    names, seed = world.class_names, world.seed
    known = world.pool.iloc[list(labeled)]
    unlabeled = np.setdiff1d(np.arange(len(world.pool)), np.asarray(labeled, dtype=np.int64))
    if known["label"].nunique() >= 2:
        checkpoint = train(
            known["uri"].tolist(),
            known["label"].tolist(),
            names,
            world.options,
            seed=seed,
            round_number=number,
            features=world.rows(labeled),
            unlabeled=Unlabeled(world.pool["uri"].iloc[unlabeled].tolist(), world.rows(unlabeled)),
        ).checkpoint
    else:
        checkpoint = untrained(names, world.options, seed=seed, round_number=number).checkpoint
    tested = _predicted(checkpoint, world.holdout, world.holdout_features)
    evaluation = evaluate(tested, world.holdout["label"].tolist(), names, seed=seed)
    order = generator(seed, number, "draw").permutation(len(unlabeled))
    candidates = unlabeled[order[:sample_size]]
    probabilities = _predicted(checkpoint, world.pool.iloc[candidates], world.rows(candidates))
    passes = None
    if with_passes and checkpoint.info.trained and len(candidates):
        passes = _passes(world, checkpoint, labeled, candidates, number)
    seconds = time.perf_counter() - began
    return Turn(checkpoint.info.trained, evaluation, candidates, probabilities, passes, seconds)


def _predicted(
    checkpoint: Checkpoint, samples: pd.DataFrame, features: npt.NDArray[np.float32] | None
) -> npt.NDArray[np.float64]:
    """Return class probabilities, from the features if the checkpoint's backbone is theirs."""
    if features is not None and checkpoint.info.mode == "head":
        return predict_features(checkpoint, features)
    return predict(checkpoint, samples["uri"].tolist())


def _passes(
    world: _World, checkpoint: Checkpoint, labeled: Sequence[int], candidates: npt.NDArray[np.int64], number: int
) -> npt.NDArray[np.float64]:
    """Return the predictions of an ensemble of heads on the checkpoint's features, shape (T, S, K)."""
    head = checkpoint.info.mode == "head"
    known, asked = (
        features if head and features is not None else embed(checkpoint, world.pool["uri"].iloc[rows].tolist())
        for rows, features in ((list(labeled), world.rows(labeled)), (candidates, world.rows(candidates)))
    )
    names = list(world.class_names)
    targets = np.array([names.index(label) for label in world.pool["label"].iloc[list(labeled)]])
    rng = generator(world.seed, number, "passes")
    return head_passes(known, targets, len(names), asked, passes=PASSES, rng=rng)


def _ask(
    world: _World,
    turn: Turn,
    strategy: str,
    batch_size: int,
    balanced: bool,
    number: int,
    labeled: Sequence[int],
) -> list[int]:
    """Return the rows of the pool that the strategy asks about; without probabilities while there is no model."""
    embeddings, known = None, None
    if "embeddings" in available()[strategy].uses:
        embeddings, known = world.rows(turn.candidates), world.rows(sorted(labeled))
    passes = turn.passes if "passes" in available()[strategy].needs else None
    predicted = turn.probabilities if passes is None else passes
    selection = select(
        strategy if turn.trained else cold_start(strategy),
        probabilities=predicted if turn.trained or embeddings is None else None,
        embeddings=embeddings,
        labeled_embeddings=known,
        batch_size=batch_size,
        rng=generator(world.seed, number, "query"),
        balanced=balanced and turn.trained,
    )
    return turn.candidates[selection.indices].tolist()


def _row(strategy: str, seed: int, number: int, n_labels: int, turn: Turn) -> dict[str, str | int | float]:
    row: dict[str, str | int | float] = {"strategy": strategy, "seed": seed, "round": number, "n_labels": n_labels}
    for name, interval in (("accuracy", turn.evaluation.accuracy), ("roc_auc", turn.evaluation.roc_auc)):
        row[name], row[f"{name}_low"], row[f"{name}_high"] = interval or (np.nan,) * 3
    ece = turn.evaluation.ece
    return row | {"ece": np.nan if ece is None else ece, "seconds": turn.seconds}

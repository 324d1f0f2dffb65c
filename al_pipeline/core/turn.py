"""A turn of an experiment: training, test, draw and prediction, by the real loop's own code."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_pipeline.core.evaluation.evaluate import Evaluation, evaluate
from al_pipeline.core.evaluation.kappa import STOP_SET, STOP_SET_IMAGES, stop_set
from al_pipeline.core.learning.checkpoint import Checkpoint, device
from al_pipeline.core.learning.head import PASSES, Head, head_passes, head_probabilities
from al_pipeline.core.learning.head_training import Others, check_unlabeled, train_head
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import embed, predict, predict_features
from al_pipeline.core.learning.semi_supervised import MOST_FEATURES
from al_pipeline.core.learning.train import Unlabeled, train, untrained
from al_pipeline.core.rng import generator
from al_pipeline.core.study.oracle import SKIPPED

Rows = npt.NDArray[np.int64]
Features = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """What a seed's runs share.

    Attributes
    ----------
    pool : DataFrame
        ``sample_id`` and ``uri``, sorted by the id as in the real loop, so that a draw depends on the samples and not
        on where the files lie.
    holdout : DataFrame
        The same, and the true ``label``.
    answers : int64 array, shape (n,)
        Of `oracle.answers`, for the pool.
    class_names : sequence of str, length K
    options : TrainingOptions
    seed : int
    features : float32 array, shape (n, d), optional
        Of the pool, under the weights that training starts from.
    holdout_features : float32 array, shape (m, d), optional
    """

    pool: pd.DataFrame
    holdout: pd.DataFrame
    answers: Rows
    class_names: Sequence[str]
    options: TrainingOptions
    seed: int
    features: Features | None
    holdout_features: Features | None

    def rows(self, rows: Rows) -> Features | None:
        """Return the features of some rows of the pool, if there are any."""
        return None if self.features is None else self.features[rows]

    def uris(self, rows: Rows) -> list[str]:
        """Return the paths of some rows of the pool."""
        return self.pool["uri"].iloc[rows].tolist()

    def labeled(self, asked: Rows) -> Rows:
        """Return those of the rows that got a label."""
        return asked[self.answers[asked] != SKIPPED]


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
        Classes predicted for the stop set, if the model is trained: 1,000 rows of the pool at most, and 500 where no
        head learns from features. They are the same rows in all rounds of a seed.
    """

    trained: bool
    evaluation: Evaluation
    candidates: Rows
    probabilities: Probabilities
    passes: Probabilities | None
    stop: Rows | None


def turn(
    world: World,
    asked: Rows,
    number: int,
    sample_size: int | None,
    *,
    with_passes: bool = False,
    with_stop: bool = True,
) -> Turn:
    """Train on the labels there are, test, draw candidates and predict them, and the stop set.

    In mode `head` no network is built and no image is looked at, once there are labels of two classes; the
    probabilities are those of `train` and `predict_features`, bit for bit.

    Parameters
    ----------
    world : World
    asked : int64 array
        Rows of the pool that earlier rounds have asked about, ascending.
    number : int
        Of the round.
    sample_size : int or None
        S; 0 if nobody is to be asked.
    with_passes : bool
    with_stop : bool
        Whether the stop set is predicted.
    """
    model = _model(world, asked, number)
    tested = model.predict(world.holdout["uri"].tolist(), world.holdout_features)
    evaluation = evaluate(tested, world.holdout["label"].tolist(), world.class_names, seed=world.seed)
    stop = _stop(world, model) if with_stop and model.trained else None
    unasked = np.setdiff1d(np.arange(len(world.pool)), asked)
    order = generator(world.seed, number, "draw").permutation(len(unasked))
    candidates = unasked[order[:sample_size]]
    if not len(candidates):
        return Turn(model.trained, evaluation, candidates, np.empty((0, len(world.class_names))), None, stop)
    probabilities = model.predict(world.uris(candidates), world.rows(candidates))
    passes = _passes(world, model, asked, candidates, number) if with_passes and model.trained else None
    return Turn(model.trained, evaluation, candidates, probabilities, passes, stop)


@dataclass(frozen=True)
class _Model:
    """What a turn predicts with: a head on the features, or a checkpoint of which `backbone` says if it is theirs."""

    trained: bool
    head: Head | None = None
    checkpoint: Checkpoint | None = None
    backbone: bool = False

    def predict(self, uris: Sequence[str], features: Features | None) -> Probabilities:
        """Return class probabilities, from the features if they are those of the model's backbone."""
        if self.head is not None and features is not None:
            return head_probabilities(features, self.head.weight, self.head.bias, self.head.temperature)
        assert self.checkpoint is not None
        if self.backbone and features is not None:
            return predict_features(self.checkpoint, features)
        return predict(self.checkpoint, uris)

    def embed(self, uris: Sequence[str], features: Features | None) -> Features:
        """Return the features of the model's backbone."""
        if self.head is not None and features is not None:
            return features
        assert self.checkpoint is not None
        return embed(self.checkpoint, uris)


def _model(world: World, asked: Rows, number: int) -> _Model:
    """Train on the labels, as `train` does, or take the untrained network while they are of one class."""
    options, names, seed = world.options, world.class_names, world.seed
    labeled = world.labeled(asked)
    targets = world.answers[labeled]
    counts = np.bincount(targets, minlength=len(names))
    if np.count_nonzero(counts) < 2:
        start = untrained(names, options, seed=seed, round_number=number).checkpoint
        # Given weights are the backbone of every round; new ones are drawn anew in each.
        return _Model(False, checkpoint=start, backbone=options.weights != "none")
    others = _unlabeled(world, labeled, number)
    mode = options.resolve_mode(int(counts[counts > 0].min()), device().type)
    features = world.features
    if mode == "head" and features is not None:
        check_unlabeled(options, len(others))
        found = train_head(
            features[labeled],
            targets,
            len(names),
            options,
            seed=seed,
            round_number=number,
            unlabeled=Others(len(others), lambda rows: features[others[rows]]),
        )
        return _Model(True, head=found.head)
    result = train(
        world.uris(labeled),
        [names[int(i)] for i in targets],
        names,
        options,
        seed=seed,
        round_number=number,
        features=world.rows(labeled),
        unlabeled=Unlabeled(world.uris(others), world.rows(others)),
    )
    return _Model(True, checkpoint=result.checkpoint)


def _stop(world: World, model: _Model) -> Rows:
    rows = stop_set(len(world.pool), world.seed, STOP_SET_IMAGES if world.holdout_features is None else STOP_SET)
    return model.predict(world.uris(rows), world.rows(rows)).argmax(axis=1)


def _unlabeled(world: World, labeled: Rows, number: int) -> Rows:
    """Return the rows that the semi-supervised arms may learn from: as many, and the same ones, as in the real loop."""
    others = np.setdiff1d(np.arange(len(world.pool)), labeled)
    order = generator(world.seed, number, "unlabeled pool").permutation(len(others))
    return others[np.sort(order[:MOST_FEATURES])]


def _passes(world: World, model: _Model, asked: Rows, candidates: Rows, number: int) -> Probabilities:
    """Return the predictions of an ensemble of heads on the model's features, shape (T, S, K)."""
    labeled = world.labeled(asked)
    return head_passes(
        model.embed(world.uris(labeled), world.rows(labeled)),
        world.answers[labeled],
        len(world.class_names),
        model.embed(world.uris(candidates), world.rows(candidates)),
        passes=PASSES,
        rng=generator(world.seed, number, "passes"),
    )

"""One turn of the loop: learn, draw, predict, choose.

The rounds that people answer (`al_pipeline.loop`) and studies without people (`core.study`) both go through these
functions, with the same random generators: a study is the loop because there is no other one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from al_pipeline.core.data.image_cache import how_of
from al_pipeline.core.evaluation.kappa import STOP_SET, STOP_SET_IMAGES, stop_set
from al_pipeline.core.learning.checkpoint import Checkpoint, device
from al_pipeline.core.learning.head import PASSES, Head, head_passes
from al_pipeline.core.learning.head_training import Others, check_unlabeled, train_head, with_classifier_of
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import embed, predict, predict_features
from al_pipeline.core.learning.semi_supervised import MOST_FEATURES
from al_pipeline.core.learning.train import Images, TrainingResult, Unlabeled, chosen, train, untrained
from al_pipeline.core.rng import generator
from al_pipeline.core.strategies import Selection, available, cold_start, select
from al_pipeline.core.strategies.on_demand import OnDemand
from al_pipeline.core.strategies.options import BatchOptions

Rows = npt.NDArray[np.int64]
Features = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float64]
K = TypeVar("K", Rows, Sequence[str])
Batch = TypeVar("Batch", bound=BatchOptions)
Key = TypeVar("Key", Rows, Sequence[str], contravariant=True)
# Samples whose features are looked at together.
BLOCK = 8192


class Samples(Protocol[Key]):
    """What a turn may look at: the images of samples, and their features under the weights that training starts from.

    Samples are named by their ids, or by rows of a table.
    """

    def images(self, keys: Key, /) -> Images:
        """Return the images of n samples."""
        ...

    def features(self, keys: Key, /) -> Features | None:
        """Return the features of n samples, shape (n, d), or None if there are none to go by."""
        ...

    def groups(self, keys: Key, /) -> Rows | None:
        """Return numbers of what n samples belong to, int64, shape (n,), the same in each call; None: each is alone."""
        ...


@dataclass(frozen=True)
class Given:
    """Samples by their row: images, and features where there are any.

    Attributes
    ----------
    all_images : sequence of paths, or CachedImages, length N
    all_features : float32 array, shape (N, d), optional
    all_groups : int64 array, shape (N,), optional
    """

    all_images: Images
    all_features: Features | None = None
    all_groups: Rows | None = None

    def images(self, rows: Rows) -> Images:
        """Return the images of some rows."""
        return chosen(self.all_images, rows)

    def features(self, rows: Rows) -> Features | None:
        """Return the features of some rows, if there are any."""
        return None if self.all_features is None else self.all_features[rows]

    def on_demand(self, rows: Rows) -> OnDemand | None:
        """Return the features of some rows, to be copied where they are asked for, if there are any."""
        every = self.all_features
        return None if every is None else OnDemand(len(rows), lambda some: every[rows[some]])

    def groups(self, rows: Rows) -> Rows | None:
        """Return what some rows belong to, if that is known."""
        return None if self.all_groups is None else self.all_groups[rows]


@dataclass(frozen=True)
class Model:
    """What a turn predicts with: a checkpoint, or a head alone.

    Attributes
    ----------
    trained : bool
    checkpoint : Checkpoint, optional
    head : Head, optional
        A classifier on the features of the starting weights, which no network was built for.
    by_features : bool
        Whether the features of the starting weights are the checkpoint's own, so that no image need be looked at.
    result : TrainingResult, optional
        How the checkpoint was come by.
    """

    trained: bool
    checkpoint: Checkpoint | None = None
    head: Head | None = None
    by_features: bool = False
    result: TrainingResult | None = None

    def predict(self, samples: Samples[K], keys: K) -> Probabilities:
        """Return class probabilities, float64, shape (n, K)."""
        features = samples.features(keys[:BLOCK]) if len(keys) and (self.head or self.by_features) else None
        if features is None:
            assert self.checkpoint is not None
            return predict(self.checkpoint, samples.images(keys))
        # The features of a million samples are never copied whole.
        later = (_features(samples, keys[start : start + BLOCK]) for start in range(BLOCK, len(keys), BLOCK))
        return np.concatenate([self.of_features(some) for some in chain([features], later)])

    def of_features(self, features: Features) -> Probabilities:
        """Return class probabilities, float64, shape (n, K), from features of the starting weights."""
        if self.head is not None:
            return self.head.probabilities(features)
        assert self.checkpoint is not None
        return predict_features(self.checkpoint, features)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Of the classes: see `thresholds.decided`."""
        if self.head is not None:
            return self.head.thresholds
        return () if self.checkpoint is None else self.checkpoint.info.thresholds

    def embed(self, samples: Samples[K], keys: K) -> Features:
        """Return the features of the model's own backbone, float32, shape (n, d)."""
        features = samples.features(keys) if self.head or self.by_features else None
        if features is not None:
            return features
        assert self.checkpoint is not None
        return embed(self.checkpoint, samples.images(keys))


def learn(
    samples: Samples[K],
    labeled: K,
    targets: Rows,
    class_names: Sequence[str],
    options: TrainingOptions,
    *,
    seed: int,
    number: int,
    others: K | None = None,
    labels_hash: str = "",
    previous: Checkpoint | None = None,
    network: bool = True,
    refined: Checkpoint | None = None,
    start: TrainingResult | None = None,
) -> Model:
    """Train on the labels of a round, or take the untrained network while they are of one class.

    Parameters
    ----------
    samples : Samples
    labeled : ids or rows, length n
    targets : int64 array, shape (n,)
        Class numbers.
    class_names : sequence of str, length K
    options : TrainingOptions
    seed, number : int
        The seed, and the round's number.
    others : ids or rows, optional
        Unlabeled samples of the pool, in an order that does not change; the semi-supervised arms learn from some.
    labels_hash : str
        Kept in the checkpoint.
    previous : Checkpoint, optional
        Where a warm start starts.
    network : bool
        Whether a head that was learned becomes a checkpoint. Without one no network is built and no image looked at:
        the probabilities are the same, bit for bit.
    refined : Checkpoint, optional
        The refined network whose features `samples` have, if they are not those of the given weights: its own
        classifier has a say in a head on them.
    start : TrainingResult, optional
        See `train`.

    Raises
    ------
    InputError
        There is nothing to learn from, or not as the options want.
    """
    counts = np.bincount(targets, minlength=len(class_names))
    if np.count_nonzero(counts) < 2:
        how = how_of(samples.images(labeled))
        fresh = untrained(class_names, options, seed=seed, round_number=number, how=how)
        # Given weights are the backbone of every round; new ones are drawn anew in each.
        return Model(False, fresh.checkpoint, by_features=options.settled_weights != "none", result=fresh)
    mode = options.resolve_mode(counts, device().type)
    by_features = mode == "head" or options.semi_supervised == "label_propagation"
    features = samples.features(labeled) if by_features else None
    # Where there is nothing to learn from them, they are not even looked at.
    arm = None if others is None or options.semi_supervised == "none" else _unlabeled(others, seed, number)
    if mode == "head" and features is not None and not network:
        check_unlabeled(options, 0 if arm is None else len(arm))
        unlabeled = None
        if arm is not None:
            unlabeled = Others(len(arm), lambda rows: _features(samples, _some(arm, rows)), samples.groups(arm))
        head = train_head(
            features,
            targets,
            len(class_names),
            options,
            seed=seed,
            round_number=number,
            unlabeled=unlabeled,
            groups=samples.groups(labeled),
        )
        return Model(True, head=with_classifier_of(refined, head, class_names))
    result = train(
        samples.images(labeled),
        [class_names[int(i)] for i in targets],
        class_names,
        options,
        seed=seed,
        round_number=number,
        labels_hash=labels_hash,
        features=features,
        unlabeled=None if arm is None else _images_of(samples, arm, by_features),
        previous=previous,
        groups=samples.groups(labeled),
        refined=refined,
        start=start if mode == "head" else None,
    )
    return Model(True, result.checkpoint, by_features=mode == "head", result=result)


def draw(n: int, size: int | None, *, seed: int, number: int) -> Rows:
    """Return the positions of a round's candidates among n unlabeled samples: `size` at random, all for None."""
    return generator(seed, number, "draw").permutation(n)[:size]


def stop_rows(n: int, seed: int, options: TrainingOptions) -> Rows:
    """Return the rows of n samples that successive models are compared on; fewer where each needs a whole network."""
    return stop_set(n, seed, STOP_SET if options.may_be_head else STOP_SET_IMAGES)


def applicable(options: Batch, weights: str) -> Batch:
    """Return the options of a batch without what cannot hold: `dedup`, if training starts from no given weights.

    To an untrained network all images are near-duplicates: of a batch of 20, a cosine of 0.95 left 2.
    """
    return options if weights != "none" or options.dedup is None else options.but(dedup=None)


def uses_features(strategy: str, options: BatchOptions) -> bool:
    """Say whether the features of the candidates play a part in the choice."""
    return options.dedup is not None or "embeddings" in available()[strategy].uses


def needs_ensemble(strategy: str) -> bool:
    """Say whether the strategy goes by the disagreement of an ensemble."""
    return "passes" in available()[strategy].needs


def ensemble(
    model: Model,
    samples: Samples[K],
    labeled: K,
    targets: Rows,
    candidates: K,
    n_classes: int,
    *,
    seed: int,
    number: int,
) -> Probabilities:
    """Return the predictions of an ensemble of heads on the model's own features, shape (T, S, K)."""
    return head_passes(
        model.embed(samples, labeled),
        targets,
        n_classes,
        model.embed(samples, candidates),
        passes=PASSES,
        rng=generator(seed, number, "passes"),
    )


def choose(
    strategy: str,
    options: BatchOptions,
    size: int,
    *,
    trained: bool,
    probabilities: Probabilities,
    embeddings: Features | OnDemand | None,
    asked: Features | None,
    seed: int,
    number: int,
    start: Literal["own", "random"] = "own",
) -> Selection:
    """Choose the query batch among a round's candidates.

    Without a trained model there is nothing to be uncertain with: a strategy that goes by the features alone is used as
    it is, any other one gives way to a random draw.

    Parameters
    ----------
    strategy : str
    options : BatchOptions
        What keeps the batch balanced and apart, and its random share.
    size : int
        How many at most; at least 1.
    trained : bool
        Whether the model has learned from two classes.
    probabilities : float64 array, shape (S, K) or (T, S, K)
        Of the model, or of the `ensemble` for a strategy that needs one.
    embeddings : float32 array, shape (S, d), or OnDemand, optional
        Features of the candidates, if the choice uses them.
    asked : float32 array, shape (m, d), optional
        Features of the samples that earlier rounds have asked about: their neighbourhoods count as known.
    seed, number : int
    start : str
        ``own``: the strategy's own cold start; ``random``: a random batch for any of them.
    """
    first = "random" if start == "random" else cold_start(strategy)
    # An untrained network's probabilities say how many candidates there are, no more.
    predicted = trained or embeddings is None
    return select(
        strategy if trained else first,
        probabilities=probabilities if predicted else None,
        embeddings=embeddings,
        labeled_embeddings=asked if asked is not None and len(asked) else None,
        batch_size=size,
        rng=generator(seed, number, "query"),
        balanced=options.balanced and trained,
        explore=options.explore,
        dedup=options.dedup,
    )


def _unlabeled(others: K, seed: int, number: int) -> K:
    order = generator(seed, number, "unlabeled pool").permutation(len(others))
    return _some(others, np.sort(order[:MOST_FEATURES]))


def _some(keys: K, rows: Rows) -> K:
    if isinstance(keys, np.ndarray):
        return keys[rows]
    return [keys[int(i)] for i in rows]


def _images_of(samples: Samples[K], keys: K, by_features: bool) -> Unlabeled:
    return Unlabeled(samples.images(keys), samples.features(keys) if by_features else None, samples.groups(keys))


def _features(samples: Samples[K], keys: K) -> Features:
    found = samples.features(keys)
    assert found is not None
    return found

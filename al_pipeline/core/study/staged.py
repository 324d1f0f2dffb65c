"""A staged study: while people label a batch, the whole network is refined on the labels that there are.

The head that chooses the next batch goes by the refined features, if held-out labels have shown the newest network
better than the head, else by those of the given weights; what is measured is what would serve when the batch has been
answered: the refined network, or else the head.
"""

import time
from dataclasses import dataclass, replace

import numpy as np

from al_pipeline.core.evaluation.evaluate import Evaluation, evaluate
from al_pipeline.core.learning.checkpoint import Checkpoint
from al_pipeline.core.learning.predict import embed, predict_features
from al_pipeline.core.learning.refine import Evidence, refine
from al_pipeline.core.study.plan import Plan
from al_pipeline.core.study.world import World
from al_pipeline.core.turn import Rows

# What a label takes people, in seconds.
SECONDS_PER_LABEL = 2.0


@dataclass(frozen=True)
class Stage:
    """What refining came to in a turn.

    Attributes
    ----------
    world : World
        What the next turn learns and chooses with: refined features, if the network is better than the head, else those
        of the given weights.
    evaluation : Evaluation, optional
        Of the refined network, where it serves.
    evidence : Evidence
    seconds : float
        Of the clock, that refining took and predicting the pool with it.
    """

    world: World
    evaluation: Evaluation | None
    evidence: Evidence
    seconds: float

    def sentence(self, labels: int) -> str:
        """Say what came out, and whether people were faster with so many labels."""
        late = ""
        if self.seconds > SECONDS_PER_LABEL * labels:
            late = f"; {SECONDS_PER_LABEL * labels:.0f} s of labeling were not enough"
        return f"refined in {self.seconds:.0f} s{late}: {self.evidence.sentence}"


def staged(given: World, plan: Plan, labeled: Rows, number: int, *, last: bool) -> Stage:
    """Refine the network on the labels that a turn has learned from.

    Parameters
    ----------
    given : World
        With the features of the given weights.
    plan : Plan
    labeled : int64 array, shape (n,)
        Rows of the pool with the labels.
    number : int
        The round.
    last : bool
        Whether no turn follows, so that nobody asks for the pool's features.
    """
    began = time.perf_counter()
    found = refine(
        given.pool.images(labeled),
        given.answers[labeled],
        given.class_names,
        plan.options,
        features=given.pool.all_features[labeled],  # type: ignore[index]
        groups=given.pool.groups(labeled),
        seed=given.seed,
        number=number,
    )
    if not found.evidence.better:
        # What an earlier network of fewer labels had shown counts no more: one seed in ten stayed with a bad one so.
        as_given = replace(given, refined_on=len(labeled))
        return Stage(as_given, None, found.evidence, time.perf_counter() - began)
    world = seen_by(found.checkpoint, given, pool=not last)
    seconds = time.perf_counter() - began
    assert world.holdout.all_features is not None
    tested = predict_features(found.checkpoint, world.holdout.all_features)
    how = {"seed": given.seed, "thresholds": found.checkpoint.info.thresholds, "groups": given.tested}
    return Stage(world, evaluate(tested, given.truth, given.class_names, **how), found.evidence, seconds)


def seen_by(network: Checkpoint, given: World, *, pool: bool) -> World:
    """Return the samples with the features of a network; of the pool, too, if they are asked for."""
    own = given.pool
    if pool:
        own = replace(own, all_features=embed(network, own.images(np.arange(len(own.all_images)))))
    tests = given.holdout.images(np.arange(len(given.truth)))
    return replace(
        given,
        pool=own,
        holdout=replace(given.holdout, all_features=embed(network, tests)),
        network=network,
        refined_on=network.info.n_labels,
    )

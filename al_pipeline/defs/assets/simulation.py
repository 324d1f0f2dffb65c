"""The simulation group, first half: one strategy and one seed of a study, per partition."""

import time
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from al_pipeline.core.data.pool import class_names
from al_pipeline.core.evaluation.metrics import TITLES
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.strategies import available
from al_pipeline.core.strategies.options import BatchOptions, RoundSettings
from al_pipeline.core.study.plan import Plan, StudyOptions
from al_pipeline.defs.metadata import for_people
from al_pipeline.defs.resources import launchpad
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.how_read import how_of_home
from al_pipeline.loop.samples import StoredSamples

if TYPE_CHECKING:
    from al_pipeline.core.study.simulate import Embedded, KnownSamples

STRATEGY, SEED = "strategy", "seed"
MOST_SEEDS = 20
cells = dg.MultiPartitionsDefinition(
    {
        STRATEGY: dg.StaticPartitionsDefinition(sorted(available())),
        SEED: dg.StaticPartitionsDefinition([str(seed) for seed in range(MOST_SEEDS)]),
    }
)


class SimulationConfig(launchpad(StudyOptions(), dg.Config, budget=200)):
    """How long a run is, and how the annotator behaves."""


@dg.asset(
    group_name="simulation",
    kinds={"python"},
    partitions_def=cells,
    io_manager_key="tables",
    deps=["embeddings"],
    # People wait for rounds: cells share one place in the queue, however many are launched and from where.
    pool="simulate",
)
def simulation(
    context: dg.AssetExecutionContext,
    config: SimulationConfig,
    deployment: dg.ResourceParam[Deployment],
    round_config: dg.ResourceParam[RoundSettings],
    training: dg.ResourceParam[TrainingOptions],
    image_pool: pd.DataFrame,
) -> dg.MaterializeResult[pd.DataFrame]:
    """The loop without people: one query strategy, one seed, the folder names as answers.

    Nobody is asked and no round is touched. Select it together with strategy_comparison, choose strategies (`random`
    among them) and seeds (5 or more), and launch: every pair becomes a run of its own, and what failed or was cancelled
    can be launched again alone. The images need class folders: pool/<class>/… and holdout/<class>/….
    """
    from al_pipeline.core.study.cells import with_settings
    from al_pipeline.core.study.run import description, one_thread
    from al_pipeline.core.study.simulate import known, simulate_seed

    began = time.monotonic()
    dimensions = context.partition_key.keys_by_dimension  # type: ignore[attr-defined]
    strategy, seed = dimensions[STRATEGY], int(dimensions[SEED])
    # A study asks nobody: its classes are the folders, whatever people have made of theirs.
    names = class_names(image_pool, deployment.settings.classes, deployment.settings.images)
    samples = known(image_pool, names, how_of_home(deployment.artifacts))
    stored = StoredSamples(image_pool, deployment, training, seed, context.log)
    plan = _plan(config, round_config, stored.training, strategy, seed)
    features = _features(stored, samples, plan)
    with one_thread():
        results = simulate_seed(samples, plan, seed, features, progress=context.log.info)
    settings = description(samples, plan)
    del settings["plan"]["strategies"]
    last = results.iloc[-1]
    return dg.MaterializeResult(
        value=with_settings(results, settings),
        metadata={
            "labels": int(last["n_labels"]),
            **for_people({name: float(last[name]) for name in TITLES if not pd.isna(last[name])}),
            "rounds": len(results),
            "seconds": round(time.monotonic() - began, 2),
            "settings": dg.MetadataValue.json(settings),
            "dagster/row_count": len(results),
        },
    )


def _plan(
    config: SimulationConfig, round_config: RoundSettings, training: TrainingOptions, strategy: str, seed: int
) -> Plan:
    options = StudyOptions(**dict(config))
    study = dict(options if options.rounds is None else options.but(budget=None))
    batch: dict[str, Any] = {name: getattr(round_config, name) for name in BatchOptions.model_fields}
    return Plan(strategies=[strategy], seeds=[seed], options=training, **batch, **study)


def _features(stored: StoredSamples, samples: "KnownSamples", plan: Plan) -> "Embedded":
    """Return the features that the plan goes by, from the store; those that it lacks are computed and kept there."""
    from al_pipeline.core.study.simulate import Embedded

    if not plan.by_features:
        return Embedded()
    pool = stored.features(samples.pool["sample_id"].tolist())
    holdout = stored.features(samples.holdout["sample_id"].tolist()) if plan.by_head else None
    return Embedded(pool, holdout)

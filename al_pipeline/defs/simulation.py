"""The job `simulate`: compare strategies on images whose labels are known, without asking anybody."""

# Inside a graph an op is called with its inputs alone; Dagster hands it the rest.
# pyright: reportCallIssue=false

from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from al_pipeline.core.errors import InputError
from al_pipeline.defs.features import classes_of
from al_pipeline.defs.report import picture
from al_pipeline.defs.resources import Deployment
from al_pipeline.settings import RoundSettings, TrainingSettings


class SimulationConfig(dg.Config):
    """What to compare."""

    strategies: list[str] = Field(
        default=["auto", "low_certainty", "random"], description="Query strategies to compare."
    )
    seeds: int = Field(default=3, ge=1, description="Paired repetitions: every strategy sees the same draws.")
    rounds: int = Field(default=5, ge=2, description="Rounds per repetition, the start without labels included.")
    start: str = Field(
        default="own",
        description="What chooses until the first training: own is each strategy's cold start, as in the real loop; "
        "random is the same random batch for all.",
    )
    error_rate: float = Field(default=0.0, ge=0, le=1, description="Chance that a sample's answer is wrong.")
    skip_rate: float = Field(default=0.0, ge=0, lt=1, description="Chance that a sample is skipped.")


@dg.op
def simulate_rounds(
    context: dg.OpExecutionContext,
    config: SimulationConfig,
    deployment: dg.ResourceParam[Deployment],
    round_config: dg.ResourceParam[RoundSettings],
    training: dg.ResourceParam[TrainingSettings],
) -> pd.DataFrame:
    """Run the loop with an oracle that knows the folder names, per strategy and seed."""
    from al_pipeline.core.experiment_plan import Plan
    from al_pipeline.core.experiments import simulate as simulate_loop
    from al_pipeline.core.options import TrainingOptions
    from al_pipeline.core.pool import scan
    from al_pipeline.core.study_report import pictures

    settings = deployment.settings
    if settings.images is None:
        raise InputError("No folder of images is set: set AL_IMAGES (or `images` in al.toml) to your folder")
    manifest = scan(settings.images, max_excluded_share=settings.max_excluded_share, follow_links=settings.follow_links)
    plan = Plan(
        strategies=config.strategies,
        seeds=[round_config.seed + i for i in range(config.seeds)],
        batch_size=round_config.batch_size,
        sample_size=round_config.sample_size,
        options=TrainingOptions(**training.model_dump()),
        rounds=config.rounds,
        balanced=round_config.balanced,
        explore=round_config.explore,
        dedup=round_config.dedup,
        error_rate=config.error_rate,
        skip_rate=config.skip_rate,
        start=config.start,
    )
    results = simulate_loop(manifest, classes_of(manifest, settings), plan, progress=context.log.info)
    last = results[results["round"] == results["round"].max()]
    drawn = pictures(results, "accuracy", "n_asked" if config.skip_rate else "n_labels")
    metadata: dict[str, Any] = {
        "comparison": picture(drawn["curves"], "accuracy against labels, per strategy"),
        "final_accuracy": dg.MetadataValue.json(
            {name: round(float(value), 4) for name, value in last.groupby("strategy")["accuracy"].mean().items()}
        ),
        "dagster/row_count": len(results),
    }
    context.add_output_metadata(metadata)
    return results


@dg.op
def keep_simulation(
    context: dg.OpExecutionContext, deployment: dg.ResourceParam[Deployment], results: pd.DataFrame
) -> None:
    """Store the results as a table beside the assets."""
    path = deployment.settings.artifacts / "simulations" / f"{context.run_id}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    results.to_parquet(path, index=False)
    context.log.info("Results are in %s", path)


@dg.job(description="Compare query strategies with the loop's own code on images whose class folders are the answer.")
def simulate() -> None:
    """Simulate, then keep."""
    keep_simulation(simulate_rounds())

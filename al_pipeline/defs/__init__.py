"""Everything Dagster sees, thin: the work is done in `core`, `ledger` and `labelstudio`."""

import dagster as dg

from al_pipeline.settings import Settings

# What a process that others are forked from has built beforehand, and from which settings.
READY: list[tuple[Settings, dg.Definitions]] = []


def ready(settings: Settings) -> dg.Definitions:
    """Return the definitions of one deployment: those that are there already, if they are of the same settings."""
    return next((made for known, made in READY if known == settings), None) or build(settings)


def build(settings: Settings) -> dg.Definitions:
    """Return the definitions of one deployment."""
    from al_pipeline.defs import backfills, checks, closing, images, jobs, keeping, refining, schedules, sensors
    from al_pipeline.defs.assets import comparison, data, evaluation, labeling, model, query, simulation, tasks
    from al_pipeline.defs.assets import refining as refined
    from al_pipeline.defs.fan_out import parts_if_wanted
    from al_pipeline.defs.io import CheckpointIOManager, DocumentIOManager, TableIOManager
    from al_pipeline.defs.pods import with_pods
    from al_pipeline.defs.resources import tunables
    from al_pipeline.defs.tracking import rounds_tracked, track_job
    from al_pipeline.loop.deployment import Artifacts, Deployment

    artifacts = Artifacts.unread(settings)
    modules = [data, labeling, model, evaluation, refined, tasks, query, simulation, comparison]
    everywhere = dg.Definitions(
        assets=[*with_pods(dg.load_assets_from_modules(modules, include_specs=True), settings.kubernetes)],
        asset_checks=[checks.worth_going_on],
        jobs=[
            *(jobs.setup_job, jobs.round_job, closing.next_round_job),
            *(jobs.refine_job, jobs.retrain_job, jobs.learning_curve_job, jobs.simulate_job),
            *([track_job] if settings.tracking.uri else []),
        ],
        sensors=[
            sensors.annotations_landed(settings),
            sensors.round_failed,
            backfills.materialize_all_stopped,
            keeping.old_checkpoints_deleted,
            *([refining.refine_while_labeling()] if refining.may_refine(settings) else []),
            *([images.images_changed(settings)] if settings.rescan_minutes else []),
            *([rounds_tracked] if settings.tracking.uri else []),
        ],
        schedules=[schedules.nightly_round(settings)],
        resources={
            "deployment": Deployment(settings),
            "round_config": tunables(settings.round),
            "training": tunables(settings.training),
            "policy": tunables(settings.policy),
            "tables": TableIOManager(artifacts),
            "documents": DocumentIOManager(artifacts),
            "checkpoints": CheckpointIOManager(artifacts),
        },
        # A round is a chain of short steps: one process runs it in seconds where one process per step takes most of
        # a minute, each importing torch anew.
        executor=dg.in_process_executor,
    )
    return dg.Definitions.merge(everywhere, parts_if_wanted(settings))

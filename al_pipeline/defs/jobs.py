"""What can be launched: `setup` once, `round` per turn of the loop, and parts of them; `next_round` is in `closing`."""

import dagster as dg

# Runs with this tag never overlap (dagster.yaml).
TRAINS = {"al_pipeline/trains": "true"}
# Nobody waits for a study as people wait for a round.
WAITS = {"dagster/priority": "-1"}

SETUP_ASSETS = frozenset({"image_pool", "embeddings", "labeling_project"})
ROUND_ASSETS = frozenset(
    {"labeled_pool", "checkpoint", "evaluation", "uncertainty_scores", "query_batch", "labeling_tasks"}
)

setup_job = dg.define_asset_job(
    "setup",
    selection=sorted(SETUP_ASSETS),
    description="New images or classes: scan the images, compute features, create or update the Label Studio project. "
    "`al up` and `al open` launch it first, and the sensor images_changed when files have changed.",
)

round_job = dg.define_asset_job(
    "round",
    selection=[*sorted(ROUND_ASSETS), "learning_curve"],
    tags=TRAINS,
    description="One turn of the loop: pull labels, train, evaluate, score, choose a batch, hand it to people. "
    "`al up` and `al open` launch it for r0000; the sensor annotations_landed opens the rounds after it. To go on "
    "before a batch is answered, launch next_round instead. A round that has failed: launch it again for the same "
    "partition.",
)

retrain_job = dg.define_asset_job(
    "retrain",
    selection=["labeled_pool", "checkpoint", "evaluation"],
    tags=TRAINS,
    description="Retrain: train and evaluate a round again on its frozen labels. Choose its partition, change the "
    "settings under `training` in the Launchpad, launch. People are asked nothing, and no other round changes; then "
    "launch draw_learning_curve.",
)

refine_job = dg.define_asset_job(
    "refine",
    selection=["refined_checkpoint"],
    # Whoever attempts it again counts the attempts: the sensor.
    tags={"dagster/priority": "-2", "dagster/max_retries": "0"},
    description="Fine-tune the whole network on a round's labels while people label. The sensor refine_while_labeling "
    "launches it; training.refine = off does without. It waits while a round is due.",
)

learning_curve_job = dg.define_asset_job(
    "draw_learning_curve",
    selection=["learning_curve"],
    description="Draw the learning curve of all rounds anew, after retraining one. Every round does it by itself.",
)

simulate_job = dg.define_asset_job(
    "simulate",
    selection=["simulation"],
    tags=WAITS,
    description="Compare query strategies without asking anybody, on images whose class folders are the answer. "
    "Simplest in the asset group simulation: Materialize all, choose two or three strategies (random among them) and 5 "
    "to 10 seeds. Each pair is a run of its own; in the end strategy_comparison tells who won.",
)

"""What can be launched: `setup` once, `round` per turn of the loop, and parts of them."""

import dagster as dg

# Runs with this tag never overlap (dagster.yaml).
TRAINS = {"al_pipeline/trains": "true"}
# Nobody waits for a study as people wait for a round.
WAITS = {"dagster/priority": "-1"}

setup_job = dg.define_asset_job(
    "setup",
    selection=["image_pool", "embeddings", "labeling_project"],
    description="Scan the images, compute features, create or update the Label Studio project. Launch it again after "
    "adding images or classes.",
)

round_job = dg.define_asset_job(
    "round",
    selection=[
        "labeled_pool",
        "checkpoint",
        "evaluation",
        "uncertainty_scores",
        "query_batch",
        "labeling_tasks",
        "learning_curve",
    ],
    tags=TRAINS,
    description="One turn of the loop: pull labels, train, evaluate, score, choose a batch, hand it to people. "
    "Launch it for r0000 yourself; the sensor annotations_landed opens the rounds after it.",
)

retrain_job = dg.define_asset_job(
    "retrain",
    selection=["labeled_pool", "checkpoint", "evaluation"],
    tags=TRAINS,
    description="Train and evaluate a round again on its frozen labels, for example with other training settings. "
    "People are asked nothing.",
)

learning_curve_job = dg.define_asset_job(
    "draw_learning_curve", selection=["learning_curve"], description="Draw the learning curve of all rounds anew."
)

simulate_job = dg.define_asset_job(
    "simulate",
    selection=["simulation"],
    tags=WAITS,
    description="Compare query strategies without asking anybody, on images whose class folders are the answer: launch "
    "a backfill with the strategies (random among them) and seeds to compare; then materialize strategy_comparison.",
)

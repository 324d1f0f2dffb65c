"""Rounds as Dagster runs them, in real instances, up to the point where Label Studio is needed."""

import logging
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from al_pipeline.core.data.holdout import draw_holdout
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.labels.formats.brought import Brought
from al_pipeline.core.labels.formats.tables import table_rows
from al_pipeline.core.rng import generator
from al_pipeline.core.strategies import select
from al_pipeline.ledger.imports import import_labels
from al_pipeline.loop.answers import agreed_labels, holdout_labels, planned_before
from al_pipeline.loop.samples import StoredSamples
from al_pipeline_tests.defs.rounds import checks_of, errors_of, freeze, metadata_of, run_round, shown_later
from al_pipeline_tests.defs.worlds import CLASSES, World, write_images
from al_pipeline_tests.ledger.builders import moment, said


def test_a_round_trains_scores_and_chooses_and_shows_what_matters(scanned: World) -> None:
    freeze(scanned, "r0001", per_class=3)
    result = run_round(scanned, "r0001")
    assert result.success, errors_of(result)
    assert all(checks_of(result).values())
    assert set(checks_of(result)) == {
        "labeled_pool.no_holdout_sample",
        "labeled_pool.within_class_set",
        "labeled_pool.two_classes",
        "checkpoint.finite_weights",
        "checkpoint.trained_on_two_classes",
        "uncertainty_scores.finite_and_covering",
        "query_batch.unique",
        "query_batch.disjoint_from_earlier_rounds",
    }
    for asset, pictures in {
        "checkpoint": ["loss_curve"],
        "evaluation": ["roc_curve", "confusion_matrix", "calibration"],
        "uncertainty_scores": ["certainty"],
        "query_batch": ["batch"],
    }.items():
        later = asset in {"uncertainty_scores", "query_batch"}
        shown = shown_later(result, asset, "r0001") if later else metadata_of(result, asset)
        for picture in pictures:
            assert shown[picture].startswith("![")
            assert "data:image/png;base64," in shown[picture]
            assert len(shown[picture]) < 140_000
    assert metadata_of(result, "evaluation")["holdout_samples"] == 12
    assert metadata_of(result, "query_batch")["strategy"] == "low_certainty"
    batch = scanned.value("query_batch", "r0001")
    scores = scanned.value("uncertainty_scores", "r0001").sort_values("certainty")
    assert len(batch) == 4
    assert set(batch["sample_id"]) == set(scores["sample_id"].head(4))


def test_the_first_round_draws_at_random_and_has_no_trained_model(scanned: World) -> None:
    freeze(scanned, "r0000", per_class=0)
    result = run_round(scanned, "r0000")
    assert result.success, errors_of(result)
    batch = scanned.value("query_batch", "r0000")
    assert set(batch["strategy"]) == {"random"}
    assert batch["predicted"].isna().all()
    assert metadata_of(result, "checkpoint")["trained"] is False
    assert checks_of(result)["labeled_pool.two_classes"] is False


def test_strategies_that_go_by_features_use_those_of_the_starting_weights_and_what_was_asked_before(
    world: World,
) -> None:
    """The features need not be there before: the round computes what is missing."""
    world.materialize("image_pool")
    config = {"strategy": "auto", "batch_size": 6, "seed": 3}
    freeze(world, "r0000", per_class=0)
    result = run_round(world, "r0000", round_config=config)
    assert result.success, errors_of(result)
    first = world.value("query_batch", "r0000")
    # Without a model the default covers the candidates, which it can do without one.
    assert set(first["strategy"]) == {"auto"}
    assert (first["score"].diff().dropna() <= 1e-6).all()
    freeze(world, "r0001", per_class=3)
    result = run_round(world, "r0001", round_config=config)
    assert result.success, errors_of(result)
    batch, scores = world.value("query_batch", "r0001"), world.value("uncertainty_scores", "r0001")
    features = StoredSamples(
        world.value("image_pool"), world.deployment, world.settings.training, 3, logging.getLogger()
    )
    ids = scores["sample_id"].tolist()
    expected = select(
        "uncertainty_herding",
        probabilities=scores.filter(regex="^p_").to_numpy(),
        embeddings=features.store.load(ids),
        labeled_embeddings=features.store.load(sorted(first["sample_id"])),
        batch_size=6,
        rng=generator(3, 1, "query"),
    )
    assert batch["sample_id"].tolist() == [ids[i] for i in expected.indices]
    np.testing.assert_allclose(batch["score"], expected.scores)


def test_a_share_of_the_batch_can_be_drawn_at_random_and_says_with_which_probability(scanned: World) -> None:
    freeze(scanned, "r0001", per_class=3)
    config = {"strategy": "margin", "batch_size": 8, "explore": 0.25, "dedup": 0.99999}
    result = run_round(scanned, "r0001", round_config=config)
    assert result.success, errors_of(result)
    batch = scanned.value("query_batch", "r0001")
    explored = batch["strategy"] == "random"
    assert metadata_of(result, "query_batch")["strategy"] == "margin, random"
    assert explored.sum() == 2
    np.testing.assert_allclose(batch.loc[explored, "propensity"], 2 / len(scanned.value("uncertainty_scores", "r0001")))
    assert batch.loc[~explored, "propensity"].isna().all()
    assert batch.loc[explored, "score"].isna().all()


def test_the_same_seed_and_labels_give_the_same_batch_and_another_seed_another(make_world: Any, tmp_path: Path) -> None:
    batches = []
    for i, seed in enumerate((0, 0, 1)):
        world = make_world(home=tmp_path / f"home{i}")
        world.materialize("image_pool")
        freeze(world, "r0001", per_class=3)
        assert run_round(world, "r0001", round_config={"seed": seed, "strategy": "random"}).success
        batches.append(world.value("query_batch", "r0001")["sample_id"].tolist())
    assert batches[0] == batches[1] != batches[2]


def test_a_rerun_keeps_the_batch_whatever_the_configuration_says_by_then(scanned: World) -> None:
    freeze(scanned, "r0001", per_class=3)
    assert run_round(scanned, "r0001").success
    before = scanned.value("query_batch", "r0001")
    again = run_round(scanned, "r0001", round_config={"strategy": "high_certainty", "batch_size": 2, "seed": 9})
    assert again.success
    assert metadata_of(again, "query_batch")["reused"] is True
    pd.testing.assert_frame_equal(scanned.value("query_batch", "r0001"), before)


def test_later_rounds_never_ask_again(scanned: World) -> None:
    asked: set[str] = set()
    for number in range(1, 4):
        freeze(scanned, f"r{number:04d}", per_class=2)
        assert run_round(scanned, f"r{number:04d}").success
        batch = set(scanned.value("query_batch", f"r{number:04d}")["sample_id"])
        assert not batch & asked
        asked |= batch
    assert planned_before(scanned.deployment.ledger, 4) == asked


def test_samples_whose_labels_people_brought_along_are_trained_on_and_not_asked(scanned: World) -> None:
    pool = scanned.value("image_pool").query("split == 'pool'").groupby("label").head(4)
    rows = table_rows(pool[["sample_id", "label"]], "labels.csv")
    import_labels(scanned.deployment.ledger, Brought("labels.csv", rows), CLASSES)
    agreed = agreed_labels(scanned.deployment.ledger, ClassSet(CLASSES), 1, purpose="query").labels
    assert len(agreed) == 8
    scanned.deployment.ledger.snapshot("r0000", agreed)
    result = run_round(scanned, "r0000", round_config={"batch_size": 16, "sample_size": None})
    assert result.success, errors_of(result)
    assert metadata_of(result, "checkpoint")["trained"] is True
    batch = scanned.value("query_batch", "r0000")
    assert len(batch) == 16
    assert not set(batch["sample_id"]) & set(pool["sample_id"])


def test_the_last_batch_is_smaller_and_an_empty_pool_gives_an_empty_one(scanned: World) -> None:
    sizes = []
    for number in range(1, 4):
        freeze(scanned, f"r{number:04d}", per_class=2)
        assert run_round(scanned, f"r{number:04d}", round_config={"batch_size": 20, "sample_size": None}).success
        sizes.append(len(scanned.value("query_batch", f"r{number:04d}")))
    assert sizes == [20, 4, 0]


def test_the_label_budget_and_the_last_round_ask_for_no_more_than_is_used(scanned: World) -> None:
    freeze(scanned, "r0001", per_class=2)
    assert run_round(scanned, "r0001", policy={"label_budget": 3}).success
    assert len(scanned.value("query_batch", "r0001")) == 3
    freeze(scanned, "r0002", per_class=2)
    assert run_round(scanned, "r0002", policy={"max_rounds": 3}).success
    assert len(scanned.value("query_batch", "r0002")) == 0


def test_a_label_outside_the_class_set_stops_the_run_before_training(scanned: World) -> None:
    pool = scanned.value("image_pool").query("split == 'pool'")
    rows = pd.DataFrame(
        {
            "sample_id": pool["sample_id"].head(2),
            "label": ["zebra", CLASSES[0]],
            "votes": 1,
            "n_votes": 1,
            "weight": 1.0,
            "annotation_ids": "1",
            "first_round": "r0000",
        }
    )
    scanned.deployment.ledger.snapshot("r0001", rows)
    result = run_round(scanned, "r0001")
    assert not result.success
    assert checks_of(result)["labeled_pool.within_class_set"] is False
    assert not [e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey("checkpoint")]


def test_a_holdout_sample_among_the_labels_stops_the_run_before_training(scanned: World) -> None:
    held = scanned.value("image_pool").query("split == 'holdout'")
    rows = pd.DataFrame(
        {
            "sample_id": held["sample_id"].head(2),
            "label": list(CLASSES),
            "votes": 1,
            "n_votes": 1,
            "weight": 1.0,
            "annotation_ids": "1",
            "first_round": "r0000",
        }
    )
    scanned.deployment.ledger.snapshot("r0001", rows)
    result = run_round(scanned, "r0001")
    assert not result.success
    assert checks_of(result)["labeled_pool.no_holdout_sample"] is False


def test_without_a_test_split_round_0_draws_the_holdout_once_and_blind(make_world: Any, tmp_path: Path) -> None:
    images = tmp_path / "classes"
    write_images(images, 20, seed=3, split=None)
    world = make_world(images, holdout_size=10, holdout_share=1)
    world.materialize("image_pool")
    freeze(world, "r0000", per_class=0)
    result = run_round(world, "r0000")
    assert result.success, errors_of(result)
    assert "no holdout labels yet" in metadata_of(result, "evaluation")["note"]
    batch = world.value("query_batch", "r0000")
    held = set(batch.loc[batch["purpose"] == "holdout", "sample_id"])
    manifest = world.value("image_pool")
    assert held == set(draw_holdout(manifest, 10, 0))
    assert len(held) == 10
    assert batch.loc[batch["purpose"] == "holdout", "predicted"].isna().all()
    freeze(world, "r0001", per_class=0)
    assert run_round(world, "r0001").success
    later = world.value("query_batch", "r0001")
    assert set(later["purpose"]) == {"query"}
    assert not held & set(later["sample_id"])
    assert not held & set(world.value("uncertainty_scores", "r0001")["sample_id"])
    assert holdout_labels(manifest, world.deployment.ledger, ClassSet(CLASSES), 1).empty


def test_embeddings_are_computed_once(world: World, tmp_path: Path) -> None:
    assert world.materialize("image_pool", "embeddings").success
    again = world.materialize("embeddings")
    assert metadata_of(again, "embeddings")["computed"] == 0
    write_images(tmp_path / "images", 1, seed=99)
    more = world.materialize("image_pool", "embeddings")
    assert metadata_of(more, "embeddings")["computed"] == 2


def test_an_unknown_strategy_fails_at_once_and_names_the_valid_ones(scanned: World) -> None:
    freeze(scanned, "r0001", per_class=2)
    result = run_round(scanned, "r0001", round_config={"strategy": "entropie"})
    assert not result.success
    told = " ".join(str(event.event_specific_data) for event in result.all_events if event.is_failure)
    assert "low_high_certainty" in told


def test_the_votes_that_a_run_asks_for_count_for_its_holdout_too(make_world: Any, tmp_path: Path) -> None:
    write_images(tmp_path / "flat", 16, seed=3, split=None)
    world = make_world(tmp_path / "flat", overlap=2, holdout_share=1)
    assert world.materialize("image_pool", "embeddings").success
    freeze(world, "r0000", per_class=0)
    assert run_round(world, "r0000").success
    ledger = world.deployment.ledger
    planned = ledger.planned("r0000").query("purpose == 'holdout'")
    truth = world.value("image_pool").set_index("sample_id")["label"]
    events = [said(number, i, truth[i], annotator="one") for number, i in enumerate(planned["sample_id"])]
    # The second person has seen half of them.
    events += [said(100 + number, i, truth[i], annotator="two") for number, i in enumerate(planned["sample_id"][::2])]
    ledger.append(events, moment(60), source="label_studio", round_key="r0001")
    counted = {}
    for number, min_votes in ((1, 1), (2, 2)):
        key = f"r{number:04d}"
        freeze(world, key, per_class=3, but=list(planned["sample_id"]))
        result = run_round(world, key, policy={"min_votes": min_votes})
        assert result.success, errors_of(result)
        counted[min_votes] = metadata_of(result, "evaluation")["holdout_samples"]
    assert counted == {1: 8, 2: 4}


def test_rounds_are_measured_and_compared_on_the_test_images_that_are_answered_by_now(
    make_world: Any, tmp_path: Path
) -> None:
    write_images(tmp_path / "flat", 40, seed=3, split=None)
    world = make_world(tmp_path / "flat", holdout_size=20, group="none")
    assert world.materialize("image_pool", "embeddings").success
    ledger, manifest = world.deployment.ledger, world.value("image_pool")
    truth, drawn, told = manifest.set_index("sample_id")["label"], draw_holdout(manifest, 20, 0), []
    for number, seen in ((0, 0), (1, 6), (2, 12)):
        key = f"r{number:04d}"
        freeze(world, key, per_class=3 * number, but=drawn)
        result = run_round(world, key, round_config={"batch_size": 18})
        assert result.success, errors_of(result)
        # A quarter of the tasks, in the order of the draw.
        planned = ledger.planned(key).query("purpose == 'holdout'")["sample_id"].tolist()
        assert planned == drawn[6 * number :][:6]
        told.append(metadata_of(result, "evaluation"))
        assert told[-1]["holdout_samples"] == seen
        ledger.append([said(100 * number + n, i, truth[i], round=key) for n, i in enumerate(planned)], moment(60))
    assert "note_on_last_round" not in told[1]
    # Twelve are answered, of which the round before had measured six: it has predicted all that were drawn.
    assert "accuracy_since_last_round" in told[2]
    result = world.materialize("learning_curve")
    assert result.success, errors_of(result)
    curve = world.value("learning_curve").set_index("round")
    assert curve["holdout_samples"].to_dict() == {"r0000": 0, "r0001": 18, "r0002": 18}
    labels = holdout_labels(manifest, ledger, ClassSet(CLASSES), 1).set_index("sample_id")["label"]
    kept = pd.read_parquet(world.deployment.artifacts.holdout_predictions / "r0001.parquet").set_index("sample_id")
    assert set(kept.index) == set(drawn)
    right = kept.loc[labels.index].idxmax(axis=1).str.removeprefix("p_") == labels
    assert curve.loc["r0001", "accuracy"] == right.mean()

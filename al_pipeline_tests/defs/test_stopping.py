"""The check worth_going_on on a real instance: it advises from the stored rounds, and stops nothing."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from al_pipeline.core.evaluation.evaluate import evaluate
from al_pipeline.core.evaluation.kappa import cohens_kappa, stop_set
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.learning.checkpoint import Checkpoint
from al_pipeline.core.learning.predict import predict
from al_pipeline.core.learning.train import TrainingOptions, untrained
from al_pipeline.core.rounds import round_key
from al_pipeline.loop.kept_predictions import StopPredictions
from al_pipeline_tests.defs.rounds import errors_of, freeze, metadata_of, run_round
from al_pipeline_tests.defs.worlds import CLASSES, World, write_images


def document(world: World, key: str) -> dict[str, Any]:
    return json.loads((world.settings.artifact_folder / "evaluation" / f"{key}.json").read_text())


def advice(world: World, **policy: Any) -> dg.AssetCheckEvaluation:
    """Draw the learning curve and return what the check said."""
    result = world.run("draw_learning_curve", policy=policy)
    [check] = result.get_asset_check_evaluations()
    assert check.check_name == "worth_going_on"
    return check


def told(check: dg.AssetCheckEvaluation) -> dict[str, Any]:
    return {name: value.value for name, value in check.metadata.items()}


def store_rounds(world: World, errors: list[int], kappas: list[float | None]) -> None:
    """Store the evaluations of rounds that got so many of 200 answers wrong, with 10 labels more in each."""
    folder = world.settings.artifact_folder / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    labels = [CLASSES[i % 2] for i in range(200)]
    for number, (wrong, kappa) in enumerate(zip(errors, kappas, strict=True)):
        right = np.array([[0.9, 0.1] if label == CLASSES[0] else [0.1, 0.9] for label in labels])
        right[:wrong] = right[:wrong, ::-1]
        result = evaluate(right, labels, CLASSES, seed=0)
        stored = {"trained": True, "n_labels": 10 * (number + 1), "evaluation": result.to_json()}
        # An evaluation of an earlier version has no agreement.
        stored |= {} if kappa is None else {"agreement": kappa}
        (folder / f"{round_key(number)}.json").write_text(json.dumps(stored))


def test_each_rounds_agreement_with_the_last_one_is_kept_and_shown(scanned: World) -> None:
    results = []
    for number, per_class in enumerate((0, 2, 3)):
        freeze(scanned, round_key(number), per_class=per_class)
        results.append(run_round(scanned, round_key(number)))
        assert results[-1].success, errors_of(results[-1])
    assert document(scanned, "r0000")["agreement"] is None
    # The round before had no trained checkpoint.
    assert document(scanned, "r0001")["agreement"] is None
    kappa = document(scanned, "r0002")["agreement"]
    pool = scanned.value("image_pool").query("split == 'pool'").sort_values("sample_id")
    rows = stop_set(len(pool), 0)
    answers = [
        predict(
            Checkpoint.load(scanned.settings.artifact_folder / "checkpoint" / f"{key}.safetensors"),
            pool["uri"].iloc[rows].tolist(),
        ).argmax(axis=1)
        for key in ("r0001", "r0002")
    ]
    assert kappa == pytest.approx(cohens_kappa(answers[0], answers[1]))
    assert metadata_of(results[-1], "evaluation")["agreement_with_last_round"] == pytest.approx(kappa, abs=1e-4)
    # In one run with the round's partition, as the job `round` has it.
    drawn = scanned.defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=scanned.instance,
        partition_key="r0002",
        asset_selection=[dg.AssetKey("evaluation"), dg.AssetKey("learning_curve")],
    )
    [check] = drawn.get_asset_check_evaluations()
    assert check.passed
    assert "1 of 3 pairs of trained models" in told(check)["agreement"]
    assert scanned.value("learning_curve")["agreement"].tolist()[2] == kappa


def test_the_stop_set_is_drawn_once_and_heads_answer_from_features_alone(make_world: Any, tmp_path: Path) -> None:
    weights = tmp_path / "start.safetensors"
    untrained(list(CLASSES), TrainingOptions(image_size=32), seed=5, round_number=0).checkpoint.save(weights)
    world = make_world(training={"image_size": 32, "mode": "head", "weights": str(weights)})
    assert world.materialize("image_pool", "embeddings").success
    freeze(world, "r0000", per_class=2)
    assert run_round(world, "r0000").success
    path = world.settings.artifact_folder / "stop_predictions" / "stop_set.parquet"
    drawn = path.read_bytes()
    # One image more, one less.
    write_images(tmp_path / "images", 1, seed=9)
    gone = Path(world.value("image_pool").query("split == 'pool'")["uri"].iloc[-1])
    gone.unlink()
    assert world.materialize("image_pool", "embeddings").success
    freeze(world, "r0001", per_class=3)
    result = run_round(world, "r0001")
    assert result.success, errors_of(result)
    assert path.read_bytes() == drawn
    answered = [len(pd.read_parquet(path.with_name(f"{key}.parquet"))) for key in ("r0000", "r0001")]
    assert answered == [24, 23]
    assert -1 <= document(world, "r0001")["agreement"] <= 1


def test_where_a_rule_says_stop_the_check_warns_with_its_sentence_and_blocks_nothing(scanned: World) -> None:
    store_rounds(scanned, [60, 40, 30, 30, 30, 30, 30], [None, 0.8, 0.9, 0.95, 0.996, 1.0, 0.995])
    check = advice(scanned, price_per_label=1, value_per_point=2, label_budget=100, target_auc=0.99)
    assert not check.passed
    assert not check.blocking
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert check.description is not None
    assert check.description.startswith("Stop: Models of successive rounds give the same answers: kappa 0.996, 1.000")
    shown = told(check)
    assert shown["recommendation"] == check.description
    assert "is below the target 0.99" in shown["target"]
    assert "The next 4 labels cost 4 and bring" in shown["price"]
    assert shown["budget"] == "70 of 100 labels are spent."
    assert "one more point of ROC-AUC" in shown["going_on"]
    assert "a ROC-AUC of 0.99" in shown["going_on"]
    assert set(shown["labels_to_one_more_point"]) == {"value", "low", "high"}


def test_budgets_count_answers_not_the_images_that_they_labeled(scanned: World) -> None:
    store_rounds(scanned, [60, 50, 40], [None, 1, 1])
    for path in (scanned.settings.artifact_folder / "evaluation").glob("*.json"):
        stored = json.loads(path.read_text())
        path.write_text(json.dumps(stored | {"n_answers": stored["n_labels"] // 5}))
    assert told(advice(scanned, label_budget=7))["budget"] == "6 of 7 labels are spent."


def test_while_models_change_and_nothing_is_asked_for_it_says_go_on(scanned: World) -> None:
    store_rounds(scanned, [90, 80, 70, 60, 50, 40, 30], [None, *np.linspace(0.5, 0.9, 6)])
    check = advice(scanned)
    assert check.passed
    assert check.description is not None
    assert check.description.startswith("Go on: no rule says stop.")
    assert told(check)["target"] == "No target ROC-AUC is set."


def test_rounds_of_an_earlier_version_and_too_few_of_them_tell_nothing(scanned: World) -> None:
    store_rounds(scanned, [60, 40], [None, None])
    check = advice(scanned)
    assert check.passed
    assert check.description == "Go on: too few rounds, or no rule set, to tell whether more labels pay."
    assert "labels_to_one_more_point" not in told(check)


def test_rounds_that_told_other_classes_apart_do_not_count(scanned: World) -> None:
    store_rounds(scanned, [60, 50, 40], [None, 1, 1])
    before = told(advice(scanned))
    ledger, classes = scanned.deployment.ledger, ClassSet(CLASSES).rename(CLASSES[0], "x")
    ledger.change_classes("rename", {"old": CLASSES[0], "new": "x"}, classes)
    assert told(advice(scanned)) == before
    assert not scanned.value("learning_curve")["other_classes"].any()
    ledger.change_classes("add", {"names": ["y"]}, classes.add("y"))
    check = advice(scanned)
    assert check.description == "Go on: too few rounds, or no rule set, to tell whether more labels pay."
    assert scanned.value("learning_curve")["other_classes"].all()


def test_answers_of_other_classes_are_compared_by_their_names(tmp_path: Path) -> None:
    kept = StopPredictions(tmp_path)
    ids, pets = ["a", "b", "c", "d"], ClassSet(("cat", "dog"))
    first, second = (
        untrained(names, TrainingOptions(image_size=16), seed=0, round_number=0).checkpoint
        for names in (["cat", "dog"], ["ant", "cat", "dog"])
    )
    for checkpoint in (first, second):
        object.__setattr__(checkpoint.info, "trained", True)
    assert kept.compare_with_previous("r0000", first, ids, lambda _: np.eye(2)[[0, 0, 1, 1]], pets) is None
    pets = pets.add("ant")
    assert kept.compare_with_previous("r0001", second, ids, lambda _: np.eye(3)[[1, 1, 2, 2]], pets) == 1


def test_former_names_are_the_same_class_and_a_class_that_is_none_any_more_is_not_compared(tmp_path: Path) -> None:
    kept, ids, pets = StopPredictions(tmp_path), ["a", "b", "c"], ClassSet(("cat", "dog", "fish"))

    def answers(key: str, names: list[str], said: list[int], classes: ClassSet) -> float | None:
        checkpoint = untrained(names, TrainingOptions(image_size=16), seed=0, round_number=0).checkpoint
        object.__setattr__(checkpoint.info, "trained", True)
        return kept.compare_with_previous(key, checkpoint, ids, lambda _: np.eye(3)[said], classes)

    assert answers("r0000", ["cat", "dog", "fish"], [0, 1, 0], pets) is None
    pets = pets.rename("cat", "tabby")
    assert answers("r0001", ["tabby", "dog", "fish"], [0, 1, 0], pets) == 1
    pets = pets.split("dog", ["poodle", "fish"])
    assert answers("r0002", ["tabby", "poodle", "fish"], [0, 1, 0], pets) is None

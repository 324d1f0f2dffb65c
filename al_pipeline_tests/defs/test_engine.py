"""Rounds use the learning engine: decode and embed once, learn as configured, and say how good the figures are."""

import json
import logging
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from upath import UPath

from al_pipeline.core.data import image_cache, images
from al_pipeline.core.data.places import Place
from al_pipeline.core.errors import ALError, CheckpointError
from al_pipeline.core.learning import checkpoint as checkpoints
from al_pipeline.core.learning import train
from al_pipeline.core.learning.arithmetic import PLAIN, multiplies_int8
from al_pipeline.core.learning.checkpoint import Checkpoint
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.predict import predict
from al_pipeline.core.learning.train import untrained
from al_pipeline.defs.io import CheckpointIOManager
from al_pipeline.loop import artifact_bucket
from al_pipeline.loop.deployment import Artifacts
from al_pipeline.loop.presence import Files
from al_pipeline.loop.push import _published
from al_pipeline.loop.samples import StoredSamples, _start
from al_pipeline_tests.defs.rounds import errors_of, freeze, metadata_of, run_round
from al_pipeline_tests.defs.worlds import CLASSES, World, write_images, write_usual_images
from al_pipeline_tests.ledger.builders import said


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights to start from: even random filters tell gray from green."""
    path = tmp_path_factory.mktemp("weights") / "start.safetensors"
    untrained(["0", "1"], TrainingOptions(image_size=32), seed=5, round_number=0).checkpoint.save(path)
    return str(path)


def usual(weights: str) -> dict[str, Any]:
    return {"training": {"image_size": 32, "epochs": 2, "weights": weights}}


@pytest.fixture(scope="module")
def once_given(scan_once: Callable[..., Path], weights: str) -> Path:
    return scan_once(write_usual_images, **usual(weights))


@pytest.fixture
def given(go_on: Callable[..., World], once_given: Path, weights: str) -> World:
    """A world with weights to start from, scanned."""
    return go_on(once_given, **usual(weights))


@pytest.fixture
def changing(make_world: Callable[..., World], weights: str) -> World:
    """The same, with images of its own."""
    world = make_world(**usual(weights))
    assert world.materialize("image_pool", "embeddings").success
    return world


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file that is decoded for the network from now on."""
    files: list[str] = []
    decode = images.decode

    def noted(path: Any, *how: Any) -> np.ndarray:
        files.append(str(path))
        return decode(path, *how)

    monkeypatch.setattr(image_cache, "decode", noted)
    monkeypatch.setattr(images, "decode", noted)
    return files


def test_a_checkpoint_that_was_just_written_is_at_hand_until_its_file_is_another(weights: str, tmp_path: Path) -> None:
    manager, path, context = (
        CheckpointIOManager(Artifacts(tmp_path)),
        UPath(tmp_path / "r0001.safetensors"),
        cast(Any, None),
    )
    first = Checkpoint.load(Path(weights))
    manager.dump_to_path(context, first, path)
    assert manager.load_from_path(context, path) is first
    first.save(tmp_path / path.name)
    again = manager.load_from_path(context, path)
    assert (again is first, again.hash) == (False, first.hash)
    manager.dump_to_path(context, first, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="damaged"):
        manager.load_from_path(context, path)


def done(world: World, key: str, *, per_class: int = 3, **resources: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Run a round and return the metadata of its assets."""
    freeze(world, key, per_class=per_class)
    result = run_round(world, key, **resources)
    assert result.success, errors_of(result)
    return {name: metadata_of(result, name) for name in ("checkpoint", "evaluation", "query_batch")}


def checkpoint(world: World, key: str) -> Checkpoint:
    return Checkpoint.load(world.settings.artifact_folder / "checkpoint" / f"{key}.safetensors")


def uris(world: World, scores: pd.DataFrame) -> list[str]:
    """Return where the images of scored samples are."""
    return world.value("image_pool").set_index("sample_id")["uri"][scores["sample_id"]].tolist()


def test_with_given_weights_a_round_learns_a_head_and_runs_no_network(
    given: World, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it build one twice, or hash its weights more often than there is something new in them."""

    def never(*_: Any) -> None:
        raise AssertionError("a round on features that are there needs no convolution")

    calls: list[str] = []

    def counted(name: str) -> None:
        own = getattr(train, name)

        def noted(*args: Any, **options: Any) -> Any:
            calls.append(name)
            return own(*args, **options)

        for module in (checkpoints, train):
            monkeypatch.setattr(module, name, noted)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", never)
    for name in ("build", "state_hash"):
        counted(name)
    _start.cache_clear()
    shown = done(given, "r0001", per_class=1)
    # Of what training starts from the weights and the backbone are hashed, then the weights with the head.
    assert sorted(calls) == ["build", *["state_hash"] * 3]
    assert shown["checkpoint"]["mode"] == "head"
    assert "too few labels" in shown["checkpoint"]["regularization"]
    assert not decoded
    assert "5-fold" in done(given, "r0002", per_class=6)["checkpoint"]["regularization"]
    monkeypatch.undo()
    # What is predicted from features is what the checkpoint says about the images.
    scores = given.value("uncertainty_scores", "r0001")
    expected = predict(checkpoint(given, "r0001"), uris(given, scores))
    np.testing.assert_allclose(scores.filter(regex="^p_").to_numpy(), expected, atol=1e-5)


@pytest.mark.skipif(not multiplies_int8(torch.device("cpu")), reason="the processor does not multiply int8")
def test_features_in_int8_are_calibrated_once_on_the_pool_and_checkpoints_carry_how(
    given: World, weights: str, tmp_path: Path
) -> None:
    asked = {"inference_precision": "int8"}
    freeze(given, "r0001", per_class=3)
    result = run_round(given, "r0001", ["labeled_pool", "checkpoint"], training=asked)
    assert result.success, errors_of(result)
    (kept,) = (given.settings.artifact_folder / "int8").glob("*.json")
    ranges = json.loads(kept.read_text())
    manifest = given.value("image_pool")
    pool = manifest.query("split == 'pool'")["sample_id"].tolist()
    assert sorted(ranges["images"]) == sorted(pool)
    made = checkpoint(given, "r0001")
    assert list(made.info.int8_ranges) == ranges["ranges"]

    def samples() -> StoredSamples:
        options = TrainingOptions(weights=weights, image_size=32, inference_precision="int8")
        return StoredSamples(manifest, given.deployment, options, 0, logging.getLogger())

    first = samples()
    model = first.model(made)
    assert model.by_features
    assert first.store.folder.name.endswith(made.info.way)
    # What is predicted from stored features is what the checkpoint says about the files.
    expected = predict(made, [first.uris[i] for i in pool])
    np.testing.assert_allclose(model.predict(first, pool), expected, atol=1e-5)
    # Other ranges, as those of another pool are: what is kept holds, and its features are others.
    kept.write_text(json.dumps({"ranges": [2 * one for one in ranges["ranges"]], "images": []}))
    other = samples()
    assert other.start.info.int8_ranges == tuple(2 * one for one in made.info.int8_ranges)
    assert other.store.folder != first.store.folder
    assert not other.model(made).by_features


def test_test_time_flip_has_features_of_its_own_and_checkpoints_of_before_are_still_predicted_right(
    given: World, tmp_path: Path
) -> None:
    done(given, "r0001", per_class=3)
    shown = done(given, "r0002", per_class=6, training={"test_time_flip": True})
    assert shown["checkpoint"]["test_time_flip"] is True
    assert "accuracy_since_last_round" in shown["evaluation"]
    assert not checkpoint(given, "r0001").info.test_time_flip
    assert checkpoint(given, "r0002").info.test_time_flip
    scores = given.value("uncertainty_scores", "r0002")
    expected = predict(checkpoint(given, "r0002"), uris(given, scores))
    np.testing.assert_allclose(scores.filter(regex="^p_").to_numpy(), expected, atol=1e-5)
    stores = {path.parent.name: path for path in (tmp_path).rglob("*.features") if "-32" in path.parent.name}
    assert len(stores) == 2
    assert sum("-flip-" in name for name in stores) == 1


def test_a_round_that_fine_tunes_decodes_each_image_once(changing: World, decoded: list[str], tmp_path: Path) -> None:
    """The embeddings asset has decoded them before."""
    shown = done(changing, "r0001", training={"mode": "finetune"})
    assert shown["checkpoint"]["mode"] == "finetune"
    assert shown["checkpoint"]["loss_curve"].startswith("![")
    assert not decoded
    write_images(tmp_path / "images", 1, seed=99)
    changing.materialize("image_pool")
    assert len(done(changing, "r0002", training={"mode": "finetune"})["checkpoint"]["checkpoint"]) == 16
    assert sorted(Path(path).name for path in decoded) == sorted(f"{name} 99-0.png" for name in CLASSES)


def test_evaluation_tells_each_class_what_a_larger_holdout_would_tell_and_whether_it_is_better(given: World) -> None:
    first = done(given, "r0000", per_class=0)["evaluation"]
    assert "accuracy_since_last_round" not in first
    shown = done(given, "r0001", per_class=6)["evaluation"]
    table = [record.data for record in shown["per_class"].records]
    assert [(row["class"], row["samples"]) for row in table] == [(name, 6) for name in CLASSES]
    assert "labels" in shown["holdout_size"]
    for figure in ("accuracy", "roc_auc"):
        assert shown[f"{figure}_since_last_round"].endswith(("better", "worse", "no difference shown"))
    gained = shown["accuracy"] - first["accuracy"]
    assert shown["accuracy_since_last_round"].startswith(f"{gained:+.3f} (")


def test_a_new_class_between_rounds_is_learned_and_reported(changing: World, tmp_path: Path) -> None:
    done(changing, "r0001", per_class=3)
    for split, seed in (("pool", 7), ("holdout", 8)):
        write_images(tmp_path / "new", 4, seed=seed, split=split)
        (tmp_path / "new" / split / CLASSES[0]).rename(tmp_path / "images" / split / "owl")
    changing.materialize("image_pool")
    shown = done(changing, "r0002", per_class=3)
    assert checkpoint(changing, "r0002").info.class_names == (*CLASSES, "owl")
    assert shown["evaluation"]["note_on_last_round"].endswith(
        "whose classes were dark horse, grüner Wald, not dark horse, grüner Wald, owl"
    )


def test_a_class_that_nobody_has_labeled_yet_is_reported(changing: World, tmp_path: Path) -> None:
    write_images(tmp_path / "new", 4, seed=7)
    (tmp_path / "new" / "pool" / CLASSES[0]).rename(tmp_path / "images" / "pool" / "owl")
    changing.materialize("image_pool")
    rows = freeze(changing, "r0003", per_class=3).query("label != 'owl'")
    changing.deployment.ledger.snapshot("r0001", rows)
    result = run_round(changing, "r0001")
    assert result.success, errors_of(result)
    assert metadata_of(result, "checkpoint")["classes_without_labels"] == "owl"
    scores = changing.value("uncertainty_scores", "r0001")
    assert set(scores["predicted"]) <= set(CLASSES)


@pytest.mark.parametrize("url", ["s3://bucket/features", "nowhere://bucket/features"])
def test_a_place_for_features_that_cannot_be_used_is_named(
    make_world: Callable[..., World], url: str, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:1", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    # By the settings, if it is no address, else by whoever goes there.
    with pytest.raises(ALError, match=f"embeddings cannot be kept in {url}.*AL_EMBEDDINGS"):
        make_world(embeddings=url, training={"image_size": 32, "weights": weights}).materialize(
            "image_pool", "embeddings"
        )


def test_features_can_be_kept_elsewhere(make_world: Callable[..., World], tmp_path: Path, weights: str) -> None:
    url = f"file://{tmp_path}/elsewhere"
    world = make_world(embeddings=url, training={"image_size": 32, "weights": weights})
    assert world.materialize("image_pool", "embeddings").success
    assert done(world, "r0001")["checkpoint"]["mode"] == "head"
    assert list((tmp_path / "elsewhere").rglob("*.features"))


@pytest.mark.parametrize(("strategy", "mode"), [("bald", "head"), ("batch_bald", "finetune")])
def test_strategies_that_go_by_disagreement_ask_an_ensemble_of_heads(given: World, strategy: str, mode: str) -> None:
    shown = done(given, "r0001", round_config={"strategy": strategy}, training={"mode": mode})
    assert shown["query_batch"]["strategy"] == strategy
    batch = given.value("query_batch", "r0001")
    assert len(batch) == 4
    assert (batch["score"] >= 0).all()
    assert batch["score"].max() > 0


def test_training_can_go_on_from_the_last_round(given: World) -> None:
    options = {"mode": "finetune", "warm_start": True, "epochs": 1, "learning_rate": 1e-6}
    done(given, "r0001", training=options | {"learning_rate": 1e-3, "epochs": 4})
    done(given, "r0002", training=options)
    done(given, "r0003", training=options | {"warm_start": False})
    first, warm, cold = (checkpoint(given, key).state["conv1.weight"] for key in ("r0001", "r0002", "r0003"))
    assert (warm - first).abs().max() < 1e-4 < (cold - first).abs().max()


@pytest.mark.parametrize(
    ("arm", "mode"), [("pseudo_label", "head"), ("label_propagation", "finetune"), ("fixmatch", "finetune")]
)
def test_unlabeled_images_can_be_guessed_and_the_number_is_shown(given: World, arm: str, mode: str) -> None:
    options = {"mode": mode, "semi_supervised": arm, "confidence": 0.5}
    shown = done(given, "r0001", training=options)["checkpoint"]
    assert shown["semi_supervised"] == arm
    # Of two classes, one always has that much; FixMatch guesses anew in every step.
    assert shown.get("guessed_labels") == (None if arm == "fixmatch" else 18)
    assert shown["labels"] == 6


def answer(world: World, key: str) -> pd.DataFrame:
    """Have a round's batch answered truly; return it with the truth."""
    batch = world.value("query_batch", key).merge(world.value("image_pool")[["sample_id", "label"]], on="sample_id")
    ledger = world.deployment.ledger
    first = len(ledger.answers()) + 1
    numbers = range(first, first + len(batch))
    tasks = dict(zip(batch["sample_id"], numbers, strict=True))
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    ledger.record_pushed(key, tasks, moment)
    labels = zip(batch["sample_id"], batch["label"], strict=True)
    ledger.append([said(tasks[i], i, label, round=key, task_id=tasks[i]) for i, label in labels], moment)
    return batch


def test_the_random_part_of_a_batch_is_an_honest_estimate_beside_the_holdout(given: World) -> None:
    done(given, "r0001", round_config={"strategy": "low_certainty", "batch_size": 12, "explore": 0.5})
    result = given.run("draw_learning_curve")
    before = given.value("learning_curve").set_index("round")
    assert before["prequential"].isna().all(), "nobody has answered yet"
    batch = answer(given, "r0001")
    result = given.run("draw_learning_curve")
    assert result.success
    curve = given.value("learning_curve").set_index("round")
    drawn = batch[batch["strategy"] == "random"]
    assert len(drawn) == 6
    value = curve.loc["r0001", "prequential"]
    assert value == pytest.approx((drawn["predicted"] == drawn["label"]).mean())
    assert curve.loc["r0001", "prequential_low"] < value <= curve.loc["r0001", "prequential_high"] <= 1
    assert curve.loc["r0001", "accuracy"] == metadata_of(run_round(given, "r0001"), "evaluation")["accuracy"]


def test_a_pool_of_wide_images_is_padded_and_each_framing_has_features_of_its_own(
    make_world: Callable[..., World], weights: str, tmp_path: Path
) -> None:
    images = tmp_path / "wide"
    write_usual_images(images)
    for path in images.rglob("*.png"):
        Image.open(path).resize((72, 24)).save(path)
    world = make_world(images, training={"image_size": 32, "weights": weights})
    assert world.materialize("image_pool", "embeddings").success
    shown = done(world, "r0001")["checkpoint"]
    assert shown["framing"] == "Framing is pad: a crop shows 33% of the median image of the pool"
    assert checkpoint(world, "r0001").info.framing == "pad"
    # What is predicted from stored features is what the checkpoint says about the files.
    scores = world.value("uncertainty_scores", "r0001")
    expected = predict(checkpoint(world, "r0001"), uris(world, scores))
    np.testing.assert_allclose(scores.filter(regex="^p_").to_numpy(), expected, atol=1e-5)
    shown = done(world, "r0002", per_class=4, training={"framing": "squeeze"})["checkpoint"]
    assert shown["framing"] == "Framing is squeeze, as set"
    assert checkpoint(world, "r0002").info.framing == "squeeze"
    stores = {path.parent.name.partition("-")[2] for path in tmp_path.rglob("*.features") if "-32" in path.parent.name}
    way = checkpoint(world, "r0002").info.arithmetic
    suffix = "" if way == PLAIN.key else f"-{way}"
    assert stores == {f"32-pad-v3{suffix}", f"32-squeeze-v3{suffix}"}


def test_a_round_on_images_of_a_bucket(
    make_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its batch is published by sample id on this machine; what it writes may lie in a bucket as well."""
    write_usual_images(tmp_path / "photos")
    place = Place(f"memory://{tmp_path.name}/photos")
    for path in (tmp_path / "photos").rglob("*.png"):
        place.put(path.relative_to(tmp_path / "photos").as_posix(), path.read_bytes())
    ours = Place(f"memory://{tmp_path.name}/artifacts")
    world = make_world(str(place), artifacts=str(ours))
    assert world.materialize("image_pool").success
    pool = world.value("image_pool")
    assert pool["uri"].str.startswith(f"{place}/").all()
    done(world, "r0001")
    batch = world.deployment.ledger.planned("r0001")["sample_id"].tolist()
    assert len(batch) == 4
    names, absent = _published(world.deployment, Files(pool, world.deployment), batch, {})
    assert (names, absent) == ({sample: f"{sample}.png" for sample in batch}, {})
    assert {path.stem for path in world.settings.published_images.iterdir()} == set(batch)
    folder = world.settings.artifact_folder
    for key in ("image_pool.parquet", *(f"{name}/r0001.parquet" for name in ("uncertainty_scores", "query_batch"))):
        assert ours.read(key).getvalue() == (folder / key).read_bytes()
    # Another machine begins with what the bucket has.
    shutil.rmtree(folder)
    monkeypatch.setattr(artifact_bucket, "FRESH", 0.0)
    found = world.deployment.artifacts.stored_checkpoint(1)
    assert found is not None
    assert found.info.n_labels == len(world.value("labeled_pool", "r0001"))

"""While people label the network is refined; the rounds after it learn on its features, each always on the same."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster import DagsterRunStatus as Status

import al_pipeline.core.learning.refine as core
from al_pipeline.core.data import embeddings
from al_pipeline.core.errors import CheckpointError, FileError, InputError
from al_pipeline.core.learning.checkpoint import Checkpoint
from al_pipeline.core.learning.provenance import provenance
from al_pipeline.core.rounds import round_key
from al_pipeline.defs.partitions import INTERRUPTED_TAG
from al_pipeline.defs.refining import Pushed, decide, goes_first, newest_pushed, refine_while_labeling
from al_pipeline.ledger import PLAN_COLUMNS
from al_pipeline.loop import beside, samples
from al_pipeline.loop.deployment import Artifacts
from al_pipeline.loop.offline import find_checkpoint
from al_pipeline.loop.refined import Network, needed, refined_network, served, start_of_round
from al_pipeline.loop.samples import stored_features
from al_pipeline_tests.defs.rounds import errors_of, freeze, metadata_of, run_round
from al_pipeline_tests.defs.test_keeping import told
from al_pipeline_tests.defs.worlds import USUAL, World, open_world, write_usual_images
from al_pipeline_tests.faults.worker import LABELS, MODEL, write_weights

REFINED = "refined_checkpoint"


@pytest.fixture(scope="module", autouse=True)
def as_others() -> Iterator[None]:
    """What computes when nobody else wants to would wait for other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beside, "LOWEST_PRIORITY", 0)
        yield


@pytest.fixture(scope="module")
def with_round(scan_once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a world with a round on the features of given weights, and how it is trained."""
    weights = tmp_path_factory.mktemp("weights") / "start.safetensors"
    write_weights(weights)
    training = {"image_size": 32, "epochs": 1, "weights": str(weights)}
    folder = scan_once(write_usual_images, training=training)
    options = USUAL | {"home": folder / "home", "images": folder / "images", "training": training}
    world = open_world(folder / "dagster", options)
    round_of(world, 1)
    world.instance.dispose()
    return folder, training


@pytest.fixture
def world(go_on: Callable[..., World], with_round: tuple[Path, dict[str, Any]]) -> World:
    """A world that refines: r0001 has learned from 20 labels."""
    folder, training = with_round
    return go_on(folder, training=training)


def round_of(world: World, number: int, **training: Any) -> dict[str, Any]:
    """Run a round with a label more of each class than the one before, and return its checkpoint's provenance."""
    key = round_key(number)
    if not world.deployment.ledger.has_snapshot(key):
        freeze(world, key, 9 + number)
    result = run_round(world, key, LABELS + MODEL, **({"training": training} if training else {}))
    assert result.success, errors_of(result)
    return provenance(world.deployment.artifacts.checkpoints / f"{key}.safetensors")


def judge(monkeypatch: pytest.MonkeyPatch, *, better: bool) -> None:
    """Have what is refined be taken for better or worse: which it is depends on the images."""
    real = core.refine

    def judged(*args: Any, **options: Any) -> core.Refined:
        refined = real(*args, **options)
        return replace(refined, evidence=replace(refined.evidence, better=better, sentence=f"better: {better}"))

    monkeypatch.setattr(core, "refine", judged)


def test_rounds_learn_on_what_was_refined_before_them_and_always_on_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = world.deployment.artifacts
    with monkeypatch.context() as patch:
        judge(patch, better=False)
        told = metadata_of(world.run("refine", "r0001"), REFINED)
    assert not told["better"]
    assert told["serves"] == "The checkpoint of r0001 serves: better: False"
    assert round_of(world, 2)["refined"] == "", "it is not better"

    with monkeypatch.context() as patch:
        judge(patch, better=True)
        told = metadata_of(world.run("refine", "r0002"), REFINED)
    assert told["better"]
    assert told["features_computed"] == len(world.value("image_pool"))
    assert "accuracy_against_the_head" in told, "the holdout is told"
    network = refined_network(artifacts, "r0002")
    assert network is not None
    assert find_checkpoint(Artifacts.of(world.settings), "best") == network.path
    assert find_checkpoint(Artifacts.of(world.settings), "latest").name == "r0002.safetensors"
    store = stored_features(world.deployment)
    assert store is not None
    assert not store.folder.name.endswith("-refined"), "r0002 itself has learned on others"

    freeze(world, "r0003", 12)
    result = run_round(world, "r0003")
    assert result.success, errors_of(result)
    third = provenance(artifacts.checkpoints / "r0003.safetensors")
    assert third["refined"] == "r0002"
    assert third["weights"] == world.settings.training.weights, "what the home starts from stays"
    assert third["backbone_hash"] == provenance(network.path)["backbone_hash"]
    store = stored_features(world.deployment)
    assert store is not None
    assert store.folder.name == network.features
    assert needed(artifacts) == {network.path, artifacts.checkpoints / "r0003.safetensors"}
    serves = served(artifacts)
    assert serves is not None
    assert serves.sentence == "The checkpoint of r0003 serves, a head on the network refined in r0002"
    assert round_of(world, 3, refine="off") == third, "a round that has begun stays the same"


def test_a_network_that_no_kept_checkpoint_stands_on_goes_and_comes_back_to_the_bit(
    go_on: Callable[..., World], with_round: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, training = with_round
    world = go_on(folder, training=training, keep_checkpoints=1)
    artifacts = world.deployment.artifacts
    judge(monkeypatch, better=True)
    for number in (1, 2):
        done = world.run("refine", round_key(number))
        assert done.success
        assert round_of(world, number + 1)["refined"] == round_key(number)
    networks = {path.stem: provenance(path)["weights_hash"] for path in artifacts.refined.glob("*.safetensors")}
    second = provenance(artifacts.checkpoints / "r0002.safetensors")["weights_hash"]

    running = dg.DagsterRun(job_name="retrain", status=Status.STARTED, tags={"dagster/partition": "r0002"})
    world.instance.add_run(running)
    assert told(world, done) == "All checkpoints are kept"
    world.instance.delete_run(running.run_id)
    said = "Deleted the checkpoints of r0001, r0002; deleted the networks refined in r0001"
    assert told(world, done) == said
    assert {path.stem for path in artifacts.refined.glob("*.safetensors")} == {"r0002"}

    with pytest.raises(
        CheckpointError, match=r"launch the job `refine` for r0001, whose network .* then the job `retr"
    ):
        artifacts.stored_checkpoint(2)
    said = errors_of(run_round(world, "r0002", ["checkpoint"]))
    assert "launch the job `refine` for r0001 to have it made again (AL_KEEP_CHECKPOINTS says" in said
    stores = {folder.name for folder in Path(world.settings.embedding_store).iterdir()}
    assert world.run("refine", "r0001").success
    assert provenance(artifacts.refined / "r0001.safetensors")["weights_hash"] == networks["r0001"]
    assert stores <= {folder.name for folder in Path(world.settings.embedding_store).iterdir()}
    assert round_of(world, 2)["weights_hash"] == second


def test_a_round_starts_from_what_is_better_and_fits_and_then_always_from_that(world: World) -> None:
    artifacts = world.deployment.artifacts
    settled = world.settings.training.but(framing="crop")

    def refined(number: int, *, better: bool) -> Network:
        key = round_key(number)
        path = artifacts.refined / f"{key}.safetensors"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(artifacts.checkpoints / "r0001.safetensors", path)
        network = Network(key, path, f"hash {number}", better, "why")
        network.write({})
        return network

    def start(number: int, **changes: Any) -> Network | None:
        return start_of_round(artifacts, round_key(number), settled.but(**changes))

    assert start(2) is None
    first = refined(1, better=True)
    assert start(2) is None, "it has begun before"
    assert start(1) is None, "a round cannot start from its own"
    assert start(3, image_size=64) is None
    assert start(4, refine="off") is None
    assert start(4) is None
    assert start(5) == first
    refined(2, better=False)
    assert start(6) is None, "the newest evidence decides"
    last, other = refined(4, better=True), refined(5, better=False)
    found = Checkpoint.load(other.path)
    Checkpoint(replace(found.info, image_size=64), found.state).save(other.path)
    assert (start(5), start(6), start(7)) == (first, None, last), "of another size it tells nothing"
    assert start(5, refine="off") == first
    assert [start(5, **changes) for changes in ({"mode": "head"}, {"mode": "finetune"}, {"weights": "none"})] == [
        None
    ] * 3
    replace(first, checkpoint="another").write({})
    for wrong in ("another", "gone"):
        with pytest.raises(CheckpointError, match=r"Round r0005 has started from the network hash 1.*put it back"):
            start(5)
        if wrong == "another":
            first.path.unlink()
    assert start(7) == last
    last.path.unlink()
    assert start(8) is None, "and none before it"
    (artifacts.refined / "r0004.json").write_text("{")
    with pytest.raises(FileError, match=r"r0004.json cannot be read .*delete it"):
        start(7)


def test_what_was_stopped_goes_on_and_what_is_whole_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    judge(monkeypatch, better=True)
    # Eight images at a time, each time stored.
    for module, name in ((samples, "STEP"), (embeddings, "STEP"), (embeddings, "SHARD_IMAGES")):
        monkeypatch.setattr(module, name, 8)
    artifacts, pool = world.deployment.artifacts, len(world.value("image_pool"))

    def run(stop_at: int) -> list[str]:
        """Refine until it may give way for so many times; return what it did before each."""
        seen, real = list[str](), beside.GiveWay.__call__

        def counted(way: beside.GiveWay) -> None:
            seen.append("features" if (artifacts.refined / "r0001.safetensors").exists() else "training")
            if len(seen) == stop_at:
                way.stop()
            real(way)

        with monkeypatch.context() as patch:
            patch.setattr(beside.GiveWay, "__call__", counted)
            if stop_at > 100:
                told.update(metadata_of(world.run("refine", "r0001"), REFINED))
            else:
                with pytest.raises(beside.StoppedError):
                    world.run("refine", "r0001")
        return seen

    told: dict[str, Any] = {}
    # Three networks learn in a step each.
    assert run(2) == ["training"] * 2
    assert refined_network(artifacts, "r0001") is None
    assert run(2 + 3) == ["training"] * 2 + ["features"] * 3, "the first one was kept"
    assert refined_network(artifacts, "r0001") is None
    assert served(artifacts).path.parent == artifacts.checkpoints, "it is not whole"  # type: ignore[union-attr]
    assert set(run(1000)) == {"features"}
    assert told["features_computed"] == pool - 2 * 8
    assert not artifacts.refining.exists()

    document = (artifacts.refined / "r0001.json").read_bytes()
    assert run(1000) == []
    assert told["reused"]
    assert (artifacts.refined / "r0001.json").read_bytes() == document


def test_a_refinement_gives_way_while_a_round_is_due(world: World) -> None:
    instance, said = world.instance, list[str]()
    way = beside.GiveWay(lambda: goes_first(instance, "its own"), said.append, every=0.02)
    way()
    assert said == []
    refining = world.defs.resolve_job_def("refine")
    instance.create_run_for_job(refining, status=Status.STARTED)
    for job in ("round", "next_round", "setup", "retrain"):
        run = instance.create_run_for_job(world.defs.resolve_job_def(job), status=Status.NOT_STARTED)
        assert goes_first(instance) == f"the job {job}"
        waiting = threading.Thread(target=way)
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
        instance.report_run_canceled(run)
        waiting.join(10)
        assert not waiting.is_alive()
    assert said[0] == "Waits: the job round goes first"
    assert said[1].startswith("Goes on after 0.")
    assert way.waited >= 4 * 0.05

    every = world.defs.resolve_implicit_global_asset_job_def()
    by_hand = instance.create_run_for_job(
        every, status=Status.STARTED, asset_selection=frozenset({dg.AssetKey("query_batch")})
    )
    assert goes_first(instance) == f"run {by_hand.run_id}"
    assert goes_first(instance, by_hand.run_id) is None
    waiting = threading.Thread(target=pytest.raises, args=(beside.StoppedError, way))
    waiting.start()
    way.stop()
    waiting.join(10)
    assert not waiting.is_alive()


def test_work_that_is_interrupted_is_stopped_and_others_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "LOWEST_PRIORITY", 19)
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    found = beside.at_lowest_priority(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), list)
    assert (found, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())) == (19, own)
    stopped = threading.Event()

    def interrupted(_: float | None = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        beside.at_lowest_priority(lambda: stopped.wait(10), stopped.set)
    assert stopped.is_set()


PUSHED = Pushed("r0003", by_head=True, labels=60)


@pytest.mark.parametrize(
    ("pushed", "runs", "said"),
    [
        (PUSHED, [], "r0003-refine-1"),
        (replace(PUSHED, refined=True), [], "r0003 is refined"),
        (replace(PUSHED, by_head=False), [], "r0003 was not trained in a way"),
        (replace(PUSHED, labels=19), [], "r0003 has 19 labels, fewer than 20"),
        (replace(PUSHED, refined_on=51), [], "r0003 has 60 labels, and 51 had the last network"),
        (replace(PUSHED, refined_on=50), [], "r0003-refine-1"),
        (PUSHED, [("b", Status.STARTED, "r0002")], "A network is being refined on the labels of r0002"),
        (PUSHED, [("b", Status.QUEUED, "r0003")], "A network is being refined on the labels of r0003"),
        (PUSHED, [("b", Status.FAILURE, "r0003"), ("a", Status.SUCCESS, "r0002")], "r0003-refine-2"),
        (PUSHED, [(name, Status.FAILURE, "r0003") for name in "cba"], "r0003: 3 attempts to refine failed"),
        (PUSHED, [(name, Status.FAILURE, "r0003") for name in "cbx"], "r0003-refine-4"),
        (PUSHED, [("c", Status.CANCELED, "r0003")], "r0003: somebody ended run c"),
    ],
)
def test_what_is_refined_next(pushed: Pushed, runs: list[tuple[str, Status, str]], said: str) -> None:
    tagged = [(name, status, {"dagster/partition": key}) for name, status, key in runs]
    # What ended with the servers has not failed.
    tagged = [(name, status, tags | {INTERRUPTED_TAG: "x"}) for name, status, tags in tagged]
    found = decide(pushed, tagged)
    told = found.run_key if isinstance(found, dg.RunRequest) else found.skip_message
    assert str(told).startswith(said)


def test_people_are_told_what_to_do_where_others_leave_a_refinement_no_time() -> None:
    runs = [("a", Status.STARTED, {"dagster/partition": "r0003"})]
    told = [str(decide(PUSHED, runs, minutes)) for minutes in (59, 61)]
    assert [", for 61 minutes: " in each and 'training.refine = "off"' in each for each in told] == [False, True]


def test_the_sensor_looks_at_the_newest_round_with_the_annotators(
    world: World, make_world: Callable[..., World]
) -> None:
    def look() -> str:
        resources = {"deployment": world.deployment}
        found = refine_while_labeling()(dg.build_sensor_context(instance=world.instance, resources=resources))
        assert isinstance(found, dg.RunRequest | dg.SkipReason)
        return str(found.run_key if isinstance(found, dg.RunRequest) else found.skip_message)

    assert look() == "No round is with the annotators yet"
    ledger, samples = world.deployment.ledger, world.value("image_pool")["sample_id"][:2].tolist()
    rows = [
        {"sample_id": sample, "purpose": "query", "rank": rank, "strategy": "random", "seed": 0}
        for rank, sample in enumerate(samples)
    ]
    ledger.plan("r0001", pd.DataFrame(rows, columns=list(PLAN_COLUMNS)))
    ledger.record_pushed("r0001", {sample: task for task, sample in enumerate(samples, 1)}, datetime.now(UTC))
    assert look() == "r0001-refine-1"
    due = world.instance.create_run_for_job(world.defs.resolve_job_def("round"), status=Status.NOT_STARTED)
    assert look() == "Nothing is refined now: the job round goes first"
    world.instance.report_run_canceled(due)

    artifacts = world.deployment.artifacts
    for path in (artifacts.round_starts / "r0001.json", artifacts.checkpoints / "r0001.safetensors"):
        shutil.copy(path, path.with_stem("r0002"))
    assert look() == "r0001-refine-1", "it may still ask"
    ledger.plan("r0002", pd.DataFrame([], columns=list(PLAN_COLUMNS)))
    assert look() == "r0002-refine-1", "it asks nobody, and has learned from all"
    shutil.rmtree(artifacts.round_starts)
    assert newest_pushed(world.deployment) == Pushed("r0001", by_head=False, labels=20)

    names = {sensor.name for sensor in world.defs.sensors or ()}
    assert "refine_while_labeling" in names
    off = make_world(world.settings.images, training={"refine": "off"})
    assert names - {sensor.name for sensor in off.defs.sensors or ()} == {"refine_while_labeling"}
    with pytest.raises(InputError, match=r"There is nothing to refine.* training\.refine is auto"):
        world.run("refine", "r0001", training={"refine": "off"})

"""Old checkpoints go, but those that somebody needs; of the others it stays readable what they were."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from al_pipeline.core.errors import CheckpointError
from al_pipeline.core.learning.checkpoint import Checkpoint, state_hash
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.rounds import round_key
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.keeping import best, delete_spare, delete_spare_networks, pin, spare, spare_networks
from al_pipeline.loop.offline import find_checkpoint
from al_pipeline.loop.refined import Network, newest_network, served
from al_pipeline.settings import load_settings
from al_pipeline_tests.ledger.builders import manifest, plan_rows
from al_pipeline_tests.web.checkpoints import checkpoint

NEWEST = 9


@pytest.fixture(scope="module")
def stored() -> Checkpoint:
    """The checkpoint of a network that is no more than its bias."""
    made = checkpoint(1, ["cat", "dog"])
    state = {"fc.bias": made.state["fc.bias"]}
    return Checkpoint(replace(made.info, weights_hash=state_hash(state)), state)


@pytest.fixture
def loop(stored: Checkpoint, tmp_path: Path) -> Deployment:
    """Ten rounds with a checkpoint each; the loop keeps the newest three."""
    deployment = Deployment(load_settings(home=tmp_path, keep_checkpoints=3))
    for number in range(NEWEST + 1):
        stored.save(deployment.artifacts.checkpoints / f"{round_key(number)}.safetensors")
    return deployment


def measured(loop: Deployment, number: int, *, trained: bool = True, **scores: float) -> None:
    """Store what a round measured."""
    found = {name: {"value": value, "low": 0.0, "high": 1.0} for name, value in scores.items()}
    document = {"trained": trained, "evaluation": {"n": 100, **found}}
    loop.artifacts.evaluations.mkdir(exist_ok=True)
    (loop.artifacts.evaluations / f"{round_key(number)}.json").write_text(json.dumps(document))


def refined(loop: Deployment, stored: Checkpoint, *numbers: int, better: bool = True, image_size: int = 32) -> None:
    """Store networks that were refined on the labels of these rounds."""
    for number in numbers:
        path = loop.artifacts.refined / f"{round_key(number)}.safetensors"
        Checkpoint(replace(stored.info, image_size=image_size), stored.state).save(path)
        Network(round_key(number), path, stored.hash, better, "why").write({})


def started(loop: Deployment, number: int, on: int) -> None:
    """Store which refined network a round has started from."""
    loop.artifacts.round_starts.mkdir(exist_ok=True)
    known = {"round": round_key(on), "checkpoint": "x"}
    (loop.artifacts.round_starts / f"{round_key(number)}.json").write_text(json.dumps(known))


def keys(*numbers: int) -> list[str]:
    return [round_key(number) for number in numbers]


def test_the_newest_stay_the_best_and_what_somebody_needs(loop: Deployment) -> None:
    assert spare(loop) == keys(0, 1, 2, 3, 4, 5, 6)
    measured(loop, 1, roc_auc=0.9, accuracy=0.7)
    loop.ledger.register(manifest())
    loop.ledger.plan("r0002", plan_rows(0))
    pin(loop.artifacts.checkpoints / "r0003.safetensors", "exported to /models/best.onnx")
    assert (loop.artifacts.checkpoints / "r0003.pinned").read_text() == "exported to /models/best.onnx\n"
    assert spare(loop, used={"r0004"}) == keys(0, 5, 6)
    assert delete_spare(loop, used={"r0004"}) == keys(0, 5, 6)
    assert delete_spare(loop, used={"r0004"}) == []
    left = {path.stem for path in loop.artifacts.checkpoints.glob("*.safetensors")}
    assert left == set(keys(1, 2, 3, 4, 7, 8, 9))


@pytest.mark.parametrize("keep", [10, "all"])
def test_as_many_stay_as_the_setting_says(loop: Deployment, keep: int | str) -> None:
    settings = load_settings(home=loop.settings.home, keep_checkpoints=keep)
    assert delete_spare(Deployment(settings)) == []


def test_the_best_is_the_trained_round_of_the_highest_area_then_accuracy_then_the_newest(loop: Deployment) -> None:
    assert best(loop.artifacts) is None
    measured(loop, 1, accuracy=0.99)
    assert best(loop.artifacts) == "r0001"
    measured(loop, 2, roc_auc=0.9, accuracy=0.8)
    measured(loop, 3, roc_auc=0.9, accuracy=0.7)
    measured(loop, 5, roc_auc=0.99, accuracy=0.9, trained=False)
    measured(loop, 6)
    assert best(loop.artifacts) == "r0002"
    measured(loop, 4, roc_auc=0.9, accuracy=0.8)
    assert best(loop.artifacts) == "r0004"


def test_of_a_deleted_one_is_told_what_it_was_and_how_it_comes_back(loop: Deployment, stored: Checkpoint) -> None:
    assert "r0002" in delete_spare(loop)
    for asked in (lambda: loop.artifacts.stored_checkpoint(2), lambda: find_checkpoint(loop.artifacts, "r0002")):
        with pytest.raises(
            CheckpointError, match=rf"r0002 \({stored.hash}, .*AL_KEEP_CHECKPOINTS.*`retrain` for r0002"
        ):
            asked()
    assert find_checkpoint(loop.artifacts, "latest").stem == "r0009"
    assert loop.artifacts.stored_checkpoint(NEWEST + 1) is None
    assert loop.artifacts.stored_checkpoint(-1) is None
    # Trained again it is there again.
    stored.save(loop.artifacts.checkpoints / "r0002.safetensors")
    assert loop.artifacts.stored_checkpoint(2) is not None


def test_what_is_damaged_stays_and_keeps_no_other_from_going(loop: Deployment) -> None:
    damaged = loop.artifacts.checkpoints / "r0001.safetensors"
    damaged.write_bytes(b"damaged")
    assert delete_spare(loop) == keys(0, 2, 3, 4, 5, 6)
    assert damaged.exists()


def test_of_refined_networks_the_newest_stay_and_what_somebody_needs(loop: Deployment, stored: Checkpoint) -> None:
    refined(loop, stored, *range(NEWEST))
    assert spare_networks(loop) == keys(0, 1, 2, 3, 4, 5)
    started(loop, NEWEST + 1, on=5)
    assert spare_networks(loop) == keys(0, 1, 2, 3, 4), "the newest round goes by it"
    (loop.artifacts.round_starts / f"{round_key(NEWEST + 1)}.json").rename(
        loop.artifacts.round_starts / f"{round_key(NEWEST)}.json"
    )
    started(loop, NEWEST + 1, on=8)
    assert spare_networks(loop) == keys(0, 1, 2, 3, 4), "one before it has a checkpoint that stays"
    measured(loop, 1, roc_auc=0.9)
    Checkpoint(replace(stored.info, refined="r0000"), stored.state).save(
        loop.artifacts.checkpoints / "r0001.safetensors"
    )
    assert spare_networks(loop) == keys(1, 2, 3, 4), "the best one stands on it"
    loop.ledger.register(manifest())
    loop.ledger.plan("r0003", plan_rows(0))
    started(loop, 3, on=1)
    assert spare_networks(loop) == keys(2, 4), "people are at a round that goes by it"
    assert spare_networks(loop, used={"r0004"}) == keys(2), "a run is under way"
    (loop.artifacts.checkpoints / "r0004.safetensors").unlink()
    started(loop, 4, on=2)
    assert spare_networks(loop, used={"r0004"}) == [], "it trains again on this one"
    pin(loop.artifacts.refined / "r0004.safetensors", "exported to /models/best.onnx")
    assert delete_spare_networks(loop) == keys(2)
    assert delete_spare_networks(loop) == []
    left = {path.stem for path in loop.artifacts.refined.glob("*.safetensors")}
    assert left == set(keys(0, 1, 3, 4, 5, 6, 7, 8))
    assert loop.artifacts.stored_checkpoint(2) is not None, "of another kind"
    everything = load_settings(home=loop.settings.home, keep_checkpoints="all")
    assert spare_networks(Deployment(everything)) == []


def test_what_serves_and_what_training_is_set_to_start_from_stays_whatever_is_newer(
    loop: Deployment, stored: Checkpoint
) -> None:
    one = load_settings(home=loop.settings.home, keep_checkpoints=1)
    refined(loop, stored, 1, 2, NEWEST)
    refined(loop, stored, NEWEST + 1, better=False)
    assert served(loop.artifacts).path.parent == loop.artifacts.refined  # type: ignore[union-attr]
    assert spare_networks(Deployment(one)) == keys(1, 2)
    weights = loop.artifacts.refined / "r0001.safetensors"
    assert spare_networks(Deployment(one.model_copy(update={"training": TrainingOptions(weights=str(weights))}))) == [
        "r0002"
    ]


def test_what_the_next_round_starts_from_is_the_same_before_and_after_however_it_is_set(
    loop: Deployment, stored: Checkpoint
) -> None:
    refined(loop, stored, 0, 1, image_size=16)
    refined(loop, stored, 2, image_size=48)
    refined(loop, stored, 3, image_size=48, better=False)
    refined(loop, stored, 4, 5, 6, 7, 8)

    def starts() -> list[str | None]:
        common = {"weights": stored.info.weights, "framing": stored.info.framing}
        options = [TrainingOptions(image_size=size, **common) for size in (16, 32, 48)]  # type: ignore[arg-type]
        found = [newest_network(loop.artifacts, each) for each in options]
        return [None if network is None else network.round for network in found]

    before = starts()
    assert before == ["r0001", "r0008", None]
    assert delete_spare_networks(loop) == keys(0, 2, 3, 4, 5)
    assert starts() == before


def test_a_refinement_that_is_not_through_keeps_its_network(loop: Deployment, stored: Checkpoint) -> None:
    refined(loop, stored, *range(6))
    (loop.artifacts.refined / "r0001.json").unlink()
    assert spare_networks(loop) == keys(0, 1, 2), "nothing goes on with it"
    # A folder alone may be what another machine's refinement has left.
    (loop.artifacts.refining / "r0001").mkdir(parents=True)
    assert spare_networks(loop) == keys(0, 1, 2)
    (loop.artifacts.refining / "r0001" / "running.pt").write_bytes(b"under way")
    assert spare_networks(loop) == keys(0, 2)

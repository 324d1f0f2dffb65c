"""Images that vanish between any two steps of a round: it goes on, no label is lost, and what is unused is told."""

from pathlib import Path
from typing import Any

import pytest

from al_pipeline_tests.defs.rounds import checks_of, errors_of, freeze, metadata_of, run_round
from al_pipeline_tests.defs.worlds import World


@pytest.fixture
def own(make_world: Any) -> World:
    """The usual world with its images scanned, which are its own: they may be deleted. Nothing of them is stored."""
    world = make_world(cache_gb=0)
    assert world.materialize("image_pool").success
    return world


def delete(world: World, sample: str) -> Path:
    path = Path(world.value("image_pool").set_index("sample_id").loc[sample, "uri"])
    path.unlink()
    return path


def test_labels_whose_images_were_deleted_are_left_out_and_named_until_they_are_back(own: World) -> None:
    labels = freeze(own, "r0000", 4)
    first, second = labels["sample_id"].iloc[[0, 1]]
    paths = [delete(own, sample) for sample in (first, second)]
    assert own.materialize("image_pool").success
    result = run_round(own, "r0000")
    assert errors_of(result) == ""
    assert all(checks_of(result).values())
    pool, checkpoint = metadata_of(result, "labeled_pool"), metadata_of(result, "checkpoint")
    assert (pool["labels"], pool["unused_labels"]) == (8, 2)
    assert (checkpoint["labels"], checkpoint["unused_labels"]) == (6, 2)
    told = str(checkpoint["unused_labels_why"])
    assert [str(path) in told for path in paths] == [True, True]
    # A round that is run again learns what is there by then.
    again = run_round(own, "r0000")
    assert metadata_of(again, "checkpoint")["checkpoint"] == checkpoint["checkpoint"]


def test_an_image_that_was_deleted_since_the_scan_ends_no_round(own: World) -> None:
    labels = freeze(own, "r0000", 4)
    label = str(labels["sample_id"].iloc[0])
    manifest = own.value("image_pool")
    candidate = manifest[(manifest["split"] == "pool") & ~manifest["sample_id"].isin(labels["sample_id"])][
        "sample_id"
    ].iloc[0]
    tested = manifest[manifest["split"] == "holdout"]["sample_id"].iloc[0]
    for sample in (label, candidate, tested):
        delete(own, sample)
    result = run_round(own, "r0000")
    assert errors_of(result) == ""
    assert all(checks_of(result).values())
    assert metadata_of(result, "checkpoint")["unused_labels"] == 1
    assert metadata_of(result, "evaluation")["unused_holdout_labels"] == 1
    assert candidate not in set(own.value("uncertainty_scores", "r0000")["sample_id"])


def test_a_folder_that_is_not_mounted_is_a_plain_error_and_the_same_round_works_once_it_is_back(own: World) -> None:
    before: dict[str, Any] = {}
    freeze(own, "r0000", 4)
    images = own.settings.images
    assert isinstance(images, Path)
    away = images.rename(images.parent / "away")
    result = run_round(own, "r0000")
    assert "is their folder mounted?" in errors_of(result)
    away.rename(images)
    result = run_round(own, "r0000")
    assert errors_of(result) == ""
    before = metadata_of(result, "checkpoint")
    assert before["labels"] == 8


def test_second_looks_and_weights_of_annotators_go_on_without_the_images(own: World) -> None:
    labels = freeze(own, "r0000", 4)
    delete(own, str(labels["sample_id"].iloc[0]))
    assert own.materialize("image_pool").success
    result = run_round(own, "r0000", round_config={"review": 0.5}, policy={"consensus": "crowdlab"})
    assert errors_of(result) == ""

"""`auto` takes ImageNet weights where they can be had, says so where not, and never changes what a home has trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from al_pipeline.core.errors import CheckpointError
from al_pipeline.core.learning.hub import place
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.loop.weights import missing_weights, settle_weights
from al_pipeline.settings import Settings, load_settings
from al_pipeline_tests.core.learning.hub import made_up
from al_pipeline_tests.web.checkpoints import checkpoint

AUTO = TrainingOptions()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return made_up(tmp_path / "hub", monkeypatch)


@pytest.fixture
def online(tmp_path: Path, file: Path) -> Settings:
    return load_settings(home=tmp_path / "home", weights_url=file.parent.as_uri())


@pytest.fixture
def offline(tmp_path: Path, file: Path) -> Settings:
    return load_settings(home=tmp_path / "home", weights_url=(tmp_path / "nowhere").as_uri())


def settled(settings: Settings, training: TrainingOptions = AUTO, **how: Any) -> tuple[str, int | None]:
    found = settle_weights(training, settings, **how)
    return found.training.weights, found.training.image_size


def store(settings: Settings, number: int, *, weights: str = "none", trained: bool = True) -> None:
    made = checkpoint(number, ["a", "b"], trained=trained)
    path = settings.artifact_folder / "checkpoint" / f"r{number:04d}.safetensors"
    replace(made, info=replace(made.info, weights=weights)).save(path)


def test_auto_takes_what_can_be_had_and_the_size_follows(online: Settings, offline: Settings) -> None:
    assert settled(online) == ("imagenet", 224)
    assert settled(offline) == ("imagenet", 224), "they are in torch's cache"
    assert missing_weights(offline, AUTO) is None
    assert settled(online, AUTO.but(image_size=96)) == ("imagenet", 96)
    assert settled(online, AUTO.but(weights="none")) == ("none", 64)


def test_without_them_training_starts_untrained_and_says_how_to_get_them(online: Settings, offline: Settings) -> None:
    found = settle_weights(AUTO, offline)
    assert (found.training.weights, found.training.image_size) == ("none", 64)
    assert found.warning is not None
    for part in ("untrained network", "`al up` and the job `setup` look again", f"into {place('resnet18').parent}"):
        assert part in found.warning
    assert missing_weights(offline, AUTO) == found.warning
    assert missing_weights(offline, AUTO.but(weights="none")) is None, "nobody else has asked for more"
    assert settled(online) == ("none", 64), "all processes start from the same"
    assert settled(online, again=True) == ("imagenet", 224)
    assert missing_weights(online, AUTO) is None


def test_a_home_that_has_trained_keeps_its_weights_and_its_size_until_it_is_told(
    online: Settings, offline: Settings
) -> None:
    assert settled(offline) == ("none", 64)
    store(online, 0, trained=False)
    assert settled(offline, again=True) == ("none", 64), "nothing is learned yet"
    store(online, 1)
    found = settle_weights(AUTO, online, again=True)
    assert (found.training.weights, found.training.image_size) == ("none", 32)
    assert "as in r0001: training.weights changes that" in found.said
    assert found.warning is not None
    assert settled(online, AUTO.but(weights="imagenet")) == ("imagenet", 224)
    store(online, 2, weights="imagenet")
    assert settled(online) == ("imagenet", 32)
    assert missing_weights(online, AUTO) is None
    place("resnet18").unlink()
    with pytest.raises(CheckpointError, match="could not be downloaded"):
        settle_weights(AUTO, offline)


def test_who_needs_weights_gets_them_or_an_error(online: Settings, offline: Settings) -> None:
    for training in (AUTO.but(weights="imagenet"), AUTO.but(mode="head")):
        with pytest.raises(CheckpointError, match="could not be downloaded"):
            settle_weights(training, offline)
    assert settled(online, AUTO.but(mode="head")) == ("imagenet", 224)


def test_a_study_leaves_the_home_as_it_is(offline: Settings) -> None:
    assert settled(offline, keep=False) == ("none", 64)
    assert not offline.home.exists()

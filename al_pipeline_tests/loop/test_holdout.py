"""The holdout of a loop: whole groups that nobody is asked about otherwise, growing with the images."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.rounds import RoundPolicy, round_key
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.ledger import Ledger
from al_pipeline.loop.answers import holdout_labels
from al_pipeline.loop.choose import choose_batch, draw_candidates
from al_pipeline.loop.classes import declare
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.grouping import group_images, keep_rule
from al_pipeline.loop.samples import StoredSamples
from al_pipeline.settings import load_settings
from al_pipeline_tests.ledger.builders import moment, plan_rows, said, sample

SIZE = 12
CONFIG = RoundSettings(sample_size=None)


def images(groups: int, *, members: int = 3, first: int = 0) -> pd.DataFrame:
    """Return a pool of groups with so many members each."""
    numbers = range(first * members, (first + groups) * members)
    return pd.DataFrame(
        {
            "sample_id": [sample(i) for i in numbers],
            "uri": [f"/images/{i // members}/{i}.png" for i in numbers],
            "group": [sample(i - i % members) for i in numbers],
            "split": "pool",
            "label": None,
        }
    )


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(
        home=tmp_path / "home", images=Path("/images"), classes=["cat", "dog"], holdout_size=SIZE, group="folder"
    )
    deployment = Deployment(settings)
    yield deployment
    deployment.ledger.close()


def plan(
    deployment: Deployment, manifest: pd.DataFrame, number: int, policy: RoundPolicy | None = None
) -> pd.DataFrame:
    """Register the images and plan a round that has no candidates; return what it asks of the holdout."""
    declare(deployment.ledger, manifest, deployment.settings)
    deployment.ledger.register(manifest)
    samples = StoredSamples(manifest, deployment, TrainingOptions(), 0, logging.getLogger())
    nothing = pd.DataFrame({"sample_id": [], "probabilities": [], "label": []})
    rows = choose_batch(
        deployment,
        samples,
        manifest,
        nothing,
        None,  # pyright: ignore[reportArgumentType]
        nothing,
        CONFIG,
        policy or RoundPolicy(),
        number,
    )
    assert (rows["purpose"] == "holdout").all()
    return rows


def candidates(ledger: Ledger, manifest: pd.DataFrame, number: int) -> set[str]:
    """Return what may be asked about; all of it is drawn."""
    drawn, left = draw_candidates(ledger, manifest, CONFIG, number, SIZE)
    assert len(drawn) == left
    return set(drawn)


def test_nothing_of_a_holdouts_groups_is_ever_asked_about(deployment: Deployment) -> None:
    early, ledger = images(30, members=5), deployment.ledger
    ledger.register(early)
    open_before = candidates(ledger, early, 0)
    held = set(plan(deployment, early, 0)["sample_id"])
    groups = early.set_index("sample_id")["group"]
    assert len(held) == SIZE
    # The last group is asked about in part, and held out whole.
    assert len(open_before) == 150 - 15
    assert not set(groups[sorted(held)]) & set(groups[sorted(open_before)])
    assert candidates(ledger, early, 1) == open_before
    # What cannot be asked about is not waited for.
    assert ledger.count_samples("pool") - ledger.count_asked() == len(open_before)
    assert ledger.held_back() == set(early["sample_id"]) - held - open_before
    # An image that joins such a group is held back with it, also once the image that was asked about is gone.
    mate = early.iloc[[0]].assign(sample_id=sample(999), group=groups[min(held)])
    later = pd.concat([early[early["sample_id"] != min(held)], mate], ignore_index=True)
    ledger.register(later)
    assert candidates(ledger, later, 1) == open_before
    assert plan(deployment, later, 1).empty


def test_images_that_come_later_have_their_share_of_the_holdout(deployment: Deployment) -> None:
    early, ledger = images(40), deployment.ledger
    first = plan(deployment, early, 0)
    assert set(first["propensity"]) == {SIZE / 120}
    every = pd.concat([early, images(60, first=40)], ignore_index=True)
    ledger.register(every)
    open_before = candidates(ledger, every, 1)
    rows = plan(deployment, every, 1)
    new = set(rows["sample_id"])
    assert 0 < len(new) < 60
    assert new <= set(every["sample_id"][120:])
    assert set(rows["propensity"]) == {SIZE / 180}
    groups = every.set_index("sample_id")["group"]
    assert not set(groups[sorted(new)]) & set(groups[sorted(open_before)])
    # Each is drawn once, and what was not drawn stays to be asked about.
    assert candidates(ledger, every, 2) == open_before
    assert plan(deployment, every, 2).empty


def test_a_round_that_asks_nobody_asks_nothing_of_the_holdout(deployment: Deployment) -> None:
    plan(deployment, images(40), 0)
    every = images(100)
    assert plan(deployment, every, 1, RoundPolicy(max_rounds=2)).empty
    assert len(plan(deployment, every, 2))


def test_a_test_split_that_comes_later_counts_beside_the_blind_labels(deployment: Deployment) -> None:
    pool, ledger = images(4, members=1), deployment.ledger
    ledger.register(pool)
    ledger.plan(round_key(0), plan_rows(0, 1, purpose="holdout"))
    ledger.append([said(1, sample(0), "cat"), said(2, sample(1), "cat")], moment(9))
    both = pd.concat([pool, images(2, members=1, first=4).assign(split="holdout", label="dog")], ignore_index=True)
    # A blind image that was moved into the test split is what its folder says.
    both.loc[1, ["split", "label"]] = "holdout", "dog"
    ledger.register(both)
    known = holdout_labels(both, ledger, ClassSet(("cat", "dog")), 1)
    assert dict(zip(known["sample_id"], known["label"], strict=True)) == {
        sample(0): "cat", sample(1): "dog", sample(4): "dog", sample(5): "dog",
    }  # fmt: skip


def test_groups_are_kept_until_the_rule_is_another(deployment: Deployment) -> None:
    manifest = images(3).drop(columns="group")
    manifest["group"] = group_images(deployment, manifest)
    assert manifest["group"].tolist() == images(3)["group"].tolist()
    deployment.ledger.register(manifest)
    keep_rule(deployment)
    # The first image of the first group is gone; its name stays while the rule does.
    rest = manifest.drop(index=0).reset_index(drop=True)
    assert group_images(deployment, rest)[0] == sample(0)
    other = Deployment(deployment.settings.model_copy(update={"group": r"(\d)\.png"}))
    assert group_images(other, rest).tolist() == rest["sample_id"].tolist()
    other.ledger.close()

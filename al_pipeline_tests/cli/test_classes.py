"""`al classes` and what is told early, without servers."""

from pathlib import Path

import pytest
from PIL import Image

from al_pipeline.cli.doctor import examine
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.ledger import Ledger
from al_pipeline.settings import load_settings
from al_pipeline_tests.cli.test_cli import name_images, run
from al_pipeline_tests.ledger.builders import manifest, moment, plan_rows, said, sample


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A ledger of a home, with two classes and an answer to each."""
    monkeypatch.chdir(tmp_path)
    ledger = Ledger(load_settings(home="home").ledger_url)
    ledger.change_classes("declare", {"declared": ["cat", "dog"]}, ClassSet(("cat", "dog")))
    ledger.register(manifest())
    ledger.plan("r0000", plan_rows(0, 1, 2))
    ledger.append([said(i, sample(i), value) for i, value in enumerate(("cat", "cat", "dog"))], moment(1))
    return ledger


def test_the_list_tells_labels_former_names_and_what_was_done(ledger: Ledger) -> None:
    classes = ClassSet(("cat", "dog")).rename("cat", "[tabby]")
    ledger.change_classes("rename", {"old": "cat", "new": "[tabby]"}, classes)
    classes = classes.split("dog", ["poodle", "boxer"])
    ledger.change_classes("split", {"old": "dog", "into": ["poodle", "boxer"]}, classes)
    code, told = run("classes", "list", "--home", "home")
    assert code == 0
    for row in ("│ [tabby] │ 2 │ cat │", "│ poodle │ 0 │ │", "No classes any more: dog"):
        assert row in told
    history = told.split("No classes any more")[1]
    assert history.index("declared: cat, dog") < history.index("cat is called [tabby]")
    assert "dog is split into poodle, boxer" in history


def test_before_there_are_classes_it_says_how_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, told = run("classes", "list", "--home", "home")
    assert code == 1
    assert "No classes are known in" in told
    assert "`setup`" in told


def test_without_label_studio_nothing_is_changed_and_that_is_said(ledger: Ledger) -> None:
    code, told = run("classes", "rename", "cat", "tabby", "--home", "home")
    assert code == 1
    assert "Nothing was changed" in told
    assert "`al up`" in told
    assert [each.action for each in ledger.class_changes()] == ["declare"]


def test_folders_that_look_like_a_rename_are_told_before_anything_starts(ledger: Ledger, tmp_path: Path) -> None:
    name_images(tmp_path / "images", "tabby", "dog")
    code, told = run("up", "--images", "images", "--home", "home")
    assert code == 1
    assert "`al classes rename cat tabby`" in told


def test_the_doctor_tells_it_too(ledger: Ledger, tmp_path: Path) -> None:
    for number, name in enumerate(("tabby", "dog")):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32), (number * 90, 10, 10)).save(tmp_path / "images" / name / "1.png")
    settings = load_settings(home=tmp_path / "home", images=tmp_path / "images")
    found = {finding.subject: finding for finding in examine(lambda: settings)}
    assert found["images"].ok is False
    assert "`al classes rename cat tabby`" in found["images"].text

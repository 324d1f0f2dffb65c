"""What a class is, whoever says so: folders and AL_CLASSES, people with `al classes`, the project."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from al_pipeline.core.errors import ALError, InputError
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.labelstudio.config import Interface, label_config
from al_pipeline.labelstudio.connection import LabelStudioError, LabelStudioUnavailableError
from al_pipeline.ledger import Ledger
from al_pipeline.ledger.schema import IMPORTED
from al_pipeline.ledger.verify import verify
from al_pipeline.loop.answers import changed_labels, holdout_labels
from al_pipeline.loop.choose import fewer_than_asked
from al_pipeline.loop.classes import (
    bring_up,
    change,
    check_declared,
    check_project,
    classes_of,
    classes_of_round,
    declare,
    interface_of,
    listing_options,
    obstacle,
    translated,
)
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.kept_predictions import HoldoutPredictions
from al_pipeline.settings import load_settings
from al_pipeline_tests.faults.memory_studio import PROJECT, Clock, MemoryStudio
from al_pipeline_tests.ledger.builders import manifest as registered
from al_pipeline_tests.ledger.builders import plan_rows, said, sample


def folders(*names: str | None) -> pd.DataFrame:
    """A manifest with an image in each class folder; None is no folder."""
    return pd.DataFrame(
        {"sample_id": [sample(i) for i in range(len(names))], "uri": "x.png", "split": "pool", "label": names}
    )


@dataclass
class Home:
    """A deployment whose Label Studio is in memory."""

    deployment: Deployment
    studio: MemoryStudio

    @property
    def ledger(self) -> Ledger:
        return self.deployment.ledger

    def declares(self, *names: str | None, classes: list[str] | None = None) -> ClassSet:
        """Declare class folders, or AL_CLASSES."""
        settings = self.deployment.settings.model_copy(update={"classes": classes})
        return declare(self.ledger, folders(*names), settings)

    def answered(self, *values: str, first: int = 0, key: str = "r0000", annotator: str = "ann") -> None:
        """Ask about a sample per value, and answer it so."""
        numbers = range(first, first + len(values))
        if not self.ledger.is_planned(key):
            self.ledger.plan(key, plan_rows(*numbers))
        events = [
            said(100 * first + i, sample(i), value, round=key, annotator=annotator)
            for i, value in zip(numbers, values, strict=True)
        ]
        self.ledger.append(events, events[0].updated_at)

    def labels(self) -> dict[str, str]:
        found = self.ledger.current_labels()
        return dict(zip(found["sample_id"], found["label"], strict=True))

    def history(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(each.action, each.made.names) for each in self.ledger.class_changes()]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.chdir(tmp_path)
    deployment = Deployment(load_settings(home=tmp_path / "home", images=tmp_path / "images"))
    studio = MemoryStudio(Clock())
    deployment.__dict__["label_studio"] = studio
    studio.state.title = deployment.settings.label_studio_project
    deployment.project()
    deployment.ledger.register(registered())
    yield Home(deployment, studio)
    deployment.ledger.close()


# What is declared.


def test_the_first_declaration_is_the_set(home: Home) -> None:
    assert home.declares("dog", "cat").names == ("cat", "dog")
    assert home.declares("dog", "cat").version == 0
    assert home.history() == [("declare", ("cat", "dog"))]


def test_a_new_class_folder_adds_a_class(home: Home) -> None:
    home.declares("cat", "dog")
    home.answered("cat", "dog")
    assert home.declares("ant", "cat", "dog").names == ("cat", "dog", "ant")
    assert home.declares("ant", "cat", "dog").version == 1


@pytest.mark.parametrize("classes", [None, ["dog", "tabby"]])
def test_a_name_that_goes_while_another_comes_may_be_a_rename_and_is_refused(
    home: Home, classes: list[str] | None
) -> None:
    home.declares("cat", "dog")
    home.answered("cat", "dog")
    names = ("tabby", "dog") if classes is None else (None,)
    with pytest.raises(
        InputError, match=r"without 'cat'.*with 'tabby'.*rename cat tabby.*add tabby.*remove cat"
    ) as error:
        home.declares(*names, classes=classes)
    assert ("AL_CLASSES says" in str(error.value)) is (classes is not None)
    assert home.history() == [("declare", ("cat", "dog"))]
    # Which of the two it is, people say; the folder, or the setting, may then have either name.
    change(home.deployment, "rename", old="cat", new="tabby")
    assert home.declares(*names, classes=classes).names == ("tabby", "dog")
    assert home.declares("cat", "dog").names == ("tabby", "dog")


def test_a_folder_that_is_missing_changes_nothing_and_is_remembered(home: Home) -> None:
    home.declares("cat", "dog", "fish")
    home.answered("cat", "dog")
    assert home.declares("dog").names == ("cat", "dog", "fish")
    assert home.declares(None).names == ("cat", "dog", "fish")
    with pytest.raises(InputError, match="rename cat tabby"):
        home.declares("dog", "fish", "tabby")
    assert home.declares("cat", "dog", "fish").version == 0


def test_a_name_that_al_classes_lacks_is_refused(home: Home) -> None:
    home.declares(classes=["cat", "dog", "fish"])
    home.answered("cat", "dog")
    with pytest.raises(InputError, match=r"AL_CLASSES says 'cat', 'dog', without 'fish'.*`al classes remove fish`"):
        home.declares(classes=["cat", "dog"])
    change(home.deployment, "remove", name="fish")
    assert home.declares(classes=["cat", "dog"]).names == ("cat", "dog")
    # It may be named again, and is a class again.
    assert home.declares(classes=["cat", "dog", "fish"]).names == ("cat", "dog", "fish")


def test_what_was_declared_before_a_change_means_what_became_of_it(home: Home) -> None:
    home.declares(classes=["cat", "dog", "fish"])
    home.answered("cat", "dog")
    change(home.deployment, "split", old="cat", into=["tabby", "siamese"])
    change(home.deployment, "add", names=["bird"])
    change(home.deployment, "merge", olds=["dog", "fish"], into="wet")
    now = ("tabby", "siamese", "wet", "bird")
    version = home.declares(classes=["cat", "dog", "fish"]).version
    assert home.declares(classes=["cat", "dog", "fish"]).names == now
    assert home.declares("cat", "dog", "fish", classes=["cat", "dog", "fish"]).version == version == 3
    assert home.declares(classes=list(now)).names == now


def test_while_nobody_has_answered_the_set_is_what_is_declared(home: Home) -> None:
    home.declares("cat", "dog")
    assert home.declares("tabby", "dog").names == ("dog", "tabby")
    # An answer that is under way says what is no class any more, and its image is asked about again.
    home.answered("cat", "dog")
    assert home.labels() == {sample(1): "dog"}
    assert home.ledger.class_set() == ClassSet(("dog", "tabby"), {"cat": None}, 1)
    change(home.deployment, "rename", old="tabby", new="cat")
    assert home.labels() == {sample(0): "cat", sample(1): "dog"}


def test_folders_may_be_called_as_classes_are_or_were_and_without_a_ledger_nothing_is_known(home: Home) -> None:
    settings = home.deployment.settings
    assert listing_options(settings)["known"] == ()
    home.declares("cat", "dog")
    change(home.deployment, "rename", old="cat", new="tabby")
    assert listing_options(settings)["known"] == ("tabby", "dog", "cat")
    elsewhere = settings.model_copy(update={"home": settings.home / "another"})
    assert listing_options(elsewhere) == {"follow_links": False, "classes": None, "known": ()}
    assert not (settings.home / "another").exists()


def test_names_that_can_be_none_are_refused_as_ever(home: Home) -> None:
    home.declares("cat", "dog")
    for classes, why in ((["cat", "cat"], "twice"), (["cat", " "], "blank")):
        with pytest.raises(InputError, match=why):
            home.declares("cat", "dog", classes=classes)


def test_before_anybody_has_answered_classes_must_be_declared_as_for_the_first_time(home: Home) -> None:
    home.declares("cat", "dog")
    with pytest.raises(InputError, match="has no class folders, so the class names must be set"):
        home.declares(None)
    with pytest.raises(InputError, match=r"give 1 class \('cat'\)"):
        home.declares("cat")


def test_a_ledger_from_before_adopts_what_is_declared(home: Home) -> None:
    home.answered("cat", "dog", "zebra")
    # Nobody has trained on zebra: it was no class.
    assert home.declares("cat", "dog").names == ("cat", "dog")
    assert home.labels() == {sample(0): "cat", sample(1): "dog"}
    assert home.ledger.count_labels() == 2


def test_a_ledger_from_before_whose_answers_say_otherwise_is_told_apart(home: Home) -> None:
    home.answered("cat", "dog")
    with pytest.raises(InputError, match=r"without 'cat'.*with 'tabby'.*rename cat tabby"):
        home.declares("tabby", "dog")
    assert home.history() == []
    change(home.deployment, "rename", old="cat", new="tabby")
    assert home.declares("tabby", "dog").names == ("tabby", "dog")
    assert home.labels() == {sample(0): "tabby", sample(1): "dog"}


def test_what_setup_would_refuse_is_told_before_anything_is_read(home: Home) -> None:
    settings = home.deployment.settings
    assert check_declared(settings, folders("cat", "dog")) == ["cat", "dog"]
    assert home.history() == []
    home.declares("cat", "dog")
    home.answered("cat", "dog")
    assert check_declared(settings, folders("ant", "cat", "dog")) == ["cat", "dog", "ant"]
    with pytest.raises(InputError, match="rename cat tabby"):
        check_declared(settings, folders("tabby", "dog"))


# What people change.


def test_answers_mean_what_their_class_is_today_also_those_that_come_later(home: Home) -> None:
    home.declares("cat", "dog", "fish")
    home.answered("cat", "dog", "fish")
    change(home.deployment, "rename", old="cat", new="tabby")
    # Somebody's page was open, and still said cat.
    home.answered("cat", "tabby", first=3, key="r0001")
    assert [*home.labels().values()] == ["tabby", "dog", "fish", "tabby", "tabby"]
    change(home.deployment, "merge", olds=["tabby", "dog"], into="pet")
    assert [*home.labels().values()] == ["pet", "pet", "fish", "pet", "pet"]
    change(home.deployment, "split", old="pet", into=["tabby", "dog"])
    assert [*home.labels().values()] == ["tabby", "dog", "fish", "tabby", "tabby"]
    change(home.deployment, "split", old="fish", into=["carp", "eel"])
    assert sample(2) not in home.labels()
    assert home.ledger.answers().set_index("sample_id").loc[sample(2), "kind"] == "retired"
    assert home.ledger.count_labels() == 4


def test_the_project_shows_what_was_changed(home: Home) -> None:
    home.declares("cat", "dog")
    change(home.deployment, "rename", old="cat", new="tabby")
    assert obstacle(ClassSet(("tabby", "dog")), home.studio.state.label_config) is None


@pytest.mark.parametrize("request_number", range(5))
def test_a_change_that_fails_is_done_or_not_and_can_be_finished(home: Home, request_number: int) -> None:
    classes = home.declares("cat", "dog")
    home.answered("cat", "dog")
    home.studio.fail_after(request_number, "before")
    with pytest.raises(LabelStudioError) as error:
        change(home.deployment, "rename", old="cat", new="tabby")
    home.studio.heal()
    today = home.ledger.class_set()
    assert today is not None
    if request_number < 2:
        # It could not be reached.
        assert isinstance(error.value, LabelStudioUnavailableError)
        assert today == classes
        return
    assert "is stored" in str(error.value)
    assert today.names == ("tabby", "dog")
    told = obstacle(today, home.studio.state.label_config)
    assert told is not None
    assert "`setup`" in told
    # Whoever comes next brings the project up: a push, setup, another change.
    check_project(home.deployment, PROJECT, today)
    assert obstacle(today, home.studio.state.label_config) is None


@pytest.mark.parametrize("repair", ["setup", "change"])
def test_a_project_that_lags_behind_is_brought_up_by_whatever_comes_next(home: Home, repair: str) -> None:
    classes = home.declares("cat", "dog")
    home.ledger.change_classes("rename", {"old": "cat", "new": "tabby"}, classes.rename("cat", "tabby"))
    if repair == "setup":
        bring_up(home.deployment, classes_of(home.deployment, folders("cat", "dog")))
    else:
        change(home.deployment, "add", names=["ant"])
    today = home.ledger.class_set()
    assert today is not None
    assert obstacle(today, home.studio.state.label_config) is None


def test_a_change_waits_for_what_somebody_has_added_by_hand(home: Home) -> None:
    home.declares("cat", "dog")
    home.studio.state.label_config = label_config(Interface(("cat", "dog", "zebra")))
    with pytest.raises(InputError, match=r"Nothing was changed.*'zebra'.*`al classes add zebra`"):
        change(home.deployment, "rename", old="cat", new="tabby")
    assert home.history() == [("declare", ("cat", "dog"))]
    change(home.deployment, "add", names=["zebra"])
    change(home.deployment, "rename", old="cat", new="tabby")
    assert [names for _, names in home.history()][-1] == ("tabby", "dog", "zebra")


def test_examples_are_of_what_their_folder_means_and_what_cannot_be_shown_is_told_before(
    home: Home, tmp_path: Path
) -> None:
    home.declares("cat", "dog")
    for name in ("cat", "dog"):
        (tmp_path / "examples" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "examples" / name / "1.png")
    home.deployment.settings = home.deployment.settings.model_copy(update={"examples": tmp_path / "examples"})
    change(home.deployment, "rename", old="cat", new="tabby")
    change(home.deployment, "split", old="dog", into=["poodle", "boxer"])
    told = interface_of(home.deployment.settings, classes_of(home.deployment, folders("cat", "dog"))).guideline
    assert "<th>tabby</th>" in told
    assert "dog" not in told
    (tmp_path / "examples" / "zebra").mkdir()
    with pytest.raises(InputError, match="AL_EXAMPLES"):
        change(home.deployment, "add", names=["ant"])
    assert [action for action, _ in home.history()] == ["declare", "rename", "split"]


def test_two_changes_at_once_are_one_and_a_sentence(home: Home) -> None:
    classes = home.declares("cat", "dog")
    change(home.deployment, "add", names=["ant"])
    with pytest.raises(ALError, match="changed by somebody else meanwhile"):
        home.ledger.change_classes("add", {"names": ["bee"]}, classes.add("bee"))


def test_labels_that_were_brought_along_are_asked_about_once_their_class_is_none_any_more(home: Home) -> None:
    home.declares("cat", "dog", "fish")
    brought = [said(i, sample(i), value, round=None) for i, value in enumerate(("cat", "fish"))]
    home.ledger.append(brought, brought[0].updated_at, source=IMPORTED)
    assert home.ledger.imported() == {sample(0), sample(1)}
    change(home.deployment, "rename", old="cat", new="tabby")
    change(home.deployment, "remove", name="fish")
    assert home.ledger.imported() == {sample(0)}


# What the project shows.


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (label_config(Interface(("tabby", "dog"))), r"'cat'.*'tabby'.*`setup`.*`al classes rename cat tabby`"),
        (
            label_config(Interface(("cat", "dog", "zebra crossing"))),
            r"'zebra crossing'.*`al classes add 'zebra crossing'`",
        ),
        (label_config(Interface(("cat",))), r"'dog'.*`setup`"),
        (label_config(Interface(("cat", "dog"))).replace('name="label"', 'name="kind"'), r"'label'.*'kind'"),
        (label_config(Interface(("cat", "dog"))).replace("single-radio", "multiple"), r"several classes"),
        ("<View>", "no XML"),
    ],
)
def test_a_project_that_shows_something_else_is_an_obstacle_and_gets_no_tasks(
    home: Home, config: str, why: str
) -> None:
    classes = home.declares("cat", "dog")
    told = obstacle(classes, config)
    assert told is not None
    assert pd.Series([told]).str.contains(why).all(), told
    home.studio.state.label_config = config
    with pytest.raises(InputError, match="no label is frozen and no task made"):
        check_project(home.deployment, PROJECT, classes)
    assert home.studio.state.label_config == config


def test_the_order_the_keys_and_the_layout_are_no_obstacle() -> None:
    many = [f"class {i}" for i in range(30)]
    assert obstacle(ClassSet(tuple(many)), label_config(Interface(many, unsure=True))) is None
    assert obstacle(ClassSet(tuple(many)), label_config(Interface(many[::-1]))) is None
    assert obstacle(ClassSet(tuple(many)), None) is None


# What rounds make of it.


def test_a_round_that_is_run_again_has_the_classes_of_its_labels(home: Home) -> None:
    classes, pictures = home.declares("cat", "dog", "fish"), folders("cat", "dog", "fish")
    home.answered("cat", "dog", "fish")
    agreed = home.ledger.current_labels().assign(weight=1.0, annotation_ids=["0", "1", "2"], first_round="r0000")
    home.ledger.snapshot("r0001", agreed, class_set=classes.version)
    change(home.deployment, "rename", old="cat", new="tabby")
    change(home.deployment, "merge", olds=["dog", "fish"], into="wet")
    then = classes_of_round(home.deployment, pictures, "r0001")
    assert (then.names, then.version) == (("cat", "dog", "fish"), 0)
    assert [then.of(name) for name in ("cat", "tabby", "dog", "wet")] == ["cat", "cat", "dog", None]
    assert classes_of_round(home.deployment, pictures, "r0002").names == ("tabby", "wet")
    answers = home.ledger.answers(class_set=then)
    assert answers["value"].tolist() == ["cat", "dog", "fish"]
    after = home.ledger.current_labels()
    assert after["label"].tolist() == ["tabby", "wet", "wet"]
    # No label has changed but by name.
    before = home.ledger.frozen_labels("r0001")
    today = classes_of(home.deployment, pictures)
    before["label"] = translated(before["label"], today)
    assert changed_labels(before, after) == []
    home.ledger.snapshot("r0002", agreed.assign(label=after["label"]), class_set=today.version)
    assert verify(home.deployment.settings.ledger_url).problems == []


def test_a_holdout_in_folders_is_of_todays_classes(home: Home) -> None:
    home.declares("cat", "dog", "fish")
    home.answered("cat", "dog", "fish")
    pictures = folders("cat", "dog", "fish").assign(split="holdout")
    change(home.deployment, "rename", old="cat", new="tabby")
    change(home.deployment, "split", old="fish", into=["carp", "eel"])
    known = holdout_labels(pictures, home.ledger, classes_of(home.deployment, pictures), 1)
    assert known["label"].tolist() == ["tabby", "dog"]


def test_rounds_are_compared_where_former_classes_add_up(tmp_path: Path) -> None:
    pets = ClassSet(("cat", "dog", "fish"))
    kept = HoldoutPredictions(tmp_path)
    holdout = pd.DataFrame({"sample_id": [sample(0), sample(1)], "label": ["pet", "fish"]})
    kept.write("r0000", holdout, np.array([[0.5, 0.25, 0.25], [0.375, 0.375, 0.25]]), list(pets.names))
    now, merged = np.array([[0.25, 0.75], [0.25, 0.75]]), pets.merge(["cat", "dog"], "pet")
    found = kept.compare_with_previous("r0001", holdout, now, merged)
    assert found is not None
    # Before: pet .75 and .75, right and wrong; now the other way round.
    assert found.n == 2
    assert found.accuracy is not None
    assert found.accuracy.value == 0
    split: Any = pets.split("fish", ["carp", "eel"])
    found = kept.compare_with_previous("r0001", holdout, np.full((2, 4), 0.25), split)
    assert found is not None
    assert found.accuracy is None
    assert "whose classes were cat, dog, fish, not carp, cat, dog, eel" in str(found.note)


def test_rounds_are_compared_by_what_their_thresholds_said(tmp_path: Path) -> None:
    names = ["cat", "dog"]
    kept, pets = HoldoutPredictions(tmp_path), ClassSet(("dog", "tabby"), {"cat": "tabby"})
    holdout = pd.DataFrame({"sample_id": [sample(0), sample(1)], "label": ["dog", "tabby"]})
    kept.write("r0000", holdout, np.array([[0.7, 0.3], [0.9, 0.1]]), names, (0.8, 0.2))
    assert kept.said("r0000", names).tolist() == [1, 0]
    read = kept.read("r0000", names)
    assert read is not None
    assert read.columns.tolist() == names
    # Before: both right; now the first by its threshold alone.
    now = np.array([[0.3, 0.7], [0.6, 0.4]])
    plain, moved = (kept.compare_with_previous("r0001", holdout, now, pets, by) for by in ((), (0.2, 0.8)))
    assert plain is not None
    assert moved is not None
    values = [found.accuracy and found.accuracy.value for found in (plain, moved)]
    assert values == [-1, -0.5]
    kept.write("r0000", holdout, np.array([[0.7, 0.3], [0.9, 0.1]]), names)
    assert kept.said("r0000", names).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("chosen", "candidates", "weights", "why"),
    [
        (8, 80, "x.pt", None),
        (2, 80, "x.pt", "6 fewer than asked: dedup 0.95 passed over the other candidates"),
        (5, 5, "x.pt", "3 fewer than asked: no other sample of the pool is unlabeled"),
        (2, 80, "none", "6 fewer than asked: the policy allows no more labels"),
    ],
)
def test_a_batch_that_is_smaller_than_asked_says_why(
    chosen: int, candidates: int, weights: str, why: str | None
) -> None:
    found = fewer_than_asked(chosen, candidates, RoundSettings(dedup=0.95), weights)
    assert found is None if why is None else str(found).startswith(why)


def test_translated_columns_keep_what_is_none() -> None:
    pets = ClassSet(("cat", "dog", "fish")).rename("cat", "tabby").remove("fish")
    assert translated(pd.Series(["cat", "fish", None, "dog"], dtype=object), pets).tolist() == [
        "tabby",
        None,
        None,
        "dog",
    ]
    assert translated(pd.Series([None, None], dtype=object), pets).tolist() == [None, None]
    assert translated(pd.Series([], dtype=object), pets).tolist() == []

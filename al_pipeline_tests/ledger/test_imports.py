"""Labels that people bring along are labels like others: once each, traced, and all or none."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.labels.consensus import consensus, current_votes
from al_pipeline.core.labels.formats.brought import Brought
from al_pipeline.core.labels.formats.tables import table_rows
from al_pipeline.ledger import Ledger
from al_pipeline.ledger.exports import agreed, answers_since
from al_pipeline.ledger.imports import Imported, import_labels
from al_pipeline.ledger.verify import verify
from al_pipeline_tests.ledger.builders import manifest, moment, plan_rows, said, sample

CLASSES = ["cat", "dog"]


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url)
    ledger.register(manifest())
    yield ledger
    ledger.close()


def load(ledger: Ledger, **columns: Sequence[str | None]) -> Imported:
    return import_labels(ledger, table(**columns), CLASSES)


def table(**columns: Sequence[str | None]) -> Brought:
    return Brought("labels.csv", table_rows(pd.DataFrame(columns), "labels.csv"))


def labels(ledger: Ledger) -> dict[str, str]:
    agreed = consensus(ledger.answers(purpose="query"), class_names=CLASSES).labels
    return dict(zip(agreed["sample_id"], agreed["label"], strict=True))


def test_imported_labels_are_trained_on_though_nobody_was_asked(ledger: Ledger) -> None:
    done = load(ledger, path=["images/3.png", "4.png", "5.png"], label=["cat", "dog", None])
    assert done == Imported(new=2)
    assert labels(ledger) == {sample(3): "cat", sample(4): "dog"}
    assert ledger.imported() == {sample(3), sample(4)}
    exported = ledger.export()
    assert exported["source"].tolist() == ["import"] * 2
    assert exported["annotator"].tolist() == ["import"] * 2


def test_the_same_table_again_changes_nothing_and_another_label_changes_that_one(ledger: Ledger) -> None:
    given = {"sample_id": [sample(3), sample(4)], "label": ["cat", "dog"]}
    load(ledger, **given)
    assert load(ledger, **given) == Imported(unchanged=2)
    assert load(ledger, **given | {"label": ["cat", "cat"]}) == Imported(corrected=1, unchanged=1)
    assert labels(ledger) == {sample(3): "cat", sample(4): "cat"}
    assert load(ledger, **given) == Imported(corrected=1, unchanged=1)
    assert labels(ledger) == {sample(3): "cat", sample(4): "dog"}


def test_several_people_vote_and_those_in_label_studio_with_them(ledger: Ledger) -> None:
    load(ledger, path=["3.png", "3.png", "3.png"], label=["cat", "cat", "dog"], annotator=["ann", "ann", "bob"])
    assert labels(ledger) == {}, "one against one"
    ledger.plan("r0000", plan_rows(3))
    ledger.append([said(1, sample(3), "dog", annotator="eve", updated_at=moment(1))], moment(2))
    assert labels(ledger) == {sample(3): "dog"}


def test_what_is_asked_blind_for_the_holdout_is_never_trained_on(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(3, purpose="holdout"))
    done = load(ledger, sample_id=[sample(3), sample(20)], label=["cat", "dog"])
    assert done == Imported(new=2, holdout=2)
    assert "They are trained on" not in (told := " ".join(done.sentences()))
    assert "2 of them are about images of the holdout: test labels, which are never trained on" in told
    assert labels(ledger) == {}
    assert len(ledger.answers(purpose="holdout")) == 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["3.png"]}, "labels.csv has the columns path: name one `label`"),
        ({"label": ["cat"]}, "and one `path` or `sample_id`"),
        (
            {"path": ["3.png", "4.png"], "label": ["cat", "owl"]},
            "1 of 2 rows(?s:.*)nothing was imported(?s:.*)'owl' is no class",
        ),
        ({"path": ["x/3.png"], "label": ["cat"]}, "path 'x/3.png' is no image of the pool"),
        ({"path": ["3.png", "99.png"], "label": ["cat", "cat"]}, "'99.png' is no image"),
        ({"sample_id": ["f" * 32], "label": ["cat"]}, "is not in the image pool"),
        ({"path": ["3.png", "3.png"], "label": ["cat", "dog"]}, "2 of 2 rows(?s:.*)by the same person"),
        ({"path": ["images/same.png"], "label": ["cat"]}, "the end of several images' paths: add the folders"),
        ({"path": [""], "label": ["cat"]}, "path '' is no image"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_whole(
    ledger: Ledger, columns: dict[str, list[str | None]], message: str
) -> None:
    twice = manifest(2).head(2).assign(sample_id=["a" * 32, "b" * 32], uri=["/a/images/same.png", "/b/images/same.png"])
    ledger.register(twice)
    with pytest.raises(InputError, match=message):
        load(ledger, **columns)
    assert ledger.answers().empty


def answered(ledger: Ledger, *answers: tuple[int, str, str | None]) -> None:
    """People answer: number of the sample, person, class."""
    events = [said(n, sample(about), value, annotator=who) for n, (about, who, value) in enumerate(answers, start=1)]
    ledger.append(events, moment(1))


def back(ledger: Ledger, exported: pd.DataFrame, **options: Any) -> Imported:
    """Import a table that was exported, through the file that it is."""
    # As text, as from a CSV file.
    return import_labels(ledger, Brought("out.csv", table_rows(exported.astype(str), "out.csv")), CLASSES, **options)


def test_of_an_export_that_comes_back_the_edited_row_wins_and_the_others_add_nothing(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1, 2, 3))
    answered(ledger, (1, "ann", "cat"), (1, "bob", "cat"), (2, "ann", "dog"), (2, "bob", "dog"), (3, "ann", "cat"))
    exported = agreed(ledger, CLASSES, 2).labels
    assert exported["sample_id"].tolist() == [sample(1), sample(2)]
    exported.loc[0, "label"] = "dog"
    assert back(ledger, exported, min_votes=2) == Imported(corrected=1, unchanged=1)
    assert back(ledger, exported, min_votes=2) == Imported(unchanged=2)
    assert len(ledger.answers()) == 6
    now = agreed(ledger, CLASSES, 2).labels
    assert dict(zip(now["sample_id"], now["label"], strict=True)) == {sample(1): "dog", sample(2): "dog"}


def test_a_correction_wins_over_an_answer_whose_clock_is_ahead(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1))
    ahead = datetime(2190, 1, 1, tzinfo=UTC)
    ledger.append([said(1, sample(1), "cat", updated_at=ahead)], moment(1))
    assert load(ledger, sample_id=[sample(1)], label=["dog"]) == Imported(corrected=1)
    assert labels(ledger) == {sample(1): "dog"}


def test_a_row_settles_a_dispute_under_the_name_of_who_says_so(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1))
    answered(ledger, (1, "ann", "cat"), (1, "bob", "dog"))
    assert load(ledger, sample_id=[sample(1)], label=["cat"], annotator=["ann"]) == Imported(corrected=1)
    assert load(ledger, sample_id=[sample(1)], label=["cat"], annotator=["ann"]) == Imported(unchanged=1)
    assert labels(ledger) == {sample(1): "cat"}
    last = ledger.answers().sort_values("updated_at").iloc[-1]
    assert last[["annotator", "source", "kind"]].tolist() == ["ann", "import", "correction"]


def test_the_same_file_again_settles_no_dispute_that_it_is_part_of(ledger: Ledger) -> None:
    load(ledger, sample_id=[sample(1)], label=["cat"])
    ledger.plan("r0000", plan_rows(1))
    answered(ledger, (1, "ann", "dog"))
    again = load(ledger, sample_id=[sample(1)], label=["cat"])
    assert again == Imported(unchanged=1, undecided=1)
    assert "settle nothing: name another `annotator`" in " ".join(again.sentences())
    assert load(ledger, sample_id=[sample(1)], label=["cat"], annotator=["boss"]) == Imported(corrected=1)
    assert labels(ledger) == {sample(1): "cat"}


def test_votes_that_come_back_double_nobody_and_an_edited_one_replaces_that_vote_alone(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1, 2))
    answered(ledger, (1, "ann", "cat"), (1, "bob", "cat"), (1, "eve", "dog"), (2, "ann", "dog"))
    exported = ledger.export()
    # As a spreadsheet leaves them.
    exported["annotation_id"] = exported["annotation_id"].astype(float)
    assert back(ledger, exported) == Imported(unchanged=4)
    exported.loc[exported["annotator"] == "bob", "label"] = "dog"
    assert back(ledger, exported) == Imported(changed=1, unchanged=3)
    assert back(ledger, exported) == Imported(unchanged=4)
    votes = current_votes(ledger.answers(), CLASSES)
    said_of_1 = votes[votes["sample_id"] == sample(1)].set_index("annotator")["value"].to_dict()
    assert said_of_1 == {"ann": "cat", "bob": "dog", "eve": "dog"}


def test_a_correction_among_votes_that_is_edited_is_a_correction_again(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1))
    answered(ledger, (1, "ann", "cat"), (1, "bob", "cat"))
    load(ledger, sample_id=[sample(1)], label=["dog"])
    exported = ledger.export()
    assert exported["kind"].tolist() == ["answer", "answer", "correction"]
    exported.loc[2, "label"] = "cat"
    assert back(ledger, exported) == Imported(corrected=1, unchanged=2)
    exported.loc[2, "label"] = "dog"
    assert back(ledger, exported.assign(annotation_id=None)) == Imported(corrected=1, unchanged=2)
    assert labels(ledger) == {sample(1): "dog"}


def test_nothing_is_left_of_a_table_about_other_images_alone(ledger: Ledger) -> None:
    found = table(path=["x.png"], label=["owl"])
    assert import_labels(ledger, found, CLASSES, skip_unknown=True) == Imported(left_out=1)


def test_an_old_export_does_not_bring_back_what_people_have_changed_since(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1))
    answered(ledger, (1, "ann", "cat"))
    exported = ledger.export()
    ledger.append([said(1, sample(1), "dog", updated_at=moment(5))], moment(6))
    assert back(ledger, exported) == Imported(unchanged=1)
    assert labels(ledger) == {sample(1): "dog"}
    fresh = ledger.export().assign(label="cat")
    assert back(ledger, fresh) == Imported(changed=1), "she is said to have said so after all"
    assert labels(ledger) == {sample(1): "cat"}


def test_the_votes_of_another_home_stay_those_of_their_people(ledger: Ledger, tmp_path: Path) -> None:
    ledger.plan("r0000", plan_rows(1, 2))
    answered(ledger, (1, "ann", "cat"), (1, "bob", "cat"), (1, "eve", "dog"), (2, "ann", "dog"))
    other = Ledger(f"sqlite:///{tmp_path / 'other.sqlite3'}")
    other.register(manifest())
    assert back(other, ledger.export()) == Imported(new=4)
    assert back(other, ledger.export()) == Imported(unchanged=4)
    assert set(other.answers()["annotator"]) == {"ann", "bob", "eve"}
    assert labels(other) == labels(ledger) == {sample(1): "cat", sample(2): "dog"}
    other.close()


def test_labels_of_a_class_that_was_renamed_are_todays(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1))
    answered(ledger, (1, "ann", "cat"))
    ledger.change_classes("rename", {}, ClassSet(("cat", "dog")).rename("cat", "feline"))
    found = table(sample_id=[sample(1), sample(2)], label=["cat", "cat"])
    assert import_labels(ledger, found, ["feline", "dog"]) == Imported(new=1, unchanged=1)
    assert ledger.current_labels()["label"].tolist() == ["feline", "feline"]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_was_edited_is_the_label_afterwards_and_the_same_again_is_nothing(ledger: Ledger, seed: int) -> None:
    rng = random.Random(seed)
    ledger.plan("r0000", plan_rows(*range(20)))
    people = [(n, who) for n in range(20) for who in ("ann", "bob", "eve") if rng.random() < 0.8]
    answered(ledger, *((n, who, rng.choice(CLASSES)) for n, who in people))
    before = agreed(ledger, CLASSES, 2)
    exported = before.labels
    edited = exported.index[[rng.random() < 0.3 for _ in exported.index]]
    exported.loc[edited, "label"] = exported.loc[edited, "label"].map({"cat": "dog", "dog": "cat"})
    done = back(ledger, exported, min_votes=2)
    assert done == Imported(corrected=len(edited), unchanged=len(exported) - len(edited))
    after = agreed(ledger, CLASSES, 2).labels
    assert after[["sample_id", "label"]].equals(exported[["sample_id", "label"]])
    assert back(ledger, exported, min_votes=2) == Imported(unchanged=len(exported))


def test_of_copies_one_is_meant_and_of_what_was_set_aside_the_reason_is_told(ledger: Ledger) -> None:
    aside = pd.DataFrame(
        {
            "sample_id": [sample(3), "e" * 32, None],
            "uri": ["/images/copy.png", "/images/both.png", "/images/torn.png"],
            "split": "excluded",
            "reason": ["duplicate of /images/3.png", "the same image under the labels 'cat' and 'dog'", "truncated"],
        }
    )
    known = pd.concat([manifest(), aside], ignore_index=True)
    found = table(path=["copy.png", "4.png"], label=["cat", "dog"])
    assert import_labels(ledger, found, CLASSES, manifest=known) == Imported(new=2)
    assert labels(ledger) == {sample(3): "cat", sample(4): "dog"}
    found = table(path=["both.png", "torn.png", "torn.png", "5.png"], label=["cat", "dog", "dog", "dog"])
    with pytest.raises(InputError) as refused:
        import_labels(ledger, found, CLASSES, manifest=known)
    assert str(refused.value).splitlines() == [
        "labels.csv: 3 of 4 rows cannot be used, and nothing was imported:",
        "  row 1: path 'both.png' was set aside: the same image under the labels 'cat' and 'dog'",
        "  2 rows, the first is row 2: path 'torn.png' was set aside: truncated",
    ]
    assert import_labels(ledger, found, CLASSES, manifest=known, skip_unknown=True) == Imported(new=1, left_out=3)


def test_all_kinds_of_problems_are_told_at_once_and_nothing_is_stored(ledger: Ledger) -> None:
    paths = ["3.png", "4.png", *(f"x{n}.png" for n in range(7)), "5.png", "5.png"]
    with pytest.raises(InputError) as refused:
        load(ledger, path=paths, label=["Cat", "owl", *["dog"] * 7, "cat", "dog"])
    assert [line.strip() for line in str(refused.value).splitlines()] == [
        "labels.csv: 11 of 11 rows cannot be used, and nothing was imported:",
        "2 rows, the first is row 1: label 'Cat' (did you mean 'cat'?), 'owl' is no class of cat, dog",
        "7 rows, the first is row 3: path 'x0.png', 'x1.png', 'x2.png', 'x3.png', 'x4.png' … is no image of the pool: "
        "check its beginning, or leave folders out; --skip-unknown leaves such rows out",
        "2 rows, the first is row 10: label 'cat' for '5.png', 'dog' for '5.png' says something else than another row "
        "by the same person about the same image: keep one of them",
    ]
    assert ledger.answers().empty


def test_what_the_export_leaves_out_is_counted(ledger: Ledger) -> None:
    ledger.plan("r0000", pd.concat([plan_rows(*range(6)), plan_rows(6, purpose="holdout")]))
    answers = [(0, "ann", "cat"), (0, "bob", "cat"), (1, "ann", "cat"), (1, "bob", "dog"), (2, "ann", "cat")]
    answers += [(3, "ann", "owl"), (6, "ann", "dog"), (6, "bob", "dog")]
    answered(ledger, *answers)
    ledger.append(
        [said(90, sample(4), None, kind="skip"), said(91, sample(4), None, kind="skip", annotator="bob")], moment(2)
    )
    found = agreed(ledger, CLASSES, 2)
    assert found.labels[["sample_id", "label", "split"]].to_numpy().tolist() == [
        [sample(0), "cat", "train"],
        [sample(6), "dog", "holdout"],
    ]
    assert found.left_out(2) == (
        "1 disputed, 1 with too few votes (min_votes is 2), 1 skipped, 1 whose answer is no class of today"
    )


def test_since_a_round_means_new_or_changed_labels_and_later_answers(ledger: Ledger) -> None:
    ledger.plan("r0000", plan_rows(1, 2, 3))
    answered(ledger, (1, "ann", "cat"), (2, "ann", "cat"))
    with pytest.raises(InputError, match="no frozen labels of r0001 \\(--since\\): no round has any yet"):
        agreed(ledger, CLASSES, 1, since="r0001")
    ledger.snapshot("r0001", consensus(ledger.answers(purpose="query"), class_names=CLASSES).labels)
    assert agreed(ledger, CLASSES, 1, since="r0001").labels.empty
    load(ledger, sample_id=[sample(2), sample(3)], label=["dog", "cat"])
    fresh = agreed(ledger, CLASSES, 1, since="r0001").labels
    assert dict(zip(fresh["sample_id"], fresh["label"], strict=True)) == {sample(2): "dog", sample(3): "cat"}
    assert answers_since(ledger, "r0001")["sample_id"].tolist() == [sample(2), sample(3)]
    assert len(answers_since(ledger, None)) == 4
    with pytest.raises(InputError, match="rounds with labels are r0001"):
        answers_since(ledger, "r0002")


def test_a_ledger_with_imported_labels_is_in_order(ledger: Ledger, url: str) -> None:
    load(ledger, path=["3.png", "4.png"], label=["cat", "dog"])
    ledger.snapshot("r0001", consensus(ledger.answers(purpose="query"), class_names=CLASSES).labels)
    report = verify(url)
    assert report.problems == []
    assert report.counts["annotation events"] == report.counts["labels in snapshots"] == 2

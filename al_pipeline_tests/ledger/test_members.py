"""What a task shows beside its sample is asked about with it: once, in one transaction, traceable to the answer."""

from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import pandas as pd
import pytest

from al_pipeline.core.labels.annotation import BUTTONS, MIXED
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.labels.consensus import consensus, current_votes
from al_pipeline.core.labels.formats.brought import Brought
from al_pipeline.core.labels.formats.tables import table_rows
from al_pipeline.core.labels.together import with_members
from al_pipeline.ledger import Ledger
from al_pipeline.ledger.database import LedgerError
from al_pipeline.ledger.exports import agreed, answers_since
from al_pipeline.ledger.imports import Imported, import_labels
from al_pipeline.ledger.verify import verify
from al_pipeline_tests.ledger.breaches.edits import shown as told
from al_pipeline_tests.ledger.builders import manifest, moment, plan_rows, said, sample
from al_pipeline_tests.ledger.test_verify import edit

CLASSES = ["cat", "dog"]


def shown(**beside: tuple[int, ...]) -> pd.DataFrame:
    """``s1=(2, 3)``: samples 2 and 3 are shown beside 1."""
    rows = [
        {"sample_id": sample(int(name[1:])), "member_id": sample(other), "place": place}
        for name, others in beside.items()
        for place, other in enumerate(others, 2)
    ]
    return pd.DataFrame(rows, columns=["sample_id", "member_id", "place"])


def labels(ledger: Ledger) -> pd.DataFrame:
    answers = ledger.answers(purpose="query")
    found = consensus(answers, class_names=CLASSES).labels
    return with_members(found, ledger.answered_with(), set(current_votes(answers, CLASSES)["sample_id"]))


def answer(ledger: Ledger, number: int, about: int, value: str, *, minutes: int = 2, round: str = "r0000") -> None:
    kind, at = BUTTONS.get(value, "answer"), moment(minutes)
    event = said(number, sample(about), value, round=round, updated_at=at, raw=told(number, value), kind=kind)
    ledger.append([event], moment(minutes))


def begun(url: str) -> Ledger:
    """A round that asks about 1 with 2 and 3, about 4 with 5, and about 6; nobody has answered yet."""
    ledger = Ledger(url)
    ledger.register(manifest())
    ledger.change_classes("declare", {"declared": CLASSES}, ClassSet(tuple(CLASSES)))
    ledger.plan("r0000", plan_rows(1, 4, 6), shown(s1=(2, 3), s4=(5,)))
    ledger.record_pushed("r0000", {sample(n): 100 + n for n in (1, 4, 6)}, moment(1))
    return ledger


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = begun(url)
    yield ledger
    ledger.close()


def test_members_are_stored_with_the_plan_and_a_second_plan_changes_nothing(ledger: Ledger) -> None:
    assert ledger.plan("r0000", plan_rows(7), shown(s7=(8,)))["sample_id"].tolist() == [*map(sample, (1, 4, 6))]
    assert ledger.members("r0000")[["sample_id", "member_id", "place"]].values.tolist() == [
        [sample(1), sample(2), 2],
        [sample(1), sample(3), 3],
        [sample(4), sample(5), 2],
    ]
    assert ledger.members("r0001").empty
    assert ledger.count_asked() == 6


@pytest.mark.parametrize(
    ("asked", "beside", "problem"),
    [
        ((2,), {}, "have a task already, the first is .*2 in r0000"),
        ((7,), {"s7": (3,)}, "have a task already, the first is .*3 in r0000"),
        ((7,), {"s7": (4,)}, "have a task already, the first is .*4 in r0000"),
        ((7, 8), {"s7": (8,)}, "8 cannot be shown beside .*7"),
        ((7, 8), {"s7": (9,), "s8": (9,)}, "9 cannot be shown beside .*8"),
        ((7,), {"s8": (9,)}, "9 cannot be shown beside .*8, which has no query"),
        ((7,), {"s7": (99,)}, "not in the ledger"),
    ],
)
def test_a_sample_is_asked_about_by_one_task_also_where_it_is_shown_beside(
    ledger: Ledger, asked: tuple[int, ...], beside: dict[str, tuple[int, ...]], problem: str
) -> None:
    with pytest.raises(LedgerError, match=problem):
        ledger.plan("r0001", plan_rows(*asked), shown(**beside))
    assert not ledger.is_planned("r0001")
    assert ledger.members("r0001").empty


def test_members_of_a_withdrawn_task_are_free_and_can_be_reviewed_at_any_time(ledger: Ledger, url: str) -> None:
    ledger.plan("r0001", plan_rows(2, purpose="review"))
    ledger.withdraw("r0000", [sample(1)], moment(3))
    ledger.plan("r0002", plan_rows(2), shown(s2=(1,)))
    assert set(ledger.answered_with()["member_id"]) == {sample(5), sample(1)}
    assert verify(url).problems == []


def test_who_says_that_they_differ_takes_the_label_from_all_but_the_one_that_was_asked_about(ledger: Ledger) -> None:
    answer(ledger, 11, 1, "cat")
    answer(ledger, 12, 4, MIXED)
    assert labels(ledger)["sample_id"].tolist() == [*map(sample, (1, 2, 3))]
    assert ledger.split()["member_id"].tolist() == [sample(5)]
    # People are counted, not images.
    assert (ledger.count_labels(), len(ledger.current_labels())) == (1, 1)
    assert ledger.open_tasks() == {("r0000", sample(6))}
    # The same person looks again.
    event = said(12, sample(4), "dog", updated_at=moment(4), raw=told(12, "dog"))
    ledger.append([event], moment(4))
    assert ledger.split().empty
    assert labels(ledger)["label"].tolist() == ["cat"] * 3 + ["dog"] * 2


BREACHES = {
    "shown beside what was not planned": (
        "UPDATE task_members SET sample_id = '{7}' WHERE member_id = '{5}'",
        [
            "r0000: sample {5} is shown beside {7}, which is nothing planned",
            "r0001: sample {5} has the label of {4}, beside which no task had shown it",
        ],
    ),
    "shown beside itself": (
        "UPDATE task_members SET member_id = '{4}' WHERE member_id = '{5}'",
        [
            "r0000: sample {4} is shown beside {4}, and asked about by itself in r0000",
            "r0000: sample {4} is shown beside {4}, which is itself",
            "r0001: sample {5} has the label of {4}, beside which no task had shown it",
        ],
    ),
    "shown beside a test sample": (
        "UPDATE planned_tasks SET purpose = 'holdout' WHERE sample_id = '{4}'",
        [
            "r0000: sample {5} is shown beside {4}, which is a holdout",
            "r0001: sample {4} is of the holdout, and was trained on",
        ],
    ),
    "a test sample shown": (
        "UPDATE samples SET split = 'holdout' WHERE sample_id = '{5}'",
        [
            "r0000: sample {5} is shown beside {4} to be trained on, but is of the holdout",
            "r0001: sample {5} is of the holdout, and was trained on",
        ],
    ),
    "two in one place": (
        "UPDATE task_members SET place = 2",
        ["r0000: what is shown beside sample {1} has not each a place from 2 to 9"],
    ),
    "a place that no task has": (
        "UPDATE task_members SET place = 10 WHERE member_id = '{5}'",
        ["r0000: what is shown beside sample {4} has not each a place from 2 to 9"],
    ),
    "asked about by itself, too": (
        "UPDATE planned_tasks SET sample_id = '{3}' WHERE sample_id = '{6}'",
        ["r0000: sample {3} is shown beside {1}, and asked about by itself in r0000"],
    ),
    "shown by two tasks": (
        "INSERT INTO task_members (round, sample_id, member_id, place) VALUES ('r0000', '{6}', '{5}', 2)",
        ["sample {5} is shown by 2 tasks at once"],
    ),
    "another label than that of its sample": (
        "UPDATE snapshot_labels SET label = 'dog' WHERE sample_id = '{2}'",
        [
            "r0001: sample {2} has the label of {1}, but another label or other votes than that",
            "r0001: the labels are not those that were frozen: their hash differs",
        ],
    ),
    "more votes than its sample": (
        "UPDATE snapshot_labels SET n_votes = 2 WHERE sample_id = '{2}'",
        ["r0001: sample {2} has the label of {1}, but another label or other votes than that"],
    ),
    "the label of what has none": (
        "UPDATE snapshot_labels SET asked_with = '{6}' WHERE sample_id = '{2}'",
        ["r0001: sample {2} has the label of {6}, which has none"],
    ),
    "the label of another member": (
        "UPDATE snapshot_labels SET asked_with = '{3}' WHERE sample_id = '{2}'",
        ["r0001: sample {2} has the label of {3}, which was not asked about"],
    ),
    "the label of what it was not shown with": (
        "UPDATE task_members SET member_id = '{7}' WHERE member_id = '{2}'",
        ["r0001: sample {2} has the label of {1}, beside which no task had shown it"],
    ),
    "a member that people had voted on": (
        "UPDATE annotation_events SET source = 'import', raw = '{}', sample_id = '{2}' WHERE annotation_id = 13",
        ["r0001: sample {2} has the label of {1}, though people had voted on it by itself"],
    ),
}


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger in which two of three are answered, and five images have a frozen label."""
    path = tmp_path_factory.mktemp("members") / "ledger.sqlite3"
    ledger = begun(url := f"sqlite:///{path}")
    for number, about in ((11, 1), (12, 4)):
        answer(ledger, number, about, "cat")
    answer(ledger, 13, 9, "dog", round="by hand")
    assert len(ledger.snapshot("r0001", labels(ledger))) == 5
    ledger.close()
    assert verify(url).problems == []
    return path


@pytest.mark.parametrize("breach", BREACHES)
def test_each_breach_is_named(frozen: Path, tmp_path: Path, breach: str) -> None:
    def filled(text: str) -> str:
        for number in range(1, 8):
            text = text.replace(f"{{{number}}}", sample(number))
        return text

    copyfile(frozen, tmp_path / "ledger.sqlite3")
    statement, problems = BREACHES[breach]
    edit(url := f"sqlite:///{tmp_path / 'ledger.sqlite3'}", filled(statement))
    assert sorted(p for p in verify(url).problems if "current answer" not in p) == sorted(map(filled, problems))


def test_exports_tell_with_whom_a_sample_was_asked_and_bring_nothing_new_when_they_come_back(
    ledger: Ledger, url: str
) -> None:
    answer(ledger, 11, 1, "cat")
    answer(ledger, 12, 4, "dog")
    each, together = answers_since(ledger, None), agreed(ledger, CLASSES, 1).labels
    for table in (each, together):
        assert table["sample_id"].tolist() == [*map(sample, range(1, 6))]
        assert table["label"].tolist() == ["cat"] * 3 + ["dog"] * 2
        assert table["asked_with"].tolist() == [None, sample(1), sample(1), None, sample(4)]
        assert table["uri"].tolist() == [f"/images/{number}.png" for number in range(1, 6)]
        assert brought(ledger, table) == Imported(unchanged=5)
    assert each["annotation_id"].tolist() == [11, 11, 11, 12, 12]
    # Nobody has chosen or scored what is shown beside.
    assert each["rank"].notna().tolist() == [True, False, False, True, False]
    assert brought(ledger, together.replace({"label": {"dog": "cat"}}).iloc[4:]) == Imported(new=1)
    assert labels(ledger).set_index("sample_id").loc[sample(5), ["label", "asked_with"]].tolist() == ["cat", None]
    assert verify(url).problems == []


def brought(ledger: Ledger, table: pd.DataFrame) -> Imported:
    texts = table.astype(object).where(table.notna(), None).map(lambda value: None if value is None else str(value))
    return import_labels(ledger, Brought("labels.csv", table_rows(texts, "labels.csv")), CLASSES)

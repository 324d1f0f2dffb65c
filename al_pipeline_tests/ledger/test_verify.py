"""Whatever breaks the ledger's promises is found and named; a ledger that was only used as meant has no problem."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from al_pipeline.core.labels.consensus import consensus
from al_pipeline.ledger import Ledger
from al_pipeline.ledger.database import connect
from al_pipeline.ledger.verify import verify
from al_pipeline_tests.ledger.builders import manifest, moment, plan_rows, said, sample


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """Two rounds of a loop: three samples, four answers, one of them changed, and a frozen pool."""
    ledger = Ledger(url)
    ledger.register(manifest())
    ledger.plan("r0000", plan_rows(1, 2, 3))
    ledger.record_pushed("r0000", {sample(number): 100 + number for number in (1, 2, 3)}, moment(1))
    answers = [
        said(11, sample(1), "cat", updated_at=moment(2)),
        said(11, sample(1), "dog", updated_at=moment(3)),
        said(12, sample(2), "cat", updated_at=moment(4)),
        said(13, sample(3), None, cancelled=True, updated_at=moment(4), task_id=103),
    ]
    ledger.append(answers, moment(5))
    ledger.snapshot("r0001", consensus(ledger.answers(purpose="query"), class_names=["cat", "dog"]).labels)
    ledger.plan("r0001", plan_rows(4))
    yield ledger
    ledger.close()


def edit(url: str, *statements: str) -> None:
    """Change the database behind the ledger's back, past its constraints too."""
    engine = connect(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_a_ledger_in_use_has_no_problem(ledger: Ledger, url: str) -> None:
    report = verify(url)
    assert report.problems == []
    assert report.counts == {
        "samples": 22,
        "rounds": 2,
        "tasks": 4,
        "annotation events": 4,
        "snapshots": 1,
        "labels in snapshots": 2,
    }


@pytest.mark.parametrize(
    ("statements", "problems"),
    [
        (
            [
                "DROP INDEX uq_planned_tasks_live_sample",
                "UPDATE planned_tasks SET sample_id = '{2}' WHERE round = 'r0001'",
            ],
            ["sample {2} has 2 tasks at once"],
        ),
        (
            ["UPDATE planned_tasks SET pushed_at = NULL WHERE sample_id = '{1}'"],
            ["r0000: the task of sample {1} has a task id or a time of its push, but not both"],
        ),
        (
            ["UPDATE annotation_events SET sample_id = 'x' WHERE annotation_id = 13"],
            [
                "annotation 13 of label_studio is about sample x, which is not in the ledger",
                "annotation 13 of label_studio: its current answer is not what its latest event says",
            ],
        ),
        (
            ["UPDATE annotation_events SET sample_id = '{3}' WHERE value = 'cat' AND annotation_id = 11"],
            ["annotation 11 of label_studio is about more than one sample"],
        ),
        (
            ["UPDATE annotation_events SET created_at = '2030-01-01 00:00:00' WHERE annotation_id = 13"],
            [
                "annotation 13 of label_studio has events, but is missing from the current answers",
                "annotation 13 of label_studio is among the current answers, but no event tells of it",
            ],
        ),
        (
            [
                "DELETE FROM annotations WHERE annotation_id = 12",
                "DELETE FROM annotation_events WHERE annotation_id = 12",
            ],
            ["r0001: no annotation 12 had said 'cat' of sample {2} by then"],
        ),
        (
            [
                f"UPDATE {table} SET pulled_at = '2090-01-01 00:00:00' WHERE annotation_id = 12"
                for table in ("annotation_events", "annotations")
            ],
            ["r0001: no annotation 12 had said 'cat' of sample {2} by then"],
        ),
        (
            ["DELETE FROM annotations WHERE annotation_id = 12"],
            ["annotation 12 of label_studio has events, but is missing from the current answers"],
        ),
        (
            ["UPDATE annotations SET annotation_id = 14 WHERE annotation_id = 13"],
            [
                "annotation 13 of label_studio has events, but is missing from the current answers",
                "annotation 14 of label_studio is among the current answers, but no event tells of it",
            ],
        ),
        (
            ["UPDATE annotations SET value = 'cat' WHERE annotation_id = 13"],
            ["annotation 13 of label_studio: its current answer is not what its latest event says"],
        ),
        (
            ["UPDATE annotations SET value = 'cat', event_id = event_id - 1 WHERE annotation_id = 11"],
            ["annotation 11 of label_studio: its current answer is not what its latest event says"],
        ),
        (
            ["UPDATE snapshot_labels SET label = 'dog' WHERE sample_id = '{2}'"],
            [
                "r0001: the labels are not those that were frozen: their hash differs",
                "r0001: no annotation 12 had said 'dog' of sample {2} by then",
            ],
        ),
        (
            ["UPDATE snapshot_labels SET n_votes = 2, weight = 0.5 WHERE sample_id = '{2}'"],
            ["r0001: sample {2} has 1 of 2 votes, from 1 annotations"],
        ),
        (
            ["UPDATE planned_tasks SET purpose = 'holdout' WHERE sample_id = '{1}'"],
            ["r0001: sample {1} is of the holdout, and was trained on"],
        ),
    ],
)
def test_each_broken_promise_is_named(ledger: Ledger, url: str, statements: list[str], problems: list[str]) -> None:
    names = {str(number): sample(number) for number in (1, 2, 3)}

    def filled(text: str) -> str:
        for number, name in names.items():
            text = text.replace(f"{{{number}}}", name)
        return text

    edit(url, *map(filled, statements))
    assert verify(url).problems == [filled(problem) for problem in problems]


def test_a_file_with_dangling_rows_is_found(tmp_path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    Ledger(url).close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        moment = datetime.now(UTC).replace(tzinfo=None).isoformat(" ")
        connection.exec_driver_sql(
            "INSERT INTO planned_tasks (round, sample_id, purpose, rank, strategy, seed, planned_at) "
            f"VALUES ('r0000', 'x', 'query', 0, 'random', 0, '{moment}')"
        )
    engine.dispose()
    problems = verify(url).problems
    assert "row 1 of planned_tasks speaks of something that is not in samples" in problems
    assert "row 1 of planned_tasks speaks of something that is not in planned_rounds" in problems


def test_answers_to_tasks_that_were_made_by_hand_are_remarked_and_are_no_problem(ledger: Ledger, url: str) -> None:
    by_hand = [
        # A sample that no round has asked about in this one, one that nobody knows, and a task that says nothing.
        said(21, sample(9), "cat", task_id=7, round="r0000"),
        said(22, "holiday.png", "cat", task_id=8, round=None),
        said(23, None, "dog", task_id=9, round=None),
    ]
    ledger.append(by_hand, moment(6), source="project 1")
    report = verify(url)
    assert report.problems == []
    assert report.remarks == [
        "3 annotations of project 1 answer tasks that were made by hand (the first is annotation 21, the first task "
        "7): nobody planned them, and they are left out"
    ]
    assert ledger.answers(purpose="query")["annotation_id"].tolist() == [11, 12, 13]

"""Whatever breaks the ledger's promises is found and named; a ledger that was only used as meant has no problem."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from shutil import copyfile
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from al_pipeline.core.labels.annotation import Annotation, unknown_author
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.labels.consensus import consensus, labels_hash
from al_pipeline.ledger import Ledger
from al_pipeline.ledger.database import connect, transaction
from al_pipeline.ledger.schema import (
    annotation_events,
    annotations,
    label_snapshots,
    planned_rounds,
    planned_tasks,
    projects,
    samples,
    snapshot_labels,
)
from al_pipeline.ledger.verify import verify
from al_pipeline_tests.ledger.breaches import BREACHES
from al_pipeline_tests.ledger.breaches.edits import GUESS, shown
from al_pipeline_tests.ledger.builders import manifest, moment, plan_rows, said, sample
from al_pipeline_tests.ledger.postgresql import PostgreSQL

CLASSES = ("cat", "dog")
OLD_CLASSES = ClassSet(CLASSES)


def answer(number: int, about: int, value: str | None, minutes: int = 2, **more: Any) -> Annotation:
    """An answer with the JSON that it was read from."""
    raw = shown(number, *([value] if value else []), skip=more.get("cancelled", False))
    return said(number, sample(about), value, updated_at=moment(minutes), task_id=100 + about, raw=raw, **more)


def labels(ledger: Ledger, min_votes: int = 1) -> pd.DataFrame:
    return consensus(ledger.answers(purpose="query"), class_names=list(CLASSES), min_votes=min_votes).labels


def build(url: str) -> None:
    """Two rounds of a loop: eight samples, answers by three people, one changed, a skip, a copy and a correction."""
    ledger = Ledger(url)
    ledger.register(manifest())
    ledger.change_classes("declare", {"declared": list(CLASSES)}, OLD_CLASSES)
    ledger.plan("r0000", plan_rows(1, 2, 3, 4, 5, 6))
    ledger.record_pushed("r0000", {sample(number): 100 + number for number in range(1, 7)}, moment(1))
    answers = [
        answer(11, 1, "cat"),
        answer(11, 1, "dog", 3),
        answer(12, 2, "cat", 4),
        answer(13, 3, None, 4, cancelled=True),
        answer(14, 4, "cat", 4),
        answer(15, 4, "cat", 4, annotator="bob"),
        answer(16, 4, "dog", 4, annotator="eve"),
        answer(17, 5, "cat", 4),
        answer(18, 6, "dog", 4, annotator=unknown_author(18)),
        answer(19, 6, "dog", 4, annotator=unknown_author(19)),
    ]
    ledger.append(answers, moment(5))
    ledger.append([said(99, sample(5), "dog", kind="correction", updated_at=moment(6))], moment(6), source="import")
    copied = replace(answer(21, 2, "cat", 7, annotator="ann", kind="copy", import_id=12), task_id=7)
    ledger.append([replace(copied, raw=copied.raw | {"import_id": 12})], moment(8))
    ledger.snapshot("r0001", labels(ledger))
    ledger.plan("r0001", plan_rows(7, 8))
    ledger.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def copies(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """What makes another ledger of the kind that `build` makes."""
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("ledgers")
        numbers = count()
        build(f"sqlite:///{folder}/built")
        return lambda: f"sqlite:///{copyfile(folder / 'built', folder / str(next(numbers)))}"
    server: PostgreSQL = request.getfixturevalue("postgresql")
    built = server.new_database()
    build(built)
    return lambda: server.new_database(built)


@pytest.fixture
def made(copies: Callable[[], str]) -> str:
    """The URL of a ledger of its own."""
    return copies()


@pytest.fixture
def ledger(made: str) -> Iterator[Ledger]:
    """The same, opened."""
    ledger = Ledger(made)
    yield ledger
    ledger.close()


def edit(url: str, *statements: str) -> None:
    """Change the database behind the ledger's back, past its constraints too."""
    # Not as the ledger connects: SQLite holds foreign keys only where it is told to.
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET session_replication_role = replica")
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_a_ledger_in_use_has_no_problem(made: str) -> None:
    report = verify(made)
    assert (report.problems, report.remarks) == ([], [])
    assert report.counts == {
        "samples": 22,
        "rounds": 2,
        "tasks": 8,
        "annotation events": 12,
        "snapshots": 1,
        "labels in snapshots": 5,
    }


def filled(text: str) -> str:
    for number in (*range(1, 11), 20):
        text = text.replace(f"{{{number}}}", sample(number))
    return text


@pytest.mark.parametrize("breach", BREACHES)
def test_each_breach_is_named(made: str, breach: str) -> None:
    statements, problems, remarks = BREACHES[breach]
    edit(made, *map(filled, statements))
    report = verify(made)
    assert sorted(report.problems) == sorted(map(filled, problems))
    assert len(report.remarks) == len(remarks)
    assert all(part in remark for part, remark in zip(remarks, report.remarks, strict=True)), report.remarks


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param(
            "UPDATE annotation_events SET pulled_at = '1 March' WHERE annotation_id = 13",
            "1 values of annotation_events.pulled_at are no moment",
            id="a moment that is none",
        ),
        pytest.param(
            "UPDATE annotation_events SET raw = '{' WHERE annotation_id = 13",
            "1 values of annotation_events.raw are no JSON",
            id="JSON that is none",
        ),
        pytest.param(
            "UPDATE snapshot_labels SET votes = 'many' WHERE annotation_ids = '12'",
            "1 values of snapshot_labels.votes are no whole number",
            id="a number that is none",
        ),
        pytest.param(
            "UPDATE snapshot_labels SET weight = 'heavy' WHERE annotation_ids = '12'",
            "1 values of snapshot_labels.weight are no number",
            id="a weight that is no number",
        ),
    ],
)
def test_a_file_with_values_of_another_form_is_found(tmp_path: Path, change: str, problem: str) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    build(url)
    edit(url, change)
    assert verify(url).problems == [problem]


def test_answers_to_tasks_that_were_made_by_hand_are_remarked_and_are_no_problem(ledger: Ledger, made: str) -> None:
    before = ledger.answers(purpose="query")["annotation_id"].tolist()
    by_hand = [
        # A sample that no round has asked about in this one, one that nobody knows, and a task that says nothing.
        said(41, sample(9), "cat", task_id=7, round="r0000"),
        said(42, "holiday.png", "cat", task_id=8, round=None),
        said(43, None, "dog", task_id=9, round=None),
    ]
    ledger.append(by_hand, moment(6), source="project 1")
    report = verify(made)
    assert report.problems == []
    assert report.remarks == [
        "3 annotations of project 1 answer tasks that were made by hand (the first is annotation 41, the first task "
        "7): nobody planned them, and they are left out"
    ]
    assert ledger.answers(purpose="query")["annotation_id"].tolist() == before


def doubled(ledger: Ledger) -> None:
    """The server of the fixture, read again under another address."""
    ledger.append([answer(12, 2, "cat", 4)], moment(9), source="http://localhost:8080 project 1")


def test_a_copy_of_a_copy_has_the_author_of_the_first(ledger: Ledger, made: str) -> None:
    def copy(number: int, of: int) -> Annotation:
        made = answer(number, 8, "cat", 7, annotator=unknown_author(3), kind="copy", import_id=of)
        return replace(made, raw=made.raw | {"import_id": of})

    # Label Studio has lost annotation 3 itself before it was pulled.
    ledger.append([copy(22, 3), copy(23, 22), copy(24, 9)], moment(8))
    problems = verify(made).problems
    assert problems == ["annotation 24 of label_studio has the author of another: unknown author of annotation 3"]


def test_a_server_under_two_names_is_a_remark_until_its_project_is_known(ledger: Ledger, made: str) -> None:
    doubled(ledger)
    report = verify(made)
    assert report.problems == []
    names = "http://localhost:8080 project 1 and of label_studio too, the first is 12: one server under two names"
    assert [remark.split(", until")[0] for remark in report.remarks] == [f"1 annotations are of {names}"]
    engine = connect(made)
    with transaction(engine, write=True) as connection:
        project = {"project_id": 1, "created_at": moment(0), "title": "Labels", "url": "http://x", "seen_at": moment(0)}
        connection.execute(sa.insert(projects), {"identity": "label_studio"} | project)
    engine.dispose()
    report = verify(made)
    assert report.problems == [f"1 annotations are of {names}"]
    assert [remark.split(":")[0] for remark in report.remarks] == ["the annotations of http"]


def test_what_was_said_while_the_votes_were_counted_may_be_missing(ledger: Ledger, made: str) -> None:
    counted = labels(ledger)
    now = datetime.now(UTC)
    ledger.append([answer(31, 1, "cat", 10, annotator="eve"), answer(32, 2, "dog", 10)], now)
    ledger.snapshot("r0002", counted)
    assert (verify(made).problems, verify(made).remarks) == ([], [])
    ledger.snapshot("r0003", counted)
    assert verify(made).problems == [
        f"r0003: sample {sample(1)} has 1 of 1 votes for 'dog', but people had said 'dog': 1, 'cat': 1",
        f"r0003: sample {sample(2)} is 'cat' by annotation 12, but ann has one vote, and it is annotation 32",
    ]


def test_renamed_merged_and_removed_classes_are_followed(ledger: Ledger, made: str) -> None:
    known = OLD_CLASSES
    for action, arguments, after in (
        ("add", {"names": ["cow"]}, known := known.add("cow")),
        ("rename", {"old": "cat", "new": "kitten"}, known := known.rename("cat", "kitten")),
        ("split", {"old": "cow", "into": ["bull", "ox"]}, known := known.split("cow", ["bull", "ox"])),
        ("merge", {"olds": ["bull", "ox"], "into": "cattle"}, known := known.merge(["bull", "ox"], "cattle")),
        ("remove", {"name": "dog"}, known.remove("dog")),
    ):
        ledger.change_classes(action, arguments, after)
    today = ledger.class_set()
    assert today is not None
    agreed = consensus(ledger.answers(purpose="query"), class_names=list(today.names)).labels
    assert dict(zip(agreed["sample_id"], agreed["label"], strict=True)) == {sample(2): "kitten", sample(4): "kitten"}
    ledger.snapshot("r0002", agreed)
    assert (verify(made).problems, verify(made).remarks) == ([], [])


def rows_of(table: sa.Table, *rows: dict[str, Any]) -> tuple[sa.Insert, list[dict[str, Any]]]:
    """What schema 0003 stores of rows: it has none of the columns that came after it."""
    later = {"kind", "origin", "parent_prediction", "import_id", "class_set", "cell"}
    names = [column.name for column in table.c if column.name not in later]
    return sa.insert(table), [{name: row[name] for name in names if name in row} for row in rows]


def test_what_an_older_version_has_trained_on_is_a_remark_and_what_it_never_may_have_is_not(url: str) -> None:
    answers = [
        answer(11, 1, "cat"),
        replace(answer(12, 2, "cat"), raw=GUESS, lead_time=None),
        answer(13, 3, "dog"),
        replace(answer(14, 4, "dog"), round="by hand"),
    ]
    found = [vars(each) | {"source": "http://x project 1", "pulled_at": moment(5)} for each in answers]
    states = [row | {"id": number, "event_id": number} for number, row in enumerate(found, start=1)]
    row = {"uri": "x.png", "split": "pool", "first_seen": moment(0), "planned_at": moment(0), "strategy": "random"}
    row |= {"round": "r0000", "purpose": "query", "seed": 0}
    asked = [row | {"sample_id": sample(number), "rank": number} for number in range(1, 5)]
    known = pd.DataFrame({"sample_id": [sample(n) for n in range(1, 5)], "label": ["cat", "cat", "dog", "dog"]})
    header = {"round": "r0001", "created_at": moment(6), "labels_hash": labels_hash(known)}
    frozen_labels = [
        {"round": "r0001", "sample_id": each.sample_id, "label": each.value, "votes": 1, "n_votes": 1, "weight": 1.0}
        | {"annotation_ids": str(each.annotation_id), "first_round": "r0000"}
        for each in answers
    ]
    engine = connect(url)
    config = Config()
    config.set_main_option("script_location", "al_pipeline.ledger:migrations")
    with transaction(engine, write=True) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        for statement, values in (
            rows_of(samples, *asked),
            rows_of(planned_rounds, row),
            rows_of(planned_tasks, *asked[:3]),
            rows_of(annotation_events, *states),
            rows_of(annotations, *states),
            rows_of(label_snapshots, header),
            rows_of(snapshot_labels, *frozen_labels),
        ):
            connection.execute(statement, values)
    engine.dispose()

    report = verify(url)
    assert report.problems == []
    assert [remark.partition(" (the first")[0] for remark in report.remarks] == [
        "1 annotations of http://x project 1 answer tasks that were made by hand",
        "r0001 was trained on 2 labels that would be others today. The first: "
        f"sample {sample(2)} is 'cat' by annotation 12, which is no answer, but guess",
    ]
    # The next round, which knows better, has no such label, and the promises of before hold still.
    ledger = Ledger(url)
    ledger.change_classes("declare", {"declared": list(CLASSES)}, OLD_CLASSES)
    ledger.snapshot("r0002", labels(ledger))
    assert set(ledger.frozen_labels("r0002")["sample_id"]) == {sample(1), sample(3)}
    ledger.close()
    assert verify(url).problems == []
    edit(url, f"UPDATE planned_tasks SET purpose = 'holdout' WHERE sample_id = '{sample(3)}'")
    assert verify(url).problems == [
        f"{key}: sample {sample(3)} is of the holdout, and was trained on" for key in ("r0001", "r0002")
    ]

"""Which Label Studio projects are the ledger's; annotations that it had under addresses come under an identity."""

import gzip
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from al_pipeline.ledger import Ledger
from al_pipeline.ledger.database import connect, transaction
from al_pipeline.ledger.verify import verify
from al_pipeline.ledger.views import Watermark
from al_pipeline_tests.ledger.builders import START, manifest, moment, plan_rows, said, sample

OLD_HOME = Path(__file__).parent / "old_home.sql.gz"
# When Label Studio made the project of that home.
MADE = datetime(2026, 11, 28, 12, 1, 21, 403291, tzinfo=UTC)
HERE, THERE = "http://127.0.0.1:8080 project 1", "http://localhost:8080 project 1"
NAMES = {"title": "al_pipeline", "url": "http://127.0.0.1:8080"}


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url)
    ledger.register(manifest())
    ledger.plan("r0000", plan_rows(1, 2, 3))
    yield ledger
    ledger.close()


def events_of(url: str) -> list[tuple[Any, ...]]:
    engine = connect(url)
    with engine.connect() as connection:
        query = "SELECT source, annotation_id, value, deleted FROM annotation_events ORDER BY annotation_id, updated_at"
        found = [tuple(row) for row in connection.exec_driver_sql(query)]
    engine.dispose()
    return found


def test_a_project_keeps_its_identity_and_a_new_one_gets_another(ledger: Ledger) -> None:
    first = ledger.adopt(1, START, **NAMES)
    assert ledger.adopt(1, START, title="renamed", url="http://localhost:8080") == first
    [known] = ledger.projects()
    assert (known.identity, known.project_id, known.created_at, known.title) == (first, 1, START, "renamed")
    assert ledger.adopt(1, moment(1), **NAMES) != first
    assert len(ledger.projects()) == 2


def test_a_project_that_is_about_to_be_made_has_one_identity_until_it_is_there(ledger: Ledger) -> None:
    reserved = ledger.reserve_project("al_pipeline", "http://127.0.0.1:8080")
    assert ledger.reserve_project("al_pipeline", "http://localhost:8080") == reserved
    assert ledger.reserve_project("another title", "http://127.0.0.1:8080") != reserved
    assert ledger.adopt(1, START, identity=reserved, **NAMES) == reserved
    assert ledger.reserve_project("al_pipeline", "http://127.0.0.1:8080") != reserved


def test_what_was_pulled_under_two_addresses_is_kept_once_and_nothing_is_lost(ledger: Ledger, url: str) -> None:
    both = said(11, sample(1), "cat", updated_at=moment(1))
    ledger.append([both, said(12, sample(2), "cat")], moment(5), source=HERE)
    ledger.append(
        [both, said(11, sample(1), "dog", updated_at=moment(6)), said(13, sample(3), "cat")], moment(9), source=THERE
    )
    ledger.set_watermark(HERE, Watermark(moment(5)))
    identity = ledger.adopt(1, START, **NAMES)
    source = f"project {identity}"
    assert events_of(url) == [
        (source, 11, "cat", 0),
        (source, 11, "dog", 0),
        (source, 12, "cat", 0),
        (source, 13, "cat", 0),
    ]
    assert ledger.answers()["value"].tolist() == ["dog", "cat", "cat"]
    assert ledger.count_annotations(source) == (3, 0)
    # All is read anew: what was deleted after the move is found.
    assert ledger.watermark(HERE) is ledger.watermark(source) is None
    assert verify(url).problems == []


def test_an_answer_that_was_taken_back_under_one_address_is_taken_back(ledger: Ledger, url: str) -> None:
    gone = said(11, sample(1), "cat", updated_at=moment(3), deleted=True)
    ledger.append([said(11, sample(1), "cat"), gone], moment(5), source=HERE)
    ledger.append([said(11, sample(1), "cat")], moment(9), source=THERE)
    ledger.adopt(1, START, **NAMES)
    assert ledger.answers().empty
    assert verify(url).problems == []


@pytest.mark.parametrize("source", ["http://127.0.0.1:8080 project 11", "import", "http://127.0.0.1:8080 project 2"])
def test_other_projects_and_imports_keep_their_names(ledger: Ledger, url: str, source: str) -> None:
    ledger.append([said(11, sample(1), "cat")], moment(5), source=source)
    ledger.adopt(1, START, **NAMES)
    assert events_of(url) == [(source, 11, "cat", 0)]


def test_answers_that_are_older_than_the_project_are_of_another_one_with_its_id(ledger: Ledger, url: str) -> None:
    # Label Studio gives the id of the newest project out again when that is deleted.
    ledger.append([said(11, sample(1), "cat")], moment(5), source=HERE)
    ledger.append([said(11, sample(2), "dog", created_at=moment(4), updated_at=moment(4))], moment(5), source=THERE)
    source = f"project {ledger.adopt(1, moment(2), **NAMES)}"
    assert sorted(events_of(url)) == [(HERE, 11, "cat", 0), (source, 11, "dog", 0)]
    assert verify(url).problems == []


def test_a_copy_from_elsewhere_does_not_make_a_source_older_than_its_project(ledger: Ledger, url: str) -> None:
    answers = [said(11, sample(1), "cat", created_at=moment(-60), import_id=7), said(12, sample(2), "dog")]
    ledger.append(answers, moment(5), source=HERE)
    ledger.adopt(1, START, **NAMES)
    assert {source for source, *_ in events_of(url)} == {f"project {ledger.projects()[0].identity}"}


def restore_old_home(url: str) -> None:
    """Make the ledger of a home of the version before: the same 40 annotations under two addresses, skips, imports."""
    text = gzip.decompress(OLD_HOME.read_bytes()).decode()
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        path.parent.mkdir(exist_ok=True)
        with sqlite3.connect(path) as file:
            file.executescript(text)
        file.close()
        return
    old, engine, config = sqlite3.connect(":memory:"), connect(url), Config()
    old.executescript(text)
    config.set_main_option("script_location", "al_pipeline.ledger:migrations")
    with transaction(engine, write=True) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        tables = sa.MetaData()
        tables.reflect(connection)
        for table in tables.sorted_tables:
            cursor = old.execute(f"SELECT * FROM {table.name}")
            names = [column[0] for column in cursor.description]
            rows = [
                {name: _value(table.c[name], value) for name, value in zip(names, row, strict=True)} for row in cursor
            ]
            if rows and table.name != "alembic_version":
                connection.execute(sa.insert(table), rows)
    old.close()
    engine.dispose()


def _value(column: sa.Column[Any], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(column.type, sa.DateTime):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    if isinstance(column.type, sa.Boolean):
        return bool(value)
    return json.loads(value) if isinstance(column.type, sa.JSON) else value


def test_a_home_of_the_version_before_opens_and_its_project_is_adopted(url: str) -> None:
    restore_old_home(url)
    ledger = Ledger(url)
    before, frozen = ledger.current_labels(), ledger.frozen_labels("r0003")
    doubled = ledger.answers()
    assert len(doubled) == 163
    assert doubled["source"].nunique() == 3

    source = f"project {ledger.adopt(1, MADE, **NAMES)}"
    answers = ledger.answers()
    assert answers["source"].value_counts().to_dict() == {source: 120, "import": 3}
    assert not answers.duplicated(["source", "annotation_id"]).any()
    assert ledger.count_annotations(source) == (108, 12)
    # What people agree on is the same, each with the votes that were given.
    after = ledger.current_labels()
    assert after[["sample_id", "label"]].equals(before[["sample_id", "label"]])
    assert after["sample_id"].is_unique
    assert after["n_votes"].max() == 2
    assert ledger.frozen_labels("r0003").equals(frozen)
    ledger.close()
    report = verify(url)
    assert (report.problems, report.remarks) == ([], [])
    assert report.counts["annotation events"] == 123

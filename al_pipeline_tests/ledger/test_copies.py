"""A copy of a ledger has every row of every table, whichever database it comes from and whoever writes meanwhile."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.ledger import Ledger
from al_pipeline.ledger.copies import copy_ledger, copy_sqlite, count_rows, fill_ledger, how_far
from al_pipeline.ledger.database import LedgerError, connect
from al_pipeline.ledger.schema import metadata
from al_pipeline.ledger.verify import verify
from al_pipeline_tests.ledger.builders import manifest, moment, plan_rows, said, sample


def rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return all tables of a ledger, as Python has them."""
    engine = connect(url)
    with engine.connect() as connection:
        found = {
            table.name: sorted(map(tuple, connection.execute(sa.select(table))), key=repr)
            for table in metadata.sorted_tables
        }
    engine.dispose()
    return found


def fill(ledger: Ledger) -> None:
    ledger.register(manifest())
    ledger.change_classes("declare", {"declared": ["cat", "dog"]}, ClassSet(("cat", "dog")))
    ledger.plan("r0000", plan_rows(0, 1, 2))
    ledger.record_pushed("r0000", {sample(0): 7}, moment(1))
    raw = {"result": [{"value": {"choices": ["grün ✓"]}}], "nothing": None}
    ledger.append([said(i, sample(i), "cat", lead_time=1 / 3, raw=raw) for i in range(3)], moment(2))


def test_every_row_is_in_the_copy(url: str, tmp_path: Path) -> None:
    ledger = Ledger(url)
    fill(ledger)
    before = how_far(url)
    copy_ledger(url, tmp_path / "copy.sqlite3")
    copied = f"sqlite:///{tmp_path / 'copy.sqlite3'}"
    assert rows(copied) == rows(url)
    assert {name for name, found in rows(url).items() if found} >= {"samples", "planned_tasks", "annotation_events"}
    assert verify(copied) == verify(url)
    assert how_far(copied) == before
    # It can be gone on with.
    again = Ledger(copied)
    again.plan("r0001", plan_rows(5))
    again.append([said(9, sample(5), "dog")], moment(3))
    assert verify(copied).problems == verify(url).problems
    assert how_far(copied) != before
    again.close()
    ledger.close()


def test_a_ledger_is_filled_from_a_copy_and_forgets_no_event_that_comes(url: str, tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'first.sqlite3'}")
    fill(ledger)
    ledger.close()
    copy_ledger(f"sqlite:///{tmp_path / 'first.sqlite3'}", tmp_path / "copy.sqlite3")
    assert sum(count_rows(url).values()) == 0
    fill_ledger(tmp_path / "copy.sqlite3", url)
    assert rows(url) == rows(f"sqlite:///{tmp_path / 'first.sqlite3'}")
    assert count_rows(url)["annotation_events"] == 3
    # An event whose number was given out before would be taken for a known one.
    again = Ledger(url)
    assert again.append([said(i, sample(i), "dog") for i in range(3, 7)], moment(3)) == 4
    assert verify(url).counts["annotation events"] == 7
    again.close()


def test_the_mark_moves_with_each_step_of_a_round(url: str) -> None:
    ledger = Ledger(url)
    ledger.register(manifest())
    marks = [how_far(url)]
    ledger.plan("r0000", plan_rows(0, 1))
    marks.append(how_far(url))
    ledger.record_pushed("r0000", {sample(0): 7, sample(1): 8}, moment(1))
    marks.append(how_far(url))
    # Answers are read once more where they are missing.
    ledger.append([said(1, sample(0), "cat")], moment(2))
    assert how_far(url) == marks[-1]
    assert len(set(marks)) == 3
    ledger.close()


def test_a_copy_is_whole_while_another_writes(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE pairs (a, b)")
        database.commit()
    ended = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(tmp_path / "a.db", timeout=60)) as database:
            for number in range(600):
                with database:
                    database.execute("INSERT INTO pairs VALUES (?, 0)", [number])
                    database.execute("UPDATE pairs SET b = a WHERE a = ?", [number])
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    copies = 0
    while not ended.is_set() or not copies:
        target = tmp_path / f"copy{copies}.db"
        copy_sqlite(tmp_path / "a.db", target)
        with closing(sqlite3.connect(target)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert database.execute("SELECT count(*) FROM pairs WHERE a <> b").fetchone() == (0,)
        copies += 1
    writer.join()


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"no database" * 100)
    with pytest.raises(LedgerError, match=r"a\.db could not be copied to .*copy\.db: file is not a database"):
        copy_sqlite(tmp_path / "a.db", tmp_path / "copy.db")

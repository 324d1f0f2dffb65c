"""What is made once in a process and copied for each test: to make it takes longer than many tests do.

What is copied is what the real code has made, and whoever opens a copy looks at its version as at that of any other.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from al_pipeline.core.evaluation import figures
from al_pipeline.ledger import Ledger, database, verify, views

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def new_ledgers_copied() -> Iterator[None]:
    """Have new ledgers in SQLite begin as a copy of one that was migrated, which saves .07 of .075 CPU seconds."""

    def migrate(engine: sa.Engine) -> None:
        if engine.dialect.name == "sqlite" and not (path := Path(str(engine.url.database))).exists():
            copy = path.with_name(f"{path.name}.{os.getpid()}.{id(engine)}")
            shutil.copyfile(_new_ledger(), copy)
            # Whoever has made one meanwhile keeps it.
            with suppress(FileExistsError):
                os.link(copy, path)
            copy.unlink()
        database.migrate(engine)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "migrate", migrate)
        for module in (views, verify):
            patch.setattr(module, "connect", _compiled_once)
        yield


def _compiled_once(url: str) -> sa.Engine:
    """Return an engine that finds the statements which another has compiled, as each test's own would anew.

    What is compiled is the dialect's and its cache's, which are the same for each database of a kind.
    """
    engine = database.connect(url)
    first = _engines.setdefault(engine.dialect.name, engine)
    engine.dialect = engine.pool._dialect = first.dialect
    engine._compiled_cache = first._compiled_cache
    return engine


_engines: dict[str, sa.Engine] = {}


def new_instance(folder: Path) -> None:
    """Put into a folder what Dagster makes in an empty one, which saves .25 of .33 CPU seconds."""
    shutil.copytree(_new_instance(), folder, dirs_exist_ok=True)


def pictures_drawn_once(patch: pytest.MonkeyPatch) -> None:
    """Have the steps of rounds draw a picture of each kind once, an eighth of what a round costs.

    What is in them is asserted in the tests of `figures`; a test that looks at one of a round has `as_png` put back.
    """

    def drawn(figure: "Figure") -> bytes:
        kind = sys._getframe(1).f_code.co_name
        if kind not in _pictures:
            _pictures[kind] = as_png(figure)
        return _pictures[kind]

    patch.setattr(figures, "as_png", drawn)


as_png = figures.as_png
_pictures: dict[str, bytes] = {}


@lru_cache(maxsize=1)
def _place() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="templates-")


@lru_cache(maxsize=1)
def _new_ledger() -> Path:
    path = Path(_place().name) / "ledger.sqlite3"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "migrate", database.migrate)
        Ledger(f"sqlite:///{path}").close()
    with sa.create_engine(f"sqlite:///{path}").connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@lru_cache(maxsize=1)
def _new_instance() -> Path:
    from al_pipeline_tests.defs.worlds import instance_in

    folder = Path(_place().name) / "dagster"
    folder.mkdir()
    with instance_in(folder) as instance:
        instance.get_runs_count()
        instance.all_instigator_state()
        instance.get_asset_keys()
    return folder

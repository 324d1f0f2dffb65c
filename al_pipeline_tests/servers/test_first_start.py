"""An empty database is migrated once per machine, and never takes the place of one that is there.

A program in the place of uv installs one that stands in for half a minute of migrations; that the real server takes the
database is told with the other tests of a running server.
"""

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from al_pipeline.servers import first_start
from al_pipeline.servers.first_start import DATABASE, fill, kept_database, make

# Keeps the names of what it was handed, and installs the program beside it.
UV = """#!/bin/sh
[ "$1 $2" = "tool install" ] || exit 4
echo "$*" >> "$CALLS.installed"
env | cut -d= -f1 >> "$CALLS.names"
mkdir -p "$UV_TOOL_BIN_DIR" && cp "$0.installs" "$UV_TOOL_BIN_DIR/label-studio"
"""
# Counts its calls, keeps the names of what it was handed, and makes a database where it was told to.
LABEL_STUDIO = """#!/bin/sh
echo "$*" >> "$CALLS"
env | cut -d= -f1 >> "$CALLS.names"
[ "$LABEL_STUDIO_BASE_DATA_DIR" ] || exit 3
exec {python} -c 'import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as database: database.execute("create table migrated (at text)")' \\
  "$LABEL_STUDIO_BASE_DATA_DIR/{database}"
"""


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("LABEL_STUDIO_USER_TOKEN", "s3cret")
    program = tmp_path / "uv"
    program.write_text(UV)
    installs(program).write_text(LABEL_STUDIO.format(python=sys.executable, database=DATABASE))
    for each in (program, installs(program)):
        each.chmod(0o700)
    return program


def installs(program: Path) -> Path:
    return program.with_name("uv.installs")


def tables(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return [name for (name,) in connection.execute("select name from sqlite_master order by name")]


def test_of_several_who_need_it_at_once_one_makes_it(uv: Path, tmp_path: Path) -> None:
    kept = kept_database()
    # As somebody left it who was killed.
    half = kept.with_suffix(".part")
    half.mkdir(parents=True)
    (half / DATABASE).write_text("half")
    makers = [subprocess.Popen([sys.executable, "-m", first_start.__name__, str(uv)]) for _ in range(3)]
    assert [maker.wait(60) for maker in makers] == [0, 0, 0]
    assert tables(kept) == ["migrated"]
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    assert (tmp_path / "calls.installed").read_text().split()[-1] == f"label-studio=={first_start.VERSION}"
    assert "LABEL_STUDIO_USER_TOKEN" not in (tmp_path / "calls.names").read_text().split()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert {path.suffix for path in kept.parent.iterdir() if path.is_file()} == {".sqlite3", ".lock"}


def test_a_data_folder_gets_a_copy_and_keeps_a_database_of_its_own(
    uv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.mkdir()
    with closing(sqlite3.connect(old / DATABASE)) as connection:
        connection.execute("create table answers (at text)")
    for folder in (new, old):
        fill(folder, str(uv))
    assert (tables(new / DATABASE), tables(old / DATABASE)) == (["migrated"], ["answers"])

    def journal(folder: Path) -> str:
        with closing(sqlite3.connect(folder / DATABASE)) as connection:
            return str(connection.execute("PRAGMA journal_mode").fetchone()[0])

    assert [journal(folder) for folder in (new, old)] == ["wal", "wal"]
    # A disk that is not known to be this machine's own.
    monkeypatch.setattr(first_start, "LOCAL", set[str]())
    fill(old, str(uv))
    assert (journal(old), tables(old / DATABASE)) == ("delete", ["answers"])


def test_a_server_starts_without_it_where_it_cannot_be_made(uv: Path, tmp_path: Path) -> None:
    installs(uv).write_text('#!/bin/sh\n[ "$1" = version ] && exit 7\necho "started with $1"\n')
    command = [sys.executable, "-m", first_start.__name__, str(uv), str(tmp_path / "data"), "start"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=True)
    assert "Label Studio prepares its database by itself: Command" in done.stdout
    assert done.stdout.endswith("started with start\n")
    with pytest.raises(subprocess.CalledProcessError):
        make(str(uv))
    assert not kept_database().exists()

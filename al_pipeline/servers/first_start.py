"""The start of a Label Studio in seconds: it is installed, and its empty database migrated, once per machine.

Migrations are half a minute of a processor's work, the same in every home, which gets a copy. That has no user and no
secret; Label Studio compares its migrations with it at every start, makes the user and draws a key of its own.

    python -m al_pipeline.servers.first_start UV                        makes both, as set-up does, beside other work
    python -m al_pipeline.servers.first_start UV DATA_DIR ARGUMENT …    copies where there is none, and becomes
                                                                        `label-studio ARGUMENT …`

Set-up runs this before any package is there: at the top the standard library alone is imported.
"""

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from al_pipeline.core.errors import ALError
from al_pipeline.core.files import private_folder, whole_file

VERSION = "1.23.2"
DATABASE = "label_studio.sqlite3"
# What is ours or another Django's or makes starts slow (code compiled every time), and what is set for a server.
OTHERS, SERVERS = ("AL_", "DAGSTER_", "DJANGO_", "PYTHONDONTWRITE"), ("LABEL_STUDIO_", "HEARTEX_")
# A write-ahead log needs memory that all processes share, which shares of a network do not have.
LOCAL = {"apfs", "bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "hfs", "overlay", "tmpfs", "xfs", "zfs"}


def label_studio(uv: str) -> str:
    """Return the program `label-studio`, which uv installs the first time: from then on no network is asked.

    Raises
    ------
    OSError, subprocess.CalledProcessError
        It could not be installed; uv has told why.
    """
    tools = _cache() / f"label-studio-{VERSION}-{sys.implementation.cache_tag}"
    # Most of its modules are never imported: Python compiles the others when they are.
    where = {"UV_TOOL_DIR": str(tools), "UV_TOOL_BIN_DIR": str(tools / "bin"), "UV_COMPILE_BYTECODE": "0"}
    command = [uv, "tool", "install", "--quiet", "--python", sys.executable, f"label-studio=={VERSION}"]
    subprocess.run(command, env=_without(OTHERS + SERVERS) | where, stdin=subprocess.DEVNULL, check=True)
    return str(tools / "bin" / "label-studio")


def environment(data_dir: Path, without: tuple[str, ...] = OTHERS) -> dict[str, str]:
    """Return the environment of a Label Studio that keeps its data in a folder: quiet, offline, without our secrets."""
    return _without(without) | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data_dir.resolve()),
        # No statistics, no error reports, no look for updates.
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "PYTHONUNBUFFERED": "1",
    }


def kept_database() -> Path:
    """Return where this machine keeps the migrated database, whether it is there or not."""
    return _cache() / f"label-studio-{VERSION}.sqlite3"


def make(uv: str) -> Path:
    """Return the migrated database of this machine; of several who need it at once, one makes it.

    Raises
    ------
    OSError, FileError, subprocess.CalledProcessError
        The folder cannot be written, or Label Studio could not be installed or ended with an error.
    """
    kept = kept_database()
    if kept.exists():
        return kept
    private_folder(kept.parent)
    print("Label Studio's database is made, once for this machine …", flush=True)
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if kept.exists():
            return kept
        folder = kept.with_suffix(".part")
        # What somebody left who was killed.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        try:
            command, quiet = [label_studio(uv), "version"], environment(folder, OTHERS + SERVERS)
            subprocess.run(command, env=quiet, stdin=subprocess.DEVNULL, check=True)
            _copy(folder / DATABASE, kept)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return kept


def fill(data_dir: Path, uv: str) -> None:
    """Put the migrated database into a data folder that has none, and choose the journal that suits its disk."""
    database = data_dir / DATABASE
    if not database.exists():
        _copy(make(uv), database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA journal_mode = {'WAL' if is_local(data_dir) else 'DELETE'}")


def is_local(folder: Path) -> bool:
    """Say whether a folder is known to lie on a disk of this machine."""
    import psutil

    found = folder.resolve()
    kinds = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return next((kinds[place] for place in (found, *found.parents) if place in kinds), "") in LOCAL


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "al_pipeline"


def _without(names: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(names)}


def _copy(database: Path, to: Path) -> None:
    with whole_file(to, "Label Studio's database", mode=0o600) as file:
        shutil.copyfile(database, file)


def main(arguments: Sequence[str]) -> None:
    """Make the database, or fill a data folder and become Label Studio, which does all by itself where that fails."""
    uv, *rest = arguments
    try:
        fill(Path(rest[0]), uv) if rest else make(uv)
    except (OSError, RuntimeError, ALError, sqlite3.Error, subprocess.CalledProcessError) as error:
        print(f"Label Studio prepares its database by itself: {error}", flush=True)
    if rest:
        try:
            program = label_studio(uv)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"Label Studio {VERSION} could not be installed, which needs a network the first time: {error}")
        os.execv(program, [program, *rest[1:]])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])

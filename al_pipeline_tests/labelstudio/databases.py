"""Label Studio's database is migrated once for all workers of a session."""

import fcntl
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

DATABASE = "label_studio.sqlite3"


@contextmanager
def one_makes_the_database(shared: Path | None, data_dir: Path) -> Iterator[None]:
    """Let the body start a server; all bodies but the first one find in `data_dir` what that one has made.

    Parameters
    ----------
    shared : Path | None
        A folder that all workers of this session know; None if there is nobody to share with.
    data_dir : Path
    """
    if shared is None:
        yield
        return
    made = shared / "label-studio"
    with (shared / "label-studio.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists():
            fcntl.flock(lock, fcntl.LOCK_UN)
            shutil.copytree(made, data_dir)
            yield
            return
        yield
        half = made.with_suffix(".half")
        half.mkdir()
        shutil.copy2(data_dir / "credentials.json", half)
        # The server is running: SQLite's own copy is whole all the same.
        with closing(sqlite3.connect(data_dir / DATABASE)) as ours, closing(sqlite3.connect(half / DATABASE)) as theirs:
            ours.backup(theirs)
        half.rename(made)

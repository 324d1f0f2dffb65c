"""Label Studio migrates an empty database once for all that starts it in the tests: half a minute of a processor."""

import fcntl
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from al_pipeline.servers.label_studio import VERSION

DATABASE = "label_studio.sqlite3"


class FreshDatabase:
    """What the first start of Label Studio in an empty folder leaves there, made by whoever needs it first.

    Parameters
    ----------
    shared : Path
        A folder that all processes of a session know, and sessions too if it is to be made once for all.
    """

    def __init__(self, shared: Path) -> None:
        self._made = shared / f"label-studio-{VERSION}"

    @contextmanager
    def first_start(self, data_dir: Path) -> Iterator[None]:
        """Let the body start a server; all bodies but the first one find in `data_dir` what that one has made."""
        self._made.parent.mkdir(parents=True, exist_ok=True)
        with self._beside("lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._made.exists():
                fcntl.flock(lock, fcntl.LOCK_UN)
                self.copy(data_dir)
                yield
                return
            yield
            half = self._beside("half")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir(mode=0o700)
            shutil.copy2(data_dir / "credentials.json", half)
            # The server is running: SQLite's own copy is whole all the same.
            with (
                closing(sqlite3.connect(data_dir / DATABASE)) as ours,
                closing(sqlite3.connect(half / DATABASE)) as theirs,
            ):
                ours.backup(theirs)
            half.rename(self._made)

    def _beside(self, ending: str) -> Path:
        return self._made.with_name(f"{self._made.name}.{ending}")

    def copy(self, data_dir: Path) -> None:
        """Copy what a first start has left to a folder that is not there yet: the next start there takes seconds."""
        shutil.copytree(self._made, data_dir)

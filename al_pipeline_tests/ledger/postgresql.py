"""A real PostgreSQL server with a database for each test."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from al_pipeline.servers.processes import HOST, free_port

# Every character that a URL must escape: a password like this is where naive URLs break.
PASSWORD = "p@ss/w:rd#1"


class PostgreSQL:
    """A PostgreSQL server on loopback, by default on a free port of 127.0.0.1.

    As root it runs as `postgres` or `nobody`, since it refuses root.
    """

    def __init__(self, host: str = HOST, port: int | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="al-postgres-"))
        self.host, self.port = host, port or free_port()
        self.identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            users = {entry.pw_name: entry for entry in pwd.getpwall()}
            user = users.get("postgres", users.get("nobody"))
            assert user is not None, "PostgreSQL refuses to run as root, and there is neither postgres nor nobody"
            self.identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            shutil.chown(self.folder, user.pw_uid, user.pw_gid)
        data, secret = self.folder / "data", self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run("initdb", "-D", str(data), "-U", "al", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync")
        self.start()

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses={self.host} -c fsync=off"
        data, log = str(self.folder / "data"), str(self.folder / "log")
        self._run("pg_ctl", "start", "-w", "-D", data, "-l", log, "-o", options)

    def crash(self) -> None:
        """End all its processes as they are; the next start recovers from the log."""
        self._run("pg_ctl", "stop", "-m", "immediate", "-D", str(self.folder / "data"))

    def url(self, database: str) -> str:
        parts = sa.URL.create("postgresql", "al", PASSWORD, self.host, self.port, database)
        return parts.render_as_string(hide_password=False)

    def new_database(self, like: str | None = None) -> str:
        """Return the URL of a new database, empty or a copy of the one with another URL."""
        engine = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            name = f"ledger_{connection.execute(sa.text('SELECT count(*) FROM pg_database')).scalar_one()}"
            template = "" if like is None else f" TEMPLATE {sa.make_url(like).database}"
            connection.execute(sa.text(f"CREATE DATABASE {name}{template}"))
        engine.dispose()
        return self.url(name)

    def stop(self) -> None:
        self.crash()
        shutil.rmtree(self.folder)

    def _run(self, *command: str) -> None:
        # A server started by pg_ctl would inherit a pipe and keep it open: its output goes to a file.
        with (self.folder / "output").open("ab") as output:
            done = subprocess.run(
                command, cwd=self.folder, stdout=output, stderr=output, timeout=120, check=False, **self.identity
            )
        assert done.returncode == 0, (self.folder / "output").read_text()


def run_postgresql(host: str = HOST, port: int | None = None) -> Iterator[PostgreSQL]:
    if not (shutil.which("initdb") and shutil.which("pg_ctl")):
        pytest.skip("initdb and pg_ctl are not on the PATH (Debian: apt-get install postgresql, and add its bin)")
    pytest.importorskip("psycopg2", reason="the PostgreSQL driver is not installed (the extra `postgres`)")
    server = PostgreSQL(host, port)
    yield server
    server.stop()

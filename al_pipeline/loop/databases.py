"""Databases of the servers beside us, Dagster's and Label Studio's: dumped while they are used, filled where empty."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import yaml
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from al_pipeline.core.errors import ALError, InputError
from al_pipeline.ledger.copies import copy_sqlite
from al_pipeline.ledger.database import PATIENCE, shown

if TYPE_CHECKING:
    from al_pipeline.settings import Settings

DAGSTER, LABEL_STUDIO = "dagster", "labelstudio"
# Where dagster.yaml may name a class of a storage, ours of `servers.open_postgres` for example, with its configuration.
STORAGES = ("run_storage", "event_log_storage", "schedule_storage")
# Who restores is seldom who the rows belonged to: ours is one user for all.
WITHOUT_OWNERS = ("--no-owner", "--no-privileges")


class BackupError(ALError):
    """A database that cannot be dumped or filled."""


@dataclass(frozen=True)
class Database:
    """A database of somebody else's tables.

    Parameters
    ----------
    name : str
        Names its dump: ``dagster`` or ``labelstudio``.
    url : str
        SQLAlchemy URL, of PostgreSQL or a SQLite file; its password never gets into a command line or an error.
    origin : str
        Where the URL was given, for errors.

    Raises
    ------
    InputError
        It is no such URL.
    """

    name: str
    url: str = field(repr=False)
    origin: str

    def __post_init__(self) -> None:
        try:
            kind = sa.make_url(self.url).get_backend_name()
        except ArgumentError:
            # SQLAlchemy's message may repeat the whole URL.
            kind = ""
        if kind not in {"postgresql", "sqlite"}:
            raise InputError(
                f"The URL of the database of {self.name} ({self.origin}) cannot be used: write "
                "postgresql://user:password@host/database, special characters in the password percent-encoded, or "
                "sqlite:////path/file"
            )

    @property
    def parsed(self) -> sa.URL:
        """The URL in its parts."""
        return sa.make_url(self.url)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file."""
        return self.parsed.get_backend_name() == "sqlite"

    @property
    def file(self) -> str:
        """Name of its dump."""
        return f"{self.name}.sqlite3" if self.is_sqlite else f"{self.name}.dump"

    def bytes(self) -> int:
        """Return how large it is; its dump is hardly larger.

        Raises
        ------
        BackupError
            It cannot be reached.
        """
        if self.is_sqlite:
            return self._path().stat().st_size
        with self._connection() as connection:
            return connection.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one()

    def tables(self) -> int:
        """Return how many tables it has; a SQLite file that is not there has none.

        Raises
        ------
        BackupError
            It cannot be reached.
        """
        if self.is_sqlite and not Path(str(self.parsed.database)).exists():
            return 0
        with self._connection() as connection:
            inspector = sa.inspect(connection)
            schemas = [None] if self.is_sqlite else inspector.get_schema_names()
            return sum(len(inspector.get_table_names(each)) for each in schemas if each != "information_schema")

    def server(self) -> int:
        """Return the first number of the server's version, 0 of SQLite.

        Raises
        ------
        BackupError
            It cannot be reached.
        """
        if self.is_sqlite:
            return 0
        with self._connection() as connection:
            return int(connection.execute(sa.text("SHOW server_version_num")).scalar_one()) // 10_000

    def check_tool(self, tool: str, least: int | None = None) -> int:
        """Return the first number of the version of PostgreSQL's tool, 0 where SQLite needs none.

        Parameters
        ----------
        tool : str
            ``pg_dump`` or ``pg_restore``.
        least : int, optional
            The oldest that will do; by default the server's own version.

        Raises
        ------
        BackupError
            It is missing or too old, or the server cannot be reached.
        """
        if self.is_sqlite:
            return 0
        least = self.server() if least is None else least
        install = f"install PostgreSQL's client of version {least} or newer (Debian: postgresql-client-{least})"
        if shutil.which(tool) is None:
            raise BackupError(f"{tool} is not on the PATH, and {self.name} needs it ({self.origin}): {install}")
        told = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False).stdout.strip()
        found = re.search(r"\d+", told)
        if found is None or int(found[0]) < least:
            raise BackupError(
                f"{told or tool} is older than what {self.name} needs, PostgreSQL {least} ({self.origin}): {install}, "
                "and put it first on the PATH"
            )
        return int(found[0])

    def dump(self, file: Path) -> None:
        """Write all of it as of one moment into a file, readable by its owner alone; it may be written to meanwhile.

        Raises
        ------
        BackupError, LedgerError
            It cannot be reached or read, or the disk is full.
        """
        file.touch(mode=0o600)
        if self.is_sqlite:
            copy_sqlite(self._path(), file)
        else:
            self._run("pg_dump", "--format=custom", *WITHOUT_OWNERS, f"--file={file}")

    def fill(self, file: Path) -> None:
        """Fill it, which is empty, from a dump: all of it, or nothing.

        Raises
        ------
        BackupError, LedgerError
            It cannot be written, or PostgreSQL refuses the dump.
        """
        if self.is_sqlite:
            path = Path(str(self.parsed.database))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            copy_sqlite(file, path)
        else:
            self._run("pg_restore", "--single-transaction", "--exit-on-error", *WITHOUT_OWNERS, str(file))

    def _path(self) -> Path:
        path = Path(str(self.parsed.database))
        if not path.is_file():
            raise BackupError(f"There is no database of {self.name} at {path} ({self.origin}): check the path")
        return path

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        arguments = {} if self.is_sqlite else {"connect_timeout": PATIENCE, "application_name": "al_pipeline"}
        try:
            engine = sa.create_engine(self.parsed, connect_args=arguments)
        except (ModuleNotFoundError, NoSuchModuleError) as error:
            raise InputError(
                f"the driver of {self.parsed.drivername} is missing: uv pip install 'al_pipeline[postgres]'"
            ) from error
        try:
            with engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            why = (str(error.orig).strip() or type(error.orig).__name__).splitlines()[0]
            raise BackupError(
                f"The database of {self.name}, {shown(self.parsed)} ({self.origin}), could not be read: {why}. Check "
                "that its server runs and that the URL names it"
            ) from error
        finally:
            engine.dispose()

    def _run(self, tool: str, *arguments: str) -> None:
        # A command line is readable by every user of the machine: the password goes through the environment.
        query = dict(self.parsed.query)
        password = query.pop("password", None) or self.parsed.password
        bare = self.parsed.set(drivername="postgresql", query=query)
        # `set` takes None for "leave it".
        bare = sa.URL.create(bare.drivername, bare.username, None, bare.host, bare.port, bare.database, bare.query)
        command = [tool, "--no-password", f"--dbname={bare.render_as_string(hide_password=False)}", *arguments]
        environment = os.environ | ({"PGPASSWORD": str(password)} if password else {})
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        except OSError as error:
            raise BackupError(f"{tool} could not be started for {self.name}: {error.strerror}") from error
        if done.returncode:
            told = done.stderr.strip().splitlines() or ["it told nothing"]
            raise BackupError(f"{tool} failed for {self.name}, {shown(bare)} ({self.origin}): {told[0]}")


def databases_of(settings: "Settings") -> list[Database]:
    """Return the databases of Label Studio and Dagster that are not in the home, in the order of dumping.

    Raises
    ------
    InputError
        What names them cannot be used.
    """
    return [each for each in (_label_studios(settings), _dagsters(settings)) if each is not None]


def _label_studios(settings: "Settings") -> Database | None:
    url = settings.label_studio_database_url
    return None if url is None else Database(LABEL_STUDIO, url.get_secret_value(), "AL_LABEL_STUDIO_DATABASE_URL")


def _dagsters(settings: "Settings") -> Database | None:
    """Return where `dagster.yaml` has Dagster's history, if that is PostgreSQL. Dagster itself would make tables."""
    path = Path(os.environ.get("DAGSTER_HOME") or settings.dagster_home) / "dagster.yaml"
    document: dict[str, Any] = (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}
    storage = document.get("storage") or {}
    classes = [storage.get("custom"), *(document.get(name) for name in STORAGES)]
    configs = [storage.get("postgres"), *(each.get("config") for each in classes if each)]
    config = next((each for each in configs if each and each.keys() & {"postgres_db", "postgres_url"}), None)
    if config is None:
        return None
    config = _resolved(config, path)
    if "postgres_url" in config:
        return Database(DAGSTER, config["postgres_url"], str(path))
    parts = config["postgres_db"]
    url = sa.URL.create(
        "postgresql",
        parts["username"],
        parts["password"],
        parts["hostname"],
        int(parts.get("port", 5432)),
        parts["db_name"],
        parts.get("params") or {},
    )
    return Database(DAGSTER, url.render_as_string(hide_password=False), str(path))


def _resolved(value: Any, path: Path) -> Any:
    """Return a configuration with the values of the variables that it names."""
    if not isinstance(value, dict):
        return value
    if value.keys() == {"env"}:
        if value["env"] not in os.environ:
            raise InputError(f"{value['env']} is not set, and {path} takes Dagster's database from it: set it")
        return os.environ[value["env"]]
    return {name: _resolved(each, path) for name, each in value.items()}

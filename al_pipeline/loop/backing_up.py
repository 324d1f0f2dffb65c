"""A deployment's backup: a folder with its packed home and a dump of each database that is not in it."""

import hashlib
import json
import shutil
import tarfile
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from al_pipeline.core.data.places import Root
from al_pipeline.core.errors import ALError, InputError
from al_pipeline.core.files import TEMPORARY, FileError, private_folder, write_private
from al_pipeline.ledger.copies import count_rows, fill_ledger
from al_pipeline.ledger.verify import verify
from al_pipeline.loop.databases import LABEL_STUDIO, BackupError, Database
from al_pipeline.loop.packing import LEDGER, contents, pack
from al_pipeline.loop.relocating import check_new_home, unpack

if TYPE_CHECKING:
    from al_pipeline.settings import Settings

HOME, MANIFEST, FORMAT = "home.tar", "backup.json", 1
CHUNK = 1 << 20


@dataclass(frozen=True)
class File:
    """A file of a backup; `tool` is the version of pg_dump that wrote it, and of pg_restore that it needs, or 0."""

    sha256: str
    bytes: int
    tool: int = 0


@dataclass
class Backup:
    """What is in a backup.

    Attributes
    ----------
    made_at : str
        ISO 8601, UTC.
    files : dict of str to File
        By name: the packed home, and the dumps.
    databases : dict of str to str
        Names of the dumped databases, and their files.
    ledger : dict of str to int
        What the ledger in it holds, counted by its check.
    problems : list of str
        What that check found.
    remarks : list of str
        What is not in it, a sentence each.
    """

    made_at: str
    files: dict[str, File] = field(default_factory=dict)
    databases: dict[str, str] = field(default_factory=dict)
    ledger: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    al_pipeline: str = field(default_factory=lambda: version("al_pipeline"))
    format: int = FORMAT


def backup(
    settings: "Settings",
    folder: Path,
    databases: Sequence[Database],
    *,
    images: bool = False,
    newest_checkpoint: bool = False,
) -> Backup:
    """Write a backup into a new folder, whole or not at all; the loop and the people may go on.

    The order is that of `packing`: the ledger, Label Studio, Dagster, then the files of rounds, which are written
    before the ledger names them, and never change. So what is older never names what is not there.

    Parameters
    ----------
    settings : Settings
    folder : Path
        Not there yet, or empty; it is readable by its owner alone.
    databases : sequence of Database
        Those of Label Studio and Dagster that are not in the home, as `databases_of` returns them.
    images, newest_checkpoint : bool
        As of `packing.pack`.

    Raises
    ------
    InputError
        The folder is not empty, there is no home, or as of `pack`.
    BackupError
        A database cannot be reached, PostgreSQL's tools are missing or too old, or there is not enough room.
    LedgerError, FileError
        As of `pack`.
    """
    folder = folder.expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} (DIR) is not empty: name a folder that is not there yet, one for each backup")
    if folder.is_relative_to(settings.home.resolve()):
        raise InputError(f"{folder} (DIR) lies in the home {settings.home}, which it is to outlive: name another place")
    tools = {database.name: database.check_tool("pg_dump") for database in databases}
    _check_room(settings, folder, databases)
    with _new_folder(folder) as part:
        made = Backup(datetime.now(UTC).isoformat(timespec="seconds"))
        beside = {part / database.file: database for database in databases}
        packed = pack(settings, part / HOME, images=images, newest_checkpoint=newest_checkpoint, beside=beside)
        made.remarks = packed.remarks
        made.files[HOME] = _described(part / HOME)
        for file, database in beside.items():
            made.files[file.name] = _described(file, tools[database.name])
            made.databases[database.name] = file.name
        report = _checked(part)
        made.ledger, made.problems = dict(report.counts), list(report.problems)
        write_private(part / MANIFEST, json.dumps(asdict(made), indent=1))
    made.remarks += _by_hand(settings, folder, made)
    return made


def restore(settings: "Settings", folder: Path, databases: Sequence[Database], *, images: Root | None = None) -> Backup:
    """Fill an empty deployment from a backup: its databases, its ledger wherever the settings have it, and its home.

    Nothing is written before all files have their hashes and all places are empty. The home comes last: a deployment
    that has none was not restored.

    Parameters
    ----------
    settings : Settings
        Of the deployment to fill.
    folder : Path
        As `backup` writes it.
    databases : sequence of Database
        Those of Label Studio and Dagster here.
    images : Path or Place, optional
        Where the images lie here; by default those of the backup, or where they were.

    Raises
    ------
    InputError
        There is no backup, it is damaged, or what is to be filled holds something.
    BackupError, LedgerError, FileError
        A database cannot be written, a tool is missing, the disk is full.
    """
    made, home = read(folder), settings.home
    targets = _targets(made, databases)
    check_new_home(home)
    _check_empty(settings, targets)
    _check_artifacts(settings)
    for name, file in made.databases.items():
        targets[name].check_tool("pg_restore", made.files[file].tool)
    _check_space(home, made.files[HOME].bytes, "the home")
    _check_hashes(folder, made)

    def fill(unpacked: Path) -> None:
        filled: list[str] = []
        try:
            for name, file in made.databases.items():
                targets[name].fill(folder / file)
                filled.append(name)
            if settings.ledger_url != f"sqlite:///{home / LEDGER}":
                fill_ledger(unpacked / LEDGER, settings.ledger_url)
                for path in unpacked.glob(f"{LEDGER}*"):
                    path.unlink()
        except ALError as error:
            again = f". Filled already: {', '.join(filled)}: drop and create that before the next try"
            raise BackupError(f"{error}{again if filled else ''}") from error

    unpack(folder / HOME, home, images=images, before=fill)
    return made


def read(folder: Path) -> Backup:
    """Return what a backup says about itself.

    Raises
    ------
    InputError
        There is none, it was not finished, or another version made it.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text())
        if found["format"] != FORMAT:
            raise InputError(
                f"The backup {folder} (DIR) has the format {found['format']}, which this version does not know "
                f"({FORMAT} is its newest): install al_pipeline {found.get('al_pipeline', 'newer')}"
            )
        made = Backup(**found)
        made.files = {name: File(**each) for name, each in found["files"].items()}
    except (FileNotFoundError, NotADirectoryError):
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder} (DIR): name one that `al backup` has written") from None
        raise InputError(f"{folder} (DIR) has no {MANIFEST}: it is no backup, or one that was not finished") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The backup {folder} (DIR) is damaged: its {MANIFEST} cannot be read") from error
    names = {HOME, *made.databases.values()}
    if made.files.keys() != names or any(Path(name).name != name for name in names):
        raise InputError(f"The backup {folder} (DIR) is damaged: its {MANIFEST} names {sorted(made.files)}")
    return made


def _targets(made: Backup, databases: Sequence[Database]) -> dict[str, Database]:
    """Return what is to be filled, by name: the same databases as were dumped, of the same kinds."""
    here = {database.name: database for database in databases}
    for name, file in made.databases.items():
        if name not in here:
            where = "AL_LABEL_STUDIO_DATABASE_URL" if name == LABEL_STUDIO else "dagster.yaml in DAGSTER_HOME"
            raise InputError(f"The backup has {file}, and no database of {name} is known here: name it in {where}")
        if here[name].file != file:
            raise InputError(
                f"The backup has {file}, and the database of {name} here ({here[name].origin}) is of the other kind, "
                "PostgreSQL or SQLite: name one of the same kind"
            )
    if others := sorted(here.keys() - made.databases.keys()):
        raise InputError(
            f"The backup has no dump of {', '.join(others)}, which {here[others[0]].origin} names: what it knows would "
            "be missing. Restore with the settings that were backed up, or fill it by hand and unset that first"
        )
    return here


def _check_empty(settings: "Settings", targets: dict[str, Database]) -> None:
    for target in targets.values():
        if tables := target.tables():
            raise InputError(
                f"The database of {target.name} ({target.origin}) holds {tables} tables, and nothing is overwritten: "
                "stop its server, and drop and create it (dropdb, createdb) or name an empty one"
            )
    if held := {name: count for name, count in count_rows(settings.ledger_url).items() if count}:
        told = ", ".join(f"{count:,} {name}" for name, count in held.items())
        raise InputError(
            f"The ledger here (AL_DATABASE_URL, or that of the home) holds {told}, and nothing is overwritten: drop "
            "and create its database, or name an empty one"
        )


def _check_artifacts(settings: "Settings") -> None:
    place = settings.artifacts
    if place is not None and (held := next((entry.key for entry in place.entries()), None)):
        raise InputError(
            f"{place} (AL_ARTIFACTS) is not empty, {held} is in it, and nothing is overwritten: name an empty place"
        )


def _check_room(settings: "Settings", folder: Path, databases: Sequence[Database]) -> None:
    parts = contents(settings)
    # The copies of the home's own databases lie beside the archive until they are in it.
    twice = sum(part.bytes for part in parts if part.name in {LEDGER, "dagster", "labelstudio"})
    beside = sum(database.bytes() for database in databases)
    _check_space(folder, sum(part.bytes for part in parts if part.packed) + twice + beside, "the backup")


def _check_space(place: Path, needed: int, what: str) -> None:
    there = next(each for each in (place, *place.parents) if each.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise BackupError(
            f"There is not enough room for {what} in {place}: {free / 1e9:.2f} GB are free, and up to "
            f"{needed / 1e9:.2f} GB are needed. Make room, or name another place"
        )


def _check_hashes(folder: Path, made: Backup) -> None:
    for name, file in made.files.items():
        found = _described(folder / name, file.tool)
        if found != file:
            raise InputError(
                f"The backup {folder} (DIR) is damaged: {name} has {found.bytes:,} bytes and another hash than the "
                f"{file.bytes:,} that were written. Take another backup; nothing was restored"
            )


def _described(file: Path, tool: int = 0) -> File:
    digest, size = hashlib.sha256(), 0
    try:
        with file.open("rb") as data:
            while part := data.read(CHUNK):
                digest.update(part)
                size += len(part)
    except FileNotFoundError:
        raise InputError(f"The backup {file.parent} (DIR) is damaged: it has no {file.name}") from None
    return File(digest.hexdigest(), size, tool)


def _checked(folder: Path) -> Any:
    """Return what the check of the ledger says of the copy in a backup, read back from there."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:
        with tarfile.open(folder / HOME) as tar:
            tar.extract(LEDGER, temporary, filter="data")
        return verify(f"sqlite:///{Path(temporary) / LEDGER}")


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder that gets the name `folder` if all goes well, and goes if not; a volume is filled as it is."""
    fixed = folder.exists()
    part = folder if fixed else folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    try:
        private_folder(part)
        yield part
        if not fixed:
            part.rename(folder)
    except BaseException as error:
        for path in part.iterdir() if part.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not fixed:
            shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError):
            raise FileError(f"The backup {folder} could not be written: {error.strerror}. Make room") from error
        raise


def _by_hand(settings: "Settings", folder: Path, made: Backup) -> Iterator[str]:
    """Yield what is to be done for a Label Studio that is not in the home."""
    if not settings.label_studio_url:
        return
    if LABEL_STUDIO not in made.databases:
        yield (
            "Back up its database by hand, now that the ledger is copied (before would lose answers): set "
            "AL_LABEL_STUDIO_DATABASE_URL and do this again, or where its database is run\n"
            f"    pg_dump --format=custom --no-owner --no-privileges --file={folder / LABEL_STUDIO}.dump DATABASE\n"
            f"    sqlite3 label_studio.sqlite3 \".backup '{folder / LABEL_STUDIO}.sqlite3'\"   (if it has SQLite)"
        )
        return
    yield "It holds the logins of Label Studio and what people did there: keep it as you keep those"
    yield (
        "What people uploaded to Label Studio themselves lies in its data folder and is not in it; the loop puts "
        "nothing there. With Docker Compose: docker compose cp label-studio:/label-studio/data DIR"
    )

"""A home as one file: what it knows, without what can be made again. It may be in use meanwhile."""

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast

import pandas as pd
from pydantic import SecretStr

from al_pipeline.core.data.places import Place
from al_pipeline.core.errors import InputError
from al_pipeline.core.files import TEMPORARY, content, whole_file
from al_pipeline.ledger.copies import copy_ledger, copy_sqlite, how_far
from al_pipeline.ledger.schema import REVISION
from al_pipeline.loop.artifact_bucket import COPY_OF
from al_pipeline.loop.databases import DAGSTER, LABEL_STUDIO, Database
from al_pipeline.loop.deployment import Artifacts
from al_pipeline.loop.refined import needed
from al_pipeline.settings.origins import variable_of

if TYPE_CHECKING:
    from al_pipeline.settings import Settings

LEDGER, IMAGES, PUBLISHED = "ledger.sqlite3", "images", "published/images"
# Of a home; logs and the cache of decoded images are made again. The login of its Label Studio belongs to the database
# that it is the login of.
PARTS = (
    "settings.toml",
    "servers.json",
    "webhook_secret",
    "page_token",
    "demo",
    "learning_curve.png",
    "artifacts",
    "dagster",
)
PARTS += ("labelstudio",)
LEFT_OUT = {
    "dagster/logs",
    "dagster/.logs_queue",
    "dagster/workspace.yaml",
    "artifacts/refining",
    "artifacts/image_pool.arrow",
    # An archive is nobody's copy.
    f"artifacts/{COPY_OF}",
}
# The last file of an archive says what all others are; the number grows when older versions cannot read it.
INDEX, FORMAT = "home.json", 1
DATABASES, THEIR_FILES = (".sqlite3", ".db"), ("-wal", "-shm", "-journal")
# Rounds that go on between the copies of two databases are waited for.
TRIES = 5


@dataclass
class Packed:
    """What is in an archive.

    Attributes
    ----------
    files : dict of str to str
        SHA-256 by name.
    bytes : int
        Together, unpacked.
    remarks : list of str
        What is not in it, a sentence each.
    """

    files: dict[str, str] = field(default_factory=dict)
    bytes: int = 0
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """A file or folder of a home, and whether it goes into an archive."""

    name: str
    files: int
    bytes: int
    packed: bool


def contents(settings: "Settings") -> list[Part]:
    """Return what lies in a home, the largest part first.

    Raises
    ------
    InputError
        There is no home.
    """
    home = _home(settings)
    names = {path.name: list(_files(path)) for path in home.iterdir()}
    known = {*PARTS, LEDGER}
    parts = [
        Part(name, len(files), sum(map(_bytes, files)), name in known)
        for name, files in names.items()
        if not name.endswith(THEIR_FILES)
    ]
    return sorted(parts, key=lambda part: (-part.bytes, part.name))


def pack(
    settings: "Settings",
    file: Path,
    *,
    images: bool = False,
    newest_checkpoint: bool = False,
    beside: "Mapping[Path, Database] | None" = None,
) -> Packed:
    """Write a home into a tar file, compressed if its name ends with .gz or .tgz, readable by its owner alone.

    Databases are copied by their own backup, so the loop may go on; the copies are made again if a round went on
    between them. A PostgreSQL ledger becomes a SQLite file.

    Parameters
    ----------
    settings : Settings
    file : Path
    images : bool
        Take along the images, too.
    newest_checkpoint : bool
        Leave out all checkpoints but the newest, and the refined network that rounds start from.
    beside : mapping of Path to Database, optional
        Files beside the archive, and the databases out of the home that are dumped into them, with the others.

    Raises
    ------
    InputError
        There is no home or ledger, Dagster keeps its history elsewhere, or the file cannot be used.
    LedgerError, BackupError, FileError
        A database cannot be copied, the file cannot be written.
    """
    home, packed, beside = _home(settings), Packed(), beside or {}
    names = {database.name for database in beside.values()}
    _check(settings, home, file, images=images, history=DAGSTER not in names)
    kind = _kind(file)
    with ExitStack() as stack:
        whole = stack.enter_context(whole_file(file, "The archive", mode=0o600))
        temporary = tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.", suffix=TEMPORARY)
        copies = _copy_databases(settings, home, Path(stack.enter_context(temporary)), beside)
        raw = stack.enter_context(whole.open("wb"))
        # Pictures and networks are as small as they get: little is tried.
        out = stack.enter_context(gzip.GzipFile("", "wb", 1, raw)) if kind == "gz" else raw
        tar = stack.enter_context(tarfile.open(fileobj=cast("IO[bytes]", out), mode="w", format=tarfile.PAX_FORMAT))
        for name, source in _members(settings, home, copies, images=images, newest_checkpoint=newest_checkpoint):
            _add(tar, name, source, packed)
        index = json.dumps(_index(settings, home, packed, images=images), indent=1).encode()
        info = tarfile.TarInfo(INDEX)
        info.size = len(index)
        tar.addfile(info, io.BytesIO(index))
    packed.remarks += _remarks(settings, home, names, images=images, newest_checkpoint=newest_checkpoint)
    return packed


def _home(settings: "Settings") -> Path:
    if not settings.home.is_dir():
        raise InputError(f"There is no home {settings.home} (--home, AL_HOME): name the one that `al up` made")
    return settings.home


def _check(settings: "Settings", home: Path, file: Path, *, images: bool, history: bool) -> None:
    _kind(file)
    if file.resolve().is_relative_to(home):
        raise InputError(f"{file} (FILE) lies in the home {home} that is to be packed: name a file elsewhere")
    if settings.database_url is None and not (home / LEDGER).exists():
        raise InputError(f"There is no ledger in {home}: run `al up`, or name another home (--home, AL_HOME)")
    if images and isinstance(settings.images, Place):
        raise InputError(
            f"The images lie in the bucket {settings.images} (AL_IMAGES), and stay there: pack without --images"
        )
    if images and (not isinstance(settings.images, Path) or not settings.images.is_dir()):
        raise InputError(f"The folder of images {settings.images} (AL_IMAGES) is not there: pack without --images")
    elsewhere = os.environ.get("DAGSTER_HOME")
    if not history:
        return
    if not (home / "dagster" / "history").exists() or (elsewhere and Path(elsewhere).resolve() != home / "dagster"):
        raise InputError(
            f"Dagster's history is not in {home / 'dagster'} (DAGSTER_HOME {elsewhere or 'is not set'}), so a home of "
            "this archive would not know its rounds. If `al up` never ran here, it has to first; of a deployment on "
            "PostgreSQL `al backup` takes all databases"
        )


def _kind(file: Path) -> str:
    suffix = "".join(file.suffixes[-2:]).lower()
    for ending, kind in ((".tar.gz", "gz"), (".tgz", "gz"), (".tar", "")):
        if suffix.endswith(ending):
            return kind
    raise InputError(f"{file} (FILE): name a file that ends with .tar or .tar.gz")


def _copy_databases(
    settings: "Settings", home: Path, folder: Path, beside: "Mapping[Path, Database]"
) -> dict[str, Path]:
    """Return a consistent copy of each database by its name in the archive; those beside it are in their files.

    The ledger goes first, then Label Studio, then Dagster. An answer that is given meanwhile is in Label Studio's copy
    and not in the ledger's, and the next pull brings it, as it does after any minute without a look. The other way
    round the ledger would know answers whose tasks Label Studio shows as open: people would be asked again. A round
    that is planned or pushed meanwhile would be in Label Studio's copy alone, and be planned a second time: then all is
    copied anew. Dagster's history is never older than the ledger, so no round that was planned lacks its run.
    """
    found = [path for part in ("labelstudio", "dagster") for path in _files(home / part) if _is_database(path)]
    for _ in range(TRIES):
        mark, copies = how_far(settings.ledger_url), {LEDGER: folder / LEDGER}
        for old in folder.iterdir():
            old.unlink()
        copy_ledger(settings.ledger_url, copies[LEDGER])
        for file, database in beside.items():
            file.unlink(missing_ok=True)
            database.dump(file)
        for number, path in enumerate(found):
            name = path.relative_to(home).as_posix()
            copies[name] = folder / f"{number}.db"
            copy_sqlite(path, copies[name])
        if how_far(settings.ledger_url) == mark:
            return copies
    raise InputError(
        f"Rounds go on in {home} faster than its databases can be copied ({TRIES} tries): pack it between two rounds"
    )


def _bytes(path: Path) -> int:
    """Return the size of a file, 0 where the loop has taken it away since it was listed."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def _is_database(path: Path) -> bool:
    return path.suffix in DATABASES and path.name != ".db" and path.stat().st_size > 0


def _files(path: Path) -> Iterator[Path]:
    """Yield the regular files of a folder or the one that it is, in order; nothing that is still being written."""
    if path.is_dir() and not path.is_symlink():
        for each in sorted(path.iterdir()):
            yield from _files(each)
    elif path.is_file() and not path.is_symlink() and not path.name.endswith(TEMPORARY):
        yield path


def _members(
    settings: "Settings", home: Path, copies: dict[str, Path], *, images: bool, newest_checkpoint: bool
) -> Iterator[tuple[str, Path]]:
    """Yield what goes into the archive: names there, and files here."""
    yield from copies.items()
    artifacts = Artifacts.of(settings)
    networks, newest = (artifacts.checkpoints, artifacts.refined), needed(artifacts)
    for path in (path for part in PARTS for path in _files(home / part)):
        name = path.relative_to(home).as_posix()
        network = path.parent in networks and path.suffix == ".safetensors"
        old = newest_checkpoint and network and path not in newest
        left_out = any(name == each or name.startswith(f"{each}/") for each in LEFT_OUT) or "/compute_logs/" in name
        if not (old or left_out or name in copies or name.endswith(THEIR_FILES)):
            yield name, content(path)
    manifest = pd.read_parquet(artifacts.image_pool) if artifacts.image_pool.exists() else None
    usable = set[str]() if manifest is None else set(manifest.loc[manifest["split"] != "excluded", "sample_id"])
    for path in _files(settings.published_images):
        # The others are published again from the images; of one that has left their folder this is all there is.
        if path.stem not in usable:
            yield f"{PUBLISHED}/{path.name}", path
    if images and manifest is not None and isinstance(settings.images, Path):
        for uri in map(Path, manifest["uri"]):
            if (
                uri.is_relative_to(settings.images)
                and uri.is_file()
                and (settings.follow_links or not uri.is_symlink())
            ):
                yield f"{IMAGES}/{uri.relative_to(settings.images).as_posix()}", uri


class _Hashed:
    """Reads a file, and hashes what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _add(tar: tarfile.TarFile, name: str, source: Path, packed: Packed) -> None:
    try:
        file = source.open("rb")
    except FileNotFoundError:
        # What the loop has taken away since it was listed is not of this moment.
        return
    with file:
        status = os.fstat(file.fileno())
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = status.st_size, int(status.st_mtime), stat.S_IMODE(status.st_mode) & 0o644
        hashed = _Hashed(file)
        tar.addfile(info, cast("IO[bytes]", hashed))
    packed.files[name], packed.bytes = hashed.digest.hexdigest(), packed.bytes + info.size


def _index(settings: "Settings", home: Path, packed: Packed, *, images: bool) -> dict[str, Any]:
    parts = pd.Series([PurePosixPath(name).parts[0] for name in packed.files], dtype=object).value_counts()
    return {
        "format": FORMAT,
        "al_pipeline": version("al_pipeline"),
        "ledger": REVISION,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "home": str(home),
        "images": None if settings.images is None else str(settings.images),
        "images_packed": images,
        "counts": {str(name): int(count) for name, count in parts.items()},
        "files": packed.files,
    }


def _remarks(
    settings: "Settings", home: Path, beside: set[str], *, images: bool, newest_checkpoint: bool
) -> Iterator[str]:
    """Yield what is not in the archive nor `beside` it, and has to be there all the same."""
    given = settings.given()
    if not settings.ledger_url.startswith("sqlite"):
        yield "The PostgreSQL ledger is a SQLite file in it: take AL_DATABASE_URL back where it is unpacked"
    of_ledger = ("database_url",)
    if secrets := [variable_of(n) for n, value in given.items() if isinstance(value, SecretStr) and n != of_ledger]:
        yield f"Secrets that were given are not in it: set {', '.join(secrets)} where it is unpacked"
    if (home / "labelstudio").exists():
        yield "It holds the login of the home's own Label Studio and what people did there: keep it as you keep those"
    if settings.label_studio_url and LABEL_STUDIO not in beside:
        yield f"The Label Studio at {settings.label_studio_url} is not in it, and stays where it is"
    if isinstance(settings.images, Place):
        yield f"The images stay in {settings.images}: set its endpoint and keys in the environment where it is unpacked"
    elif not images and settings.images is not None:
        yield f"The images are not in it: copy {settings.images}, and name its new place with --images"
    if settings.published is not None:
        yield f"What people are shown stays in {settings.published}: both homes would show it, so one alone is to go on"
    if settings.artifacts is not None:
        yield f"What rounds write stays in {settings.artifacts} too: name an empty place to go on from the archive"
    if newest_checkpoint:
        yield "Of the checkpoints the newest alone is in it"
    paths = {name: Path(str(given[name])) for name in given if name not in {("images",), ("home",)}}
    for name, path in paths.items():
        if path.is_absolute() and path.exists() and not path.is_relative_to(home):
            yield f"{path} ({'.'.join(name)}) lies outside of the home and is not in it"

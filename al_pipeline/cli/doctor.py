"""`al doctor`: look at everything that can keep the loop from running, and say what to do about it."""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer
from rich.markup import escape

from al_pipeline.cli.session import Home, Images, configure, in_words_given, say
from al_pipeline.core.errors import ALError
from al_pipeline.core.files import private_folder

if TYPE_CHECKING:
    from al_pipeline.settings import Settings

# A checkpoint is 45 MB (ResNet-18) and each round keeps one; the first start of Label Studio installs about 1 GB.
ENOUGH_DISK_GB = 5
# Seconds by which clocks may differ: pulls look further back than that.
SKEW = 5.0
# CI has it; docker-compose.yml has a newer one.
OLDEST_POSTGRESQL = 15
# In AL_HOME.
SECRETS = ("labelstudio/credentials.json", "webhook_secret")
KNOWN_PASSWORDS = {"", "postgres", "password", "secret", "admin", "changeme", "dagster", "labelstudio"}
PACKAGES = ("dagster", "dagster-webserver", "torch", "torchvision", "label-studio-sdk")


@dataclass(frozen=True)
class Finding:
    """One thing looked at: fine (True), worth knowing (None) or to be mended (False)."""

    subject: str
    ok: bool | None
    text: str


def doctor(home: Home = None, images: Images = None) -> None:
    """Check settings, disk, ports, clocks, Dagster, database, buckets, Label Studio and images, and say what to fix."""
    signs = {True: "[green]ok[/green]  ", None: "[yellow]note[/yellow]", False: "[red]fix[/red] "}
    well = True
    for finding in examine(lambda: configure(home, images)):
        say(f"{signs[finding.ok]} {finding.subject}: {escape(in_words_given(finding.text))}")
        well = well and finding.ok is not False
    if not well:
        raise typer.Exit(1)


def examine(load: Callable[[], "Settings"]) -> Iterator[Finding]:
    """Look at the settings and, if they can be used, at everything else; what takes longest comes last."""
    try:
        settings = load()
    except ALError as error:
        yield Finding("settings", False, str(error))
        return
    kept = ", ".join(".".join(name) for name in settings.kept())
    yield Finding("settings", True, f"home {settings.home}" + (f", which keeps {kept}" if kept else ""))
    looks = {"versions": _versions, "disk": _disk, "privacy": _privacy, "ports": _ports}
    looks |= {"Dagster": _dagster, "ledger": _ledger, "buckets": _buckets, "Label Studio": _label_studio}
    looks |= {"images": _images, "last scan": _changes}
    looks |= {"tracking": _tracking} if settings.tracking.uri else {}
    for subject, look in looks.items():
        try:
            yield from look(settings)
        except ALError as error:
            yield Finding(subject, False, str(error))


def _versions(settings: "Settings") -> Iterator[Finding]:
    numbers = {name: version(name) for name in PACKAGES}
    listed = ", ".join(f"{name} {number}" for name, number in numbers.items())
    if numbers["dagster"] != numbers["dagster-webserver"]:
        yield Finding("versions", False, f"dagster and dagster-webserver differ: {listed}; run `make setup` again")
    else:
        yield Finding("versions", True, f"Python {python_version()}, {listed}")


def _disk(settings: "Settings") -> Iterator[Finding]:
    """Look at each disk that is written to: in containers volumes of their own may lie below the home."""
    home, seen = settings.home, set()
    places = {home: "AL_HOME", settings.published_images: "AL_HOME"}
    if dagster := os.environ.get("DAGSTER_HOME"):
        places[Path(dagster) / "storage"] = "DAGSTER_HOME"
    for place, variable in places.items():
        try:
            if place == home:
                private_folder(home)
            folder = next(each for each in (place, *place.parents) if each.exists())
            with tempfile.TemporaryFile(dir=folder):
                free, device = shutil.disk_usage(folder).free / 1e9, folder.stat().st_dev
        except OSError as error:
            text = f"{place} cannot be written: {error.strerror}; set {variable} to another folder"
            yield Finding("disk", False, text)
            return
        if device in seen:
            continue
        seen.add(device)
        enough = free >= ENOUGH_DISK_GB
        remedy = "" if enough else f"; {ENOUGH_DISK_GB} GB are needed: make room, or set {variable} elsewhere"
        yield Finding("disk", enough, f"{free:.0f} GB free in {folder}{remedy}")


def _privacy(settings: "Settings") -> Iterator[Finding]:
    """Look who may read what, and for passwords that everybody knows."""
    import sqlalchemy as sa

    home = settings.home
    files = (*(home / name for name in SECRETS), Path(".env").resolve())
    for path, allowed in ((home, 0o700), *((file, 0o600) for file in files)):
        if path.exists() and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            yield Finding(
                "privacy", False, f"other users of this machine may read {path} ({mode:o}): chmod {allowed:o} {path}"
            )
            return
    database = sa.make_url(settings.ledger_url)
    # Where the URL has none, libpq takes one from elsewhere.
    password, where = database.password, "AL_DATABASE_URL"
    if not password and (password := os.environ.get("PGPASSWORD", "")):
        where = "PGPASSWORD"
    kept = Path(os.environ.get("PGPASSFILE") or Path.home() / ".pgpass")
    known = password in {*KNOWN_PASSWORDS, database.username} and not (password == "" and kept.exists())
    if database.get_backend_name() != "sqlite" and known:
        yield Finding("privacy", False, f"the password in {where} is one that everybody tries first: change it")
        return
    yield Finding("privacy", True, "nobody else may read the labels and secrets")


def _ports(settings: "Settings") -> Iterator[Finding]:
    """Look whether there are ports for the servers of `al up`; once they run, whether other machines can reach them."""
    import psutil

    from al_pipeline.loop.local import Servers
    from al_pipeline.servers.ports import USUAL_PORTS, kept_port, option_of
    from al_pipeline.servers.processes import port_in_use

    servers = Servers.last(settings)
    if servers is None or not servers.running:
        last = {"Dagster": servers.dagster_url, "Label Studio": servers.label_studio_url} if servers else {}
        elsewhere = {"Dagster": settings.dagster_url, "Label Studio": settings.label_studio_url}
        for name, usual in USUAL_PORTS.items():
            if elsewhere[name]:
                continue
            kept = kept_port(last.get(name))
            port = kept or usual
            if not port_in_use(port):
                yield Finding("ports", True, f"{port} is free for {name}")
            elif kept:
                text = f"{port}, where {name} of this home was the last time, is in use: end what listens there, or "
                yield Finding("ports", False, f"{text}choose another port with `al up {option_of(name)}`")
            else:
                text = f"{port}, usual for {name}, is in use: `al up` will take a free port instead"
                yield Finding("ports", None, text)
        return
    text = f"the servers run: Dagster {servers.dagster_url}, Label Studio {servers.label_studio_url}"
    yield Finding("ports", True, text)
    ports = {urlsplit(url).port for url in (servers.dagster_url, servers.label_studio_url)}
    try:
        addresses = {c.laddr for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr}
    except psutil.AccessDenied:
        return
    for address in sorted(addresses):
        if address.port in ports and not ip_address(address.ip).is_loopback:
            yield Finding(
                "ports",
                False,
                f"{address.ip}:{address.port} can be reached from other machines, and Dagster asks for no password: "
                "listen on 127.0.0.1, or put a server with passwords and TLS in front",
            )


def _dagster(settings: "Settings") -> Iterator[Finding]:
    """Look whether a Dagster that runs elsewhere can launch runs."""
    from al_pipeline.cli.opening import dagster_of

    if settings.dagster_url is None:
        return
    api, origin = dagster_of(settings, None)
    if obstacle := api.obstacle():
        yield Finding("Dagster", False, f"{obstacle}. The address is {origin}")
    else:
        yield Finding("Dagster", True, f"{api.url} has the code location and launches runs")


def _clock(of: str, theirs: datetime, before: datetime) -> Finding:
    """Compare a server's time, which it told between `before` and now, with ours."""
    now = datetime.now(UTC)
    seconds = max((before - theirs).total_seconds(), (theirs - now).total_seconds(), 0)
    text = f"that of {of} and ours differ by {seconds:.0f} s"
    remedy = (
        ": let both machines take their time from the network (NTP), or answers seem to come before their questions"
    )
    return Finding("clock", seconds <= SKEW, text + (remedy if seconds > SKEW else ""))


def _ledger(settings: "Settings") -> Iterator[Finding]:
    from al_pipeline.ledger import Ledger
    from al_pipeline.ledger.database import server_of

    before = datetime.now(UTC)
    if (server := server_of(settings.ledger_url)) is not None:
        number, now = server
        old = int(number.split(".")[0]) < OLDEST_POSTGRESQL
        told = f"; {OLDEST_POSTGRESQL} is the oldest that this is tested with" if old else ""
        yield Finding("database", None if old else True, f"PostgreSQL {number}{told}")
        yield _clock("PostgreSQL", now, before)
    planned = Ledger(settings.ledger_url).planned()
    yield Finding("ledger", True, f"{planned['round'].nunique()} rounds, {len(planned)} samples asked about")


def _buckets(settings: "Settings") -> Iterator[Finding]:
    """Look whether each bucket can be listed and read, and written to where it has to be."""
    from al_pipeline.core.data.places import Place, place_of
    from al_pipeline.loop.copies import MARK, mark
    from al_pipeline.loop.deployment import Artifacts

    used = {"AL_IMAGES": settings.images, "AL_PUBLISHED": settings.published, "AL_ARTIFACTS": settings.artifacts}
    used["AL_EMBEDDINGS"] = place_of(settings.embedding_store)
    for variable, place in used.items():
        if not isinstance(place, Place):
            continue
        written = variable != "AL_IMAGES"
        try:
            # First, as some services make a bucket that is written to.
            entry = place.first()
            if written:
                mark(place)
            if written or entry is not None:
                place.open(MARK if written or entry is None else entry.key).close()
            if variable == "AL_ARTIFACTS":
                Artifacts.unread(settings).check()
        except (ALError, OSError) as error:
            told = f"{place} cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
            yield Finding("buckets", False, f"{variable}: {told}")
            continue
        how = "listed, read and written" if written else "listed and read"
        yield Finding("buckets", True, f"{place} ({variable}) can be {how}")


def _label_studio(settings: "Settings") -> Iterator[Finding]:
    from al_pipeline.labelstudio.connection import time_of
    from al_pipeline.ledger import Ledger
    from al_pipeline.loop import local
    from al_pipeline.loop.classes import obstacle
    from al_pipeline.loop.identity import identity_of

    servers = local.Servers.last(settings)
    if settings.label_studio_url is None and (servers is None or not servers.running):
        yield Finding("Label Studio", None, "none is running: `al up` starts one, or set AL_LABEL_STUDIO_URL")
        return
    client = local.label_studio(settings)
    server = client.check()
    yield Finding("Label Studio", True, f"{client.url} version {server.version}, token of {server.username}")
    before = datetime.now(UTC)
    answer = client.connection.read("ask for the time", lambda: client.connection.request("api/version"))
    if (now := time_of(answer)) is not None:
        # It tells no more than the second.
        yield _clock("Label Studio", now + timedelta(seconds=0.5), before)
    title = settings.label_studio_project
    project = client.find_project(title)
    if project is None:
        yield Finding("project", None, f"{title!r} does not exist yet: the job `setup` creates it")
        return
    ledger = Ledger(settings.ledger_url)
    # Raises if it is another home's.
    identity_of(project, ledger.projects(), client.project_url(project.project_id))
    yield Finding("project", True, client.project_url(project.project_id))
    classes = ledger.class_set()
    if classes is not None:
        wrong = obstacle(classes, client.project_counts(project.project_id).label_config)
        yield Finding("labeling interface", wrong is None, wrong or "it offers the classes")
    problem = client.image_problem(project.project_id)
    yield Finding("images in Label Studio", problem is None, problem or "a task's image is served")


def _images(settings: "Settings") -> Iterator[Finding]:
    from al_pipeline.core.data.folder import list_files
    from al_pipeline.core.data.pool import scan
    from al_pipeline.core.data.report import describe
    from al_pipeline.ledger import Ledger
    from al_pipeline.loop.answers import asked_blind
    from al_pipeline.loop.classes import check_declared, listing_options
    from al_pipeline.loop.how_read import asked_for

    if settings.images is None:
        yield Finding("images", False, "no folder is set: AL_IMAGES, `images` in al.toml, or --images")
        return
    options = listing_options(settings)
    for sentence in list_files(settings.images, **options).sentences():
        yield Finding("images", None, sentence)
    manifest = scan(settings.images, max_excluded_share=settings.max_excluded_share, how=asked_for(settings), **options)
    names = check_declared(settings, manifest)
    report = describe(manifest, settings.images)
    drawn = len(asked_blind(Ledger(settings.ledger_url)))
    told = f"{report.holdout:,} holdout" + (f" and {drawn:,} drawn of the pool" if drawn else "")
    text = f"{report.pool:,} in the pool, {told}, classes: {', '.join(names[:10])}"
    yield Finding("images", True, text + (" …" if len(names) > 10 else ""))
    if report.set_aside:
        first = report.set_aside[0]
        text = f"{report.excluded:,} files are set aside, for example {first.example}: {first.reason}"
        yield Finding("images", None, f"{text}; `al scan` shows all reasons")


def _changes(settings: "Settings") -> Iterator[Finding]:
    from al_pipeline.loop.changes import look

    changes = look(settings) if settings.images else None
    if changes is None:
        yield Finding("last scan", None, "there was none in this home: `al up` begins with it")
    elif changes:
        yield Finding("last scan", None, f"{changes.sentence}; `al up` scans them, and the sensor images_changed")
    else:
        yield Finding("last scan", True, f"the folder is {changes.sentence}")


def _tracking(settings: "Settings") -> Iterator[Finding]:
    from al_pipeline.loop.deployment import Deployment
    from al_pipeline.loop.tracking import untold

    missing = untold(Deployment(settings))
    told = f"; {', '.join(missing)} will be told after the next round, or launch the job `track`" if missing else ""
    yield Finding("tracking", None if missing else True, f"MLflow at {settings.tracking.uri} answers{told}")

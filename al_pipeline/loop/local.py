"""What `al up` runs on this machine, so that `al status` and the others in a second terminal find it."""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from pydantic import BaseModel, ValidationError

from al_pipeline.core.errors import InputError
from al_pipeline.core.files import kept_secret, whole_file, write_private
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.settings import Settings

USERNAME = "annotator@example.com"


class Servers(BaseModel):
    """The local servers of one AL_HOME: their addresses, and the process that runs them."""

    pid: int
    started: float
    dagster_url: str
    label_studio_url: str

    @staticmethod
    def path(settings: Settings) -> Path:
        """The file that says so; it holds no secret."""
        return settings.home.resolve() / "servers.json"

    @classmethod
    def last(cls, settings: Settings) -> "Servers | None":
        """Return what the last `al up` of this home wrote, whether it still runs or not."""
        try:
            return cls.model_validate_json(cls.path(settings).read_text())
        except (FileNotFoundError, ValidationError):
            # Nothing ran here yet, or another version wrote the file: the next start writes it anew.
            return None

    @property
    def running(self) -> bool:
        """Whether the process that started them is alive; its number alone may be another's by now."""
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) < 1
        except psutil.Error:
            return False

    def write(self, settings: Settings) -> None:
        """Write the file whole."""
        with whole_file(self.path(settings), "The file of the running servers") as file:
            file.write_text(self.model_dump_json(indent=1))


def instance_folder(settings: Settings) -> Path:
    """Return the folder of Dagster's instance: DAGSTER_HOME if that is set, else the one in the home.

    Raises
    ------
    InputError
        Dagster never ran there.
    """
    folder = Path(os.environ.get("DAGSTER_HOME") or settings.dagster_home)
    file = folder / "dagster.yaml"
    if not file.exists():
        raise InputError(f"Dagster has never run in {folder}: run `al up` (or `al demo`) first, or set AL_HOME")
    text = file.read_text()
    # A home of the version before: the module has moved, and the file is written anew only by the next `al up`.
    if (moved := text.replace("module: al_pipeline.event_log", "module: al_pipeline.servers.event_log")) != text:
        with whole_file(file, "Dagster's configuration") as whole:
            whole.write_text(moved)
    return folder


@dataclass(frozen=True)
class Credentials:
    """The login of the local server and its access token."""

    username: str
    password: str
    token: str

    def __repr__(self) -> str:
        """Say whose they are, and nothing more."""
        return f"Credentials({self.username!r})"


def read_credentials(data_dir: Path) -> Credentials | None:
    """Return the credentials of the local server that keeps its data in this folder; None if it never ran."""
    path = data_dir / "credentials.json"
    return Credentials(**json.loads(path.read_text())) if path.exists() else None


def make_credentials(data_dir: Path) -> Credentials:
    """Return the credentials of the folder, drawn at random at the first call and readable by their owner alone."""
    if (known := read_credentials(data_dir)) is not None:
        return known
    drawn = Credentials(USERNAME, secrets.token_urlsafe(12), secrets.token_hex(20))
    write_private(data_dir / "credentials.json", json.dumps(asdict(drawn)))
    return drawn


def label_studio_folder(settings: Settings) -> Path:
    """Return the folder of the Label Studio that `al up` runs: its database and its credentials."""
    return settings.home.resolve() / "labelstudio"


def label_studio(settings: Settings) -> LabelStudio:
    """Return a client for the Label Studio of the settings, or else for the one that `al up` runs.

    Raises
    ------
    InputError
        Neither is there, or what `al up` ran has ended.
    """
    if settings.label_studio_url:
        token = settings.label_studio_token.get_secret_value() if settings.label_studio_token else ""
        return LabelStudio(settings.label_studio_url, token, timeout=settings.label_studio_timeout)
    servers = Servers.last(settings)
    credentials = read_credentials(label_studio_folder(settings))
    if servers is None or credentials is None:
        raise InputError(
            f"No Label Studio is known: AL_LABEL_STUDIO_URL is not set and {settings.home.resolve()} has no local "
            "server. Set AL_LABEL_STUDIO_URL and AL_LABEL_STUDIO_TOKEN, or start one with `al up`"
        )
    if not servers.running:
        raise InputError(
            f"The servers of {settings.home.resolve()} have ended, and Label Studio is one of them: start them again "
            f"with `al up --home {settings.home.resolve()}`"
        )
    return LabelStudio(servers.label_studio_url, credentials.token, timeout=settings.label_studio_timeout)


def page_token(settings: Settings) -> str:
    """Return what the link to the rounds' pages has, drawn at random at the first call."""
    return kept_secret(settings.home.resolve() / "page_token")


def page_address(settings: Settings) -> str | None:
    """Return where people open the rounds' pages: as set, or where they were served the last time; None if never."""
    return settings.page_url or last_page_address(settings)


def last_page_address(settings: Settings) -> str | None:
    """Return where the pages were served the last time; None if they never were."""
    path = _page_file(settings)
    return path.read_text().strip() if path.exists() else None


def keep_page_address(settings: Settings, address: str) -> None:
    """Write down where the pages are served; no secret is in it."""
    with whole_file(_page_file(settings), "The address of the pages") as file:
        file.write_text(address)


def _page_file(settings: Settings) -> Path:
    return settings.home.resolve() / "page_address"

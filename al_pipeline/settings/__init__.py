"""Everything that can be set, in one typed place.

Deployment settings come, in this order, from environment variables (``AL_IMAGES``, ``AL_ROUND__BATCH_SIZE`` …), a
``.env`` file and ``al.toml`` in the working directory, and what ``al up`` was told the last time, which the home keeps.
The groups ``round``, ``training`` and ``policy`` are also the per-run tunables: Dagster shows their fields in the
Launchpad, with the values set here as defaults. The fields themselves are in `fields`.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsError, TomlConfigSettingsSource

from al_pipeline.core.errors import InputError
from al_pipeline.labelstudio.submitting import Submit
from al_pipeline.settings.conflicts import conflict
from al_pipeline.settings.fields import Fields
from al_pipeline.settings.kept import keep
from al_pipeline.settings.origins import Name, flat, kept_file, origins_of, read_toml, refused, unknown, variable_of


class Settings(Fields):
    """Deployment settings; every field is also an environment variable with the prefix ``AL_``."""

    @model_validator(mode="after")
    def _go_together(self) -> "Settings":
        if told := conflict(self):
            raise ValueError(told)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, .env, al.toml and what the home keeps."""
        toml = TomlConfigSettingsSource(settings_cls)
        sources = (init_settings, env_settings, dotenv_settings, toml)
        home = next((found["home"] for source in sources if (found := source()).get("home")), None)
        return *sources, TomlConfigSettingsSource(settings_cls, kept_file(home))

    def given(self) -> dict[Name, Any]:
        """Return every setting that was given, secrets included, by its name or by those of its group and itself."""
        return dict(sorted(flat(self.model_dump(exclude_unset=True))))

    def environment(self) -> dict[str, str]:
        """Return every setting that was given, secrets included, as variables ``AL_*`` for a child process alone."""

        def text(value: Any) -> str:
            if isinstance(value, SecretStr):
                return value.get_secret_value()
            return "" if value is None else json.dumps(value) if isinstance(value, bool | list) else str(value)

        return {variable_of(name): text(value) for name, value in (self.given() | {("home",): self.home}).items()}

    def kept(self) -> dict[Name, Any]:
        """Return what the home keeps of what `al up` was told."""
        return dict(flat(read_toml(kept_file(self.home))))

    def keep(self) -> str:
        """Write what was given, but for secrets, into the home, for all commands; return a line that tells it.

        Raises
        ------
        InputError
            The file in the home cannot be read or written.
        """
        return keep(kept_file(self.home), self.given())

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger, with its password: never print it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.home / 'ledger.sqlite3'}"

    @property
    def submits(self) -> Submit:
        """What submits an answer: as set, or as the Label Studio there is knows by itself."""
        if self.submit == "auto":
            return "ctrl+enter" if self.label_studio_url else "enter"
        return self.submit

    @property
    def artifact_folder(self) -> Path:
        """Folder of what Dagster's assets store; this machine's copy, if that lies in a bucket (`artifacts`)."""
        return self.home / "artifacts"

    @property
    def embedding_store(self) -> str:
        """Folder or URL of the features."""
        return self.embeddings or str((self.artifacts or self.artifact_folder) / "embedding_store")

    @property
    def image_cache(self) -> Path:
        """Folder of decoded images; it can be deleted at any time."""
        return self.home / "cache" / "images"

    @property
    def published_images(self) -> Path:
        """Folder of the images that Label Studio serves, named by sample id.

        Its parent is the root of what Label Studio may serve, so nothing else is to lie there: AL_HOME itself holds
        credentials and the ledger.
        """
        return self.home / "published" / "images"

    @property
    def seen_folder(self) -> str:
        """The folder of published images as Label Studio's machine sees it, if it does."""
        return self.label_studio_images or str(self.published_images)

    @property
    def dagster_home(self) -> Path:
        """Dagster's own folder when `al up` runs it."""
        return self.home / "dagster"


def load_settings(**overrides: Any) -> Settings:
    """Read the settings.

    Raises
    ------
    InputError
        A name is unknown, a file cannot be read or a value not used; the message names each setting, its value's origin
        and what is allowed.
    """
    origins = origins_of(overrides)
    problems = [*unknown(origins, Settings)]
    try:
        loaded = Settings(**overrides)
    except ValidationError as error:
        # A name that is unknown in a group is told already, and so is one of a group.
        named = {name[: len(name) - less] for name in origins for less in range(len(name))}
        told = [each for each in error.errors() if each["type"] != "extra_forbidden" or each["loc"] not in named]
        # Of a setting that may be of several kinds each tells the same.
        problems += dict.fromkeys(refused(problem, origins, Settings) for problem in told)
    except SettingsError as error:
        raise InputError(
            f"These settings cannot be read: {error}. Of a group, set each field by itself, as AL_ROUND__BATCH_SIZE=20"
        ) from None
    else:
        if not problems:
            return loaded
    raise InputError("These settings cannot be used:\n" + "\n".join(problems))


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings of this process, read once."""
    return load_settings()

"""Everything that can be set, in one typed place.

Deployment settings come, in this order, from environment variables (``AL_IMAGES``, ``AL_ROUND__BATCH_SIZE`` …), a
``.env`` file and ``al.toml`` in the working directory, and what ``al up`` was told the last time, which the home keeps.
The groups ``round``, ``training`` and ``policy`` are also the per-run tunables: Dagster shows their fields in the
Launchpad, with the values set here as defaults.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from al_pipeline.core.data.places import Place
from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.rounds import RoundPolicy
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.labelstudio.submitting import Submit
from al_pipeline.settings.addresses import Address, as_place, no_address
from al_pipeline.settings.conflicts import conflict
from al_pipeline.settings.kept import keep
from al_pipeline.settings.origins import (
    USUAL_HOME,
    Name,
    flat,
    kept_file,
    origins_of,
    read_toml,
    refused,
    unknown,
    variable_of,
)


class Settings(BaseSettings):
    """Deployment settings; every field is also an environment variable with the prefix ``AL_``."""

    model_config = SettingsConfigDict(
        env_prefix="AL_", env_nested_delimiter="__", env_file=".env", toml_file="al.toml", extra="ignore", frozen=True
    )

    home: Path = Field(default=USUAL_HOME, description="Folder of everything that is written: ledger, models, logs.")
    images: Address | Path | None = Field(
        default=None,
        union_mode="left_to_right",
        description="Folder of images, flat or in class folders; or its address in a bucket (s3://…, gs://…, az://…).",
    )
    classes: Annotated[list[str] | None, NoDecode] = Field(
        default=None, description="Class names, comma separated or a JSON list; the folder names by default."
    )
    holdout_size: int = Field(
        default=200,
        ge=0,
        description="Samples drawn once at random, in round 0, as the blind holdout when the images bring no test "
        "split; at most a quarter of the pool.",
    )
    holdout_share: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="Share of each round's tasks that are test images, until all that were drawn are asked about; 1 "
        "asks about all of them at once, in round 0.",
    )
    max_excluded_share: float = Field(
        default=0.2, ge=0, le=1, description="Share of broken image files above which the pool is refused."
    )
    white: Literal["auto", "percentile"] | Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default="auto",
        description="What is white in files of more than 8 bits that do not say it, for all alike: a number, or by the "
        "last scan auto (the largest number of 10, 12, 14 or 16 bits that none is above; of floats percentiles) or "
        "percentile (a thousandth of the values is brighter, and one darker than black).",
    )
    channels: str | None = Field(
        default=None,
        pattern=r"^\d+(,\d+){0,2}$",
        examples=["1", "0,2,1"],
        description="Which channels of multi-channel files are shown, from 0: one as gray, 0,2,1 as red, green and "
        "blue; the first three, or the first of two, by default.",
    )
    truncated: Literal["refuse", "use"] = Field(
        default="refuse", description="What becomes of JPEG and PNG files that are cut off: use shows what is there."
    )
    plane: Literal["first", "middle", "max"] | Annotated[int, Field(ge=0)] = Field(
        default="first",
        description="What is taken of TIFF and DICOM files with several pages, slices or frames: the first, the middle "
        "one, the one of a number from 0, or max, of each pixel the brightest of all planes.",
    )
    follow_links: bool = Field(
        default=False, description="Read also what symbolic links to places outside of the folder of images lead to."
    )
    max_gone_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of the known images that may be missing from a scan before it is refused: a share that is "
        "not mounted looks like an empty folder.",
    )
    rescan_minutes: float = Field(
        default=5.0,
        ge=0,
        description="Minutes between looks for images that came, went or changed; 0 looks only when `setup` runs.",
    )
    group: str = Field(
        default="near_duplicates",
        description="Which images belong together and are held out together: near_duplicates (and shots of a burst), "
        "folder (the first below the class), parent (the folder a file lies in), none, a regular expression (its first "
        "group, searched in the path below AL_IMAGES), or FILE.csv:COLUMN (a table with a column path).",
    )
    ask_groups: bool = Field(
        default=False,
        description="Ask about images of a group that look alike once: a task shows up to 9, and the answer is all of "
        "theirs.",
    )

    grid: Literal[1, 4, 9] = Field(
        default=1,
        description="Images that one task shows, each with its own keys and its own answer: 4 takes up to 8 classes, 9 "
        "up to 3. What is left open is asked again. Not with ask_groups and not with predictions.",
    )

    cache_gb: float = Field(
        default=4.0, ge=0, description="Bound on the cache of decoded images in AL_HOME/cache; 0 decodes every time."
    )
    keep_checkpoints: Literal["all"] | Annotated[int, Field(ge=1)] = Field(
        default=5, description="Newest rounds whose checkpoints are kept, the best one besides; all keeps all of them."
    )
    embeddings: str | None = Field(
        default=None,
        description="Where features are kept: a folder, or a bucket (s3://…, gs://…, az://…); in AL_HOME by default.",
    )

    database_url: SecretStr | None = Field(
        default=None, description="SQLAlchemy URL of the ledger; SQLite in AL_HOME by default."
    )

    label_studio_url: str | None = Field(default=None, description="Where this machine reaches Label Studio.")
    label_studio_public_url: str | None = Field(default=None, description="Where people reach it, if that differs.")
    label_studio_token: SecretStr | None = Field(default=None, description="Access token (personal or legacy).")
    label_studio_project: str = Field(default="al_pipeline", min_length=1, description="Title of the project.")
    label_studio_images: str | None = Field(
        default=None,
        description="The folder AL_HOME/published/images as Label Studio's machine sees it; the same by default.",
    )
    label_studio_timeout: float = Field(default=10.0, gt=0, description="Seconds that one request may take.")
    overlap: int = Field(default=1, ge=1, description="Annotators asked about each sample.")
    instructions: str | None = Field(
        default=None, description="What annotators are told: a file of Markdown (its name ends with .md), or the text."
    )
    examples: Path | None = Field(
        default=None, description="Folder with a folder of images for each class; annotators are shown the first four."
    )
    unsure_class: bool = Field(
        default=False, description="Offer a button for whoever cannot tell: an answer that is counted, and no label."
    )
    show_crop: bool = Field(
        default=False,
        description="Show annotators in a thin frame which square of an image the network sees, where training.framing "
        "is crop and takes more than 5 % of it away; not with ask_groups.",
    )
    submit: Literal["auto", "ctrl+enter", "enter", "key"] = Field(
        default="auto",
        description="What submits an answer in the editor beside Ctrl+Enter: enter; or key, the key of the class "
        "itself, which needs policy.min_seconds and shows no guesses. auto is enter in the Label Studio that `al up` "
        "starts, and ctrl+enter alone in another one, which has to be told of more (EDITOR_KEYMAP).",
    )
    shown_px: int = Field(
        default=1000,
        ge=0,
        description="Pixels of the longer side at which annotators are shown images of 12 megapixels and more, which "
        "load sooner so; no fewer than training.image_size. 0 shows them whole.",
    )
    predictions: bool = Field(
        default=False, description="Show the model's guess with each task (never on the holdout). It biases people."
    )

    sensor_interval: int = Field(
        default=4,
        ge=1,
        description="Least seconds between looks at Label Studio. Dagster's daemon comes every 5 s; 5 misses turns.",
    )
    nightly_cron: str = Field(default="0 2 * * *", description="When the schedule nightly_round closes a round.")
    timezone: str = Field(default="UTC", description="Time zone of the schedule.")
    alert_url: SecretStr | None = Field(
        default=None, description='Webhook that receives {"text": …} when a round fails (Slack and others).'
    )

    webhook_secret: SecretStr | None = Field(
        default=None,
        description="What Label Studio shows `al webhook` to be believed; drawn once and kept in AL_HOME by default.",
    )
    webhook_url: str | None = Field(
        default=None, description="Where Label Studio reaches `al webhook`; its port on this machine by default."
    )
    ml_backend_password: SecretStr | None = Field(
        default=None, description="Password of `al ml-backend` (its user is al_pipeline); without one it asks for none."
    )
    ml_backend_url: str | None = Field(
        default=None, description="Where Label Studio reaches `al ml-backend`; its port on this machine by default."
    )

    weights_url: str | None = Field(
        default=None,
        pattern=r"^(https?|file)://",
        description="Where ImageNet weights are downloaded from: the address of a folder with torchvision's files, "
        "over http, https or file; torchvision's own by default. For timm's networks that of a hub.",
    )
    page_url: str | None = Field(
        default=None, description="Where people reach the rounds' pages; the port of `al page` by default."
    )

    round: RoundSettings = RoundSettings()
    training: TrainingOptions = TrainingOptions()
    policy: RoundPolicy = RoundPolicy()

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: Any, info: ValidationInfo) -> Any:
        # An empty variable is how .env files and Compose say "not set".
        usual = cls.model_fields[str(info.field_name)].default
        return usual if value == "" and isinstance(usual, Path | None) else value

    _place = field_validator("images", mode="before")(as_place)
    _no_address = field_validator("home", "examples", mode="before")(no_address)

    @field_validator("home", "images", "examples")
    @classmethod
    def _absolute(cls, value: Path | Place | None) -> Path | Place | None:
        return value.expanduser().resolve() if isinstance(value, Path) else value

    @field_validator("instructions")
    @classmethod
    def _absolute_if_a_file(cls, value: str | None) -> str | None:
        return str(Path(value).expanduser().resolve()) if value is not None and value.endswith(".md") else value

    @field_validator("embeddings", "weights_url")
    @classmethod
    def _without_secrets(cls, value: str | None) -> str | None:
        # It is shown in the UI and in errors.
        if value is not None and "://" in value and "@" in value.split("://", 1)[1].split("/")[0]:
            raise ValueError("an address with a key in it: leave the key out, and set it the way the service asks for")
        return value

    @field_validator("webhook_secret", "ml_backend_password")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not all("!" <= character <= "~" for character in value.get_secret_value()):
            raise ValueError("it travels in an HTTP header: use ASCII letters, digits and signs, without spaces")
        return value

    @field_validator("grid", mode="before")
    @classmethod
    def _number_of_a_variable(cls, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @field_validator("classes", mode="before")
    @classmethod
    def _split_classes(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value.lstrip().startswith("["):
                return json.loads(value)
            return [name.strip() for name in value.split(",") if name.strip()] or None
        return value

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
    def artifacts(self) -> Path:
        """Folder of what Dagster's assets store."""
        return self.home / "artifacts"

    @property
    def embedding_store(self) -> str:
        """Folder or URL of the features."""
        return self.embeddings or str(self.artifacts / "embedding_store")

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
        # A name that is unknown in a group is told already.
        told = [each for each in error.errors() if each["type"] != "extra_forbidden" or each["loc"] not in origins]
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

"""What can be set of a deployment, and what each value must be like: the fields of `Settings`, with their checks."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from al_pipeline.core.data.places import Place
from al_pipeline.core.learning.compute import ComputeOptions
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.rounds import RoundPolicy
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.settings.addresses import Address, as_place, check_published, no_address
from al_pipeline.settings.origins import USUAL_HOME
from al_pipeline.settings.pods import KubernetesOptions
from al_pipeline.settings.tracking import TrackingOptions


class Fields(BaseSettings):
    """The fields of `Settings`."""

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
        default=5,
        description="Newest rounds whose checkpoints are kept, and as many refined networks, besides the best one and "
        "what is still needed; all keeps all of them.",
    )
    artifacts: Address | None = Field(
        default=None,
        description="Bucket of what rounds write (s3://bucket/prefix, gs://…, az://…), for machines that share no "
        "folder; AL_HOME/artifacts is a copy of it then, and by default all there is.",
    )
    embeddings: str | None = Field(
        default=None,
        description="Where features are kept: a folder, or a bucket (s3://…, gs://…, az://…); with the artifacts by "
        "default.",
    )

    database_url: SecretStr | None = Field(
        default=None, description="SQLAlchemy URL of the ledger; SQLite in AL_HOME by default."
    )

    dagster_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Dagster's web server, where `al open` and `al webhook` launch runs; by default that of `al up`, "
        "or port 3000 of this machine.",
    )

    label_studio_url: str | None = Field(default=None, description="Where this machine reaches Label Studio.")
    label_studio_database_url: SecretStr | None = Field(
        default=None,
        description="Database of a Label Studio elsewhere, for `al backup` and `al restore` alone: SQLAlchemy's URL.",
    )
    label_studio_public_url: str | None = Field(default=None, description="Where people reach it, if that differs.")
    label_studio_token: SecretStr | None = Field(default=None, description="Access token (personal or legacy).")
    label_studio_project: str = Field(default="al_pipeline", min_length=1, description="Title of the project.")
    label_studio_images: str | None = Field(
        default=None,
        description="The folder AL_HOME/published/images as Label Studio's machine sees it; the same by default.",
    )
    published: Address | None = Field(
        default=None,
        description="Bucket that Label Studio shows images from (s3://bucket/prefix): copies named by sample id, never "
        "in the bucket of the images. AL_HOME/published/images by default.",
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
    metrics_port: int = Field(default=9464, ge=0, le=65535, description="Port of `al metrics`; 0 takes a free one.")

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
    kubernetes: KubernetesOptions = KubernetesOptions()
    tracking: TrackingOptions = TrackingOptions()
    compute: ComputeOptions = ComputeOptions()

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: Any, info: ValidationInfo) -> Any:
        # An empty variable is how .env files and Compose say "not set".
        usual = cls.model_fields[str(info.field_name)].default
        return usual if value == "" and isinstance(usual, Path | None) else value

    _place = field_validator("images", "published", "artifacts", mode="before")(as_place)
    _no_address = field_validator("home", "examples", mode="before")(no_address)

    @field_validator("home", "images", "examples")
    @classmethod
    def _absolute(cls, value: Path | Place | None) -> Path | Place | None:
        return value.expanduser().resolve() if isinstance(value, Path) else value

    @field_validator("published")
    @classmethod
    def _apart_from_the_images(cls, value: Place | None, info: ValidationInfo) -> Place | None:
        return None if value is None else check_published(value, info.data.get("images"))

    @field_validator("instructions")
    @classmethod
    def _absolute_if_a_file(cls, value: str | None) -> str | None:
        return str(Path(value).expanduser().resolve()) if value is not None and value.endswith(".md") else value

    @field_validator("dagster_url", "embeddings", "weights_url")
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

"""What is told to an MLflow server, and where it is."""

import re
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from al_pipeline.core.options import Options


class TrackingOptions(Options):
    """Each round as a run of MLflow: needs `pip install 'al_pipeline[mlflow]'`, and is off without an address.

    Raises
    ------
    InputError
        A value cannot be used.
    """

    uri: str | None = Field(
        default=None,
        examples=["https://mlflow.example.com"],
        description="Address of an MLflow server; its login is in MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.",
    )
    experiment: str = Field(default="al_pipeline", min_length=1, description="Its experiment that has the rounds.")
    model: str = Field(
        default="al_pipeline",
        min_length=1,
        description="Its registered model, of which `al export-model --register` makes versions.",
    )

    @field_validator("uri")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        # It is shown in the UI and in errors, and is not shown here: what is in it may be a secret.
        if "@" in value or "?" in value or "#" in value:
            raise ValueError(
                "an address with a login, or a query, in it: leave it out, and set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            )
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{value!r} is no address of an MLflow server: name https://HOST or http://HOST:PORT")
        return value

    @field_validator("model")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if re.search("[/:]", value):
            raise ValueError(f"{value!r} has / or :, which MLflow takes in no model's name: leave them out")
        return value

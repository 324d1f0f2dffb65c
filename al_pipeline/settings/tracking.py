"""What is told to an MLflow server, and where it is."""

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
        pattern=r"^https?://",
        description="Address of an MLflow server; its login is in MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.",
    )
    experiment: str = Field(default="al_pipeline", min_length=1, description="Its experiment that has the rounds.")
    model: str = Field(
        default="al_pipeline",
        min_length=1,
        pattern=r"^[^/:]+$",
        description="Its registered model, of which `al export-model --register` makes versions.",
    )

    @field_validator("uri")
    @classmethod
    def _without_secrets(cls, value: str | None) -> str | None:
        # It is shown in the UI and in errors.
        if value is not None and "@" in value.split("://", 1)[1].split("/")[0]:
            raise ValueError("an address with a login in it: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
        return value

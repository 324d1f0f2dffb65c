"""`python -m al_pipeline` is `al`."""

from al_pipeline.cli import app

app()

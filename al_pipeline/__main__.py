"""`python -m al_pipeline` is `al`."""

from al_pipeline.cli.app import app

app()

"""`python -m al_pipeline.cli` is `al`."""

from al_pipeline.cli.app import app

app()

"""What Dagster loads."""

from al_pipeline.defs import build
from al_pipeline.settings import settings

defs = build(settings())

"""What Dagster loads."""

from al_pipeline.defs import ready
from al_pipeline.settings import settings

defs = ready(settings())

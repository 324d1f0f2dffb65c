"""Rounds are dynamic partitions: one key, one run, one turn of the loop."""

import dagster as dg

# On a run that ended with the servers, which were told to: its own id, since a run that re-executes it has its tags.
INTERRUPTED_TAG = "al_pipeline/interrupted"
rounds = dg.DynamicPartitionsDefinition(name="rounds")

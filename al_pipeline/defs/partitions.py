"""Rounds are dynamic partitions: one key, one run, one turn of the loop."""

import dagster as dg

rounds = dg.DynamicPartitionsDefinition(name="rounds")

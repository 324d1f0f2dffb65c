"""How much the fault tests do: CI meets every fault, `make faults` meets each one more often."""

import os

FULL = os.environ.get("AL_FAULTS_FULL") == "1"


def size(full: int, ci: int) -> int:
    """Return the first number if AL_FAULTS_FULL is 1, else the second."""
    return full if FULL else ci

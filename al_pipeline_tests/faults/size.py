"""How much the fault tests do: CI looks at every fault, `make faults` at each one oftener and with more people's work."""

import os

FULL = os.environ.get("AL_FAULTS_FULL") == "1"


def size(full: int, ci: int) -> int:
    """Return the first number if AL_FAULTS_FULL is 1, else the second."""
    return full if FULL else ci

"""What the fault tests have counted: each test adds a line to the file AL_FAULT_REPORT, `make faults` shows them."""

import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any


def report(what: str, **counts: int) -> None:
    """Append a line."""
    if name := os.environ.get("AL_FAULT_REPORT"):
        with Path(name).open("a") as file:
            file.write(json.dumps({"what": what} | counts) + "\n")


def totals(lines: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Return the sums of each kind of line, and how many there are of it."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for line in lines:
        counts = {name: count for name, count in line.items() if name != "what"}
        for name, count in (counts | {"tests": 1}).items():
            found[line["what"]][name] += count
    return {what: dict(counts) for what, counts in found.items()}


def main(name: str) -> None:
    """Print what a file tells."""
    lines = [json.loads(line) for line in Path(name).read_text().splitlines()]
    for what, counts in totals(lines).items():
        told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
        print(f"{what:24}{told}")


if __name__ == "__main__":
    main(sys.argv[1])

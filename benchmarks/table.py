"""Print a table with the machine it was measured on."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def machine() -> str:
    """Return the machine, the versions and the date in a line."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("dagster", "torch", "torchvision"))
    python, day = platform.python_version(), f"{datetime.now(UTC):%Y-%m-%d}"
    return f"{os.cpu_count()} cores ({model}), Python {python}, {versions}, {day}"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table under its title and the machine."""
    print(f"\n### {title}\n\n{machine()}\n")
    print(markdown_table(columns, rows))
    print()

"""Cells of a comparison, computed one by one: which of them can be compared, and which not, and why.

A cell is the run of one strategy and seed. It carries its settings along, since cells of different settings would be
compared like with unlike.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from al_pipeline.core.errors import InputError
from al_pipeline.core.study.results import BASELINE

Cell = tuple[str, int]
Settings = dict[str, Any]

# pandas keeps what stands here in the Parquet file.
ATTRIBUTE = "settings"
LONGEST_VALUE = 40


@dataclass(frozen=True)
class Comparable:
    """The cells to compare: every strategy with every seed, all with the same settings; by seed and strategy."""

    results: pd.DataFrame
    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    # Left out because others lack the seed.
    unpaired: tuple[Cell, ...]
    # Left out because their settings differ: what does, in words.
    other_settings: dict[Cell, tuple[str, ...]]


def with_settings(results: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Return the results of a cell with its settings, which stay with them in a Parquet file."""
    marked = results.copy()
    marked.attrs[ATTRIBUTE] = settings
    return marked


def settings_of(results: pd.DataFrame) -> Settings:
    """Return the settings of a cell's results; none if it has none."""
    return results.attrs.get(ATTRIBUTE, {})


def comparable(cells: Mapping[Cell, pd.DataFrame], settings: Settings) -> Comparable:
    """Choose the cells, as `with_settings` returns them, to compare among those with the given settings.

    Raises
    ------
    InputError
        No cell has the settings.
    """
    others = {cell: differences(settings, settings_of(results)) for cell, results in cells.items()}
    same = {cell for cell, found in others.items() if not found}
    if not same:
        raise InputError("there is nothing to compare: no cell has these settings")
    strategies, seeds = complete(same)
    chosen = [cells[strategy, seed].assign() for seed in seeds for strategy in strategies]
    for results in chosen:
        results.attrs.clear()
    return Comparable(
        pd.concat(chosen, ignore_index=True),
        strategies,
        seeds,
        tuple(sorted(cell for cell in same if cell[0] not in strategies or cell[1] not in seeds)),
        {cell: others[cell] for cell in sorted(others) if others[cell]},
    )


def complete(cells: Iterable[Cell]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the strategies and seeds, both ascending, of a large block without a gap.

    One in which strategies can be tested against the baseline comes before one in which they are only seen beside it,
    and that before one without it. Then the one with the most cells is taken, of those that are found by adding
    strategies one by one: first those with the most seeds, or the most in common with the baseline.
    """
    seeds: dict[str, set[int]] = {}
    for strategy, seed in cells:
        seeds.setdefault(strategy, set()).add(seed)
    by_seeds = sorted(seeds, key=lambda name: (-len(seeds[name]), name))
    base = seeds.get(BASELINE, set())
    baseline_first = sorted(seeds, key=lambda name: (name != BASELINE, -len(seeds[name] & base), name))
    blocks = []
    for order in (baseline_first, by_seeds):
        for n in range(1, len(order) + 1):
            common = set.intersection(*(seeds[name] for name in order[:n]))
            beside = BASELINE in order[:n] and n > 1 and len(common) > 0
            size = (beside and len(common) > 1, beside, n * len(common))
            blocks.append((size, tuple(sorted(order[:n])), tuple(sorted(common))))
    _, strategies, shared = max(blocks, key=lambda block: block[0])
    return strategies, shared


def differences(wanted: Settings, other: Settings) -> tuple[str, ...]:
    """Say what differs between two cells' settings, one clause each; nothing if they are the same."""
    first, second = flat(wanted), flat(other)
    found = []
    for name in sorted(first.keys() | second.keys()):
        if first.get(name) != second.get(name):
            values = repr(second.get(name)), repr(first.get(name))
            long = any(len(value) > LONGEST_VALUE for value in values)
            found.append(f"other {name}" if long else f"{name} {values[0]} instead of {values[1]}")
    return tuple(found)


def flat(settings: Settings, prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one level, with names such as ``options.epochs``."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found

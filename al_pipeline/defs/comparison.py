"""The simulation group, second half: what the cells there are say about the strategies, and what they cannot say."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pandas as pd

from al_pipeline.core.errors import InputError
from al_pipeline.defs.io import TABLE
from al_pipeline.defs.report import picture
from al_pipeline.defs.resources import Deployment

if TYPE_CHECKING:
    from al_pipeline.core.label_savings import Saving
    from al_pipeline.core.paired_cells import Cell, Comparable

REMEDY = "To compare them too, launch the backfill of simulation again for these partitions"
MOST_NAMED = 30


@dg.asset(
    group_name="simulation",
    kinds={"matplotlib"},
    io_manager_key="tables",
    dagster_type=TABLE,
    deps=["simulation"],
    check_specs=[
        dg.AssetCheckSpec(
            "same_settings",
            asset="strategy_comparison",
            description="Every stored cell has the settings of the newest one. Others are left out of the comparison.",
        )
    ],
)
def strategy_comparison(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> dg.MaterializeResult:
    """What each query strategy saves against random choice, over the cells of simulation that there are.

    Paired by seed, with 95 % intervals; strategies that are worse than random are in the same table. Cells with other
    settings than the newest one are left out and named, and so are those whose seed other strategies lack. Materialize
    it again whenever cells were added.
    """
    from al_pipeline.core.paired_cells import comparable, settings_of

    cells = stored_cells(deployment.settings.artifacts / "simulation")
    # The last one is the newest: what somebody has launched since is what they want to know about.
    settings = settings_of(next(reversed(cells.values())))
    found = comparable(cells, settings)
    left_out = _left_out(found)
    if left_out:
        context.log.warning("Not all cells are compared:\n%s", left_out)
    table, metadata = _told(found, settings)
    return dg.MaterializeResult(
        value=table,
        metadata={
            "strategies": len(found.strategies),
            "seeds": len(found.seeds),
            **metadata,
            **({"left_out": dg.MetadataValue.md(left_out)} if left_out else {}),
            "settings": dg.MetadataValue.json(settings),
        },
        check_results=[
            dg.AssetCheckResult(
                passed=not found.other_settings,
                check_name="same_settings",
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"left_out": len(found.other_settings)},
            )
        ],
    )


def stored_cells(folder: Path) -> "dict[Cell, pd.DataFrame]":
    """Return the results of every cell that `simulation` has stored, the newest last.

    Raises
    ------
    InputError
        There are none, or one cannot be read.
    """
    import pyarrow as pa

    paths = sorted(folder.glob("*/*.parquet"), key=lambda path: (path.stat().st_mtime_ns, path))
    if not paths:
        raise InputError(
            "No partition of simulation is stored yet: launch a backfill of simulation with the strategies to compare, "
            "random among them, and 5 seeds or more"
        )
    cells = {}
    for path in paths:
        try:
            cells[path.stem, int(path.parent.name)] = pd.read_parquet(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(
                f"The results {path} cannot be read ({error}): materialize the partition {path.stem}, seed "
                f"{path.parent.name} of simulation again"
            ) from None
    return cells


def _told(found: "Comparable", settings: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the table of strategies, and all that is shown of it."""
    from al_pipeline.core.label_savings import savings, sentence

    doubt = _doubt(found)
    saved = [] if doubt else savings(found.results, METRIC)
    said = [doubt] if doubt else [sentence(saving) for saving in saved]
    table = pd.concat([_ends(found.results), _rows(saved)], axis=1).reset_index(names="strategy")
    return table, {
        "findings": dg.MetadataValue.md("\n".join(f"- {line}" for line in said)),
        "table": dg.MetadataValue.table([dg.TableRecord(row) for row in _shown(table)]),
    }


def _doubt(found: "Comparable") -> str | None:
    """Return why nothing can be said of savings, if so."""
    from al_pipeline.core.paired import BASELINE

    if BASELINE not in found.strategies or len(found.strategies) < 2:
        return f"What was saved is told against {BASELINE}: launch cells of it and of another strategy."
    if len(found.seeds) < 2:
        return "What was saved takes at least 2 seeds to tell from chance; launch more, 10 are usual."
    return None


def _left_out(found: "Comparable") -> str:
    """Name the cells that are not compared, and say why, as Markdown; nothing if all are."""
    lines = []
    by_reason: dict[tuple[str, ...], list[Cell]] = {}
    for cell, reasons in found.other_settings.items():
        by_reason.setdefault(reasons, []).append(cell)
    for reasons, cells in by_reason.items():
        lines.append(f"- {len(cells)} with other settings ({'; '.join(reasons)}): {_names(cells)}")
    if found.unpaired:
        lines.append(f"- {len(found.unpaired)} without a partner of the same seed: {_names(found.unpaired)}")
    return "\n".join([*lines, "", f"{REMEDY}, or for those they lack."]) if lines else ""


def _names(cells: "Sequence[Cell]") -> str:
    named = ", ".join(f"{strategy} {seed}" for strategy, seed in cells[:MOST_NAMED])
    return named + (f" and {len(cells) - MOST_NAMED} more" if len(cells) > MOST_NAMED else "")

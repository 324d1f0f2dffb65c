"""The simulation group, second half: what the cells there are say about the strategies, and what they cannot say."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.metrics import TITLES, columns
from al_pipeline.core.files import whole_file
from al_pipeline.defs.io import TABLE
from al_pipeline.defs.metadata import picture
from al_pipeline.loop.deployment import Deployment

if TYPE_CHECKING:
    from al_pipeline.core.study.cells import Cell, Comparable
    from al_pipeline.core.study.report import Report

REMEDY = "To compare them too, launch the backfill of simulation again for these partitions"
MOST_NAMED = 30
# The paper's curves are of it.
METRIC = "roc_auc"


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
    from al_pipeline.core.study.cells import comparable, settings_of

    cells = stored_cells(deployment.artifacts.study_cells)
    # The last one is the newest: what somebody has launched since is what they want to know about.
    settings = settings_of(next(reversed(cells.values())))
    found = comparable(cells, settings)
    left_out = _left_out(found)
    if left_out:
        context.log.warning("Not all cells are compared:\n%s", left_out)
    page = deployment.artifacts.comparison_page
    table, metadata = _told(found, settings, page)
    return dg.MaterializeResult(
        value=table,
        metadata={
            **metadata,
            "strategies": len(found.strategies),
            "seeds": len(found.seeds),
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


def _told(found: "Comparable", settings: dict[str, Any], file: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the table of strategies and all that is shown of it; write the whole report to a file."""
    from al_pipeline.core.study.cells import flat
    from al_pipeline.core.study.page import escaped
    from al_pipeline.core.study.report import PICTURES, Report
    from al_pipeline.core.study.results import Results

    results = Results(found.results, METRIC, "n_asked" if settings["plan"]["skip_rate"] else "n_labels")
    plan = flat(settings["plan"])
    told = {name: str(value) for name, value in plan.items() if value is not None}
    told["sample_size"] = told.get("sample_size", "all")
    report = Report(results, "Query strategies compared", settings=told, versions=settings["versions"])
    with whole_file(file, "The report") as temporary:
        temporary.write_text(report.html())
    metadata: dict[str, Any] = {
        **{name: picture(png, PICTURES[name]) for name, png in report.pictures.items()},
        "findings": dg.MetadataValue.md("\n".join(f"- {escaped(line)}" for line in report.findings)),
        "report": dg.MetadataValue.md(report.markdown()),
        "page": dg.MetadataValue.path(str(file)),
    }
    return _table(report, len(found.seeds)), metadata


def _table(report: "Report", seeds: int) -> pd.DataFrame:
    """Return one row per strategy: its last scores, and what it saves where that can be told."""
    results = report.results
    last = results.table.groupby(["strategy", "seed"]).tail(1).groupby("strategy")
    table = last[[results.axis, *TITLES]].mean().assign(seeds=seeds)
    rows = {
        saving.strategy: {
            **columns("area_difference", saving.area_difference.difference),
            "p_holm": saving.area_difference.p_holm,
            "verdict": saving.area_difference.verdict,
            "needed": saving.labels,
            "saved": saving.ratio,
            "saved_low": saving.ratio_low,
            "saved_high": saving.ratio_high,
        }
        for saving in report.savings
    }
    return table.join(pd.DataFrame.from_dict(rows, orient="index")).reset_index()


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

"""`al simulate`: compare query strategies on images whose class folders are the answer, without asking anybody."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from al_pipeline.cli.session import Home, Images, configure, console, told_plainly
from al_pipeline.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from rich.table import Table

    from al_pipeline.core.study.plan import Plan
    from al_pipeline.settings import Settings


class Mode(StrEnum):
    """How each round trains."""

    head = "head"
    finetune = "finetune"
    auto = "auto"


class Start(StrEnum):
    """What chooses until the first training."""

    random = "random"
    own = "own"


def simulate(
    images: Images = None,
    strategies: Annotated[
        str, typer.Option("--strategies", help="Query strategies to compare, with commas between them.")
    ] = "auto,random",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Paired repetitions.")] = 10,
    budget: Annotated[int, typer.Option("--budget", min=1, help="Labels per run.")] = 500,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="B: asked about per round.")] = None,
    sample_size: Annotated[
        str | None, typer.Option("--sample-size", help="S: candidates scored per round, or all.")
    ] = None,
    balanced: Annotated[
        bool | None, typer.Option("--balanced/--no-balanced", help="Equal quotas per predicted class.")
    ] = None,
    explore: Annotated[float | None, typer.Option("--explore", help="Share of a batch drawn at random.")] = None,
    dedup: Annotated[
        float | None, typer.Option("--dedup", help="Largest cosine similarity of two samples of a batch.")
    ] = None,
    mode: Annotated[Mode | None, typer.Option("--mode", help="How each round trains.")] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="What training starts from: none, imagenet or a file.")
    ] = None,
    image_size: Annotated[int | None, typer.Option("--image-size", help="Side in pixels.")] = None,
    test_time_flip: Annotated[
        bool | None,
        typer.Option("--test-time-flip/--no-test-time-flip", help="Average over an image and its mirror image."),
    ] = None,
    start: Annotated[
        Start,
        typer.Option("--start", help="The first batch: the same random one for all, or each strategy's own."),
    ] = Start.random,
    error_rate: Annotated[float, typer.Option("--error-rate", help="Chance that an answer is wrong.")] = 0.0,
    skip_rate: Annotated[float, typer.Option("--skip-rate", help="Chance that a sample is skipped.")] = 0.0,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Processes, one seed and one thread each; as many as cores.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Report, results, and what a killed study goes on from.")
    ] = Path("simulation"),
    home: Home = None,
) -> None:
    """Compare query strategies on images in class folders; what is not said here is as in the loop's settings."""
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from al_pipeline.core.data.pool import class_names, scan
    from al_pipeline.core.learning.checkpoint import device
    from al_pipeline.core.learning.export import whole_file
    from al_pipeline.core.study.report import Description, settings_of, write_report
    from al_pipeline.core.study.run import run_study, versions

    with told_plainly():
        settings = configure(home, images)
        if settings.images is None:
            raise InputError("No folder of images is set: add --images DIR, a folder with pool/<class>/… and holdout/…")
        plan = _plan(
            settings,
            training=_given(
                mode=mode.value if mode else None,
                weights=weights,
                image_size=image_size,
                test_time_flip=test_time_flip,
            ),
            round_=_given(batch_size=batch_size, balanced=balanced, explore=explore, dedup=dedup)
            | ({} if sample_size is None else {"sample_size": _size(sample_size)}),
            strategies=[name.strip() for name in strategies.split(",") if name.strip()],
            n_seeds=seeds,
            budget=budget,
            start=start.value,
            error_rate=error_rate,
            skip_rate=skip_rate,
        )
        manifest = scan(
            settings.images, max_excluded_share=settings.max_excluded_share, follow_links=settings.follow_links
        )
        names = class_names(manifest, settings.classes, settings.images)
        told = TextColumn("{task.fields[rounds]} rounds")
        columns = SpinnerColumn(), TextColumn("Seeds"), MofNCompleteColumn(), told, TimeElapsedColumn()
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("Seeds", total=len(plan.seeds), rounds=0)
            study = run_study(
                manifest,
                names,
                plan,
                out,
                jobs=jobs or os.cpu_count() or 1,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
                rounds=lambda computed: bar.update(task, rounds=computed),
            )
        with whole_file(out / "results.parquet", "The results") as file:
            study.results.to_parquet(file, index=False)
        metric = "roc_auc" if study.results["roc_auc"].notna().any() else "accuracy"
        # With skips, runs that asked about as many have different numbers of labels.
        axis = "n_asked" if plan.skip_rate else "n_labels"
        console.print(_table(study.results, plan, axis))
        for said in _savings(study.results, metric, axis):
            console.print(said, soft_wrap=True, highlight=False)
        description = Description(
            title=f"Query strategies on {settings.images.name}",
            settings=settings_of(plan, manifest, names) | {"device": device().type},
            versions=versions(),
        )
        page, text = write_report(study.results, description, out, metric, axis)
        found = len(plan.seeds) - len(study.computed)
        console.print(
            f"The report is {escape(str(page))}, and as Markdown {escape(str(text))}", soft_wrap=True, highlight=False
        )
        console.print(
            f"{len(study.computed)} seeds computed, {found} found in {escape(str(study.folder))}; "
            f"{len(study.results)} rows written to {escape(str(out / 'results.parquet'))}",
            soft_wrap=True,
        )


def _savings(results: "pd.DataFrame", metric: str, axis: str) -> "Iterator[str]":
    """Say what each strategy saved or cost against a random choice, with intervals over the paired seeds."""
    from al_pipeline.core.study.report import unanswered
    from al_pipeline.core.study.savings import savings, sentence

    why = unanswered(results, metric, axis)
    if why is not None:
        yield why
        return
    for saving in savings(results, metric, axis=axis):
        yield sentence(saving)


def _plan(
    settings: "Settings",
    *,
    training: dict[str, Any],
    round_: dict[str, Any],
    strategies: list[str],
    n_seeds: int,
    **rest: Any,
) -> "Plan":
    """Return the plan: what the command line says, else the loop's settings."""
    from al_pipeline.core.learning.options import TrainingOptions
    from al_pipeline.core.study.plan import Plan

    own = settings.round
    chosen = {name: getattr(own, name) for name in ("batch_size", "sample_size", "balanced", "explore", "dedup")}
    return Plan(
        strategies=strategies,
        seeds=[own.seed + i for i in range(n_seeds)],
        options=TrainingOptions(**(settings.training.model_dump() | training)),
        **(chosen | round_),
        **rest,
    )


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _size(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise InputError(f"--sample-size must be a whole number or all, not {text!r}")
    return int(text)


def _table(results: "pd.DataFrame", plan: "Plan", axis: str) -> "Table":
    """Return mean accuracy and ROC-AUC of each strategy at some budgets."""
    from rich.table import Table

    from al_pipeline.core.study.report import shown_budgets
    from al_pipeline.core.study.run import at_budgets

    budgets = shown_budgets(results, axis)
    found = at_budgets(results, budgets, axis)
    table = Table(title=f"Mean accuracy / ROC-AUC on the holdout, {len(plan.seeds)} seeds")
    table.add_column("strategy", no_wrap=True)
    for budget in budgets:
        table.add_column(f"{budget} {'asked' if axis == 'n_asked' else 'labels'}", justify="right", no_wrap=True)
    for strategy, rows in found.groupby("strategy", sort=False):
        cells = [f"{row.accuracy:.3f} / {row.roc_auc:.3f}" for row in rows.itertuples()]
        table.add_row(str(strategy), *cells)
    return table

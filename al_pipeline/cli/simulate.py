"""`al simulate`: compare query strategies on images whose class folders are the answer, without asking anybody."""

import os
import time
from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from al_pipeline.cli.session import Home, Images, configure, console, say
from al_pipeline.cli.tables import score_tables
from al_pipeline.cli.weights import ready_weights
from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.options import TrainingOptions, check_weights
from al_pipeline.core.options import Options, valid
from al_pipeline.core.strategies.options import BatchOptions
from al_pipeline.core.study.plan import Plan, StudyOptions

if TYPE_CHECKING:
    from al_pipeline.settings import Settings


Group = type[Options]
USUAL_BUDGET = 500
# Seconds between two lines of progress off a terminal, unless a seed is done.
EVERY = 30.0
# Seconds after which it is worth a line how long the rest takes.
SOON = 3.0


def _flag(group: Group, name: str) -> str:
    """Return the name of a field's option; training and a round both have a batch_size."""
    return f"training_{name}" if group is TrainingOptions and name in BatchOptions.model_fields else name


def takes(groups: dict[Group, str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of option groups as its options, each group under a title of its own in the help.

    The values reach the command as keywords, as text: the groups read them, as they read environment variables.
    """

    def add(command: Callable[..., None]) -> Callable[..., None]:
        own = signature(command)
        parameters = [one for one in own.parameters.values() if one.kind is not Parameter.VAR_KEYWORD]
        for group, title in groups.items():
            for name, field in group.model_fields.items():
                flag = f"--{_flag(group, name).replace('_', '-')}"
                switch = field.annotation is bool
                option = typer.Option(
                    f"{flag}/--no-{flag[2:]}" if switch else flag,
                    help=field.description,
                    metavar=None if switch else valid(field).removeprefix("a ").removeprefix("one of "),
                    rich_help_panel=title,
                    show_default=False,
                )
                kind: Any = Annotated[bool | None, option] if switch else Annotated[str | None, option]
                parameters.append(Parameter(_flag(group, name), Parameter.KEYWORD_ONLY, default=None, annotation=kind))
        command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        return command

    return add


@takes({BatchOptions: "The batch", StudyOptions: "The study", TrainingOptions: "Training"})
def simulate(
    images: Images = None,
    strategies: Annotated[
        str, typer.Option("--strategies", help="Query strategies to compare, with commas between them.")
    ] = "auto,random",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Paired repetitions.")] = 10,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Processes, one seed and one thread each; as many as cores.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="Report, results, and what a killed study goes on from.")
    ] = Path("simulation"),
    out: Annotated[Path | None, typer.Option("--out", hidden=True, help="Its name before.")] = None,
    home: Home = None,
    **given: str | bool | None,
) -> None:
    """Compare query strategies on images in class folders; what is not said here is as in the loop's settings."""
    settings, output = configure(home, images), out or output
    if settings.images is None:
        raise InputError(
            "No folder of images is set: add --images DIR, with a folder for each class, or pool/<class>/… and "
            "holdout/<class>/…"
        )
    names = [name.strip() for name in strategies.split(",") if name.strip()]
    plan = _plan(settings, names, seeds, given)
    check_weights(plan.options.weights, plan.options.architecture)
    from al_pipeline.core.data.groups import assign, check_rule
    from al_pipeline.core.data.holdout import with_holdout
    from al_pipeline.core.data.pool import class_names, scan, select_split
    from al_pipeline.loop.deployment import Artifacts
    from al_pipeline.loop.framing import settle_framing
    from al_pipeline.loop.how_read import asked_for, settle

    check_rule(settings.group)
    manifest = scan(
        settings.images,
        max_excluded_share=settings.max_excluded_share,
        follow_links=settings.follow_links,
        classes=settings.classes,
        how=asked_for(settings),
    )
    names = class_names(manifest, settings.classes, settings.images)
    if not len(select_split(manifest, "holdout")):
        manifest["group"] = assign(manifest, settings.images, settings.group)
        manifest = with_holdout(manifest)
        if count := len(select_split(manifest, "holdout")):
            say(f"The images bring no test split (holdout/…): {count} are held out, by whole groups ({settings.group})")
    start = ready_weights(settings, plan.options)
    training, framing = settle_framing(start.training, manifest, Artifacts.of(settings))
    plan = plan.but(options=training)
    kept, reading = settle(settings, Artifacts.of(settings), manifest)
    # torch and what needs it: seconds, once nothing can be wrong with what was said any more.
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from al_pipeline.core.files import whole_file
    from al_pipeline.core.learning.checkpoint import device
    from al_pipeline.core.study.report import Report, settings_of
    from al_pipeline.core.study.results import Results
    from al_pipeline.core.study.run import run_study, versions

    counted, coming = TextColumn("{task.fields[rounds]} rounds"), TextColumn("{task.fields[left]}")
    columns = SpinnerColumn(), TextColumn("Seeds"), MofNCompleteColumn(), counted, TimeElapsedColumn(), coming
    lines = _Lines(len(plan.seeds), _to_do(plan, len(select_split(manifest, "pool"))))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Seeds", total=len(plan.seeds), rounds=0, left="")

        def seeds_done(done: int, _: int) -> None:
            bar.update(task, completed=done)
            lines.update(completed=done)

        def rounds_done(computed: int) -> None:
            bar.update(task, rounds=computed)
            lines.update(rounds=computed)

        def seconds_left(seconds: float) -> None:
            bar.update(task, left=_about(seconds))
            lines.update(left=seconds)

        study = run_study(
            manifest,
            names,
            plan,
            output,
            jobs=jobs or os.cpu_count() or 1,
            progress=seeds_done,
            rounds=rounds_done,
            left=seconds_left,
            how=kept.how,
        )
    for sentence in (start.said, framing, *reading):
        say(escape(sentence))
    with whole_file(output / "results.parquet", "The results") as file:
        study.results.to_parquet(file, index=False)
    metric = "roc_auc" if study.results["roc_auc"].notna().any() else "accuracy"
    # With skips, runs that asked about as many have different numbers of labels.
    results = Results(study.results, metric, "n_asked" if plan.skip_rate else "n_labels")
    report = Report(
        results,
        f"Query strategies on {settings.images.name}",
        settings=settings_of(plan, manifest, names) | {"device": device().type},
        versions=versions(),
    )
    console.print(*score_tables(results), sep="\n")
    for said in report.findings:
        say(said)
    page, text = report.write(output)
    found = len(plan.seeds) - len(study.computed)
    say(f"The report is {escape(str(page))}, and as Markdown {escape(str(text))}")
    say(
        f"{len(study.computed)} seeds computed, {found} found in {escape(str(study.folder))}; "
        f"{len(study.results)} rows written to {escape(str(output / 'results.parquet'))}"
    )


def _to_do(plan: Plan, n_pool: int) -> str:
    """Say what a study has to do for each seed."""
    from al_pipeline.core.study.forecast import Schedule

    schedule = Schedule.of(plan, n_pool)
    said = f"in each {len(schedule.labels)} rounds of {', '.join(plan.strategies)}"
    learned = [n for n, refined in zip(schedule.labels, schedule.refined, strict=True) if refined]
    if not learned:
        return said
    return (
        f"{said}. {len(learned)} of them refine the network, on {min(learned)} labels at first and {max(learned)} at "
        "last: the more labels, the longer"
    )


def _about(seconds: float) -> str:
    """Say how long something is likely to take yet, as exactly as it is known."""
    for unit, of_it in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * of_it:
            return f"about {seconds / of_it:.0f} {unit} left"
    return f"about {max(seconds, 1.0):.0f} s left"


class _Lines:
    """Progress where there is no terminal: a line when a seed is done, and one now and then while one takes long.

    So is the first that is known of the time that it takes. At the start what is to be done is said, everywhere.
    """

    def __init__(self, seeds: int, to_do: str) -> None:
        self._seeds, self._to_do, self._began = seeds, to_do, time.monotonic()
        self._told, self._done, self._rounds, self._left = self._began, 0, 0, ""

    def update(self, completed: int | None = None, rounds: int | None = None, left: float | None = None) -> None:
        """Take in how far the study is; say it if it is time to."""
        now = time.monotonic()
        if self._to_do and completed is not None and completed < self._seeds:
            say(f"{completed} of {self._seeds} seeds done; {self._to_do}")
            self._to_do, self._done = "", completed
        self._rounds = self._rounds if rounds is None else rounds
        news = completed is not None and completed != self._done
        self._done = self._done if completed is None else completed
        if left is not None and self._done < self._seeds:
            news = news or (not self._left and now - self._began >= SOON)
            self._left = f", {_about(left)}"
        if not console.is_terminal and (news or now - self._told >= EVERY):
            self._told = now
            computed = f", {self._rounds} rounds computed in {now - self._began:.0f} s" if self._rounds else ""
            coming = self._left if self._done < self._seeds else ""
            say(f"{self._done} of {self._seeds} seeds done{computed}{coming}")


def _plan(settings: "Settings", strategies: list[str], n_seeds: int, given: dict[str, str | bool | None]) -> Plan:
    """Return the plan: what the command line says, else the loop's settings; without rounds a run has a budget."""

    def said(group: Group) -> dict[str, Any]:
        return {name: given[_flag(group, name)] for name in group.model_fields if given[_flag(group, name)] is not None}

    own = settings.round
    study = said(StudyOptions)
    if "rounds" not in study:
        study.setdefault("budget", USUAL_BUDGET)
    return Plan(
        strategies=strategies,
        seeds=[own.seed + i for i in range(n_seeds)],
        options=settings.training.but(**said(TrainingOptions)),
        **{name: getattr(own, name) for name in BatchOptions.model_fields} | said(BatchOptions),
        **study,
    )

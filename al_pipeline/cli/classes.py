"""`al classes`: see what people can choose from, and change it while they label."""

from typing import Annotated

import typer
from rich.markup import escape

from al_pipeline.cli.session import Home, configure, console, say, told_plainly

classes_commands = typer.Typer(help="The classes that people choose from: see them, change them.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="A class.")]


@classes_commands.command("list")
@told_plainly()
def list_(home: Home = None) -> None:
    """Show the classes with their labels, what former names mean today, and what was changed when."""
    settings = configure(home)
    from al_pipeline.cli.tables import class_table
    from al_pipeline.core.errors import InputError
    from al_pipeline.ledger import Ledger
    from al_pipeline.loop.classes import told

    ledger = Ledger(settings.ledger_url)
    classes = ledger.class_set()
    if classes is None:
        raise InputError(f"No classes are known in {settings.home} yet: run `al up`, or launch the job `setup`")
    labels = ledger.current_labels(settings.policy.min_votes)["label"].value_counts()
    console.print(class_table(classes, {name: int(labels.get(name, 0)) for name in classes.names}))
    if classes.retired:
        say(f"No classes any more: {escape(', '.join(classes.retired))}")
    for change in ledger.class_changes():
        say(f"{change.made_at:%Y-%m-%d %H:%M} UTC  {escape(told(change.action, change.arguments))}")


@classes_commands.command()
@told_plainly()
def add(names: Annotated[list[str], typer.Argument(metavar="NAME…", help="New classes.")], home: Home = None) -> None:
    """Let people choose further classes; nothing is asked again."""
    _change(home, "add", names=names)


@classes_commands.command()
@told_plainly()
def rename(old: Name, new: Annotated[str, typer.Argument(help="Its new name.")], home: Home = None) -> None:
    """Give a class another name; whoever said the old one, or says it later, means the same."""
    _change(home, "rename", old=old, new=new)


@classes_commands.command()
@told_plainly()
def merge(
    olds: Annotated[list[str], typer.Argument(metavar="NAME…", help="The classes that are one.")],
    into: Annotated[str, typer.Option("--into", help="What they are together: one of them, or a new name.")],
    home: Home = None,
) -> None:
    """Make one class of several."""
    _change(home, "merge", olds=olds, into=into)


@classes_commands.command()
@told_plainly()
def split(
    old: Name,
    into: Annotated[
        list[str], typer.Option("--into", help="What it is: names with commas between, or one per --into.")
    ],
    home: Home = None,
) -> None:
    """Make several classes of one: people are asked again about its images, and about no others."""
    _change(home, "split", old=old, into=into if len(into) > 1 else into[0].split(","))


@classes_commands.command()
@told_plainly()
def remove(name: Name, home: Home = None) -> None:
    """Take a class away: people are asked again about its images."""
    _change(home, "remove", name=name)


def _change(home: Home, action: str, **arguments: str | list[str]) -> None:
    settings = configure(home)
    from al_pipeline.core.data.folder_names import normal
    from al_pipeline.core.labels.consensus import current_answers
    from al_pipeline.ledger.queries import RETIRED
    from al_pipeline.loop.classes import change, told
    from al_pipeline.loop.deployment import Deployment

    given = {k: normal(v) if isinstance(v, str) else [normal(name) for name in v] for k, v in arguments.items()}
    deployment = Deployment(settings)
    classes = change(deployment, action, **given)
    answers = current_answers(deployment.ledger.answers())
    say(escape(f"Done: {told(action, given)}. The classes are {', '.join(classes.names)}"))
    if again := answers.loc[answers["kind"] == RETIRED, "sample_id"].nunique():
        say(f"{again} images were answered with what is no class any more: the next batches begin with them")

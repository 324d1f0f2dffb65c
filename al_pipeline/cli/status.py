"""`al status`: how the loop stands, as far as can be known, also while its servers do not run."""

import gc
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from al_pipeline.cli.session import Home, check_images, configure, console, end_on_signals, say, stay
from al_pipeline.cli.terminal import Talk
from al_pipeline.core.errors import ALError, InputError, PlaceError

if TYPE_CHECKING:
    from al_pipeline.core.rounds import RoundStatus
    from al_pipeline.defs.observe import Facts
    from al_pipeline.servers.observer import Loop
    from al_pipeline.settings import Settings


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Stay and tell what happens, as `al up` does.")] = False,
    home: Home = None,
) -> None:
    """Show the rounds, the counts, and what the loop is waiting for."""
    # What is imported stays: to look for garbage in it takes a fifth of the time of a command that ends at once.
    gc.disable()
    settings = configure(home)
    from al_pipeline.loop.local import instance_folder

    instance_folder(settings)
    if watch:
        _watch(settings)
        return
    from al_pipeline.servers.observer import open_loop

    with open_loop(settings) as loop:
        _tell_rounds(loop)
        facts, unread = None, None
        try:
            facts = loop.facts()
        except ALError as error:
            unread = error
        _tell_counts(loop, facts)
        _tell_images_and_network(loop)
        if loop.is_setting_up():
            say("[bold]Wait[/bold]: the images are scanned; `al up` or `al open` launches round r0000 after that")
        elif facts is not None:
            _tell_decision(loop, facts)
        elif unread is not None:
            raise unread


def _tell_rounds(loop: "Loop") -> None:
    from al_pipeline.cli.tables import print_rounds

    rounds = loop.rounds()
    print_rounds(console, rounds)
    for note in rounds[-1].notes if rounds else ():
        say(f"[yellow]Note:[/yellow] {rounds[-1].key}: {escape(note)}")
    if rounds and (alike := rounds[-1].alike) is not None:
        minded = ": what is measured on them flatters" * (alike > 0)
        say(f"{alike:.1%} of the holdout images have a near-duplicate in training{minded}")


def _tell_counts(loop: "Loop", facts: "Facts | None") -> None:
    """Say how many labels there are and what is left to label; without facts as far as answers were pulled."""
    from al_pipeline.core.rounds import RoundStatus
    from al_pipeline.loop.waiting import left_now
    from al_pipeline.loop.weights import missing_weights

    settings, ledger = loop.settings, loop.deployment.ledger
    if facts is not None and facts.warning:
        say(f"[yellow]Warning:[/yellow] {escape(facts.warning)}")
    if (without := missing_weights(settings, settings.training)) is not None:
        say(f"[yellow]Warning:[/yellow] {escape(without)}")
    left = left_now(ledger, facts.status if facts is not None else RoundStatus(), settings.policy)
    if facts is None:
        labels = ledger.count_labels(settings.policy.min_votes)
        say(f"When Label Studio was last read: {labels} label{'s' * (labels != 1)}" + (f"; {left}." if left else "."))
        return
    if facts.status.run_state == "succeeded":
        _tell_round(loop, facts.status)
    if left:
        say(f"{left}.")
    for remark in facts.remarks:
        say(f"[yellow]Note:[/yellow] {escape(remark)}")


def _tell_round(loop: "Loop", now: "RoundStatus") -> None:
    from al_pipeline.loop.together import labels_beside

    beside = labels_beside(loop.deployment.ledger, loop.settings.policy.min_votes)
    more = f" (and {beside} of images that were shown beside others)" if beside else ""
    which = "the round before the newest" if now.ahead else "newest round"
    console.print(
        f"{now.labels_total} label{'s' * (now.labels_total != 1)}{more}, {now.unlabeled_left} images nobody was asked "
        f"about; {which}: "
        f"{now.planned} asked, {now.labeled} labeled, {now.skipped} skipped, {now.withdrawn} withdrawn"
        + (f", {now.again} to be asked again" if now.again else "")
    )


def _tell_images_and_network(loop: "Loop") -> None:
    from al_pipeline.loop.refined import served

    if (problem := _problem_of_images(loop.settings)) is not None:
        say(f"[yellow]Note:[/yellow] {escape(problem)}")
    if (seen := loop.how_seen()) is not None:
        say(escape(seen))
    if (serves := served(loop.deployment.artifacts)) is not None:
        say(escape(f"{serves.sentence}."))


def _tell_decision(loop: "Loop", facts: "Facts") -> None:
    from al_pipeline.core.rounds import Open, Stalled
    from al_pipeline.loop.local import Servers
    from al_pipeline.loop.waiting import coming

    decision, last = loop.decision(facts), Servers.last(loop.settings)
    ended = last is not None and not last.running
    # Why a run has ended is known once its servers are there again.
    if not (ended and isinstance(decision, Open)):
        say(f"[bold]{type(decision).__name__}[/bold]: {escape(decision.reason)}")
    if ended:
        home = escape(str(loop.settings.home))
        say(f"[bold]Stopped[/bold]: the servers of {home} have ended; `al up --home {home}` goes on where they were")
    elif soon := coming(facts.status, decision, loop.usual_seconds()):
        say(soon)
    if isinstance(decision, Stalled) and decision.run_id and (cause := loop.cause(decision.run_id)) is not None:
        say(f"[bold]Cause[/bold]: {escape(cause)}")


def _watch(settings: "Settings") -> None:
    """Tell what happens until Ctrl-C."""
    from al_pipeline.loop.local import Servers
    from al_pipeline.servers.observer import open_loop

    gc.enable()
    end_on_signals()
    servers = Servers.last(settings)
    with open_loop(settings) as loop, Talk(loop, servers.dagster_url if servers else "Dagster").following() as look:
        stay(look)


def _problem_of_images(settings: "Settings") -> str | None:
    """Return what a scan would refuse the folder of images for, as far as names tell; None if nothing."""
    from al_pipeline.loop.changes import Watch

    if settings.images is None:
        return None
    try:
        # A share may hang.
        Watch(lambda: check_images(settings)).result(5.0)
    except TimeoutError as error:
        return f"The folder of images {settings.images} has been read for {error} and is not yet through, or hangs"
    except (InputError, PlaceError) as error:
        return str(error)
    return None

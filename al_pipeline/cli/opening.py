"""`al open`, and what it shares with `al up`: the job `setup` and round 0, launched through Dagster where they lack."""

import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from al_pipeline.cli.session import Home, check_images, configure, console, end_on_signals, say
from al_pipeline.cli.staying import told_what_is_asked
from al_pipeline.cli.terminal import wait_for
from al_pipeline.core.errors import InputError

if TYPE_CHECKING:
    import dagster as dg

    from al_pipeline.core.data.changes import Changes
    from al_pipeline.servers.dagster_api import DagsterApi
    from al_pipeline.servers.observer import Loop
    from al_pipeline.settings import Settings

DagsterUrl = Annotated[
    str | None,
    typer.Option(
        "--dagster-url", "--url", help="Dagster's web server (AL_DAGSTER_URL); that of `al up`, or port 3000."
    ),
]
USUAL = "http://127.0.0.1:3000"
REMEDY = "start it (`al up`, or docker compose up), or say where it is (--dagster-url, AL_DAGSTER_URL)"
# Seconds between two looks at a server that is starting, and at what another command is about to launch.
GLANCE, PAUSE = 1.0, 0.2


def open_rounds(
    dagster_url: DagsterUrl = None,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds that Dagster may take to be ready.")] = 60.0,
    home: Home = None,
) -> None:
    """Open the loop of servers that run already: scan the images, make the project, ask for the first batch.

    A loop that is open is left as it is, and a run that is under way is waited for. Ends with 0 once people are asked,
    with 1 if they cannot be.
    """
    end_on_signals()
    settings = configure(home)
    from al_pipeline.loop.local import instance_folder
    from al_pipeline.servers.observer import open_loop

    instance_folder(settings)
    api, origin = dagster_of(settings, dagster_url)
    _wait_until_ready(api, origin, wait)
    with open_loop(settings) as loop:
        _check_home(api, loop, origin)
        try:
            _open(api, loop)
        except KeyboardInterrupt:
            say("What was launched goes on in Dagster; `al open` waits for it again.")
            raise


def _open(api: "DagsterApi", loop: "Loop") -> None:
    from al_pipeline.core.rounds import Stalled, round_key
    from al_pipeline.loop.changes import look

    number = loop.newest()
    if number is None:
        check_images(loop.settings)
        start_loop(api, loop, look(loop.settings))
    elif number == 0 and (run_id := _running_round(loop, round_key(0))):
        say("Round r0000 is under way already: waiting for its batch …")
        wait_for(api, loop, run_id, round_key(0))
    else:
        say(f"The loop is open already: its newest round is [bold]{round_key(number)}[/bold]. Nothing is launched.")
    if (target := told_what_is_asked(loop)) is None:
        return
    decision = loop.decision(loop.facts())
    if isinstance(decision, Stalled):
        raise InputError(f"The loop is stalled. {decision.reason}")
    say(f"[bold]Label here      {escape(target)}[/bold]")


def dagster_of(settings: "Settings", given: str | None) -> "tuple[DagsterApi, str]":
    """Return Dagster's web server, and in words who says that it is there.

    Parameters
    ----------
    settings : Settings
    given : str, optional
        The option's value.

    Raises
    ------
    InputError
        It is no address of the web.
    """
    from al_pipeline.loop.local import Servers
    from al_pipeline.servers.dagster_api import DagsterApi
    from al_pipeline.settings.origins import origins_of

    last = Servers.last(settings)
    if given is not None:
        url, origin = given, "--dagster-url"
    elif settings.dagster_url is not None:
        url = settings.dagster_url
        origin, _ = origins_of({}).get(("dagster_url",), ("dagster_url", url))
    elif last is not None and last.running:
        url, origin = last.dagster_url, f"that of `al up` in {settings.home}"
    else:
        url, origin = USUAL, "the usual one, as nothing else is set"
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url!r} ({origin}) is no address of a web server: it begins with http:// or https://")
    return DagsterApi(url.rstrip("/")), origin


def _wait_until_ready(api: "DagsterApi", origin: str, seconds: float) -> None:
    """Wait until Dagster can launch runs.

    Raises
    ------
    InputError
        It cannot after so many seconds.
    """
    until, said = time.monotonic() + seconds, ""
    while obstacle := api.obstacle():
        if time.monotonic() >= until:
            raise InputError(f"{obstacle}. The address is {origin}. If it is wrong, or nothing runs there: {REMEDY}")
        if obstacle != said:
            say(f"Waiting up to {until - time.monotonic():.0f} s: {escape(obstacle)}")
            said = obstacle
        time.sleep(GLANCE)


def _check_home(api: "DagsterApi", loop: "Loop", origin: str) -> None:
    """Check that the web server shows the runs of this home's Dagster: another one would open its own loop.

    Raises
    ------
    InputError
        It has a run that is not known here, or the other way round.
    """
    there, here = api.newest_run(), next(iter(loop.instance.get_runs(limit=1)), None)
    strange = there is not None and loop.instance.get_run_by_id(there) is None
    if strange or (here is not None and api.status(here.run_id) == "NOT_FOUND"):
        raise InputError(
            f"Dagster at {api.url} ({origin}) keeps other runs than {loop.instance.root_directory}: it belongs to "
            "another home. Say which home (--home, AL_HOME; DAGSTER_HOME), or where its Dagster is (--dagster-url)"
        )


def start_loop(api: "DagsterApi", loop: "Loop", changes: "Changes | None" = None) -> None:
    """Launch `setup` and round 0 through Dagster where they have not succeeded yet; `setup` also if images changed.

    What somebody else has launched meanwhile (the sensor, another terminal) is waited for, and not launched again.
    """
    import dagster as dg

    from al_pipeline.core.rounds import round_key
    from al_pipeline.defs.images import running_setup
    from al_pipeline.defs.observe import PARTITION_TAG

    setups = dg.RunsFilter(job_name="setup")
    before = _newest(loop, setups)
    running = running_setup(loop.instance)
    why = loop.why_set_up(changes)
    if running or why:
        if running:
            say("The job [bold]setup[/bold] runs already: waiting for it …")
        else:
            say(f"Launching the job [bold]setup[/bold]: {escape(why or '')} …")

            def found() -> str | None:
                return running_setup(loop.instance) or _newest(loop, setups, before)

            running = _launched(loop, "setup", found, lambda: api.launch("setup"))
        wait_for(api, loop, running, "setup")
        show_scan(loop)
    key = round_key(0)
    rounds = dg.RunsFilter(job_name="round", tags={PARTITION_TAG: key})
    earlier = _newest(loop, rounds)
    if loop.newest() is None:
        say(f"Launching [bold]round {key}[/bold]: it chooses the first batch by what the images look like …")

        def launch() -> str:
            loop.instance.add_dynamic_partitions("rounds", [key])
            return api.launch("round", partition=key)

        def under_way() -> str | None:
            return _running_round(loop, key) or _newest(loop, rounds, earlier)

        wait_for(api, loop, _launched(loop, key, under_way, launch), key)


def _launched(loop: "Loop", name: str, found: Callable[[], str | None], launch: Callable[[], str]) -> str:
    """Return the run that `found` finds, else that of `launch`: of several commands at once one launches."""
    from al_pipeline.loop.claims import Claims

    holder = uuid.uuid4().hex
    while (run_id := found()) is None:
        claims = Claims(loop.deployment.artifacts.claims)
        if (claim := claims.take(f"open-{name}", holder)) is not None:
            try:
                # Whoever had the claim before may have launched it since we looked.
                return found() or launch()
            finally:
                claims.give_back(claim)
        time.sleep(PAUSE)
    return run_id


def _newest(loop: "Loop", runs: "dg.RunsFilter", before: str | None = None) -> str | None:
    """Return the newest of some runs, also one that has ended, unless it is the one that was there `before`."""
    found = next((run.run_id for run in loop.instance.get_runs(runs, limit=1)), None)
    return None if found == before else found


def _running_round(loop: "Loop", key: str) -> str | None:
    """Return the run of a round that is under way, launched by whomever."""
    import dagster as dg

    from al_pipeline.defs.images import UNDER_WAY
    from al_pipeline.defs.observe import PARTITION_TAG, ROUND_JOBS

    runs = loop.instance.get_runs(dg.RunsFilter(tags={PARTITION_TAG: key}, statuses=list(UNDER_WAY)))
    return next((run.run_id for run in runs if run.job_name in ROUND_JOBS), None)


def show_scan(loop: "Loop") -> None:
    """Say what `setup` found in the folder of images."""
    from al_pipeline.cli.tables import print_scan
    from al_pipeline.core.data.folder import list_files
    from al_pipeline.core.data.report import describe
    from al_pipeline.loop.classes import listing_options
    from al_pipeline.loop.deployment import Artifacts
    from al_pipeline.loop.how_read import how_of_home

    settings = loop.settings
    if settings.images is not None:
        listing = list_files(settings.images, **listing_options(settings))
        how = how_of_home(Artifacts.of(settings))
        report = describe(loop.image_pool(), settings.images, listing, rule=settings.group, how=how)
        print_scan(console, report)
        for remark in (*loop.told_of_reading(), *report.remarks):
            say(f"[yellow]Note:[/yellow] {escape(remark)}")

"""`al webhook` and `al ml-backend`, the two servers that Label Studio talks to, and `al metrics` for Prometheus."""

import logging
from typing import Annotated

import typer
from rich.markup import escape

from al_pipeline.cli.opening import REMEDY, DagsterUrl, dagster_of
from al_pipeline.cli.session import Home, configure, end_on_signals, say, stay
from al_pipeline.core.errors import InputError

Host = Annotated[str, typer.Option("--host", help="Address to listen on; others than loopback are open to a network.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")]


def webhook(host: Host = "127.0.0.1", port: Port = 9191, dagster_url: DagsterUrl = None, home: Home = None) -> None:
    """Be told of answers by a Label Studio elsewhere, and open the next round at once; `al up` does so by itself."""
    settings = configure(home)
    begin(host, port)
    from al_pipeline.loop.local import instance_folder
    from al_pipeline.servers.processes import answers

    instance_folder(settings)
    api, origin = dagster_of(settings, dagster_url)
    if not answers(f"{api.url}/server_info"):
        raise InputError(f"No Dagster answers at {api.url} ({origin}): {REMEDY}")
    from al_pipeline.web.listening import listening

    with listening(settings, api, host, port) as (project, url):
        say(
            f"Label Studio ({escape(project)}) tells {escape(url)} when people answer; a round that is due is launched "
            f"at {escape(api.url)}. Ctrl-C ends this, the sensor goes on."
        )
        stay()


def ml_backend(
    host: Host = "127.0.0.1",
    port: Port = 9090,
    connect: Annotated[
        bool, typer.Option("--connect", help="Connect the project in Label Studio to it. Guesses bias people.")
    ] = False,
    home: Home = None,
) -> None:
    """Answer Label Studio with the newest checkpoint's guesses, as its ML backend; never on the holdout."""
    settings = configure(home)
    if connect and settings.submits == "key":
        raise InputError(
            "The project shows no guesses where one key answers (AL_SUBMIT=key): whoever sees one looks first. Set "
            "AL_SUBMIT=enter and launch the job `setup`, or leave out --connect"
        )
    begin(host, port)
    from al_pipeline.loop.deployment import Deployment

    deployment = Deployment(settings)
    # Known before the network is loaded.
    project_id = deployment.project_id() if connect else None
    from al_pipeline.labelstudio.callbacks import register_backend
    from al_pipeline.loop.copies import Copies
    from al_pipeline.web.guesses import Guesses
    from al_pipeline.web.ml_backend import backend
    from al_pipeline.web.serve import serving

    password = settings.ml_backend_password.get_secret_value() if settings.ml_backend_password else None
    guesses = Guesses(deployment.artifacts, settings.published_images, deployment.ledger, Copies(settings).find)
    with serving(backend(guesses, password), host, port) as bound:
        url = (settings.ml_backend_url or f"http://127.0.0.1:{bound}").rstrip("/")
        say(f"{escape(url)} answers with the checkpoint {guesses.version()}.")
        if project_id is not None:
            client = deployment.label_studio
            register_backend(client, project_id, url, password)
            say(f"{escape(client.project_url(project_id))} asks it for a guess whenever somebody opens a task.")
        stay()


def metrics(
    host: Host = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Port; AL_METRICS_PORT by default, 0: any.")
    ] = None,
    home: Home = None,
) -> None:
    """Tell Prometheus how the loop stands: open tasks, answers, seconds by part, failures, accuracy, free disk."""
    settings = configure(home)
    port = settings.metrics_port if port is None else port
    begin(host, port)
    from al_pipeline.servers.observer import open_loop
    from al_pipeline.web.metrics import metrics as application
    from al_pipeline.web.serve import serving

    with open_loop(settings) as loop, serving(application(loop), host, port) as bound:
        say(f"Metrics         http://{escape(host)}:{bound}/metrics")
        stay()


def begin(host: str, port: int) -> None:
    """Prepare a server's process: signals, log lines, a warning if others reach it; refuse a port that is taken."""
    from al_pipeline.web.serve import is_loopback, listen

    end_on_signals()
    listen(host, port).close()
    # Ours alone: httpx would tell of every request.
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("al_pipeline")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    if not is_loopback(host):
        say(
            f"[yellow]Warning:[/yellow] {escape(host)} is not loopback: whoever reaches it over the network can send "
            "requests, unencrypted. Put it behind a proxy with TLS, or use --host 127.0.0.1"
        )

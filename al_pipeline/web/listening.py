"""Be told by Label Studio when people answer: the receiver of its webhooks beside a loop, registered at the project."""

from collections.abc import Iterator
from contextlib import contextmanager

from al_pipeline.core.files import kept_secret
from al_pipeline.labelstudio.callbacks import register_webhook
from al_pipeline.servers.dagster_api import DagsterApi
from al_pipeline.servers.observer import open_loop
from al_pipeline.settings import Settings
from al_pipeline.web.opening import Opener
from al_pipeline.web.serve import serving
from al_pipeline.web.webhook import Waker, receiver


@contextmanager
def listening(settings: Settings, api: DagsterApi, host: str, port: int) -> Iterator[tuple[str, str]]:
    """Open the round that is due whenever people have answered; yields the project's address, and the receiver's.

    Parameters
    ----------
    settings : Settings
    api : DagsterApi
    host : str
        Address to listen on.
    port : int
        0 takes any free one.

    Raises
    ------
    ALError
        Nothing can listen there, or Label Studio refuses.
    """
    own = settings.webhook_secret
    secret = own.get_secret_value() if own else kept_secret(settings.home / "webhook_secret")
    with open_loop(settings) as loop:
        client, project_id = loop.deployment.label_studio, loop.deployment.project_id()
        waker = Waker(Opener(loop, api))
        with serving(receiver(secret, waker), host, port) as bound:
            url = f"{(settings.webhook_url or f'http://127.0.0.1:{bound}').rstrip('/')}/webhook"
            register_webhook(client, project_id, url, secret)
            # What people did while nobody listened is told by no webhook.
            waker.wake()
            yield client.project_url(project_id), url

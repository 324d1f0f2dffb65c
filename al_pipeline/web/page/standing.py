"""How the loop stands, in the words of the terminal: what it waits for, what has failed, and what happens next."""

import logging
import os
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from al_pipeline.loop.local import Servers
from al_pipeline.web.page.later import PATIENCE, Later

if TYPE_CHECKING:
    from al_pipeline.loop.deployment import Deployment
    from al_pipeline.servers.watcher import Failure, Scene, Watcher

log = logging.getLogger(__name__)
# Seconds for which what was read is good enough, and after which it is not told any more.
EVERY, OLD = 5.0, 30.0
# Seconds without a look of the sensor, or as many of its intervals, after which the loop does not run.
LONG, MISSED = 120.0, 6


@dataclass(frozen=True)
class Told:
    """What a page says of the loop.

    `notes` are sentences to mind; `asleep` are the seconds since the sensor has looked, None while it does; `dagster`
    is the address of its pages, None where it is not known or nobody serves them now.
    """

    failures: "tuple[Failure, ...]" = ()
    decision: str | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()
    asleep: float | None = None
    dagster: str | None = None


def told(scene: "Scene", now: float, *, key: str | None = None, dagster: str | None = None) -> Told:
    """Return what the first page says of a loop, or what the page of a round says.

    Parameters
    ----------
    scene : Scene
    now : float
        Unix time.
    key : str, optional
        Of the round.
    dagster : str, optional
        Address of its pages.
    """
    silent = None if scene.looked_at is None else now - scene.looked_at
    asleep = silent if silent is not None and silent > max(LONG, MISSED * scene.interval) else None
    if key is None:
        notes = tuple(filter(None, (scene.hindered, scene.warning, scene.remarks)))
        return Told(scene.failures, scene.decision, scene.reason, notes, asleep, dagster)
    failures = tuple(failure for failure in scene.failures if failure.what == key)
    about = (scene.reason or "").startswith(f"{key}:")
    return Told(failures, *(scene.decision, scene.reason) if about else (None, None), (), asleep, dagster)


class Standing:
    """Looks at the loop in a thread of its own when a page asks for it, so that no page waits for that for long.

    Parameters
    ----------
    deployment : Deployment
    """

    def __init__(self, deployment: "Deployment") -> None:
        self._deployment, self._looks = deployment, Later(self._look)
        self._busy, self._open = threading.Lock(), ExitStack()
        self._watcher: Watcher | None = None
        self._seen: tuple[float, Scene] | None = None

    def told(self, key: str | None = None, *, patience: float = PATIENCE) -> Told:
        """Return what is to be said of the loop, or of one round; nothing where Dagster never ran."""
        self._looks.get(int(time.monotonic() / EVERY), patience)
        seen = self._seen
        if seen is None or time.monotonic() > seen[0] + OLD:
            return Told()
        servers = Servers.last(self._deployment.settings)
        address = servers.dagster_url if servers is not None and servers.running else None
        return told(seen[1], time.time(), key=key, dagster=address)

    def close(self) -> None:
        """Close Dagster's databases."""
        self._open.close()

    def _look(self, _: int) -> None:
        # Before the servers answered once they are making their databases.
        if Servers.last(self._deployment.settings) is None and "DAGSTER_HOME" not in os.environ:
            return
        if not self._busy.acquire(blocking=False):
            return
        try:
            self._seen = time.monotonic(), self._watching().look()
        except Exception as error:  # noqa: BLE001 (the pages are there without it)
            log.warning("How the loop stands could not be read: %s", " ".join(str(error).split()))
        finally:
            self._busy.release()

    def _watching(self) -> "Watcher":
        if self._watcher is None:
            from al_pipeline.servers.observer import open_loop
            from al_pipeline.servers.watcher import Watcher

            loop = self._open.enter_context(open_loop(self._deployment.settings))
            loop.deployment = self._deployment
            self._watcher = Watcher(loop)
        return self._watcher

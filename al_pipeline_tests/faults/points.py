"""Named points of a round at which a process can be killed; the product knows nothing of them.

A point is a function of the product, and whether the process dies before it is called, while it runs, or after it.
"""

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

Moment = Literal["before", "during", "after"]
# Long enough to be on the way: a request that was sent, an epoch that has begun.
ON_THE_WAY = 0.02


@dataclass(frozen=True)
class Point:
    """Where a process is killed.

    Attributes
    ----------
    phase : str
    place : str
        ``module:function`` or ``module:Class.method``.
    moment : str
    """

    phase: str
    place: str
    moment: Moment

    @property
    def name(self) -> str:
        return f"{self.phase}: {self.moment} {self.place.rsplit(':', 1)[1]}"

    def arm(self) -> None:
        """Make this process die with SIGKILL when it comes here."""
        module, path = self.place.split(":")
        owner: Any = import_module(module)
        *parts, name = path.split(".")
        for part in parts:
            owner = getattr(owner, part)
        setattr(owner, name, self._deadly(getattr(owner, name)))

    def _deadly(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self.moment == "before":
                die()
            if self.moment == "during":
                threading.Timer(ON_THE_WAY, die).start()
            result = function(*args, **options)
            die()
            return result

        return call


def die() -> None:
    """Be gone at once, as after `kill -9` or a power cut."""
    os.kill(os.getpid(), signal.SIGKILL)


LEDGER, CLIENT = "al_pipeline.ledger:Ledger", "al_pipeline.labelstudio.client:LabelStudio"
POINTS = (
    Point("pull", f"{CLIENT}.answers", "after"),
    Point("pull", f"{LEDGER}.append", "during"),
    Point("pull", f"{LEDGER}.append", "after"),
    Point("pull", f"{LEDGER}.set_watermark", "after"),
    Point("snapshot", f"{LEDGER}.snapshot", "during"),
    Point("snapshot", f"{LEDGER}.snapshot", "after"),
    Point("train", "al_pipeline.core.turn:train", "during"),
    Point("train", "al_pipeline.core.learning.checkpoint:Checkpoint.save", "after"),
    Point("write ahead", f"{LEDGER}.plan", "before"),
    Point("write ahead", f"{LEDGER}.plan", "after"),
    Point("import", f"{CLIENT}.import_tasks", "before"),
    Point("import", f"{CLIENT}.import_tasks", "during"),
    Point("import", f"{CLIENT}.import_tasks", "after"),
    Point("verify", "al_pipeline.labelstudio.push:verify", "before"),
    Point("verify", f"{LEDGER}.record_pushed", "after"),
    Point("sensor", "al_pipeline.defs.sensors:observe", "after"),
)

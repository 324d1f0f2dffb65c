"""Who a project is: a line in its description, which says so under whatever address the project is reached."""

import re
from dataclasses import dataclass
from datetime import datetime

LINE = "Made by al_pipeline; leave this line: {mark}"
MARK = re.compile(r"al_pipeline:([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:[ \t]+(r[0-9]{4})\b)?")


@dataclass(frozen=True)
class Project:
    """One project, as far as it tells which it is.

    Attributes
    ----------
    project_id : int
        Unique within a server only; a new project may get the id of one that was deleted.
    title : str
    created_at : datetime
        By the server's clock.
    identity : str or None
        The uuid in its description; None if there is none.
    newest_round : str or None
        The newest round whose batch it got, as its description says: a server that was set back says an older one.
    """

    project_id: int
    title: str
    created_at: datetime
    identity: str | None = None
    newest_round: str | None = None

    @property
    def source(self) -> str:
        """The name under which the ledger keeps the project's annotations."""
        return f"project {self.identity}"


def marks(description: str) -> tuple[str | None, str | None]:
    """Return identity and newest round that a description names; the first if it names several."""
    found = MARK.search(description)
    return (found[1], found[2]) if found else (None, None)


def signed(description: str, identity: str, newest_round: str | None = None) -> str:
    """Return the description with this identity and round in it; what people wrote around them stays."""
    mark = f"al_pipeline:{identity}" + (f" {newest_round}" if newest_round else "")
    if MARK.search(description):
        return MARK.sub(mark, description, count=1)
    text = description.rstrip()
    return (f"{text}\n\n" if text else "") + LINE.format(mark=mark)

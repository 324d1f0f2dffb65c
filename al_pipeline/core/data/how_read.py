"""How files are read where they leave a choice: part of what a checkpoint has learned from, as framing is."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from al_pipeline.core.data.levels import Levels

Truncated = Literal["refuse", "use"]


@dataclass(frozen=True)
class HowRead:
    """How files are read.

    Attributes
    ----------
    levels : Levels
        Black and white of values of more than 8 bits whose files do not say them.
    channels : tuple of int
        Which are shown of pictures with so many channels, from 0: one as gray, else as red, green and blue. Empty: the
        first three, or the first of two.
    truncated : str
        ``refuse`` JPEG and PNG files that are cut off, or ``use`` what is there of them.
    """

    levels: Levels = field(default_factory=Levels)
    channels: tuple[int, ...] = ()
    truncated: Truncated = "refuse"

    @property
    def key(self) -> str:
        """What folders of pixels and features are called after; "" for files read as ever."""
        if self == AS_EVER:
            return ""
        return "r" + hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "HowRead":
        """Return what ``dataclasses.asdict`` made, through JSON.

        Raises
        ------
        TypeError, KeyError
            It is something else, or of a later version.
        """
        return cls(**{**found, "levels": Levels(**found["levels"]), "channels": tuple(found["channels"])})


AS_EVER = HowRead()

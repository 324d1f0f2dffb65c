"""How files are read where they leave a choice: part of what a checkpoint has learned from, as framing is."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from al_pipeline.core.data.levels import Levels

Truncated = Literal["refuse", "use"]
Plane = Literal["first", "middle", "max"] | int


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
    plane : str or int
        Of stacks (`stacks.FORMATS`) the ``first`` plane, the ``middle`` one, the brightest of all (``max``), or that of
        a number, from 0.
    """

    levels: Levels = field(default_factory=Levels)
    channels: tuple[int, ...] = ()
    truncated: Truncated = "refuse"
    plane: Plane = "first"

    @property
    def key(self) -> str:
        """What folders of pixels and features are called after; "" for files read as ever."""
        if self == AS_EVER:
            return ""
        found = asdict(self)
        if self.plane == "first":
            # As before there was a choice.
            del found["plane"]
        return "r" + hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:12]

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "HowRead":
        """Return what ``dataclasses.asdict`` made, through JSON, in this version or one that knew fewer fields.

        Raises
        ------
        TypeError, KeyError
            It is something else, or of a later version.
        """
        return cls(**{**found, "levels": Levels(**found["levels"]), "channels": tuple(found["channels"])})


AS_EVER = HowRead()

"""What one of several processes is to do, whichever comes first: they share no more than a folder."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

# Seconds after which a claim whose holder was killed may be taken over: what is claimed is done within one or two, on
# a busy machine ten.
STALE = 30.0


@dataclass(frozen=True)
class Claims:
    """Claims, a file for each: it is never written anew, and making it is what only one can do.

    Who takes over makes the next file. Nothing is deleted, since who has seen a file that is gone would take what
    somebody else has by now.

    Parameters
    ----------
    folder : Path
        Made with the first claim.
    """

    folder: Path

    def take(self, name: str, holder: str) -> Path | None:
        """Return the claim on what has this name; None while somebody else has it.

        Parameters
        ----------
        name : str
            Of a file, without its ending.
        holder : str
            Whoever has it may take it again.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        made = {int(path.suffix[1:]): path for path in self.folder.glob(f"{name}.*")}
        newest = max(made, default=0)
        if made and time.time() - made[newest].stat().st_mtime < STALE:
            return made[newest] if made[newest].read_text() == holder else None
        claim = self.folder / f"{name}.{newest + 1}"
        try:
            with claim.open("x") as file:
                file.write(holder)
        except FileExistsError:
            return None
        return claim

    @staticmethod
    def give_back(claim: Path) -> None:
        """Let others take it at once: nothing came of it."""
        os.utime(claim, (0, 0))

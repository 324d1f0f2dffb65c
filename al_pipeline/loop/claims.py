"""What one of several processes is to do, whichever comes first: they share no more than a folder, or a bucket."""

import time
from dataclasses import dataclass
from pathlib import Path

from al_pipeline.core.files import create_file, whole_file

# Seconds after which a claim whose holder was killed may be taken over: what is claimed is done within one or two, on
# a busy machine ten.
STALE = 30.0
GIVEN_BACK = "given back"


@dataclass(frozen=True)
class Claims:
    """Claims, a file for each, which has its holder's name: making it is what only one can do.

    Who takes over makes the next file. One that is given back says so. Nothing is deleted, since who has seen a file
    that is gone would take what somebody else has by now.

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
        made = {int(path.suffix[1:]): path for path in self.folder.glob(f"{name}.*")}
        newest = max(made, default=0)
        if (
            made
            and time.time() - made[newest].stat().st_mtime < STALE
            and (has := made[newest].read_text()) != GIVEN_BACK
        ):
            return made[newest] if has == holder else None
        claim = self.folder / f"{name}.{newest + 1}"
        return claim if create_file(claim, holder) else None

    @staticmethod
    def give_back(claim: Path) -> None:
        """Let others take it at once: nothing came of it."""
        with whole_file(claim, "The claim that is given back") as file:
            file.write_text(GIVEN_BACK)

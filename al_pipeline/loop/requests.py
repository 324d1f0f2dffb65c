"""Samples that somebody wants people to look at again: kept until a round's plan has them."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from al_pipeline.core.files import delete_file, whole_file
from al_pipeline.ledger.schema import REVIEW

if TYPE_CHECKING:
    from al_pipeline.loop.deployment import Deployment


class Requests:
    """The requests of a home: a file for each sample, with the moment, which nobody but `take_back` deletes.

    Whether one is still open follows from the ledger: a plan that is made later asks about it. So a round that is run
    again changes nothing.

    Parameters
    ----------
    deployment : Deployment
    """

    def __init__(self, deployment: "Deployment") -> None:
        self._folder, self._ledger = deployment.artifacts.review_requests, deployment.ledger

    def add(self, sample: str) -> None:
        """Ask for a second look at a sample, whose id is checked."""
        with whole_file(self._folder / sample, "The request") as file:
            file.write_text(datetime.now(UTC).isoformat())

    def take_back(self, sample: str) -> None:
        """Forget a request."""
        delete_file(self._folder / sample)

    def open(self) -> list[str]:
        """Return the samples that no plan has asked about again since, in the order of the requests."""
        if not self._folder.is_dir():
            return []
        files = [path for path in self._folder.iterdir() if not path.name.startswith(".")]
        made = {path.name: datetime.fromisoformat(path.read_text()) for path in files}
        if not made:
            return []
        planned = self._ledger.planned(purpose=REVIEW, columns=("sample_id", "planned_at"))
        reviews = planned.groupby("sample_id")["planned_at"].max()
        waiting = [sample for sample, at in made.items() if sample not in reviews.index or reviews[sample] < at]
        return sorted(waiting, key=lambda sample: (made[sample], sample))

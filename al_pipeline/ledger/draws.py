"""What was drawn for the holdout, and in which order people are asked about it. Part of `Ledger`."""

from collections.abc import Mapping
from datetime import datetime

import pandas as pd
import sqlalchemy as sa

from al_pipeline.ledger import frames
from al_pipeline.ledger.members import Members
from al_pipeline.ledger.schema import drawn_holdout, planned_tasks


class Draws(Members):
    """The part of `Ledger` that keeps the draw of the holdout; every method is one transaction."""

    def drawn(self) -> pd.DataFrame:
        """Return what was drawn for the holdout since there is a list of it, in the order of asking.

        Returns
        -------
        DataFrame
            ``sample_id, rank, propensity, drawn_at``.
        """
        return self._frame(sa.select(drawn_holdout).order_by(drawn_holdout.c.rank), frames.DRAWN)

    def count_purposes(self, round_key: str) -> dict[str, int]:
        """Return how many tasks of a round stand, by purpose; none that was withdrawn."""
        task, n = planned_tasks.c, sa.func.count()
        live = sa.select(task.purpose, n).where(task.round == round_key, task.withdrawn_at.is_(None))
        return dict(self._rows(live.group_by(task.purpose)))

    def holdout_waiting(self) -> dict[str, float]:
        """Return what was drawn and nobody was asked about yet, in its order, and with which probability it was drawn.

        A task that was withdrawn before it was shown, because its image was away, has asked nobody. A sample whose
        label people brought along has its answer.
        """
        task, one = planned_tasks.c, drawn_holdout.c
        asked = sa.select(task.sample_id).where(task.withdrawn_at.is_(None) | task.pushed_at.is_not(None))
        query = sa.select(one.sample_id, one.propensity).where(one.sample_id.not_in(asked)).order_by(one.rank)
        brought = self.imported()
        return {sample: share for sample, share in self._rows(query) if sample not in brought}


def record_draw(connection: sa.Connection, drawn: Mapping[str, float], at: datetime) -> None:
    """Store what is drawn now behind what was drawn before; what is known keeps its place."""
    known = set(connection.execute(sa.select(drawn_holdout.c.sample_id)).scalars())
    first = connection.execute(sa.select(sa.func.coalesce(sa.func.max(drawn_holdout.c.rank) + 1, 0))).scalar_one()
    new = [(sample, share) for sample, share in drawn.items() if sample not in known]
    rows = [
        {"sample_id": sample, "rank": rank, "propensity": share, "drawn_at": at}
        for rank, (sample, share) in enumerate(new, first)
    ]
    if rows:
        connection.execute(sa.insert(drawn_holdout), rows)

"""What tasks show beside the sample that they ask about, whose answer is theirs too. Part of `Ledger`."""

from collections.abc import Iterable
from typing import Any

import pandas as pd
import sqlalchemy as sa

from al_pipeline.ledger import frames, queries
from al_pipeline.ledger.database import LedgerError, chunks, transaction
from al_pipeline.ledger.pictures import Pictures
from al_pipeline.ledger.schema import task_members

# What a task shows at most, the sample that it asks about included.
MOST_SHOWN = 9


class Members(Pictures):
    """The part of `Ledger` that keeps which samples are asked about together; every method is one transaction."""

    def members(self, round_key: str | None = None) -> pd.DataFrame:
        """Return all that the tasks of a round, or of all, show beside the sample that each asks about.

        Returns
        -------
        DataFrame
            ``round, sample_id, member_id, place``, by these; the sample itself has the place 1, and no row.
        """
        member = task_members.c
        query = sa.select(task_members).order_by(member.round, member.sample_id, member.place)
        return self._frame(query if round_key is None else query.where(member.round == round_key), frames.MEMBERS)

    def answered_with(self) -> pd.DataFrame:
        """Return the members to whom the answer of their task goes: it stands, and nobody says that they differ.

        Returns
        -------
        DataFrame
            As of `members`.
        """
        return self._frame(queries.members(split=False), frames.MEMBERS)

    def split(self) -> pd.DataFrame:
        """Return the members of tasks of which somebody says that not all they show is the same; as of `members`."""
        return self._frame(queries.members(split=True), frames.MEMBERS)

    def part(self, round_key: str, member_ids: Iterable[str]) -> None:
        """Take members out of a round's tasks before these are shown: they are in the pool again, by themselves."""
        gone, member = sorted(set(member_ids)), task_members.c
        with transaction(self._engine, write=True) as connection:
            for part in chunks(gone):
                theirs = sa.delete(task_members).where(member.round == round_key, member.member_id.in_(part))
                connection.execute(theirs)


def member_records(round_key: str, rows: list[dict[str, Any]], members: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return the rows of `task_members` for a plan.

    Raises
    ------
    LedgerError
        A member belongs to no query of the plan, is asked about by it or shown by it twice.
    """
    if members is None or members.empty:
        return []
    records = [
        {"round": round_key, "sample_id": str(sample), "member_id": str(member), "place": int(place)}
        for sample, member, place in zip(members["sample_id"], members["member_id"], members["place"], strict=True)
    ]
    queried, asked = {row["sample_id"] for row in rows if row["purpose"] == "query"}, {row["sample_id"] for row in rows}
    shown = set[str]()
    for record in records:
        sample, member = record["sample_id"], record["member_id"]
        if sample not in queried or member in asked or member in shown:
            raise LedgerError(
                f"{round_key} cannot be planned: sample {member} cannot be shown beside {sample}, which has no query "
                "in the plan, or beside which it is asked about already; draw the batch anew"
            )
        shown.add(member)
    return records

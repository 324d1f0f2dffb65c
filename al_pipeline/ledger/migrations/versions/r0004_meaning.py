"""What an annotation is worth, which project it is from, and what its class is called today."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from al_pipeline.core.labels.annotation import kind_of, origin_of

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
ROWS = 5_000
VOTE = ["sample_id", "annotator", "updated_at", "annotation_id", "deleted", "kind", "value", "round", "source"]


def upgrade() -> None:
    """Add what is new; of the annotations that are there it follows from what Label Studio showed."""
    for table in ("annotation_events", "annotations"):
        op.add_column(table, sa.Column("kind", sa.String(16), nullable=False, server_default="answer"))
        op.add_column(table, sa.Column("origin", sa.Text))
        op.add_column(table, sa.Column("parent_prediction", sa.BigInteger))
        op.add_column(table, sa.Column("import_id", sa.BigInteger))
    op.add_column("label_snapshots", sa.Column("class_set", sa.Integer))
    op.create_table(
        "projects",
        sa.Column("identity", sa.Text, primary_key=True),
        sa.Column("project_id", sa.BigInteger, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
    )
    op.create_table(
        "class_sets",
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("arguments", sa.JSON, nullable=False),
        sa.Column("names", sa.JSON, nullable=False),
        sa.Column("became", sa.JSON, nullable=False),
    )
    _fill()
    op.drop_index("ix_annotations_votes", "annotations")
    op.create_index("ix_annotations_votes", "annotations", VOTE)
    where = sa.text("kind = 'correction'")
    op.create_index(
        "ix_annotations_corrections", "annotations", ["sample_id"], sqlite_where=where, postgresql_where=where
    )
    op.create_index("ix_annotation_events_import_id", "annotation_events", ["import_id"])


def _fill() -> None:
    """Say of each event what it is, and the same of the current answers."""
    connection = op.get_bind()
    page = sa.text("SELECT id, raw, cancelled FROM annotation_events WHERE id > :last ORDER BY id LIMIT :rows")
    change = sa.text(
        "UPDATE annotation_events SET kind = :kind, origin = :origin, parent_prediction = :parent WHERE id = :id"
    )
    last = 0
    while rows := connection.execute(page, {"last": last, "rows": ROWS}).all():
        found = [_row(id_, json.loads(raw) if isinstance(raw, str) else raw, cancelled) for id_, raw, cancelled in rows]
        if changed := [row for row in found if (row["kind"], row["origin"]) != ("answer", None)]:
            connection.execute(change, changed)
        last = rows[-1][0]
    for column in ("kind", "origin", "parent_prediction"):
        value = f"SELECT {column} FROM annotation_events WHERE id = annotations.event_id"  # noqa: S608
        op.execute(f"UPDATE annotations SET {column} = ({value})")  # noqa: S608


def _row(id_: int, raw: dict[str, Any], cancelled: bool) -> dict[str, Any]:
    # Labels that people brought along, and what was taken back, show no result.
    kind = kind_of(raw) if "result" in raw else "skip" if cancelled else "answer"
    return {"id": id_, "kind": kind, "origin": origin_of(raw), "parent": raw.get("parent_prediction")}


def downgrade() -> None:
    """Refuse: going back would drop labels."""
    raise NotImplementedError("the ledger holds people's work and is never downgraded: restore a backup instead")

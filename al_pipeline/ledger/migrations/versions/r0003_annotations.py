"""The latest state of every annotation, in a table of its own: no view ranks all events any more."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
COPIED = (
    "source, annotation_id, created_at, updated_at, task_id, sample_id, round, annotator, value, cancelled, "
    "lead_time, pulled_at, deleted"
)


def upgrade() -> None:
    """Create the table and fill it from the events; these stay as they are."""
    op.create_table(
        "annotations",
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("annotation_id", sa.BigInteger, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("task_id", sa.BigInteger, nullable=False),
        sa.Column("sample_id", sa.Text),
        sa.Column("round", sa.Text),
        sa.Column("annotator", sa.Text, nullable=False),
        sa.Column("value", sa.Text),
        sa.Column("cancelled", sa.Boolean, nullable=False),
        sa.Column("lead_time", sa.Double),
        sa.Column("pulled_at", MOMENT, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("event_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("source", "annotation_id", "created_at", name="pk_annotations"),
        sa.ForeignKeyConstraint(["event_id"], ["annotation_events.id"], name="fk_annotations_event_id"),
    )
    ranked = (
        f"SELECT {COPIED}, id, row_number() OVER (PARTITION BY source, annotation_id, created_at "  # noqa: S608
        "ORDER BY updated_at DESC, id DESC) AS newest FROM annotation_events"
    )
    latest = f"SELECT {COPIED}, id FROM ({ranked}) AS ranked WHERE newest = 1"  # noqa: S608
    op.execute(f"INSERT INTO annotations ({COPIED}, event_id) {latest}")
    op.create_index("ix_annotations_task", "annotations", ["source", "task_id", "deleted", "cancelled"])
    op.create_index(
        "ix_annotations_votes",
        "annotations",
        ["sample_id", "annotator", "updated_at", "annotation_id", "deleted", "cancelled", "value", "round", "source"],
    )
    for name, table, columns, condition in (
        ("ix_samples_holdout", "samples", ["sample_id"], "split = 'holdout'"),
        ("ix_planned_tasks_query", "planned_tasks", ["sample_id"], "withdrawn_at IS NULL AND purpose = 'query'"),
    ):
        where = sa.text(condition)
        op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
    op.drop_index("ix_annotation_events_task", "annotation_events")
    op.drop_index("ix_annotation_events_sample_id", "annotation_events")


def downgrade() -> None:
    """Refuse: going back would drop labels."""
    raise NotImplementedError("the ledger holds people's work and is never downgraded: restore a backup instead")

"""Annotations that people delete, reviews, the round that saw an event first, what a pull leaves to compare with."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns; what is there stays as it is."""
    op.drop_index("uq_planned_tasks_live_sample", "planned_tasks")
    live = sa.text("withdrawn_at IS NULL AND purpose <> 'review'")
    op.create_index(
        "uq_planned_tasks_live_sample",
        "planned_tasks",
        ["sample_id"],
        unique=True,
        sqlite_where=live,
        postgresql_where=live,
    )
    op.add_column("annotation_events", sa.Column("deleted", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("annotation_events", sa.Column("first_seen_round", sa.String(8)))
    op.create_index("ix_annotation_events_task", "annotation_events", ["source", "task_id"])
    op.add_column("watermarks", sa.Column("pulled_at", sa.DateTime(timezone=True)))
    op.add_column("watermarks", sa.Column("answers_over", sa.Integer, nullable=False, server_default="0"))
    op.add_column("watermarks", sa.Column("skips_over", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    """Refuse: going back would drop labels."""
    raise NotImplementedError("the ledger holds people's work and is never downgraded: restore a backup instead")

"""Samples, planned rounds and tasks, annotation events, label snapshots, watermarks."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the first schema."""
    op.create_table(
        "samples",
        sa.Column("sample_id", sa.String(32), nullable=False),
        sa.Column("uri", sa.Text, nullable=False),
        sa.Column("split", sa.String(16), nullable=False),
        sa.Column("label", sa.Text),
        sa.Column("first_seen", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("sample_id", name="pk_samples"),
    )
    op.create_table(
        "planned_rounds",
        sa.Column("round", sa.String(8), nullable=False),
        sa.Column("planned_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("round", name="pk_planned_rounds"),
    )
    op.create_table(
        "planned_tasks",
        sa.Column("round", sa.String(8), nullable=False),
        sa.Column("sample_id", sa.String(32), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("score", sa.Double),
        sa.Column("propensity", sa.Double),
        sa.Column("certainty", sa.Double),
        sa.Column("predicted", sa.Text),
        sa.Column("predicted_probability", sa.Double),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("checkpoint", sa.Text),
        sa.Column("planned_at", MOMENT, nullable=False),
        sa.Column("task_id", sa.BigInteger),
        sa.Column("pushed_at", MOMENT),
        sa.Column("withdrawn_at", MOMENT),
        sa.PrimaryKeyConstraint("round", "sample_id", name="pk_planned_tasks"),
        sa.ForeignKeyConstraint(["round"], ["planned_rounds.round"], name="fk_planned_tasks_round"),
        sa.ForeignKeyConstraint(["sample_id"], ["samples.sample_id"], name="fk_planned_tasks_sample_id"),
    )
    op.create_index(
        "uq_planned_tasks_live_sample",
        "planned_tasks",
        ["sample_id"],
        unique=True,
        sqlite_where=sa.text("withdrawn_at IS NULL"),
        postgresql_where=sa.text("withdrawn_at IS NULL"),
    )
    op.create_table(
        "annotation_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("annotation_id", sa.BigInteger, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("task_id", sa.BigInteger, nullable=False),
        sa.Column("sample_id", sa.Text),
        sa.Column("round", sa.Text),
        sa.Column("annotator", sa.Text, nullable=False),
        sa.Column("value", sa.Text),
        sa.Column("cancelled", sa.Boolean, nullable=False),
        sa.Column("lead_time", sa.Double),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("pulled_at", MOMENT, nullable=False),
        sa.Column("raw", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_annotation_events"),
        sa.UniqueConstraint("source", "annotation_id", "updated_at", name="uq_annotation_events_state"),
    )
    op.create_index("ix_annotation_events_sample_id", "annotation_events", ["sample_id"])
    op.create_table(
        "label_snapshots",
        sa.Column("round", sa.String(8), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("labels_hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("round", name="pk_label_snapshots"),
    )
    op.create_table(
        "snapshot_labels",
        sa.Column("round", sa.String(8), nullable=False),
        sa.Column("sample_id", sa.String(32), nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("votes", sa.Integer, nullable=False),
        sa.Column("n_votes", sa.Integer, nullable=False),
        sa.Column("weight", sa.Double, nullable=False),
        sa.Column("annotation_ids", sa.Text, nullable=False),
        sa.Column("first_round", sa.String(8), nullable=False),
        sa.PrimaryKeyConstraint("round", "sample_id", name="pk_snapshot_labels"),
        sa.ForeignKeyConstraint(["round"], ["label_snapshots.round"], name="fk_snapshot_labels_round"),
        sa.ForeignKeyConstraint(["sample_id"], ["samples.sample_id"], name="fk_snapshot_labels_sample_id"),
    )
    op.create_table(
        "watermarks",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_watermarks"),
    )


def downgrade() -> None:
    """Refuse: going back would drop labels."""
    raise NotImplementedError("the ledger holds people's work and is never downgraded: restore a backup instead")

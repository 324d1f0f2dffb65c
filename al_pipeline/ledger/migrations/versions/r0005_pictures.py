"""A sample is a picture: in whatever bytes, there or gone, by itself or with others."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
ID = sa.String(32)
ROUND = sa.String(8)


def upgrade() -> None:
    """Add what is new; the next scan fills it."""
    op.add_column("samples", sa.Column("pixels", ID))
    op.add_column("samples", sa.Column("group_id", sa.Text))
    op.add_column("samples", sa.Column("gone_since", MOMENT))
    op.add_column("samples", sa.Column("gone_why", sa.Text))
    op.create_index("ix_samples_pixels", "samples", ["pixels"])
    op.create_table(
        "sample_files",
        sa.Column("file_id", ID, primary_key=True),
        sa.Column("sample_id", ID, sa.ForeignKey("samples.sample_id"), nullable=False),
        sa.Column("first_seen", MOMENT, nullable=False),
    )
    op.create_table(
        "task_members",
        sa.Column("round", ROUND, sa.ForeignKey("planned_rounds.round"), primary_key=True),
        sa.Column("sample_id", ID, sa.ForeignKey("samples.sample_id"), primary_key=True),
        sa.Column("member_id", ID, sa.ForeignKey("samples.sample_id"), primary_key=True),
        sa.Column("place", sa.Integer, nullable=False),
    )
    op.create_index("ix_task_members_member_id", "task_members", ["member_id"])
    op.add_column("snapshot_labels", sa.Column("asked_with", ID))


def downgrade() -> None:
    """Refuse: going back would drop labels."""
    raise NotImplementedError("the ledger holds people's work and is never downgraded: restore a backup instead")

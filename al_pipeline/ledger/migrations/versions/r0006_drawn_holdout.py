"""The holdout is drawn once and asked about bit by bit: what was drawn, and in which order."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; rounds of before have asked about all that they drew, and need nothing in it."""
    op.create_table(
        "drawn_holdout",
        sa.Column("sample_id", sa.String(32), sa.ForeignKey("samples.sample_id"), primary_key=True),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("propensity", sa.Double, nullable=False),
        sa.Column("drawn_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    """Refuse: going back would drop labels."""
    raise NotImplementedError("the ledger holds people's work and is never downgraded: restore a backup instead")

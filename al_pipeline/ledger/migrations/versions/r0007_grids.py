"""Tasks may ask about several images, each by itself: the place of each in its task, and in what answers it."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; tasks of before ask about one image each, which has no place."""
    for table in ("planned_tasks", "annotation_events", "annotations"):
        op.add_column(table, sa.Column("cell", sa.Integer))


def downgrade() -> None:
    """Refuse: going back would drop labels."""
    raise NotImplementedError("the ledger holds people's work and is never downgraded: restore a backup instead")

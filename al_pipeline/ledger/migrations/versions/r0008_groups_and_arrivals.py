"""A round asks many times who is of a group, and who came since: it need not look at every sample to know."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the indexes."""
    op.create_index("ix_samples_group_id", "samples", ["group_id"])
    op.create_index("ix_samples_first_seen", "samples", ["first_seen"])


def downgrade() -> None:
    """Refuse: going back would drop labels."""
    raise NotImplementedError("the ledger holds people's work and is never downgraded: restore a backup instead")

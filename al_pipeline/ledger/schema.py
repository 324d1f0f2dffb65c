"""The ledger's tables. What people did is only ever added to the events; `annotations` is what follows from them."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

# The newest migration; a test compares it with the migrations' own head.
REVISION = "0008"
# Source of the labels that people brought along (`ledger.imports`).
IMPORTED = "import"
# Purpose of the tasks that ask once more about a sample that has labels already.
REVIEW = "review"
# What the strategy of a task begins with that asks once more because the answer brought no label.
AGAIN = "asked again"


class UTCDateTime(sa.TypeDecorator[datetime]):
    """Aware datetimes, stored in UTC on every database (SQLite has no time zones)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        """What it takes and gives."""
        return datetime

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Convert to UTC; the ledger refuses naive datetimes before they come here."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """Return an aware datetime in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

SampleId = sa.String(32)
RoundKey = sa.String(8)
EventId = sa.BigInteger().with_variant(sa.Integer, "sqlite")
# Votes are counted from an index of these alone, person by person in the order of the samples.
VOTE = "sample_id annotator updated_at annotation_id deleted kind value round source"


def _partial(condition: str) -> dict[str, Any]:
    """Return what makes an index of the rows that meet a condition, on either database."""
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


samples = sa.Table(
    "samples",
    metadata,
    sa.Column("sample_id", SampleId, primary_key=True),
    sa.Column("uri", sa.Text, nullable=False),
    sa.Column("split", sa.String(16), nullable=False),
    sa.Column("label", sa.Text),
    sa.Column("first_seen", UTCDateTime, nullable=False),
    # A hash of what is seen, whatever is written beside it in the file: the same picture is the same sample.
    sa.Column("pixels", sa.String(32)),
    # Samples that belong together; asked, split and held out together.
    sa.Column("group_id", sa.Text),
    # Since which scan its image cannot be used any more, and why; None while it can.
    sa.Column("gone_since", UTCDateTime),
    sa.Column("gone_why", sa.Text),
    sa.Index("ix_samples_holdout", "sample_id", **_partial("split = 'holdout'")),
    sa.Index("ix_samples_pixels", "pixels"),
    sa.Index("ix_samples_group_id", "group_id"),
    sa.Index("ix_samples_first_seen", "first_seen"),
)

# Files of a sample that are not the one it is named by: the same picture in other bytes.
sample_files = sa.Table(
    "sample_files",
    metadata,
    sa.Column("file_id", SampleId, primary_key=True),
    sa.Column("sample_id", SampleId, sa.ForeignKey("samples.sample_id"), nullable=False),
    sa.Column("first_seen", UTCDateTime, nullable=False),
)

# One row per planned round: whoever inserts it first owns the plan, so that a round is planned once, even empty.
planned_rounds = sa.Table(
    "planned_rounds",
    metadata,
    sa.Column("round", RoundKey, primary_key=True),
    sa.Column("planned_at", UTCDateTime, nullable=False),
)

planned_tasks = sa.Table(
    "planned_tasks",
    metadata,
    sa.Column("round", RoundKey, sa.ForeignKey("planned_rounds.round"), primary_key=True),
    sa.Column("sample_id", SampleId, sa.ForeignKey("samples.sample_id"), primary_key=True),
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
    sa.Column("planned_at", UTCDateTime, nullable=False),
    sa.Column("task_id", sa.BigInteger),
    sa.Column("pushed_at", UTCDateTime),
    sa.Column("withdrawn_at", UTCDateTime),
    # The place of the image in a task that asks about several, each by itself; from 1.
    sa.Column("cell", sa.Integer),
    # A sample is asked about by one task at a time, and reviewed by others: the database itself refuses more.
    sa.Index(
        "uq_planned_tasks_live_sample",
        "sample_id",
        unique=True,
        **_partial("withdrawn_at IS NULL AND purpose <> 'review'"),
    ),
    sa.Index("ix_planned_tasks_query", "sample_id", **_partial("withdrawn_at IS NULL AND purpose = 'query'")),
)

# What was drawn at random for the holdout, in the order in which people are asked about it: round by round.
drawn_holdout = sa.Table(
    "drawn_holdout",
    metadata,
    sa.Column("sample_id", SampleId, sa.ForeignKey("samples.sample_id"), primary_key=True),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("propensity", sa.Double, nullable=False),
    sa.Column("drawn_at", UTCDateTime, nullable=False),
)

# Samples that a task shows beside the one it asks about: its answer is theirs, too.
task_members = sa.Table(
    "task_members",
    metadata,
    sa.Column("round", RoundKey, sa.ForeignKey("planned_rounds.round"), primary_key=True),
    sa.Column("sample_id", SampleId, sa.ForeignKey("samples.sample_id"), primary_key=True),
    sa.Column("member_id", SampleId, sa.ForeignKey("samples.sample_id"), primary_key=True),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Index("ix_task_members_member_id", "member_id"),
)

annotation_events = sa.Table(
    "annotation_events",
    metadata,
    sa.Column("id", EventId, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("annotation_id", sa.BigInteger, nullable=False),
    sa.Column("updated_at", UTCDateTime, nullable=False),
    sa.Column("task_id", sa.BigInteger, nullable=False),
    sa.Column("sample_id", sa.Text),
    sa.Column("round", sa.Text),
    sa.Column("annotator", sa.Text, nullable=False),
    sa.Column("value", sa.Text),
    sa.Column("cancelled", sa.Boolean, nullable=False),
    sa.Column("lead_time", sa.Double),
    sa.Column("created_at", UTCDateTime, nullable=False),
    sa.Column("pulled_at", UTCDateTime, nullable=False),
    sa.Column("raw", sa.JSON, nullable=False),
    # Somebody took the answer back: it stays here, and is no answer any more.
    sa.Column("deleted", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("first_seen_round", RoundKey),
    # What it is worth, and where it comes from: see `core.labels.annotation`.
    sa.Column("kind", sa.String(16), nullable=False, server_default="answer"),
    sa.Column("origin", sa.Text),
    sa.Column("parent_prediction", sa.BigInteger),
    sa.Column("import_id", sa.BigInteger),
    # The place of the image in a grid. Its cells have one number, and moments that differ by microseconds.
    sa.Column("cell", sa.Integer),
    # Pulling the same state of an annotation again adds nothing.
    sa.UniqueConstraint("source", "annotation_id", "updated_at", name="uq_annotation_events_state"),
    sa.Index("ix_annotation_events_import_id", "import_id"),
)

# The latest state of each annotation, kept up by `Ledger.append`. A server that was set back to an older state gives
# the same ids out again: the moment of its making tells one annotation from another with its id.
annotations = sa.Table(
    "annotations",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("annotation_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("created_at", UTCDateTime, primary_key=True),
    sa.Column("updated_at", UTCDateTime, nullable=False),
    sa.Column("task_id", sa.BigInteger, nullable=False),
    sa.Column("sample_id", sa.Text),
    sa.Column("round", sa.Text),
    sa.Column("annotator", sa.Text, nullable=False),
    sa.Column("value", sa.Text),
    sa.Column("cancelled", sa.Boolean, nullable=False),
    sa.Column("lead_time", sa.Double),
    sa.Column("pulled_at", UTCDateTime, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False, server_default="answer"),
    sa.Column("origin", sa.Text),
    sa.Column("parent_prediction", sa.BigInteger),
    sa.Column("import_id", sa.BigInteger),
    sa.Column("cell", sa.Integer),
    sa.Column("event_id", EventId, sa.ForeignKey("annotation_events.id"), nullable=False),
    sa.Index("ix_annotations_task", "source", "task_id", "deleted", "cancelled"),
    sa.Index("ix_annotations_votes", *VOTE.split()),
    sa.Index("ix_annotations_corrections", "sample_id", **_partial("kind = 'correction'")),
)

label_snapshots = sa.Table(
    "label_snapshots",
    metadata,
    sa.Column("round", RoundKey, primary_key=True),
    sa.Column("created_at", UTCDateTime, nullable=False),
    sa.Column("labels_hash", sa.String(64), nullable=False),
    # The version of the class set that its labels are of; None where none was stored yet.
    sa.Column("class_set", sa.Integer),
)

snapshot_labels = sa.Table(
    "snapshot_labels",
    metadata,
    sa.Column("round", RoundKey, sa.ForeignKey("label_snapshots.round"), primary_key=True),
    sa.Column("sample_id", SampleId, sa.ForeignKey("samples.sample_id"), primary_key=True),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("votes", sa.Integer, nullable=False),
    sa.Column("n_votes", sa.Integer, nullable=False),
    sa.Column("weight", sa.Double, nullable=False),
    sa.Column("annotation_ids", sa.Text, nullable=False),
    sa.Column("first_round", RoundKey, nullable=False),
    # The sample that people were asked about, if this one was shown beside it.
    sa.Column("asked_with", SampleId),
)

watermarks = sa.Table(
    "watermarks",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", UTCDateTime, nullable=False),
    sa.Column("pulled_at", UTCDateTime),
    sa.Column("answers_over", sa.Integer, nullable=False, server_default="0"),
    sa.Column("skips_over", sa.Integer, nullable=False, server_default="0"),
)

# Label Studio projects whose annotations are here. The identity is written into the project itself, so that it stays
# the same under another address; it is the source of the project's annotations.
projects = sa.Table(
    "projects",
    metadata,
    sa.Column("identity", sa.Text, primary_key=True),
    sa.Column("project_id", sa.BigInteger, nullable=False),
    # By the server's clock: another project may get the id of one that was deleted.
    sa.Column("created_at", UTCDateTime, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("seen_at", UTCDateTime, nullable=False),
)

# The history of the class set: each row is what one action made of the set before it.
class_sets = sa.Table(
    "class_sets",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("made_at", UTCDateTime, nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("arguments", sa.JSON, nullable=False),
    sa.Column("names", sa.JSON, nullable=False),
    sa.Column("became", sa.JSON, nullable=False),
)

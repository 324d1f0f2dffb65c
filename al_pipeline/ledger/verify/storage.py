"""Whether the database can be read at all: its pages, the form of its values, and what rows say of each other."""

from collections.abc import Iterator

import sqlalchemy as sa

from al_pipeline.ledger.schema import UTCDateTime, metadata

# As SQLAlchemy writes moments; the fraction may be missing. Anything else ends the reading of a whole table.
MOMENT = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9]"


def storage(connection: sa.Connection) -> Iterator[str]:
    """Find damage for which nothing else can be read. SQLite alone keeps what has another type than its column."""
    if connection.dialect.name != "sqlite":
        return
    for (line,) in connection.exec_driver_sql("PRAGMA integrity_check(20)"):
        if line != "ok":
            yield f"the database file is damaged: {line}"
    for table in metadata.sorted_tables:
        checked = [column for column in table.c if not isinstance(column.type, sa.String)]
        wrong = [sa.func.count().filter(column.is_not(None), _garbled(column)) for column in checked]
        row = connection.execute(sa.select(*wrong).select_from(table)).one() if checked else ()
        for column, count in zip(checked, row, strict=True):
            if count:
                yield f"{count} values of {table.name}.{column.name} are no {_form(column)}"


def references(connection: sa.Connection) -> Iterator[str]:
    """Find rows that speak of what is not there."""
    for table in metadata.sorted_tables:
        for key in table.foreign_keys:
            parent = key.column.table.alias("parent")
            lost = sa.select(sa.func.count(), sa.func.min(key.parent)).select_from(table)
            lost = lost.outerjoin(parent, key.parent == parent.c[key.column.name])
            count, first = connection.execute(lost.where(parent.c[key.column.name].is_(None))).one()
            if count:
                what = f"speak of something that is not in {key.column.table.name}"
                yield f"{count} rows of {table.name} {what}, the first of {key.parent.name} {first}"


def _garbled(column: sa.Column) -> sa.ColumnElement[bool]:
    text, kind = sa.type_coerce(column, sa.Text), sa.func.typeof(column)
    if isinstance(column.type, UTCDateTime):
        return ~text.op("GLOB")(MOMENT + "*") | sa.func.datetime(text).is_(None)
    if isinstance(column.type, sa.JSON):
        return sa.func.json_valid(text) == 0
    return kind.not_in(["real", "integer"] if isinstance(column.type, sa.Double) else ["integer"])


def _form(column: sa.Column) -> str:
    forms = {UTCDateTime: "moment", sa.JSON: "JSON", sa.Boolean: "yes or no", sa.Integer: "whole number"}
    forms |= {sa.Double: "number"}
    return next(name for kind, name in forms.items() if isinstance(column.type, kind))

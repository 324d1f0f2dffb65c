"""Whether the history of the class set can be: each version is what its action makes of the one before."""

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.ledger.schema import class_sets, label_snapshots


def class_history(connection: sa.Connection) -> Iterator[str]:
    """Find versions that are no set of classes, or do not follow from those before, and snapshots of other ones."""
    rows = connection.execute(sa.select(class_sets).order_by(class_sets.c.version)).all()
    versions = [row.version for row in rows]
    if versions != list(range(len(rows))):
        yield f"the class sets have the versions {', '.join(map(str, versions))}, and should be counted from 0"
    before = None
    for row in rows:
        name = f"class set {row.version}"
        problems = [f"{name}: {problem}" for problem in _form(row.names, row.became)]
        if before is not None and before.version == row.version - 1 and not problems:
            if row.made_at < before.made_at:
                problems.append(f"{name} was made before class set {before.version}")
            if (problem := _step(before, row)) is not None:
                problems.append(f"{name} {problem}")
        elif before is None and row.version == 0 and row.action != DECLARE:
            problems.append(f"{name} comes from `{row.action}`, though there was none before")
        yield from problems
        before = row
    yield from _frozen(connection, set(versions), rows[0].made_at if rows else None)


DECLARE = "declare"


def _form(names: Any, became: Any) -> Iterator[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        yield f"its classes are {names!r}, which is no list of names"
        return
    if len(set(names)) < len(names):
        yield f"a class is in it twice: {', '.join(names)}"
    if len(names) < 2:
        yield f"it has {len(names)} classes, and needs two"
    if not isinstance(became, dict):
        yield f"its former names became {became!r}, which is no mapping"
        return
    for name, new in became.items():
        if name in names:
            yield f"{name!r} became {new!r}, and is a class of it"
        elif new is not None and new not in names and new not in became:
            yield f"{name!r} became {new!r}, which is no class of it and never was"


def _step(before: sa.Row, row: sa.Row) -> str | None:
    """Return what is wrong with a version, given the one before; None if it follows from it."""
    known = ClassSet(tuple(before.names), before.became, before.version)
    try:
        made = _made(known, row.action, row.arguments, row.names)
    except (InputError, KeyError, TypeError, ValueError) as error:
        return f"comes from `{row.action}` with {row.arguments}, which cannot be: {error}"
    if (list(made.names), dict(made.became)) == (row.names, row.became):
        return None
    return (
        f"is {', '.join(row.names)}, but `{row.action}` with {row.arguments} makes {', '.join(made.names)} of the one "
        "before, or another meaning of former names"
    )


def _made(known: ClassSet, action: str, arguments: Mapping[str, Any], names: list[str]) -> ClassSet:
    """Do again what was done."""
    if action == DECLARE:
        return known.replaced_by(names)
    if action == "add":
        return known.add(*arguments["names"])
    order = {"rename": ("old", "new"), "merge": ("olds", "into"), "split": ("old", "into"), "remove": ("name",)}
    if action not in order:
        raise ValueError("there is no such action")
    return getattr(known, action)(*(arguments[name] for name in order[action]))


def _frozen(connection: sa.Connection, versions: set[int], first: Any) -> Iterator[str]:
    header = label_snapshots.c
    query = sa.select(header.round, header.created_at, header.class_set).order_by(header.created_at, header.round)
    newest = None
    for key, made, version in connection.execute(query):
        if version is None:
            if first is not None and made > first:
                yield f"{key}: the labels are of no class set, though there was one"
            continue
        if version not in versions:
            yield f"{key}: the labels are of the class set {version}, which is not in the ledger"
        if newest is not None and version < newest:
            yield f"{key}: the labels are of the class set {version}, but an earlier round's are of {newest}"
        newest = version

"""Which pictures there are: in which files, since when, and which are gone. Part of `Ledger`."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from al_pipeline.ledger import frames
from al_pipeline.ledger.database import chunks, transaction
from al_pipeline.ledger.schema import sample_files, samples
from al_pipeline.ledger.views import Views

# Of a manifest.
STORED = ("sample_id", "uri", "split", "label", "pixels", "group", "file_id")
NOT_FOUND = "no file in the folder of images is this picture"


@dataclass(frozen=True)
class KnownPictures:
    """What a scan has to know to call a picture by the name it has.

    Attributes
    ----------
    files : dict of str to str
        File id (the first 32 hex digits of the SHA-256 of a file's bytes) → sample id, of every file ever seen.
    pixels : dict of str to str
        Hash of the decoded pixels → sample id.
    """

    files: dict[str, str]
    pixels: dict[str, str]


@dataclass(frozen=True)
class Gone:
    """A sample whose image cannot be used any more: where it was, since which scan, and why."""

    uri: str
    since: datetime
    why: str


@dataclass(frozen=True)
class Registered:
    """What a scan has changed: the ids of samples that are new, gone since it, back since it, or lie elsewhere now.

    `changed` are the same pictures in other bytes than before.
    """

    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


class Pictures(Views):
    """The part of `Ledger` that keeps which pictures there are; every method is one transaction."""

    def register(self, manifest: pd.DataFrame) -> Registered:
        """Store which samples there are; a known one keeps the day it was first seen and gets its new place.

        Samples that the manifest does not have, or has set aside, are gone from now on. They keep their place, and all
        that people have said of them.

        Parameters
        ----------
        manifest : DataFrame
            ``sample_id, uri, split, label``, optionally ``reason, file_id, pixels, group``; of all images that there
            are. Rows of the split ``excluded`` are no samples.
        """
        aside = manifest[manifest["split"] == "excluded"]
        usable = manifest[manifest.columns.intersection(STORED)].rename(columns={"group": "group_id"})
        usable = usable[usable["split"] != "excluded"].sort_values("sample_id")
        frames.check(usable, frames.SAMPLE, optional=["label", "pixels", "group_id"])
        reasons = dict(zip(aside["sample_id"], aside["reason"], strict=True)) if "reason" in aside else {}
        new, now = dict(zip(map(str, usable["sample_id"]), map(str, usable["uri"]), strict=True)), datetime.now(UTC)
        lost, back, moved = list[str](), list[str](), list[str]()
        others = _other_files(usable)
        with transaction(self._engine, write=True) as connection:
            one = samples.c
            for sample, place, gone_since in connection.execute(sa.select(one.sample_id, one.uri, one.gone_since)):
                if (uri := new.pop(sample, None)) is None:
                    if gone_since is None:
                        lost.append(sample)
                    continue
                if gone_since is not None:
                    back.append(sample)
                if place != uri:
                    moved.append(sample)
            files = set(connection.execute(sa.select(sample_files.c.file_id)).scalars())
            upsert = self._upsert()
            # A statement takes dictionaries, and those of a million images at once would be most of the memory.
            for some in chunks(range(len(usable))):
                rows = frames.unchecked(usable.iloc[list(some)], frames.SAMPLE)
                connection.execute(upsert, [row | {"first_seen": now} for row in rows])
            if lost:
                gone = sa.update(samples).where(samples.c.sample_id == sa.bindparam("sample"))
                why = [{"sample": i, "why": reasons.get(i) or NOT_FOUND} for i in sorted(lost)]
                connection.execute(gone.values(gone_since=now, gone_why=sa.bindparam("why")), why)
            if added := [row | {"first_seen": now} for row in others if row["file_id"] not in files]:
                connection.execute(self._insert(sample_files).on_conflict_do_nothing(), added)
        return Registered(
            new=tuple(new),
            gone=tuple(sorted(lost)),
            back=tuple(sorted(back)),
            moved=tuple(sorted(moved)),
            changed=tuple(sorted({str(row["sample_id"]) for row in added})),
        )

    def known_pictures(self) -> KnownPictures:
        """Return by which bytes and pixels the samples are known, those that are gone too."""
        own = sa.select(samples.c.sample_id, samples.c.sample_id)
        other = sa.select(sample_files.c.file_id, sample_files.c.sample_id)
        seen = sa.select(samples.c.pixels, samples.c.sample_id).where(samples.c.pixels.is_not(None))
        # Where two samples are the same picture, as those of before pixels were known, the older one has the name.
        older = seen.order_by(samples.c.first_seen.desc(), samples.c.sample_id.desc())
        return KnownPictures(files=dict(self._rows(own, other)), pixels=dict(self._rows(older)))

    def gone(self, sample_ids: Iterable[str] | None = None) -> dict[str, Gone]:
        """Return the samples whose image cannot be used any more, all or those of these, with where it was and why."""
        one = samples.c
        rows = self._rows(
            sa.select(one.sample_id, one.uri, one.gone_since, one.gone_why).where(one.gone_since.is_not(None))
        )
        asked = None if sample_ids is None else set(sample_ids)
        return {i: Gone(uri, since, why) for i, uri, since, why in rows if asked is None or i in asked}

    def groups(self) -> dict[str, str]:
        """Return the group of each sample that has one, those that are gone too."""
        one = samples.c
        return dict(self._rows(sa.select(one.sample_id, one.group_id).where(one.group_id.is_not(None))))

    def first_seen(self, *, after: datetime | None = None) -> dict[str, datetime]:
        """Return when each sample was first found in the folder of images; of all, or those found after a moment."""
        query = sa.select(samples.c.sample_id, samples.c.first_seen)
        return dict(self._rows(query if after is None else query.where(samples.c.first_seen > after)))

    def _upsert(self) -> "sqlite.Insert | postgresql.Insert":
        insert, one = self._insert(samples), samples.c
        new: dict[str, Any] = {name: insert.excluded[name] for name in ("uri", "split", "label")}
        # A manifest of before pixels and groups were known takes nothing back.
        new |= {name: sa.func.coalesce(insert.excluded[name], one[name]) for name in ("pixels", "group_id")}
        new |= {"gone_since": None, "gone_why": None}
        changed = sa.or_(*(one[name].is_distinct_from(value) for name, value in new.items()))
        return insert.on_conflict_do_update(index_elements=["sample_id"], set_=new, where=changed)

    def _insert(self, table: sa.Table) -> "sqlite.Insert | postgresql.Insert":
        return sqlite.insert(table) if self._engine.dialect.name == "sqlite" else postgresql.insert(table)


def _other_files(usable: pd.DataFrame) -> list[dict[str, str]]:
    """Return the files that a sample is not named by."""
    if "file_id" not in usable:
        return []
    other = usable[usable["file_id"].notna() & (usable["file_id"] != usable["sample_id"])]
    return [
        {"file_id": str(file), "sample_id": str(sample)}
        for file, sample in zip(other["file_id"], other["sample_id"], strict=True)
    ]

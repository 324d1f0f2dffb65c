"""Labels that people have already: a table of them becomes annotation events like any others."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath

import pandas as pd

from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.annotation import Annotation
from al_pipeline.ledger.schema import IMPORTED
from al_pipeline.ledger.store import Ledger

# Who said so, where the table does not tell.
ANNOTATOR = "import"
SHOWN = 5


@dataclass(frozen=True)
class Imported:
    """How many labels an import found that were not there, that say something else by now, and that say the same."""

    new: int
    changed: int
    unchanged: int


def import_labels(ledger: Ledger, table: pd.DataFrame, class_names: Sequence[str], *, origin: str) -> Imported:
    """Store labels from a table; all of them or, if one cannot be used, none.

    Importing a table again changes nothing; one in which a label differs changes that label. They are trained on from
    the next round on, and people are not asked about their samples any more.

    Parameters
    ----------
    ledger : Ledger
        The samples are registered.
    table : DataFrame
        Columns ``label`` and ``sample_id`` or ``path`` (whole, or its end from any folder on), optionally
        ``annotator``. Rows without a label are left out.
    class_names : sequence of str
    origin : str
        The file's name; it is kept with each label.

    Raises
    ------
    InputError
        A column is missing, a sample is unknown or not clear, a label is no class, or somebody says two things of one
        sample. The message names how many rows, and the first ones.
    """
    if "label" not in table.columns or not {"sample_id", "path"} & set(table.columns):
        raise InputError(
            f"{origin} has the columns {', '.join(map(str, table.columns))}: name one `label`, and one `path` or "
            "`sample_id`"
        )
    rows = table[table["label"].notna()].copy()
    rows["label"] = rows["label"].astype(str)
    _refuse(origin, rows, ~rows["label"].isin(list(class_names)), "label", f"no class of {', '.join(class_names)}")
    rows["sample"] = _samples(ledger, rows, origin)
    named = rows["annotator"] if "annotator" in rows.columns else pd.Series(ANNOTATOR, index=rows.index)
    rows["who"] = named.fillna(ANNOTATOR).astype(str)
    rows = rows.drop_duplicates(["sample", "who", "label"])
    twice = rows.duplicated(["sample", "who"], keep=False)
    _refuse(origin, rows, twice, "label", "another label than a row about the same sample by the same person")

    answers = ledger.answers()
    answers = answers[answers["source"] == IMPORTED]
    said = dict(zip(zip(answers["sample_id"], answers["annotator"], strict=True), answers["value"], strict=True))
    now, events, new = datetime.now(UTC), [], 0
    for sample, who, label in zip(rows["sample"], rows["who"], rows["label"], strict=True):
        before = said.get((sample, who))
        new += before is None
        if before != label:
            events.append(_brought(sample, who, label, now, origin))
    ledger.append(events, now, source=IMPORTED)
    return Imported(new=new, changed=len(events) - new, unchanged=len(rows) - len(events))


def _brought(sample_id: str, annotator: str, label: str, at: datetime, origin: str) -> Annotation:
    """Return a label in the form of an annotation, with the same number whenever this person labels this sample."""
    return Annotation(
        annotation_id=int.from_bytes(hashlib.sha256(f"{sample_id}{annotator}".encode()).digest()[:7]),
        task_id=0,
        sample_id=sample_id,
        # Labels that were there before the loop count from its first round on.
        round="r0000",
        annotator=annotator,
        value=label,
        cancelled=False,
        lead_time=None,
        created_at=at,
        updated_at=at,
        raw={"file": origin},
    )


def _samples(ledger: Ledger, rows: pd.DataFrame, origin: str) -> list[str]:
    """Return the sample id of each row."""
    uris = ledger.uris()
    if "sample_id" in rows.columns:
        _refuse(origin, rows, ~rows["sample_id"].isin(list(uris)), "sample_id", "not in the image pool")
        return rows["sample_id"].tolist()
    # Paths are compared from their ends, since the table may have been made from another folder.
    by_name: defaultdict[str, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
    for sample, uri in uris.items():
        parts = PurePath(uri).parts
        by_name[parts[-1]].append((parts, sample))
    found: list[set[str]] = []
    for path in rows["path"].astype(str):
        wanted = tuple(part for part in PurePath(path.replace("\\", "/")).parts if part not in {".", "/"})
        near = by_name[wanted[-1]] if wanted else []
        found.append({sample for parts, sample in near if parts[-len(wanted) :] == wanted})
    counts = pd.Series([len(each) for each in found], index=rows.index)
    _refuse(origin, rows, counts == 0, "path", "no image of the pool: check its beginning, or leave folders out")
    _refuse(origin, rows, counts > 1, "path", "the end of several images' paths: add the folders before it")
    return [next(iter(each)) for each in found]


def _refuse(origin: str, rows: pd.DataFrame, wrong: "pd.Series[bool]", column: str, reason: str) -> None:
    if wrong.any():
        first = ", ".join(repr(str(value)) for value in rows.loc[wrong, column].head(SHOWN))
        raise InputError(
            f"{origin}: {int(wrong.sum())} of {len(rows)} rows cannot be used, and nothing was imported: {column} "
            f"{first}{' …' if wrong.sum() > SHOWN else ''} is {reason}"
        )

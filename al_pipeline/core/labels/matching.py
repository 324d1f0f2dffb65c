"""From labels as somebody wrote them to samples of the pool and classes of today; whatever does not fit is listed."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from al_pipeline.core.data.folder_names import normal
from al_pipeline.core.data.pool import content_id
from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.labels.formats.brought import Brought
from al_pipeline.core.options import nearest

# How many of a kind an error shows.
SHOWN = 5
NOT_THERE = "is no image of the pool: check its beginning, or leave folders out; --skip-unknown leaves such rows out"
FOREIGN_ID = "is not in the image pool: was the table made for other images? --skip-unknown leaves such rows out"
FOREIGN_CONTENT = "is not in the image pool by its content; --skip-unknown leaves such images out"
AMBIGUOUS = "is the end of several images' paths: add the folders before it"
TWICE = "says something else than another row by the same person about the same image: keep one of them"


@dataclass(frozen=True)
class Problem:
    """Why a row cannot be used: for example the label ``owl``, which is no class of today.

    Attributes
    ----------
    place : str
        Where the row stands.
    column, value, reason : str
        A sentence of three parts; problems of the same column and reason are told together.
    elsewhere : bool
        The row is about no usable image of the pool, and may be left out.
    """

    place: str
    column: str
    value: str
    reason: str
    elsewhere: bool = False


def told(origin: str, problems: Sequence[Problem], total: int) -> str:
    """Return all problems as one message, the first few values of each kind."""
    kinds: defaultdict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        kinds[problem.column, problem.reason].append(problem)
    lines = []
    for (column, reason), found in kinds.items():
        values = list(dict.fromkeys(problem.value for problem in found))
        more = " …" if len(values) > SHOWN else ""
        where = f"{len(found)} rows, the first is {found[0].place}" if len(found) > 1 else found[0].place
        lines.append(f"\n  {where}: {column} {', '.join(values[:SHOWN])}{more} {reason}")
    wrong = len({problem.place for problem in problems})
    return f"{origin}: {wrong} of {total} rows cannot be used, and nothing was imported:{''.join(lines)}"


class Classes:
    """What a written label means today.

    Parameters
    ----------
    names : sequence of str
        Today's classes.
    class_set : ClassSet, optional
        It knows what former names mean.
    """

    def __init__(self, names: Sequence[str], class_set: ClassSet | None = None) -> None:
        self.names, self._set = list(names), class_set
        self._written = {normal(name): name for name in names}
        self._by_case = {name.casefold(): name for name in names}

    def of(self, label: str) -> str | None:
        """Return the class, None if there is none. Tables of numbers write ``1.0`` for a class ``1``."""
        text = normal(label)
        whole = re.fullmatch(r"(-?\d+)\.0+", text)
        for each in (text, whole[1] if whole else text):
            if each in self._written:
                return self._written[each]
            if self._set is not None and (today := self._set.of(each)) in self.names:
                return today
        return None

    def hint(self, label: str) -> str:
        """Return the label as an error shows it, with the class that may be meant."""
        text = normal(label)
        if (meant := self._by_case.get(text.casefold())) is None:
            proposal = nearest(text, self.names)
            return f"{text!r}{f' ({proposal[2:]})' if 'did you mean' in proposal else ''}"
        return f"{text!r} (did you mean {meant!r}?)"


class Places:
    """Finds the sample that a row is about.

    Parameters
    ----------
    uris : mapping
        sample_id → path of its image.
    manifest : DataFrame, optional
        As `core.data.pool.scan` returns it: it knows the files that were set aside.
    """

    def __init__(self, uris: Mapping[str, str], manifest: pd.DataFrame | None = None) -> None:
        self._uris = uris
        # Paths are compared from their ends, since the table may have been made from another folder.
        self._by_name: defaultdict[str, list[tuple[tuple[str, ...], str | None, str]]] = defaultdict(list)
        self._set_aside: dict[str, str] = {}
        for sample, uri in uris.items():
            self._add(uri, sample, "")
        if manifest is not None:
            aside = manifest[manifest["split"] == "excluded"]
            for uri, sample, reason in zip(aside["uri"], aside["sample_id"], aside["reason"], strict=True):
                # Of copies one is kept, and what is said of another is said of it.
                self._add(uri, sample if sample in uris else None, str(reason))
                if sample is not None and sample not in uris:
                    self._set_aside[sample] = str(reason)

    def find(self, row: Mapping[str, object], *, content_first: bool) -> str | Problem:
        """Return the sample id for a row of `Brought`, or why there is none."""
        place, file = str(row["place"]), row["file"]
        if row["sample_id"] is not None:
            return self._of_id(place, str(row["sample_id"]), "sample_id", str(row["sample_id"]), FOREIGN_ID)
        by_path = self._of_path(place, str(row["path"] or ""))
        if isinstance(file, Path) and (content_first or isinstance(by_path, Problem)):
            by_content = self._of_file(place, file)
            if content_first or isinstance(by_content, str):
                return by_content
        return by_path

    def _of_id(self, place: str, sample: str, column: str, value: str, otherwise: str) -> str | Problem:
        if sample in self._uris:
            return sample
        reason = f"was set aside: {self._set_aside[sample]}" if sample in self._set_aside else otherwise
        return Problem(place, column, repr(value), reason, elsewhere=True)

    def _of_file(self, place: str, file: Path) -> str | Problem:
        try:
            return self._of_id(place, content_id(file), "image", str(file), FOREIGN_CONTENT)
        except OSError as error:
            return Problem(place, "image", repr(str(file)), f"cannot be read: {error.strerror}")

    def _of_path(self, place: str, path: str) -> str | Problem:
        wanted = _parts(path)
        near = [each for each in self._by_name[wanted[-1]] if each[0][-len(wanted) :] == wanted] if wanted else []
        found = {sample for _, sample, _ in near if sample is not None}
        if len(found) == 1:
            return next(iter(found))
        if found:
            return Problem(place, "path", repr(path), AMBIGUOUS)
        reason = f"was set aside: {near[0][2]}" if near else NOT_THERE
        return Problem(place, "path", repr(path), reason, elsewhere=True)

    def _add(self, uri: str, sample: str | None, reason: str) -> None:
        parts = _parts(uri)
        self._by_name[parts[-1]].append((parts, sample, reason))


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in normal(path).replace("\\", "/").split("/") if part not in {"", "."})


def matched(found: Brought, places: Places, classes: Classes, *, skip_unknown: bool) -> tuple[pd.DataFrame, int]:
    """Return the rows with the sample and the class that each is about, and how many were left out.

    Parameters
    ----------
    found : Brought
    places : Places
    classes : Classes
    skip_unknown : bool
        Leave out rows about no usable image of the pool.

    Returns
    -------
    rows : DataFrame
        Those of `found`, less repetitions, with ``sample`` and ``class``.
    left_out : int

    Raises
    ------
    InputError
        Rows cannot be used. The message lists all kinds of problems.
    """
    problems, rows, left_out = [], [], 0
    for row in found.rows.to_dict("records"):
        place = str(row["place"])
        if row["problem"] is not None:
            problems.append(Problem(place, "image", repr(row["path"]), row["problem"]))
            continue
        if row["label"] is None:
            continue
        sample = places.find(row, content_first=found.content_first)
        if isinstance(sample, Problem) and sample.elsewhere and skip_unknown:
            left_out += 1
            continue
        if isinstance(sample, Problem):
            problems.append(sample)
        if (name := classes.of(row["label"])) is None:
            listed = ", ".join(classes.names[:SHOWN]) + (" …" if len(classes.names) > SHOWN else "")
            problems.append(Problem(place, "label", classes.hint(row["label"]), f"is no class of {listed}"))
        rows.append(row | {"sample": sample if isinstance(sample, str) else None, "class": name})
    known = pd.DataFrame(rows, columns=[*found.rows.columns, "sample", "class"], dtype=object)
    known = known.drop_duplicates(["sample", "annotator", "class"])
    usable = known[known["sample"].notna() & known["class"].notna()]
    twice = usable[usable.duplicated(["sample", "annotator"], keep=False)].to_dict("records")
    problems += [
        Problem(row["place"], "label", f"{row['class']!r} for {row['path'] or row['sample']!r}", TWICE) for row in twice
    ]
    if problems:
        raise InputError(told(found.origin, problems, len(found.rows)))
    return known, left_out

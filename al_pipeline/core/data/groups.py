"""Which images belong together: a burst, a site, a patient. What belongs together is held out together."""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePath

import numpy as np
import pandas as pd

from al_pipeline.core.data.folder_names import HOLDOUT_FOLDERS, PLACES, POOL_FOLDERS, looks_like, normal
from al_pipeline.core.data.holdout import groups_of
from al_pipeline.core.data.known_pool import THUMBNAIL, known_pool
from al_pipeline.core.data.near_duplicates import SIDE, Looks
from al_pipeline.core.data.places import Place, Root, below, start_of
from al_pipeline.core.errors import InputError

NEAR_DUPLICATES, FOLDER, PARENT, NONE = "near_duplicates", "folder", "parent", "none"
RULES = (NEAR_DUPLICATES, FOLDER, PARENT, NONE)
# Frames of a burst follow each other within so many seconds; so many of the next are looked at.
BURST_SECONDS, BURST_FRAMES = 2.0, 3
# Look-alikes join one by one, the most alike first, while the group is no larger: else a chain of pictures that each
# look a little like the next, as those of one camera do, becomes one group.
LARGEST_GROUP, LARGEST_SHARE = 20, 0.02
ORIGIN = "AL_GROUP (or `group` in al.toml)"


def check_rule(rule: str) -> None:
    """Look that a rule of the setting `group` can be read, before any image is.

    Raises
    ------
    InputError
        It is no rule's name, no regular expression with a group in brackets, and no column of a table.
    """
    if table := _table(rule):
        _read_table(rule, *table)
    elif rule not in RULES:
        _expression(rule)


def assign(manifest: pd.DataFrame, root: Root, rule: str, known: Mapping[str, str] | None = None) -> pd.Series:
    """Return the group of each row of a manifest: the id of its first sample; None where the row is excluded.

    A sample that is alone is its own group. A group that is known keeps its name when images join it, and groups that
    new images connect become one.

    Parameters
    ----------
    manifest : DataFrame
        As `pool.scan` returns it; for look-alikes ``phash`` and ``thumbnail``, for bursts ``taken``, ``width`` and
        ``height`` as well. Where they are missing a picture looks like no other.
    root : Path or Place
        The scanned folder.
    rule : str
        As the setting `group` has it: ``near_duplicates``, ``folder``, ``parent``, ``none``, a regular expression or
        ``FILE.csv:COLUMN``.
    known : mapping of str to str, optional
        Sample id → group, of earlier scans by the same rule. Samples that are in it are not compared again.

    Raises
    ------
    InputError
        As `check_rule`, or the table fits no image.
    """
    known = known or {}
    usable = manifest[manifest["split"] != "excluded"]
    ids = usable["sample_id"].astype(str).to_numpy()
    if rule == NEAR_DUPLICATES:
        numbers = _look_alikes(usable, [known.get(sample) for sample in ids])
    else:
        keys = _keys(usable, root, rule)
        seen: dict[object, int] = {}
        # A sample without a key is alone.
        each = [(sample,) if key is None else key for key, sample in zip(keys, ids, strict=True)]
        numbers = np.array([seen.setdefault(key, len(seen)) for key in each], dtype=np.int64)
    names = dict(zip(usable.index, _names(numbers, ids, known), strict=True))
    return pd.Series([names.get(row) for row in manifest.index], index=manifest.index, dtype=object, name="group")


def with_twins(manifest: pd.DataFrame, holdout: Collection[str], training: Collection[str]) -> set[str]:
    """Return the holdout's samples that training has seen: one of their group, or one that looks alike.

    Parameters
    ----------
    manifest : DataFrame
        As for `assign`, with its groups.
    holdout, training : collection of str
        Sample ids.
    """
    groups = groups_of(manifest)
    trained = {groups[sample] for sample in training if sample in groups}
    found = {sample for sample in holdout if groups.get(sample) in trained}
    tests, labels = set(holdout) - found, set(training) - set(holdout)
    known = known_pool(manifest)
    rows = manifest.iloc[known.rows[sorted(known.place[sample] for sample in tests | labels if sample in known.place)]]
    if THUMBNAIL not in rows:
        rows = rows.assign(thumbnail=known.thumbnails(rows["sample_id"].tolist()))
    seen = rows[_seen(rows)]
    new = seen["sample_id"].isin(tests).to_numpy()
    pairs, _ = _looks(seen).pairs(new)
    one, other = seen["sample_id"].to_numpy()[pairs].T
    return found | set(one[new[pairs[:, 0]] & ~new[pairs[:, 1]]]) | set(other[new[pairs[:, 1]] & ~new[pairs[:, 0]]])


def without_group(manifest: pd.DataFrame, root: Root, rule: str) -> list[str]:
    """Return the files that a table or an expression puts into no group, in their order: each is one of its own.

    Parameters
    ----------
    manifest, root, rule
        As for `assign`.
    """
    if rule in RULES:
        return []
    usable = manifest[manifest["split"] != "excluded"]
    keys = _keys(usable, root, rule)
    return [uri for uri, key in zip(usable["uri"], keys, strict=True) if key is None]


def places(usable: pd.DataFrame, root: Root) -> tuple[str, list[str]] | None:
    """Return the rule that makes a group of each site, camera or patient that folders are named after, and their names.

    None if the folders' names tell of none.

    Parameters
    ----------
    usable : DataFrame
        With ``uri`` and ``label``.
    root : Path or Place
        The scanned folder.
    """
    start, found = start_of(root), dict[str, set[str]]()
    where = {(uri.rpartition("/")[0], label) for uri, label in zip(usable["uri"], usable["label"], strict=True)}
    for folder, label in where:
        path = PurePath(f"{folder}/x".removeprefix(start))
        parts = path.parts[:-1]
        first = int(bool(parts) and parts[0].lower() in POOL_FOLDERS | HOLDOUT_FOLDERS)
        if inside := _below_class(path, label):
            found.setdefault("folder", set()).add(inside[0])
        if parts[first:] and normal(parts[first]) != label:
            found.setdefault(f"^{'[^/]+/' * first}([^/]+)/", set()).add(parts[first])
    for rule, names in found.items():
        if 1 < len(names) < len(usable) and PLACES in (looks_like(names) or ""):
            return rule, sorted(names)
    return None


def torn_groups(manifest: pd.DataFrame) -> list[str]:
    """Return the files of the images' own test split that share a group with files of the pool, in their order."""
    known = known_pool(manifest)
    torn = ~known.in_pool & np.isin(known.group_numbers, known.group_numbers[known.in_pool])
    return manifest["uri"].iloc[known.rows[torn]].tolist()


def _names(numbers: np.ndarray, ids: np.ndarray, known: Mapping[str, str]) -> np.ndarray:
    """Return the name of each sample's group: the first that it is known by, else the smallest id in it."""
    own = pd.Series(ids).groupby(numbers).min()
    before = pd.Series([known.get(sample) for sample in ids], dtype=object)
    names = before.dropna().groupby(numbers[before.notna()]).min()
    # When another rule cuts a group, one part keeps its name: the one with the sample it is named by.
    owner = dict(zip(ids, numbers, strict=True))
    names = names[[owner.get(name, number) == number for number, name in names.items()]]
    names = names[~names.duplicated()].reindex(own.index)
    return pd.Series(numbers).map(names.where(names.notna(), own)).to_numpy(dtype=object)


def _keys(usable: pd.DataFrame, root: Root, rule: str) -> list[str | None]:
    """Return what a sample shares with the others of its group, None where it is alone."""
    start = start_of(root)
    paths = [PurePath(uri.removeprefix(start)) for uri in usable["uri"]]
    if rule == NONE:
        return [None] * len(paths)
    if rule in (FOLDER, PARENT):
        inside = [_below_class(path, label) for path, label in zip(paths, usable["label"], strict=True)]
        return [("/".join(parts) if rule == PARENT else parts[0]) if parts else None for parts in inside]
    if table := _table(rule):
        return _of_table(rule, _read_table(rule, *table), paths, root)
    expression = _expression(rule)
    found = [expression.search(path.as_posix()) for path in paths]
    return [match.group(1) if match else None for match in found]


def _below_class(path: PurePath, label: str | None) -> tuple[str, ...]:
    """Return the folders that a file lies in, without those that stand for a split or its class."""
    folders = path.parts[:-1]
    names = [normal(folder) for folder in folders]
    if label in names:
        return folders[names.index(label) + 1 :]
    return folders[1:] if folders and folders[0].lower() in POOL_FOLDERS | HOLDOUT_FOLDERS else folders


def _expression(rule: str) -> re.Pattern[str]:
    names = ", ".join(RULES)
    try:
        expression = re.compile(rule)
    except re.error as error:
        raise InputError(
            f"{ORIGIN} is {rule!r}, which is no regular expression ({error}): mend it, or set one of {names}, or "
            "FILE.csv:COLUMN"
        ) from error
    if not expression.groups:
        raise InputError(
            f"{ORIGIN} is {rule!r}, a regular expression without a group: put what names the group into brackets, as "
            rf"in '(site_\d+)/', or set one of {names}, or FILE.csv:COLUMN"
        )
    return expression


def _table(rule: str) -> tuple[Path, str] | None:
    """Return the file and the column, if the rule is a column of a table."""
    file, colon, column = rule.rpartition(":")
    return (Path(file), column) if colon and file.lower().endswith(".csv") else None


def _read_table(rule: str, file: Path, column: str) -> pd.DataFrame:
    """Return the columns ``path`` and ``group`` of the table that a rule names, all text, empty cells as None."""
    where = f"{ORIGIN} is {rule!r}"
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{where}, but {file} cannot be read ({error.strerror}): check the path") from error
    except ValueError as error:
        raise InputError(f"{where}, but {file} is no table of comma separated values: {error}") from error
    for name in ("path", column):
        if name not in table:
            have = ", ".join(map(repr, table.columns[:10]))
            raise InputError(f"{where}, but {file} has no column {name!r}, only {have}: name one of them, or add it")
    return pd.DataFrame({"path": table["path"], "group": table[column].str.strip().replace("", None)})


def _of_table(rule: str, table: pd.DataFrame, paths: list[PurePath], root: Root) -> list[str | None]:
    groups: dict[str, str | None] = {}
    lines: dict[str, int] = {}
    # The heading is line 1.
    for line, (name, group) in enumerate(table.itertuples(index=False), start=2):
        path = _below(name, root)
        if groups.setdefault(path, group) != group:
            raise InputError(
                f"{ORIGIN} is {rule!r}, and {name} is in two groups, {groups[path]!r} in line {lines[path]} and "
                f"{group!r} in line {line}: give it one"
            )
        lines.setdefault(path, line)
    found = [groups.get(path.as_posix()) for path in paths]
    if paths and not any(path.as_posix() in groups for path in paths):
        first = repr(table["path"].iloc[0]) if len(table) else "nothing"
        raise InputError(
            f"{ORIGIN} is {rule!r}, but no image is in its column path: the first one there is {first}, the first "
            f"image {paths[0].as_posix()!r}. Give paths below {root}, or whole ones"
        )
    return found


def _below(name: str, root: Root) -> str:
    if isinstance(root, Place):
        return PurePath(below(name.strip(), root)).as_posix()
    path, root = PurePath(name.strip()), root.resolve()
    if path.is_absolute() and path.is_relative_to(root):
        path = path.relative_to(root)
    return path.as_posix()


def _look_alikes(usable: pd.DataFrame, before: list[str | None]) -> np.ndarray:
    """Return the number of each row's group, of look-alikes and frames of bursts, int64, shape (n,)."""
    n = len(usable)
    groups = _Groups(n, max(LARGEST_GROUP, int(LARGEST_SHARE * n)))
    groups.join_known(before)
    new = np.array([group is None for group in before], dtype=bool)
    rows = np.flatnonzero(_seen(usable))
    if not new.any() or not len(rows):
        return groups.numbers()
    seen = usable.iloc[rows]
    looks = _looks(seen)
    alike = looks.pairs(None if new.all() else new[rows])
    # A burst is surer than a look, and needs no other proof.
    for pairs, likeness in (_bursts(seen, looks, new[rows]), alike):
        groups.join(rows[pairs[np.argsort(-likeness, kind="stable")]])
    return groups.numbers()


def _looks(seen: pd.DataFrame) -> Looks:
    hashes = np.array([int(digits, 16) for digits in seen["phash"].to_numpy(dtype=object)], dtype=np.uint64)
    gray = b"".join(seen["thumbnail"]) if len(seen) else b""
    return Looks(hashes, np.frombuffer(gray, np.uint8).reshape(-1, SIDE * SIDE))


def _seen(usable: pd.DataFrame) -> np.ndarray:
    """Return which rows know what they look like: those of manifests of earlier versions do not."""
    if "thumbnail" not in usable:
        return np.zeros(len(usable), dtype=bool)
    return (usable["phash"].astype(bool) & usable["thumbnail"].map(bool).astype(bool)).to_numpy()


def _bursts(seen: pd.DataFrame, looks: Looks, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of frames that were taken one after the other in one folder, and look somewhat alike."""
    nothing = np.empty((0, 2), np.int64), np.empty(0, np.float32)
    if "taken" not in seen or seen["taken"].notna().sum() < 2:
        return nothing
    frames = pd.DataFrame(
        {
            "folder": [str(PurePath(uri).parent) for uri in seen["uri"]],
            "width": seen["width"].to_numpy(),
            "height": seen["height"].to_numpy(),
            "taken": pd.to_datetime(pd.Series(seen["taken"].to_numpy()), format="ISO8601", errors="coerce"),
            "row": np.arange(len(seen)),
        }
    )
    frames = frames.dropna(subset="taken").sort_values(["folder", "width", "height", "taken", "row"])
    place, row, found = frames[["folder", "width", "height"]], frames["row"].to_numpy(), []
    # The next few, because two cameras may write into one folder.
    for step in range(1, 1 + BURST_FRAMES):
        shared = (place.shift(step) == place).all(axis=1)
        soon = frames["taken"].diff(step).dt.total_seconds() <= BURST_SECONDS
        found.append(np.stack([row[:-step], row[step:]], axis=1)[(shared & soon).to_numpy()[step:]])
    pairs = np.concatenate(found)
    pairs = pairs[new[pairs].any(axis=1)]
    likeness = looks.likeness(pairs)
    enough = likeness >= looks.least_alike_in_burst
    return pairs[enough], likeness[enough]


class _Groups:
    """Rows 0 to n − 1 that are joined, pair by pair, into groups of at most so many."""

    def __init__(self, n: int, most: int) -> None:
        self._above, self._size, self._most = list(range(n)), [1] * n, most

    def join_known(self, names: Iterable[str | None]) -> None:
        """Join the rows of one name, however many they are."""
        first: dict[str, int] = {}
        for row, name in enumerate(names):
            if name is not None:
                self._join(first.setdefault(name, row), row, len(self._above))

    def join(self, pairs: np.ndarray) -> None:
        """Join pairs in their order, shape (m, 2), but those whose groups together would be too large."""
        for one, other in pairs.tolist():
            self._join(one, other, self._most)

    def numbers(self) -> np.ndarray:
        """Return a number of each row's group, int64, shape (n,)."""
        return np.array([self._top(row) for row in range(len(self._above))], dtype=np.int64)

    def _join(self, one: int, other: int, most: int) -> None:
        one, other = self._top(one), self._top(other)
        if one != other and self._size[one] + self._size[other] <= most:
            small, large = sorted((one, other), key=lambda row: self._size[row])
            self._above[small] = large
            self._size[large] += self._size[small]

    def _top(self, row: int) -> int:
        while self._above[row] != row:
            self._above[row] = row = self._above[self._above[row]]
        return row

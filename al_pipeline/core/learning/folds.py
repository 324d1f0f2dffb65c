"""What is held out together: parts of a cross-validation, and a validation share, that keep groups whole."""

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

# Fewer labels of a class than folds cannot be held out: they are learned from in every part.
FOLDS, FEWEST_FOLDS = 5, 3


def numbered(groups: npt.ArrayLike | None) -> Integers | None:
    """Return the number of each row's group, in the order in which groups come; None if each row is alone.

    Parameters
    ----------
    groups : array_like, shape (n,), optional
        Names or numbers of groups; None: each row is alone.
    """
    if groups is None:
        return None
    _, first, codes = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    if len(first) == len(codes):
        return None
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[codes]


def joined(groups: Integers | None, others: Integers | None) -> Integers | None:
    """Return the groups of rows and of others that are put behind them; None if either does not know them."""
    return None if groups is None or others is None else np.concatenate([groups, others])


def held_out(targets: Integers, groups: Integers | None = None) -> tuple[int, Integers]:
    """Return how many folds labels can be cut into, 0 for none, and the rows that are held out in turns.

    Those of classes with fewer labels (groups of labels) than `FEWEST_FOLDS` never are: one label of a new class is no
    reason to test nothing. There are no folds with fewer than two other classes.
    """
    present, codes = np.unique(targets, return_inverse=True)
    counted = codes if groups is None else np.unique(np.stack([codes, groups], axis=1), axis=0)[:, 0]
    counts = np.bincount(counted, minlength=len(present))
    enough = counts >= FEWEST_FOLDS
    if enough.sum() < 2:
        return 0, np.empty(0, dtype=np.int64)
    return int(min(FOLDS, counts[enough].min())), np.flatnonzero(enough[codes])


def parts(targets: Integers, folds: int, groups: Integers | None, seed: int) -> list[Integers]:
    """Return the rows that are held out in each turn: every row once, each class in proportion, groups whole.

    Parameters
    ----------
    targets : int64 array, shape (n,)
    folds : int
        As of `held_out`, of these rows.
    groups : int64 array, shape (n,), optional
        None if each row is alone.
    seed : int

    Returns
    -------
    list of int64 arrays
        Fewer than `folds` where groups of several classes would leave a turn nothing of a class to learn from; none,
        if that is so however they are cut.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    groups = numbered(groups)
    if groups is None:
        return [held for _, held in StratifiedKFold(folds, shuffle=True, random_state=seed).split(targets, targets)]
    counts = np.bincount(targets)
    for number in range(folds, FEWEST_FOLDS - 1, -1):
        splits = StratifiedGroupKFold(number, shuffle=True, random_state=seed).split(targets, targets, groups)
        found = [held for _, held in splits if len(held)]
        held = [np.bincount(targets[part], minlength=len(counts)) for part in found]
        if len(found) > 1 and not any(((counts > 0) & (own == counts)).any() for own in held):
            return found
    return []


def by_turns(groups: Integers | None, rows: Integers) -> Integers:
    """Return rows in their order, but the first one of each group before the second ones, and so on."""
    if groups is None:
        return rows
    codes = np.unique(groups[rows], return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    begins = np.concatenate([[0], np.cumsum(np.bincount(codes))[:-1]])
    turn = np.empty(len(rows), dtype=np.int64)
    turn[order] = np.arange(len(rows)) - begins[codes[order]]
    return rows[np.argsort(turn, kind="stable")]


def validation_split(
    targets: Integers, share: float, rng: np.random.Generator, groups: Integers | None = None
) -> tuple[Integers, Integers]:
    """Return rows to learn from and rows to validate on: a share of each class, but never its last label.

    Groups are held out whole, the one that fills a class's share too unless more than half of a class would go.

    Parameters
    ----------
    targets : int64 array, shape (n,)
        Class numbers.
    share : float
        0 to 1.
    rng : numpy.random.Generator
    groups : int64 array, shape (n,), optional
        None if each row is alone.
    """
    groups = numbered(groups)
    if groups is None:
        held = []
        for target in np.unique(targets):
            own = np.flatnonzero(targets == target)
            count = min(round(share * len(own)), len(own) - 1)
            held.append(rng.permutation(own)[:count])
        validation = np.sort(np.concatenate(held))
        return np.setdiff1d(np.arange(len(targets)), validation), validation
    counts = np.bincount(targets)
    wanted = np.minimum(np.round(share * counts).astype(np.int64), np.maximum(counts - 1, 0))
    most, taken = np.maximum(wanted, counts // 2), np.zeros_like(counts)
    chosen = np.zeros(groups.max() + 1, dtype=np.bool_)
    for group in rng.permutation(len(chosen)):
        own = np.bincount(targets[groups == group], minlength=len(counts))
        chosen[group] = (taken < wanted)[own > 0].any() and (taken + own <= most)[own > 0].all()
        taken += own * chosen[group]
    return np.flatnonzero(~chosen[groups]), np.flatnonzero(chosen[groups])

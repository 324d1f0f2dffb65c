"""Keys can be typed by people: which of them are rounds of the loop, and which must not be run."""

from collections.abc import Callable, Collection, Iterable

from al_pipeline.core.rounds import is_round, round_number

REMOVAL = (
    "A partition is removed in Dagster, on the page of the asset labeled_pool: the menu beside “Materialize”, "
    "“Delete partitions”."
)


def newest_of(keys: Iterable[str], begun: Collection[str], has_run: Callable[[str], bool]) -> int | None:
    """Return the number of the newest of the keys that is a round of the loop, or None before round 0.

    Keys can be typed by people. A round is what was begun, and what comes after that once it has a run; a key ahead of
    them waits until the loop comes to it.

    Parameters
    ----------
    keys : iterable of str
        All keys there are, whether they name rounds or not.
    begun : collection of str
        Rounds that have frozen their labels or planned their batch.
    has_run : callable
        Says whether a round has a run that was not refused (see `refusal`).
    """
    rounds = [key for key in keys if is_round(key)]
    following = _following(begun)
    real = [key for key in rounds if key in begun or (round_number(key) == following and has_run(key))]
    return max(map(round_number, real), default=None)


def refusal(key: str, begun: Collection[str]) -> str | None:
    """Return why a run of this key must not begin, one sentence for people; None for a round and the one after it."""
    following = _following(begun)
    if is_round(key) and round_number(key) <= following:
        return None
    wrong = "cannot be run yet" if is_round(key) else "is no round (r and four digits)"
    now = f"the newest round is r{following - 1:04d}, the next one" if following else "the first one"
    return f"The partition {key!r} {wrong}: {now} is r{following:04d}. Launch the job `round` for that one. {REMOVAL}"


def no_rounds(keys: Iterable[str]) -> str | None:
    """Return a warning that names the keys that are no rounds and says how to remove them; None if there are none."""
    found = sorted(key for key in keys if not is_round(key))
    if not found:
        return None
    named = ", ".join(map(repr, found))
    return f"Ignored, because they are no rounds (r and four digits): the partitions {named}. {REMOVAL}"


def _following(begun: Collection[str]) -> int:
    return max(map(round_number, begun), default=-1) + 1

"""What people did in Label Studio that does not count as they may think: a sentence each, with the remedy."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from al_pipeline.core.labels.annotation import VOTES, is_unknown
from al_pipeline.ledger.pictures import NOT_FOUND
from al_pipeline.loop.again import EMPTY, GONE, MIXED, TWICE
from al_pipeline.loop.answers import agreed_labels

if TYPE_CHECKING:
    from al_pipeline.ledger import Ledger
    from al_pipeline.ledger.pictures import Gone

# Names in one sentence.
SHOWN = 3
# Whoever changes an answer sooner may have meant the next task: the last one's keys stay live.
SOON = pd.Timedelta(minutes=1)
# A submit stores the two moments microseconds apart, on a busy server milliseconds. Nobody answers twice so soon.
AT_ONCE = pd.Timedelta(milliseconds=300)


def remarks(
    given: pd.DataFrame, key: str, class_names: Sequence[str] | None, stuck: Mapping[str, str]
) -> tuple[str, ...]:
    """Return what people should know about the answers to a round's tasks.

    Parameters
    ----------
    given : DataFrame
        `Ledger.answers(round_key=key, nobodys=True)`.
    key : str
        The round.
    class_names : sequence of str, optional
        By default every value is a class.
    stuck : mapping
        Sample → why no answer to its task will bring a label (`loop.again.reasons`).
    """
    theirs = given[given["round"] == key]
    kinds = {str(kind): rows for kind, rows in theirs.groupby("kind")}
    said: list[str] = []
    if (rows := kinds.get("guess")) is not None:
        said.append(
            f"{_count(rows, 'answer')} made from predictions by {_names(rows)} and do{_s(rows)} not count: delete "
            f"them (Data Manager, Delete Annotations) or answer the tasks ({_tasks(rows)})"
        )
    if class_names is not None:
        foreign = theirs[
            theirs["kind"].isin(VOTES) & theirs["value"].notna() & ~theirs["value"].isin(list(class_names))
        ]
        for value, rows in foreign.groupby("value"):
            said.append(
                f"{len(rows)} answer{_plural(rows)} by {_names(rows)} say{_s(rows, 's')} {value!r}, which is no class, "
                f"and count{_s(rows, 's')} like a skip: add it (`al classes add`), or remove it in Label Studio's "
                "labeling interface (`setup` does) and answer the tasks again"
            )
    if (rows := kinds.get("skip_choice")) is not None:
        said.append(
            f"{_count(rows, 'skipped task')} given a choice by {_names(rows)} and stay{_s(rows, 's')} skipped: whoever "
            "means it deletes the skip first (Cancel Skip)"
        )
    if (rows := kinds.get("hasty")) is not None:
        later = rows["updated_at"] - rows["created_at"] > AT_ONCE
        for some, what in (
            (rows[~later], "given by {} sooner than a person can look (min_seconds)"),
            (rows[later], "changed by {} on the page “No More Tasks Left”, which shows no image,"),
        ):
            if len(some):
                told = what.format(_names(some))
                said.append(f"{_count(some, 'answer')} {told} and do{_s(some)} not count: the tasks are asked again")
    for why, what in (
        (TWICE, "answered twice by the same person, so that nobody else is asked: asked again by the next round"),
        (EMPTY, "answered with no class, or with several: asked again by the next round"),
        (MIXED, "about images that are not all the same: each is asked about by itself by the next round"),
        (GONE, "answered with a class that is none any more: asked again by the next round"),
    ):
        if count := sum(reason == why for reason in stuck.values()):
            said.append(f"{count} task{'s were' if count > 1 else ' was'} {what}")
    if (rows := kinds.get("left_open")) is not None:
        said.append(f"{_count(rows, 'image')} left open by {_names(rows)}: asked again by the next round")
    if (rows := kinds.get("unsure")) is not None:
        said.append(f"{_count(rows, 'image')} called unsure by {_names(rows)}: answers, and no labels")
    if (rows := kinds.get("copy")) is not None:
        said.append(f"{_count(rows, 'answer')} imported again, and count{_s(rows, 's')} once")
    unknown = theirs[theirs["annotator"].map(is_unknown).astype(bool)]
    if len(unknown):
        said.append(
            f"{_count(unknown, 'answer')} given by people without an account (deleted, or of another server): each "
            "counts as a person of its own"
        )
    if len(changed := _changed_soon(theirs)):
        said.append(
            f"{_count(changed, 'answer')} changed by {_names(changed)} within a minute, before another task was "
            "answered: on the page “No More Tasks Left” the keys of the last task stay live. Look at "
            f"{_tasks(changed)}, and delete an answer to have it asked again"
        )
    return tuple(said)


def without_image(ledger: "Ledger", gone: Mapping[str, "Gone"], min_votes: int) -> tuple[str, ...]:
    """Return which labels, of training or of the holdout, no image is found for any more, in a sentence; none if none.

    Parameters
    ----------
    ledger : Ledger
    gone : mapping
        `Ledger.gone()`.
    min_votes : int
        Votes of a label.
    """
    if not gone:
        return ()
    classes, labels = ledger.class_set(), set(ledger.current_labels(min_votes)["sample_id"])
    tests = set[str]()
    if classes is not None:
        tests = set(agreed_labels(ledger, classes, min_votes, purpose="holdout").labels["sample_id"])
    theirs = {sample: each for sample, each in gone.items() if sample in labels | tests}
    lost = {sample: each.uri for sample, each in theirs.items() if each.why == NOT_FOUND}
    aside = {sample: f"{each.uri} ({each.why})" for sample, each in theirs.items() if each.why != NOT_FOUND}
    said: list[str] = []
    if lost:
        why = "its image is gone" if len(lost) == 1 else "their images are gone"
        then = "it counts again once this is" if len(lost) == 1 else "they count again once these are"
        said.append(f"{_unused(lost, tests)} because {why}: {_list(sorted(lost.values()))}; {then} back and scanned")
    if aside:
        why = "its image cannot be used" if len(aside) == 1 else "their images cannot be used"
        said.append(f"{_unused(aside, tests)} because {why}: {_list(sorted(aside.values()))}")
    return tuple(said)


def _unused(labels: Mapping[str, str], tests: Collection[str]) -> str:
    """Return how many labels are unused, and how many of them are the holdout's."""
    told = "1 label is unused" if len(labels) == 1 else f"{len(labels)} labels are unused"
    of_tests = len(labels.keys() & set(tests))
    return told + (f" ({of_tests} of the holdout)" if of_tests else "")


def _changed_soon(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the answers that were changed soon, and before their author had answered another task."""
    votes = answers[answers["kind"].isin(VOTES)]
    after = votes["updated_at"] - votes["created_at"]
    changed = votes[(after > AT_ONCE) & (after < SOON)]
    if changed.empty:
        return changed
    alone = [
        not (
            (answers["annotator"] == row.annotator)
            & (answers["annotation_id"] != row.annotation_id)
            & (answers["created_at"] > row.created_at)
            & (answers["created_at"] < row.updated_at)
        ).any()
        for row in changed.itertuples()
    ]
    return changed[alone]


def _count(rows: pd.DataFrame, what: str) -> str:
    return f"{len(rows)} {what}{_plural(rows)} {'were' if len(rows) > 1 else 'was'}"


def _plural(rows: pd.DataFrame) -> str:
    return "s" if len(rows) > 1 else ""


def _s(rows: pd.DataFrame, ending: str = "es") -> str:
    return "" if len(rows) > 1 else ending


def _names(rows: pd.DataFrame) -> str:
    return _list(sorted(set(rows["annotator"])))


def _tasks(rows: pd.DataFrame) -> str:
    return _list([f"task {task}" for task in sorted(set(rows["task_id"]))])


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")

"""Images that look alike are one question: which are asked about together, what people see, whose the answer is."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import pandas as pd

from al_pipeline.core.labels.consensus import current_votes
from al_pipeline.core.labels.together import with_members
from al_pipeline.core.rng import generator
from al_pipeline.core.rounds import round_number
from al_pipeline.ledger.members import MOST_SHOWN
from al_pipeline.ledger.schema import REVIEW
from al_pipeline.loop.how_read import how_of_home

if TYPE_CHECKING:
    from al_pipeline.ledger import Ledger
    from al_pipeline.loop.deployment import Deployment
    from al_pipeline.loop.presence import Files

SHOWN = ("sample_id", "member_id", "place")
# Bits of a perceptual hash: of no picture, or of one that is like no other.
UNLIKE = 64


def parted(ledger: "Ledger") -> set[str]:
    """Return the samples that were shown together and are not all the same: they are asked about by themselves."""
    split = ledger.split()
    return {*split["sample_id"], *split["member_id"]}


def asking_groups(unlabeled: pd.DataFrame, alone: Collection[str]) -> pd.Series:
    """Return the group of each sample of the manifest, one of its own for those that are to be alone."""
    ids = unlabeled["sample_id"]
    own = "alone " + ids.astype(str)
    group = unlabeled["group"] if "group" in unlabeled else pd.Series(None, index=unlabeled.index, dtype=object)
    return group.where(group.notna() & ~ids.isin(list(alone)), own)


def one_of_each(unlabeled: pd.DataFrame, alone: Collection[str], *, seed: int, number: int) -> pd.DataFrame:
    """Return one sample of each group, at random: that is the one that is scored, and may be asked about."""
    mixed = unlabeled.iloc[generator(seed, number, "one of a group").permutation(len(unlabeled))]
    return mixed[~asking_groups(mixed, alone).duplicated()].sort_values("sample_id")


def members_for(rows: list[dict[str, Any]], unlabeled: pd.DataFrame, alone: Collection[str]) -> pd.DataFrame:
    """Return what is shown beside the samples of a plan's queries: those of their groups that look most like them.

    Parameters
    ----------
    rows : list of dict
        The rows of the plan: ``sample_id, purpose``.
    unlabeled : DataFrame
        Rows of the manifest that may be asked about.
    alone : collection of str
        As of `asking_groups`.

    Returns
    -------
    DataFrame
        ``sample_id, member_id, place``; the places begin with 2, the sample itself has the first.
    """
    queries = [row["sample_id"] for row in rows if row["purpose"] == "query"]
    group = asking_groups(unlabeled, alone)
    of_sample = dict(zip(unlabeled["sample_id"], group, strict=True))
    looks = dict(zip(unlabeled["sample_id"], unlabeled["phash"], strict=True)) if "phash" in unlabeled else {}
    free = unlabeled[~unlabeled["sample_id"].isin([row["sample_id"] for row in rows])].sort_values("uri")
    mates = {key: ids.tolist() for key, ids in free["sample_id"].groupby(group[free.index])}
    shown: list[tuple[str, str, int]] = []
    for sample in queries:
        # Two queries of one group, one of them asked again, do not show the same images.
        others = mates.pop(of_sample.get(sample), [])
        others.sort(key=lambda other: _difference(looks.get(sample), looks.get(other)))
        shown += [(sample, other, place) for place, other in enumerate(others[: MOST_SHOWN - 1], 2)]
    return pd.DataFrame(shown, columns=list(SHOWN))


def _difference(one: object, other: object) -> int:
    if not (isinstance(one, str) and isinstance(other, str)):
        return UNLIKE
    return (int(one, 16) ^ int(other, 16)).bit_count()


def asked_beside(ledger: "Ledger", number: int) -> set[str]:
    """Return what tasks of rounds before `number` show beside their own samples: it is asked about, too."""
    planned, members = ledger.planned(columns=("round", "sample_id", "withdrawn_at")), ledger.members()
    live = planned[planned["withdrawn_at"].isna() & (planned["round"].map(round_number) < number)]
    return set(members.merge(live[["round", "sample_id"]], on=["round", "sample_id"])["member_id"])


def waiting_alone(ledger: "Ledger", number: int) -> pd.DataFrame:
    """Return the members of tasks of which somebody says that they differ, and that no later round has asked about.

    Returns
    -------
    DataFrame
        ``round`` (in which they were shown), ``sample_id``.
    """
    split = ledger.split()[["round", "member_id"]].rename(columns={"member_id": "sample_id"})
    planned = ledger.planned(columns=("round", "sample_id", "purpose"))
    asked = planned[(planned["purpose"] != REVIEW) & (planned["round"].map(round_number) < number)]
    newest = asked.groupby("sample_id")["round"].max()
    later = split["sample_id"].map(newest).fillna("") > split["round"]
    known = ledger.imported() | asked_beside(ledger, number)
    waiting = split[~later & ~split["sample_id"].isin(known) & (split["round"].map(round_number) < number)]
    return waiting.sort_values("round").drop_duplicates("sample_id", keep="last")


def cannot_return(ledger: "Ledger", key: str) -> set[str]:
    """Return the samples of a round whose tasks are not to be made (again): what they show is asked about elsewhere.

    Or somebody says that they show more than one class.
    """
    planned, members = ledger.planned(columns=("round", "sample_id", "purpose", "withdrawn_at")), ledger.members(key)
    live = planned[planned["withdrawn_at"].isna() & (planned["purpose"] != REVIEW)]
    every = ledger.members().merge(live[["round", "sample_id"]], on=["round", "sample_id"])
    beside = set(every.loc[every["round"] != key, "member_id"])
    elsewhere = set(live.loc[live["round"] != key, "sample_id"]) | beside
    split = ledger.split()
    taken = members[members["member_id"].isin(elsewhere)]["sample_id"]
    return {*taken, *split.loc[split["round"] == key, "sample_id"]} | beside


def with_pictures(deployment: "Deployment", key: str, batch: pd.DataFrame, files: "Files") -> pd.DataFrame:
    """Put the pictures of tasks that show several images where Label Studio can serve them.

    A member whose image is gone leaves its task, if nobody has answered that: an answer is for what was seen.

    Parameters
    ----------
    deployment : Deployment
    key : str
        The round.
    batch : DataFrame
        Rows of its plan, with ``image``: the name of the published file of each sample by itself.
    files : Files
        Where each sample's image is, if it is there.

    Returns
    -------
    DataFrame
        The batch with the names of the pictures in ``image``, and ``shown``, how many images are in each.
    """
    from al_pipeline.labelstudio.images import publish_together

    ledger, folder = deployment.ledger, deployment.settings.published_images
    members, unanswered = ledger.members(key), {sample for at, sample in ledger.open_tasks() if at == key}
    images = dict(zip(batch["sample_id"], batch["image"], strict=True))
    members = members[members["sample_id"].isin(list(images))]
    there, shown = set(files.look(members["member_id"]).there), dict.fromkeys(images, 1)
    for sample, others in members.groupby("sample_id")["member_id"]:
        one, left = str(sample), list[str]()
        places = {one: str(folder / images[one])} | {
            other: files.uris[other] if other in there else None for other in others
        }
        images[one], left = publish_together(places, folder, how_of_home(deployment.artifacts))
        shown[one] += len(others) - len(left)
        if left and one in unanswered:
            ledger.part(key, left)
    return batch.assign(image=list(batch["sample_id"].map(images)), shown=list(batch["sample_id"].map(shown)))


def with_those_beside(
    ledger: "Ledger", labels: pd.DataFrame, answers: pd.DataFrame, names: Collection[str]
) -> pd.DataFrame:
    """Return labels with those of the samples that were shown beside others.

    Parameters
    ----------
    ledger : Ledger
    labels : DataFrame
        As of `Consensus.labels`.
    answers : DataFrame
        `Ledger.answers` to queries; who has a vote of its own has its own label, or none.
    names : collection of str
        The classes.
    """
    members = ledger.answered_with()
    if members.empty:
        return labels
    return with_members(labels, members, set(current_votes(answers, list(names))["sample_id"]))


def labels_beside(ledger: "Ledger", min_votes: int) -> int:
    """Return how many samples have the label of one they were shown beside, beyond those that people have counted."""
    members = ledger.answered_with()
    if members.empty:
        return 0
    labeled = ledger.current_labels(min_votes)["sample_id"]
    return int((members["sample_id"].isin(labeled) & ~members["member_id"].isin(labeled)).sum())

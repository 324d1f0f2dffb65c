"""Images that are asked about together: one answer of a person, the label of each."""

from collections.abc import Collection

import pandas as pd

from al_pipeline.core.labels.consensus import LABEL_COLUMNS


def with_members(labels: pd.DataFrame, members: pd.DataFrame, own: Collection[str]) -> pd.DataFrame:
    """Return labels with those of the images that were shown beside the ones people were asked about.

    A member's row is that of the sample it was asked with, which `asked_with` names: the votes are the same ones, and
    count once.

    Parameters
    ----------
    labels : DataFrame
        As of `Consensus.labels`.
    members : DataFrame
        ``sample_id, member_id``: each member and the sample it was asked with (`Ledger.answered_with`).
    own : collection of str
        Samples that people have voted on by themselves: what they said of these wins.

    Returns
    -------
    DataFrame
        The same columns, by sample id.
    """
    follow = members[~members["member_id"].isin([*own, *labels["sample_id"]])]
    theirs = follow[["sample_id", "member_id"]].merge(labels.drop(columns="asked_with"), on="sample_id")
    theirs = theirs.rename(columns={"sample_id": "asked_with", "member_id": "sample_id"})
    if theirs.empty:
        return labels
    both = pd.concat([labels, theirs[labels.columns]], ignore_index=True)
    return both.astype({name: LABEL_COLUMNS[name] for name in both}).sort_values("sample_id", ignore_index=True)

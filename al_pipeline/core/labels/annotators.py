"""How far annotators agree, and how each of them does."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from al_pipeline.core.labels.annotation import DEALT_WITH
from al_pipeline.core.labels.consensus import current_answers, current_votes


@dataclass(frozen=True)
class Agreement:
    """How far annotators agree beyond chance.

    Attributes
    ----------
    alpha : float or None
        Krippendorff's alpha for nominal data: 1 is full agreement, 0 what chance gives. None if nobody voted on the
        same sample as somebody else, or everybody always said the same class: then chance agrees as well.
    kappa : float or None
        Cohen's kappa, if exactly two people voted on the same samples.
    samples : int
        Samples with at least two votes.
    """

    alpha: float | None
    kappa: float | None
    samples: int


def agreement(answers: pd.DataFrame, class_names: Sequence[str]) -> Agreement:
    """Return how far annotators agree.

    Parameters
    ----------
    answers : DataFrame
        As for `consensus`.
    class_names : sequence of str
        Other values are no votes.

    Notes
    -----
    K. Krippendorff, Content Analysis, 4th edition, chapter 12 (package `krippendorff`); J. Cohen, Educational and
    Psychological Measurement 20 (1960) 37–46 (scikit-learn).
    """
    votes = current_votes(answers, class_names)
    votes = votes[votes["sample_id"].duplicated(keep=False)]
    if votes.empty:
        return Agreement(None, None, 0)
    table = votes.pivot(index="annotator", columns="sample_id", values="value")
    codes = table.apply(lambda column: column.map({name: i for i, name in enumerate(class_names)})).to_numpy(float)
    alpha = kappa = None
    if votes["value"].nunique() > 1:
        import krippendorff

        alpha = float(krippendorff.alpha(codes, level_of_measurement="nominal"))
        if len(codes) == 2:
            from sklearn.metrics import cohen_kappa_score

            both = codes[:, np.isfinite(codes).all(axis=0)]
            kappa = float(cohen_kappa_score(both[0], both[1]))
    return Agreement(alpha, kappa, table.shape[1])


def annotators(
    answers: pd.DataFrame, labels: pd.DataFrame, planned: pd.DataFrame, class_names: Sequence[str]
) -> pd.DataFrame:
    """Return one row per annotator: what they did, and how it compares with the others and with the model.

    Parameters
    ----------
    answers : DataFrame
        As for `consensus`, with ``lead_time`` (seconds).
    labels : DataFrame
        ``sample_id, label, n_votes``: what was agreed on.
    planned : DataFrame
        ``round, sample_id, predicted``: the class that the model of the round would have said.
    class_names : sequence of str

    Returns
    -------
    DataFrame
        ``annotator, votes, skips``; ``compared``, votes on samples on which others have voted too and a label was
        agreed, and ``agrees``, the share of them that is the label; ``guessed``, votes on samples with a prediction,
        and ``as_predicted``, the share of them that is the prediction: with pre-annotations a share well above the
        model's accuracy says that people wave predictions through. ``seconds`` is the median time of an answer.
    """
    people = current_answers(answers)
    votes = current_votes(answers, class_names)
    agreed = labels.loc[labels["n_votes"] > 1, ["sample_id", "label"]]
    compared = votes.merge(agreed, on="sample_id")
    guessed = votes.merge(planned.dropna(subset=["predicted"])[["round", "sample_id", "predicted"]])
    table = pd.DataFrame(index=pd.Index(sorted(people["annotator"].unique()), name="annotator"))
    table["votes"] = votes.groupby("annotator").size()
    table["skips"] = people[people["kind"].isin(DEALT_WITH)].groupby("annotator").size()
    table["compared"] = compared.groupby("annotator").size()
    table["agrees"] = (compared["value"] == compared["label"]).groupby(compared["annotator"]).mean()
    table["guessed"] = guessed.groupby("annotator").size()
    table["as_predicted"] = (guessed["value"] == guessed["predicted"]).groupby(guessed["annotator"]).mean()
    table["seconds"] = people.groupby("annotator")["lead_time"].median()
    counts = ["votes", "skips", "compared", "guessed"]
    table[counts] = table[counts].fillna(0).astype(int)
    return table.reset_index()

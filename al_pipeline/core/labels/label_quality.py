"""Labels that look wrong, and labels of annotators who differ in quality: both judged with the help of a model."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_pipeline.core.labels.consensus import Consensus, current_votes, disputes_of, labels_of
from al_pipeline.core.learning.folds import held_out, numbered, parts
from al_pipeline.core.learning.head import fit_head

# Under this, CROWDLAB holds its own label for more probably wrong than right.
FEWEST_QUALITY = 0.5


def out_of_sample(
    features: npt.NDArray[np.float32],
    targets: npt.NDArray[np.int64],
    n_classes: int,
    *,
    seed: int,
    groups: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64] | None:
    """Return class probabilities of each sample by a classifier that was not shown its label.

    Parameters
    ----------
    features : float32 array, shape (n, d)
    targets : int64 array, shape (n,)
        Class numbers, 0 to K − 1.
    n_classes : int
        K.
    seed : int
        Of the folds.
    groups : array_like, shape (n,), optional
        What each sample belongs to: the classifier was shown no label of its group either, but those of rare classes.

    Returns
    -------
    float64 array, shape (n, K), or None
        Rows of NaN for samples of classes with fewer than three labels (groups of labels), which every classifier
        learns from. None if there are not two other classes: nothing can be held out.
    """
    members = numbered(groups)
    folds, tested = held_out(targets, members)
    if not folds:
        return None
    probabilities = np.full((len(targets), n_classes), np.nan)
    turns = parts(targets[tested], folds, None if members is None else members[tested], seed)
    if not turns:
        return None
    for part in turns:
        held = tested[part]
        fitted = np.setdiff1d(np.arange(len(targets)), held)
        theirs = None if members is None else members[fitted]
        head = fit_head(features[fitted], targets[fitted], n_classes, seed=seed, groups=theirs)
        probabilities[held] = head.probabilities(features[held])
    return probabilities


def suspected_errors(
    sample_ids: Sequence[str], targets: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]
) -> list[str]:
    """Return the samples whose label is probably wrong, the least believable first.

    Parameters
    ----------
    sample_ids : sequence of str, length n
    targets : int64 array, shape (n,)
        Given class numbers.
    probabilities : float64 array, shape (n, K)
        `out_of_sample`; samples without are not judged.

    Notes
    -----
    Confident learning: C. Northcutt, L. Jiang, I. Chuang, Journal of Artificial Intelligence Research 70 (2021)
    1373–1411, by its authors' package cleanlab. Classes without a label are left out, as it asks for.
    """
    from cleanlab.filter import find_label_issues

    judged = np.flatnonzero(np.isfinite(probabilities).all(axis=1))
    present, codes = np.unique(targets[judged], return_inverse=True)
    shares = probabilities[np.ix_(judged, present)]
    shares = shares / shares.sum(axis=1, keepdims=True)
    # In one process: for the few thousand labels that people give, starting more takes longer than the work.
    ranked = find_label_issues(codes, shares, return_indices_ranked_by="self_confidence", n_jobs=1)
    return [sample_ids[int(judged[i])] for i in ranked]


def weigh_annotators(
    agreed: Consensus,
    answers: pd.DataFrame,
    class_names: Sequence[str],
    features: Callable[[list[str]], npt.NDArray[np.float32]],
    *,
    seed: int,
    groups: Callable[[list[str]], npt.ArrayLike] | None = None,
) -> Consensus:
    """Decide what several people have voted on by their quality and a model's view, not by heads alone.

    Parameters
    ----------
    agreed : Consensus
        By majority; samples with one vote, those with too few, and those of classes with fewer than three labels stay
        as they are.
    answers : DataFrame
        What it was made of.
    class_names : sequence of str
    features : callable
        Sample ids → float32 array, shape (n, d).
    seed : int
        Of the folds.
    groups : callable, optional
        Sample ids → what each belongs to, shape (n,).

    Returns
    -------
    Consensus
        ``weight`` is CROWDLAB's probability that the label is right; below a half, or if nobody has voted for it, the
        sample is disputed. The majority's consensus itself, if no two people have voted on a sample or there are too
        few labels for a model.

    Notes
    -----
    CROWDLAB: H. W. Goh, U. Tkachenko, J. Mueller, "CROWDLAB: Supervised learning to infer consensus labels and quality
    scores for data with multiple annotators", 2022, by its authors' package cleanlab.
    """
    votes = current_votes(answers, class_names)
    labeled, disputed = agreed.labels["sample_id"].tolist(), agreed.disputed["sample_id"].tolist()
    known = labeled + disputed
    counts = votes.groupby("sample_id").size().reindex(known)
    if not (counts > 1).any():
        return agreed
    numbers = {name: i for i, name in enumerate(class_names)}
    targets = agreed.labels["label"].map(numbers).to_numpy(np.int64)
    inputs = features(known)
    members = None if groups is None else groups(labeled)
    probabilities = out_of_sample(inputs[: len(labeled)], targets, len(class_names), seed=seed, groups=members)
    if probabilities is None:
        return agreed
    head = fit_head(inputs[: len(labeled)], targets, len(class_names), seed=seed, groups=members)
    together = np.concatenate([probabilities, head.probabilities(inputs[len(labeled) :])])
    judged: npt.NDArray[np.bool_] = np.asarray(np.isfinite(together).all(axis=1))
    together, known = together[judged], [sample for sample, so in zip(known, judged, strict=True) if so]
    counts = counts[known]
    if not (counts > 1).any():
        return agreed

    from cleanlab.multiannotator import get_label_quality_multiannotator

    table = votes.assign(number=votes["value"].map(numbers)).pivot(
        index="sample_id", columns="annotator", values="number"
    )
    table = table.loc[known].dropna(axis="columns", how="all").reset_index(drop=True)
    found = get_label_quality_multiannotator(table, together, verbose=False, return_detailed_quality=False)
    quality = found["label_quality"]
    decided = pd.DataFrame(
        {
            "sample_id": known,
            "value": [class_names[int(i)] for i in quality["consensus_label"]],
            "weight": quality["consensus_quality_score"].to_numpy(float),
            "n_votes": counts.to_numpy(),
        }
    )
    decided = decided[decided["n_votes"] > 1]
    # A label that nobody has given is a model's guess, not a consensus.
    given = decided.merge(votes, on=["sample_id", "value"])["sample_id"]
    sure = decided[(decided["weight"] >= FEWEST_QUALITY) & decided["sample_id"].isin(given)]
    kept = agreed.labels[~agreed.labels["sample_id"].isin(decided["sample_id"])]
    labels = pd.concat([kept, labels_of(votes, sure)]).sort_values("sample_id", ignore_index=True)
    unsure = (set(disputed) | set(decided["sample_id"])) - set(sure["sample_id"])
    stats = found["annotator_stats"]["annotator_quality"]
    return replace(
        agreed,
        labels=labels,
        disputed=disputes_of(votes, unsure),
        quality={str(name): float(value) for name, value in stats.items()},
    )

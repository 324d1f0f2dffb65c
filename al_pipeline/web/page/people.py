"""Who has answered: how much, how fast, and how that compares with the others and with the model."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from al_pipeline.core.labels.annotators import Agreement, agreement, annotators
from al_pipeline.core.labels.consensus import consensus

if TYPE_CHECKING:
    from al_pipeline.loop.deployment import Deployment


@dataclass(frozen=True)
class People:
    """A row per annotator, None where a figure has nothing to be of, and how far they agree."""

    rows: list[dict[str, Any]]
    agreement: Agreement | None


def people(deployment: "Deployment") -> People:
    """Return who has answered the queries of all rounds; what is said of test images is left out."""
    ledger, classes = deployment.ledger, deployment.ledger.class_set()
    answers = ledger.answers(purpose="query")
    if classes is None or answers.empty:
        return People([], None)
    agreed = consensus(answers, class_names=classes.names, min_votes=deployment.settings.policy.min_votes)
    planned = ledger.planned(columns=("round", "sample_id", "predicted"))
    table = annotators(answers, agreed.labels, planned, classes.names).astype(object)
    rows = [
        {name: None if value != value else value for name, value in row.items()} for row in table.to_dict("records")
    ]
    return People(sorted(rows, key=lambda row: -row["votes"]), agreement(answers, classes.names))

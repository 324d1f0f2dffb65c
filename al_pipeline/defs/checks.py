"""When more labels stop paying: the rules of `core.outlook.stopping` over the learning curve, shown as a check."""

from math import isfinite
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from al_pipeline.core.rounds import RoundPolicy
from al_pipeline.core.strategies.options import RoundSettings
from al_pipeline.defs.assets.evaluation import LATER, learning_curve
from al_pipeline.loop.deployment import Deployment

if TYPE_CHECKING:
    from al_pipeline.core.evaluation.metrics import Interval
    from al_pipeline.core.outlook.stopping import Advice
    from al_pipeline.ledger import Ledger


@dg.asset_check(asset=learning_curve, blocking=False, op_tags=LATER)
def worth_going_on(
    deployment: dg.ResourceParam[Deployment],
    policy: dg.ResourceParam[RoundPolicy],
    round_config: dg.ResourceParam[RoundSettings],
    learning_curve: pd.DataFrame,
) -> dg.AssetCheckResult:
    """Are more labels likely to pay? A sentence per rule, and what going on costs. It advises: nothing stops by itself.

    The rules are set in `policy`: stop_agreement, stop_gain, target_auc, price_per_label with
    value_per_point, label_budget.
    """
    from al_pipeline.core.outlook.stopping import advise

    seconds = _seconds_per_label(deployment.ledger)
    size, seed = round_config.batch_size, round_config.seed
    # Rounds that told other classes apart say nothing of this question.
    curve = learning_curve[~learning_curve["other_classes"]] if len(learning_curve) else learning_curve
    if len(curve):
        # What people gave, and what costs: one answer may label several images.
        curve = curve.assign(n_labels=curve["n_answers"])
    coming = len(deployment.ledger.holdout_waiting())
    advice = advise(curve, policy, size, seconds_per_label=seconds, tests_to_come=coming, seed=seed)
    return dg.AssetCheckResult(
        passed=not advice.stop,
        severity=dg.AssetCheckSeverity.WARN,
        description=advice.sentence,
        metadata=_metadata(advice, seconds),
    )


def _seconds_per_label(ledger: "Ledger") -> float | None:
    """Return the median time that people took for an answer, None where nobody's was measured."""
    answers = ledger.answers(purpose="query")
    times = answers.loc[answers["value"].notna(), "lead_time"]
    # Answers through the API took nobody's time: Label Studio says 0.
    times = times[times > 0]
    return float(times.median()) if len(times) else None


def _metadata(advice: "Advice", seconds: float | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"recommendation": advice.sentence}
    metadata |= {verdict.rule: verdict.sentence for verdict in advice.verdicts}
    metadata["going_on"] = " ".join(projection.sentence for projection in advice.projections)
    to_one_more_point = advice.projections[0].labels
    if to_one_more_point is not None:
        metadata["labels_to_one_more_point"] = dg.MetadataValue.json(_plain(to_one_more_point))
    if seconds is not None:
        metadata["median_seconds_per_label"] = round(seconds, 1)
    return metadata


def _plain(interval: "Interval") -> dict[str, float | None]:
    """Return an interval as JSON can hold it: no number where there is no limit."""
    return {name: round(value, 1) if isfinite(value) else None for name, value in interval._asdict().items()}

"""The metrics that people are shown: evaluations, rounds, studies, tables and pictures all derive from `METRICS`."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from al_pipeline.core.errors import InputError

BETTER, WORSE, UNDECIDED = "better", "worse", "no difference shown"


class Interval(NamedTuple):
    """A value with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """The current value less the previous one, with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``no difference shown``: whether the interval leaves out 0, and on which side."""
        return BETTER if self.low > 0 else WORSE if self.high < 0 else UNDECIDED


@dataclass(frozen=True)
class Metric:
    """A share from 0 to 1, of which more is better, with a 95 % interval."""

    # The field of `evaluate.Evaluation`, and the column of tables; then as headings and sentences name it.
    name: str
    title: str
    # What the interval is by, if it is always the same.
    method: str = ""


METRICS = (Metric("accuracy", "accuracy", method="Wilson"), Metric("roc_auc", "ROC-AUC"))
TITLES = {metric.name: metric.title for metric in METRICS}


def columns(name: str, interval: Interval | None, missing: float | None = None) -> dict[str, float | None]:
    """Return the cells of a metric in a row of a table: its value as `name`, its limits as `name_low`, `name_high`."""
    value, low, high = interval or (missing,) * 3
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def stored_scores(document: dict[str, Any]) -> tuple[int, dict[str, Interval | None]]:
    """Return the holdout samples and the metrics of a stored evaluation, as `evaluate.Evaluation.to_json` returns it.

    A metric is None where it has none, as evaluations of earlier versions have.

    Raises
    ------
    InputError
        It is something else.
    """
    try:
        found = {name: document.get(name) for name in TITLES}
        return document["n"], {name: score and Interval(**score) for name, score in found.items()}
    except (KeyError, TypeError) as error:
        raise InputError(f"this is no stored evaluation ({type(error).__name__}: {error})") from None


def stored_notes(document: dict[str, Any]) -> tuple[str, ...]:
    """Return what to mind about the figures of a round, as its evaluation was stored with what it was measured on.

    Of a network that has not learned, classes that it does not find are no remark: it finds none but by chance.
    """
    hint = document.get("hint") if document.get("trained", True) else None
    return tuple(note for note in (document["evaluation"].get("note"), hint) if note)

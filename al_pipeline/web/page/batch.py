"""One round: the images that it has asked about, why, what people answered, and what its model gets wrong."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from al_pipeline.core.labels.annotation import VOTES
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.labels.consensus import current_answers
from al_pipeline.ledger.schema import REVIEW
from al_pipeline.loop.answers import holdout_labels
from al_pipeline.loop.classes import translated
from al_pipeline.loop.kept_predictions import HoldoutPredictions

if TYPE_CHECKING:
    from al_pipeline.loop.deployment import Deployment

HOLDOUT = "holdout"
# What people did that names no class, as the page says it.
DEEDS = {
    "skip": "skipped",
    "skip_choice": "skipped",
    "unsure": "cannot tell",
    "mixed": "they differ",
    "hasty": "too soon to count",
    "left_open": "left open",
    "empty": "no class",
    "retired": "a class that is none any more",
}


@dataclass(frozen=True)
class Answer:
    """What one person said: a class, or what they did instead."""

    annotator: str
    value: str | None
    deed: str = ""


@dataclass(frozen=True)
class Tile:
    """One image of a batch.

    `why` says how it was chosen; `state` is open, answered or withdrawn; `agrees` whether people said what the model
    had guessed, None where that cannot be told.
    """

    sample: str
    why: str
    state: str
    predicted: str | None = None
    probability: float | None = None
    certainty: float | None = None
    answers: tuple[Answer, ...] = ()
    agrees: bool | None = None
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch:
    """The images of a round that are not blind, and how many of its test images are, or are answered."""

    tiles: list[Tile]
    tests: int
    tests_open: int

    @property
    def guessed(self) -> int:
        """Answered images with a guess."""
        return sum(tile.agrees is not None for tile in self.tiles)

    @property
    def as_guessed(self) -> int:
        """Those of them of which people said the same."""
        return sum(tile.agrees is True for tile in self.tiles)


@dataclass(frozen=True)
class Mistake:
    """A test image that a round's model takes for another class, and how sure it is of that."""

    sample: str
    label: str
    said: str
    probability: float


def batch(deployment: "Deployment", key: str) -> Batch:
    """Return what a round asks about; of the holdout only how many."""
    ledger, classes = deployment.ledger, deployment.ledger.class_set()
    planned = ledger.planned(key)
    open_here = {sample for round_key, sample in ledger.open_tasks() if round_key == key}
    given_here = ledger.answers(round_key=key)
    # A review shows what was said to its own task.
    answers, own = answers_by_sample(given_here), answers_by_sample(given_here, only=key)
    members = ledger.members(key).groupby("sample_id")["member_id"].apply(tuple).to_dict()
    tests = planned[(planned["purpose"] == HOLDOUT) & planned["withdrawn_at"].isna()]
    tiles = []
    for row in planned[planned["purpose"] != HOLDOUT].itertuples():
        given = (own if row.purpose == REVIEW else answers).get(row.sample_id, ())
        gone = pd.notna(row.withdrawn_at)
        state = "withdrawn" if gone else "open" if row.sample_id in open_here else "answered"
        predicted = _today(row.predicted, classes)
        numbers = {"probability": row.predicted_probability, "certainty": row.certainty} if predicted else {}
        tile = Tile(row.sample_id, why(row), state, predicted, answers=given, beside=members.get(row.sample_id, ()))
        shown = {name: None if pd.isna(value) else float(value) for name, value in numbers.items()}
        tiles.append(replace(tile, **shown, agrees=_agrees(given, predicted)))
    return Batch(tiles, len(tests), int(tests["sample_id"].isin(open_here).sum()))


def why(row: Any) -> str:
    """Say why a row of a plan was chosen."""
    if row.purpose == REVIEW:
        asked = {"disputed": "people disagree", "suspected_error": "its label looks wrong", "requested": "as you asked"}
        return f"a second look: {asked.get(row.strategy, row.strategy)}"
    if row.purpose == HOLDOUT:
        return "test image, drawn at random"
    if row.strategy == "random":
        share = f", chance {row.propensity:.2%}" if pd.notna(row.propensity) else ""
        return f"drawn at random{share}"
    return f"{str(row.strategy).replace('_', ' ')}, place {row.rank + 1}"


def answers_by_sample(answers: pd.DataFrame, *, only: str | None = None) -> dict[str, tuple[Answer, ...]]:
    """Return what each person said last about each sample, or only to the tasks of one round."""
    answers = answers[answers["purpose"].notna()]
    if only is not None:
        answers = answers[answers["round"] == only]
    found: dict[str, list[Answer]] = {}
    for row in current_answers(answers).sort_values(["sample_id", "updated_at"]).itertuples():
        voted = row.kind in VOTES and row.value is not None
        deed = "" if voted else DEEDS.get(str(row.kind), str(row.kind))
        found.setdefault(str(row.sample_id), []).append(Answer(str(row.annotator), row.value if voted else None, deed))
    return {sample: tuple(given) for sample, given in found.items()}


def blind(deployment: "Deployment", sample_ids: Iterable[str] | None = None) -> set[str]:
    """Return the test images of which people are still to say what they are: nothing may be told of them.

    So is one that fewer people than `overlap` have dealt with. `sample_ids` are those that matter; by default all.
    """
    ledger = deployment.ledger
    planned = ledger.planned(purpose=HOLDOUT, columns=("sample_id", "withdrawn_at"))
    asked = set(planned.loc[planned["withdrawn_at"].isna(), "sample_id"])
    if sample_ids is not None:
        asked &= set(sample_ids)
    if not asked:
        return asked
    people = ledger.answers(purpose=HOLDOUT)
    people = people[~people["kind"].isin(["empty", "hasty", "left_open"])].groupby("sample_id")["annotator"].nunique()
    settled = set(people.index[people >= deployment.settings.overlap]) - {sample for _, sample in ledger.open_tasks()}
    return asked - settled


def has_mistakes(deployment: "Deployment", key: str) -> bool:
    """Say whether `mistakes` returns a list."""
    stored = (deployment.artifacts.holdout_predictions / f"{key}.parquet").exists()
    return stored and deployment.ledger.class_set() is not None


def mistakes(deployment: "Deployment", key: str) -> list[Mistake] | None:
    """Return the test images that a round's model gets wrong, those it is surest of first.

    None if it has no predictions. What people are still to be asked about is left out.
    """
    ledger = deployment.ledger
    classes, kept = ledger.class_set(), HoldoutPredictions(deployment.artifacts.holdout_predictions).whole(key)
    if kept is None or classes is None:
        return None
    names, predicted, numbers = kept
    said = translated(numbers.map(dict(enumerate(names))), classes)
    labels = holdout_labels(_test_split(deployment), ledger, classes, deployment.settings.policy.min_votes)
    truth = labels.set_index("sample_id")["label"].drop(list(blind(deployment)), errors="ignore")
    shared = truth.index.intersection(predicted.index)
    values = predicted.loc[shared].to_numpy()
    found = [
        Mistake(str(sample), str(truth[sample]), str(said[sample]), float(values[row, int(numbers[sample])]))
        for row, sample in enumerate(shared)
        if said[sample] is not None and said[sample] != truth[sample]
    ]
    return sorted(found, key=lambda each: (-each.probability, each.sample))


def _test_split(deployment: "Deployment") -> pd.DataFrame:
    """Return the images' own test split: of a large pool nothing else is read."""
    path, columns = deployment.artifacts.image_pool, ["sample_id", "uri", "split", "label"]
    if not path.exists():
        return pd.DataFrame(columns=columns, dtype=object)
    return pd.read_parquet(path, columns=columns, filters=[("split", "==", HOLDOUT)])


def _today(name: Any, classes: ClassSet | None) -> str | None:
    return name if name is None or classes is None else classes.of(name)


def _agrees(answers: tuple[Answer, ...], predicted: str | None) -> bool | None:
    votes = [answer.value for answer in answers if answer.value is not None]
    return None if predicted is None or not votes else all(vote == predicted for vote in votes)

"""When to open the next round: a pure function from plain facts to a decision that a person can read."""

import math
import re
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Literal, get_args

from pydantic import Field

from al_pipeline.core.errors import InputError
from al_pipeline.core.options import Options

RunState = Literal["none", "in_progress", "succeeded", "failed", "canceled"]
RUN_STATES: tuple[RunState, ...] = get_args(RunState)
# 0.7 · 10 is a little more than 7 in floating point; it must not ask for an eighth answer.
ROUNDING = 1e-9


def round_key(number: int) -> str:
    """Return the key of a round: ``round_key(3)`` is ``"r0003"``.

    Raises
    ------
    InputError
        The number is negative or above 9999: keys sort as text.
    """
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 9999:
        raise InputError(f"a round number must be a whole number from 0 to 9999, not {number!r}")
    return f"r{number:04d}"


def round_number(key: str) -> int:
    """Return the number of a round: ``round_number("r0003")`` is 3.

    Raises
    ------
    InputError
        The key is not ``r`` and four digits.
    """
    if not is_round(key):
        raise InputError(f"a round key must be r and four digits, for example r0003, not {key!r}")
    return int(key[1:])


def is_round(key: object) -> bool:
    """Say whether a key is that of a round."""
    return isinstance(key, str) and re.fullmatch(r"r[0-9]{4}", key) is not None


class RoundPolicy(Options):
    """When a round counts as answered, what its answers are worth, and when the loop ends.

    Raises
    ------
    InputError
        A value is out of its range.
    """

    min_fraction: float = Field(
        default=1.0, gt=0, le=1, description="Share of the planned batch that must be answered before the next round."
    )
    min_votes: int = Field(default=1, ge=1, description="Votes a sample needs before its label counts.")
    consensus: Literal["majority", "crowdlab"] = Field(
        default="majority",
        description="How several votes become a label: majority, or crowdlab, which weighs annotators by their quality "
        "and asks a model too.",
    )
    max_skips: int = Field(default=1, ge=1, description="Skips after which a sample is not asked about again.")
    min_seconds: float | None = Field(
        default=0.3,
        gt=0,
        description="Answers given sooner after the task was shown are slips of the hand: they do not count and are "
        "asked again, at most max_skips times; null (none) takes all.",
    )
    prefetch: bool = Field(
        default=True,
        description="Keep the next batch ready while people label, so that they never wait; it is chosen by the "
        "checkpoint before. false waits for every answer first.",
    )
    hurry: float = Field(
        default=4.0,
        ge=1,
        description="With prefetch, where people go through a batch sooner than a round is made: how many times as "
        "large as batch_size a batch may become, so that their queue does not end; 1 keeps it as it is.",
    )
    timeout_hours: float | None = Field(
        default=None, gt=0, description="Hours after which a partly answered round is closed; null waits for ever."
    )
    max_rounds: int | None = Field(
        default=None, ge=1, description="The loop is done after this many rounds; the last one trains and asks nobody."
    )
    label_budget: int | None = Field(
        default=None,
        ge=1,
        description="Once this many labels exist, one more round trains on them and the loop is done.",
    )
    stop_agreement: float | None = Field(
        default=0.995,
        ge=0,
        le=1,
        description="Kappa from which on the models of two rounds count as the same; after three such rounds in a row "
        "the check worth_going_on says that more labels hardly pay. null (in al.toml and the environment: none) never "
        "says so. Nothing stops by itself.",
    )
    stop_gain: float | None = Field(
        default=0.005,
        ge=0,
        le=1,
        description="ROC-AUC that the labels left in label_budget must still be able to bring, without one as many "
        "labels again; worth_going_on says so once their upper 95 % limit is below. null (none) never says so.",
    )
    target_auc: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The ROC-AUC to reach: worth_going_on says so once its lower 95 % limit is there.",
    )
    price_per_label: float | None = Field(
        default=None,
        ge=0,
        description="What a label costs, in any currency. With value_per_point, worth_going_on says so once the next "
        "batch brings less than it costs.",
    )
    value_per_point: float | None = Field(
        default=None, ge=0, description="What a point (0.01) of ROC-AUC is worth, in the currency of price_per_label."
    )
    max_attempts: int = Field(default=3, ge=1, description="Runs a failing round gets before it counts as stalled.")

    @property
    def timeout(self) -> timedelta | None:
        """The deadline as a time span."""
        return None if self.timeout_hours is None else timedelta(hours=self.timeout_hours)


@dataclass(frozen=True)
class RoundStatus:
    """The facts about the newest round that a decision needs.

    Attributes
    ----------
    round_number : int or None
        The newest round; None before the first.
    run_state : str
        What became of its latest run: none, in_progress, succeeded, failed or canceled.
    attempts, interrupted : int
        Runs it has had; of them those that ended with the servers, which were told to.
    failed_run_id : str, optional
        The latest run, if that failed or was canceled.
    planned, labeled, skipped, withdrawn, again : int
        Its tasks: all; those with enough votes; those skipped; those deleted in Label Studio; those that Label Studio
        gives to nobody any more, though too few people have dealt with them: the next round asks again. The last four
        are disjoint.
    away : int
        Of the withdrawn, those that nobody was asked about, because their images were away when they were to be shown.
    tests, tests_left : int
        Of the planned, those that test the model; and test images that were drawn and that nobody was asked about.
    early : int
        Answers that may be missing when the next round is opened, since people would wait for its batch otherwise.
    opened_at : datetime, optional
        When its tasks went to the annotators (aware).
    unlabeled_left : int
        Samples that could still be asked about.
    labels_total : int
        Labels of all rounds, without the holdout.
    obstacle : str, optional
        Why answers would be no labels: a sentence for people, with the remedy.
    ahead : bool
        The counts are those of the round before the newest, whose batch is ready for when that is answered.
    """

    round_number: int | None = None
    run_state: RunState = "none"
    attempts: int = 0
    interrupted: int = 0
    failed_run_id: str | None = None
    planned: int = 0
    labeled: int = 0
    skipped: int = 0
    withdrawn: int = 0
    again: int = 0
    away: int = 0
    tests: int = 0
    tests_left: int = 0
    early: int = 0
    opened_at: datetime | None = None
    unlabeled_left: int = 0
    labels_total: int = 0
    obstacle: str | None = None
    ahead: bool = False

    def __post_init__(self) -> None:
        if self.run_state not in RUN_STATES:
            raise InputError(f"unknown run state {self.run_state!r}; choose one of {', '.join(RUN_STATES)}")
        if negative := [each.name for each in fields(self) if each.type is int and getattr(self, each.name) < 0]:
            raise InputError(f"{negative[0]} must not be negative: {getattr(self, negative[0])}")

    @property
    def open_tasks(self) -> int:
        """Tasks that still exist: planned − withdrawn."""
        return max(0, self.planned - self.withdrawn)

    @property
    def answered(self) -> int:
        """Labeled + skipped: a person who skips a task has dealt with it."""
        return self.labeled + self.skipped

    @property
    def left(self) -> int:
        """Tasks that people are still to deal with: those that Label Studio gives to nobody any more are none."""
        return max(0, self.open_tasks - self.again - self.answered)


def awaited_round(newest: int, policy: RoundPolicy) -> int | None:
    """Return the round whose answers open the next one: the newest, or with `prefetch` the one before.

    None: the next round is opened without waiting, to be the batch that is ready. The last round of `max_rounds` waits
    for the newest one's answers, since it is there to train on them.
    """
    last = policy.max_rounds is not None and newest + 2 >= policy.max_rounds
    if not policy.prefetch or last:
        return newest
    return newest - 1 if newest else None


@dataclass(frozen=True)
class Wait:
    """Nothing to do yet."""

    reason: str


@dataclass(frozen=True)
class Open:
    """Run this round: the next one, or the same one again after a failure."""

    round_number: int
    attempt: int
    reason: str


@dataclass(frozen=True)
class Stalled:
    """The loop cannot go on by itself; the reason says what a person should do."""

    reason: str
    run_id: str | None = None


@dataclass(frozen=True)
class Done:
    """The loop is over; the reason says why."""

    reason: str


Decision = Wait | Open | Stalled | Done


def decide(status: RoundStatus, policy: RoundPolicy, now: datetime, *, deadline: bool = False) -> Decision:
    """Decide what the loop does next.

    It is level-triggered: the same facts always give the same answer, whoever asks and how often.

    Parameters
    ----------
    status : RoundStatus
        The newest round.
    policy : RoundPolicy
    now : datetime
        Aware; compared with `status.opened_at` and `policy.timeout`.
    deadline : bool
        The time is up now, whatever the timeout: what the nightly schedule asks. One answer is then enough.

    Returns
    -------
    Wait, Open, Stalled or Done
        Each with a `reason`, one sentence for the people who look at the sensor.
    """
    if status.round_number is None:
        return Wait("no round has been run yet: `al open` begins, or launch the jobs `setup` and, for r0000, `round`")
    key = round_key(status.round_number)
    if status.run_state == "succeeded":
        if _awaits_nobody(status, policy) and status.planned and status.obstacle is None:
            return _next(status, f"{key} is with the annotators; the next batch is made ready (prefetch)")
        awaited = round_key(status.round_number - status.ahead)
        return _after_success(status, policy, now, awaited, deadline=deadline)
    if status.run_state == "in_progress":
        return Wait(f"{key}: its run is in progress")
    if status.run_state == "canceled":
        return Stalled(
            f"{key}: its run {status.failed_run_id} was canceled; re-execute it to go on", status.failed_run_id
        )
    if status.run_state == "failed":
        return _after_failure(status, policy, key)
    if status.round_number == 0:
        return Wait("r0000 has not been run yet: `al open` does it, or launch the job `round` for the partition r0000")
    return Open(status.round_number, status.attempts + 1, f"{key}: the partition exists but had no run")


def answers_needed(status: RoundStatus, policy: RoundPolicy) -> int:
    """Return how many of a round's samples have to be dealt with before the next is opened."""
    return math.ceil(policy.min_fraction * (status.open_tasks - status.again) - ROUNDING)


def _awaits_nobody(status: RoundStatus, policy: RoundPolicy) -> bool:
    """Say whether a batch is to be made ready at once: behind the first one, and behind one after a round without any.

    A round that asked nobody is followed by another where images came since; without any left there is nothing to ask.
    """
    awaited = awaited_round(_number(status), policy)
    return awaited is None or (awaited < _number(status) and not status.ahead and status.unlabeled_left > 0)


def _after_failure(status: RoundStatus, policy: RoundPolicy, key: str) -> Decision:
    failed = status.attempts - status.interrupted
    runs = f"{failed} of {policy.max_attempts} attempts failed" if failed else "its run ended with the servers"
    if failed >= policy.max_attempts:
        return Stalled(
            f"{key}: {runs}, the last as run {status.failed_run_id}; mend the cause, then re-execute that run",
            status.failed_run_id,
        )
    return Open(_number(status), status.attempts + 1, f"{key}: {runs}; trying again")


def _after_success(status: RoundStatus, policy: RoundPolicy, now: datetime, key: str, *, deadline: bool) -> Decision:
    spent = policy.label_budget is not None and status.labels_total >= policy.label_budget
    budget = f"{status.labels_total} labels exist and the label budget is {policy.label_budget}"
    if policy.max_rounds is not None and _number(status) + 1 >= policy.max_rounds:
        return Done(f"{key} was the last of {policy.max_rounds} rounds (max_rounds){_untested(status)}")
    if not status.planned:
        # A round that asked nobody has trained on everything there is: the loop ends after it, not before.
        if spent:
            return Done(budget + _untested(status))
        if status.unlabeled_left == 0:
            trained = f"no image is left to ask about; {key} has trained on all {status.labels_total} labels"
            return Done(trained + _untested(status))
        return Stalled(
            f"{key} asked about no image, but {status.unlabeled_left} could be asked about now; "
            f"launch the job `round` for a new partition {round_key(_number(status) + 1)} to go on"
        )
    if status.obstacle is not None:
        return Stalled(f"{key}: {status.obstacle}")
    if not status.open_tasks and status.away == status.planned:
        # A next round by itself could meet the same images, for ever.
        return Stalled(
            f"{key}: the images of all its {status.planned} tasks were gone when they were to be shown; put them back, "
            f"or launch the job `setup`, and then the job `round` for a new partition {round_key(_number(status) + 1)}"
        )
    if not status.open_tasks:
        return Stalled(
            f"{key}: all of its {status.planned} tasks are missing in Label Studio; "
            "launch the job `setup`, which creates anew those that nobody has answered"
        )

    needed = answers_needed(status, policy)
    if status.answered >= needed:
        return _next(status, f"{key}: {_counts(status)}")
    if status.answered and status.answered >= needed - status.early:
        return _next(status, f"{key}: {_counts(status)}; who labels so fast would wait for the batch otherwise")
    if spent and status.answered:
        return _next(status, f"{key}: {_counts(status)}, but {budget}")
    overdue = policy.timeout is not None and status.opened_at is not None and now >= status.opened_at + policy.timeout
    if not (deadline or overdue):
        return Wait(f"{key}: {_counts(status)}, {needed - status.answered} to go")
    ended = "the deadline has come" if deadline else f"the timeout of {policy.timeout} is over"
    if status.answered == 0:
        return Wait(f"{key}: {ended}, but none of {status.open_tasks} is answered")
    return _next(status, f"{key}: {_counts(status)} and {ended}")


def _number(status: RoundStatus) -> int:
    assert status.round_number is not None
    return status.round_number


def _next(status: RoundStatus, reason: str) -> Open:
    return Open(_number(status) + 1, 1, reason)


def _counts(status: RoundStatus) -> str:
    skipped = f" ({status.skipped} skipped)" if status.skipped else ""
    withdrawn = f", {status.withdrawn} withdrawn" if status.withdrawn else ""
    again = f", {status.again} to be asked again" if status.again else ""
    # Of how many, and never of which: they are blind.
    tests = f", {_images(status.tests)} among the {status.open_tasks}" if status.tests else ""
    return f"{status.answered} of {status.open_tasks} answered{skipped}{withdrawn}{again}{tests}"


def _untested(status: RoundStatus) -> str:
    """Return the end of a sentence about test images that nobody will be asked about; empty if there are none."""
    left = status.tests_left
    return f"; {_images(left)} that {'was' if left == 1 else 'were'} drawn will not be asked about" if left else ""


def _images(tests: int) -> str:
    return f"{tests} test image{'' if tests == 1 else 's'}"

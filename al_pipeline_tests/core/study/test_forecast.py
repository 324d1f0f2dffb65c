"""What is left of a study is told by its own rounds: those to come take the longer the more they have to learn."""

from typing import Any

import pytest

from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.study.forecast import Forecast, Schedule
from al_pipeline.core.study.plan import Plan

HEAD = TrainingOptions(image_size=16, weights="imagenet", mode="head")


def plan(**options: Any) -> Plan:
    given: dict[str, Any] = {"strategies": ["random", "margin"], "seeds": [0], "batch_size": 20, "options": HEAD}
    return Plan(**given | options)


@pytest.mark.parametrize(
    ("options", "n_pool", "labels"),
    [
        ({"budget": 50}, 1000, (0, 20, 40, 50)),
        ({"rounds": 3}, 1000, (0, 20, 40)),
        ({"budget": 500}, 50, (0, 20, 40, 50)),
        ({"budget": 50, "ahead": True}, 1000, (0, 0, 20, 40, 50)),
    ],
)
def test_the_rounds_are_those_of_the_plan(options: dict[str, Any], n_pool: int, labels: tuple[int, ...]) -> None:
    schedule = Schedule.of(plan(**options), n_pool)
    assert schedule.labels == labels
    assert not any(schedule.refined)
    assert [work > 0 for work in schedule.work] == [n > 0 for n in labels]


def test_a_staged_round_refines_where_labels_have_grown_by_a_fifth_and_takes_longer_with_more() -> None:
    schedule = Schedule.of(plan(staged=True, budget=180, strategies=["margin"]), 1000)
    refined = {
        n: work
        for n, work, is_refined in zip(schedule.labels, schedule.work, schedule.refined, strict=True)
        if is_refined
    }
    assert list(refined) == [20, 40, 60, 80, 100, 120, 160]
    assert sum(work > 0 for work in schedule.work) == len(refined), "heads are nothing beside it"
    # Ten passes over two thirds of the labels for three networks, with steps of three looks at an image.
    assert refined[160] - refined[20] == 60 * 140


def test_what_is_left_follows_from_the_rounds_that_are_done() -> None:
    schedule = Schedule(labels=(0, 10, 20, 30), refined=(False, True, True, True), work=(0.0, 1.0, 2.0, 3.0))
    alone = Forecast(schedule, seeds=3, jobs=1)
    assert alone.left(0) is None
    alone.note(0, 1.0)
    assert alone.left(0) is None, "it had nothing to learn"
    alone.note(1, 10.0)
    assert alone.left(0) == (20 + 30) + 2 * (1 + 10 + 20 + 30)
    alone.note(2, 40.0)
    assert alone.left(0) == 60 + 2 * (1 + 10 + 40 + 60), "the next one goes by the last"
    alone.note(4, 1000.0)
    alone.note(3, 50.0)
    assert alone.left(1) == 2 * 101
    assert alone.left(3) == 0


def test_where_a_seed_ended_early_no_more_rounds_are_expected() -> None:
    schedule = Schedule(labels=(0, 10, 20, 30), refined=(False,) * 4, work=(0.0, 1.0, 1.0, 1.0))
    forecast = Forecast(schedule, seeds=2, jobs=1)
    for number in (0, 1):
        forecast.note(number, 2.0)
    assert forecast.left(0) is None, "the first round of a process tells little"
    forecast.note(2, 1.0)
    assert forecast.left(0) == 1 + (2 + 2 + 1 + 1)
    assert forecast.left(1) == 2 + 2 + 1


def test_processes_share_the_seeds_and_the_last_ones_leave_some_idle() -> None:
    schedule = Schedule(labels=(0, 10, 20), refined=(False, True, True), work=(0.0, 1.0, 1.0))
    forecast = Forecast(schedule, seeds=3, jobs=2)
    forecast.note(0, 0.0)
    forecast.note(1, 10.0)
    # Of the two that run one has a round left and the other both; the third comes after them.
    assert forecast.left(0) == (10 + 20) / 2 + 20
    assert forecast.left(0, since=3.0) == (10 + 20 - 6) / 2 + 20, "they are within a round"
    assert forecast.left(0, since=1000.0) == (10 + 20) / 2 / 10 + 20, "which takes longer than expected"

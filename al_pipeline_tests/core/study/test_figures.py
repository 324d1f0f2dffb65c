"""Pictures of a study show every strategy apart, small enough for Dagster's metadata."""

import numpy as np
import pandas as pd
import pytest

from al_pipeline.core.evaluation.figures import COLORS, INK
from al_pipeline.core.evaluation.metrics import BETTER, UNDECIDED, WORSE, Interval
from al_pipeline.core.strategies import available
from al_pipeline.core.study import figures as study_figures
from al_pipeline.core.study.paired import AreaDifference, budget_differences, mean_curves, wins
from al_pipeline.core.study.results import Results
from al_pipeline_tests.core.evaluation.test_figures import opened, share_of
from al_pipeline_tests.core.study.paired_tables import frozen_objects, simulated

__all__ = ["frozen_objects"]


def study(names: list[str]) -> pd.DataFrame:
    speeds = {name: 300.0 - 10 * i for i, name in enumerate(names)}
    return simulated(np.random.default_rng(1), speeds, seeds=4, budgets=range(50, 550, 50))


@pytest.mark.parametrize("banded", [True, False])
def test_curves_have_a_line_per_strategy_and_random_is_black(banded: bool) -> None:
    frame = mean_curves(Results(study(["random", "margin", "auto"]), "accuracy"))
    image = opened(study_figures.score_curves(frame, "labels", "accuracy", banded=banded))
    assert all(share_of(image, color) > 0 for color in (*COLORS[:2], INK))
    assert share_of(image, COLORS[2]) == 0


@pytest.mark.parametrize("untrained", [0.1, 0.12])
def test_a_start_that_all_share_does_not_flatten_the_rest(untrained: float) -> None:
    """Neither does that of an untrained network, whatever it scores."""
    rows = [
        ("a", 0, untrained),
        ("a", 10, 0.90),
        ("a", 20, 0.94),
        ("random", 0, 0.1),
        ("random", 10, 0.88),
        ("random", 20, 0.9),
    ]
    frame = pd.DataFrame(rows, columns=["strategy", "budget", "mean"])
    image = np.asarray(opened(study_figures.score_curves(frame, "labels", "accuracy", banded=False)).convert("RGB"))
    wanted = np.array([int(COLORS[0][i : i + 2], 16) for i in (1, 3, 5)])
    # Beyond three quarters of the way, where the lines are between their last two points.
    part = image[:, int(image.shape[1] * 0.55) : int(image.shape[1] * 0.8)].astype(int)
    found = np.flatnonzero((np.abs(part - wanted).max(axis=2) <= 30).any(axis=1))
    assert found[-1] - found[0] > 0.2 * len(image)


def test_all_strategies_fit_into_each_picture() -> None:
    results = study(sorted(available()))
    opened(study_figures.score_curves(mean_curves(Results(results, "accuracy")), "labels", "accuracy", banded=True))
    opened(study_figures.win_matrix(wins(Results(results, "accuracy"))))
    # As many lines as can be told apart.
    assert len(study_figures.APART) * len(study_figures.DASHES) >= len(available())


def test_differences_are_drawn_for_all_but_random() -> None:
    frame = budget_differences(Results(study(["random", "margin"]), "accuracy"))
    image = opened(study_figures.difference_curves(frame, "labels", "accuracy"))
    assert share_of(image, COLORS[0]) > 0 == share_of(image, COLORS[1])


@pytest.mark.parametrize(
    ("verdict", "color"), [(BETTER, COLORS[2]), (WORSE, COLORS[1])], ids=["better is green", "worse is red"]
)
def test_a_verdict_has_its_colour(verdict: str, color: str) -> None:
    sure = AreaDifference(Interval(0.02, 0.01, 0.03), 0.001, 0.001, verdict)
    open_ = AreaDifference(Interval(0.02, -0.01, 0.05), None, None, UNDECIDED)
    assert share_of(opened(study_figures.area_forest({"a": sure, "b": open_}, "accuracy")), color) > 0
    assert share_of(opened(study_figures.area_forest({"b": open_}, "accuracy")), color) == 0


def test_wins_and_losses_mirror_each_other() -> None:
    rows = [("margin", "random", 3, 1, 0), ("random", "margin", 0, 1, 3)]
    found = pd.DataFrame(rows, columns=["strategy", "other", "wins", "ties", "losses"])
    image = opened(study_figures.win_matrix(found))
    # Three of four: three quarters of the way from white.
    green, red = (tuple(255 - 0.75 * (255 - int(color[i : i + 2], 16)) for i in (1, 3, 5)) for color in COLORS[2:0:-1])
    shares = [share_of(image, "#" + "".join(f"{round(c):02x}" for c in color), tolerance=8) for color in (green, red)]
    assert min(shares) > 0.02
    assert shares[0] == pytest.approx(shares[1], rel=0.2)


def test_the_sign_is_a_real_one() -> None:
    assert (study_figures.signed(-0.5), study_figures.signed(1.234, 1)) == ("−0.50", "+1.2")

"""The oracle says the same to everyone, and errs and skips as often as it is told to."""

import numpy as np
import pytest

from al_pipeline.core.study.oracle import SKIPPED, answers

TRUTH = np.random.default_rng(0).integers(0, 4, size=5000)


def test_it_knows_the_truth() -> None:
    np.testing.assert_array_equal(answers(TRUTH, 4, seed=3), TRUTH)


def test_answers_follow_from_the_seed() -> None:
    first, again, other = (answers(TRUTH, 4, seed=seed, error_rate=0.3, skip_rate=0.2) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.3


def test_errors_are_as_many_as_asked_for_and_of_any_other_class() -> None:
    said = answers(TRUTH, 4, seed=3, error_rate=0.3)
    wrong = said != TRUTH
    assert wrong.mean() == pytest.approx(0.3, abs=0.03)
    shifts = np.bincount((said - TRUTH)[wrong] % 4, minlength=4) / wrong.sum()
    np.testing.assert_allclose(shifts, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.05)
    assert (answers(TRUTH, 4, seed=3, error_rate=1) != TRUTH).all()


def test_skips_take_answers_away_and_change_none() -> None:
    said = answers(TRUTH, 4, seed=3, error_rate=0.3)
    with_skips = answers(TRUTH, 4, seed=3, error_rate=0.3, skip_rate=0.25)
    skipped = with_skips == SKIPPED
    assert skipped.mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_array_equal(with_skips[~skipped], said[~skipped])


def test_a_higher_rate_keeps_the_errors_of_a_lower_one() -> None:
    few, many = (answers(TRUTH, 4, seed=3, error_rate=rate) for rate in (0.1, 0.4))
    wrong = few != TRUTH
    np.testing.assert_array_equal(many[wrong], few[wrong])

"""Two models agree as scikit-learn's kappa says, and the stop set of a seed never changes."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.kappa import cohens_kappa, stop_set

answers = st.integers(1, 4).flatmap(
    lambda k: st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=40)
)


@given(answers)
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, dtype=np.int64).T
    if (first == second).all():
        # Theirs is undefined where one class is all there is.
        assert cohens_kappa(first, second) == 1
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = cohen_kappa_score(first, second)
    assert cohens_kappa(first, second) == pytest.approx(expected, abs=1e-12)
    assert cohens_kappa(first, second) == cohens_kappa(second, first)


def test_two_models_that_know_one_class_agree_if_it_is_the_same() -> None:
    ones, twos = np.ones(5, dtype=np.int64), np.full(5, 2)
    assert cohens_kappa(ones, ones) == 1
    assert cohens_kappa(ones, twos) == 0


@pytest.mark.parametrize(("n", "m"), [(3, 4), (0, 0)])
def test_answers_to_different_samples_are_refused(n: int, m: int) -> None:
    with pytest.raises(InputError, match="ask both models about one stop set"):
        cohens_kappa(np.zeros(n, dtype=np.int64), np.zeros(m, dtype=np.int64))


def test_the_stop_set_follows_from_the_seed() -> None:
    rows = stop_set(5000, 3)
    assert len(np.unique(rows)) == 1000
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, stop_set(5000, 3))
    assert set(rows) != set(stop_set(5000, 4))
    np.testing.assert_array_equal(stop_set(7, 3), np.arange(7))

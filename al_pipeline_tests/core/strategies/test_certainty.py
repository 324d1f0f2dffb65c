"""The paper's query strategies against an obvious reference, and everything `select` refuses."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from al_pipeline.core.errors import InputError
from al_pipeline.core.strategies import Selection, available, certainty, select
from al_pipeline.core.strategies.registry import strategy

PAPER = ["low_certainty", "high_certainty", "low_high_certainty", "mid_certainty", "random"]
DETERMINISTIC = PAPER[:4]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def distinct(n: int, classes: int, seed: int = 0) -> np.ndarray:
    """Probabilities whose certainties all differ, so that every choice is forced."""
    return rng(seed).dirichlet(np.ones(classes), n)


def utility(name: str, probabilities: np.ndarray, size: int) -> list[float]:
    sure = [max(row) - 1 / len(row) for row in probabilities.tolist()]
    rank = {row: place for place, row in enumerate(sorted(range(len(sure)), key=sure.__getitem__))}
    kept = [rank[row] for row in the_middle(sure, size)]
    return {
        "low_certainty": [-value for value in sure],
        "high_certainty": sure,
        # Of two as far from the middle the less certain one comes first.
        "mid_certainty": [-abs(rank[row] - sum(kept) / max(1, len(kept)) + 0.25) for row in range(len(sure))],
        "random": [0.0 for _ in sure],
    }[name]


def the_middle(sure: list[float], size: int) -> list[int]:
    """Remove the lowest and the highest in turns until `size` are left."""
    left = sorted(range(len(sure)), key=sure.__getitem__)
    for turn in range(len(left) - size):
        left.pop(-(turn % 2))
    return left


def ranking(values: list[float]) -> list[int]:
    return sorted(range(len(values)), key=lambda row: -values[row])


@st.composite
def pools(draw: st.DrawFn) -> np.ndarray:
    """Small pools with many ties: multiples of 1/8, and empty ones."""
    classes, n = draw(st.integers(2, 4)), draw(st.integers(0, 14))
    eighths = draw(hnp.arrays(np.int64, (n, classes - 1), elements=st.integers(0, 8)))
    cuts = np.sort(np.hstack([np.zeros((n, 1), np.int64), eighths, np.full((n, 1), 8)]), axis=1)
    return np.diff(cuts, axis=1) / 8


# ---------------------------------------------------------------- the paper's definitions


def test_certainty_is_the_distance_from_one_half_for_two_classes() -> None:
    p = np.linspace(0, 1, 11)
    np.testing.assert_allclose(certainty(np.column_stack([p, 1 - p])), np.abs(0.5 - p))


def test_certainty_is_zero_when_uniform_and_largest_when_sure() -> None:
    np.testing.assert_allclose(certainty(np.array([[0.25] * 4, [0, 0, 1, 0]])), [0, 0.75])


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("size", [1, 2, 5, 8, 40])
@pytest.mark.parametrize("name", ["low_certainty", "high_certainty", "mid_certainty"])
def test_the_batch_is_the_top_of_the_sorted_pool(name: str, size: int, classes: int) -> None:
    probabilities = distinct(40, classes)
    values = utility(name, probabilities, size)
    chosen = select(name, probabilities=probabilities, batch_size=size, rng=rng())
    assert chosen.indices.tolist() == ranking(values)[:size]
    np.testing.assert_allclose(chosen.scores, np.array(values)[chosen.indices], rtol=0, atol=1e-15)


@given(
    n=st.integers(1, 30), size=st.integers(1, 34), power=st.sampled_from([0.01, 1, 40]), digits=st.sampled_from([1, 17])
)
@settings(max_examples=150, deadline=None)
def test_mid_certainty_removes_as_many_below_as_above(n: int, size: int, power: float, digits: int) -> None:
    """Skewed to either side, with ties and without, odd and even differences, B = S and more."""
    first = np.round(0.5 + 0.5 * rng(n).random(n) ** power, digits)
    sure = (first - 0.5).tolist()
    chosen = select(
        "mid_certainty", probabilities=np.column_stack([first, 1 - first]), batch_size=size, rng=rng()
    ).indices.tolist()
    kept = the_middle(sure, size)
    assert sorted(chosen) == sorted(kept)
    # From the middle outward: whatever comes first is the middle of a smaller batch, or one off it.
    places = [kept.index(row) for row in chosen]
    assert all(max(places[:b]) - min(places[:b]) == b - 1 for b in range(1, len(places) + 1))
    assert places[0] == (len(kept) - 1) // 2


def test_the_middle_of_skewed_certainties_is_not_what_is_closest_to_their_median() -> None:
    first = 1 - np.array([0.5, 0.49, 0.48, 0.47, 0.3, 0.2, 0.1])
    chosen = select("mid_certainty", probabilities=np.column_stack([first, 1 - first]), batch_size=3, rng=rng())
    assert chosen.indices.tolist() == [3, 2, 4]
    np.testing.assert_array_equal(chosen.scores, [-0.25, -0.75, -1.25])


@given(pool=pools(), size=st.integers(1, 16), seed=st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_mid_certainty_goes_on_outward_where_some_were_drawn_or_are_copies(
    pool: np.ndarray, size: int, seed: int
) -> None:
    places = rng(seed).integers(0, 5, len(pool))
    chosen = select(
        "mid_certainty",
        probabilities=pool,
        embeddings=np.eye(5)[places],
        batch_size=size,
        rng=rng(seed),
        explore=0.3,
        dedup=0.9,
    )
    drawn = chosen.indices[chosen.explored].tolist()
    used = set(places[drawn].tolist())
    expected = []
    if len(drawn) < min(size, len(pool)):
        for row in ranking(utility("mid_certainty", pool, min(size, len(pool)) - len(drawn))):
            if places[row] not in used and len(expected) + len(drawn) < size:
                used.add(int(places[row]))
                expected.append(row)
    assert chosen.indices[~chosen.explored].tolist() == expected


@pytest.mark.parametrize(("size", "low", "high"), [(1, 1, 0), (2, 1, 1), (6, 3, 3), (7, 4, 3), (20, 10, 10)])
def test_low_high_takes_half_from_each_end_and_the_odd_one_low(size: int, low: int, high: int) -> None:
    probabilities = distinct(20, 3)
    order = ranking(utility("low_certainty", probabilities, size))
    chosen = select("low_high_certainty", probabilities=probabilities, batch_size=size, rng=rng())
    assert chosen.indices[::2].tolist() == order[:low]
    assert chosen.indices[1::2].tolist() == order[::-1][:high]
    sure = certainty(probabilities)[chosen.indices]
    np.testing.assert_allclose(chosen.scores, np.where(np.arange(size) % 2, sure, -sure))


def test_for_two_classes_low_certainty_ranks_like_margin_and_entropy() -> None:
    probabilities = distinct(50, 2)
    chosen = select("low_certainty", probabilities=probabilities, batch_size=50, rng=rng()).indices
    margin = np.abs(probabilities[:, 0] - probabilities[:, 1])
    entropy = -(probabilities * np.log(probabilities)).sum(axis=1)
    assert chosen.tolist() == np.argsort(margin).tolist() == np.argsort(-entropy).tolist()


# ---------------------------------------------------------------- every strategy, any pool


@given(
    pool=pools(), size=st.integers(1, 16), seed=st.integers(0, 9), name=st.sampled_from(PAPER), balanced=st.booleans()
)
@settings(max_examples=150, deadline=None)
def test_a_batch_is_min_b_n_unique_candidates_and_the_seed_fixes_it(
    pool: np.ndarray, size: int, seed: int, name: str, balanced: bool
) -> None:
    first, again = (
        select(name, probabilities=pool, batch_size=size, rng=rng(seed), balanced=balanced) for _ in range(2)
    )
    assert len(first) == min(size, len(pool)) == len(set(first.indices.tolist()))
    assert first.indices.dtype == np.int64
    assert first.scores.dtype == first.propensities.dtype == np.float64
    assert all(0 <= row < len(pool) for row in first.indices)
    np.testing.assert_array_equal(first.indices, again.indices)
    np.testing.assert_array_equal(first.scores, again.scores)
    assert np.isnan(first.propensities).all() == (name != "random" or not len(pool))


@given(pool=pools(), size=st.integers(1, 16), seed=st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_no_candidate_left_behind_is_better_than_one_taken(pool: np.ndarray, size: int, seed: int) -> None:
    for name in ("low_certainty", "high_certainty", "mid_certainty"):
        values = np.array(utility(name, pool, size))
        chosen = select(name, probabilities=pool, batch_size=size, rng=rng(seed)).indices
        left = np.setdiff1d(np.arange(len(pool)), chosen)
        if len(left) and len(chosen):
            assert values[left].max() <= values[chosen].min() + 1e-12
        assert (np.diff(values[chosen]) <= 1e-12).all()


@given(pool=pools(), size=st.integers(1, 16), seed=st.integers(0, 9), name=st.sampled_from(PAPER))
@settings(max_examples=150, deadline=None)
def test_balanced_classes_differ_by_at_most_one_unless_one_runs_out(
    pool: np.ndarray, size: int, seed: int, name: str
) -> None:
    chosen = select(name, probabilities=pool, batch_size=size, rng=rng(seed), balanced=True).indices
    predicted = pool.argmax(axis=1) if len(pool) else np.empty(0, int)
    taken, there = Counter(predicted[chosen].tolist()), Counter(predicted.tolist())
    quota = size // pool.shape[1]
    for label in range(pool.shape[1]):
        assert taken[label] >= min(quota, there[label])
    if all(there[label] > quota for label in range(pool.shape[1])):
        counts = [taken[label] for label in range(pool.shape[1])]
        assert max(counts) - min(counts) <= 1


@given(seed=st.integers(0, 99), size=st.integers(1, 30), name=st.sampled_from(PAPER[:2] + PAPER[3:4]))
@settings(max_examples=60, deadline=None)
def test_balanced_takes_the_best_of_each_class_and_then_refills_with_the_best_of_all(
    seed: int, size: int, name: str
) -> None:
    probabilities = distinct(30, 3, seed)
    order = ranking(utility(name, probabilities, size))
    predicted = probabilities.argmax(axis=1)
    chosen = select(name, probabilities=probabilities, batch_size=size, rng=rng(seed), balanced=True).indices

    # The lot decides who gets what B / K leaves over; given those seats, the batch is forced.
    there = Counter(predicted.tolist())
    possible = []
    for lucky in (set(), {0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}):
        if len(lucky) == size % 3:
            seats = {label: min(size // 3 + (label in lucky), there[label]) for label in range(3)}
            batch = [row for label in range(3) for row in [r for r in order if predicted[r] == label][: seats[label]]]
            batch += [row for row in order if row not in batch][: size - len(batch)]
            possible.append(set(batch))
    assert set(chosen.tolist()) in possible


@pytest.mark.parametrize("size", [2, 4, 6, 8])
def test_balanced_low_high_is_half_per_class_and_half_per_end(size: int) -> None:
    probabilities = distinct(60, 2)
    chosen = select("low_high_certainty", probabilities=probabilities, batch_size=size, rng=rng(), balanced=True)
    assert Counter(probabilities.argmax(axis=1)[chosen.indices].tolist()) == {0: size // 2, 1: size // 2}
    assert np.count_nonzero(chosen.scores <= 0) == size // 2


def test_classes_take_turns_so_that_a_prefix_is_balanced_too() -> None:
    probabilities = distinct(300, 3)
    chosen = select("low_certainty", probabilities=probabilities, batch_size=12, rng=rng(), balanced=True).indices
    predicted = probabilities.argmax(axis=1)[chosen].reshape(4, 3)
    assert (np.sort(predicted, axis=1) == [0, 1, 2]).all()


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("balanced", [False, True])
def test_the_order_of_the_rows_does_not_matter(name: str, balanced: bool) -> None:
    probabilities = distinct(41, 3)
    shuffle = rng(5).permutation(41)
    one = select(name, probabilities=probabilities, batch_size=9, rng=rng(), balanced=balanced)
    two = select(name, probabilities=probabilities[shuffle], batch_size=9, rng=rng(), balanced=balanced)
    assert one.indices.tolist() == shuffle[two.indices].tolist()


# ---------------------------------------------------------------- lots and propensities


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_of_equal_candidates_the_first_ones_are_taken_and_count_as_the_lower_ones(name: str) -> None:
    equal = np.full((6, 2), 0.5)
    expected = [2, 3, 4] if name == "mid_certainty" else [0, 1, 2]
    for seed in range(3):
        assert sorted(select(name, probabilities=equal, batch_size=3, rng=rng(seed)).indices) == expected


def test_random_draws_every_candidate_equally_often() -> None:
    counts = Counter[int]()
    generator = rng()
    for _ in range(600):
        counts.update(
            select("random", probabilities=np.full((6, 2), 0.5), batch_size=2, rng=generator).indices.tolist()
        )
    # 600 draws of 2 out of 6: 200 each, standard deviation 11.5.
    assert all(140 < counts[row] < 260 for row in range(6)), counts


def test_random_states_the_probability_of_each_draw() -> None:
    chosen = select("random", probabilities=distinct(40, 3), batch_size=10, rng=rng())
    np.testing.assert_allclose(chosen.propensities, 10 / 40)
    assert np.isnan(chosen.scores).all()


@pytest.mark.parametrize("size", [4, 6, 9])
def test_the_propensities_of_balanced_random_match_how_often_it_draws(size: int) -> None:
    """Two classes of 3 and 7: quotas, a class that runs out, and the refill all enter."""
    probabilities = np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 7)
    generator, repeats = rng(), 1500
    drawn, stated, weights = np.zeros(10), np.zeros(10), 0.0
    for _ in range(repeats):
        chosen = select("random", probabilities=probabilities, batch_size=size, rng=generator, balanced=True)
        drawn[chosen.indices] += 1
        stated[chosen.indices] = chosen.propensities
        weights += (1 / chosen.propensities).sum()
    # Horvitz–Thompson: weights of 1 / propensity add up to the size of the pool, on average.
    assert weights / repeats == pytest.approx(10)
    if size % 2 == 0:  # no seat is left to the lot, so the stated probability is the whole one
        np.testing.assert_allclose(drawn / repeats, stated, atol=4 * 0.5 / np.sqrt(repeats))


def test_random_needs_no_probabilities() -> None:
    chosen = select("random", embeddings=np.zeros((5, 3), np.float32), batch_size=3, rng=rng())
    assert len(chosen) == 3


# ---------------------------------------------------------------- inputs


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_float_type_is_taken(dtype: type) -> None:
    probabilities = distinct(50, 10).astype(dtype)
    chosen = select("low_certainty", probabilities=probabilities, batch_size=5, rng=rng())
    assert chosen.indices.tolist() == np.argsort(probabilities.max(axis=1), kind="stable")[:5].tolist()


def test_lists_and_whole_numbers_are_taken() -> None:
    chosen = select("high_certainty", probabilities=[[0.5, 0.5], [0.9, 0.1]], batch_size=int(np.int64(1)), rng=rng())
    assert chosen.indices.tolist() == [1]
    assert len(select("high_certainty", probabilities=[[0, 1], [1, 0]], batch_size=9, rng=rng())) == 2


def test_an_empty_pool_gives_an_empty_batch() -> None:
    for name in PAPER:
        chosen = select(name, probabilities=np.empty((0, 3)), batch_size=4, rng=rng(), balanced=True)
        assert isinstance(chosen, Selection)
        assert len(chosen) == 0


def test_inputs_are_not_changed() -> None:
    probabilities = distinct(30, 3)
    before = probabilities.copy()
    for name in PAPER:
        select(name, probabilities=probabilities, batch_size=7, rng=rng(), balanced=True)
    np.testing.assert_array_equal(probabilities, before)


GOOD = np.array([[0.5, 0.5], [0.25, 0.75]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probabilities": [[0.5, 0.5], [np.nan, 1]]}, r"candidate 1 are \[nan  ?1\.\]"),
        ({"probabilities": [[0.5, 0.5], [np.inf, 1]]}, "candidate 1"),
        ({"probabilities": [[0.5, 0.5], [0.6, 0.6]]}, r"candidate 1 .*sum 1\.2"),
        ({"probabilities": [[1.2, -0.2], [0.6, 0.4]]}, "candidate 0"),
        ({"probabilities": [0.5, 0.5]}, r"shape .*not \(2,\)"),
        ({"probabilities": [[1.0], [1.0]]}, "classes ≥ 2"),
        ({"probabilities": [["a", "b"]]}, "must be numbers"),
        ({"probabilities": [[0.5, 0.5], [1.0]]}, "cannot be read as an array"),
        ({"batch_size": 0}, "at least 1, not 0"),
        ({"batch_size": -3}, "at least 1, not -3"),
        ({"batch_size": 2.0}, r"whole number of at least 1, not 2\.0"),
        ({"batch_size": True}, "not True"),
        ({"rng": np.random}, "rng must be a numpy.random.Generator, not module"),
        ({"name": "lowest"}, "unknown query strategy 'lowest'; choose one of .*low_certainty.*random"),
        ({"radius": 3}, "unknown option 'radius' for the query strategy 'low_certainty'; it takes no options"),
        ({"embeddings": np.zeros((3, 2))}, "probabilities have 2 rows but embeddings have 3"),
        ({"embeddings": np.zeros(2)}, r"embeddings must have the shape .*not \(2,\)"),
        ({"embeddings": [[0.0, 1.0], [np.nan, 1.0]]}, "embeddings of row 1 hold NaN"),
        (
            {"embeddings": np.zeros((2, 4)), "labeled_embeddings": np.zeros((5, 3))},
            "embeddings have 4 columns but labeled_embeddings have 3",
        ),
        (
            {"probabilities": None, "embeddings": np.zeros((2, 4)), "labeled_embeddings": np.zeros((1, 4))},
            "'low_certainty' needs probabilities",
        ),
        ({"probabilities": None}, "'low_certainty' needs probabilities"),
        ({"name": "k_center"}, "'k_center' needs embeddings"),
        ({"dedup": 0.9}, "'low_certainty' with dedup needs embeddings"),
        ({"dedup": 1.1}, "dedup must be a cosine similarity from -1 to 1, not 1.1"),
        ({"dedup": "high"}, "dedup must be a cosine similarity from -1 to 1, not 'high'"),
        ({"explore": 1.5}, "explore must be a number from 0 to 1, not 1.5"),
        ({"explore": float("nan")}, "explore must be a number from 0 to 1, not nan"),
        ({"probabilities": np.full((2, 2, 3, 2), 0.5)}, "or .passes, candidates, classes. of several passes, not"),
        ({"probabilities": np.empty((0, 3, 2))}, "must have at least one pass"),
        (
            {"name": "random", "probabilities": None, "embeddings": np.zeros((2, 4)), "balanced": True},
            "'random' with balanced=True needs probabilities",
        ),
        ({"name": "random", "probabilities": None}, "needs probabilities or embeddings"),
    ],
)
def test_input_that_cannot_be_used_is_a_value_error_that_names_it(arguments: dict, message: str) -> None:
    good = {"name": "low_certainty", "probabilities": GOOD, "batch_size": 1, "rng": rng()}
    with pytest.raises(InputError, match=message) as caught:
        select(**{**good, **arguments})
    assert isinstance(caught.value, ValueError)


def test_a_bad_row_beyond_the_first_block_is_found_and_named() -> None:
    probabilities = np.full((300_000, 2), 0.5)
    probabilities[299_999] = [0.5, 0.6]
    with pytest.raises(InputError, match="candidate 299999"):
        certainty(probabilities)


# ---------------------------------------------------------------- the registry


def test_the_papers_strategies_are_available_and_described() -> None:
    assert set(PAPER) <= set(available())
    for name, info in available().items():
        assert info.description, name
        assert info.source, name
        assert info.needs <= info.uses <= {"probabilities", "passes", "embeddings"}, name


def test_a_name_is_registered_once() -> None:
    def random() -> None: ...

    with pytest.raises(InputError, match="'random' is registered already"):
        strategy(description="again", source="here")(random)  # pyright: ignore[reportArgumentType]


def test_a_strategy_cannot_need_what_select_does_not_supply() -> None:
    with pytest.raises(InputError, match="cannot need \\['gradients'\\]"):
        strategy(description="x", source="here", needs=["gradients"])

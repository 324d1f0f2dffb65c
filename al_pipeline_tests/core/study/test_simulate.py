"""A simulation is the loop itself, with paired starts and the same result every time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from al_pipeline.core import turn as turns
from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.kappa import cohens_kappa, stop_set
from al_pipeline.core.learning.predict import embed, predict, predict_features
from al_pipeline.core.learning.train import TrainingOptions, Unlabeled, train, untrained
from al_pipeline.core.rng import generator
from al_pipeline.core.strategies import select
from al_pipeline.core.study.oracle import SKIPPED, answers
from al_pipeline.core.study.plan import Plan
from al_pipeline.core.study.simulate import Embedded, World, embedded, known, simulate, simulate_seed, turn, world_of
from al_pipeline.core.study.staged import staged
from al_pipeline.core.turn import Given
from al_pipeline_tests.core.data.pictures import draw

NAMES = ["black", "white"]
OPTIONS = TrainingOptions(image_size=16, epochs=1, learning_rate=1e-3)
PLAN: dict[str, Any] = {
    "strategies": ["low_certainty", "random"],
    "seeds": [0],
    "batch_size": 4,
    "sample_size": 8,
    "balanced": False,
    "rounds": 3,
    "options": OPTIONS,
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    root = tmp_path_factory.mktemp("images")
    frames = []
    for seed, (split, count) in enumerate((("pool", 20), ("holdout", 8))):
        labels = NAMES * (count // 2)
        paths = draw(root / split, labels, seed=seed)
        # Ids in another order than the files, as content hashes are.
        ids = [f"{split}{i:02d}" for i in np.random.default_rng(seed).permutation(count)]
        frames.append(pd.DataFrame({"sample_id": ids, "uri": paths, "split": split, "label": labels}))
    broken = pd.DataFrame({"sample_id": [None], "uri": [str(root / "x.png")], "split": ["excluded"], "label": [None]})
    return pd.concat([*frames, broken], ignore_index=True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of weights: with them the features are given and heads learn."""
    path = tmp_path_factory.mktemp("weights") / "start.safetensors"
    untrained(NAMES, OPTIONS, seed=5, round_number=0).checkpoint.save(path)
    return str(path)


def head_world(manifest: pd.DataFrame, **options: Any) -> tuple[World, Plan]:
    plan = Plan(**PLAN | options)
    samples = known(manifest, NAMES)
    return world_of(samples, plan, 0, embedded(samples, plan)), plan


@pytest.fixture(scope="module")
def results(manifest: pd.DataFrame) -> pd.DataFrame:
    return simulate(manifest, NAMES, Plan(**PLAN))


def test_every_strategy_seed_and_round_has_a_row_with_its_labels(results: pd.DataFrame) -> None:
    assert list(results[["strategy", "seed", "round", "n_labels"]].itertuples(index=False, name=None)) == [
        (strategy, 0, number, 4 * number) for strategy in ("low_certainty", "random") for number in range(3)
    ]
    assert results["accuracy"].between(results["accuracy_low"], results["accuracy_high"]).all()
    assert "seconds" not in results


def test_strategies_of_one_seed_start_together(results: pd.DataFrame) -> None:
    for number in (0, 1):
        same = results[results["round"] == number].drop(columns="strategy")
        assert len(same) == 2
        assert len(same.drop_duplicates()) == 1


def test_it_is_the_same_every_time_wherever_the_rows_stand(manifest: pd.DataFrame, results: pd.DataFrame) -> None:
    said: list[str] = []
    plan: dict[str, Any] = PLAN | {"seeds": [0, 1], "strategies": ["random"], "rounds": 2}
    again = simulate(manifest.sample(frac=1, random_state=3), NAMES, Plan(**plan), progress=said.append)
    same, other = again[again["seed"] == 0], again[again["seed"] == 1]
    expected = results[(results["strategy"] == "random") & (results["round"] < 2)]
    pd.testing.assert_frame_equal(same, expected.reset_index(drop=True), check_exact=True)
    # Calibration is a real number: unlike accuracy it does not coincide by chance.
    assert not np.isclose(same["ece"].to_numpy(), other["ece"].to_numpy()).any()
    assert said[1].startswith("random, seed 0, round 1: 4 labels, accuracy ")


def test_it_asks_and_trains_as_the_loop_does(manifest: pd.DataFrame, results: pd.DataFrame) -> None:
    """Two rounds by hand: a random batch, training, the least certain of the drawn, training."""
    pool = manifest[manifest["split"] == "pool"].sort_values("sample_id").reset_index(drop=True)
    holdout = manifest[manifest["split"] == "holdout"]
    labeled: list[int] = []
    checkpoint = untrained(NAMES, OPTIONS, seed=0, round_number=0).checkpoint
    for number, strategy in ((0, "random"), (1, "low_certainty")):
        left = [i for i in range(20) if i not in labeled]
        drawn = [left[i] for i in generator(0, number, "draw").permutation(len(left))[:8]]
        p = predict(checkpoint, pool["uri"].iloc[drawn].tolist())
        batch = select(strategy, probabilities=p, batch_size=4, rng=generator(0, number, "query"))
        labeled += [drawn[i] for i in batch.indices]
        known = pool.iloc[labeled]
        checkpoint = train(
            known["uri"].tolist(), known["label"].tolist(), NAMES, OPTIONS, seed=0, round_number=number + 1
        ).checkpoint
    p = predict(checkpoint, holdout["uri"].tolist())
    accuracy = np.mean([NAMES[i] for i in p.argmax(axis=1)] == holdout["label"])
    found = results[(results["seed"] == 0) & (results["strategy"] == "low_certainty") & (results["round"] == 2)]
    assert found["accuracy"].item() == pytest.approx(accuracy)


def test_bald_goes_by_the_disagreement_of_an_ensemble_on_the_checkpoints_features(manifest: pd.DataFrame) -> None:
    found = simulate(manifest, NAMES, Plan(**dict(PLAN, strategies=["random", "bald"])))
    bald = found[found["strategy"] == "bald"]
    assert bald["n_labels"].tolist() == [0, 4, 8]
    assert not np.allclose(bald["ece"], found[found["strategy"] == "random"]["ece"])


def test_given_weights_are_learned_from_by_a_head(manifest: pd.DataFrame, tmp_path: Path) -> None:
    """The last round by hand: a head on features of the pool, its predictions from features of the holdout."""
    weights = tmp_path / "start.safetensors"
    untrained(NAMES, OPTIONS, seed=5, round_number=0).checkpoint.save(weights)
    options = OPTIONS.but(weights=str(weights))
    plan = PLAN | {"seeds": [0], "strategies": ["random"], "rounds": 6, "batch_size": 4, "options": options}
    found = simulate(manifest, NAMES, Plan(**plan)).iloc[-1]
    pool, holdout = (manifest[manifest["split"] == split] for split in ("pool", "holdout"))
    assert found["n_labels"] == len(pool)
    result = train(pool["uri"].tolist(), pool["label"].tolist(), NAMES, options, seed=0, round_number=5)
    assert result.checkpoint.info.mode == "head"
    right = predict(result.checkpoint, holdout["uri"].tolist()).argmax(axis=1) == [
        NAMES.index(label) for label in holdout["label"]
    ]
    assert found["accuracy"] == pytest.approx(right.mean())


def test_strategies_that_go_by_features_see_those_of_the_starting_weights(manifest: pd.DataFrame) -> None:
    """Two rounds by hand: before there is a model the features alone decide, afterwards the labeled ones count too."""
    pool = manifest[manifest["split"] == "pool"].sort_values("sample_id").reset_index(drop=True)
    start = untrained(NAMES, OPTIONS, seed=0, round_number=0).checkpoint
    features = embed(start, pool["uri"].tolist())
    labeled: list[int] = []
    for number in range(2):
        left = [i for i in range(20) if i not in labeled]
        drawn = [left[i] for i in generator(0, number, "draw").permutation(len(left))[:8]]
        batch = select(
            "k_center",
            embeddings=features[drawn],
            labeled_embeddings=features[sorted(labeled)],
            batch_size=4,
            rng=generator(0, number, "query"),
        )
        labeled += [drawn[i] for i in batch.indices]
    told: list[tuple[int, ...]] = []

    def spy(paths: list[str], labels: list[str], *args: Any, **kwargs: Any) -> Any:
        told.append(tuple(sorted(pool.index[pool["uri"].isin(paths)])))
        return train(paths, labels, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("al_pipeline.core.turn.train", spy)
        results = simulate(manifest, NAMES, Plan(**dict(PLAN, strategies=["k_center"], start="own")))
    assert results["n_labels"].tolist() == [0, 4, 8]
    assert told[-1] == tuple(sorted(labeled))


@pytest.mark.parametrize("strategy", ["auto", "badge", "tcm", "margin"])
def test_other_families_run_from_the_first_round_to_the_last(manifest: pd.DataFrame, strategy: str) -> None:
    assert simulate(manifest, NAMES, Plan(**dict(PLAN, strategies=[strategy])))["n_labels"].tolist() == [0, 4, 8]


def test_a_run_ends_when_everything_is_labeled(manifest: pd.DataFrame) -> None:
    plan = PLAN | {"strategies": ["random"], "seeds": [0], "batch_size": 15, "sample_size": None, "rounds": 9}
    assert simulate(manifest, NAMES, Plan(**plan))["n_labels"].tolist() == [0, 15, 20]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategies": ["entropies"]}, "unknown strategy 'entropies'; choose one of .*low_certainty"),
        (
            {"strategies": ["random", "k_center"], "balanced": True},
            "balanced = true does not go with the strategy 'k_center'",
        ),
        ({"strategies": []}, "strategies and seeds must be different from each other and at least one"),
        ({"strategies": ["random", "random"]}, "strategies and seeds must be different"),
        ({"seeds": []}, "strategies and seeds must be different from each other and at least one"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ({"rounds": 0}, "rounds must be a whole number of at least 1, or none, not 0"),
        ({"rounds": None}, "give one of them; neither is given"),
        ({"budget": 9}, "give one of them; rounds is 3, budget 9"),
        ({"rounds": None, "budget": 2.5}, "budget must be a whole number of at least 1, or none, not 2.5"),
        ({"seeds": [-1]}, "a seed must be at least 0, not -1"),
        ({"explore": 1.5}, "explore must be a number from 0 to 1, not 1.5"),
        ({"dedup": -2}, "dedup must be a number from -1 to 1, or none, not -2"),
        ({"error_rate": float("nan")}, "error_rate must be a number from 0 to 1, not nan"),
        ({"skip_rate": 1}, "skip_rate must be a number of at least 0 and below 1, not 1"),
        ({"start": "warm"}, "unknown start 'warm'; choose one of random, own"),
        ({"options": OPTIONS.but(warm_start=True)}, "set training.warm_start to false"),
        ({"staged": True}, "a staged study refines the network that heads choose with: set training.weights"),
        ({"sample_size": 3}, "batch_size 4 is larger than sample_size 3"),
    ],
)
def test_plans_that_cannot_be_run_are_refused(manifest: pd.DataFrame, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        simulate(manifest, NAMES, Plan(**PLAN | change))


def test_an_oracle_must_know_every_answer(manifest: pd.DataFrame) -> None:
    forgotten = manifest.copy()
    forgotten.loc[forgotten["sample_id"] == "pool03", "label"] = None
    with pytest.raises(InputError, match="every pool sample, but 1 of 20 samples have none"):
        simulate(forgotten, NAMES, Plan(**PLAN))


def test_without_a_test_split_a_quarter_is_held_out_by_whole_groups(manifest: pd.DataFrame) -> None:
    alone = manifest[manifest["split"] != "holdout"]
    pool = alone["sample_id"].dropna().sort_values().to_numpy()
    grouped = alone.assign(group=alone["sample_id"].map({sample: pool[i - i % 2] for i, sample in enumerate(pool)}))
    samples = known(grouped, NAMES)
    assert (len(samples.pool), len(samples.holdout)) == (16, 4)
    groups = grouped.set_index("sample_id")["group"]
    assert not set(groups[samples.pool["sample_id"]]) & set(groups[samples.holdout["sample_id"]])


def test_a_holdout_is_needed(manifest: pd.DataFrame) -> None:
    # A quarter of three images is none.
    with pytest.raises(InputError, match="every holdout sample, but it is empty"):
        simulate(manifest[manifest["split"] != "holdout"].head(3), NAMES, Plan(**PLAN))


@pytest.mark.parametrize(
    "change",
    [{}, {"class_weights": True}, {"semi_supervised": "pseudo_label"}, {"semi_supervised": "label_propagation"}],
    ids=str,
)
def test_a_turn_in_head_mode_is_training_and_prediction_to_the_last_bit(
    manifest: pd.DataFrame, weights: str, change: dict[str, Any]
) -> None:
    options = OPTIONS.but(weights=weights, confidence=0.6, **change)
    world, plan = head_world(manifest, options=options, skip_rate=0.2)
    asked = np.array([0, 1, 2, 5, 7, 8, 11, 13, 14, 16, 19])
    found = turn(world, plan, asked, 3, None)
    labeled = world.labeled(asked)
    others = np.array([i for i in range(20) if i not in labeled])
    features = world.pool.all_features
    assert features is not None
    checkpoint = train(
        # Neither the order of the labels nor the way that the features came counts.
        world.pool.images(labeled[::-1]),
        [NAMES[i] for i in world.answers[labeled[::-1]]],
        NAMES,
        options,
        seed=0,
        round_number=3,
        unlabeled=Unlabeled(world.pool.images(others), features[others]),
        features=features[labeled[::-1]],
    ).checkpoint
    assert len(labeled) < len(asked)
    assert set(found.candidates) == set(range(20)) - set(asked)
    np.testing.assert_array_equal(found.probabilities, predict_features(checkpoint, features[found.candidates]))
    # Not a bit of it would be there if the network were embedded anew.
    assert found.trained


def test_a_turn_in_head_mode_reads_no_weights_and_no_image(manifest: pd.DataFrame, weights: str) -> None:
    world, plan = head_world(manifest, options=OPTIONS.but(weights=weights), strategies=["bald"])
    nowhere = plan.but(options=plan.options.but(weights="/nowhere/gone.safetensors"))
    gone = replace(
        world,
        pool=Given(["/nowhere/gone.png"] * 20, world.pool.all_features),
        holdout=Given(["/nowhere/gone.png"] * len(world.truth), world.holdout.all_features),
    )
    asked = np.arange(10)
    np.testing.assert_array_equal(
        turn(gone, nowhere, asked, 2, 5).probabilities, turn(world, plan, asked, 2, 5).probabilities
    )


def test_guesses_need_something_to_guess(manifest: pd.DataFrame, weights: str) -> None:
    world, plan = head_world(manifest, options=OPTIONS.but(weights=weights, semi_supervised="pseudo_label"))
    with pytest.raises(InputError, match="pseudo_label learns from unlabeled samples too, and none were given"):
        turn(world, plan, np.arange(20), 2, None)


def test_strategies_start_with_the_same_random_batch_or_with_their_own(manifest: pd.DataFrame, weights: str) -> None:
    plan = PLAN | {"strategies": ["random", "k_center"], "options": OPTIONS.but(weights=weights), "rounds": 3}
    curves = {}
    for start in ("random", "own"):
        found = simulate(manifest, NAMES, Plan(**plan, start=start))
        curves[start] = {name: runs["ece"].to_numpy() for name, runs in found.groupby("strategy")}
    np.testing.assert_array_equal(curves["random"]["k_center"][:2], curves["random"]["random"][:2])
    assert curves["random"]["k_center"][2] != curves["random"]["random"][2]
    assert curves["own"]["k_center"][1] != curves["own"]["random"][1]


def test_batches_are_chosen_with_explore_and_dedup_as_the_loop_does(manifest: pd.DataFrame, weights: str) -> None:
    wanted = {"strategies": ["margin"], "explore": 0.5, "dedup": 0.99, "rounds": 4}
    world, plan = head_world(manifest, options=OPTIONS.but(weights=weights), **wanted)
    asked, eces, sizes = np.empty(0, dtype=np.int64), [], []
    for number in range(4):
        now = turn(world, plan, asked, number, 8 if number < 3 else 0)
        eces.append(now.evaluation.ece)
        sizes.append(len(asked))
        if number < 3:
            batch = select(
                "margin" if now.trained else "random",
                probabilities=now.probabilities if now.trained else None,
                embeddings=world.pool.features(now.candidates),
                labeled_embeddings=world.pool.features(asked) if len(asked) else None,
                batch_size=4,
                rng=generator(0, number, "query"),
                explore=0.5,
                dedup=0.99,
            )
            asked = np.sort(np.concatenate([asked, now.candidates[batch.indices]]))
    found = simulate(manifest, NAMES, plan)
    assert found["ece"].tolist() == eces
    assert found["n_asked"].tolist() == sizes
    strict = simulate(manifest, NAMES, plan.but(dedup=-1))
    assert strict["n_asked"].tolist() == [0, 1, 2, 3]


def test_near_duplicates_are_not_told_by_an_untrained_network(manifest: pd.DataFrame) -> None:
    plan = Plan(**PLAN | {"strategies": ["margin"], "options": OPTIONS.but(weights="none"), "rounds": 2})
    pd.testing.assert_frame_equal(simulate(manifest, NAMES, plan), simulate(manifest, NAMES, plan.but(dedup=-1)))


def test_without_a_stop_set_everything_but_the_agreement_is_the_same(manifest: pd.DataFrame, weights: str) -> None:
    plan = Plan(**PLAN | {"options": OPTIONS.but(weights=weights), "rounds": 4})
    measured, left_out = simulate(manifest, NAMES, plan), simulate(manifest, NAMES, plan.but(stop_set=False))
    assert measured["agreement"].notna().any()
    assert left_out["agreement"].isna().all()
    pd.testing.assert_frame_equal(measured.drop(columns="agreement"), left_out.drop(columns="agreement"))


@pytest.mark.parametrize("given", [True, False], ids=["heads", "networks"])
def test_agreement_is_the_kappa_of_two_rounds_models_on_the_stop_set(
    manifest: pd.DataFrame, weights: str, given: bool
) -> None:
    """One run by hand, beside another strategy that shares its first turns."""
    options = OPTIONS.but(weights=weights) if given else OPTIONS
    plan = Plan(**PLAN | {"strategies": ["margin", "random"], "options": options, "rounds": 4, "seeds": [1]})
    samples = known(manifest, NAMES)
    world = world_of(samples, plan, 1, embedded(samples, plan))
    asked, said = np.empty(0, dtype=np.int64), []
    for number in range(4):
        now = turn(world, plan, asked, number, 8)
        said.append(now.stop)
        if now.stop is not None:
            # Everything else was asked about: this turn's candidates are all the rest, predicted by the same model.
            everything = turn(world, plan, asked, number, None)
            rows = stop_set(len(samples.pool), 1)
            at = [np.flatnonzero(rows == row)[0] for row in everything.candidates]
            np.testing.assert_array_equal(now.stop[at], everything.probabilities.argmax(axis=1))
        batch = select(
            "margin" if now.trained else "random",
            probabilities=now.probabilities,
            batch_size=4,
            rng=generator(1, number, "query"),
        )
        asked = np.sort(np.concatenate([asked, now.candidates[batch.indices]]))
    found = simulate(manifest, NAMES, plan)
    run = found[found["strategy"] == "margin"]["agreement"].to_numpy()
    expected = [
        np.nan if before is None or after is None else cohens_kappa(before, after)
        for before, after in zip([None, *said], said, strict=False)
    ]
    np.testing.assert_array_equal(run, expected)
    assert np.isnan(run[:2]).all()
    assert not np.isnan(run[2:]).any()


def test_a_budget_cuts_the_last_batch(manifest: pd.DataFrame, weights: str) -> None:
    plan = PLAN | {"strategies": ["random"], "options": OPTIONS.but(weights=weights), "rounds": None}
    found = simulate(manifest, NAMES, Plan(**plan, budget=10))
    assert found["n_labels"].tolist() == found["n_asked"].tolist() == [0, 4, 8, 10]


def test_the_features_of_all_candidates_are_never_copied_at_once(
    manifest: pd.DataFrame, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a million images they would take another 2 GB."""
    plan = Plan(**PLAN | {"options": OPTIONS.but(weights=weights), "sample_size": None})
    expected, copied, every = simulate(manifest, NAMES, plan), list[int](), Given.features

    def features(self: Given, rows: np.ndarray) -> np.ndarray | None:
        copied.append(len(rows))
        return every(self, rows)

    monkeypatch.setattr(turns, "BLOCK", 5)
    monkeypatch.setattr(Given, "features", features)
    pd.testing.assert_frame_equal(simulate(manifest, NAMES, plan), expected)
    assert max(copied) == 8  # What is labeled in the end; there are 20 candidates at first.


def test_skipped_samples_are_asked_once_and_cost_no_label(manifest: pd.DataFrame, weights: str) -> None:
    plan = PLAN | {"strategies": ["random", "margin"], "options": OPTIONS.but(weights=weights), "rounds": None}
    found = simulate(manifest, NAMES, Plan(**plan, budget=20, skip_rate=0.4))
    willing = int((answers(known(manifest, NAMES).truth, 2, seed=0, skip_rate=0.4) != SKIPPED).sum())
    assert 5 < willing < 18
    for _, run in found.groupby("strategy"):
        # Everything was asked about, once.
        assert run["n_asked"].tolist() == [0, 4, 8, 12, 16, 20]
        assert run["n_labels"].iloc[-1] == willing
        assert run["n_labels"].is_monotonic_increasing


def test_a_lying_oracle_is_found_out_by_the_holdout(manifest: pd.DataFrame, weights: str) -> None:
    plan = PLAN | {"strategies": ["random"], "options": OPTIONS.but(weights=weights), "rounds": 6}
    honest, lying = (simulate(manifest, NAMES, Plan(**plan, error_rate=rate)).iloc[-1] for rate in (0.0, 1.0))
    assert honest["accuracy"] > 0.8
    assert lying["accuracy"] == pytest.approx(1 - honest["accuracy"])


def test_labels_must_be_of_the_classes(manifest: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="pool labels outside of the classes: 'white'; the classes are black, grey"):
        simulate(manifest, ["black", "grey"], Plan(**PLAN))


@pytest.mark.parametrize("end", [{"rounds": 4}, {"rounds": None, "budget": 10}], ids=["rounds", "budget"])
def test_a_batch_ahead_is_chosen_without_the_answers_to_the_one_before(
    manifest: pd.DataFrame, weights: str, monkeypatch: pytest.MonkeyPatch, end: dict[str, Any]
) -> None:
    known_at: list[tuple[int, int]] = []

    def seen(world: World, plan: Plan, asked: Any, number: int, size: int | None, *, unanswered: Any) -> Any:
        known_at.append((len(asked), len(asked) - len(unanswered)))
        return turn(world, plan, asked, number, size, unanswered=unanswered)

    monkeypatch.setattr("al_pipeline.core.study.simulate.turn", seen)
    plan = PLAN | {"strategies": ["margin"], "options": OPTIONS.but(weights=weights)} | end
    found = simulate(manifest, NAMES, Plan(**plan, ahead=True))
    if "budget" in end:
        assert known_at == [(0, 0), (4, 0), (8, 4), (10, 8), (10, 10)]
        assert found["n_labels"].tolist() == found["n_asked"].tolist() == [0, 4, 8, 10]
    else:
        # The last round learns from all.
        assert known_at == [(0, 0), (4, 0), (8, 4), (12, 12)]
        assert found["n_labels"].tolist() == [0, 4, 12]


def test_a_staged_study_measures_what_would_serve_and_goes_on_with_its_features(
    manifest: pd.DataFrame, weights: str
) -> None:
    """Features that say nothing stand in for those of the given weights: the network learns what a head cannot."""
    options = OPTIONS.but(weights=weights, epochs=2, batch_size=8)
    plan = Plan(
        **PLAN
        | {
            "strategies": ["random"],
            "batch_size": 20,
            "sample_size": None,
            "rounds": 2,
            "staged": True,
            "options": options,
        }
    )
    samples, rng = known(manifest, NAMES), np.random.default_rng(0)
    noise = Embedded(*(rng.normal(size=(n, 512)).astype(np.float32) for n in (20, 8)))
    plain = simulate_seed(samples, plan.but(staged=False), 0, noise)
    found = simulate_seed(samples, plan, 0, noise)
    assert "refined" not in plain
    assert found["refined"].tolist() == [False, True]
    assert (found["refine_seconds"] > 0).tolist() == [False, True]
    paths, tests = (frame["uri"].tolist() for frame in (samples.pool, samples.holdout))
    given = world_of(samples, plan, 0, noise)
    after = staged(given, plan, np.arange(20), 1, last=False).world
    assert after.network is not None
    right = np.array(NAMES)[predict(after.network, tests).argmax(axis=1)] == samples.holdout["label"]
    assert found["accuracy"][1] == pytest.approx(right.mean())
    assert found["accuracy"][1] > plain["accuracy"][1]
    assert after.pool.all_features == pytest.approx(embed(after.network, paths), abs=1e-5)
    assert after.refined_on == 20

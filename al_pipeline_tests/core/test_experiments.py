"""A simulation is the loop itself, with paired starts and the same result every time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from al_pipeline.core.errors import InputError
from al_pipeline.core.experiments import simulate
from al_pipeline.core.predict import embed, predict
from al_pipeline.core.rng import generator
from al_pipeline.core.strategies import select
from al_pipeline.core.train import TrainingOptions, train, untrained
from al_pipeline_tests.core.pictures import draw

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
def results(manifest: pd.DataFrame) -> pd.DataFrame:
    return simulate(manifest, NAMES, **PLAN)


def test_every_strategy_seed_and_round_has_a_row_with_its_labels(results: pd.DataFrame) -> None:
    assert list(results[["strategy", "seed", "round", "n_labels"]].itertuples(index=False, name=None)) == [
        (strategy, 0, number, 4 * number) for strategy in ("low_certainty", "random") for number in range(3)
    ]
    assert results["accuracy"].between(results["accuracy_low"], results["accuracy_high"]).all()
    assert (results["seconds"] > 0).all()


def test_strategies_of_one_seed_start_together(results: pd.DataFrame) -> None:
    for number in (0, 1):
        same = results[results["round"] == number].drop(columns="strategy")
        assert len(same) == 2
        assert len(same.drop_duplicates()) == 1


def test_it_is_the_same_every_time_wherever_the_rows_stand(manifest: pd.DataFrame, results: pd.DataFrame) -> None:
    said: list[str] = []
    plan = PLAN | {"seeds": [0, 1], "strategies": ["random"], "rounds": 2, "progress": said.append}
    again = simulate(manifest.sample(frac=1, random_state=3), NAMES, **plan)
    same, other = again[again["seed"] == 0], again[again["seed"] == 1]
    expected = results[(results["strategy"] == "random") & (results["round"] < 2)]
    # The order of the holdout changes a sum's rounding, not what is chosen.
    for column in ("n_labels", "accuracy", "ece"):
        np.testing.assert_allclose(same[column].to_numpy(), expected[column].to_numpy(), atol=1e-9)
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
    found = simulate(manifest, NAMES, **PLAN | {"seeds": [0], "strategies": ["random", "bald"], "rounds": 3})
    bald = found[found["strategy"] == "bald"]
    assert bald["n_labels"].tolist() == [0, 4, 8]
    assert not np.allclose(bald["ece"], found[found["strategy"] == "random"]["ece"])


def test_given_weights_are_learned_from_by_a_head(manifest: pd.DataFrame, tmp_path: Path) -> None:
    """The last round by hand: a head on features of the pool, its predictions from features of the holdout."""
    weights = tmp_path / "start.safetensors"
    untrained(NAMES, OPTIONS, seed=5, round_number=0).checkpoint.save(weights)
    options = replace(OPTIONS, weights=str(weights))
    plan = PLAN | {"seeds": [0], "strategies": ["random"], "rounds": 6, "batch_size": 4, "options": options}
    found = simulate(manifest, NAMES, **plan).iloc[-1]
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
        patch.setattr("al_pipeline.core.experiments.train", spy)
        results = simulate(manifest, NAMES, **dict(PLAN, strategies=["k_center"]))
    assert results["n_labels"].tolist() == [0, 4, 8]
    assert told[-1] == tuple(sorted(labeled))


@pytest.mark.parametrize("strategy", ["auto", "badge", "tcm", "margin"])
def test_other_families_run_from_the_first_round_to_the_last(manifest: pd.DataFrame, strategy: str) -> None:
    assert simulate(manifest, NAMES, **dict(PLAN, strategies=[strategy]))["n_labels"].tolist() == [0, 4, 8]


def test_a_run_ends_when_everything_is_labeled(manifest: pd.DataFrame) -> None:
    plan = PLAN | {"strategies": ["random"], "seeds": [0], "batch_size": 15, "sample_size": None, "rounds": 9}
    assert simulate(manifest, NAMES, **plan)["n_labels"].tolist() == [0, 15, 20]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategies": ["entropies"]}, "unknown strategy 'entropies'; choose from .*low_certainty"),
        ({"strategies": ["random", "k_center"], "balanced": True}, "'k_center' has no balanced form"),
        ({"strategies": []}, "no strategy to simulate"),
        ({"strategies": ["random", "random"]}, "strategies must be different"),
        ({"seeds": []}, "seeds must be different from each other and at least one"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"rounds": 0}, "rounds must be at least 1, not 0"),
        ({"sample_size": 3}, "batch_size 4 is larger than sample_size 3"),
    ],
)
def test_plans_that_cannot_be_run_are_refused(manifest: pd.DataFrame, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        simulate(manifest, NAMES, **PLAN | change)


def test_an_oracle_must_know_every_answer(manifest: pd.DataFrame) -> None:
    forgotten = manifest.copy()
    forgotten.loc[forgotten["sample_id"] == "pool03", "label"] = None
    with pytest.raises(InputError, match="every pool sample, but 1 of 20 samples have none"):
        simulate(forgotten, NAMES, **PLAN)


def test_a_holdout_is_needed(manifest: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="every holdout sample, but it is empty"):
        simulate(manifest[manifest["split"] != "holdout"], NAMES, **PLAN)

"""A study goes on where it was killed, and its bytes depend on neither the processes nor their order."""

from pathlib import Path

import pandas as pd
import pytest

from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.learning.train import untrained
from al_pipeline.core.study.plan import Plan
from al_pipeline.core.study.results import Results
from al_pipeline.core.study.run import Study, run_study, study_key
from al_pipeline.core.study.simulate import known, simulate
from al_pipeline_tests.core.data.pictures import draw

NAMES = ["black", "white"]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    root = tmp_path_factory.mktemp("images")
    frames = []
    for seed, (split, count) in enumerate((("pool", 20), ("holdout", 8))):
        labels = NAMES * (count // 2)
        ids = [f"{split}{i:02d}" for i in range(count)]
        uris = draw(root / split, labels, seed=seed)
        frames.append(pd.DataFrame({"sample_id": ids, "uri": uris, "split": split, "label": labels}))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    weights = tmp_path_factory.mktemp("weights") / "start.safetensors"
    options = TrainingOptions(image_size=16, epochs=1)
    untrained(NAMES, options, seed=5, round_number=0).checkpoint.save(weights)
    return Plan(
        strategies=["margin", "k_center"],
        seeds=[0, 1, 2],
        batch_size=4,
        sample_size=None,
        options=options.but(weights=str(weights)),
        budget=12,
        error_rate=0.1,
    )


@pytest.fixture(scope="module")
def whole(manifest: pd.DataFrame, plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The plan in this process, without a break."""
    return run_study(manifest, NAMES, plan, tmp_path_factory.mktemp("whole"))


def cells(study: Study) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in study.folder.iterdir()}


def test_a_study_is_its_simulation_in_the_plans_order(manifest: pd.DataFrame, plan: Plan, whole: Study) -> None:
    assert whole.computed == (0, 1, 2)
    assert sorted(cells(whole)) == ["plan.json", "seed-0000.parquet", "seed-0001.parquet", "seed-0002.parquet"]
    pd.testing.assert_frame_equal(whole.results, simulate(manifest, NAMES, plan), check_exact=True)
    turned = run_study(manifest, NAMES, plan.but(seeds=[2, 0]), whole.folder.parent)
    assert turned.computed == ()
    assert turned.results["seed"].unique().tolist() == [2, 0]


def test_processes_change_no_byte(manifest: pd.DataFrame, plan: Plan, whole: Study, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    rounds: list[int] = []
    left: list[float] = []
    study = run_study(
        manifest.sample(frac=1, random_state=1),
        NAMES,
        plan,
        tmp_path,
        jobs=2,
        progress=lambda *n: told.append(n),
        rounds=rounds.append,
        left=left.append,
    )
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert rounds == sorted(rounds)
    assert rounds[-1] == len(whole.results)
    assert left[-1] == 0
    assert max(left) > 0
    assert cells(study) == cells(whole)
    pd.testing.assert_frame_equal(study.results, whole.results, check_exact=True)


def test_a_study_that_was_stopped_goes_on_and_one_that_is_done_is_read(
    manifest: pd.DataFrame, plan: Plan, whole: Study, tmp_path: Path
) -> None:
    rounds: list[int] = []

    def stop(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(manifest, NAMES, plan, tmp_path, progress=stop)
    folder = tmp_path / whole.folder.name
    kept = folder / "seed-0000.parquet"
    assert sorted(path.name for path in folder.glob("*.parquet")) == [kept.name]
    before = kept.stat().st_mtime_ns
    study = run_study(manifest, NAMES, plan, tmp_path, rounds=rounds.append)
    assert study.computed == (1, 2)
    assert rounds == list(range(1, 1 + (study.results["seed"] > 0).sum()))
    assert kept.stat().st_mtime_ns == before
    assert cells(study) == cells(whole)
    # Nothing is looked at any more but the results.
    gone = manifest.assign(uri="/nowhere/gone.png")
    again = run_study(gone, NAMES, plan, tmp_path, jobs=2)
    assert again.computed == ()
    pd.testing.assert_frame_equal(again.results, whole.results, check_exact=True)


def test_more_seeds_are_added_with_the_features_there_are(
    manifest: pd.DataFrame, plan: Plan, whole: Study, tmp_path: Path
) -> None:
    run_study(manifest, NAMES, plan.but(seeds=[0]), tmp_path)
    assert len(list(tmp_path.glob("features-*.npy"))) == 1
    # With the features on disk, heads need no image.
    study = run_study(manifest.assign(uri="/nowhere/gone.png"), NAMES, plan.but(seeds=[0, 1]), tmp_path)
    assert study.computed == (1,)
    assert {name: data for name, data in cells(whole).items() if "0002" not in name} == cells(study)


def test_the_folder_follows_from_what_the_results_depend_on(manifest: pd.DataFrame, plan: Plan, tmp_path: Path) -> None:
    samples = known(manifest, NAMES)
    key = study_key(samples, plan)
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(Path(plan.options.weights).read_bytes())
    same = (
        study_key(samples, plan.but(seeds=[7])),
        study_key(known(manifest.sample(frac=1, random_state=2).assign(uri="moved"), NAMES), plan),
        study_key(samples, plan.but(options=plan.options.but(weights=str(moved)))),
    )
    assert set(same) == {key}
    wrong = manifest.copy()
    wrong.loc[0, "label"] = "white"
    others = (
        study_key(samples, plan.but(skip_rate=0.1)),
        study_key(samples, plan.but(strategies=["k_center", "margin"])),
        study_key(samples, plan.but(options=plan.options.but(image_size=32))),
        study_key(samples, plan.but(options=plan.options.but(test_time_flip=True))),
        study_key(samples, plan.but(options=plan.options.but(framing="pad"))),
        study_key(known(wrong, NAMES), plan),
        study_key(known(manifest, NAMES[::-1]), plan),
    )
    assert len({key, *others}) == 8


def test_fine_tuning_is_the_same_in_any_number_of_processes(manifest: pd.DataFrame, tmp_path: Path) -> None:
    plan = Plan(
        strategies=["margin"],
        seeds=[0, 1],
        batch_size=4,
        sample_size=8,
        options=TrainingOptions(image_size=16, epochs=1),
        rounds=3,
    )
    one, two = (run_study(manifest, NAMES, plan, tmp_path / str(jobs), jobs=jobs) for jobs in (1, 2))
    assert cells(one) == cells(two)
    assert not list(tmp_path.rglob("features-*"))


def test_an_error_in_a_process_is_told_and_leaves_no_half_a_result(
    manifest: pd.DataFrame, plan: Plan, tmp_path: Path
) -> None:
    """In a pool that is labeled to the last image nothing is left to guess: a late error."""
    options = plan.options.but(semi_supervised="pseudo_label")
    wanted = plan.but(options=options, budget=20, strategies=["random"], error_rate=0.0)
    with pytest.raises(InputError, match="learns from unlabeled samples too"):
        run_study(manifest, NAMES, wanted, tmp_path, jobs=2)
    assert not list(tmp_path.rglob("seed-*"))


def test_damaged_results_and_no_processes_are_refused(
    manifest: pd.DataFrame, plan: Plan, whole: Study, tmp_path: Path
) -> None:
    folder = tmp_path / whole.folder.name
    folder.mkdir()
    for name, data in cells(whole).items():
        (folder / name).write_bytes(data[: 100 if "0001" in name else None])
    with pytest.raises(InputError, match=r"seed-0001.parquet cannot be read .* delete the file"):
        run_study(manifest, NAMES, plan, tmp_path)
    with pytest.raises(InputError, match="jobs must be at least 1, not 0"):
        run_study(manifest, NAMES, plan, tmp_path, jobs=0)


def test_scores_at_a_budget_are_those_of_the_last_round_within_it() -> None:
    rows = [
        ("a", 0, 0, 0.5),
        ("a", 0, 9, 0.7),
        ("a", 0, 12, 0.9),
        ("a", 1, 0, 0.5),
        ("a", 1, 10, 0.8),
        ("b", 0, 0, 0.1),
    ]
    results = pd.DataFrame(rows, columns=["strategy", "seed", "n_labels", "accuracy"]).assign(roc_auc=0.5)
    found = Results(results.iloc[::-1]).at_budgets([10, 12]).iloc[[2, 3, 0, 1]]
    asked = Results(results.rename(columns={"n_labels": "n_asked"}), axis="n_asked").at_budgets([10, 12])
    assert asked["accuracy"].tolist() == found["accuracy"].tolist()
    assert found["strategy"].tolist() == ["a", "a", "b", "b"]
    assert found["seeds"].tolist() == [2, 2, 1, 1]
    assert found["accuracy"].tolist() == pytest.approx([0.75, 0.85, 0.1, 0.1])

"""The report says what is worse as plainly as what is better, and what it cannot tell."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from al_pipeline.core.learning.options import TrainingOptions
from al_pipeline.core.study import report as study_report
from al_pipeline.core.study.page import data_address
from al_pipeline.core.study.plan import Plan
from al_pipeline.core.study.report import Report, settings_of
from al_pipeline.core.study.results import Results
from al_pipeline.core.study.run import AFTERWARDS
from al_pipeline.core.study.savings import savings, sentence
from al_pipeline_tests.core.study.paired_tables import frozen_objects, simulated, table
from al_pipeline_tests.core.study.test_page import Page

__all__ = ["frozen_objects"]

BUDGETS = range(50, 350, 50)
SPEEDS = {"random": 200.0, "margin": 100.0, "coreset": 400.0}
RESULTS = simulated(np.random.default_rng(4), SPEEDS, seeds=6, budgets=BUDGETS).assign(roc_auc=lambda f: f["accuracy"])
SETTINGS = {"classes": "a_b, *c*, <img src=x>, d|e"}


def told(results: pd.DataFrame = RESULTS, metric: str = "roc_auc", axis: str = "n_labels") -> Report:
    return Report(Results(results, metric, axis), "A study", SETTINGS, {"numpy": "9.9"}, "al simulate --seeds 6")


def rows_of(text: str, heading: str) -> dict[str, list[str]]:
    """Return the table below a heading by its first column, the header included."""
    lines = text.split(f"\n## {heading}", 1)[1].split("\n## ")[0].splitlines()
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("|")]
    found: dict[str, list[str]] = {}
    for line in cells:
        found.setdefault(line[0].strip(), [cell.strip() for cell in line[1:]])
    return found


def test_better_and_worse_stand_in_one_table_and_in_sentences() -> None:
    report = told()
    text = report.markdown()
    found = rows_of(text, "Against random")
    assert list(found) == ["strategy", "---", "margin", "coreset", "random"]
    assert [found[name][2] for name in ("margin", "coreset", "random")] == ["**better**", "**worse**", "baseline"]
    assert found["coreset"][0].startswith("−")
    assert found["coreset"][3] == "not within 300"
    # Where it is worse: its losses are as many budgets.
    losses = int(found["coreset"][6].split(" / ")[2])
    low, high = (int(number) for number in found["coreset"][7].split("–"))
    assert losses == (high - low) / 50 + 1 > 2
    assert found["margin"][7] == ""
    assert report.findings == [sentence(saving) for saving in savings(report.results)]
    for said in report.findings:
        assert f"* {said}\n" in text
    assert "against random: 1 better, 1 worse, 0 without a difference shown" in text


def test_scores_are_the_means_at_several_budgets() -> None:
    found = rows_of(told().markdown(), "Mean scores by labels")
    assert found["strategy"] == ["50", "150", "200", "300"]
    wanted = RESULTS[(RESULTS["strategy"] == "margin") & (RESULTS["n_labels"] == 200)]["accuracy"].mean()
    assert found["margin"][2] == f"{wanted:.3f} / {wanted:.3f}"


@pytest.mark.parametrize(
    ("results", "said", "drawn"),
    [
        (RESULTS[RESULTS["seed"] == 0], "What was saved takes at least 2 seeds", ["curves"]),
        (RESULTS[RESULTS["strategy"] != "random"], "told against random: add it", ["curves", "wins"]),
        (RESULTS[RESULTS["strategy"] == "random"], "and another one", ["curves"]),
        (RESULTS.drop(index=3), "What was saved cannot be told: strategy 'random', seed 0 has no row", ["curves"]),
    ],
    ids=["one seed", "no random", "random alone", "a hole"],
)
def test_what_cannot_be_told_is_said_and_curves_are_shown(results: pd.DataFrame, said: str, drawn: list[str]) -> None:
    report = told(results)
    text = report.markdown({name: name for name in report.pictures})
    assert list(report.pictures) == drawn
    assert said in report.findings[0]
    assert said in text
    assert "## Against random" not in text
    assert "![Learning curves](curves)" in text
    assert len(rows_of(text, "Mean scores by labels")) == results["strategy"].nunique() + 2
    assert said in Page(report.html()).text


def test_the_page_holds_everything_and_loads_nothing() -> None:
    report = told()
    drawn = report.pictures
    assert list(drawn) == list(study_report.PICTURES)
    found = Page(report.html())
    shown = [data_address(drawn[name]) for name in ("curves", "differences", "areas", "wins")]
    assert found.addresses == shown
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    assert "a_b, *c*, <img src=x>, d|e" in found.text
    assert "al simulate --seeds 6" in found.text
    assert "Computed with numpy 9.9" in found.text


def test_a_report_is_written_whole_and_the_same_again(tmp_path: Path) -> None:
    def written() -> dict[str, bytes]:
        return {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    told().write(tmp_path)
    first = written()
    names = [f"images/{name}.png" for name in study_report.PICTURES]
    assert sorted(first) == sorted([*names, "report.html", "report.md"])
    assert re.findall(r"\]\((.*?)\)", first["report.md"].decode()) == [names[0], *names[1:]]
    told(RESULTS.sample(frac=1, random_state=1).sort_values("strategy", key=order)).write(tmp_path)
    assert written() == first
    # Pictures of another study do not stay.
    told(RESULTS[RESULTS["seed"] == 0]).write(tmp_path)
    assert sorted(written()) == ["images/curves.png", "report.html", "report.md"]


def order(names: pd.Series) -> pd.Series:
    """Return the plan's order of strategies, in which they are told."""
    return names.map(list(SPEEDS).index)


def test_samples_asked_about_are_counted_where_some_are_skipped() -> None:
    # A fifth is skipped, other ones in each run; ends are ragged.
    rng = np.random.default_rng(0)
    asked = RESULTS.assign(n_asked=RESULTS["n_labels"], n_labels=lambda f: f["n_labels"] - rng.integers(1, 20, len(f)))
    asked = asked.drop(index=asked.index[(asked["seed"] == 2) & (asked["n_asked"] == 300)])
    report = told(asked, axis="n_asked")
    text = report.markdown()
    assert "random's ROC-AUC at 250 samples asked about with " in text
    assert "250 samples asked about.\n" in text
    assert "worse at (samples asked about)" in text
    assert list(report.pictures) == list(study_report.PICTURES)


def test_a_tie_is_no_verdict() -> None:
    flat = table({"random": [[0.5, 0.6, 0.7]] * 3, "copy": [[0.5, 0.6, 0.7]] * 3}).assign(roc_auc=np.nan)
    text = told(flat, "accuracy").markdown()
    found = rows_of(text, "Against random")
    assert found["copy"][1:3] == ["no test", "no difference shown"]
    assert found["copy"][6:] == ["0 / 3 / 0", ""]
    assert "accuracy, means over seeds" in text


def test_settings_are_the_plans_and_what_is_in_the_folder() -> None:
    plan = Plan(
        strategies=["margin", "random"],
        seeds=[3, 4],
        batch_size=5,
        sample_size=None,
        options=TrainingOptions(batch_size=7),
        budget=20,
    )
    manifest = pd.DataFrame({"split": ["pool"] * 3 + ["holdout"], "label": ["a", "b", "a", "b"]})
    found = settings_of(plan, manifest, ["a", "b"])
    assert found["images"] == "3 in the pool, 1 in the holdout"
    assert found["classes"] == "a, b"
    assert (found["strategies"], found["seeds"], found["sample_size"]) == ("margin, random", "3, 4", "all")
    assert (found["batch_size"], found["training.batch_size"], found["budget"]) == ("5", "7", "20")
    assert "rounds" not in found


def test_what_a_study_is_not_hashed_by_has_no_part_in_it() -> None:
    core = Path(study_report.__file__).parents[1]
    modules = {path.relative_to(core).as_posix() for path in core.rglob("*.py")}

    def imported(module: str) -> set[str]:
        names = set[str]()
        for package, those in re.findall(
            r"^\s*from al_pipeline\.core\.([\w.]+) import ([^\n(]+|\([^)]*\))",
            (core / module).read_text(),
            re.MULTILINE,
        ):
            folder = package.replace(".", "/")
            names |= {f"{folder}.py", f"{folder}/__init__.py"}
            names |= {f"{folder}/{name}.py" for name in re.findall(r"\w+", those)}
        return names & modules

    found, left = set[str](), {"study/run.py"}
    while left:
        found |= left
        left = {other for module in left for other in imported(module)} - found
    assert {
        "turn.py",
        "study/simulate.py",
        "learning/train.py",
        "strategies/hybrid.py",
        "evaluation/evaluate.py",
    } <= found
    assert not [module for module in found if module.startswith(AFTERWARDS)]
    assert all(any(module.startswith(name) for module in modules) for name in AFTERWARDS)

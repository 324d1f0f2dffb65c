"""The report of a study: what each strategy saved or cost against a random choice, in words, a table and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from al_pipeline.core.data.pool import select_split
from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.auc import CONFIDENCE
from al_pipeline.core.evaluation.compare import BETTER, UNDECIDED, WORSE
from al_pipeline.core.evaluation.evaluate import Interval
from al_pipeline.core.files import whole_file
from al_pipeline.core.study import figures as study_figures
from al_pipeline.core.study.figures import signed
from al_pipeline.core.study.page import escaped, page, table
from al_pipeline.core.study.paired import BASELINE, budget_differences, curves, wins
from al_pipeline.core.study.paired_scores import AXES, METRICS, paired_scores
from al_pipeline.core.study.plan import Plan
from al_pipeline.core.study.run import at_budgets
from al_pipeline.core.study.savings import WORDS, Saving, factor, savings, sentence, whole

# What each picture is called, in the order in which they are shown.
PICTURES = {
    "curves": "Learning curves",
    "differences": "Difference to random along the budget",
    "areas": "Difference of the areas under the curves",
    "wins": "Wins, ties and losses",
}
ENOUGH_SEEDS = 5
CURVES_MEAN = """\
* **Curves** are means over seeds with Student's 95 % interval. Their bands may overlap although the difference is
  certain: runs of one seed share the first batch, the weights and the draws, so the difference varies less than either.
"""
COMPARISON_MEANS = f"""\
* **Area difference** is the mean difference over all budgets, seed by seed, in points (0.01 of the score). *Better* and
  *worse* are verdicts of a paired t-test at 5 %, with Holm's correction for the number of strategies tried; the
  intervals are not corrected. *No difference shown* does not mean that there is none: more seeds may show one.
* **Needed** is where the mean curve first reaches the last score of {BASELINE}; {BASELINE} is held to the same rule.
  **Saved** is {BASELINE}'s number over the strategy's: 2 means half of it. Its interval resamples the seeds 2,000 times
  and is widened for their number. *Not reached* as a limit means that the score may not be reached within the budget.
* **Error ratio** is the error left at the last budget over {BASELINE}'s: 0.5 means half as many mistakes for accuracy.
* **Wins / ties / losses** and **worse at** count budgets by a paired t-test at 5 % each, not corrected: among equals
  one budget of twenty is expected to differ.
"""
LIMITS = """\
* The seeds differ in their draws, not in their images: intervals tell what other draws of batches would give **on these
  images and this holdout**, which is the same for all seeds. They say nothing about other images.
* Class folders answered instead of people. People err in other ways, and on other images, than a simulated error rate.
"""


@dataclass(frozen=True)
class Description:
    """What the report tells of a study beside its results. It is given, so that a report depends on no clock.

    Attributes
    ----------
    title : str
    settings : dict of str to str
        As a table, in this order.
    versions : dict of str to str
        Of the libraries that computed the results.
    command : str, optional
        What makes the results again.
    date : str, optional
    """

    title: str
    settings: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str | None = None
    date: str | None = None


def settings_of(plan: Plan, manifest: pd.DataFrame, class_names: Sequence[str]) -> dict[str, str]:
    """Return what a report tells of a plan and its images.

    Parameters
    ----------
    plan : Plan
    manifest : DataFrame
        Of `pool.scan`.
    class_names : sequence of str
    """
    images = ", ".join(f"{len(select_split(manifest, split)):,} in the {split}" for split in ("pool", "holdout"))
    own = {name: value for name, value in vars(plan).items() if name != "options"}
    training = {f"training.{name}": value for name, value in vars(plan.options).items()}
    return {"images": images, "classes": _text(class_names)} | {
        name: _text(value) for name, value in (own | training).items() if value is not None or name == "sample_size"
    }


def unanswered(results: pd.DataFrame, metric: str, axis: str = "n_labels") -> str | None:
    """Say why strategies cannot be compared with random choice, or None if they can.

    Parameters
    ----------
    results : DataFrame
        Of a study or a simulation.
    metric, axis : str
        As of `paired_scores.paired_scores`.
    """
    strategies = set(results["strategy"])
    if BASELINE not in strategies or len(strategies) < 2:
        return f"What was saved is told against {BASELINE}: add it to the strategies, and another one."
    if results["seed"].nunique() < 2:
        return "What was saved takes at least 2 seeds to tell from chance; 10 are usual."
    try:
        paired_scores(results, metric, axis)
    except InputError as error:
        return f"What was saved cannot be told: {error}."
    return None


def pictures(results: pd.DataFrame, metric: str = "roc_auc", axis: str = "n_labels") -> dict[str, bytes]:
    """Draw a study.

    Parameters
    ----------
    results : DataFrame
        Of a study or a simulation.
    metric : str
        ``accuracy`` or ``roc_auc``.
    axis : str
        What budgets count: ``n_labels``, or ``n_asked`` where annotators skip.

    Returns
    -------
    dict of str to bytes
        PNG files of less than 100 kB: ``curves``, always; ``differences`` and ``areas`` if there is random choice to
        compare with; ``wins`` if there are two strategies. With one seed, or runs that do not pair up, there are curves
        alone, without bands.
    """
    counted, scored = AXES[axis], WORDS[metric]
    try:
        mean = curves(results, metric, axis)
    except InputError:
        # One seed, or runs that do not pair up: what there is.
        mean = results.groupby(["strategy", axis], as_index=False)[metric].mean().rename(columns={metric: "mean"})
        return {"curves": study_figures.score_curves(_by_budget(mean.dropna(), axis), counted, scored, banded=False)}
    found = {"curves": study_figures.score_curves(_by_budget(mean, axis), counted, scored, banded=True)}
    if unanswered(results, metric, axis) is None:
        difference = _by_budget(budget_differences(results, metric, axis=axis), axis)
        found["differences"] = study_figures.difference_curves(difference, counted, scored)
        areas = {saving.strategy: saving.area_difference for saving in savings(results, metric, axis=axis)}
        found["areas"] = study_figures.area_forest(areas, scored)
    if mean["strategy"].nunique() > 1:
        found["wins"] = study_figures.win_matrix(wins(results, metric, axis))
    return found


def markdown(
    results: pd.DataFrame,
    description: Description,
    metric: str = "roc_auc",
    axis: str = "n_labels",
    *,
    pictures_as: Mapping[str, str] | None = None,
) -> str:
    """Return the report as Markdown.

    Parameters
    ----------
    results : DataFrame
        Of a study or a simulation.
    description : Description
    metric, axis : str
        As of `pictures`.
    pictures_as : dict of str to str, optional
        Addresses of the pictures by their names: of files, or ``data:`` addresses. The others are left out.
    """
    why = unanswered(results, metric, axis)
    found = [] if why else sorted(savings(results, metric, axis=axis), key=lambda one: -_area(one))
    parts = [f"# {escaped(description.title)}\n", _summary(results, metric, axis, found)]
    if why:
        parts.append(f"**{escaped(why)}**\n")
    parts.append("".join(f"* {escaped(sentence(one))}\n" for one in found))
    shown = {name: address for name, address in (pictures_as or {}).items() if name in PICTURES}
    if "curves" in shown:
        parts.append(_image("curves", shown))
    if found:
        parts += [f"## Against {BASELINE}\n", _comparison(results, metric, axis, found)]
    parts += [_image(name, shown) for name in PICTURES if name in shown and name != "curves"]
    parts += [f"## Mean scores by {AXES[axis]}\n", _scores(results, axis)]
    meaning = CURVES_MEAN + (COMPARISON_MEANS if found else "") + LIMITS
    parts += ["## What the numbers mean, and what they do not\n", meaning, "## How it was made\n", _made(description)]
    return "\n".join(part for part in parts if part)


def html(
    results: pd.DataFrame,
    description: Description,
    metric: str = "roc_auc",
    axis: str = "n_labels",
    *,
    drawn: Mapping[str, bytes],
) -> str:
    """Return the report as one HTML page that loads nothing; it holds the pictures.

    Parameters
    ----------
    results, description, metric, axis
        As of `markdown`.
    drawn : dict of str to bytes
        What `pictures` returned.
    """
    text = markdown(results, description, metric, axis, pictures_as={name: name for name in drawn})
    return page(text, description.title, drawn)


def write_report(
    results: pd.DataFrame, description: Description, out: Path, metric: str = "roc_auc", axis: str = "n_labels"
) -> tuple[Path, Path]:
    """Write ``report.html``, ``report.md`` and the latter's ``images/*.png``.

    Parameters
    ----------
    results, description, metric, axis
        As of `markdown`.
    out : Path
        A folder; made if there is none.

    Returns
    -------
    tuple of Path
        The page and the Markdown.

    Raises
    ------
    FileError
        A file could not be written.
    """
    drawn = pictures(results, metric, axis)
    for name in PICTURES:
        path = out / "images" / f"{name}.png"
        if name in drawn:
            with whole_file(path, "A picture of the report") as file:
                file.write_bytes(drawn[name])
        else:
            # Of an earlier report in this folder, of another study.
            path.unlink(missing_ok=True)
    addresses = {name: f"images/{name}.png" for name in drawn}
    texts = {
        "report.html": html(results, description, metric, axis, drawn=drawn),
        "report.md": markdown(results, description, metric, axis, pictures_as=addresses),
    }
    for name, text in texts.items():
        with whole_file(out / name, "The report") as file:
            file.write_text(text, encoding="utf-8")
    return out / "report.html", out / "report.md"


def _by_budget(frame: pd.DataFrame, axis: str) -> pd.DataFrame:
    return frame.rename(columns={axis: "budget"})


def _area(saving: Saving) -> float:
    return saving.area_difference.difference.value


def _image(name: str, shown: Mapping[str, str]) -> str:
    return f"![{PICTURES[name]}]({shown[name]})\n"


def _summary(results: pd.DataFrame, metric: str, axis: str, found: Sequence[Saving]) -> str:
    """Return the paragraph below the title: what was compared, and how it ended."""
    seeds, last = results["seed"].nunique(), int(results[axis].max())
    strategies = results["strategy"].nunique()
    said = (
        f"{_plural(strategies, 'strategy', 'strategies')}, {_plural(seeds, 'seed')}, up to {last:,} {AXES[axis]}; "
        f"compared by {WORDS[metric]} on the holdout."
    )
    if not found:
        return f"{said}\n"
    verdicts = [one.area_difference.verdict for one in found]
    counts = ", ".join(
        f"{verdicts.count(verdict)} {word}"
        for verdict, word in ((BETTER, "better"), (WORSE, "worse"), (UNDECIDED, "without a difference shown"))
    )
    few = (
        f" With fewer than {ENOUGH_SEEDS} seeds intervals are wide, and those of ratios miss too often."
        if seeds < ENOUGH_SEEDS
        else ""
    )
    return f"{said} Over all budgets, against {BASELINE}: {counts}.{few}\n"


def _comparison(results: pd.DataFrame, metric: str, axis: str, found: Sequence[Saving]) -> str:
    """Return the table against the baseline: the best first, the worst in the same table."""
    counts = wins(results, metric, axis).set_index(["strategy", "other"])
    per_budget = budget_differences(results, metric, axis=axis)
    unit = AXES[axis]
    header = ["strategy", "area difference, points (95 %)", "Holm p", "verdict", f"{unit} needed", "saved (95 %)"]
    header += ["error ratio (95 %)", "wins / ties / losses", f"worse at ({unit})"]
    rows = [_row(one, counts.loc[(one.strategy, BASELINE)].tolist(), per_budget) for one in found]
    own = whole(found[0].baseline_labels)
    rows.append([BASELINE, "0", "", "baseline", own, "1", "1", "", ""])
    goal = f"random's final {WORDS[metric]}, {found[0].target:.4f} on average at {found[0].target_labels:,} {unit}"
    return f"{table(header, rows)}\nNeeded and saved are for {goal}.\n"


def _row(saving: Saving, counts: Sequence[int], per_budget: pd.DataFrame) -> list[str]:
    area = saving.area_difference
    verdict = area.verdict if area.verdict == UNDECIDED else f"**{area.verdict}**"
    points = Interval(*(100 * share for share in area.difference))
    error = saving.error_ratio
    own = per_budget[per_budget["strategy"] == saving.strategy]
    worse = (own["p"] < 1 - CONFIDENCE) & (own["mean"] < 0)
    return [
        escaped(saving.strategy),
        f"{signed(points.value)} ({signed(points.low)} to {signed(points.high)})",
        "no test" if area.p_holm is None else f"{area.p_holm:.2g}",
        verdict,
        f"not within {saving.last_budget:,}" if saving.labels is None else whole(saving.labels),
        _ratio(saving),
        "" if error is None else f"{error.value:.2f} ({error.low:.2f} to {factor(error.high)})",
        " / ".join(map(str, counts)),
        _ranges(own[saving.axis].to_numpy(), worse.to_numpy()),
    ]


def _ratio(saving: Saving) -> str:
    low = factor(saving.ratio_low) if saving.ratio_low > 0 else "not reached"
    value = "none" if saving.ratio is None else factor(saving.ratio)
    return f"{value} ({low} to {factor(saving.ratio_high)})"


def shown_budgets(results: pd.DataFrame, axis: str) -> list[int]:
    """Return the budgets of a table of scores: the first batch, and the last ones up to each quarter of the budget.

    Parameters
    ----------
    results : DataFrame
        Of a study or a simulation.
    axis : str
        What budgets count: ``n_labels`` or ``n_asked``.

    Returns
    -------
    list of int
        Ascending, each one that a run has had; 0 only if no run has another.
    """
    known = np.unique(results[axis])
    most = int(known[-1])
    first = int(known[known > 0][0]) if most else 0
    last = np.searchsorted(known, [most * quarters / 4 for quarters in (1, 2, 3, 4)], side="right") - 1
    return sorted({first, *(int(known[at]) for at in last if at >= 0 and known[at] > 0)})


def _ranges(budgets: np.ndarray, chosen: np.ndarray) -> str:
    """Return the chosen budgets, with neighbours as ranges: 20–60, 100."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(np.int8), [0]])))
    runs = [(int(budgets[start]), int(budgets[end - 1])) for start, end in edges.reshape(-1, 2)]
    return ", ".join(f"{low:,}" if low == high else f"{low:,}–{high:,}" for low, high in runs)


def _scores(results: pd.DataFrame, axis: str) -> str:
    """Return mean scores at some budgets."""
    wanted = shown_budgets(results, axis)
    metrics = [name for name in METRICS if results[name].notna().any()]
    found = at_budgets(results, wanted, axis)
    rows = [
        [escaped(str(strategy)), *(" / ".join(f"{row[name]:.3f}" for name in metrics) for _, row in rows.iterrows())]
        for strategy, rows in found.groupby("strategy", sort=False)
    ]
    header = ["strategy", *(f"{budget:,}" for budget in wanted)]
    return f"{' / '.join(WORDS[name] for name in metrics)}, means over seeds.\n\n{table(header, rows)}"


def _made(description: Description) -> str:
    """Return the settings, the command and the versions."""
    parts = []
    if description.command:
        parts.append(f"    {' '.join(description.command.split())}\n")
    if description.settings:
        rows = [[escaped(name), escaped(value)] for name, value in description.settings.items()]
        parts.append(table(["setting", "value"], rows, numbers=False))
    if description.versions:
        versions = ", ".join(f"{name} {number}" for name, number in description.versions.items())
        parts.append(f"Computed with {escaped(versions)}.\n")
    if description.date:
        parts.append(f"{escaped(description.date)}\n")
    return "\n".join(parts)


def _text(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return "all" if value is None else str(value)


def _plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or f'{one}s'}"

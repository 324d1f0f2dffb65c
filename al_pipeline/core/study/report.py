"""The report of a study: what each strategy saved or cost against a random choice, in words, a table and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from al_pipeline.core.data.pool import select_split
from al_pipeline.core.errors import InputError
from al_pipeline.core.evaluation.auc import CONFIDENCE
from al_pipeline.core.evaluation.metrics import BETTER, TITLES, UNDECIDED, WORSE, Interval
from al_pipeline.core.files import whole_file
from al_pipeline.core.study import figures as study_figures
from al_pipeline.core.study.page import escaped, page, table
from al_pipeline.core.study.paired import budget_differences, mean_curves, wins
from al_pipeline.core.study.plan import Plan
from al_pipeline.core.study.results import BASELINE, Results
from al_pipeline.core.study.savings import ENOUGH_SEEDS, Saving, factor, savings, sentence, signed, whole

# What each picture is called, in the order in which they are shown.
PICTURES = {
    "curves": "Learning curves",
    "differences": "Difference to random along the budget",
    "areas": "Difference of the areas under the curves",
    "wins": "Wins, ties and losses",
}
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
  and is widened for their number; of fewer than {ENOUGH_SEEDS} there is none, as it would miss far too often. *Not
  reached* as a limit means that the score may not be reached within the budget.
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
class Report:
    """What is told of a study. All of it is given, so that a report depends on no clock.

    Attributes
    ----------
    results : Results
    title : str
    settings : dict of str to str
        As a table, in this order.
    versions : dict of str to str
        Of the libraries that computed the results.
    command : str, optional
        What makes the results again.
    """

    results: Results
    title: str
    settings: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str | None = None

    @cached_property
    def savings(self) -> list[Saving]:
        """What each strategy saved against random choice, by name; none where that cannot be told."""
        return [] if self.results.unanswered else savings(self.results)

    @property
    def findings(self) -> list[str]:
        """A sentence for each strategy, or the reason why there is none."""
        return [self.results.unanswered] if self.results.unanswered else [sentence(saving) for saving in self.savings]

    @cached_property
    def pictures(self) -> dict[str, bytes]:
        """PNG files of less than 100 kB by the names of `PICTURES`.

        Curves, always; differences and areas if there is random choice to compare with; wins if there are two
        strategies. With one seed, or runs that do not pair up, there are curves alone, without bands.
        """
        results = self.results
        counted, scored = results.counted, results.scored
        try:
            mean = mean_curves(results)
        except InputError:
            # One seed, or runs that do not pair up: what there is.
            mean = results.table.groupby(["strategy", results.axis], as_index=False)[results.metric].mean().dropna()
            mean = mean.rename(columns={results.metric: "mean", results.axis: "budget"})
            return {"curves": study_figures.score_curves(mean, counted, scored, banded=False)}
        found = {"curves": study_figures.score_curves(mean, counted, scored, banded=True)}
        if self.savings:
            found["differences"] = study_figures.difference_curves(budget_differences(results), counted, scored)
            areas = {saving.strategy: saving.area_difference for saving in self.savings}
            found["areas"] = study_figures.area_forest(areas, scored)
        if mean["strategy"].nunique() > 1:
            found["wins"] = study_figures.win_matrix(wins(results))
        return found

    def markdown(self, pictures_as: Mapping[str, str] | None = None) -> str:
        """Return the report as Markdown.

        Parameters
        ----------
        pictures_as : dict of str to str, optional
            Addresses of the pictures by their names: of files, or ``data:`` addresses. The others are left out.
        """
        found = sorted(self.savings, key=lambda one: -one.area_difference.difference.value)
        parts = [f"# {escaped(self.title)}\n", _summary(self.results, found)]
        if self.results.unanswered:
            parts.append(f"**{escaped(self.results.unanswered)}**\n")
        parts.append("".join(f"* {escaped(sentence(one))}\n" for one in found))
        shown = {name: f"![{PICTURES[name]}]({address})\n" for name, address in (pictures_as or {}).items()}
        parts.append(shown.get("curves", ""))
        if found:
            parts += [f"## Against {BASELINE}\n", _comparison(self.results, found)]
        parts += [shown[name] for name in PICTURES if name in shown and name != "curves"]
        parts += [f"## Mean scores by {self.results.counted}\n", _scores(self.results)]
        meaning = CURVES_MEAN + (COMPARISON_MEANS if found else "") + LIMITS
        parts += ["## What the numbers mean, and what they do not\n", meaning, "## How it was made\n", self._made()]
        return "\n".join(part for part in parts if part)

    def html(self) -> str:
        """Return the report as one HTML page that loads nothing; it holds the pictures."""
        return page(self.markdown({name: name for name in self.pictures}), self.title, self.pictures)

    def write(self, out: Path) -> tuple[Path, Path]:
        """Write ``report.html``, ``report.md`` and the latter's ``images/*.png``; return the paths of the first two.

        Raises
        ------
        FileError
            A file could not be written.
        """
        for name in PICTURES:
            path = out / "images" / f"{name}.png"
            if name in self.pictures:
                with whole_file(path, "A picture of the report") as file:
                    file.write_bytes(self.pictures[name])
            else:
                # Of an earlier report in this folder, of another study.
                path.unlink(missing_ok=True)
        texts = {
            "report.html": self.html(),
            "report.md": self.markdown({name: f"images/{name}.png" for name in self.pictures}),
        }
        for name, text in texts.items():
            with whole_file(out / name, "The report") as file:
                file.write_text(text, encoding="utf-8")
        return out / "report.html", out / "report.md"

    def _made(self) -> str:
        """Return the command, the settings and the versions."""
        parts = []
        if self.command:
            parts.append(f"    {' '.join(self.command.split())}\n")
        if self.settings:
            rows = [[escaped(name), escaped(value)] for name, value in self.settings.items()]
            parts.append(table(["setting", "value"], rows, numbers=False))
        if self.versions:
            versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
            parts.append(f"Computed with {escaped(versions)}.\n")
        return "\n".join(parts)


def settings_of(plan: Plan, manifest: pd.DataFrame, class_names: Sequence[str]) -> dict[str, str]:
    """Return what a report tells of a plan and its images, which are those of `pool.scan`."""
    images = ", ".join(f"{len(select_split(manifest, split)):,} in the {split}" for split in ("pool", "holdout"))
    own = {name: value for name, value in vars(plan).items() if name != "options"}
    training = {f"training.{name}": value for name, value in vars(plan.options).items()}
    return {"images": images, "classes": _text(class_names)} | {
        name: _text(value) for name, value in (own | training).items() if value is not None or name == "sample_size"
    }


def _summary(results: Results, found: Sequence[Saving]) -> str:
    """Return the paragraph below the title: what was compared, and how it ended."""
    seeds, last = results.table["seed"].nunique(), int(results.table[results.axis].max())
    strategies = results.table["strategy"].nunique()
    compared = f"{_plural(strategies, 'strategy', 'strategies')}, {_plural(seeds, 'seed', 'seeds')}"
    said = f"{compared}, up to {last:,} {results.counted}; compared by {results.scored} on the holdout."
    if not found:
        return f"{said}\n"
    verdicts = [one.area_difference.verdict for one in found]
    counts = ", ".join(
        f"{verdicts.count(verdict)} {word}"
        for verdict, word in ((BETTER, "better"), (WORSE, "worse"), (UNDECIDED, "without a difference shown"))
    )
    said += f" Over all budgets, against {BASELINE}: {counts}."
    if seeds < ENOUGH_SEEDS:
        said += f" With fewer than {ENOUGH_SEEDS} seeds intervals of differences are wide, and ratios have none."
    return f"{said}\n"


def _comparison(results: Results, found: Sequence[Saving]) -> str:
    """Return the table against the baseline: the best first, the worst in the same table."""
    counts = wins(results).set_index(["strategy", "other"])
    per_budget, unit = budget_differences(results), results.counted
    header = ["strategy", "area difference, points (95 %)", "Holm p", "verdict", f"{unit} needed", "saved (95 %)"]
    header += ["error ratio (95 %)", "wins / ties / losses", f"worse at ({unit})"]
    rows = [_row(one, counts.loc[(one.strategy, BASELINE)].tolist(), per_budget) for one in found]
    own = whole(found[0].baseline_labels)
    rows.append([BASELINE, "0", "", "baseline", own, "1", "1", "", ""])
    goal = f"random's final {results.scored}, {found[0].target:.4f} on average at {found[0].target_labels:,} {unit}"
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
        "" if error is None else _with_limits(saving, factor(error.value), f"{error.low:.2f} to {factor(error.high)}"),
        " / ".join(map(str, counts)),
        _ranges(own["budget"].to_numpy(), worse.to_numpy()),
    ]


def _ratio(saving: Saving) -> str:
    low = factor(saving.ratio_low) if saving.ratio_low > 0 else "not reached"
    value = "none" if saving.ratio is None else factor(saving.ratio)
    return _with_limits(saving, value, f"{low} to {factor(saving.ratio_high)}")


def _with_limits(saving: Saving, value: str, limits: str) -> str:
    return f"{value} ({limits})" if saving.has_intervals else f"{value} (too few seeds)"


def _ranges(budgets: np.ndarray, chosen: np.ndarray) -> str:
    """Return the chosen budgets, with neighbours as ranges: 20–60, 100."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(np.int8), [0]])))
    runs = [(int(budgets[start]), int(budgets[end - 1])) for start, end in edges.reshape(-1, 2)]
    return ", ".join(f"{low:,}" if low == high else f"{low:,}–{high:,}" for low, high in runs)


def _scores(results: Results) -> str:
    """Return mean scores at some budgets."""
    budgets, metrics = results.shown_budgets(), results.metrics
    rows = [
        [escaped(str(strategy)), *(" / ".join(f"{row[name]:.3f}" for name in metrics) for _, row in rows.iterrows())]
        for strategy, rows in results.at_budgets(budgets).groupby("strategy", sort=False)
    ]
    header = ["strategy", *(f"{budget:,}" for budget in budgets)]
    return f"{' / '.join(TITLES[name] for name in metrics)}, means over seeds.\n\n{table(header, rows)}"


def _text(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return "all" if value is None else str(value)


def _plural(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"

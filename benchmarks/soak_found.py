"""What came of a soak: answers lost or doubled, the sensor's ticks, the servers' memory. For `soak`."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
from dagster._core.scheduler.instigation import TickStatus

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.ledger import Ledger
from al_pipeline_tests.faults.test_crowd import Said

# Seconds after a start that say nothing about a slope.
WARM_UP = 180.0
# Seconds for which a kill is felt: its server starts anew, and others wait for it.
DISTURBED = 60.0
# As long as the sensor may take to pull the last answers.
CATCHES_UP = 600.0


def tell_answers(ledger: Ledger, said: Said, client: LabelStudio, project: int) -> list[list[object]]:
    """Wait until the sensor has pulled what people have said; return what is lost or there twice all the same."""
    began = time.monotonic()
    while True:
        stored = ledger.answers()
        rows = stored.where(stored.notna(), None)
        held = {row.annotation_id: (row.sample_id, row.annotator, row.value) for row in rows.itertuples()}
        taken = time.monotonic() - began
        if held == said or taken > CATCHES_UP:
            break
        time.sleep(2)
    per_person = Counter((sample, who) for sample, who, _ in held.values())
    wanted = Counter((sample, who) for sample, who, _ in said.values())
    planned = Counter(ledger.planned()[["round", "sample_id"]].itertuples(index=False, name=None))
    there = Counter((task.round, task.sample_id) for task in client.tasks(project))
    return [
        ["answers that people gave and did not take back", len(said)],
        ["answers in the ledger, pulled by the sensor alone", f"{len(held)}, {taken:.0f} s after the last"],
        ["lost", len(said.keys() - held.keys())],
        ["doubled: a sample and a person more often than said", sum((per_person - wanted).values())],
        ["in the ledger and never said", len(held.keys() - said.keys())],
        ["with another value", sum(held[key] != said[key] for key in held.keys() & said.keys())],
        ["annotation ids that are there twice", int(stored["annotation_id"].duplicated().sum())],
        ["tasks in Label Studio, planned", f"{sum(there.values())}, {sum(planned.values())}"],
        ["tasks that are there twice, that are missing", f"{(there - planned).total()}, {(planned - there).total()}"],
    ]


def ticks_of(
    instance: dg.DagsterInstance, sensor: str, since: float, killed: list[float], file: Path
) -> list[list[object]]:
    """Return what the ticks of a sensor took, also without those within a minute of a kill; all go into a file."""
    [state] = [each for each in instance.all_instigator_state() if each.name == sensor]
    found = instance.get_ticks(state.instigator_origin_id, state.selector_id, after=since)
    rows = [(tick.timestamp, tick.status.value, tick.end_timestamp) for tick in found]
    frame = pd.DataFrame(rows, columns=["at", "status", "end"]).sort_values("at")
    frame["seconds"] = frame.pop("end") - frame["at"]
    frame["after_a_kill"] = [any(0 <= at - kill <= DISTURBED for kill in killed) for at in frame["at"]]
    frame.assign(at=frame["at"] - since).to_csv(file, index=False, float_format="%.2f")
    looked = frame[frame["status"].isin([TickStatus.SKIPPED.value, TickStatus.SUCCESS.value])].sort_values("seconds")
    undisturbed = looked.loc[~looked["after_a_kill"], "seconds"].tolist()
    return [
        [
            "ticks of the sensor",
            ", ".join(f"{kind.lower()} {n}" for kind, n in sorted(Counter(frame["status"]).items())),
        ],
        ["a tick took: median, p95, longest, seconds", spread(looked["seconds"].tolist())],
        [f"the same of {len(undisturbed)} that no server was killed a minute before", spread(undisturbed)],
    ]


def spread(values: list[float]) -> str:
    return "none" if not values else f"{np.median(values):.2f}, {np.percentile(values, 95):.2f}, {values[-1]:.2f}"


MEMORY_COLUMNS = ["server", "starts", "most", "minutes of the last start", "MB at 3 minutes, at the end", "slope, MB/h"]
MEMORY_COLUMNS += ["slope of the second half"]


def memory(weights: list[tuple[float, str, float, float]], began: float) -> list[list[object]]:
    """Return a row per server: its most, and how its memory went since its last start, warm-up left out."""
    frame, rows = pd.DataFrame(weights, columns=["at", "server", "start", "mb"]), []
    for name, part in frame.groupby("server"):
        last = part[part["start"] == part["start"].max()]
        since = max(0.0, float(last["start"].max()) - began)
        last = last[last["at"] > since + WARM_UP]
        if len(last) < 12:
            rows.append([name, part["start"].nunique(), f"{part['mb'].max():.0f}", "too short", "", "", ""])
            continue
        slopes = [
            "{:+.0f} ± {:.0f}".format(*slope_of(each["at"].to_numpy() / 3600, each["mb"].to_numpy()))
            for each in (last, last.iloc[len(last) // 2 :])
        ]
        ends = f"{last['mb'].iloc[:3].mean():.0f}, {last['mb'].iloc[-3:].mean():.0f}"
        span = f"{(last['at'].max() - last['at'].min()) / 60:.0f}"
        most = f"{part['mb'].max():.0f}"
        rows.append([name, part["start"].nunique(), most, span, ends, *slopes])
    return rows


def slope_of(hours: "np.ndarray[Any, Any]", values: "np.ndarray[Any, Any]") -> tuple[float, float]:
    """Return the slope of a line through values and twice its standard error, of neighbours that are alike (AR(1))."""
    slope, level = np.polyfit(hours, values, 1)
    rest = values - (slope * hours + level)
    spread = hours - hours.mean()
    error = np.sqrt((rest**2).sum() / (len(rest) - 2) / (spread**2).sum())
    alike = float(np.corrcoef(rest[:-1], rest[1:])[0, 1]) if rest.std() > 0 else 0.0
    alike = min(max(alike, 0.0), 0.95)
    return float(slope), float(2 * error * np.sqrt((1 + alike) / (1 - alike)))

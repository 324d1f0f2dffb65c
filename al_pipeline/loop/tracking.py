"""Rounds as runs of MLflow: written down here first, then sent, so that a server that is down misses none.

A run is found by the tags of its round and its checkpoint, and whatever is not there whole is sent again: what a
request that was given up has done after all is found the next time, and nothing is there twice. A round that was
trained again is another run. Nothing of this is in a round's own run: no batch waits for it.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from al_pipeline.core.errors import ALError, InputError
from al_pipeline.core.evaluation.metrics import METRICS, columns, stored_scores
from al_pipeline.core.files import whole_file
from al_pipeline.core.learning.provenance import provenance
from al_pipeline.core.options import Options
from al_pipeline.loop.deployment import Deployment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PROJECT, ROUND, CHECKPOINT = "al.project", "al.round", "al.checkpoint"
# Of a checkpoint what no setting says: a setting may be `auto`.
FACTS = ("architecture", "mode", "weights", "framing", "arithmetic", "temperature", "image_size", "seed")
# As many metrics as MLflow takes at once, and the longest value of a parameter.
AT_ONCE, LONGEST = 1000, 6000
# MLflow's own: 120 seconds a request, seven times, and statistics for its makers.
MANNERS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    # Each of its requests is sent once: of a run that is made twice one would stay.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}


class TrackingError(ALError):
    """MLflow could not be told something."""


@dataclass(frozen=True)
class Sent:
    """What came of sending: the rounds that are there now and were not, and why some are not."""

    rounds: tuple[str, ...] = ()
    problem: str | None = None


def write_down(deployment: Deployment, key: str, groups: Mapping[str, Options] | None, now: datetime) -> Path:
    """Store what MLflow is to be told of a round, and return the file; what is there of its checkpoint stays.

    Parameters
    ----------
    deployment : Deployment
    key : str
        A round with an evaluation.
    groups : mapping, optional
        The settings of its run, by the names of their groups; not known of a round that ran before.
    now : datetime
        When its metrics are from.
    """
    artifacts = deployment.artifacts
    document = json.loads((artifacts.evaluations / f"{key}.json").read_text())
    path = artifacts.tracked / f"{key}-{document['checkpoint']}.json"
    if path.exists():
        return path
    options = {f"{name}.{field}": value for name, group in (groups or {}).items() for field, value in group}
    made = provenance(artifacts.checkpoints / f"{key}.safetensors")
    # Of a checkpoint that was deleted, or trained again since, nothing is known.
    facts = made if made.get("weights_hash", "").startswith(document["checkpoint"]) else {}
    record = {
        "round": key,
        "checkpoint": document["checkpoint"],
        "time": round(now.timestamp() * 1000),
        "params": options | {f"checkpoint.{name}": facts[name] for name in FACTS if name in facts},
        "metrics": _metrics(document),
        "curve": _curve(artifacts.curve_table, key, document),
        "evaluation": document,
    }
    with whole_file(path, "What MLflow is to be told") as file:
        file.write_text(json.dumps(record))
    return path


def _metrics(document: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of an evaluation, with their 95 % intervals; what is not defined is left out."""
    n, scores = stored_scores(document["evaluation"])
    found: dict[str, float | None] = {"labels": document["n_labels"], "holdout_samples": n}
    for name, interval in scores.items():
        found |= columns(name, interval)
    found |= {"ece": document["evaluation"].get("ece"), "agreement": document.get("agreement")}
    return {name: float(value) for name, value in found.items() if value is not None}


def _curve(table: Path, key: str, document: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return a row per round up to this one: its labels, and its metrics with their intervals."""
    names = [f"{metric.name}{end}" for metric in METRICS for end in ("", "_low", "_high")]
    before: list[dict[str, float]] = []
    if table.exists():
        stored = pd.read_parquet(table)
        earlier = stored[(stored["round"] < key) & ~stored["other_classes"].astype(bool)]
        rows = earlier[["n_labels", *names]].to_dict("records")
        before = [{str(name): float(value) for name, value in row.items() if not pd.isna(value)} for row in rows]
    own = {name: value for name, value in _metrics(document).items() if name in names}
    return [*before, {"n_labels": float(document["n_labels"]), **own}]


def send(deployment: Deployment) -> Sent:
    """Send what was written down and is not there whole, oldest round first; the first refusal ends it.

    Takes a few requests a round, of at most five seconds each (MLFLOW_HTTP_REQUEST_TIMEOUT).
    """
    records = [json.loads(path.read_text()) for path in sorted(deployment.artifacts.tracked.glob("*.json"))]
    sent: list[str] = []
    try:
        with _client(deployment) as client:
            experiment = _experiment(client, deployment.settings.tracking.experiment)
            known = _known(client, experiment, project_of(deployment))
            for record in records:
                run = known.get((record["round"], record["checkpoint"]))
                # One that somebody deleted there is not sent again.
                if run is None or (run.info.status != "FINISHED" and run.info.lifecycle_stage == "active"):
                    run = run or _begin(client, experiment, deployment, record)
                    _send(client, run.info.run_id, record)
                    if record is records[-1] and (picture := deployment.artifacts.curve_picture).exists():
                        client.log_artifact(run.info.run_id, str(picture))
                    client.set_terminated(run.info.run_id, "FINISHED", record["time"])
                    sent.append(record["round"])
    except TrackingError as error:
        return Sent(tuple(sent), str(error))
    return Sent(tuple(sent))


def untold(deployment: Deployment) -> list[str]:
    """Return the rounds that were written down and are not there whole; nothing is made or sent.

    Raises
    ------
    TrackingError
        The server does not answer, or its client is not installed.
    """
    records = [json.loads(path.read_text()) for path in sorted(deployment.artifacts.tracked.glob("*.json"))]
    with _client(deployment) as client:
        experiment = client.get_experiment_by_name(deployment.settings.tracking.experiment)
        known = _known(client, experiment.experiment_id, project_of(deployment)) if experiment else {}
    there = {name for name, run in known.items() if run.info.status == "FINISHED"}
    return [each["round"] for each in records if (each["round"], each["checkpoint"]) not in there]


def project_of(deployment: Deployment) -> str:
    """Return what tells the rounds of this ledger from those of others in one experiment: its first project."""
    return next((known.identity for known in deployment.ledger.projects()), "")


def register(deployment: Deployment, key: str, checkpoint: str, exported: Path) -> tuple[str, bool]:
    """Make an exported model a version of the registered model; return the version, and whether it is a new one.

    Parameters
    ----------
    deployment : Deployment
    key : str
        The round of the checkpoint.
    checkpoint : str
        Its hash, as `Checkpoint.hash` has it.
    exported : Path
        An ONNX file.

    Raises
    ------
    TrackingError
        MLflow cannot be reached, or refuses.
    """
    import tempfile

    if (deployment.artifacts.evaluations / f"{key}.json").exists():
        write_down(deployment, key, None, datetime.now(UTC))
    outcome = send(deployment)
    if outcome.problem:
        raise TrackingError(outcome.problem)
    name, project = deployment.settings.tracking.model, project_of(deployment)
    with _client(deployment) as client, tempfile.TemporaryDirectory() as scratch:
        known = _known(client, _experiment(client, deployment.settings.tracking.experiment), project)
        # A network that was refined while people labeled has no evaluation of its own.
        of_round = [run for (each, _), run in known.items() if each == key]
        run = known.get((key, checkpoint)) or next(iter(of_round), None)
        if run is None:
            raise TrackingError(f"MLflow has no run of round {key}, and none can be made: it has no evaluation")
        versions = client.search_model_versions(f"name = '{name}'")
        there = [each for each in versions if each.tags.get(CHECKPOINT) == checkpoint]
        if there:
            return str(there[0].version), False
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        folder = _as_mlflow(exported, Path(scratch) / "model")
        client.log_artifacts(run.info.run_id, str(folder), "model")
        source = f"{run.info.artifact_uri}/model"
        tags = {PROJECT: project, ROUND: key, CHECKPOINT: checkpoint}
        made = client.create_model_version(name, source, run.info.run_id, tags=tags, await_creation_for=0)
        return str(made.version), True


def _as_mlflow(exported: Path, folder: Path) -> Path:
    """Write an ONNX file as a model of MLflow, which its own programs can load and serve."""
    import warnings
    from importlib.metadata import version

    import onnx

    needed = [f"{name}=={version(name)}" for name in ("onnx", "onnxruntime", "numpy")]
    with warnings.catch_warnings():
        # It warns of its own classes when it is imported.
        warnings.simplefilter("ignore")
        from mlflow import onnx as flavor

        flavor.save_model(onnx.load(exported), folder, pip_requirements=needed)
    return folder


@contextmanager
def _client(deployment: Deployment) -> "Iterator[MlflowClient]":
    """Yield a client of the server; what goes wrong in the body is told in a sentence."""
    uri = deployment.settings.tracking.uri
    if uri is None:
        raise InputError("AL_TRACKING__URI is not set: there is no MLflow to tell anything")
    for name, value in MANNERS.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise TrackingError(
            f"MLflow's client cannot be imported ({error}): pip install 'al_pipeline[mlflow]'"
        ) from error
    try:
        yield mlflow.MlflowClient(uri, uri)
    # Of `requests`, which uploads files, an error is one of the operating system.
    except (MlflowException, OSError) as error:
        first: BaseException = error
        # What a request failed with is wrapped three times.
        while (cause := first.__cause__ or first.__context__) is not None:
            first = cause
        said = (str(first).strip() or type(first).__name__).splitlines()[0]
        raise TrackingError(f"MLflow at {uri} was not told: {said[:300]}") from error


def _experiment(client: "MlflowClient", name: str) -> str:
    """Return the id of an experiment, which is made if there is none."""
    found = client.get_experiment_by_name(name)
    return found.experiment_id if found else client.create_experiment(name)


def _known(client: "MlflowClient", experiment: str, project: str) -> "dict[tuple[str, str], Run]":
    """Return the runs that are there of this ledger's rounds, by round and checkpoint."""
    from mlflow.entities import ViewType

    found: dict[tuple[str, str], Run] = {}
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`{PROJECT}` = '{project}'", ViewType.ALL, max_results=AT_ONCE, page_token=token
        )
        found |= {(run.data.tags.get(ROUND, ""), run.data.tags.get(CHECKPOINT, "")): run for run in page}
        token = page.token
        if not token:
            return found


def _begin(client: "MlflowClient", experiment: str, deployment: Deployment, record: Mapping[str, Any]) -> "Run":
    """Make the run of a round, with the tags that it is found by."""
    tags = {PROJECT: project_of(deployment), ROUND: record["round"], CHECKPOINT: record["checkpoint"]}
    return client.create_run(experiment, start_time=record["time"], tags=tags, run_name=record["round"])


def _send(client: "MlflowClient", run_id: str, record: Mapping[str, Any]) -> None:
    """Send what a run holds; what is there already is the same again."""
    from mlflow.entities import Metric, Param

    points = [Metric(name, value, record["time"], 0) for name, value in record["metrics"].items()]
    # What has steps is drawn: at each the number of labels.
    points += [
        Metric(f"curve.{name}", value, record["time"], int(row["n_labels"]))
        for row in record["curve"]
        for name, value in row.items()
        if name != "n_labels"
    ]
    client.log_batch(run_id, params=[Param(name, str(value)[:LONGEST]) for name, value in record["params"].items()])
    for first in range(0, len(points), AT_ONCE):
        client.log_batch(run_id, metrics=points[first : first + AT_ONCE])
    client.log_dict(run_id, record["evaluation"], "evaluation.json")

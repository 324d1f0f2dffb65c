"""Each round is a run of MLflow, once and whole, whatever becomes of the server; the loop itself never waits for it."""

import errno
import json
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from al_pipeline.core.rounds import round_key
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.tracking import MANNERS, Sent, TrackingError, register, send, untold, write_down
from al_pipeline.settings import load_settings
from al_pipeline_tests.loop.mlflow_server import MemoryMLflow, real_server, served
from al_pipeline_tests.loop.rounds_told import store_round

pytest.importorskip("mlflow", reason="MLflow's client is not installed (the extra `mlflow`)")

REAL = pytest.mark.skipif(
    not os.environ.get("AL_REQUIRE_MLFLOW"), reason="MLflow's own server takes minutes: set AL_REQUIRE_MLFLOW=1"
)
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SECRETS = {
    "label_studio_token": "token-5d1c",
    "alert_url": "https://example.com/9f3a",
    "webhook_secret": "hook-77ab",
    "ml_backend_password": "backend-83b2",
}


@pytest.fixture(autouse=True)
def manners(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `tracking` sets for its process ends with the test."""
    for name, value in MANNERS.items():
        monkeypatch.setenv(name, value)
    if os.environ.get("AL_REQUIRE_MLFLOW"):
        # On a busy machine the real one takes its time.
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")


@pytest.fixture(scope="module", params=["in memory", pytest.param("real", marks=REAL)])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that has other experiments."""
    with ExitStack() as stack:
        if request.param == "real":
            yield stack.enter_context(real_server(tmp_path_factory.mktemp("mlflow")))
        else:
            yield stack.enter_context(served(MemoryMLflow()))


def deployment_at(folder: Path, uri: str, **settings: Any) -> Deployment:
    """Return a deployment whose rounds are told to a server, in an experiment of their own."""
    tracking = {"uri": uri, "experiment": f"grüne Runden {uuid4()}", "model": f"wood {uuid4().hex}"}
    return Deployment(load_settings(home=folder / "home", tracking=tracking, **settings))


def tell(deployment: Deployment, number: int, **changed: Any) -> Sent:
    """Store a round as its run does, write it down, and send."""
    store_round(deployment, number, **changed)
    settings = deployment.settings
    groups = {"round": settings.round, "training": settings.training, "policy": settings.policy}
    write_down(deployment, round_key(number), groups, NOW)
    return send(deployment)


def runs(deployment: Deployment) -> list[Any]:
    """Return what MLflow has of a deployment, oldest round first."""
    import mlflow

    client = mlflow.MlflowClient(deployment.settings.tracking.uri)
    experiment = client.get_experiment_by_name(deployment.settings.tracking.experiment)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.`al.project` = ''")
    return sorted(found, key=lambda run: run.data.tags["al.round"])


def test_a_round_has_its_settings_its_metrics_with_intervals_and_the_curve(tmp_path: Path, address: str) -> None:
    deployment = deployment_at(tmp_path, address, round={"batch_size": 12})
    for number in range(3):
        assert tell(deployment, number) == Sent((round_key(number),))
    first, _, last = runs(deployment)
    assert [run.info.run_name for run in (first, last)] == ["r0000", "r0002"]
    assert {first.info.status, last.info.status} == {"FINISHED"}
    assert last.data.params["round.batch_size"] == "12"
    assert last.data.params["training.mode"] == deployment.settings.training.mode
    document = json.loads((deployment.artifacts.evaluations / "r0002.json").read_text())
    accuracy = document["evaluation"]["accuracy"]
    assert last.data.metrics["accuracy"] == pytest.approx(accuracy["value"])
    assert last.data.metrics["accuracy_low"] == pytest.approx(accuracy["low"])
    assert last.data.metrics["accuracy_high"] == pytest.approx(accuracy["high"])
    assert (last.data.metrics["labels"], last.data.metrics["holdout_samples"]) == (24, 40)
    # Round 0 has no model before it to agree with.
    assert "agreement" not in first.data.metrics
    assert last.data.metrics["curve.roc_auc"] == pytest.approx(document["evaluation"]["roc_auc"]["value"])


def test_what_is_there_is_not_sent_again_and_a_round_trained_again_is_another_run(tmp_path: Path, address: str) -> None:
    deployment = deployment_at(tmp_path, address)
    assert tell(deployment, 0) == Sent(("r0000",))
    assert send(deployment) == Sent()
    assert tell(deployment, 0) == Sent()
    assert tell(deployment, 0, checkpoint="f" * 16) == Sent(("r0000",))
    assert len(runs(deployment)) == 2


def test_an_exported_model_becomes_a_version_once(tmp_path: Path, address: str) -> None:
    deployment = deployment_at(tmp_path, address)
    model = small_onnx(tmp_path / "model.onnx")
    document = store_round(deployment, 1)
    assert register(deployment, "r0001", document["checkpoint"], model) == ("1", True)
    assert register(deployment, "r0001", document["checkpoint"], model) == ("1", False)
    import mlflow

    client = mlflow.MlflowClient(address)
    [version] = client.search_model_versions(f"name = '{deployment.settings.tracking.model}'")
    [run] = runs(deployment)
    assert (version.run_id, version.tags["al.checkpoint"]) == (run.info.run_id, document["checkpoint"])
    assert str(version.source).endswith(f"{run.info.run_id}/artifacts/model")


def small_onnx(path: Path) -> Path:
    """Write a network of one step."""
    onnx = pytest.importorskip("onnx", reason="ONNX is not installed (the extra `export`)")
    kind = onnx.TensorProto.FLOAT
    ends = [onnx.helper.make_tensor_value_info(name, kind, [None, 2]) for name in ("pixels", "probabilities")]
    step = onnx.helper.make_node("Softmax", ["pixels"], ["probabilities"])
    graph = onnx.helper.make_graph([step], "small", ends[:1], ends[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_rounds_of_a_server_that_is_down_come_with_the_next(tmp_path: Path) -> None:
    state = MemoryMLflow()
    with served(state) as uri:
        deployment = deployment_at(tmp_path, uri)
    began = time.monotonic()
    for number in range(2):
        outcome = tell(deployment, number)
        assert outcome.rounds == ()
        assert outcome.problem is not None
        assert outcome.problem == f"MLflow at {uri} was not told: [Errno {errno.ECONNREFUSED}] Connection refused"
    with pytest.raises(TrackingError, match="Connection refused"):
        untold(deployment)
    # Refused at once; what is sent again and again is not.
    assert time.monotonic() - began < 20
    with served(state, int(uri.rpartition(":")[2])):
        assert untold(deployment) == ["r0000", "r0001"]
        assert state.runs == {}
        assert tell(deployment, 2) == Sent(("r0000", "r0001", "r0002"))
        assert untold(deployment) == []
    assert [run["info"]["status"] for run in state.runs.values()] == ["FINISHED"] * 3


def test_a_server_that_never_answers_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        deployment = deployment_at(tmp_path, f"http://127.0.0.1:{deaf.getsockname()[1]}")
        store_round(deployment, 0)
        write_down(deployment, "r0000", None, NOW)
        send(deployment)
        # The first time the client is imported.
        began = time.monotonic()
        outcome = send(deployment)
        taken = time.monotonic() - began
    assert outcome.problem is not None
    assert outcome.problem.endswith("was not told: timed out")
    assert 0.9 < taken < 10


@pytest.mark.parametrize("done", [False, True], ids=["not done", "done all the same"])
def test_whichever_request_has_no_answer_nothing_is_there_twice_or_missing(tmp_path: Path, done: bool) -> None:
    whole = MemoryMLflow()
    with served(whole) as uri:
        deployment = deployment_at(tmp_path, uri)
        for number in range(2):
            store_round(deployment, number)
            write_down(deployment, round_key(number), None, NOW)
        assert send(deployment) == Sent(("r0000", "r0001"))
    for cut in range(whole.requests):
        state = MemoryMLflow(cut={cut: done})
        with served(state) as uri:
            # Sending leaves nothing in the home.
            deployment = deployment_at(tmp_path, uri)
            assert send(deployment).problem is not None
            assert send(deployment).problem is None
        assert held(state) == held(whole), f"request {cut}"


def held(state: MemoryMLflow) -> Counter[str]:
    """Return what a server has of each round, without the numbers that it gives."""
    found: Counter[str] = Counter()
    for run in state.runs.values():
        files = {
            name.rpartition("/artifacts/")[2] for name in state.files if f"/{run['info']['run_id']}/" in f"/{name}"
        }
        data = {name: sorted(map(str, values)) for name, values in run["data"].items()}
        found[f"{run['info']['run_name']} {run['info']['status']} {data} {sorted(files)}"] += 1
    return found


def test_no_secret_is_sent(tmp_path: Path) -> None:
    state = MemoryMLflow()
    with served(state) as uri:
        assert tell(deployment_at(tmp_path, uri, **SECRETS), 0) == Sent(("r0000",))
    sent = b"\n".join(state.received).decode()
    assert "round.batch_size" in sent
    assert not [secret for secret in SECRETS.values() if secret in sent]


def test_a_login_in_the_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="MLFLOW_TRACKING_USERNAME"):
        load_settings(home=tmp_path, tracking={"uri": "https://me:secret@mlflow.example.com"})


def test_a_model_is_registered_of_no_round_that_mlflow_does_not_have(tmp_path: Path) -> None:
    with served(MemoryMLflow()) as uri:
        deployment = deployment_at(tmp_path, uri)
        with pytest.raises(TrackingError, match="MLflow has no run of round r0003"):
            register(deployment, "r0003", "abc", tmp_path / "none.onnx")

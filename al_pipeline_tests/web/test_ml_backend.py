"""The ML backend: what Label Studio's requests are answered with, and of what nothing is ever guessed."""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from al_pipeline.core.data.identity import SAMPLE_ID
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.core.learning.predict import predict
from al_pipeline.labelstudio.config import Interface, label_config
from al_pipeline.labelstudio.images import published
from al_pipeline.ledger import Ledger
from al_pipeline.loop.deployment import Artifacts
from al_pipeline.web.guesses import Guesses
from al_pipeline.web.ml_backend import backend
from al_pipeline.web.serve import serving
from al_pipeline_tests.ledger.builders import moment, plan_rows
from al_pipeline_tests.web.checkpoints import (
    HOLDOUT,
    QUERY,
    SPLIT,
    UNASKED,
    checkpoint,
    open_ledger,
    publish_images,
    save,
)

NAMES = ("grüner Wald", "dark horse", "寿司")
PASSWORD = "swordfish"


@dataclass
class Home:
    """A home, and a client of the backend that serves it."""

    path: Path
    images: Path
    ledger: Ledger
    client: httpx.Client

    def ask(self, samples: list[Any], **document: Any) -> dict[str, Any]:
        """Ask as Label Studio does."""
        tasks = [
            {"id": number, "project": 1, "data": {"image": "/etc/passwd", "sample_id": name, "round": "r0001"}}
            for number, name in enumerate(samples)
        ]
        answer = self.client.post("/predict", json={"tasks": tasks, "project": "1.1", "params": {}} | document)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["results"]) == len(samples)
        return answer.json()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home of which no test changes anything but the checkpoints."""
    path = tmp_path_factory.mktemp("home")
    images, ledger = publish_images(path), open_ledger(path)
    guesses = Guesses(Artifacts(path / "artifacts"), images, ledger)
    with ExitStack() as stack:
        port = stack.enter_context(serving(backend(guesses, None), "127.0.0.1", 0))
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60))
        yield Home(path, images, ledger, client)
    ledger.close()


@pytest.fixture
def version(home: Home) -> Iterator[str]:
    """The version of the only checkpoint, of round 7."""
    yield save(checkpoint(7, NAMES), home.path)
    for path in (home.path / "artifacts" / "checkpoint").iterdir():
        path.unlink()


def test_every_task_gets_the_class_the_score_and_the_version_in_its_order(home: Home, version: str) -> None:
    asked = [QUERY[2], QUERY[0], QUERY[3], QUERY[0]]
    answer = home.ask(asked, label_config=label_config(Interface(NAMES)))
    expected = predict(checkpoint(7, NAMES), [home.images / f"{name}.png" for name in asked])
    assert answer["model_version"] == version
    for result, row in zip(answer["results"], expected, strict=True):
        [region] = result["result"]
        assert region == {
            "from_name": "guess",
            "to_name": "image",
            "type": "textarea",
            "value": {"text": [NAMES[row.argmax()]]},
        }
        assert result["score"] == pytest.approx(row.max(), abs=1e-6)
        assert result["model_version"] == version
    assert len({result["score"] for result in answer["results"]}) == 3


def test_the_holdout_never_gets_a_guess(home: Home, version: str) -> None:
    results = home.ask([*HOLDOUT, QUERY[0], *SPLIT])["results"]
    assert [bool(result) for result in results] == [False, False, True, False]
    assert results[0] == []


def test_a_sample_that_was_ever_planned_for_the_holdout_stays_blind(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    ledger.withdraw("r0000", HOLDOUT, datetime.now(UTC))
    ledger.plan("r0002", plan_rows(4))
    ledger.withdraw("r0001", QUERY[:1], moment(1))
    assert ledger.guessable([*QUERY, *HOLDOUT, *SPLIT, *UNASKED]) == set(QUERY)
    assert ledger.guessable([]) == set()
    ledger.close()


def test_what_is_unknown_gets_no_guess(home: Home, version: str) -> None:
    hidden = home.images / f"{'a' * 32}.png"
    hidden.write_bytes((home.images / f"{QUERY[0]}.png").read_bytes())
    try:
        odd = ["a" * 32, UNASKED[0], "f" * 32, "", None, 7, ["x"], {"x": 1}, QUERY[0].upper() + "A", f"{QUERY[0]}\n"]
        assert home.ask(odd)["results"] == [[]] * len(odd)
    finally:
        hidden.unlink()


@pytest.mark.parametrize(
    "path",
    [
        "../outside",
        "../../ledger.sqlite3",
        "/etc/passwd",
        "..",
        "%2e%2e/outside",
        "..\\outside",
        "0" * 31 + "/",
        "\0" * 32,
        "*" * 32,
        "０" * 32,
    ],
)
def test_a_path_is_no_sample(home: Home, version: str, path: str) -> None:
    (home.path / "published" / "outside.png").write_bytes((home.images / f"{QUERY[0]}.png").read_bytes())
    assert home.ask([path])["results"] == [[]]


@given(st.text(st.sampled_from("0123456789abcdefg/.\\\n\0A"), min_size=30, max_size=34))
def test_only_file_names_pass_for_sample_ids(text: str) -> None:
    if SAMPLE_ID.fullmatch(text):
        assert Path(text).name == text
        assert len(text) == 32
        int(text, 16)


def test_a_newer_checkpoint_is_served_once_it_appears_and_one_trained_anew_too(home: Home, version: str) -> None:
    first = home.ask(QUERY)
    newer = save(checkpoint(8, NAMES), home.path)
    assert home.client.post("/setup", json={"project": "1.1"}).json() == {"model_version": newer}
    second = home.ask(QUERY)
    anew = save(checkpoint(8, NAMES, seed=99), home.path)
    third = home.ask(QUERY)
    assert [each["model_version"] for each in (first, second, third)] == [version, newer, anew]
    assert {result["model_version"] for result in third["results"]} == {anew}
    scores = [[result["score"] for result in each["results"]] for each in (first, second, third)]
    assert not np.allclose(scores[0], scores[1])
    assert not np.allclose(scores[1], scores[2])


def test_an_untrained_checkpoint_guesses_nothing(home: Home) -> None:
    untrained = save(checkpoint(0, NAMES, trained=False), home.path)
    assert home.ask(QUERY) == {"results": [[]] * 4, "model_version": untrained}
    (home.path / "artifacts" / "checkpoint" / "r0000.safetensors").unlink()


def test_before_the_first_checkpoint_it_is_there_and_says_so(home: Home) -> None:
    assert home.client.get("/health").json() == {"status": "UP"}
    assert home.client.post("/setup", json={}).json() == {"model_version": "no checkpoint yet"}
    assert home.ask(QUERY[:2]) == {"results": [[], []], "model_version": "no checkpoint yet"}


def test_no_tasks_get_no_results(home: Home, version: str) -> None:
    assert home.ask([]) == {"results": [], "model_version": version}


def test_a_class_that_the_project_has_no_more_is_not_guessed(home: Home, version: str) -> None:
    everything = home.ask(QUERY)["results"]
    guessed = {result["result"][0]["value"]["text"][0] for result in everything}
    left = [name for name in NAMES if name not in guessed] + ["a new one"]
    assert home.ask(QUERY, label_config=label_config(Interface(left)))["results"] == [[]] * 4
    assert home.ask(QUERY, label_config=label_config(Interface(NAMES)))["results"] == everything


def test_an_interface_without_a_place_for_guesses_gets_none_and_the_log_tells_why(
    home: Home, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    choices = "".join(f"<Choice value='{name}'/>" for name in NAMES)
    old = f"<View><Image name='image' value='$image'/><Choices name='label' toName='image'>{choices}</Choices></View>"
    assert home.ask(QUERY, label_config=old)["results"] == [[]] * 4
    assert "launch the job `setup`" in caplog.text


def test_an_image_that_was_damaged_since_costs_only_its_own_guess(home: Home, version: str) -> None:
    whole = home.ask(QUERY)["results"]
    image = home.images / f"{QUERY[1]}.png"
    content = image.read_bytes()
    try:
        image.write_bytes(content[:60])
        results = home.ask(QUERY)["results"]
    finally:
        image.write_bytes(content)
    assert results[1] == []
    for i in (0, 2, 3):
        assert results[i]["score"] == pytest.approx(whole[i]["score"], abs=1e-6)


def test_a_damaged_checkpoint_is_an_error_that_names_it(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    path = home.path / "artifacts" / "checkpoint" / "r0009.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"no checkpoint")
    try:
        with caplog.at_level(logging.ERROR, logger="al_pipeline"):
            for url, document in (("/setup", {}), ("/predict", {"tasks": []})):
                answer = home.client.post(url, json=document)
                assert answer.status_code == 503
                assert "r0009.safetensors is damaged" in answer.json()["error"]
        assert len(caplog.records) == 2
    finally:
        path.unlink()


def test_concurrent_requests_get_the_same_answers(home: Home, version: str) -> None:
    alone = home.ask(QUERY)
    with ThreadPoolExecutor(6) as pool:
        assert all(each == alone for each in pool.map(lambda _: home.ask(QUERY), range(12)))


def test_an_image_that_is_not_in_the_folder_is_looked_for_elsewhere(home: Home, version: str) -> None:
    def find(sample: str) -> Path | None:
        name = published(sample, home.images)
        return None if name is None else home.images / name

    here, away = Artifacts(home.path / "artifacts"), home.path / "no folder"
    expected = Guesses(here, home.images, home.ledger).guess(QUERY)
    assert None not in expected[0]
    assert Guesses(here, away, home.ledger, find).guess(QUERY) == expected
    assert Guesses(here, away, home.ledger).guess(QUERY) == ([None] * len(QUERY), version)


def test_setup_and_health_do_not_wait_for_a_prediction(home: Home, version: str) -> None:
    guesses = Guesses(Artifacts(home.path / "artifacts"), home.images, home.ledger)
    with guesses._lock, serving(backend(guesses, None), "127.0.0.1", 0) as port:
        url = f"http://127.0.0.1:{port}"
        waiting = threading.Thread(
            target=lambda: httpx.post(f"{url}/predict", json={"tasks": [{"id": 1, "data": {}}]}, timeout=300)
        )
        waiting.start()
        # The prediction waits until the lock is released below: any answer before that did not wait for it.
        assert httpx.post(f"{url}/setup", json={}, timeout=60).json() == {"model_version": version}
        assert httpx.get(f"{url}/health", timeout=60).status_code == 200
        guesses._lock.release()
        waiting.join()
        guesses._lock.acquire()


@pytest.mark.parametrize(
    "body", [b"", b"no json", b"[]", b"{}", b'{"tasks": 1}', b'{"tasks": [1]}', b'{"tasks": [{"id": 1}]}', b"[" * 9999]
)
def test_a_request_that_makes_no_sense_is_refused(home: Home, body: bytes) -> None:
    assert home.client.post("/predict", content=body).status_code == 400


def test_what_else_label_studio_asks(home: Home, version: str) -> None:
    assert home.client.get("/versions").json() == {"versions": [version]}
    assert home.client.post("/webhook", json={"action": "START_TRAINING"}).json() == {"status": "IGNORED"}
    assert home.client.get("/predict").status_code == 405
    assert home.client.post("/train").status_code == 404


def test_a_password_is_asked_for_by_everything_but_the_webhook_that_does_nothing(home: Home, version: str) -> None:
    guesses = Guesses(Artifacts(home.path / "artifacts"), home.images, home.ledger)
    requests = [("GET", "/health"), ("POST", "/setup"), ("GET", "/versions"), ("POST", "/predict")]
    with (
        serving(backend(guesses, PASSWORD), "127.0.0.1", 0) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        for method, path in requests:
            document = {"tasks": []} if method == "POST" else None
            for wrong in (None, ("al_pipeline", "wrong"), ("other", PASSWORD), ("al_pipeline", "")):
                answer = client.request(method, path, json=document, auth=wrong)
                assert answer.status_code == 401
                assert answer.headers["WWW-Authenticate"] == "Basic"
                assert PASSWORD not in answer.text
            assert client.request(method, path, json=document, auth=("al_pipeline", PASSWORD)).status_code == 200
        for header in ("Basic", "Basic !!!", f"Bearer {PASSWORD}", "Basic w7w="):
            assert client.get("/health", headers={"Authorization": header}).status_code == 401
        assert client.post("/webhook", json={}).status_code == 200


def test_a_checkpoint_from_before_guesses_what_its_classes_are_called_today(tmp_path: Path) -> None:
    images, ledger = publish_images(tmp_path), open_ledger(tmp_path)
    made = checkpoint(7, NAMES)
    save(made, tmp_path)
    guesses = Guesses(Artifacts(tmp_path / "artifacts"), images, ledger)
    classes = ClassSet(NAMES)
    ledger.change_classes("declare", {"declared": list(NAMES)}, classes)
    before, _ = guesses.guess(QUERY)
    probabilities = predict(made, [images / f"{name}.png" for name in QUERY])
    assert [guess and guess.name for guess in before] == [NAMES[row.argmax()] for row in probabilities]
    ledger.change_classes("merge", {"olds": list(NAMES[:2]), "into": "both"}, classes.merge(NAMES[:2], "both"))
    sums = np.column_stack([probabilities[:, 0] + probabilities[:, 1], probabilities[:, 2]])
    found = [(guess.name, guess.probability) for guess in guesses.guess(QUERY)[0] if guess is not None]
    assert found == [(("both", NAMES[2])[row.argmax()], pytest.approx(row.max())) for row in sums]
    gone = next(guess.name for guess in before if guess is not None)
    ledger.change_classes("remove", {"name": gone}, replace(classes.remove(gone), version=2))
    after, _ = guesses.guess(QUERY)
    assert [guess is None for guess in after] == [guess is not None and guess.name == gone for guess in before]

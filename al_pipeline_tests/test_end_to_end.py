"""The whole loop on real servers: `al demo` in a process of its own, then a person's view of it in a browser."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil
import pytest

from al_pipeline.core.files import private_folder
from al_pipeline.labelstudio.annotator import SimulatedAnnotator
from al_pipeline.servers.dagster_api import DagsterApi, DagsterError
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.servers.observer import open_loop, truth
from al_pipeline.settings import load_settings
from al_pipeline_tests.browser import open_browser, press_until
from al_pipeline_tests.labelstudio.databases import FreshDatabase

ROUNDS = 3
# Fewer than the demo trains: what is shown here is the loop.
EPOCHS = 10
DEMO_TIMEOUT = 720
pytestmark = [pytest.mark.e2e, pytest.mark.labelstudio]


@dataclass
class Demo:
    """A demo that has finished its rounds and keeps its servers running."""

    home: Path
    environment: dict[str, str]
    process: subprocess.Popen[str] = field(init=False)
    output: str = ""

    def start(self, rounds: int) -> None:
        """Run the demo until it says that it keeps running."""
        log = self.home.with_suffix(".log")
        command = [sys.executable, "-m", "al_pipeline.cli", "demo", "--home", str(self.home), "--keep"]
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [*command, "--rounds", str(rounds)],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.home.parent,
                text=True,
            )
        deadline = time.monotonic() + DEMO_TIMEOUT
        while "Ctrl-C ends everything" not in (output := log.read_text()):
            assert self.process.poll() is None, f"the demo ended with {self.process.returncode}:\n{output}"
            assert time.monotonic() < deadline, f"the demo took longer than {DEMO_TIMEOUT} s:\n{output}"
            time.sleep(1)
        self.output = output

    def al(self, *arguments: str) -> str:
        """Run another command on the same home and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "al_pipeline.cli", *arguments],
            env=self.environment | {"AL_HOME": str(self.home), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
            cwd=self.home.parent,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def dagster_url(self) -> str:
        """The address of Dagster's UI."""
        return json.loads((self.home / "servers.json").read_text())["dagster_url"]

    def training(self, key: str) -> bool:
        """Say whether a run is training the checkpoint of a round."""
        query = """query($key: String!) { runsOrError(filter: {tags: [{key: "dagster/partition", value: $key}]}) {
          ... on Runs { results { status stepStats { stepKey status } } } } }"""
        try:
            runs = DagsterApi(self.dagster_url).query(query, key=key)["runsOrError"]["results"]
        except DagsterError:
            return False
        return any(
            step["stepKey"] == "checkpoint" and step["status"] == "IN_PROGRESS"
            for run in runs
            for step in run["stepStats"]
        )


@pytest.fixture(scope="module")
def demo(
    server: LocalLabelStudio, fresh_database: FreshDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Demo]:
    """Run the demo; a first start of Label Studio has been seen before."""
    home = tmp_path_factory.mktemp("demo") / "home"
    private_folder(home)
    fresh_database.copy(home / "labelstudio")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AL_", "DAGSTER_"))}
    environment |= {"COLUMNS": "200", "PYTHONUNBUFFERED": "1", "AL_TRAINING__EPOCHS": str(EPOCHS)}
    demo = Demo(home, environment)
    try:
        demo.start(ROUNDS)
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.process.send_signal(signal.SIGTERM)
            demo.process.wait(timeout=60)


def test_the_demo_runs_its_rounds_and_the_accuracy_rises(demo: Demo) -> None:
    rows = re.findall(r"(r\d{4}) │ +(\d+) │ +([\d.]+) \(([\d.]+)–([\d.]+)\) │ +([\d.]+) \(", demo.output)
    assert [row[0] for row in rows] == ["r0000", "r0001", "r0002"]
    assert [int(row[1]) for row in rows] == [0, 40, 80]
    accuracies = [float(row[2]) for row in rows]
    assert accuracies[-1] > accuracies[1] > accuracies[0]
    assert all(float(low) <= float(value) <= float(high) for _, _, value, low, high, _ in rows)
    assert (demo.home / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_what_looks_for_rounds_has_not_imported_what_they_compute_with(demo: Demo) -> None:
    below = psutil.Process(demo.process.pid).children(recursive=True)
    [serving] = [each for each in below if "al_pipeline.definitions" in " ".join(each.cmdline())]
    libraries = {Path(each.path).name for each in serving.memory_maps()}
    assert any(name.startswith("cygrpc") for name in libraries)
    assert not [name for name in libraries if re.match("libtorch|libtriton|.*sklearn", name)]


def test_the_terminal_tells_each_round_in_lines_that_can_be_searched(demo: Demo) -> None:
    told = [line for line in demo.output.splitlines() if re.match(r"(r\d{4}|loop) [a-z ]+: ", line)]
    heads = [line.partition(":")[0] for line in told]
    # The last round is measured once its batch has been handed over, when the demo has said so already.
    [measured] = [line for line in told if line.startswith("r0001 measured: ")]
    assert re.search(
        r"^r0001 measured: 40 labels to learn from, 500 images to test on; accuracy 0\.\d{3} \(.*\), \+0\.\d{3} "
        r"\(.*\): better; ROC-AUC 0\.\d{3} \(.*\), \+0\.\d{3} \(.*\): better",
        measured,
    )
    assert [heads.count(f"r0001 {what}") for what in ("asked", "answered", "begun", "labels saved", "advice")] == [
        1
    ] * 5
    assert not [head for head in heads if head.startswith("loop") or "failed" in head]
    credentials = json.loads((demo.home / "labelstudio" / "credentials.json").read_text())
    assert credentials["token"] not in demo.output
    # Off a terminal nothing is drawn again, and nothing coloured.
    assert "\x1b" not in demo.output
    assert "\r" not in demo.output


def test_rounds_after_the_first_were_opened_by_the_sensor(demo: Demo) -> None:
    code = """
import json, sys, dagster as dg
with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    runs = instance.get_runs(dg.RunsFilter(job_name="round"))
    print(json.dumps([[r.tags["dagster/partition"], r.tags.get("dagster/sensor_name"), r.status.value] for r in runs]))
"""
    out = subprocess.run(
        [sys.executable, "-c", code, str(demo.home / "dagster")], capture_output=True, text=True, check=True
    )
    assert sorted(json.loads(out.stdout)) == [
        ["r0000", None, "SUCCESS"],
        ["r0001", "annotations_landed", "SUCCESS"],
        ["r0002", "annotations_landed", "SUCCESS"],
    ]


def test_runs_are_forked_from_a_process_that_has_imported_torch(demo: Demo) -> None:
    code = """
import sys, dagster as dg
with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    records = instance.fetch_materializations(dg.AssetKey("checkpoint"), limit=100).records
    for record in records:
        print(record.asset_materialization.metadata["import_seconds"].value)
"""
    out = subprocess.run(
        [sys.executable, "-c", code, str(demo.home / "dagster")], capture_output=True, text=True, check=True
    )
    # What is imported already takes none; torch takes seconds, and never less than a half.
    assert [float(line) < 0.2 for line in out.stdout.split()] == [True] * ROUNDS


def test_no_task_is_doubled_and_every_label_is_traced(demo: Demo) -> None:
    demo.al("export", str(demo.home / "labels.csv"))
    labels = pd.read_csv(demo.home / "labels.csv")
    assert len(labels) == labels["sample_id"].nunique() == labels["task_id"].nunique() == 80
    assert labels[["annotation_id", "annotator", "updated_at", "round"]].notna().all().all()
    truth = labels["uri"].map(lambda uri: Path(uri).parent.name).astype(int)
    assert (labels["label"] == truth).all()
    assert not labels["uri"].str.contains("/holdout/").any()


def test_status_says_what_the_loop_waits_for(demo: Demo) -> None:
    said = demo.al("status")
    assert "r0002: 0 of 40 answered, 40 to go" in said


def test_who_watches_from_a_second_terminal_is_told_the_same_until_ctrl_c(demo: Demo) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "al_pipeline.cli", "status", "--watch", "--home", str(demo.home)],
        env=demo.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        assert "r0002 asked: 40 to label: all to learn from\n" in iter(watching.stdout.readline, "")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=60) == 0


def test_no_secret_is_in_a_log_or_an_event(demo: Demo) -> None:
    credentials = json.loads((demo.home / "labelstudio" / "credentials.json").read_text())
    secrets = [credentials["token"].encode(), credentials["password"].encode()]
    assert (demo.home / "labelstudio" / "credentials.json").stat().st_mode & 0o077 == 0
    # Label Studio shows it to the receiver with each answer.
    secrets.append((demo.home / "webhook_secret").read_bytes().strip())
    assert (demo.home / "webhook_secret").stat().st_mode & 0o077 == 0
    places = [demo.home / "logs", demo.home / "dagster", demo.home / "artifacts", demo.home / "ledger.sqlite3"]
    for place in places:
        for file in [place] if place.is_file() else (p for p in place.rglob("*") if p.is_file()):
            content = file.read_bytes()
            assert not any(secret in content for secret in secrets), file


@pytest.mark.browser
def test_dagsters_asset_graph_shows_the_loop(demo: Demo, tmp_path: Path) -> None:
    with open_browser() as page:
        groups = ",".join(f"global@global:{group}" for group in ("data", "labeling", "model", "query"))
        page.goto(f"{demo.dagster_url}/asset-groups?expanded={groups}")
        for asset in (
            "image_pool",
            "labeled_pool",
            "checkpoint",
            "uncertainty_scores",
            "query_batch",
            "labeling_tasks",
        ):
            page.get_by_text(asset).first.wait_for(state="attached")
        page.screenshot(path=tmp_path / "assets.png")
    assert (tmp_path / "assets.png").stat().st_size > 20_000


@pytest.mark.browser
def test_who_follows_the_address_sees_the_image_labels_it_with_a_hotkey_and_submits(demo: Demo, tmp_path: Path) -> None:
    door = re.search(r"Label here +(http://\S+) ", demo.output)
    assert door is not None
    with open_browser() as page:
        with page.expect_response(lambda response: "local-files" in response.url) as image:
            page.goto(door[1])
        # The name is the content's hash: neither a class folder nor a file name gives the answer away.
        assert re.search(r"local-files/\?d=images(/|%2F)[0-9a-f]{32}\.png$", image.value.url)
        page.wait_for_function("[...document.images].some(i => i.naturalWidth === 64 && i.clientWidth > 100)")
        chosen = "document.querySelectorAll('input[type=radio]:checked').length === 1"
        press_until(page, "7", lambda: page.evaluate(chosen), settled=250)
        posted: list[int] = []
        page.on(
            "response",
            lambda r: posted.append(r.status) if "/annotations" in r.url and r.request.method == "POST" else None,
        )
        press_until(page, "Control+Enter", lambda: bool(posted))
        assert posted == [201]
        page.screenshot(path=tmp_path / "task.png")
    assert "r0002: 1 of 40 answered, 39 to go" in demo.al("status")


def test_a_demo_killed_in_the_middle_of_a_round_goes_on_where_it_was(demo: Demo) -> None:
    answer_all(demo, f"r{ROUNDS - 1:04d}")
    deadline = time.monotonic() + DEMO_TIMEOUT
    while not demo.training(f"r{ROUNDS:04d}"):
        assert demo.process.poll() is None, (
            f"the demo ended with {demo.process.returncode} before the round was trained"
        )
        assert time.monotonic() < deadline
        time.sleep(0.2)
    kill_family(demo.process)

    demo.environment["AL_TRAINING__EPOCHS"] = "4"
    demo.start(ROUNDS + 1)
    assert "setup" not in demo.output
    rows = re.findall(r"(r\d{4}) │ +(\d+) │", demo.output)
    assert rows == [(f"r{i:04d}", str(40 * i)) for i in range(ROUNDS + 1)]
    demo.al("export", str(demo.home / "after.csv"))
    labels = pd.read_csv(demo.home / "after.csv")
    assert len(labels) == labels["sample_id"].nunique() == labels["task_id"].nunique() == 40 * ROUNDS


def test_ctrl_c_ends_everything_and_leaves_no_orphan(demo: Demo) -> None:
    family = psutil.Process(demo.process.pid).children(recursive=True)
    assert len(family) >= 4
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(timeout=60) == 0
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    databases = [file for file in demo.home.rglob("*") if file.suffix in {".sqlite3", ".db"}]
    assert {"ledger.sqlite3", "label_studio.sqlite3"} <= {file.name for file in databases}
    for file in databases:
        with closing(sqlite3.connect(file)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)], file


def answer_all(demo: Demo, key: str) -> None:
    """Have the simulated annotator answer what is left of a round."""
    with open_loop(load_settings(home=demo.home, label_studio_timeout=60)) as loop:
        classes = loop.classes()
        project = loop.deployment.project_id()
        robot = SimulatedAnnotator(
            loop.deployment.label_studio, project, truth(loop.image_pool(), classes), classes.names, overlap=1
        )
        robot.answer_open_tasks(round_key=key)


def kill_family(process: subprocess.Popen[str]) -> None:
    """Kill a process and all that it has started, as a power cut would: nobody gets to say anything."""
    try:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        member.suspend()
    for member in family:
        member.kill()
    process.wait(timeout=10)

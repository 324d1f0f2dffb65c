"""Last answer → next batch in Label Studio, in parts: `al up` on real servers, a robot that answers through the API.

`python -m benchmarks.next_batch FOLDER [ROUNDS] [COUNT]`: FOLDER holds the photos' archive and the weights; heads on
features of 64 px, batches of 20, five rounds are measured. COUNT makes a pool of that many pictures of 72 px, each of a
photo with some noise of its own. The robot answers once the run of the round before has ended, as people do
who need minutes. Beside the seconds are those of all cores, from the last answer to the batch.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import numpy as np
import psutil
from PIL import Image

from al_pipeline.core.data.images import open_rgb
from al_pipeline.core.rounds import round_key
from al_pipeline.labelstudio.annotator import SimulatedAnnotator
from al_pipeline.servers.observer import Loop, open_loop, truth
from al_pipeline.servers.processes import wait_until_ended
from al_pipeline.settings import Settings, load_settings
from benchmarks.data import ARCHIVES, WEIGHTS, load
from benchmarks.rounds import report
from benchmarks.starting import READY

ROUNDS, SIZE = 5, 64
# Sides in pixels of a made picture, and of the noise in it.
PICTURE, CORNER = 72, 8
SETTINGS = {
    "AL_TRAINING__MODE": "head",
    "AL_TRAINING__IMAGE_SIZE": str(SIZE),
    "AL_ROUND__BATCH_SIZE": "20",
    "AL_HOLDOUT_SIZE": "40",
    # A batch that is chosen ahead is there before the last answer.
    "AL_POLICY__PREFETCH": "false",
}


def main() -> None:
    """Start, answer round by round, end, print."""
    folder = Path(sys.argv[1]).resolve()
    count, rounds = (int(sys.argv[3]) if len(sys.argv) > 3 else None), int((*sys.argv, ROUNDS, ROUNDS)[2])
    with tempfile.TemporaryDirectory(prefix="al-next-batch-") as name:
        place = Path(name)
        load("photos", folder, place)
        photos = place / ARCHIVES["photos"]
        if count:
            photos = _pool(photos, place / "pool", count)
        environment = SETTINGS | {"AL_TRAINING__WEIGHTS": str(folder / WEIGHTS)}
        with _up(place / "home", photos, environment) as process:
            settings = load_settings(home=place / "home", label_studio_timeout=60)
            with open_loop(settings) as loop:
                worked = _answer(loop, settings, process, rounds)
        with dg.DagsterInstance.from_config(str(place / "home" / "dagster")) as instance:
            report(instance, place / "home")
        print("Seconds of all cores from the last answer to the batch: " + ", ".join(f"{each:.1f}" for each in worked))


def _answer(loop: Loop, settings: Settings, process: psutil.Process, rounds: int) -> list[float]:
    """Answer each round's batch once its run is over; return the processors' seconds until the next was there."""
    ledger, worked = loop.deployment.ledger, []
    robot = SimulatedAnnotator(
        loop.deployment.label_studio,
        loop.deployment.project_id(),
        truth(loop.image_pool(), loop.classes()),
        loop.classes().names,
        overlap=settings.overlap,
    )
    running = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    for number in range(rounds):
        while ledger.pushed_at(round_key(number)) is None or loop.instance.get_runs(running, limit=1):
            time.sleep(0.2)
        # As if people had needed some time: nothing that the round before has left behind is still going on.
        time.sleep(3)
        before = _seconds(process)
        robot.answer_open_tasks(round_key=round_key(number))
        while ledger.pushed_at(round_key(number + 1)) is None:
            time.sleep(0.05)
        worked.append(_seconds(process) - before)
    while loop.instance.get_runs(running, limit=1):
        time.sleep(0.2)
    return worked


def _seconds(process: psutil.Process) -> float:
    """Return what all processes of `al up` have used, those that have ended too."""
    family = [process, *process.children(recursive=True)]
    return sum(sum(each.cpu_times()[:4]) for each in family if each.is_running())


def _pool(photos: Path, pool: Path, count: int) -> Path:
    """Write so many small pictures in class folders: photos with a corner of noise, so that no two are the same."""
    files, rng = sorted(photos.rglob("*.jpg")), np.random.default_rng(0)
    for at, source in enumerate(files):
        small = np.asarray(open_rgb(source).resize((PICTURE, PICTURE)))
        folder = pool / source.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(at, count, len(files)):
            picture = small.copy()
            picture[:CORNER, :CORNER] = rng.integers(0, 256, (CORNER, CORNER, 3))
            Image.fromarray(picture).save(folder / f"{number}.jpg")
    return pool


@contextmanager
def _up(home: Path, photos: Path, environment: dict[str, str]) -> Iterator[psutil.Process]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AL_", "DAGSTER_"))}
    command = [sys.executable, "-m", "al_pipeline.cli", "up", "--images", str(photos), "--home", str(home), "--no-open"]
    log = home.with_suffix(".log")
    with log.open("w") as out:
        process = psutil.Popen(
            command, stdout=out, stderr=out, env=ours | environment | {"PYTHONUNBUFFERED": "1"}, cwd=home.parent
        )
    try:
        while READY not in log.read_text():
            if process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.2)
        yield process
    finally:
        if process.is_running():
            family = [process, *process.children(recursive=True)]
            process.send_signal(signal.SIGINT)
            wait_until_ended(family, 60)


if __name__ == "__main__":
    main()

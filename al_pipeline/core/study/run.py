"""A study: a plan's seeds in parallel processes, each kept when it is done, so that what was killed goes on."""

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent import futures
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import count
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from threadpoolctl import threadpool_limits

from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.image_cache import PREPROCESSING
from al_pipeline.core.errors import ALError, InputError
from al_pipeline.core.files import whole_file
from al_pipeline.core.learning.arithmetic import chosen_arithmetic
from al_pipeline.core.learning.checkpoint import device
from al_pipeline.core.study.forecast import Forecast, Schedule
from al_pipeline.core.study.plan import Plan
from al_pipeline.core.study.simulate import Embedded, KnownSamples, embedded, known, shares_features, simulate_seed

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext
    from multiprocessing.sharedctypes import Synchronized, SynchronizedArray

# What the numbers come from, beside our own code.
LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "torchvision", "pillow")
# What our own code does with results that are there: another look of a report leaves a study as it is.
AFTERWARDS = (
    *("outlook/", "evaluation/figures.py", "study/results.py", "study/paired.py", "study/cells.py"),
    *("study/savings.py", "study/figures.py", "study/page.py", "study/report.py"),
)
KEY_DIGITS = 16
# Seconds between two looks at how far the processes are.
LOOK = 0.5


class StudyError(ALError):
    """A worker process that ended without a word."""


@dataclass(frozen=True)
class Study:
    """What a study found.

    Attributes
    ----------
    results : DataFrame
        As of `simulate.simulate`: by seed, strategy and round, in the plan's order.
    folder : Path
        Of the cells: one Parquet file per seed, and ``plan.json``.
    computed : tuple of int
        The seeds that were not there before.
    """

    results: pd.DataFrame
    folder: Path
    computed: tuple[int, ...]


@dataclass(frozen=True)
class _Cell:
    """One seed, all its strategies: they share turns."""

    samples: KnownSamples
    plan: Plan
    seed: int
    features: Path | None
    path: Path


def run_study(
    manifest: pd.DataFrame,
    class_names: Sequence[str],
    plan: Plan,
    out: Path,
    *,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
    rounds: Callable[[int], None] | None = None,
    left: Callable[[float], None] | None = None,
    how: HowRead = AS_EVER,
) -> Study:
    """Run a plan seed by seed, or read what an earlier run has left.

    Each seed is computed on one thread and kept in a folder whose name is a hash of everything that it depends on: the
    plan but for its seeds, which can be added later; samples, labels and classes; the content of the weights; our code
    and the libraries. Neither `jobs` nor the order in which seeds are done changes a bit of the result.

    Parameters
    ----------
    manifest, class_names
        As for `simulate.simulate`.
    plan : Plan
    out : Path
        Folder of studies; made if there is none. Features are kept there, too.
    jobs : int
        Processes. With 1 it is this one.
    progress : callable, optional
        Called with the number of seeds that are done and of all, at first for those that are there already.
    rounds : callable, optional
        Called now and then with the number of rounds that have been computed, of all strategies and seeds: seeds may
        take hours.
    left : callable, optional
        Called now and then with the seconds that the rest is likely to take, once a round tells (`forecast.Forecast`).
    how : HowRead
        How images are read.

    Raises
    ------
    InputError
        Samples that cannot be simulated with, `jobs` below 1, or a stored cell that cannot be read.
    StudyError
        A process was ended from outside, for example because there was no memory left.
    FileError
        A file could not be written.
    """
    if jobs < 1:
        raise InputError(f"jobs must be at least 1, not {jobs}")
    samples = known(manifest, class_names, how)
    folder = out / study_key(samples, plan)
    paths = {seed: folder / f"seed-{seed:04d}.parquet" for seed in plan.seeds}
    missing = [seed for seed in plan.seeds if not paths[seed].exists()]
    done = len(paths) - len(missing)
    if progress is not None:
        progress(done, len(paths))
    if missing:
        with whole_file(folder / "plan.json", "The study's plan") as file:
            file.write_text(json.dumps(description(samples, plan), indent=1, sort_keys=True, ensure_ascii=False))
        features = _features(samples, plan, out) if shares_features(plan) else None
        cells = [_Cell(samples, plan, seed, features, paths[seed]) for seed in missing]
        schedule = Schedule.of(plan, len(samples.pool))
        with closing(_run_all(cells, jobs, schedule, rounds or _nobody, left or _nobody)) as seeds:
            for number, _ in enumerate(seeds, start=done + 1):
                if progress is not None:
                    progress(number, len(paths))
    results = pd.concat([_read(path) for path in paths.values()], ignore_index=True)
    return Study(results, folder, tuple(missing))


def study_key(samples: KnownSamples, plan: Plan) -> str:
    """Return the hash of everything that a seed's results depend on but the seed: the name of the study's folder."""
    text = json.dumps(description(samples, plan), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


def versions() -> dict[str, str]:
    """Return the versions of the libraries that the numbers come from."""
    return {name: version(name) for name in LIBRARIES}


def description(samples: KnownSamples, plan: Plan) -> dict[str, Any]:
    """Return everything that a seed's results depend on but the seed, ready for JSON."""
    wanted = plan.model_dump(exclude={"seeds"})
    # Weights are what is in the file, wherever it lies.
    wanted["options"]["weights"] = _weights(plan.options.settled_weights)
    wanted["options"]["image_size"] = plan.options.settled_image_size
    return {
        "plan": wanted,
        "class_names": list(samples.class_names),
        "samples": _digest(samples),
        "preprocessing": PREPROCESSING,
        "how_read": samples.how.key,
        "code": _code(),
        "versions": versions(),
        "device": device().type,
        "arithmetic": chosen_arithmetic(plan.options, device()).key,
    }


def _digest(samples: KnownSamples) -> str:
    digest = hashlib.sha256()
    for frame in (samples.pool, samples.holdout):
        digest.update(f"{len(frame)}\n".encode())
        # What belongs together, not by which name.
        for row in zip(frame["sample_id"], frame["label"], pd.factorize(frame["group"])[0], strict=True):
            digest.update(f"{' '.join(map(str, row))}\n".encode())
    return digest.hexdigest()


def _weights(weights: str) -> str:
    path = Path(weights).expanduser()
    if weights in {"none", "imagenet"} or not path.is_file():
        return weights
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _code() -> str:
    """Return a hash of this package's source: results of other code are other results."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith(AFTERWARDS):
            digest.update(name.encode() + path.read_bytes())
    return digest.hexdigest()


def _features(samples: KnownSamples, plan: Plan, out: Path) -> Path:
    """Return the file with the features of pool and holdout under the given weights; computed if there is none."""
    options = plan.options
    square = (options.settled_image_size, options.settled_framing)
    way = chosen_arithmetic(options, device()).key
    seen_as = (options.architecture, _weights(options.settled_weights), *square, options.test_time_flip, way)
    ids = [*samples.pool["sample_id"], *samples.holdout["sample_id"], str(len(samples.pool))]
    description = json.dumps(
        [seen_as, plan.by_head, ids, PREPROCESSING, samples.how.key, _code(), version("torch"), device().type]
    )
    path = out / f"features-{hashlib.sha256(description.encode()).hexdigest()[:KEY_DIGITS]}.npy"
    if not path.exists():
        found = embedded(samples, plan)
        arrays = [array for array in (found.pool, found.holdout) if array is not None]
        with whole_file(path, "The features") as temporary, temporary.open("wb") as file:
            np.save(file, np.concatenate(arrays))
    return path


def _loaded(path: Path, samples: KnownSamples, plan: Plan) -> Embedded:
    # Shared by the processes: they read the same pages of memory.
    features = np.load(path, mmap_mode="r").view(np.ndarray)
    n = len(samples.pool)
    return Embedded(features[:n], features[n:] if plan.by_head else None)


def _nobody(_: float) -> None:
    pass


def _run_all(
    cells: Sequence[_Cell], jobs: int, schedule: Schedule, rounds: Callable[[int], None], left: Callable[[float], None]
) -> Generator[int]:
    """Compute cells, and yield the seed of each as soon as it is kept."""
    if jobs == 1:
        computed, forecast = count(1), Forecast(schedule, len(cells), 1)
        for done, cell in enumerate(cells):

            def finished(number: int, seconds: float, done: int = done) -> None:
                forecast.note(number, seconds)
                forecast.tell(done, left)

            yield _run(cell, lambda: rounds(next(computed)), finished)
        return
    others = set(multiprocessing.active_children())
    context = _context()
    counter, times = context.Value("q"), context.Array("d", 2 * len(schedule.work))
    forecast, kept = Forecast(schedule, len(cells), jobs, times.get_obj()), 0
    shared = _Shared(counter, times, schedule)
    start = partial(ProcessPoolExecutor, mp_context=context, initializer=_begin, initargs=(shared,))
    with start(min(jobs, len(cells))) as workers:
        running = {workers.submit(_run_in_process, cell) for cell in cells}
        try:
            while running:
                done, running = futures.wait(running, timeout=LOOK, return_when=futures.FIRST_COMPLETED)
                # Without its lock, which a process that was killed may hold for ever.
                rounds(counter.get_obj().value)
                kept += len(done)
                forecast.tell(kept, left)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise StudyError(
                "A process of the study was ended from outside, perhaps because there was no memory left. What was "
                "done is kept: run the study again, with fewer jobs"
            ) from error
        except (KeyboardInterrupt, GeneratorExit):
            # Whoever wants to stop does not wait for the rest of a seed.
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise
        finally:
            for future in running:
                future.cancel()


def _context() -> "ForkServerContext | SpawnContext":
    """Return how processes are made. None is a fork of this one: torch's threads do not survive that.

    On Linux they are forks of one that has imported everything, which takes seconds of a processor, and has no threads.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@dataclass(frozen=True)
class _Shared:
    """What the processes of a study write: the rounds that all have computed, and a `Forecast`'s table."""

    counter: "Synchronized[int]"
    times: "SynchronizedArray[float]"
    schedule: Schedule


# In a process of a study.
_shared: _Shared | None = None


def _begin(shared: _Shared) -> None:
    """Run in each new process: Ctrl-C ends it without a traceback, and it does not outlive its parent."""
    global _shared
    _shared = shared
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def end_with_parent(sentinel: int = parent.sentinel) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _run_in_process(cell: _Cell) -> int:
    shared = _shared
    assert shared is not None
    forecast = Forecast(shared.schedule, 1, 1, shared.times.get_obj())

    def told() -> None:
        with shared.counter.get_lock():
            shared.counter.value += 1

    def finished(number: int, seconds: float) -> None:
        with shared.times.get_lock():
            forecast.note(number, seconds)

    return _run(cell, told, finished)


def _run(cell: _Cell, told: Callable[[], None], finished: Callable[[int, float], None]) -> int:
    last = time.monotonic()

    def timed(number: int) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        finished(number, last - before)

    with one_thread():
        features = None if cell.features is None else _loaded(cell.features, cell.samples, cell.plan)
        results = simulate_seed(cell.samples, cell.plan, cell.seed, features, lambda _: told(), timed)
    with whole_file(cell.path, "The results of a seed") as temporary:
        results.to_parquet(temporary, index=False)
    return cell.seed


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums come out the same however many processes there are, and these do not get in the way.

    Small matrices are no faster on two threads.
    """
    before = torch.get_num_threads()
    with threadpool_limits(1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"The results {path} cannot be read ({error}): delete the file and run the study again"
        ) from None

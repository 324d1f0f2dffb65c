"""Features by a real Ray cluster, in a network of its own: drivers and workers are killed, and nothing is lost or odd.

Ray listens beyond loopback whatever it is told: where there can be no network namespace these tests are skipped.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from al_pipeline.core.data.embeddings import EmbeddingStore
from al_pipeline.core.data.how_read import AS_EVER
from al_pipeline.core.data.image_cache import ImageCache
from al_pipeline.core.errors import ImageError, InputError
from al_pipeline.core.learning import arithmetic
from al_pipeline.core.learning.on_ray import QUIET, FeatureWork, answer, counted
from al_pipeline.core.learning.predict import embed
from al_pipeline.core.learning.threads import computing_on
from al_pipeline_tests.core.learning.ray_pool import MOST, checkpoint, make_images, pool_of

ROOT = Path(__file__).parents[3]
PORT = 6397
COUNT = 600


def until(true: Callable[[], object], process: "subprocess.Popen[str] | None" = None) -> None:
    """Wait until something is so, which that process is at."""
    ends = time.monotonic() + 300
    while not true():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.1)


@pytest.fixture(scope="module")
def inside() -> Iterator[list[str]]:
    """What a command begins with to be in a network that is loopback alone."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("no unshare: Ray would listen on this machine's network")
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        if holder.stdout.readline() != "up\n":
            pytest.skip("no network namespace can be made: Ray would listen on this machine's network")
        yield ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """Where Ray keeps its token and its sockets, whose names may be short alone."""
    with tempfile.TemporaryDirectory(prefix="al-ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        quiet = QUIET | {"HOME": folder, "RAY_TMPDIR": folder, "OMP_NUM_THREADS": "1"}
        yield dict(os.environ) | quiet


@pytest.fixture(scope="module")
def cluster(inside: list[str], environment: dict[str, str]) -> Iterator[psutil.Process]:
    """A cluster of two processors."""
    flags = f"--head --block --port={PORT} --num-cpus=2 --include-dashboard=false --disable-usage-stats"
    address = "--node-ip-address=127.0.0.1 --object-store-memory=100000000"
    head = subprocess.Popen(
        [*inside, str(Path(sys.executable).with_name("ray")), "start", *flags.split(), *address.split()],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    process = psutil.Process(head.pid)
    try:
        assert head.stdout is not None
        for line in head.stdout:
            if "--block" in line:
                break
        yield process
    finally:
        for each in [*process.children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        head.communicate()


@pytest.fixture
def drive(
    inside: list[str], environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """A function that starts a process which has the cluster compute the pool in `tmp_path`."""
    started = list["subprocess.Popen[str]"]()

    def start(workers: int) -> "subprocess.Popen[str]":
        program = [sys.executable, "-m", "al_pipeline_tests.core.learning.ray_pool"]
        started.append(
            subprocess.Popen(
                [*inside, *program, str(tmp_path), f"127.0.0.1:{PORT}", str(workers)],
                env=environment,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def workers_of(cluster: psutil.Process) -> set[int]:
    """Return the numbers of the processes that are actors of a pool."""
    found = set[int]()
    for each in cluster.children(recursive=True):
        # Or it is a zombie, which is one of these.
        with suppress(psutil.NoSuchProcess):
            if "MapWorker" in "".join(each.cmdline()):
                found.add(each.pid)
    return found


def test_whatever_dies_all_features_are_there_none_was_stored_twice_and_they_are_the_same_bits(
    cluster: psutil.Process, drive: Callable[[int], "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    make_images(tmp_path / "images", COUNT)
    ids, uris = pool_of(tmp_path / "images")
    gate, store = tmp_path / "gate", EmbeddingStore(tmp_path / "store")
    gate.mkdir()
    # A driver is interrupted, as by a cancel, when its worker has stored something: its worker ends with it.
    first = drive(1)
    until(lambda: not store.stored(ids).all() and store.stored(ids).any() and (gate / "hold").touch() is None, first)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=120)
    assert first.returncode
    until(lambda: not workers_of(cluster))
    stored = int(store.stored(ids).sum())
    assert MOST / 2 < stored < COUNT
    # Of two workers one is killed, while this process computes what they have not begun with.
    for told in gate.glob("at *"):
        told.unlink()
    second = drive(2)
    until(lambda: len(list(gate.glob("at *"))) == 2, second)
    victim = min(int(told.name.split()[1]) for told in gate.glob("at *"))
    start = checkpoint()

    def locally(some: Sequence[str]) -> np.ndarray:
        return embed(start, [uris[ids.index(i)] for i in some])

    with ThreadPoolExecutor(1) as pool, computing_on(2):
        here = pool.submit(store.complete, ids, locally)
        os.kill(victim, signal.SIGKILL)
        (gate / "hold").unlink()
        said, _ = second.communicate(timeout=300)
        computed_here = here.result()
    # Ray tells things before.
    computed_there = int(said.split()[-1])
    assert stored + computed_there + computed_here == COUNT
    assert computed_there >= MOST / 2
    np.testing.assert_array_equal(store.load(ids), embed(start, uris))
    until(lambda: not workers_of(cluster))


def test_what_is_wrong_in_a_worker_is_the_sentence_of_the_local_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no picture")
    start, cache = checkpoint(), ImageCache(tmp_path / "cache", 0)
    work = FeatureWork(EmbeddingStore(tmp_path / "store"), start, AS_EVER, cache.folder, 0)
    with pytest.raises(ImageError, match=r"^/.*/broken.jpg: .*scan the image pool again$") as local:
        embed(start, [str(broken)])
    with pytest.raises(ImageError) as told:
        counted(answer(work, ["f" * 32], [str(broken)], cache))
    assert str(told.value) == str(local.value)
    # A machine that has none of the others' numbers.
    monkeypatch.setattr(arithmetic, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"does not compute features in openvino-.*training.inference_precision"):
        counted(answer(work, ["f" * 32], [str(broken)], cache))

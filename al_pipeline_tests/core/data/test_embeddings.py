"""Embeddings are computed once, survive a process that dies half-way, and heal when a shard is damaged."""

import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from al_pipeline.core.data import embeddings
from al_pipeline.core.data.embeddings import STEP, EmbeddingStore
from al_pipeline.core.data.places import Place
from al_pipeline.core.errors import InputError


class Computer:
    """Computes vectors from ids, and remembers which it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, sample_ids: Sequence[str]) -> np.ndarray:
        self.asked += sample_ids
        return expected(sample_ids)


def expected(sample_ids: Sequence[str]) -> np.ndarray:
    return np.array([[float(i), 2.0 * float(i), -1.0] for i in sample_ids], dtype=np.float32)


def names(start: int, stop: int) -> list[str]:
    return [f"{i:032d}" for i in range(start, stop)]


@pytest.fixture(params=["local", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> EmbeddingStore:
    """A store in a folder, and one in a bucket that is in memory."""
    return EmbeddingStore(tmp_path / "e" if request.param == "local" else Place(f"memory://{tmp_path.name}/e"))


def test_vectors_come_back_in_the_order_asked_for(store: EmbeddingStore) -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    store.append(["a", "b"], vectors[:2])
    store.append(["c", "d"], vectors[2:])
    np.testing.assert_array_equal(store.load(["d", "a", "d"]), vectors[[3, 0, 3]])
    assert store.load([]).shape[0] == 0


def test_what_is_worked_out_of_each_vector_has_the_order_asked_for(store: EmbeddingStore) -> None:
    computer, blocks = Computer(), list[int]()

    def sums(vectors: np.ndarray) -> np.ndarray:
        blocks.append(len(vectors))
        return vectors.sum(axis=1, dtype=np.float64)

    store.append(names(10, 20), expected(names(10, 20)))
    ids = [*names(0, 10)[::-1], *names(10, 20)]
    found = store.each(ids, sums, computer, block=8)
    np.testing.assert_array_equal(found, expected(ids).sum(axis=1))
    assert sorted(blocks) == [4, 8, 8]  # by two threads: in which order they begin is theirs
    assert sorted(computer.asked) == names(0, 10)


def test_only_what_is_new_is_computed(store: EmbeddingStore) -> None:
    """A hundred images more cost a hundred embeddings, whatever the size of the pool."""
    computer = Computer()
    store.get(names(0, 10_000), computer)
    assert computer.asked == names(0, 10_000)
    computer.asked.clear()
    vectors, computed = store.get(names(0, 10_100), computer)
    assert (computed, computer.asked) == (100, names(10_000, 10_100))
    np.testing.assert_array_equal(vectors, expected(names(0, 10_100)))


def test_samples_asked_for_twice_are_computed_once(store: EmbeddingStore) -> None:
    computer = Computer()
    vectors, computed = store.get(["7", "3", "7"], computer)
    assert computed == 2
    np.testing.assert_array_equal(vectors, expected(["7", "3", "7"]))


def test_a_run_that_ends_half_way_keeps_what_it_finished(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "SHARD_IMAGES", STEP)

    def dies(sample_ids: Sequence[str]) -> np.ndarray:
        if names(0, 1000)[3 * STEP] in sample_ids:
            raise KeyboardInterrupt
        return expected(sample_ids)

    with pytest.raises(KeyboardInterrupt):
        store.complete(names(0, 1000), dies)
    assert store.missing(names(0, 1000)) == names(3 * STEP, 1000)


def test_a_process_that_is_killed_leaves_a_store_that_can_be_read(tmp_path: Path) -> None:
    program = f"""
import os, signal, numpy as np
from pathlib import Path
from al_pipeline.core.data.embeddings import EmbeddingStore
def compute(ids):
    if "{"0" * 29}512" in ids:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.ones((len(ids), 4), dtype=np.float32)
from al_pipeline.core.data import embeddings
embeddings.SHARD_IMAGES = 256
EmbeddingStore(Path({str(tmp_path / "e")!r})).complete([f"{{i:032d}}" for i in range(1000)], compute)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert EmbeddingStore(tmp_path / "e").missing(names(0, 1000)) == names(512, 1000)


def test_a_slow_machine_closes_its_shards_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "SHARD_SECONDS", 0.0)
    said: list[str] = []
    EmbeddingStore(tmp_path).complete(names(0, 3 * STEP), Computer(), said.append)
    assert len(list(tmp_path.iterdir())) == 3
    assert said[-1] == "768 of 768 new samples embedded"


@pytest.mark.parametrize("where", [0.8, -1000], ids=["data", "end"])
def test_a_damaged_shard_is_noticed_set_aside_and_computed_again(
    tmp_path: Path, where: float, caplog: pytest.LogCaptureFixture
) -> None:
    store, computer = EmbeddingStore(tmp_path / "e"), Computer()
    store.get(names(0, 300), computer)
    store.append(["999"], expected(["999"]))
    [shard] = [path for path in (tmp_path / "e").iterdir() if path.name.startswith("0000")]
    data = bytearray(shard.read_bytes())
    position = int(len(data) * where) if where > 0 else len(data) + int(where)
    data[position] ^= 0xFF
    shard.write_bytes(data)
    computer.asked.clear()
    with caplog.at_level(logging.WARNING):
        vectors, computed = store.get([*names(0, 300), "999"], computer)
    np.testing.assert_array_equal(vectors, expected([*names(0, 300), "999"]))
    assert computed == 300
    assert "damaged" in caplog.text
    computer.asked.clear()
    store.get(names(0, 300), computer)
    assert not computer.asked


def test_a_shard_cut_off_while_writing_is_not_read(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path / "e")
    store.append(["a"], np.ones((1, 2)))
    [shard] = (tmp_path / "e").iterdir()
    (tmp_path / "e" / ".b-1.features.1234.part").write_bytes(b"half a file")
    (tmp_path / "e" / "b-1.features").write_bytes(shard.read_bytes()[:-1])
    (tmp_path / "e" / "c-1.parquet").write_bytes(b"PAR1 no more than that")
    assert store.missing(["a", "b", "c"]) == ["b", "c"]


def test_the_same_work_done_twice_counts_once(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path / "e")
    for _ in range(2):
        store.append(["a", "b"], np.ones((2, 2)))
    assert len(list((tmp_path / "e").iterdir())) == 1
    assert store.load(["a", "b"]).shape == (2, 2)


def test_a_sample_without_a_vector_is_named(store: EmbeddingStore) -> None:
    with pytest.raises(InputError, match=r"1 of 1 samples have no embedding.*the first is z"):
        store.load(["z"])


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.array([[1.0, 2.0], [np.nan, 1.0]]), r"1 of 2 embeddings are not finite.*sample b\).*training.weights"),
        (np.ones((3, 2)), r"2 samples need as many vectors, not an array of shape \(3, 2\)"),
    ],
)
def test_vectors_that_cannot_be_right_are_refused(store: EmbeddingStore, vectors: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        store.append(["a", "b"], vectors)
    assert store.missing(["a", "b"]) == ["a", "b"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"AL_EMBEDDINGS.*file/e/.* could not be written"):
        EmbeddingStore(tmp_path / "file" / "e").append(["a"], np.ones((1, 2)))

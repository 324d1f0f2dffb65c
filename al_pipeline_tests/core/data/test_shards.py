"""Shards: what was stored comes back however it was split, damage is noticed, and those of before are taken over."""

import io
import itertools
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from al_pipeline.core.data.embeddings import EmbeddingStore
from al_pipeline.core.data.places import Place
from al_pipeline.core.data.shards import shards_of
from al_pipeline.core.errors import InputError

# More than two blocks of 64 rows.
ROWS = 150
IDS = [f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}{i:016x}" for i in range(ROWS)]


def vectors_of(sample_ids: Sequence[str]) -> np.ndarray:
    """Return vectors that tell whose they are."""
    return np.array([[IDS.index(i), -IDS.index(i), 0.5] for i in sample_ids], dtype=np.float32).reshape(-1, 3)


def another_process() -> None:
    """Forget what this process knows of folders."""
    shards_of.cache_clear()


def names(store: EmbeddingStore) -> list[str]:
    folder = store.folder
    return (
        [entry.key for entry in folder.entries()]
        if isinstance(folder, Place)
        else [path.name for path in folder.iterdir()]
    )


def delete(store: EmbeddingStore, name: str) -> None:
    folder = store.folder
    if isinstance(folder, Place):
        folder.delete(name)
    else:
        (folder / name).unlink()


@pytest.fixture(params=["local", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore(tmp_path / "e" if request.param == "local" else Place(f"memory://{tmp_path.name}/shards"))


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@settings(max_examples=40)
@given(
    order=st.permutations(range(ROWS)),
    cuts=st.sets(st.integers(0, ROWS), max_size=6),
    stored=st.integers(0, ROWS),
    twice=st.integers(0, 20),
    asked=st.lists(st.integers(0, ROWS - 1) | st.just(-1), max_size=30),
    others=st.integers(1, 64),
)
@example(order=list(range(ROWS)), cuts={64, 128}, stored=ROWS, twice=0, asked=list(range(ROWS)), others=64)
@example(order=list(range(ROWS)), cuts=set(), stored=140, twice=0, asked=[*range(64), *range(65, 140)], others=7)
@example(order=list(range(ROWS)), cuts=set(), stored=ROWS, twice=0, asked=[*range(70, 150), *range(64)], others=9)
def test_what_was_stored_comes_back(
    order: list[int], cuts: set[int], stored: int, twice: int, asked: list[int], others: int
) -> None:
    """In any order, asked for twice or never stored, split into any shards, some of them in two."""
    kept = [IDS[i] for i in order[:stored]]
    wanted = [IDS[i] if i >= 0 else "0" * 32 for i in asked]
    there = [i for i in wanted if i in kept]
    with tempfile.TemporaryDirectory() as name:
        store = EmbeddingStore(Path(name))
        edges = sorted({0, stored, *(cut for cut in cuts if cut < stored)})
        for begin, end in itertools.pairwise(edges):
            store.append(kept[begin:end], vectors_of(kept[begin:end]))
        store.append(kept[:twice], vectors_of(kept[:twice]))
        for _ in range(2):
            vectors, found = store.read(wanted)
            assert found.tolist() == [i in kept for i in wanted]
            assert store.stored(wanted).tolist() == found.tolist()
            np.testing.assert_array_equal(vectors[found].reshape(-1, 3), vectors_of(there))
            another_process()
        streamed = list(store.stream(there, others))
        assert all(len(block) == others for block in streamed[:-1])
        np.testing.assert_array_equal(np.concatenate([np.empty((0, 3)), *streamed]), vectors_of(there))


@settings(max_examples=60)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), known=st.booleans())
def test_damage_of_any_bit_is_noticed_and_mended(position: float, bit: int, known: bool) -> None:
    """In another process; where this one knows the shard's table, what it returns is right in any case."""
    with tempfile.TemporaryDirectory() as name:
        store = EmbeddingStore(Path(name))
        store.append(IDS, vectors_of(IDS))
        [shard] = Path(name).iterdir()
        data = bytearray(shard.read_bytes())
        data[int(position * len(data))] ^= 1 << bit
        if known:
            store.missing(IDS)
        else:
            another_process()
        shard.write_bytes(data)
        vectors, computed = store.get(IDS, vectors_of)
        np.testing.assert_array_equal(vectors, vectors_of(IDS))
        assert known or computed == ROWS
        assert computed in (0, ROWS)
        another_process()
        assert store.get(IDS, vectors_of)[1] in (0, ROWS - computed)
        another_process()
        assert store.get(IDS, vectors_of)[1] == 0
        assert sorted(path.suffix for path in Path(name).iterdir()) == [".damaged", ".features"]


@pytest.mark.parametrize("length", [0, 10, 19, 20, 1000, -1])
def test_a_shard_of_another_length_is_noticed(folder: Path, length: int, caplog: pytest.LogCaptureFixture) -> None:
    store = EmbeddingStore(folder)
    store.append(IDS, vectors_of(IDS))
    [shard] = folder.iterdir()
    shard.write_bytes(shard.read_bytes()[:length] if length >= 0 else shard.read_bytes() + b"x")
    assert store.get(IDS, vectors_of)[1] == ROWS
    assert "are damaged" in caplog.text


def test_what_was_found_right_is_not_read_whole_again_while_the_file_is_the_same(folder: Path) -> None:
    store = EmbeddingStore(folder)
    store.append(IDS, vectors_of(IDS))
    [shard] = folder.iterdir()
    os.utime(shard, ns=(1, 1))
    few = [IDS[70], IDS[3], IDS[149]]
    np.testing.assert_array_equal(store.load(IDS), vectors_of(IDS))
    np.testing.assert_array_equal(store.load(few), vectors_of(few))
    # The last row but one, which nobody asks for now.
    data = bytearray(shard.read_bytes())
    data[-13] ^= 1
    shard.write_bytes(data)
    os.utime(shard, ns=(1, 1))
    np.testing.assert_array_equal(store.load(few), vectors_of(few))
    os.utime(shard, ns=(2, 2))
    assert store.read(few)[1].tolist() == [False] * 3, "a file that has changed is checked again"


def test_only_the_blocks_asked_for_are_looked_at(folder: Path) -> None:
    store = EmbeddingStore(folder)
    store.append(IDS, vectors_of(IDS))
    [shard] = folder.iterdir()
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    np.testing.assert_array_equal(store.load(IDS[:128]), vectors_of(IDS[:128]))
    assert shard.exists()
    assert not store.read(IDS[128:])[1].any()
    assert [path.suffix for path in folder.iterdir()] == [".damaged"]


def test_a_damaged_shard_that_cannot_be_set_aside_is_told_once_and_replaced(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = EmbeddingStore(folder)
    store.append(IDS, vectors_of(IDS))
    [shard] = folder.iterdir()
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    # In the way of the new name.
    (folder / f"{shard.name}.damaged" / "full").mkdir(parents=True)
    for _ in range(2):
        assert store.missing(IDS) == IDS
    assert caplog.text.count("are damaged") == 1
    store.append(IDS, vectors_of(IDS))
    assert shard.read_bytes() == whole
    assert not store.missing(IDS)


def test_a_shard_that_another_process_replaces_is_read_anew(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same samples embedded twice may differ by rounding, and so do their checksums: that is no damage."""
    store = EmbeddingStore(folder)
    store.append(IDS, vectors_of(IDS))
    store.load(IDS)
    store.append(IDS, vectors_of(IDS) + 1)
    assert len(list(folder.iterdir())) == 1
    np.testing.assert_array_equal(store.load(IDS), vectors_of(IDS) + 1)
    assert not caplog.text


def test_what_goes_and_comes_between_two_reads_is_seen(store: EmbeddingStore) -> None:
    for part in (IDS[:70], IDS[70:]):
        store.append(part, vectors_of(part))
        assert store.stored(IDS).sum() == (70 if part == IDS[:70] else ROWS)
    delete(store, next(name for name in names(store) if name.startswith(IDS[0])))
    assert store.missing(IDS) == IDS[:70]


@pytest.mark.parametrize("wrong", ["0" * 33, "größe"])
def test_an_id_that_is_none_is_named(folder: Path, wrong: str) -> None:
    with pytest.raises(InputError, match=f"'{wrong}' is no sample id"):
        EmbeddingStore(folder).append(["a", wrong], np.ones((2, 3)))
    assert not list(folder.iterdir())


def write_as_before(folder: Path | Place, sample_ids: Sequence[str]) -> Path:
    """Write a shard as versions before this format did; return its file, if it is one."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors_of(sample_ids).ravel()), 3)
    table = pa.table({"sample_id": pa.array(sample_ids, pa.string()), "vector": column})
    written, name = io.BytesIO(), f"{sample_ids[0]}-{len(sample_ids)}.parquet"
    pq.write_table(table, written, compression="none", use_dictionary=False, write_page_checksum=True)
    if isinstance(folder, Place):
        folder.put(name, written.getvalue())
        return Path(name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(written.getvalue())
    return folder / name


def endings(store: EmbeddingStore) -> list[str]:
    return sorted(Path(name).suffix for name in names(store))


def test_shards_of_earlier_versions_are_rewritten_once(store: EmbeddingStore, caplog: pytest.LogCaptureFixture) -> None:
    for part in (IDS[:50], IDS[50:]):
        write_as_before(store.folder, part)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            np.testing.assert_array_equal(store.load(IDS[::-1]), vectors_of(IDS[::-1]))
            assert endings(store) == [".features", ".features"]
    assert caplog.text.count("are rewritten once") == 1


def test_a_process_that_dies_while_rewriting_loses_nothing(folder: Path) -> None:
    """It may have written the new shard, and not deleted the old one."""
    old = write_as_before(folder, IDS)
    data = old.read_bytes()
    store = EmbeddingStore(folder)
    store.missing(IDS)
    old.write_bytes(data)
    another_process()
    np.testing.assert_array_equal(store.load(IDS), vectors_of(IDS))
    assert endings(store) == [".features"]


def test_two_may_rewrite_at_once(folder: Path) -> None:
    parts = [IDS[i : i + 10] for i in range(0, ROWS, 10)]
    for part in parts:
        write_as_before(folder, part)

    def read(_: int) -> np.ndarray:
        # Each with an index of its own, as two processes have.
        return shards_of.__wrapped__(folder).read(np.array(IDS, dtype="S32"))[0]

    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(read, range(4)):
            np.testing.assert_array_equal(vectors, vectors_of(IDS))
    assert endings(EmbeddingStore(folder)) == [".features"] * len(parts)


def test_a_damaged_shard_of_an_earlier_version_is_set_aside(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = write_as_before(folder, IDS[:100])
    write_as_before(folder, IDS[100:])
    data = bytearray(old.read_bytes())
    data[len(data) // 2] ^= 1
    old.write_bytes(bytes(data))
    store = EmbeddingStore(folder)
    assert store.missing(IDS) == IDS[:100]
    assert f"The embeddings in {old} are damaged" in caplog.text
    assert endings(store) == [".damaged", ".features"]


def test_what_lies_in_a_bucket_is_the_same_to_the_byte(tmp_path: Path) -> None:
    bucket = Place(f"memory://{tmp_path.name}/same")
    for store in (EmbeddingStore(tmp_path), EmbeddingStore(bucket)):
        store.append(IDS, vectors_of(IDS))
    [file], [entry] = list(tmp_path.iterdir()), bucket.entries()
    assert (file.name, file.read_bytes()) == (entry.key, bucket.read(entry.key).getvalue())


def test_damage_in_a_bucket_is_noticed_set_aside_and_mended(tmp_path: Path) -> None:
    store = EmbeddingStore(bucket := Place(f"memory://{tmp_path.name}/damage"))
    store.append(IDS, vectors_of(IDS))
    [entry] = bucket.entries()
    data = bytearray(bucket.read(entry.key).getvalue())
    data[-1] ^= 1
    bucket.put(entry.key, bytes(data))
    np.testing.assert_array_equal(store.load(IDS[:128]), vectors_of(IDS[:128]))
    assert store.get(IDS, vectors_of)[1] == ROWS
    assert sorted(each.key for each in bucket.entries()) == [f"{entry.key}", f"{entry.key}.damaged"]
    np.testing.assert_array_equal(store.load(IDS), vectors_of(IDS))

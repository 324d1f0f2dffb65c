"""Embeddings are computed once and survive a process that dies half-way."""

from pathlib import Path

import numpy as np
import pytest

from al_pipeline.core.embeddings import EmbeddingStore
from al_pipeline.core.errors import InputError


def test_vectors_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    store, vectors = EmbeddingStore(tmp_path / "e"), np.arange(12, dtype=np.float32).reshape(4, 3)
    store.append(["a", "b"], vectors[:2])
    store.append(["c", "d"], vectors[2:])
    np.testing.assert_array_equal(store.load(["d", "a"]), vectors[[3, 0]])
    assert store.load([]).shape[0] == 0


def test_only_what_is_new_is_missing(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path / "e")
    assert store.missing(["a", "b"]) == ["a", "b"]
    store.append(["a"], np.ones((1, 2)))
    assert store.missing(["b", "a", "c"]) == ["b", "c"]


def test_the_same_work_done_twice_counts_once(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path / "e")
    for _ in range(2):
        store.append(["a", "b"], np.ones((2, 2)))
    assert len(list((tmp_path / "e").iterdir())) == 1
    assert store.load(["a", "b"]).shape == (2, 2)


def test_a_shard_cut_off_while_writing_is_not_read(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path / "e")
    store.append(["a"], np.ones((1, 2)))
    (tmp_path / "e" / "b-1.tmp").write_bytes(b"half a file")
    assert store.ids() == {"a"}


def test_a_sample_without_a_vector_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 of 1 samples have no embedding.*the first is z"):
        EmbeddingStore(tmp_path / "e").load(["z"])

"""Several processes compute one pool's features: none twice, whoever is killed, whichever machine they are on."""

import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from al_pipeline.core.data import embeddings, part_claims
from al_pipeline.core.data.embeddings import EmbeddingStore
from al_pipeline.core.data.part_claims import CLAIM, HOLDER, PartClaims
from al_pipeline.core.data.parts import PARTS, part_of, pieces
from al_pipeline.core.data.places import Place
from al_pipeline.core.errors import InputError


def ids_of(count: int) -> list[str]:
    """Return ids as those of images are."""
    digits = np.random.default_rng(0).bytes(16 * count).hex()
    return [digits[i : i + 32] for i in range(0, len(digits), 32)]


def expected(sample_ids: Sequence[str]) -> np.ndarray:
    return np.array([[int(i[:6], 16), 1] for i in sample_ids], dtype=np.float32)


@pytest.fixture(params=["local", "bucket"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | Place:
    """A folder, and a place in a bucket that is in memory."""
    return tmp_path / "e" if request.param == "local" else Place(f"memory://{tmp_path.name}/e")


@given(st.lists(st.sampled_from(ids_of(300)), unique=True), st.integers(1, 50))
def test_pieces_are_whole_parts_and_together_the_pool(ids: list[str], most: int) -> None:
    found = list(pieces(ids, most))
    assert sorted(i for piece in found for i in piece) == sorted(ids)
    parts = [sorted({part_of(i) for i in piece}) for piece in found]
    assert [part for of in parts for part in of] == sorted({part_of(i) for i in ids})  # none in two of them
    assert all(len(piece) <= most or len(of) == 1 for piece, of in zip(found, parts, strict=True))
    assert all(piece == sorted(piece, key=ids.index) for piece in found)


def test_a_part_is_one_holders_until_it_gives_it_back(folder: Path | Place) -> None:
    with PartClaims(folder) as one, PartClaims(folder) as other:
        assert one.take(["00", "01"]) == {"00", "01"}
        assert other.take(["00", "01", "02"]) == {"02"}
        one.give_back(["00"])
        assert other.take(["00", "01"]) == {"00"}
    with PartClaims(folder) as third:
        assert third.take(PARTS) == {*PARTS}


def test_of_many_at_once_one_has_each_part(folder: Path | Place) -> None:
    with ThreadPoolExecutor(8) as pool:
        claims = [PartClaims(folder) for _ in range(8)]
        for each in claims:
            each.__enter__()
        taken = [part for found in pool.map(lambda each: each.take(PARTS[:40]), claims) for part in found]
        for each in claims:
            each.__exit__(None, None, None)
    assert sorted(taken) == sorted(PARTS[:40])


def test_what_a_killed_process_of_this_machine_has_is_taken_over_at_once_and_by_one(tmp_path: Path) -> None:
    """Three die one after the other on the same part."""
    program = f"""
import os, signal
from pathlib import Path
from al_pipeline.core.data.part_claims import PartClaims
with PartClaims(Path({str(tmp_path)!r})) as claims:
    assert claims.take(["07"]) == {{"07"}}
    os.kill(os.getpid(), signal.SIGKILL)
"""
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    with PartClaims(tmp_path) as one, PartClaims(tmp_path) as other:
        assert (one.take(["07"]), other.take(["07"])) == ({"07"}, set())
        one.give_back(["07"])
        assert other.take(["07"]) == {"07"}


def test_who_is_silent_on_another_machine_is_dead_after_a_while_by_the_waiters_clock(
    folder: Path | Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_claims, "DEAD_SECONDS", 1.5)
    monkeypatch.setattr(part_claims, "BEAT_SECONDS", 0.05)
    with PartClaims(folder) as waiter:
        with monkeypatch.context() as patch:
            patch.setattr(part_claims, "_machine", lambda: "elsewhere")
            away = PartClaims(folder)
        with away:
            assert away.take(["00", "01"]) == {"00", "01"}
            until = time.monotonic() + 2
            while time.monotonic() < until:
                assert waiter.take(["00"]) == set()  # it beats
                time.sleep(0.02)
            away._stop.set()
            away._beating.join()
            began = time.monotonic()
            while not waiter.take(["00"]):
                assert time.monotonic() < began + 60
                time.sleep(0.02)
            assert time.monotonic() - began >= 1.4
            # All know it by now, and nobody waits once more.
            with PartClaims(folder) as late:
                assert late.take(["00", "01"]) == {"01"}
        # Who was taken for dead lets go of nothing that others have.
        assert PartClaims(folder).take(["00"]) == set()


def test_a_claim_that_was_never_written_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{CLAIM}00").touch()
    with PartClaims(tmp_path) as claims:
        assert claims.take(["00"]) == set()
        monkeypatch.setattr(part_claims, "DEAD_SECONDS", 0.0)
        assert claims.take(["00"]) == {"00"}


def test_nothing_is_left_but_the_shards(folder: Path | Place) -> None:
    EmbeddingStore(folder).complete(ids_of(500), expected)
    names = [e.key for e in folder.entries()] if isinstance(folder, Place) else [p.name for p in folder.iterdir()]
    assert not [name for name in names if name.startswith((CLAIM, HOLDER))]
    assert len(names) == 1


def test_two_at_once_compute_nothing_twice(folder: Path | Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both begin at the first part; whoever is through first waits for the other."""
    monkeypatch.setattr(embeddings, "SHARD_IMAGES", 100)
    monkeypatch.setattr(embeddings, "WAIT_SECONDS", 0.01)
    ids, asked, both = ids_of(3000), Counter[str](), threading.Barrier(2)

    def run(order: list[str]) -> int:
        first = iter([True])

        def compute(some: Sequence[str]) -> np.ndarray:
            if next(first, False):
                both.wait()
            asked.update(some)
            return expected(some)

        return EmbeddingStore(folder).complete(order, compute)

    with ThreadPoolExecutor(2) as pool:
        computed = list(pool.map(run, [ids, ids[::-1]]))
    assert sum(computed) == len(ids)
    assert min(computed) > 0
    assert set(asked.values()) == {1}
    np.testing.assert_array_equal(EmbeddingStore(folder).load(ids), expected(ids))


def _dies(folder: str, ids: list[str], begun: str) -> None:
    def compute(some: Sequence[str]) -> np.ndarray:
        Path(begun).touch()
        threading.Event().wait()
        raise AssertionError

    EmbeddingStore(Path(folder)).complete(ids, compute)


def test_who_waits_for_a_process_that_is_killed_does_its_part(tmp_path: Path) -> None:
    ids, begun = ids_of(40), tmp_path / "begun"
    process = multiprocessing.get_context("spawn").Process(target=_dies, args=(str(tmp_path / "e"), ids, str(begun)))
    process.start()
    while not begun.exists():
        assert process.is_alive()
        time.sleep(0.02)
    said = list[str]()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(EmbeddingStore(tmp_path / "e").complete, ids, expected, said.append)
        time.sleep(0.2)
        assert not waiting.done()
        process.kill()
        assert waiting.result(timeout=60) == len(ids)
    process.join()
    np.testing.assert_array_equal(EmbeddingStore(tmp_path / "e").load(ids), expected(ids))


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"AL_EMBEDDINGS.*file/e could not be written: Not a directory"):
        EmbeddingStore(tmp_path / "file" / "e").complete(ids_of(1), expected)

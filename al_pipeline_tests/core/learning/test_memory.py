"""Where memory does not suffice, the batch is halved, and it is said."""

import logging

import pytest
import torch

from al_pipeline.core.learning.memory import OutOfMemoryError, halving


def limited(limit: int, error: Exception, calls: list[int]):
    def run(batch_size: int) -> str:
        calls.append(batch_size)
        if batch_size > limit:
            raise error
        return "done"

    return run


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
    ],
)
def test_the_batch_is_halved_until_it_fits(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []
    with caplog.at_level(logging.WARNING):
        assert halving(limited(5, error, calls), 16, smallest=2, what="training") == ("done", 4)
    assert calls == [16, 8, 4]
    assert "not enough memory for training with 16 images at a time: 8 now" in caplog.text


def test_a_real_allocation_that_is_too_large_is_recognised() -> None:
    def run(batch_size: int) -> int:
        return torch.empty(batch_size, 1 << 52, dtype=torch.uint8).shape[0] if batch_size > 1 else 1

    assert halving(run, 4, smallest=1, what="prediction") == (1, 1)


def test_when_the_smallest_is_too_large_the_remedy_is_named() -> None:
    with pytest.raises(OutOfMemoryError, match=r"with 2 images at a time: lower training\.image_size"):
        halving(limited(1, MemoryError(), []), 8, smallest=2, what="training")


def test_other_errors_pass() -> None:
    calls: list[int] = []
    with pytest.raises(RuntimeError, match="shapes"):
        halving(limited(1, RuntimeError("shapes differ"), calls), 8, smallest=2, what="training")
    assert calls == [8]

"""How many threads torch computes with: sums over several come out in another order, and so in other bits."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def computing_on(threads: int) -> Iterator[None]:
    """Let torch compute on so many threads on a CPU, and on as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)

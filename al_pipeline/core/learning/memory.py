"""What to do when the memory of the device is too small for a batch: take half of it, and say so."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from al_pipeline.core.errors import ALError

T = TypeVar("T")
log = logging.getLogger(__name__)


class OutOfMemoryError(ALError):
    """Not even the smallest batch fits into memory."""


def halving(run: Callable[[int], T], batch_size: int, *, smallest: int, what: str) -> tuple[T, int]:
    """Call `run` with a batch size, and with half of it for as long as the memory does not suffice.

    What it returned is returned, and the batch size that it worked with.

    Parameters
    ----------
    run : callable
        Takes a batch size. It is called anew from the start, so it must not leave anything half done behind.
    batch_size, smallest : int
    what : str
        What is being done, for the warning and the error: "training".

    Raises
    ------
    OutOfMemoryError
        Not even with the smallest batch.
    """
    while True:
        try:
            return run(batch_size), batch_size
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if batch_size <= smallest:
                raise OutOfMemoryError(
                    f"There is not enough memory for {what} with {batch_size} images at a time: lower "
                    "training.image_size, take a smaller training.architecture, or free memory"
                ) from error
        halved = max(smallest, batch_size // 2)
        log.warning("There is not enough memory for %s with %d images at a time: %d now", what, batch_size, halved)
        batch_size = halved
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _is_out_of_memory(error: Exception) -> bool:
    # The CPU's allocator raises a plain RuntimeError: its words are all there is to tell it by.
    words = ("not enough memory", "can't allocate memory", "cannot allocate memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error).lower() for word in words)

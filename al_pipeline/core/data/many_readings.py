"""Many files are read in threads, and objects of buckets ahead of them."""

import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from al_pipeline.core.data.ahead import Ahead
from al_pipeline.core.data.how_read import AS_EVER, HowRead
from al_pipeline.core.data.reading import Gray, Reading, decode_file, see

# How often it is told what has been read.
TELL_SECONDS = 0.1
# So many files, or what is read in that time, are looked at together.
TOGETHER = 32


def read_files(paths: Sequence[str], now_ns: int, *, workers: int, how: HowRead = AS_EVER) -> Generator[list[Reading]]:
    """Read files in threads, and yield what was found, some at a time and in their order.

    Pillow decodes and hashlib hashes without the interpreter's lock. Threads take one file after the other and wake
    nobody up: handing tasks and results over costs a fifth of a small image. A caller that stops early waits for the
    files that are being read alone.
    """
    found = dict[int, Reading]()
    rows, stopped, ahead = iter(range(len(paths))), threading.Event(), Ahead(paths)

    def one(row: int) -> tuple[Reading, Gray | None]:
        try:
            taken = ahead.take(row)
        except OSError as error:
            return Reading(problem=f"unreadable: {error.strerror}"), None
        return decode_file(taken, now_ns, how)

    def read() -> None:
        taken, read, until = list[int](), list[tuple[Reading, Gray | None]](), 0.0
        for row in rows:
            until = until if taken else time.monotonic() + TELL_SECONDS
            taken.append(row)
            read.append(one(row))
            if len(read) >= TOGETHER or time.monotonic() > until:
                tell(taken, read)
            if stopped.is_set():
                break
        tell(taken, read)

    def tell(taken: list[int], read: list[tuple[Reading, Gray | None]]) -> None:
        for row, reading in zip(taken, see(read), strict=True):
            found[row] = reading
        taken.clear()
        read.clear()

    with ThreadPoolExecutor(workers) as pool:
        threads, told = [pool.submit(read) for _ in range(workers)], 0
        try:
            while told < len(paths):
                done = wait(threads, TELL_SECONDS, FIRST_EXCEPTION).done
                some = list[Reading]()
                # What was told is for the caller to keep: of a million files it is a third of a gigabyte.
                while (reading := found.pop(told, None)) is not None:
                    some.append(reading)
                    told += 1
                yield some
                # Last: what was read before a bucket went away is kept.
                for thread in done:
                    thread.result()
        finally:
            stopped.set()
            ahead.close()

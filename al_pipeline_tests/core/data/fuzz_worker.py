"""Damage image files and look at them in a process that may die of it (`-m … corpus folder start stop seconds`)."""

import faulthandler
import itertools
import os
import pickle
import random
import resource
import struct
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from al_pipeline.core.data.images import open_rgb
from al_pipeline.core.data.reading import read_file
from al_pipeline.core.errors import ImageError
from al_pipeline.labelstudio.images import publish

# Who waits without using the processor has so many seconds.
PATIENCE = 60
# Of the whole process, with all libraries.
MEGABYTES = 1000
NOTABLE = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
LARGEST = 200_000
# Files of this family are left as they are, and are told to do what is watched for.
WATCHED = "watched"
DEEDS: dict[bytes, Callable[[], object]] = {
    b"die": os.abort,
    b"loop": lambda: all(itertools.repeat(True)),
    b"grow": lambda: b"x" * MEGABYTES * 1_000_000,
    b"raise": lambda: [][0],
}


def most_megabytes() -> float:
    """Return the most memory this process has had: what getrusage tells begins with its parent's, a whole test run."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


def _place(chance: random.Random, data: bytes) -> int:
    """Return a position, rather in the header than in the pixels."""
    return int(len(data) * chance.random() ** chance.choice((1, 4)))


def _part(chance: random.Random, data: bytes) -> slice:
    begin = _place(chance, data)
    return slice(begin, begin + int(2 ** (chance.random() * 12)))


def cut(chance: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: _place(chance, data)]


def taken_out(chance: random.Random, data: bytes, other: bytes) -> bytes:
    part = _part(chance, data)
    return data[: part.start] + data[part.stop :]


def flipped(chance: random.Random, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 3, 10)) if data else 0):
        changed[_place(chance, data)] ^= chance.choice((1 << chance.randrange(8), chance.randrange(1, 256)))
    return bytes(changed)


def spliced(chance: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: _place(chance, data)] + other[_place(chance, other) :]


def mixed(chance: random.Random, data: bytes, other: bytes) -> bytes:
    part, begin = _part(chance, data), _place(chance, other)
    return data[: part.start] + other[begin : begin + part.stop - part.start] + data[part.stop :]


def other_number(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """Change what may be a length or a size: to a notable one, or a little."""
    size, order, at = chance.choice((1, 2, 4, 8)), chance.choice(("big", "little")), _place(chance, data)
    there = int.from_bytes(data[at : at + size], order)
    number = chance.choice((*NOTABLE, len(data), there + chance.randrange(-4, 5), there * 2, there // 2))
    return data[:at] + (number % (1 << 8 * size)).to_bytes(size, order) + data[at + size :]


def stretched(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """Change all that may be the same side of the picture to a large one."""
    order = chance.choice("<>")
    sides = [data[at : at + 2] for at in range(min(len(data), 400)) if 8 <= _short(order, data[at : at + 2]) <= 300]
    if not sides:
        return data
    side = struct.pack(f"{order}H", chance.choice((1000, 4000, 8000, 30000)))
    return data[:400].replace(chance.choice(sides), side) + data[400:]


def _short(order: str, pair: bytes) -> int:
    return int.from_bytes(pair, "little" if order == "<" else "big")


def repeated(chance: random.Random, data: bytes, other: bytes) -> bytes:
    part = _part(chance, data)
    return data[: part.stop] + data[part] * chance.choice((1, 2, 50)) + data[part.stop :]


def zeros(chance: random.Random, data: bytes, other: bytes) -> bytes:
    part = _part(chance, data)
    return data[: part.start] + bytes(len(data[part])) + data[part.stop :]


DAMAGES = (cut, taken_out, flipped, flipped, spliced, mixed, other_number, other_number, stretched, repeated, zeros)


def mended(data: bytes) -> bytes:
    """Give the chunks of a PNG the checksums of what is in them now: a damaged sum ends the reading of it."""
    done = bytearray(data)
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        done[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end])) if end + 4 <= len(data) else b""
        at = end + 4
    return bytes(done)


def damaged(number: int, corpus: dict[str, dict[str, bytes]]) -> tuple[str, bytes]:
    """Return the file of a number, always the same one, and what it was made of."""
    chance = random.Random(number)
    family = sorted(corpus)[number % len(corpus)]
    if family == WATCHED:
        return sorted(corpus[family].items())[number]
    name = chance.choice(sorted(corpus[family]))
    data = corpus[family][name]
    done = list[Callable[..., bytes]]()
    for _ in range(chance.choice((1, 1, 2, 3))):
        near = corpus[chance.choice((family, family, chance.choice(sorted(corpus))))]
        done.append(chance.choice(DAMAGES))
        data = done[-1](chance, data, near[chance.choice(sorted(near))])[:LARGEST]
    if data.startswith(b"\x89PNG") and chance.random() < 0.7:
        data = mended(data)
    return f"{name}: {', '.join(change.__name__ for change in done)}", data


def look(path: Path, folder: Path) -> str:
    """Return "set aside", "used", or what is wrong with that, of one file."""
    if deed := DEEDS.get(path.read_bytes()):
        deed()
    seen = read_file(str(path), time.time_ns())
    if seen.problem is not None:
        return "set aside" if seen.problem.strip() and seen.pixels is None else f"pixels and a problem: {seen}"
    try:
        pixels = open_rgb(path)
        shown = folder / publish(path, path.name, folder)
    except ImageError as error:
        return f"read, and cannot be shown: {error}"
    same = open_rgb(shown).tobytes() == pixels.tobytes()
    shown.unlink()
    if pixels.size != (seen.width, seen.height) or not seen.pixels or len(seen.thumbnail) != 256:
        return f"{pixels.size} is not what was read: {seen}"
    return "used" if same else "people see another picture"


def looks(corpus: dict[str, dict[str, bytes]], folder: Path, start: int, stop: int, seconds: int) -> Iterator[str]:
    """Yield the outcome of each number; what did not go well is left in the folder.

    A file may take so many seconds of the processor, not of the clock: a busy machine is no failure.
    """
    for number in range(start, stop):
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        name, data = damaged(number, corpus)
        path = folder / str(number)
        path.write_bytes(data)
        begun = time.process_time()
        resource.setrlimit(resource.RLIMIT_CPU, (int(begun) + seconds + 1, resource.RLIM_INFINITY))
        try:
            outcome = look(path, folder)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            outcome = f"{type(error).__name__}: {error}"
        if (megabytes := most_megabytes()) > MEGABYTES:
            outcome = f"{megabytes:.0f} MB"
        if outcome in ("used", "set aside"):
            path.unlink()
        took = time.process_time() - begun
        yield f"{number}\t{outcome}\t{name}\t{took:.3f}\t{megabytes:.0f}".replace("\n", " ")
        if megabytes > MEGABYTES:
            return


def main() -> None:
    corpus, folder, *numbers = sys.argv[1:]
    # So much that the machine is not harmed by what is looked for.
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable()
    warnings.simplefilter("ignore")
    os.environ["OMP_NUM_THREADS"] = "1"
    for line in looks(pickle.loads(Path(corpus).read_bytes()), Path(folder), *map(int, numbers)):
        print(line, flush=True)


if __name__ == "__main__":
    main()

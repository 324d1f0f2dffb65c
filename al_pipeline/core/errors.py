"""Errors a person can act on: each says what was wrong, with which value, where it came from and what to do.

The functions check numbers: they return what is allowed, and raise an `InputError` that names everything else.
"""

import math
import operator


class ALError(Exception):
    """Base of every error that this project raises on purpose."""


class InputError(ALError, ValueError):
    """A setting, argument or file content that cannot be used."""


class ImageError(ALError):
    """One image file that cannot be decoded; ``str(error)`` is the reason shown in the quarantine."""


class CheckpointError(ALError):
    """A checkpoint or weights file that is missing, damaged or of another shape than asked for."""


class FileError(ALError):
    """A file that cannot be written, for example because the disk is full."""


class PlaceError(ALError):
    """A bucket that cannot be reached or used now; nothing is said by it of what is in the bucket."""


class ClusterError(ALError):
    """A Ray cluster that is not there, does not start, or whose workers die."""


def whole(name: str, value: int, least: int) -> int:
    """Return a whole number of at least `least`."""
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return number


def at_least(name: str, value: float, least: float) -> float:
    """Return a finite number of at least `least`."""
    return between(name, value, least, math.inf, f"a finite number of at least {least:g}")


def positive(name: str, value: float) -> float:
    """Return a finite number above 0."""
    return between(name, value, math.ulp(0), math.inf, "a finite number above 0")


def share(name: str, value: float) -> float:
    """Return a number from 0 to 1."""
    return between(name, value, 0, 1, "a number from 0 to 1")


def between(name: str, value: float, least: float, most: float, allowed: str) -> float:
    """Return a finite number from `least` to `most`, which the error calls `allowed`."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    # Written so that NaN, for which every comparison is false, fails too.
    if not (least <= number <= most and math.isfinite(number)):
        raise InputError(f"{name} must be {allowed}, not {value!r}")
    return number

"""Options of strategies, checked: the message names the option, its value and what is allowed."""

import math
import operator

from al_pipeline.core.errors import InputError


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
    return _between(name, value, least, math.inf, f"a finite number of at least {least:g}")


def positive(name: str, value: float) -> float:
    """Return a finite number above 0."""
    return _between(name, value, math.ulp(0), math.inf, "a finite number above 0")


def share(name: str, value: float) -> float:
    """Return a number from 0 to 1."""
    return _between(name, value, 0, 1, "a number from 0 to 1")


def _between(name: str, value: float, least: float, most: float, allowed: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    # Written so that NaN, for which every comparison is false, fails too.
    if not (least <= number <= most and math.isfinite(number)):
        raise InputError(f"{name} must be {allowed}, not {value!r}")
    return number

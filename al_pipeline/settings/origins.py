"""Where settings come from, and in which words that is told."""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic_core import ErrorDetails

from al_pipeline.core.errors import InputError
from al_pipeline.core.options import explained

# Every other variable AL_* is taken for a setting.
TEST_VARIABLES = ("AL_TEST_", "AL_REQUIRE_", "AL_FAULT")
USUAL_HOME = Path(".al")
# A setting, by its name or by those of its group and itself.
Name = tuple[str, ...]
# By name: in words where a value comes from, and the value.
Origins = Mapping[Name, tuple[str, Any]]


def origins_of(arguments: Mapping[str, Any]) -> Origins:
    """Return where each name that is given comes from, known or not; of several sources the one that counts.

    Parameters
    ----------
    arguments : mapping
        What the program itself says.

    Raises
    ------
    InputError
        A file cannot be read.
    """
    found = {name: ("said by the command", value) for name, value in flat(arguments)}
    for place, variables in (("the environment", os.environ), (".env", _dotenv())):
        for variable, value in variables.items():
            upper = variable.upper()
            if upper.startswith("AL_") and not upper.startswith(TEST_VARIABLES):
                name = tuple(upper.removeprefix("AL_").lower().split("__"))
                found.setdefault(name, (f"{upper} in {place}", value))
    _add(found, Path("al.toml").resolve())
    # Only now it is known which home that is.
    _add(found, kept_file(found.get(("home",), ("", None))[1]))
    return found


def _add(found: dict[Name, tuple[str, Any]], file: Path) -> None:
    for name, value in flat(read_toml(file)):
        found.setdefault(name, (str(file), value))


def kept_file(home: Path | str | None) -> Path:
    """Return the file in which a home, the usual one if None is given, keeps its settings."""
    return Path(home or USUAL_HOME).expanduser().resolve() / "settings.toml"


def read_toml(file: Path) -> dict[str, Any]:
    """Return what a TOML file holds, nothing if there is none.

    Raises
    ------
    InputError
        It cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{file} is not TOML: {error}. docs/settings.md shows what it may hold") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text ({error}): save it as that") from None
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None


def _dotenv() -> Mapping[str, str | None]:
    from dotenv import dotenv_values

    try:
        return dotenv_values(".env", encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{Path('.env').resolve()} is not UTF-8 text ({error}): save it as that") from None


def unknown(origins: Origins, declared: type[BaseModel]) -> Iterator[str]:
    """Yield a line about each name that is no setting: where it stands, and which one is nearest."""
    known = {".".join(name): name for name in _names(declared)}
    for name, (origin, _) in origins.items():
        dotted = ".".join(name)
        if dotted in known:
            continue
        # A slip within a group of several is nearest; in the wrong group, or in none, nearer than any other spelling.
        group = dotted.rpartition(".")[0]
        beside = [each for each in known if "." in group and each.rpartition(".")[0] == group]
        near = (
            difflib.get_close_matches(dotted, beside, 1)
            or [each for each in known if each.split(".")[-1] == name[-1]]
            or difflib.get_close_matches(dotted, known, 1)
        )
        meant = " or ".join(f"{each} ({variable_of(known[each])})" for each in near)
        yield f"  {dotted} ({origin}) is no setting: " + (
            f"did you mean {meant}?" if near else "docs/settings.md has all"
        )


def _names(declared: type[BaseModel]) -> Iterator[Name]:
    for name, field in declared.model_fields.items():
        yield (name,)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from ((name, *parts) for parts in _names(field.annotation))


def refused(problem: ErrorDetails, origins: Origins, declared: type[BaseModel]) -> str:
    """Return a line about a setting: its name, its origin, what is valid, its value unless that may be a secret."""
    name = tuple(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        # Behind it come the kinds of value that the setting may have.
        name = max((each for each in _names(declared) if each == name[: len(each)]), key=len, default=name)
    plain = problem["msg"].removeprefix("Value error, ")
    if not name:
        return f"  {plain}"
    origin = ", ".join(dict.fromkeys(told for each, (told, _) in origins.items() if each[: len(name)] == name))
    field = declared.model_fields.get(name[0])
    text = str(problem["input"])
    secret = field is None or SecretStr in get_args(field.annotation) or any(sign in text for sign in ("@", "//"))
    said = plain if secret else shorten(explained(problem, declared), 1000, placeholder=" …")
    return f"  {'.'.join(name)} ({origin or variable_of(name)}): {said}"


def variable_of(name: Name) -> str:
    """Return the variable of a setting: ``AL_ROUND__BATCH_SIZE``."""
    return f"AL_{'__'.join(name)}".upper()


def flat(values: Mapping[str, Any], group: Name = ()) -> Iterator[tuple[Name, Any]]:
    """Yield names and values of nested tables."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, (*group, name))
        else:
            yield (*group, name), value


def shown(value: Any) -> str:
    """Return a value as a sentence has it."""
    return shorten(repr(value), 300, placeholder=" …")

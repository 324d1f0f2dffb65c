"""Groups of options: each field is declared once, with its default, its limits and what it means.

From that one declaration come environment variables and files (`al_pipeline.settings`), Dagster's Launchpad
(`defs.resources`), the options of `al simulate`, docs/settings.md, and the arguments of Python code.
"""

from difflib import get_close_matches
from types import NoneType
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from al_pipeline.core.errors import InputError

# What stands for no limit where there is no null: in TOML and in environment variables.
NOTHING = {"", "all", "none", "null"}


class Options(BaseModel):
    """A group of options; once made it stays as it is.

    Raises
    ------
    InputError
        A value cannot be used; the message names the field, the value and what is valid.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise InputError("; ".join(explained(problem, type(self)) for problem in error.errors())) from None

    # pydantic then makes groups within settings without it, and knows the place of each problem in the whole.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        field = cls.model_fields[name]
        if isinstance(value, str) and value.lower() in NOTHING and may_be_null(field):
            return None
        if isinstance(value, bool) and {int, float} & set(_kinds(field)):
            raise ValueError(f"{name} must be {valid(field)}, not {value!r}")
        return value

    def but(self, **changes: Any) -> Self:
        """Return the group with some values changed."""
        return type(self)(**(dict(self) | changes))


def explained(problem: ErrorDetails, model: type[BaseModel]) -> str:
    """Return what is wrong with a value as a sentence: the field's name, what is valid, the value.

    Parameters
    ----------
    problem : ErrorDetails
        Of pydantic's error about `model`.
    model : type
        A group of options, or settings that hold such groups.
    """
    *groups, name = [str(part) for part in problem["loc"]] or [""]
    for group in groups:
        field = model.model_fields.get(group)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            # What follows are the kinds of value that the field may have.
            said = problem["msg"] if field is None else f"must be {valid(field)}"
            return f"{group}{':' * (field is None)} {said}, not {problem['input']!r}"
        model = field.annotation
    value, field = problem["input"], model.model_fields.get(name)
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])  # type: ignore[typeddict-item]
    if problem["type"] == "extra_forbidden":
        return f"there is no setting {name!r}{nearest(name, model.model_fields)}"
    if problem["type"] == "literal_error" and field is not None:
        return f"unknown {name} {value!r}; choose {valid(field)}"
    if problem["type"] == "string_pattern_mismatch" and field is not None and isinstance(value, str):
        form = " or ".join(map(str, field.examples or [problem["ctx"]["pattern"]]))  # type: ignore[typeddict-item]
        return f"{name} {value!r} is not of the form of {form}"
    if problem["type"] == "missing" or field is None:
        return f"{name}: {problem['msg']}"
    return f"{name} must be {valid(field)}, not {value!r}"


def nearest(name: str, names: Any) -> str:
    """Return a proposal of the name that was meant, as the end of a sentence."""
    found = get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else f"; there are {', '.join(names)}"


def valid(field: FieldInfo) -> str:
    """Return what a field takes, for example ``a whole number of at least 1``."""
    kinds = [kind for kind in _kinds(field) if kind is not NoneType]
    or_none = ", or none" if NoneType in _kinds(field) else ""
    words = [str(value) for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
    others = [kind for kind in kinds if get_origin(kind) is Annotated]
    if words and others:
        return f"{', '.join(words)} or {valid(FieldInfo.from_annotation(others[0]))}{or_none}"
    if words:
        return f"one of {', '.join(words)}{or_none}"
    if others:
        plain = FieldInfo.from_annotation(others[0])
        plain.examples = field.examples
        return f"{valid(plain)}{or_none}"
    if group := next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None):
        return f"a table of settings ({', '.join(group.model_fields)})"
    if bool in kinds:
        return "true or false"
    if not {int, float} & set(kinds):
        such = f", such as {' or '.join(map(str, field.examples))}" if field.examples else ""
        return f"{'a text' if str in kinds else 'of another kind'}{such}{or_none}"
    number = "a whole number" if int in kinds else "a number"
    bounds = ("ge", "gt", "le", "lt")
    limits = {name: getattr(part, name) for part in field.metadata for name in bounds if hasattr(part, name)}
    if "ge" in limits and "le" in limits:
        return f"{number} from {limits['ge']} to {limits['le']}{or_none}"
    told = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
    said = " and ".join(f"{told[name]} {limit}" for name, limit in limits.items())
    return f"{number} {said}{or_none}".replace(" and of ", " and ")


def may_be_null(field: FieldInfo) -> bool:
    """Say whether a field takes null, or a word for it."""
    return NoneType in _kinds(field)


def _kinds(field: FieldInfo) -> tuple[Any, ...]:
    """Return what a field's type is a union of."""
    kind = field.annotation
    return (kind,) if kind is None or get_origin(kind) is Literal or not get_args(kind) else get_args(kind)

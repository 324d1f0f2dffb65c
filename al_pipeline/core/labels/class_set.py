"""The classes that people choose from, and what every name that was ever a class means today."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from al_pipeline.core.errors import InputError


@dataclass(frozen=True)
class ClassSet:
    """A set of classes, with what the names of all earlier sets have become. Every change returns another one.

    Parameters
    ----------
    names : tuple of str
        Today's classes, in their order.
    meaning : mapping
        Name → the class that it is today, None where that cannot be said any more (it was removed, or split). Every
        name of today means itself.
    version : int
        Of how many sets before it this is the successor; 0 for the first, which nothing has changed.
    """

    names: tuple[str, ...]
    meaning: Mapping[str, str | None] = field(default_factory=dict)
    version: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "meaning", {**self.meaning, **{name: name for name in self.names}})

    def of(self, name: str | None) -> str | None:
        """Return the class that a name means today: itself if it never was a class, None if that cannot be said."""
        return self.meaning.get(name, name) if name is not None else None

    @property
    def renamed(self) -> dict[str, str]:
        """Former names, and the classes that they are today."""
        return {old: new for old, new in self.meaning.items() if new is not None and new != old}

    @property
    def retired(self) -> list[str]:
        """Former names that mean no class of today: whoever said so is asked again."""
        return sorted(old for old, new in self.meaning.items() if new is None)

    def add(self, name: str) -> "ClassSet":
        """Return the set with a further class, the last; one that was removed means the same again."""
        self._refuse_taken(name)
        return self._next((*self.names, name), {})

    def rename(self, old: str, new: str) -> "ClassSet":
        """Return the set with another name for a class; a former name of the same class can be had back."""
        self._refuse_unknown(old)
        if self.meaning.get(new) != old:
            self._refuse_taken(new)
        return self._next(tuple(new if name == old else name for name in self.names), {old: new})

    def merge(self, olds: Sequence[str], into: str) -> "ClassSet":
        """Return the set with one class, of these or new, in place of several."""
        self._refuse_unknown(*olds)
        if len(set(olds) | {into}) < 2:
            raise InputError(f"Merging {_list(olds)} into {into!r} changes nothing: name the classes to merge")
        if into not in self.names and self.meaning.get(into) not in olds:
            self._refuse_taken(into)
        where = into if into in self.names else olds[0]
        left = tuple(into if name == where else name for name in self.names if name == where or name not in olds)
        return self._next(left, dict.fromkeys(olds, into))

    def split(self, old: str, into: Sequence[str]) -> "ClassSet":
        """Return the set with several classes in place of one: nobody knows which of them its answers mean."""
        self._refuse_unknown(old)
        if len(set(into)) < 2 or len(set(into)) < len(into):
            raise InputError(f"{old!r} is split into at least two different classes, not {_list(into)}")
        if old in into:
            raise InputError(
                f"{old!r} cannot stay a class while it is split: its answers are asked again; name new classes, or add "
                f"one beside it (`al classes add`)"
            )
        for name in into:
            # What was merged into the class can be had back: its own answers still tell it.
            if name not in self.names and self.meaning.get(name) != old:
                self._refuse_taken(name)
        at = self.names.index(old)
        new = [name for name in into if name not in self.names]
        return self._next((*self.names[:at], *new, *self.names[at + 1 :]), {old: None})

    def remove(self, name: str) -> "ClassSet":
        """Return the set without a class; its answers name no class any more."""
        self._refuse_unknown(name)
        return self._next(tuple(each for each in self.names if each != name), {name: None})

    def _next(self, names: tuple[str, ...], becomes: Mapping[str, str | None]) -> "ClassSet":
        if len(names) < 2:
            raise InputError(f"Only {_list(names)} would be left: at least two classes are needed")
        meaning = {old: becomes.get(new, new) if new is not None else None for old, new in self.meaning.items()}
        return ClassSet(names, meaning, self.version + 1)

    def _refuse_unknown(self, *names: str) -> None:
        if unknown := [name for name in names if name not in self.names]:
            raise InputError(f"{_list(unknown)} is no class: the classes are {_list(self.names)} (`al classes list`)")

    def _refuse_taken(self, name: str) -> None:
        if name in self.names:
            raise InputError(f"{name!r} is a class already: the classes are {_list(self.names)}")
        if (now := self.meaning.get(name)) is not None:
            raise InputError(
                f"{name!r} was a class before and is {now!r} today: answers that say {name!r} mean that. Choose "
                "another name, or take that change back first (`al classes list` shows it)"
            )


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"

"""The classes that people choose from, and what every name that was ever a class means today."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.annotation import BUTTONS


@dataclass(frozen=True)
class ClassSet:
    """A set of classes, with what the names of all earlier sets have become. Every change returns another one.

    Parameters
    ----------
    names : tuple of str
        Today's classes, in their order.
    became : mapping
        Former name → what took its place, None where that cannot be said any more (it was removed, or split). That may
        have been replaced since: `of` follows. So a name that comes back brings back those that it had replaced.
    version : int
        Of how many sets before it this is the successor; 0 for the first, which nothing has changed.
    """

    names: tuple[str, ...]
    became: Mapping[str, str | None] = field(default_factory=dict)
    version: int = 0

    def of(self, name: str | None) -> str | None:
        """Return the class that a name means today: itself if it never was a class, None if that cannot be said."""
        while name is not None and name not in self.names and name in self.became:
            name = self.became[name]
        return name

    def knows(self, name: str) -> bool:
        """Say whether the name is a class, or was one."""
        return name in self.names or name in self.became

    @property
    def renamed(self) -> dict[str, str]:
        """Former names, and the classes that they are today."""
        found = {old: self.of(old) for old in self.became}
        return {old: new for old, new in found.items() if new is not None and new != old}

    @property
    def retired(self) -> list[str]:
        """Former names that mean no class of today: whoever said so is asked again."""
        return sorted(old for old in self.became if self.of(old) is None)

    def one_to_one(self, names: Iterable[str]) -> bool:
        """Say whether these, as a whole, ask the same question as today's classes: renamed perhaps, and no more."""
        return sorted(self.of(name) or "" for name in names) == sorted(self.names)

    def seen_by(self, earlier: "ClassSet") -> "ClassSet":
        """Return an earlier set that knows later names too, where each of them was one class then."""
        then: dict[str, str | None] = {}
        for name in (*self.names, *self.became):
            was = [old for old in earlier.names if self.of(old) == self.of(name)]
            then[name] = was[0] if len(was) == 1 and self.of(name) is not None else None
        return ClassSet(earlier.names, then | dict(earlier.became), earlier.version)

    def sums(self, probabilities: npt.NDArray[np.floating], names: Sequence[str]) -> dict[str | None, npt.NDArray]:
        """Return, per class of today, the probability that former classes give it together.

        Parameters
        ----------
        probabilities : ndarray, shape (n, K)
        names : sequence of str, length K
            What the columns were called; those that are no class any more are under None.

        Returns
        -------
        dict of ndarray, shape (n,)
        """
        found: dict[str | None, npt.NDArray] = {}
        for name, column in zip(names, probabilities.T, strict=True):
            found[self.of(name)] = found.get(self.of(name), 0) + column
        return found

    def replaced_by(self, names: Sequence[str]) -> "ClassSet":
        """Return a set of these classes; who named another one has named none of them."""
        gone = {name: None for name in self.names if name not in names}
        return self._next(tuple(names), gone)

    def add(self, *names: str) -> "ClassSet":
        """Return the set with further classes, the last; one that was removed means the same again."""
        self._refuse_taken(*names)
        return self._next((*self.names, *names), {})

    def rename(self, old: str, new: str) -> "ClassSet":
        """Return the set with another name for a class; a former name of the same class can be had back."""
        self._refuse_unknown(old)
        if old == new:
            raise InputError(f"{old!r} is called so already")
        if not self.knows(new) or self.of(new) != old:
            self._refuse_taken(new)
        return self._next(tuple(new if name == old else name for name in self.names), {old: new})

    def merge(self, olds: Sequence[str], into: str) -> "ClassSet":
        """Return the set with one class, of these or new, in place of several."""
        self._refuse_unknown(*olds)
        if len(set(olds) | {into}) < 2:
            raise InputError(f"Merging {_list(olds)} into {into!r} changes nothing: name the classes to merge")
        if into not in self.names and self.of(into) not in olds:
            self._refuse_taken(into)
        # The classes before them keep their keys.
        parts = {*olds, into}
        where = next(name for name in self.names if name in parts)
        left = tuple(into if name == where else name for name in self.names if name == where or name not in parts)
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
            if name not in self.names and self.of(name) != old:
                self._refuse_taken(name)
        at = self.names.index(old)
        new = [name for name in into if name not in self.names]
        return self._next((*self.names[:at], *new, *self.names[at + 1 :]), {old: None})

    def remove(self, name: str) -> "ClassSet":
        """Return the set without a class; its answers name no class any more."""
        self._refuse_unknown(name)
        return self._next(tuple(each for each in self.names if each != name), {name: None})

    def _next(self, names: tuple[str, ...], became: Mapping[str, str | None]) -> "ClassSet":
        if len(names) < 2:
            raise InputError(f"Only {_list(names)} would be left: at least two classes are needed")
        left = {old: new for old, new in {**self.became, **became}.items() if old not in names}
        return ClassSet(names, left, self.version + 1)

    def _refuse_unknown(self, *names: str) -> None:
        if unknown := [name for name in names if name not in self.names]:
            now = "".join(f"; {name!r} is {self.of(name)!r} today" for name in unknown if self.renamed.get(name))
            raise InputError(
                f"{_list(unknown)} is no class: the classes are {_list(self.names)} (`al classes list`){now}"
            )

    def _refuse_taken(self, *names: str) -> None:
        for name in names:
            if not name.strip() or name in BUTTONS:
                raise InputError(f"{name!r} can be no class: choose a name that says what is seen")
            if name in self.names or names.count(name) > 1:
                raise InputError(f"{name!r} is a class already: the classes are {_list(self.names)}")
            if self.knows(name) and (now := self.of(name)) is not None:
                raise InputError(
                    f"{name!r} was a class before and is {now!r} today: answers that say {name!r} mean that. Choose "
                    "another name, or take that change back first (`al classes list` shows it)"
                )


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"

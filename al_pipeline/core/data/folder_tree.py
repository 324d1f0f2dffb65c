"""What the folders of images stand for: splits, classes, data sets, masks; and what of it only a person can tell."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from al_pipeline.core.data.folder_names import (
    PLACES,
    counted,
    folded,
    is_container,
    is_mask,
    is_unlabeled,
    kind,
    looks_like,
    misspelt,
    normal,
    quoted,
    split_name,
)

MASK = "masks or annotations, beside the images they are of"
UNLABELED_TEST = "unlabeled test image: in no class folder of the test folder"
# Where the same folders lie in each of some others, they may be the classes of several sources. Two may be two views.
_SHARED = 3

Folder = tuple[str, ...]


@dataclass(frozen=True)
class Names:
    """Which names of folders are classes: `known`, and all others too unless `closed`."""

    known: frozenset[str]
    closed: bool

    def __contains__(self, name: str) -> bool:
        return normal(name) in self.known


class Place(NamedTuple):
    """What a folder stands for: under which one the classes lie, and what is below that."""

    split: str
    level: Folder
    below: Folder
    label: str | None


class Layout:
    """The folders that hold images, and what they stand for."""

    def __init__(self, names: Names, folders: Mapping[Folder, int]) -> None:
        self._names = names
        self._beside = _children(folders)
        self._direct = {folder: count for folder, count in folders.items() if self.mask(folder) is None}
        self._children = _children(self._direct)
        self._base = self._wrapper()
        inner = [top for name in self._children.get(self._base, ()) if self._is_data_set(top := (*self._base, name))]
        self._splits = {level: self._splits_of(level) for level in (self._base, *inner)}
        self._places = {folder: self._place(folder) for folder in self._direct}
        self._has_pool = any(place.split == "pool" for place in self._places.values())

    def mask(self, folder: Folder) -> Folder | None:
        """Return the folder of masks that one is or lies in, None if in none."""
        for depth, part in enumerate(folder):
            if is_mask(part) and part not in self._names:
                beside = self._beside.get(folder[:depth], set())
                if any((split_name(name) or is_container(name)) and name not in self._names for name in beside):
                    return folder[: depth + 1]
        return None

    def place(self, folder: Folder) -> Place | tuple[str, Folder]:
        """Return what a folder stands for; or why it is left out, and which folder that is due to."""
        if (mask := self.mask(folder)) is not None:
            return MASK, mask
        place = self._places.get(folder) or self._place(folder)
        if place.split == "holdout" and place.label is None:
            # Where a test folder is all there is, it holds what people are to label.
            return (UNLABELED_TEST, folder) if self._has_pool else place._replace(split="pool")
        return place

    def _wrapper(self) -> Folder:
        """Return the folder that holds all others and says nothing: of an archive, or ``images``."""
        base: Folder = ()
        wrapper: Folder = ()
        while not self._direct.get(base) and len(children := self._children.get(base, set())) == 1:
            (name,) = children
            if name in self._names or split_name(name) or kind(name):
                break
            base = (*base, name)
            branches = not self._direct.get(base) and (
                len(self._children[base]) > 1 or any(map(split_name, self._children[base]))
            )
            if branches or is_container(name):
                wrapper = base
        return wrapper

    def _is_data_set(self, folder: Folder) -> bool:
        """Say whether a folder holds nothing but splits with folders in them: one of several data sets."""
        children = self._children.get(folder, set())
        plain = not self._direct.get(folder) and folder[-1] not in self._names and not split_name(folder[-1])
        return plain and all(map(split_name, children)) and any(self._children.get((*folder, c)) for c in children)

    def _splits_of(self, level: Folder) -> dict[str, str]:
        """Return the split of each folder that stands for one, and not for a class."""
        children = self._children.get(level, set())
        named = {name: split for name in children if (split := split_name(name)) and name not in self._names}
        if self._names.closed or len(named) == len(children) or {"pool", "holdout"} <= set(named.values()):
            return named
        # A train may be what is seen in the images, beside bus and car.
        return {
            name: split
            for name, split in named.items()
            if split == "holdout" or is_unlabeled(name) or not self._direct.get((*level, name))
        }

    def _place(self, folder: Folder) -> Place:
        level, below, split = self._base, folder[len(self._base) :], "pool"
        if below and (*level, below[0]) in self._splits:
            level, below = (*level, below[0]), below[1:]
        if below and below[0] in self._splits[level]:
            split = self._splits[level][below[0]]
            level, below = (*level, below[0]), below[1:]
        while below and self._says_nothing(level, below[0]):
            level, below = (*level, below[0]), below[1:]
        return Place(split, level, below, self._label(level, below))

    def _says_nothing(self, level: Folder, name: str) -> bool:
        """Say whether a folder is the only one: ``train/images/…``, ``train/train/…``."""
        again = bool(level) and folded(level[-1]) == folded(name)
        only = len(self._children.get(level, ())) == 1 and not self._direct.get(level)
        return only and (again or is_container(name)) and name not in self._names

    def _label(self, level: Folder, below: Folder) -> str | None:
        unlabeled = [name for name in (*level[-1:], *below[:1]) if is_unlabeled(name) and name not in self._names]
        if unlabeled or not below:
            return None
        if not self._names.closed and below[0] in self._names:
            return normal(below[0])
        named = [name for name in below if name in self._names]
        return normal(named[-1]) if named else None if self._names.closed else normal(below[0])

    def question(self) -> str | None:
        """Return what only a person can tell: whether folders are classes, where they do not look like ones."""
        levels: dict[str, set[Folder]] = defaultdict(set)
        for place in self._places.values():
            if place.label is not None:
                levels[place.label].add(place.level)
        new = sorted(name for name in levels if name not in self._names)
        if self._names.closed or not new:
            return None
        by_word: dict[str, set[str]] = defaultdict(set)
        for name in {*levels, *self._names.known}:
            by_word[folded(name)].add(name)
        if twice := sorted(name for name in new if len(by_word[folded(name)]) > 1):
            alike = sorted(by_word[folded(twice[0])])
            return (
                f"The class folders {quoted(alike)} differ by case alone, and are one folder on machines that ignore "
                f"case. If they are one class, give them one name; if not, name all classes: {_setting(levels)}"
            )
        # Places, dates and patients are seldom the same in train and test.
        if 2 * sum(len(found) > 1 for found in levels.values()) < len(levels) and (
            what := looks_like(new, {*levels, *self._names.known})
        ):
            together = "; AL_GROUP=folder then tests with none that has images in training" * (PLACES in what)
            return (
                f"The folder{'s' * (len(new) > 1)} {quoted(new)} look{'s' * (len(new) == 1)} like {what}, not like "
                "classes. What are the classes? Name them, and folders of other names are just folders: "
                f"AL_CLASSES=muffin,chihuahua (or `classes` in al.toml){together}. If these are the classes: "
                f"{_setting(levels)}"
            )
        if shared := self._shared(new):
            return (
                f"Each of the folders {quoted(new)} holds the folders {quoted(shared)}. Which are the classes? Name "
                f"them (or `classes` in al.toml): {_setting(shared)}, or {_setting(levels)}"
            )
        return None

    def _shared(self, tops: Collection[str]) -> list[str]:
        """Return the folders that lie in nearly each of some top folders, if they may be the classes."""
        below: dict[str, set[str]] = {name: set() for name in tops}
        for place in self._places.values():
            if place.label in below:
                below[place.label].update(place.below[1:2])
        shared = set.intersection(*below.values())
        most = all(len(shared) >= 0.8 * len(each) for each in below.values())
        if len(tops) < 2 or len(shared) < _SHARED or len(shared) <= len(tops) or not most or looks_like(shared):
            return []
        return sorted(map(normal, shared))

    def remarks(self) -> Iterator[str]:
        """Yield what may be meant otherwise, in sentences."""
        # Images that AL_CLASSES gives no label, by the topmost of their folders, and by each.
        unlabeled, images = Counter[str](), Counter[str]()
        for folder, place in self._places.items():
            if self._names.closed and place.label is None and place.below and not is_unlabeled(place.below[0]):
                unlabeled[place.below[0]] += self._direct[folder]
                images.update(dict.fromkeys({*place.below}, self._direct[folder]))
        # Who misspells more names than these will see it by the first.
        names = sorted(images, key=lambda name: (-images[name], name))[:1000]
        typos = misspelt(names, self._names.known)
        for name, near in typos.items():
            yield (
                f"{counted(images[name], 'image file')} in the folder {quoted([name])} have no label, because "
                f"AL_CLASSES does not name it. If {near!r} is meant, rename the folder or mend AL_CLASSES"
            )
        if others := [name for name in unlabeled if name not in typos]:
            number = sum(unlabeled[name] for name in others)
            yield (
                f"{counted(number, 'image file')} in folders that AL_CLASSES does not name have no label: "
                f"{quoted(sorted(others))}"
            )
        if (below := self._below_tops()) and self.question() is None:
            tops = {place.label for place in self._places.values() if place.label}
            yield (
                f"The {counted(len(tops), 'class folder')} {quoted(sorted(tops))} hold {counted(len(below), 'folder')} "
                "and no image of their own. If those are the classes, name them (or `classes` in al.toml): "
                f"{_setting(below)}"
            )
        yield from self._tested_alone()
        tested = [place.label for place in self._places.values() if place.split == "holdout"]
        if None in tested and not self._has_pool:
            yield "All images that have no label lie in a test folder: they are the pool, because there is none"
        elif set(tested) == {None}:
            yield "No image of the test folder has a class, so that a holdout is drawn from the others"

    def _below_tops(self) -> list[str]:
        """Return the folders below those taken for classes, if they may be the classes: species of families."""
        tops, below = set[str](), set[str]()
        for folder, place in self._places.items():
            if place.label is None or place.label in self._names or self._names.closed:
                continue
            if len(place.below) < 2 or self._direct.get((*place.level, place.below[0])):
                return []
            tops.add(place.label)
            below.add(normal(folder[-1]))
        return [] if len(below) < len(tops) or len(tops) < 2 or looks_like(below) else sorted(below)

    def _tested_alone(self) -> Iterator[str]:
        labels: dict[str, set[str]] = {"pool": set(), "holdout": set()}
        for place in self._places.values():
            labels[place.split] |= {place.label} if place.label else set()
        if labels["pool"] and (alone := sorted(labels["holdout"] - labels["pool"])):
            which, them = (
                (f"classes {quoted(alone)} have", "them") if len(alone) > 1 else (f"class {alone[0]!r} has", "it")
            )
            yield (
                f"The {which} folders among the test images alone: no image to learn from is known to be of {them}, "
                f"and test numbers count {them} all the same"
            )


def _children(folders: Iterable[Folder]) -> dict[Folder, set[str]]:
    found: dict[Folder, set[str]] = defaultdict(set)
    for folder in folders:
        for depth, part in enumerate(folder):
            found[folder[:depth]].add(part)
    return dict(found)


def _setting(names: Iterable[str]) -> str:
    found = sorted(names)
    return "AL_CLASSES=" + ",".join(found[:10]) + (f",… (all {len(found)})" if len(found) > 10 else "")

"""What the name of a folder tells: a split, no picture of the pool, a place or a date, a class that is misspelt."""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable

POOL_FOLDERS = frozenset(
    {"pool", "train", "training", "train1", "train_images", "training_set", "train_set", "seg_train"}
    | {"unlabeled", "unlabelled", "val", "valid", "validation"}
)
HOLDOUT_FOLDERS = frozenset({"holdout", "test", "testing", "test1", "test_images", "test_set", "seg_test"})
UNLABELED_FOLDERS = frozenset({"unlabeled", "unlabelled"})
# Of file systems, network storage (Synology, QNAP), archives and viewers. Hidden folders are left out by their dot.
SYSTEM_FOLDERS = frozenset(
    {"@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "__macosx", "$recycle.bin"}
    | {"recycler", "system volume information", "lost+found", "lost.dir", "found.000", "network trash folder"}
    | {"temporary items", "thumbs", "__pycache__"}
)
# What holds all images of a data set, and says nothing of them. Masks are left out beside such a folder.
CONTAINERS = frozenset(
    {"images", "image", "imgs", "img", "jpegimages", "photos", "pictures", "pics", "rgb", "data", "dataset"}
)
MASKS = re.compile(
    r"ground[ _-]?truths?|(seg(mentation)?[ _-]?)?masks?|annotations?|annots?|labels?|trimaps?|segmentations?"
    r"|segmentation(class|object)\w*"
)
# Numbers of things that are no classes, and what numbers classes: grade 3 is one, patient 3 is none.
_THINGS = (
    r"site|station|plot|loc|location|camera|cam|patient|pat|subject|subj|sub|case|study|session|ses|visit|scene|seq|"
    r"sequence|clip|video|batch|part|day|week|hospital|slide|burst|event|deployment|roll|card|flight|transect|img|dsc|"
    r"folder|box|tray|field|animal|person|participant|specimen|device"
)
_CLASSES = r"class|label|cat|category|species|grade|type|group|stage|level|score|cluster"
# What has several images that belong together.
PLACES = "sites, cameras or patients"
_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_YEAR = r"(19|20)\d\d"
# Each with the word for what such folders are.
_PATTERNS = tuple(
    (re.compile(pattern, re.IGNORECASE), what)
    for pattern, what in (
        (rf"{_YEAR}([-_. ]?(0[1-9]|1[0-2])([-_. ]?[0-3]\d)?)?([-_ T].*)?", "dates"),
        (rf"[0-3]?\d[-_. ](0?[1-9]|1[0-2])[-_. ]{_YEAR}", "dates"),
        (rf"(photos from {_YEAR}|(\d\d[-_. ]*)?({_MONTHS})([-_ ]+{_YEAR})?)", "dates"),
        # DCF: three digits and five free characters, as 100CANON.
        (r"dcim|[1-9]\d\d(?=[a-z0-9_]*[a-z_])[a-z0-9_]{5}|camera([ _]?(roll|uploads))?|screenshots", "cameras"),
        (rf"({_THINGS})s?[ _-]*[a-z]?\d+\w*", PLACES),
        # Grids of camera traps (B04), collections of medicine (LIDC-IDRI-0001), serial numbers.
        (rf"[a-z]\d\d|(?!({_CLASSES})[-_])[a-z]+([-_][a-z]+)*[-_]\d{{3,}}|[a-z]{{1,3}}\d{{3,5}}", PLACES),
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=.*\d)[0-9a-f]{16,}|\d+(\.\d+){3,}", "ids"),
    )
)


_BEGINNING = re.compile(r"([^\W\d_](?:[^\W\d]|[ -])*?)[ ._-]*\d+[\w-]*\.\w+$")
# More are names of things, not of classes; and these are what cameras and people call any picture.
_MOST_BEGINNINGS = 200
_ANY_PICTURE = frozenset(
    {
        "img",
        "dsc",
        "dscf",
        "dscn",
        "dscpdc",
        "pxl",
        "p",
        "pict",
        "picture",
        "photo",
        "image",
        "vid",
        "mvi",
        "mvimg",
        "gopr",
    }
    | {"dji", "screenshot", "scan", "frame", "sample", "untitled", "file", "pic", "imag", "cam", "kimg", "page"}
)


def normal(name: str) -> str:
    """Return a class name as it is stored: in Unicode's NFC, without blanks around it."""
    # macOS hands out names in NFD: the same folder must give the same class on every machine.
    return unicodedata.normalize("NFC", name).strip()


def folded(name: str) -> str:
    """Return what is the same for all names of one folder on file systems that ignore case."""
    return unicodedata.normalize("NFC", normal(name).casefold())


def split_name(name: str) -> str | None:
    """Return the split that a folder's name stands for, None if for none."""
    # Data sets add the year, or that it is a small part: train2017, train_mini.
    word = re.sub(r"^(train|val|valid|test)_?(20\d\d|mini|small|tiny)$", r"\1", folded(name).replace("-", "_"))
    return "pool" if word in POOL_FOLDERS else "holdout" if word in HOLDOUT_FOLDERS else None


def is_unlabeled(name: str) -> bool:
    """Say whether a folder's name says that what lies in it has no label."""
    return folded(name) in UNLABELED_FOLDERS


def is_system(name: str) -> bool:
    """Say whether a folder is a file system's, network storage's or a viewer's own."""
    return folded(name) in SYSTEM_FOLDERS


def is_container(name: str) -> bool:
    """Say whether a folder's name is one for all images of a data set."""
    return folded(name) in CONTAINERS


def is_mask(name: str) -> bool:
    """Say whether a folder's name is one for masks or annotations."""
    return MASKS.fullmatch(folded(name)) is not None


def kind(name: str) -> str | None:
    """Return what a folder's name looks like other than a class (dates, cameras, ids …), in a word; None if nothing."""
    return next((what for pattern, what in _PATTERNS if pattern.fullmatch(name)), None)


def looks_like(names: Collection[str], among: Collection[str] = ()) -> str | None:
    """Return what most of the names look like other than classes, in words, None if they may well be classes.

    Numbers are classes if they are counted from 0 or 1, together with those `among` which they are, or have one digit;
    so are WordNet's ids (n01440764).
    """
    found = [each for name in names if (each := kind(name)) is not None]
    numbers = [name for name in names if _is_number(name)]
    if numbers and not _are_counted({*numbers, *filter(_is_number, among)}):
        found += ["numbers"] * len(numbers)
    if 2 * len(found) <= len(names):
        return None
    return " and ".join(sorted(set(found), key=lambda what: (-found.count(what), what))[:2])


def _is_number(name: str) -> bool:
    return name.isdecimal() and kind(name) is None


def _are_counted(numbers: Collection[str]) -> bool:
    if all(len(number) == 1 for number in numbers):
        return True
    values = {int(number) for number in numbers}
    return len(values) == len(numbers) and min(values) in {0, 1} and max(values) - min(values) == len(values) - 1


def misspelt(names: Iterable[str], classes: Iterable[str]) -> dict[str, str]:
    """Return, of the names of folders, those that nearly are classes, with the class.

    Names whose digits differ are of different things, however alike: ``n01440764`` and ``n01440765``.
    """
    by_digits: dict[str, dict[str, str]] = {}
    for each in classes:
        by_digits.setdefault(_digits(each), {})[folded(each)] = each
    found: dict[str, str] = {}
    for name in names:
        words = by_digits.get(_digits(name), {})
        if near := difflib.get_close_matches(folded(name), words, n=1, cutoff=0.75):
            found[name] = words[near[0]]
    return found


def _digits(name: str) -> str:
    return re.sub(r"\D", "", name)


def begin_with(names: Iterable[str]) -> list[str]:
    """Return the words that files' names begin with, if they may be classes: ``cat.0.jpg``, ``beagle_12.jpg``.

    Nearly every name has one before its number, and they are few, of several files each; else none are returned.
    """
    words = Counter(match[1] if (match := _BEGINNING.match(normal(name))) else "" for name in names)
    files = words.total()
    for word in [each for each in words if len(each) < 2 or folded(each) in _ANY_PICTURE or kind(f"{each}1")]:
        del words[word]
    few = 2 <= len(words) <= _MOST_BEGINNINGS and min(words.values()) > 1
    return sorted(words) if few and words.total() >= 0.9 * files and not looks_like(words) else []


def quoted(names: Collection[str]) -> str:
    """Return some names for a sentence: the first, and how many more there are."""
    # A name that is not UTF-8 could not be printed.
    first = [repr(name).encode(errors="backslashreplace").decode() for name in list(names)[:5]]
    return ", ".join(first) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def counted(number: int, what: str) -> str:
    """Return how many there are for a sentence."""
    return f"{number:,} {what}{'s' * (number != 1)}"

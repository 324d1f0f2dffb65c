"""How a folder of images is laid out: which files are the pool's, the holdout's or left out, and of which class.

Everything here is told by the paths alone, and is the same for any order of them and on every machine.
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from al_pipeline.core.data.folder_names import counted, is_system, normal, quoted
from al_pipeline.core.data.folder_tree import Folder, Layout, Names, Place
from al_pipeline.core.data.kinds import INSTALL_RAW, RAW_SUFFIXES, SUFFIXES
from al_pipeline.core.data.object_store import Entry
from al_pipeline.core.data.places import Root
from al_pipeline.core.errors import InputError

# What may hold pictures and is not read; what it is, and what to do.
_OTHERS = (
    (RAW_SUFFIXES, "camera RAW", f"{INSTALL_RAW} reads them; or export them as JPEG"),
    (
        frozenset(
            {".psd", ".svg", ".ico", ".xcf", ".dds", ".djvu", ".qoi", ".ppm", ".pgm", ".pbm", ".pnm", ".wdp", ".jxr"}
        ),
        "pictures of a kind that is not read",
        "export them as PNG or JPEG",
    ),
    (
        frozenset({".exr", ".hdr", ".fits", ".fit", ".fts"}),
        "pictures without an agreed white",
        "export them as PNG, stretched as people shall see them",
    ),
    (
        frozenset({".nii", ".nrrd", ".mha", ".npy", ".npz", ".h5", ".hdf5", ".mat"}),
        "volumes or arrays",
        "save their slices or images as PNG",
    ),
    (
        frozenset({".pdf", ".ps", ".eps", ".doc", ".docx", ".ppt", ".pptx", ".odt"}),
        "documents",
        "export their pages or pictures as PNG (`pdftoppm -png`)",
    ),
    (
        frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".3gp", ".mts"}),
        "videos",
        "take their frames out as PNG (`ffmpeg -i FILE frame%05d.png`)",
    ),
    (
        frozenset({".zip", ".tar", ".tgz", ".gz", ".7z", ".rar", ".bz2", ".xz"}),
        "archives",
        "unpack them if they hold images",
    ),
)
# What lies beside pictures and is none, whatever it is for.
_SIDECARS = frozenset(
    {".xmp", ".json", ".jsonl", ".aae", ".txt", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".md", ".html", ".htm", ".db"}
    | {".ini", ".log", ".py", ".ipynb", ".parquet", ".thm", ".xls", ".xlsx", ".toml", ".mp3", ".wav", ".m4a", ".lnk"}
)
_TOLD = _SIDECARS.union(*(suffixes for suffixes, _, _ in _OTHERS))
# Files that may be pictures under another name: so many are looked at.
MOST_UNKNOWN = 300
# Why images are left out. Folders of the first three are not looked into.
SYSTEM = "folder of the system or of network storage"
HIDDEN_FOLDER = "hidden folder"
LOOP = "link to a folder that is read already"
HIDDEN = "hidden file"
BESIDE = "camera RAW beside a picture of the same name, which is taken"
APPLE_DOUBLE = "what macOS keeps beside a file (._name), no image"


class Found(NamedTuple):
    """A file with an image's suffix that is of the pool or the holdout, or what is to be set aside.

    Attributes
    ----------
    path : str
        Relative to the folder of images, with ``/`` between the parts.
    split : str
        pool or holdout.
    label : str or None
    problem : str or None
        Why it cannot be read, if that is known already; then it may be a folder.
    """

    path: str
    split: str
    label: str | None
    problem: str | None = None


@dataclass(frozen=True)
class Listing:
    """What a folder of images holds. Every file is in one of the first three.

    Attributes
    ----------
    files : list of Found
        In the order of their paths' parts.
    left_out : dict of str to Counter
        Reason → folder (``.`` for the top one) → number of image files left out there; 0 for a folder that was not
        looked into.
    sidecars : Counter
        Lower-case suffix, or the name of a hidden file or of one without a suffix → number of files that are no
        images.
    remarks : list of str
        What may be meant otherwise, in sentences.
    unknown : list of str
        The first files, at most `MOST_UNKNOWN`, of whose kind the name tells nothing.
    question : str or None
        What only a person can tell, with the remedies; until then no class should be made of the folders.
    objects : mapping, optional
        Of a bucket what it tells of each object, by the path.
    """

    files: list[Found]
    left_out: dict[str, Counter[str]]
    sidecars: Counter[str]
    remarks: list[str]
    question: str | None = None
    unknown: list[str] = field(default_factory=list)
    objects: Mapping[str, Entry] | None = None

    def settle(self, root: Root) -> None:
        """Raise InputError if there is a question, with its remedies."""
        if self.question is not None:
            raise InputError(f"{root} (AL_IMAGES): {self.question}")

    def sentences(self) -> Iterator[str]:
        """Yield what was left out, a sentence per reason, and the remarks."""
        for reason, places in self.left_out.items():
            unread = [place for place, files in places.items() if not files]
            if unread:
                yield f"{counted(len(unread), 'folder')} not looked into ({reason}): {quoted(sorted(unread))}"
            if len(unread) < len(places):
                where = quoted(sorted(place for place, files in places.items() if files))
                yield f"{counted(places.total(), 'image')} left out ({reason}), in {where}"
        yield from self.remarks


def arrange(
    paths: Iterable[str],
    *,
    problems: Mapping[str, str] | None = None,
    classes: Collection[str] | None = None,
    known: Collection[str] = (),
) -> Listing:
    """Tell from paths alone which images there are, of which split and class, and what is left out.

    With `classes` the label of an image is the folder that names one of them, the deepest if several do, and all other
    folders are just folders. Without, it is the topmost folder, below a split's. A folder that holds all the others,
    as the one of an archive or ``images``, counts for nothing, and ``unlabeled`` never is a class.

    Parameters
    ----------
    paths : iterable of str
        Relative to the folder of images, with ``/`` between the parts and, for a folder that is not to be looked into,
        at the end.
    problems : mapping, optional
        Path → why it cannot be read. It is placed as the others are, and tells nothing of the layout.
    classes : collection of str, optional
        The names of the setting AL_CLASSES; none are as if it were not set.
    known : collection of str
        Names that are or were classes of this loop, whatever AL_CLASSES says.
    """
    names = Names(frozenset(map(normal, [*(classes or ()), *known])), bool(classes))
    left_out: dict[str, Counter[str]] = defaultdict(Counter)
    sidecars: Counter[str] = Counter()
    unknown: list[str] = []
    images: dict[str, list[str]] = defaultdict(list)
    unread: dict[str, tuple[str, str] | None] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        if folder not in unread:
            unread[folder] = _unread(folder, names)
        if (why := unread[folder]) is not None:
            left_out[why[0]][why[1]] += is_image(name)
        elif not name:
            left_out[LOOP][folder] += 0
        elif not is_image(name):
            sidecars[suffix := _suffix(name)] += 1
            if not name.startswith(".") and suffix not in _TOLD:
                unknown.append(path)
        elif name.startswith("."):
            left_out[APPLE_DOUBLE if name.startswith("._") else HIDDEN][folder or "."] += 1
        else:
            images[folder].append(name)
    for folder, there in images.items():
        if beside := _beside_pictures(there):
            left_out[BESIDE][folder or "."] += len(beside)
            images[folder] = [name for name in there if name not in beside]
    sizes: Counter[Folder] = Counter()
    for folder, names_of_images in images.items():
        sizes[_parts(folder)] += len(names_of_images)
    layout = Layout(names, sizes)
    found: list[Found] = []
    held: list[tuple[str, list[tuple[str, str | None]]]] = [
        (folder, [(name, None) for name in there]) for folder, there in images.items()
    ]
    for path, problem in (problems or {}).items():
        folder, _, name = path.rpartition("/")
        held.append((folder, [(name, problem)]))
    for folder, there in held:
        place = layout.place(_parts(folder))
        if isinstance(place, Place):
            start = f"{folder}/" if folder else ""
            found += [Found(start + name, place.split, place.label, problem) for name, problem in there]
        else:
            left_out[place[0]]["/".join(place[1]) or "."] += len(there)
    # As by their parts, which would be a million lists: no name holds a NUL.
    found.sort(key=lambda each: each.path.replace("/", "\0"))
    ordered = {reason: Counter(dict(sorted(places.items()))) for reason, places in sorted(left_out.items())}
    remarks = [*layout.remarks(), *_unread_kinds(sidecars)]
    return Listing(
        found,
        ordered,
        Counter(dict(sorted(sidecars.items()))),
        remarks,
        layout.question(),
        sorted(unknown)[:MOST_UNKNOWN],
    )


def is_image(name: str) -> bool:
    """Say whether a file has the suffix of an image."""
    return "." in name and name[name.rindex(".") :].lower() in SUFFIXES


def _beside_pictures(names: Collection[str]) -> set[str]:
    """Return the camera RAW files of a folder beside which another picture has their name."""
    stems = {name: name[: name.rindex(".")].lower() for name in names if _suffix(name) in RAW_SUFFIXES}
    if not stems:
        return set()
    pictures = {name[: name.rindex(".")].lower() for name in names if name not in stems}
    return {name for name, stem in stems.items() if stem in pictures}


def _suffix(name: str) -> str:
    return name[name.rindex(".") :].lower() if "." in name[1:] else name


def is_unread(name: str, classes: Collection[str] = ()) -> bool:
    """Say whether a folder is not looked into because of its name: a hidden one, or the system's and no class."""
    return name.startswith(".") or (is_system(name) and normal(name) not in map(normal, classes))


def _unread(folder: str, names: Names) -> tuple[str, str] | None:
    """Return why a folder is not looked into, and which folder of its path that is due to."""
    parts = folder.split("/")
    for depth, part in enumerate(parts, 1):
        if is_unread(part, names.known):
            return HIDDEN_FOLDER if part.startswith(".") else SYSTEM, "/".join(parts[:depth])
    return None


def _unread_kinds(sidecars: Mapping[str, int]) -> Iterator[str]:
    for suffixes, what, remedy in _OTHERS:
        if there := sorted(suffixes & sidecars.keys()):
            number = counted(sum(sidecars[each] for each in there), "file")
            yield f"Not read: {number} ({', '.join(there)}), {what}: {remedy}"
    # The index of a CD of a hospital, whose files have no suffix.
    if "DICOMDIR" in sidecars:
        yield "There is a DICOMDIR: of a DICOM series files named *.dcm are read alone; rename those without a suffix"


def _parts(folder: str) -> Folder:
    # Two folders whose names differ in how accents are composed alone are one folder on other machines.
    return tuple(unicodedata.normalize("NFC", folder).split("/")) if folder else ()

"""What the classes are: declared by folders or AL_CLASSES, kept with their history in the ledger, shown by the project.

The ledger decides. What is declared is checked against it before anything is stored, and the project is brought up to
it. Whoever meets an old name, in a folder, a setting or an annotation, takes it for what it means today.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from al_pipeline.core.data.pool import class_names
from al_pipeline.core.errors import ALError, InputError
from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.loop.copies import Copies
from al_pipeline.loop.framing import framing_of_home
from al_pipeline.loop.how_read import how_of_home

if TYPE_CHECKING:
    from al_pipeline.labelstudio.config import Interface
    from al_pipeline.labelstudio.identity import Project
    from al_pipeline.ledger import Ledger
    from al_pipeline.loop.deployment import Deployment
    from al_pipeline.settings import Settings

# Where an event of the history keeps what folders or AL_CLASSES said when it was made.
DECLARED = "declared"


@dataclass(frozen=True)
class Change:
    """What one action makes of the class set; not stored yet."""

    action: str
    arguments: dict[str, Any]
    made: ClassSet


def classes_of(deployment: "Deployment", manifest: pd.DataFrame) -> ClassSet:
    """Return today's classes; a ledger without any adopts those that are declared."""
    return deployment.ledger.class_set() or declare(deployment.ledger, manifest, deployment.settings)


def classes_of_round(deployment: "Deployment", manifest: pd.DataFrame, key: str) -> ClassSet:
    """Return the classes that a round's labels are of, once frozen; they know later names where those were one class.

    So a round that is run again learns what it learned before.
    """
    ledger, today = deployment.ledger, classes_of(deployment, manifest)
    if not ledger.has_snapshot(key):
        return today
    # Labels that were frozen before classes were stored are of the first that were.
    version = ledger.frozen_classes(key) or 0
    return today if version == today.version else today.seen_by(ledger.class_changes()[version].made)


def translated(names: pd.Series, classes: ClassSet) -> pd.Series:
    """Return a column of class names as today's, None where a name is no class any more."""
    today = {name: classes.of(name) for name in names.dropna().unique()}
    return names.map(today).astype(object).where(lambda found: found.notna(), None)


def declare(ledger: "Ledger", manifest: pd.DataFrame, settings: "Settings") -> ClassSet:
    """Bring the class set up to what folders or AL_CLASSES declare, and return it.

    Raises
    ------
    InputError
        As of `declaration`; nothing is stored then.
    """
    change = declaration(ledger, manifest, settings)
    if change is not None:
        ledger.change_classes(change.action, change.arguments, change.made)
    found = change.made if change is not None else ledger.class_set()
    assert found is not None
    return found


def declaration(ledger: "Ledger", manifest: pd.DataFrame, settings: "Settings") -> Change | None:
    """Return what the classes that are declared make of the class set, None if nothing; it stores nothing.

    New names are classes to add. While nobody has answered, whatever is declared is the set. After that a name that
    went away may be a class under another name, which only a person can tell.

    Raises
    ------
    InputError
        The names cannot be used, or look like a rename, or AL_CLASSES lacks one that has been answered with.
    """
    known, said = ledger.class_set(), ledger.said()
    given = class_names(manifest, settings.classes, settings.images, adopted=known is not None)
    origin = "AL_CLASSES" if settings.classes else f"The class folders in {settings.images}"
    if known is None:
        return _first(ledger, given, origin, explicit=bool(settings.classes))
    before = next(each.arguments[DECLARED] for each in reversed(ledger.class_changes()) if DECLARED in each.arguments)
    if not said:
        if len(given) < 2:
            # Folders may be missing once people have answered.
            class_names(manifest, settings.classes, settings.images)
        return _replacement(known, given, before)
    new = [name for name in given if not known.knows(name) or (known.of(name) is None and name not in before)]
    meant = {known.of(name) for name in given} | {None}
    lost = [name for name in before if known.of(name) not in meant]
    if lost and (new or settings.classes):
        raise InputError(_lost(origin, [str(known.of(name)) for name in lost], new, given))
    if new:
        return Change("add", {"names": new, DECLARED: given}, known.add(*new))
    if settings.classes is None or set(given) == set(before):
        # A folder that is missing may come back, and is remembered until its class is renamed or removed.
        return None
    return Change("declare", {DECLARED: given}, known.replaced_by(known.names))


def _first(ledger: "Ledger", given: list[str], origin: str, *, explicit: bool) -> Change:
    """Return what a ledger begins with. It may be older than class sets, and have labels."""
    said = ledger.said()
    new, lost = [name for name in given if name not in said], sorted(said - set(given))
    # What no round has trained on was no class, but a choice that somebody had added by hand.
    trained = [name for name in lost if name in ledger.trained_on()]
    if (lost and new) or (trained and explicit):
        raise InputError(_lost(origin, lost, new, given))
    return Change("declare", {DECLARED: given}, ClassSet((*given, *trained)))


def _replacement(known: ClassSet, given: list[str], before: list[str]) -> Change | None:
    today = list(dict.fromkeys(known.of(name) or name for name in given))
    if set(given) == set(before) or set(today) == set(known.names):
        return None
    return Change("declare", {DECLARED: given}, known.replaced_by(today))


def _lost(origin: str, lost: list[str], new: list[str], given: list[str]) -> str:
    """Return why a declaration is refused, and the commands among which a person has to choose."""
    names = ", ".join(map(repr, given[:10])) or "nothing"
    verb = "says" if origin == "AL_CLASSES" else "say"
    text = f"{origin} {verb} {names}, without {_list(lost)}, which people could choose so far"
    removals = "; ".join(f"`al classes remove {quoted(name)}`" for name in lost[:5])
    if not new:
        return f"{text}. Name {_it(lost)} again, or take {_it(lost)} away: {removals}. Nothing was changed"
    renames = "; ".join(f"`al classes rename {quoted(a)} {quoted(b)}`" for a, b in zip(lost[:5], new[:5], strict=False))
    adds = " ".join(f"`al classes add {quoted(name)}`" for name in new[:5])
    return (
        f"{text}, and with {_list(new)}, which {_is(new)} new. If that is another name for the same: {renames}. If "
        f"not: {adds}; and {removals} to take {_it(lost)} away. Nothing was changed"
    )


def obstacle(classes: ClassSet, config: str | None) -> str | None:
    """Return why answers to a project with this label config would be no labels, and the remedy; None if they are.

    Parameters
    ----------
    classes : ClassSet
    config : str, optional
        Label Studio's XML.
    """
    from al_pipeline.labelstudio.config import Interface, buttons_in, classes_in, differences

    # Whether there are buttons that name no class matters to nothing that is said otherwise.
    if config is None:
        return None
    there = buttons_in(config)
    if not (found := differences(config, Interface(classes.names, "", there["unsure"], there["mixed"]))):
        return None
    shown = classes_in(config)
    missing = [name for name in classes.names if name not in shown]
    foreign = [name for name in shown if not classes.knows(name) or classes.of(name) is None]
    remedies = ["launch the job `setup`, which brings the project back to the classes"]
    if foreign and missing:
        remedies += [f"`al classes rename {quoted(missing[0])} {quoted(foreign[0])}`"]
    remedies += [f"`al classes add {quoted(name)}`" for name in foreign[:3]]
    if missing and not foreign:
        remedies += [f"`al classes remove {quoted(name)}`" for name in missing[:3] if len(classes.names) > 2]
    return (
        f"the project's labeling interface is not what answers are read by. {' '.join(found)} The classes are "
        f"{_list(classes.names)}: {', or '.join(remedies)}"
    )


def check_project(deployment: "Deployment", project_id: int, classes: ClassSet, config: str | None = None) -> None:
    """Bring a project that shows an earlier class set up to today's: a change was stored, and then something failed.

    So is one that has no place for the images of a grid. Its label config is asked for, where it is not given.

    Raises
    ------
    InputError
        The project shows other classes than any set had; nothing is changed.
    """
    from al_pipeline.labelstudio.config import cells_in

    if config is None:
        config = deployment.label_studio.project_counts(project_id).label_config
    problem = obstacle(classes, config)
    if problem is None:
        if cells_in(config) < deployment.settings.grid:
            bring_up(deployment, classes)
        return
    if not _is_earlier(deployment.ledger, config):
        raise InputError(f"Until this is mended no label is frozen and no task made: {problem}")
    bring_up(deployment, classes)


def bring_up(deployment: "Deployment", classes: ClassSet) -> "Project":
    """Make the labeling project, or give it these classes; return it. To do it again changes nothing."""
    return _bring_up(deployment, interface_of(deployment.settings, classes))


def interface_of(settings: "Settings", classes: ClassSet) -> "Interface":
    """Return what annotators see of these classes.

    Raises
    ------
    InputError
        The guideline or its examples cannot be used.
    """
    from al_pipeline.labelstudio.config import Interface
    from al_pipeline.labelstudio.guideline import guideline
    from al_pipeline.loop.deployment import Artifacts

    names, published = list(classes.names), settings.published_images
    artifacts = Artifacts.of(settings)
    how = how_of_home(artifacts)
    copies, examples = Copies(settings), list[str]()

    def shown(name: str) -> str:
        examples.append(name)
        return copies.in_guideline(name)

    told = guideline(settings.instructions, settings.examples, names, published, of=classes.of, how=how, shown=shown)
    copies.put(examples)
    # Label Studio's page cannot tell a picture of several images, which no frame would fit.
    crop = settings.show_crop and not settings.ask_groups
    crop = crop and framing_of_home(settings.training, artifacts) == "crop"
    return Interface(
        names, told, settings.unsure_class, settings.ask_groups, crop, settings.submits, grid=settings.grid
    )


def _bring_up(deployment: "Deployment", interface: "Interface") -> "Project":
    from al_pipeline.loop.identity import ensure_owned

    title, overlap = deployment.settings.label_studio_project, deployment.settings.overlap
    return ensure_owned(deployment.ledger, deployment.label_studio, title, interface, overlap=overlap)


def change(deployment: "Deployment", action: str, **arguments: Any) -> ClassSet:
    """Change the class set by one of its actions, then the project; return the set.

    The event in the ledger is the decision. Killed before it, nothing has happened. Killed after it, the loop stands
    still and says so until the project is brought up to the set: by the next change, the next push or `setup`.
    Meanwhile people answer with old names, and mean the new ones.

    Parameters
    ----------
    deployment : Deployment
    action : str
        A method of `ClassSet`: add (names), rename (old, new), merge (olds, into), split (old, into), remove (name).
    arguments
        Its arguments, by these names.

    Raises
    ------
    InputError
        It cannot be done.
    LabelStudioError
        Label Studio could not be reached; nothing is changed, or the sentence says what is.
    """
    from al_pipeline.labelstudio.config import classes_in
    from al_pipeline.labelstudio.connection import LabelStudioError

    try:
        config = deployment.label_studio.project_counts(deployment.project_id()).label_config
    except ALError as error:
        raise type(error)(f"Nothing was changed, because the project has to change too. {error}") from None
    ledger, known = deployment.ledger, deployment.ledger.class_set()
    today = known or _shown(ledger, config, arguments)
    made = _make(today, action, arguments)
    if foreign := [name for name in classes_in(config) if not made.knows(name)]:
        raise InputError(
            f"Nothing was changed: the project offers {_list(foreign)} too, which is no class, and would lose it. "
            f"First `al classes add {quoted(foreign[0])}`, or launch the job `setup`, which takes it away"
        )
    interface = interface_of(deployment.settings, made)
    if known is None:
        ledger.change_classes("declare", {DECLARED: list(today.names)}, today)
    ledger.change_classes(action, arguments, made)
    try:
        _bring_up(deployment, interface)
    except LabelStudioError as error:
        raise LabelStudioError(
            f"{action} is stored in the ledger, and answers are read so from now on, but the project still shows the "
            f"classes of before: {error}. Once that is mended, launch the job `setup`; the loop stands still until then"
        ) from None
    return made


def told(action: str, arguments: Mapping[str, Any]) -> str:
    """Return an event of the history in words."""
    match action:
        case "rename":
            return f"{arguments['old']} is called {arguments['new']}"
        case "merge":
            return f"{', '.join(arguments['olds'])} are one: {arguments['into']}"
        case "split":
            return f"{arguments['old']} is split into {', '.join(arguments['into'])}"
        case "remove":
            return f"{arguments['name']} is removed"
        case "add":
            return f"added: {', '.join(arguments['names'])}"
        case _:
            return f"declared: {', '.join(arguments[DECLARED])}"


def _shown(ledger: "Ledger", config: str, arguments: Mapping[str, Any]) -> ClassSet:
    """Return the classes before any were stored: what the project shows, and what people said of what is changed."""
    from al_pipeline.labelstudio.config import classes_in

    named = {arguments.get("old"), arguments.get("name"), *arguments.get("olds", ())}
    return ClassSet(tuple(dict.fromkeys([*classes_in(config), *sorted(named & ledger.said())])))


def _make(today: ClassSet, action: str, arguments: Mapping[str, Any]) -> ClassSet:
    if action == "add":
        return today.add(*arguments["names"])
    return getattr(today, action)(**arguments)


def check_declared(settings: "Settings", manifest: pd.DataFrame) -> list[str]:
    """Return the classes that there would be after `setup`; refuse what that would refuse, before anything is read.

    Parameters
    ----------
    settings : Settings
    manifest : DataFrame
        ``split, label``.
    """
    ledger = _kept(settings)
    if ledger is None:
        return class_names(manifest, settings.classes, settings.images)
    made = declaration(ledger, manifest, settings)
    found = made.made if made is not None else ledger.class_set()
    return [] if found is None else list(found.names)


def listing_options(settings: "Settings") -> dict[str, Any]:
    """Return what `list_files`, `glance` and `scan` are to know of a loop: its settings, and its classes so far.

    No ledger is made for it.
    """
    found, ledger = None, _kept(settings)
    if ledger is not None:
        found = ledger.class_set()
        ledger.close()
    known = () if found is None else (*found.names, *found.became)
    return {"follow_links": settings.follow_links, "classes": settings.classes, "known": known}


def _kept(settings: "Settings") -> "Ledger | None":
    """Return the ledger if there is one, without making it."""
    from al_pipeline.ledger import Ledger

    there = settings.database_url is not None or (settings.home / "ledger.sqlite3").exists()
    return Ledger(settings.ledger_url) if there else None


def _is_earlier(ledger: "Ledger", config: str) -> bool:
    """Say whether a label config is that of an earlier class set, and nobody's own."""
    return any(obstacle(each.made, config) is None for each in ledger.class_changes())


def quoted(name: str) -> str:
    """Return a name as a shell takes it for one word."""
    import shlex

    return shlex.quote(name)


def _list(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _it(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"

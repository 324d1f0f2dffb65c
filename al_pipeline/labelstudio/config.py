"""The labeling interface: one image, one choice, a hotkey per class, a line for the model's guess; and the tasks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.annotation import BUTTONS, CHOICES, MIXED, OPEN, UNSURE, control
from al_pipeline.labelstudio.grid import KEYS, cell_keys, layout
from al_pipeline.labelstudio.submitting import Submit, pressed, told_to_answer, told_to_change

IMAGE = "image"
# An answer: a class, None for a skip; or for each image of a grid a class, None to leave it open.
Given = str | Sequence[str | None] | None
# The one version of all guesses, whichever round's; of which checkpoint each is, the ledger's plan says.
MODEL = "al_pipeline"
# What the model guesses is shown by a control of its own, which no answer is read from.
GUESS = "guess"
UNSURE_BUTTON, MIXED_BUTTON, OPEN_BUTTON = "Unsure", "Not all the same", "?"
# Classes beyond these are chosen by mouse or through the filter.
HOTKEYS = KEYS
MANY = 20
BESIDE = "display: flex; gap: 1em; align-items: flex-start"
COLUMN = "flex: 1; max-height: 80vh; overflow-y: auto"
# Nobody can change the guess, and without one there is no line.
STYLE = """
.guess { pointer-events: none; flex: none; max-width: 24em }
.guess [data-testid=textarea-region]::before { content: "The model guesses:"; white-space: nowrap }
.guess [data-testid=htx-textbox-actions], .guess form { display: none }
"""
# Label Studio takes away the distances between paragraphs, and the points of lists.
TOLD = """
.told p, .told h1, .told h2, .told h3, .told ul, .told ol, .told table { margin-bottom: 0.75em }
.told ul { list-style: disc; padding-left: 1.5em } .told ol { list-style: decimal; padding-left: 1.5em }
"""
IN_A_GRID = (
    "<p>Choose the class of <b>each image</b>; its keys are written below it. {} (Submit) sends "
    "all of them. An image without a choice, or with <b>?</b>, stays open: you are asked about it again later. "
    "<b>Skip</b> skips all images that you see.</p>"
)
# The page that ends the queue shows nothing of ours but the button for these words, and never changes by itself.
FLOW = (
    "<p><b>No More Tasks Left in Queue?</b> Mostly the next images are on their way: wait half a minute, then reload "
    "the page. If none come, the top of these instructions says why then. Do not type on there: the keys still "
    "change your last answer.</p>"
    "<p>The button <b>Instructions</b> shows this again.</p>"
)
# The square that a crop leaves, drawn by the browser over the image and never into it, however it is zoomed or turned:
# the largest in the middle, unless it shows 95 % of the image or more. White and black dashes are seen on any ground.
LINE = '<rect width="9" height="9" fill="none" stroke="{}" vector-effect="non-scaling-stroke"{}/>'
SQUARE = (
    '<svg xmlns="http://www.w3.org/2000/svg"><style>@media (min-aspect-ratio: 19/20) and (max-aspect-ratio: 20/19) '
    '{rect {display: none}}</style><svg viewBox="0 0 9 9" overflow="visible">'
    f"""{LINE.format("white", "")}{LINE.format("black", ' stroke-dasharray="6"')}</svg></svg>"""
)
# Under the empty layer that Label Studio lays over an image, as large as that is.
CROP = f"""
.lsf-image:has(img) canvas {{ background: url("data:image/svg+xml,{quote(SQUARE)}") 0 0 / 100% 100% no-repeat }}
"""
# Of published images, below the root that Label Studio serves files from.
IMAGE_FOLDER = "/data/local-files/?d=images"


@dataclass(frozen=True)
class Interface:
    """What annotators see and may say.

    Parameters
    ----------
    class_names : sequence of str
    guideline : str
        HTML that they read above the list of classes and keys.
    unsure : bool
        Whether there is a button for whoever cannot tell.
    mixed : bool
        Whether there is one for images of several classes in a task that shows several.
    crop : bool
        Whether a thin frame shows where the square that the network sees ends; of tasks that show several images it
        would be that of their picture.
    submit : str
        Which keys submit. With ``key`` an answer is not required: Label Studio would ask for it before it is chosen.
    grid : int
        How many images a task shows, 1, 4 or 9, each with its own answer.

    Raises
    ------
    InputError
        A class is named like one of these buttons, or like what is stored for it; or a grid has not enough keys.
    """

    class_names: Sequence[str]
    guideline: str = ""
    unsure: bool = False
    mixed: bool = False
    crop: bool = False
    submit: Submit = "ctrl+enter"
    grid: int = 1

    def __post_init__(self) -> None:
        for stored, button, offered, setting in (
            (UNSURE, UNSURE_BUTTON, self.unsure, "AL_UNSURE_CLASS=false"),
            (MIXED, MIXED_BUTTON, self.mixed, "AL_ASK_GROUPS=false"),
            (OPEN, OPEN_BUTTON, self.grid > 1, "AL_GRID=1"),
        ):
            taken = {stored} | ({button.casefold()} if offered else set())
            if like := [name for name in self.class_names if name.casefold() in taken]:
                raise InputError(
                    f"The class {like[0]!r} cannot be told from the button {button!r}, which is an answer and no "
                    f"class: give the class another name (AL_CLASSES, or its folder), or set {setting}"
                )
        if self.grid > 1 and len(self.class_names) + self.unsure > (most := len(KEYS) // self.grid):
            four = len(KEYS) // 4
            other = f"AL_GRID=4, which takes {four}, or AL_GRID=1" if self.grid > 4 else "AL_GRID=1"
            raise InputError(
                f"A grid of {self.grid} images (AL_GRID) has keys for {most} classes, and there are "
                f"{len(self.class_names)}{', beside the button of AL_UNSURE_CLASS' * self.unsure}: set {other}"
            )

    def buttons(self) -> Sequence[tuple[str, str, str | None]]:
        """Return name, what is stored and hotkey of each button that names no class."""
        free = [key for key in "0" + HOTKEYS if key not in hotkeys(self.class_names).values()]
        unsure = (UNSURE_BUTTON, UNSURE, next(iter(free), None))
        # From the other end: m, unless there are many classes.
        mixed = (MIXED_BUTTON, MIXED, next(reversed(free[1:]), None))
        return [unsure] * self.unsure + [mixed] * self.mixed

    @property
    def keys(self) -> list[str]:
        """The keys of all classes and buttons that have one."""
        return [*hotkeys(self.class_names).values(), *(key for _, _, key in self.buttons() if key is not None)]


def hotkeys(class_names: Sequence[str]) -> dict[str, str]:
    """Return the hotkey of each class that has one; a digit keeps its own key."""
    own = {name: name for name in class_names if len(name) == 1 and name.isdigit()}
    left = iter(key for key in HOTKEYS if key not in own.values())
    keys = {name: own.get(name) or next(left, None) for name in class_names}
    return {name: key for name, key in keys.items() if key is not None}


def label_config(interface: Interface, cells: int = 1) -> str:
    """Return Label Studio's XML.

    The choice is required, unless its key submits, or an empty one could be submitted beside a guess. The guess is
    never part of the choice: what is selected already, its own key would take away.

    Parameters
    ----------
    interface : Interface
    cells : int
        Images that tasks of before may show, if these are more: what was answered must stay readable.
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Style").text = STYLE + CROP * interface.crop
    if (cells := max(cells, interface.grid)) > 1:
        _add_cells(view, interface, cells)
        return ElementTree.tostring(view, encoding="unicode")
    left = right = view
    names = interface.class_names
    if many := len(names) > MANY:
        # Below the image they would be out of sight: they get a column of their own, with a box to filter them.
        beside = ElementTree.SubElement(view, "View", style=BESIDE)
        left = ElementTree.SubElement(beside, "View", style="flex: 3; min-width: 0")
        right = ElementTree.SubElement(beside, "View", style=COLUMN)
        _add_guess(right)
        ElementTree.SubElement(right, "Filter", toName=CHOICES, hotkey="shift+f", minlength="0", name="filter")
    _add_image(left, zoomControl="true")
    if not many:
        right = ElementTree.SubElement(view, "View", style=BESIDE)
    choices = _add_choices(right, showInline="false" if many else "true")
    if interface.submit != "key":
        choices.attrib |= {"required": "true", "requiredMessage": "Choose a class first."}
    offered = [_offer(name, key) for name, key in _keys(names)]
    buttons = [_offer(name, key, alias=stored) for name, stored, key in interface.buttons()]
    # Of many classes the last is out of sight.
    offered = buttons + offered if many else offered + buttons
    choices.extend(offered)
    if not many:
        _add_guess(right)
    return ElementTree.tostring(view, encoding="unicode")


def _add_cells(view: ElementTree.Element, interface: Interface, cells: int) -> None:
    """Add a grid. What nobody chooses is left open: no choice is required, as a task may show fewer images."""
    style = view.find("Style")
    assert style is not None
    style.text = f"{style.text}{layout(interface.grid)}"
    grid = ElementTree.SubElement(view, "View", className="cells")
    buttons = [(name, {}) for name in interface.class_names]
    buttons += [(name, {"alias": stored}) for name, stored, _ in interface.buttons()]
    keys = cell_keys(len(buttons), max(interface.grid, 4)) + [""] * cells
    for cell in range(1, cells + 1):
        one = ElementTree.SubElement(grid, "View", className="cell")
        _add_image(one, cell, zoomControl="false", maxHeight="var(--height)")
        # Not radio buttons: a browser lets one of a name be chosen, whichever image it is of.
        choices = _add_choices(one, cell, choice="single", showInline="true")
        offered = zip(buttons, keys[cell - 1].ljust(len(buttons)), strict=True)
        choices.extend(_offer(name, key.strip() or None, **more) for (name, more), key in offered)
        choices.append(_offer(OPEN_BUTTON, None, alias=OPEN))
        if cell == 1:
            # Of tasks that were made before there were grids.
            _add_guess(one)


def _add_image(parent: ElementTree.Element, cell: int | None = None, **more: str) -> None:
    names = {"name": control(IMAGE, cell), "value": f"${control(IMAGE, cell)}"}
    ElementTree.SubElement(parent, "Image", names | {"zoom": "true"} | more)


def _add_choices(parent: ElementTree.Element, cell: int | None = None, **more: str) -> ElementTree.Element:
    names = {"name": control(CHOICES, cell), "toName": control(IMAGE, cell)}
    return ElementTree.SubElement(parent, "Choices", names | {"choice": "single-radio"} | more)


def _keys(class_names: Sequence[str]) -> list[tuple[str, str | None]]:
    keys = hotkeys(class_names)
    return [(name, keys.get(name)) for name in class_names]


def _offer(name: str, key: str | None, **more: str) -> ElementTree.Element:
    return ElementTree.Element("Choice", {"value": name} | more | ({"hotkey": key} if key else {}))


def _add_guess(parent: ElementTree.Element) -> None:
    # A text, and not a choice: it needs no keys, and no change of the classes can be at odds with it.
    line = ElementTree.SubElement(parent, "View", className=GUESS)
    ElementTree.SubElement(
        line, "TextArea", name=GUESS, toName=IMAGE, editable="false", showSubmitButton="false", maxSubmissions="1"
    )


def classes_in(config: str) -> list[str]:
    """Return the classes of a label config, none if it is not ours."""
    root = _parse(config)
    return [] if root is None else [name for name in dict.fromkeys(_stored(root)) if name not in BUTTONS]


def cells_in(config: str) -> int:
    """Return how many images a task may show, each with its own answer."""
    root = _parse(config)
    names = set() if root is None else {tag.get("name") for tag in root.iter("Choices")}
    return next(cell for cell in count(1) if control(CHOICES, cell + 1) not in names)


def buttons_in(config: str) -> dict[str, bool]:
    """Say which buttons that name no class a label config has, as `Interface` takes them."""
    root = _parse(config)
    stored = set() if root is None else set(_stored(root))
    return {"unsure": UNSURE in stored, "mixed": MIXED in stored}


def shows_guesses(config: str) -> bool:
    """Say whether a label config has a place for guesses that is not the answer."""
    root = _parse(config)
    return root is not None and any(control.get("name") == GUESS for control in root.iter("TextArea"))


def differences(config: str, interface: Interface) -> list[str]:
    """Say, a sentence each, how a label config differs from what answers are read by; layout and keys do not matter."""
    root = _parse(config)
    if root is None:
        return ["Its label config is no XML."]
    found: list[str] = []
    controls = {tag.get("name"): tag for tag in root.iter("Choices")}
    answer = controls.get(CHOICES)
    cells = [control("", cell) for cell in range(1, cells_in(config) + 1)]
    shown = {tag.get("value") for tag in root.iter("Image")}
    wanted = [f"${IMAGE}{cell}" for cell in cells]
    found += [f'No <Image value="{value}"> shows the image.' for value in wanted if value not in shown]
    if answer is None:
        named = " and ".join(repr(name) for name in controls)
        there = f"its Choices are named {named}" if controls else "it has no Choices"
        return [*found, f"Answers are read from Choices named {CHOICES!r}, and {there}."]
    for cell in cells:
        found += _not_offered(controls[CHOICES + cell], interface, f" for image {cell}" if cell else "")
    offered = list(_stored(answer))
    for wanted, stored, button, setting in (
        (interface.unsure, UNSURE, UNSURE_BUTTON, "AL_UNSURE_CLASS"),
        (interface.mixed, MIXED, MIXED_BUTTON, "AL_ASK_GROUPS"),
    ):
        if wanted != (stored in offered):
            found.append(f"It {'lacks' if wanted else 'has'} the button {button!r} ({setting}).")
    return found


def _not_offered(answer: ElementTree.Element, interface: Interface, where: str) -> Iterator[str]:
    if answer.get("choice") == "multiple":
        yield f'choice="multiple" lets people name several classes of one image{where}.'
    offered = list(_stored(answer))
    if missing := [name for name in interface.class_names if name not in offered]:
        yield f"It does not offer {_list(missing)}{where}."
    if foreign := [name for name in offered if name not in (*interface.class_names, *BUTTONS)]:
        yield f"It offers {_list(foreign)} beside the classes{where}."


def _parse(config: str) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(config)  # noqa: S314 (our own project's config)
    except ElementTree.ParseError:
        return None


def _stored(tag: ElementTree.Element) -> Iterator[str]:
    """Yield what Label Studio stores for each choice within a tag."""
    for choice in tag.iter("Choice"):
        if name := choice.get("alias") or choice.get("value"):
            yield name


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more


def instructions(interface: Interface) -> str:
    """Return the HTML that annotators see: the guideline, and what the keys do."""
    rows = "".join(f"<li>{_told(name, key)}</li>" for name, key in _keys(interface.class_names))
    cannot = "press <b>Skip</b>: a skip is never used as a label and you are not asked again."
    told = {stored: _told(button, key) for button, stored, key in interface.buttons()}
    if interface.unsure:
        cannot = (
            f"choose {told[UNSURE]}: it is counted, and never used as a label. <b>Skip</b> what does not belong here."
        )
    if interface.mixed:
        cannot += (
            f" Where several numbered images are shown, your answer is for all of them: if they are not all of one "
            f"class, choose {told[MIXED]}, and you are asked about each by itself."
        )
    if interface.grid > 1:
        told_in_grid = IN_A_GRID.format(pressed(interface.submit))
        return (
            f'<style>{TOLD}</style><div class="told">{interface.guideline}{told_in_grid}<p>If you cannot tell, {cannot}'
            f"</p><ul>{''.join(f'<li><b>{escape(name)}</b></li>' for name in interface.class_names)}</ul>{FLOW}</div>"
        )
    return (
        f'<style>{TOLD}</style><div class="told">{interface.guideline}<p>{told_to_answer(interface.submit)} '
        f"If you cannot tell, {cannot}</p><ul>{rows}</ul>{told_to_change(interface.submit)}{FLOW}</div>"
    )


def _told(name: str, key: str | None) -> str:
    return f"<b>{escape(name)}</b>{f' – key <code>{key}</code>' if key else ''}"


def payload(
    row: Mapping[str, Any], *, round_key: str, image_name: str, prediction: bool, folder: str = IMAGE_FOLDER
) -> dict[str, Any]:
    """Return the task of one plan row as Label Studio's JSON.

    Parameters
    ----------
    row : mapping
        ``sample_id, purpose, predicted, predicted_probability``, optionally ``shown``: how many images it shows.
    round_key : str
    image_name : str
        File name within the published images.
    prediction : bool
        Show the model's guess. Never done for the holdout, whose labels must be blind.
    folder : str
        Where the published images are for Label Studio.
    """
    data = {"image": f"{folder}/{image_name}", "sample_id": row["sample_id"], "round": round_key}
    # A column of the Data Manager, in projects that have such tasks.
    shown = {"shows": int(row["shown"])} if row.get("shown", 1) > 1 else {}
    task: dict[str, Any] = {"data": data | shown}
    if prediction and row["purpose"] == "query" and isinstance(row.get("predicted"), str):
        task["predictions"] = [
            {
                # Label Studio shows guesses of one version alone: the first that a project ever got.
                "model_version": MODEL,
                "score": float(row["predicted_probability"]),
                "result": [guess(row["predicted"])],
            }
        ]
    return task


def choice(name: str, cell: int | None = None) -> dict[str, Any]:
    """Return Label Studio's JSON for one chosen class, of the one image or of that at a place of a grid."""
    names = {"from_name": control(CHOICES, cell), "to_name": control(IMAGE, cell)}
    return names | {"type": "choices", "value": {"choices": [name]}}


def chosen(given: Given) -> list[dict[str, Any]]:
    """Return Label Studio's JSON for an answer; nothing for a skip, and of a grid for what is left open."""
    if given is None or isinstance(given, str):
        return [] if given is None else [choice(given)]
    return [choice(name, cell) for cell, name in enumerate(given, 1) if name is not None]


def guess(name: str) -> dict[str, Any]:
    """Return Label Studio's JSON for a guess: seen by people, and no part of their answer."""
    return {"from_name": GUESS, "to_name": IMAGE, "type": "textarea", "value": {"text": [name]}}

"""The labeling interface: one image, one choice, a hotkey per class, a line for the model's guess; and the tasks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.annotation import BUTTONS, CHOICES, MIXED, UNSURE
from al_pipeline.labelstudio.submitting import Submit, told_to_answer, told_to_change

IMAGE = "image"
# The one version of all guesses, whichever round's; of which checkpoint each is, the ledger's plan says.
MODEL = "al_pipeline"
# What the model guesses is shown by a control of its own, which no answer is read from.
GUESS = "guess"
UNSURE_BUTTON, MIXED_BUTTON = "Unsure", "Not all the same"
# Label Studio has no key of its own on these (h pans, u unselects, v moves, x cuts); classes beyond them are chosen by
# mouse or through the filter.
HOTKEYS = "1234567890qwertyiopasdfgjklzcbnm"
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
LOCAL_FILES = "/data/local-files/?d="
# The folder of published images, relative to the root that Label Studio serves files from.
IMAGE_FOLDER = "images"


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

    Raises
    ------
    InputError
        A class is named like one of these buttons, or like what is stored for it.
    """

    class_names: Sequence[str]
    guideline: str = ""
    unsure: bool = False
    mixed: bool = False
    crop: bool = False
    submit: Submit = "ctrl+enter"

    def __post_init__(self) -> None:
        for stored, button, offered, setting in (
            (UNSURE, UNSURE_BUTTON, self.unsure, "AL_UNSURE_CLASS"),
            (MIXED, MIXED_BUTTON, self.mixed, "AL_ASK_GROUPS"),
        ):
            taken = {stored} | ({button.casefold()} if offered else set())
            if like := [name for name in self.class_names if name.casefold() in taken]:
                raise InputError(
                    f"The class {like[0]!r} cannot be told from the button {button!r}, which is an answer and no "
                    f"class: give the class another name (AL_CLASSES, or its folder), or set {setting}=false"
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


def label_config(interface: Interface) -> str:
    """Return Label Studio's XML.

    The choice is required, unless its key submits, or an empty one could be submitted beside a guess. The guess is
    never part of the choice: what is selected already, its own key would take away.
    """
    left = right = view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Style").text = STYLE + CROP * interface.crop
    names = interface.class_names
    if many := len(names) > MANY:
        # Below the image they would be out of sight: they get a column of their own, with a box to filter them.
        beside = ElementTree.SubElement(view, "View", style=BESIDE)
        left = ElementTree.SubElement(beside, "View", style="flex: 3; min-width: 0")
        right = ElementTree.SubElement(beside, "View", style=COLUMN)
        _add_guess(right)
        ElementTree.SubElement(right, "Filter", toName=CHOICES, hotkey="shift+f", minlength="0", name="filter")
    ElementTree.SubElement(left, "Image", name=IMAGE, value=f"${IMAGE}", zoom="true", zoomControl="true")
    if not many:
        right = ElementTree.SubElement(view, "View", style=BESIDE)
    choices = ElementTree.SubElement(
        right, "Choices", name=CHOICES, toName=IMAGE, choice="single-radio", showInline="false" if many else "true"
    )
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
    return [] if root is None else [name for name in _stored(root) if name not in BUTTONS]


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
    if all(tag.get("value") != f"${IMAGE}" for tag in root.iter("Image")):
        found.append(f'No <Image value="${IMAGE}"> shows the image.')
    controls = {tag.get("name"): tag for tag in root.iter("Choices")}
    answer = controls.get(CHOICES)
    if answer is None:
        named = " and ".join(repr(name) for name in controls)
        there = f"its Choices are named {named}" if controls else "it has no Choices"
        return [*found, f"Answers are read from Choices named {CHOICES!r}, and {there}."]
    if answer.get("choice") == "multiple":
        found.append('choice="multiple" lets people name several classes of one image.')
    offered = list(_stored(answer))
    if missing := [name for name in interface.class_names if name not in offered]:
        found.append(f"It does not offer {_list(missing)}.")
    if foreign := [name for name in offered if name not in (*interface.class_names, *BUTTONS)]:
        found.append(f"It offers {_list(foreign)} beside the classes.")
    for wanted, stored, button, setting in (
        (interface.unsure, UNSURE, UNSURE_BUTTON, "AL_UNSURE_CLASS"),
        (interface.mixed, MIXED, MIXED_BUTTON, "AL_ASK_GROUPS"),
    ):
        if wanted != (stored in offered):
            found.append(f"It {'lacks' if wanted else 'has'} the button {button!r} ({setting}).")
    return found


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
    return (
        f'<style>{TOLD}</style><div class="told">{interface.guideline}<p>{told_to_answer(interface.submit)} '
        f"If you cannot tell, {cannot}</p><ul>{rows}</ul>{told_to_change(interface.submit)}{FLOW}</div>"
    )


def _told(name: str, key: str | None) -> str:
    return f"<b>{escape(name)}</b>{f' – key <code>{key}</code>' if key else ''}"


def payload(row: Mapping[str, Any], *, round_key: str, image_name: str, prediction: bool) -> dict[str, Any]:
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
    """
    data = {"image": f"{LOCAL_FILES}{IMAGE_FOLDER}/{image_name}", "sample_id": row["sample_id"], "round": round_key}
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


def choice(name: str) -> dict[str, Any]:
    """Return Label Studio's JSON for one chosen class."""
    return {"from_name": CHOICES, "to_name": IMAGE, "type": "choices", "value": {"choices": [name]}}


def guess(name: str) -> dict[str, Any]:
    """Return Label Studio's JSON for a guess: seen by people, and no part of their answer."""
    return {"from_name": GUESS, "to_name": IMAGE, "type": "textarea", "value": {"text": [name]}}

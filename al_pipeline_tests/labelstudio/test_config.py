"""The labeling interface fits any set of class names."""

import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.annotation import BUTTONS, MIXED, OPEN, UNSURE, choices_of, kind_of
from al_pipeline.labelstudio.config import (
    GUESS,
    HOTKEYS,
    Interface,
    classes_in,
    differences,
    guess,
    hotkeys,
    instructions,
    label_config,
    payload,
    shows_guesses,
)
from al_pipeline.labelstudio.submitting import Submit, editor_keymap

# Of Label Studio's editor: h pans the image, v is its move tool, u unselects, x deletes in some of its tools.
LABEL_STUDIOS_OWN = set("huvx")
names = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=30).filter(
    lambda name: name.casefold() not in {"unsure", "not all the same", *BUTTONS}
)


@given(st.lists(names, min_size=2, max_size=60, unique=True))
def test_every_class_is_offered_once_whatever_its_name(class_names: list[str]) -> None:
    assert classes_in(label_config(Interface(class_names))) == class_names


@given(st.lists(names, min_size=2, max_size=60, unique=True))
def test_no_two_classes_share_a_hotkey_and_none_is_label_studios_own(class_names: list[str]) -> None:
    keys = hotkeys(class_names)
    assert len(set(keys.values())) == len(keys) == min(len(class_names), len(HOTKEYS))
    assert not LABEL_STUDIOS_OWN & set(keys.values())
    shown = {c.attrib["value"]: c.attrib["hotkey"] for c in choices(class_names) if "hotkey" in c.attrib}
    assert shown == keys


def choices(class_names: list[str]) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(label_config(Interface(class_names))).iter("Choice"))


def test_the_first_classes_are_on_the_keys_a_hand_finds_first() -> None:
    keys = hotkeys([f"class {i}" for i in range(12)])
    assert "".join(keys.values()) == "1234567890qw"


def test_a_class_that_is_a_digit_is_on_its_own_key() -> None:
    digits = [str(digit) for digit in range(10)]
    assert hotkeys(digits) == {digit: digit for digit in digits}
    assert hotkeys(["cat", "1"]) == {"cat": "2", "1": "1"}


def test_one_answer_is_required_so_that_an_empty_one_is_not_stored() -> None:
    control = ElementTree.fromstring(label_config(Interface(["a", "b"]))).find(".//Choices")
    assert control is not None
    assert control.attrib["required"] == "true"
    assert control.attrib["choice"] == "single-radio"


def test_where_a_class_s_key_submits_it_is_not_asked_for_a_choice_that_it_is_about_to_make() -> None:
    interface = Interface(["a", "b"], unsure=True, mixed=True, submit="key")
    control = ElementTree.fromstring(label_config(interface)).find(".//Choices")
    assert control is not None
    assert "required" not in control.attrib
    assert interface.keys == ["1", "2", "0", "m"]
    keymap = json.loads(editor_keymap("key", interface.keys))
    assert keymap["annotation:submit"]["key"] == "ctrl+enter,command+enter,1,2,0,m"


@pytest.mark.parametrize(("submit", "said"), [("ctrl+enter", "Ctrl+Enter"), ("enter", "Enter"), ("key", "Ctrl+Enter")])
def test_the_instructions_tell_the_keys_that_submit(submit: Submit, said: str) -> None:
    told = instructions(Interface(["a", "b"], submit=submit))
    assert told.count(f"<code>{said}</code> (Submit)") == told.count(f"<code>{said}</code> (Update)") == 1
    assert ("that is your answer" in told) == (submit == "key")
    assert len(re.findall(r"<code>[^<]*Enter</code>", told)) == 2


def test_many_classes_come_with_a_box_to_filter_them() -> None:
    def has_filter(count: int) -> bool:
        root = ElementTree.fromstring(label_config(Interface([f"class {i}" for i in range(count)])))
        return root.find(".//Filter") is not None

    assert not has_filter(10)
    assert has_filter(100)
    assert has_filter(1000)


def test_the_instructions_tell_the_hotkeys_and_escape_the_names() -> None:
    said = instructions(Interface(["<script>", "b & c"]))
    assert "<script>" not in said
    assert "&lt;script&gt;" in said
    assert "b &amp; c" in said
    assert "<code>1</code>" in said


def test_a_config_that_is_not_ours_names_no_class() -> None:
    assert classes_in("") == []
    assert classes_in("no XML") == []
    assert classes_in("<View><Text name='t' value='$t'/></View>") == []


def test_a_guess_has_a_place_of_its_own_which_no_answer_is_read_from() -> None:
    config = label_config(Interface(["a", "b"]))
    assert shows_guesses(config)
    assert [tag.get("name") for tag in ElementTree.fromstring(config).iter("Choices")] == ["label"]
    assert guess("a")["from_name"] == GUESS
    assert choices_of({"result": [guess("a")]}) == []
    # As Label Studio stores a skip beside a guess, and "Create Annotations From Predictions".
    assert kind_of({"was_cancelled": True, "result": [guess("a")], "parent_prediction": 1}) == "skip"
    assert kind_of({"result": [guess("a")], "parent_prediction": 1, "lead_time": None}) == "guess"
    assert not shows_guesses("<View><Choices name='label' toName='image'><Choice value='a'/></Choices></View>")
    assert not shows_guesses("no XML")


@given(st.lists(names, min_size=2, max_size=60, unique=True))
def test_the_buttons_take_no_key_of_a_class_and_are_none(class_names: list[str]) -> None:
    interface = Interface(class_names, unsure=True, mixed=True)
    config = label_config(interface)
    shown = {c.get("alias"): c.get("hotkey") for c in ElementTree.fromstring(config).iter("Choice") if c.get("alias")}
    assert shown == {stored: key for _, stored, key in interface.buttons()}
    # The third is of grids alone.
    assert shown.keys() == BUTTONS.keys() - {OPEN}
    keys = [key for key in shown.values() if key is not None]
    assert len(set(keys)) == len(keys)
    assert not set(keys) & set(hotkeys(class_names).values())
    assert classes_in(config) == class_names
    assert differences(config, interface) == []
    assert len(differences(config, Interface(class_names))) == 2


def test_unsure_is_on_zero_and_not_all_the_same_on_m_unless_a_class_is() -> None:
    def keys(class_names: list[str]) -> dict[str, str | None]:
        return {stored: key for _, stored, key in Interface(class_names, unsure=True, mixed=True).buttons()}

    assert keys(["a", "b"]) == {UNSURE: "0", MIXED: "m"}
    assert keys([str(digit) for digit in range(10)]) == {UNSURE: "q", MIXED: "m"}
    assert keys([f"class {i}" for i in range(len(HOTKEYS))]) == {UNSURE: None, MIXED: None}


@pytest.mark.parametrize(
    ("name", "offered", "setting"),
    [
        ("unsure", {"unsure": True}, "AL_UNSURE_CLASS"),
        ("Unsure", {"unsure": True}, "AL_UNSURE_CLASS"),
        ("__unsure__", {}, "AL_UNSURE_CLASS"),
        ("Not all the same", {"mixed": True}, "AL_ASK_GROUPS"),
        ("__mixed__", {}, "AL_ASK_GROUPS"),
    ],
)
def test_a_class_that_cannot_be_told_from_a_button_is_refused(name: str, offered: dict[str, Any], setting: str) -> None:
    with pytest.raises(InputError, match=rf"{name}.*another name \(AL_CLASSES.*{setting}=false"):
        Interface(["a", name], "", **offered)


def test_what_a_task_says_about_several_images_is_told_and_how_many_they_are() -> None:
    row = {"sample_id": "0", "purpose": "query"}
    assert payload(row | {"shown": 4}, round_key="r0000", image_name="x", prediction=False)["data"]["shows"] == 4
    for alone in ({}, {"shown": 1}):
        assert "shows" not in payload(row | alone, round_key="r0000", image_name="x", prediction=False)["data"]
    said = instructions(Interface(["a", "b"], mixed=True))
    assert "choose <b>Not all the same</b> – key <code>m</code>" in said
    assert "Not all the same" not in instructions(Interface(["a", "b"]))
    assert kind_of({"result": [{"from_name": "label", "value": {"choices": [MIXED]}}]}) == "mixed"


def test_without_the_button_a_class_may_be_named_unsure_and_is_a_class() -> None:
    config = label_config(Interface(["a", "unsure"]))
    assert classes_in(config) == ["a", "unsure"]
    raw = {"result": [{"from_name": "label", "value": {"choices": ["unsure"]}}]}
    assert kind_of(raw) == "answer"


def test_the_guideline_stands_above_the_keys_and_tells_of_the_button() -> None:
    said = instructions(Interface(["a", "b"], guideline="<h1>Dogs</h1>", unsure=True))
    assert said.index("<h1>Dogs</h1>") < said.index("<li><b>a</b>")
    assert "<b>Unsure</b> – key <code>0</code>" in said
    assert "Unsure" not in instructions(Interface(["a", "b"]))


OURS = label_config(Interface(["a", "b"]))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("no XML", "Its label config is no XML."),
        (OURS.replace("$image", "$picture"), 'No <Image value="$image"> shows the image.'),
        (
            OURS.replace('name="label"', 'name="kind"'),
            "Answers are read from Choices named 'label', and its Choices are named 'kind'.",
        ),
        (
            "<View><Image name='image' value='$image'/></View>",
            "Answers are read from Choices named 'label', and it has no Choices.",
        ),
        (OURS.replace("single-radio", "multiple"), 'choice="multiple" lets people name several classes of one image.'),
        (label_config(Interface(["a"])), "It does not offer 'b'."),
        (label_config(Interface(["a", "b", "zebra", "x"])), "It offers 'zebra', 'x' beside the classes."),
        (label_config(Interface(["a", "b"], unsure=True)), "It has the button 'Unsure' (AL_UNSURE_CLASS)."),
    ],
)
def test_what_answers_could_not_be_read_by_is_told(config: str, said: str) -> None:
    assert differences(config, Interface(["a", "b"])) == [said]


def test_a_renamed_class_is_told_as_one_that_is_missing_and_one_that_is_not_ours() -> None:
    config = OURS.replace('value="b"', 'value="bee"')
    assert differences(config, Interface(["a", "b"])) == [
        "It does not offer 'b'.",
        "It offers 'bee' beside the classes.",
    ]
    assert differences(config, Interface(["a", "bee"], unsure=True)) == [
        "It lacks the button 'Unsure' (AL_UNSURE_CLASS)."
    ]


def test_another_layout_with_other_keys_is_no_difference() -> None:
    theirs = (
        "<View><Header value='Look!'/><Choices name='label' toName='image'><Choice value='Bee' alias='b'/>"
        "<Choice value='a' hotkey='z'/></Choices><Image name='image' value='$image'/></View>"
    )
    assert differences(theirs, Interface(["a", "b"])) == []


def test_the_frame_of_the_crop_is_there_only_if_it_is_asked_for_and_is_no_difference() -> None:
    framed = Interface(["a", "b"], crop=True)
    assert "svg" in str(ElementTree.fromstring(label_config(framed)).findtext("Style"))
    assert "svg" not in OURS
    assert differences(OURS, framed) == differences(label_config(framed), Interface(["a", "b"])) == []

"""The labeling interface fits any set of class names."""

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from al_pipeline.labelstudio.config import HOTKEYS, classes_in, hotkeys, instructions, label_config

# Of Label Studio's editor: h pans the image, v is its move tool, u unselects, x deletes in some of its tools.
LABEL_STUDIOS_OWN = set("huvx")
names = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=30)


@given(st.lists(names, min_size=2, max_size=60, unique=True))
def test_every_class_is_offered_once_whatever_its_name(class_names: list[str]) -> None:
    assert classes_in(label_config(class_names)) == class_names


@given(st.lists(names, min_size=2, max_size=60, unique=True))
def test_no_two_classes_share_a_hotkey_and_none_is_label_studios_own(class_names: list[str]) -> None:
    keys = hotkeys(class_names)
    assert len(set(keys.values())) == len(keys) == min(len(class_names), len(HOTKEYS))
    assert not LABEL_STUDIOS_OWN & set(keys.values())
    shown = {c.attrib["value"]: c.attrib["hotkey"] for c in choices(class_names) if "hotkey" in c.attrib}
    assert shown == keys


def choices(class_names: list[str]) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(label_config(class_names)).iter("Choice"))


def test_the_first_classes_are_on_the_keys_a_hand_finds_first() -> None:
    keys = hotkeys([f"class {i}" for i in range(12)])
    assert "".join(keys.values()) == "1234567890qw"


def test_a_class_that_is_a_digit_is_on_its_own_key() -> None:
    digits = [str(digit) for digit in range(10)]
    assert hotkeys(digits) == {digit: digit for digit in digits}
    assert hotkeys(["cat", "1"]) == {"cat": "2", "1": "1"}


def test_one_answer_is_required_so_that_an_empty_one_is_not_stored() -> None:
    control = ElementTree.fromstring(label_config(["a", "b"])).find("Choices")
    assert control is not None
    assert control.attrib["required"] == "true"
    assert control.attrib["choice"] == "single-radio"


def test_many_classes_come_with_a_box_to_filter_them() -> None:
    def has_filter(count: int) -> bool:
        root = ElementTree.fromstring(label_config([f"class {i}" for i in range(count)]))
        return root.find(".//Filter") is not None

    assert not has_filter(10)
    assert has_filter(100)
    assert has_filter(1000)


def test_the_instructions_tell_the_hotkeys_and_escape_the_names() -> None:
    said = instructions(["<script>", "b & c"])
    assert "<script>" not in said
    assert "&lt;script&gt;" in said
    assert "b &amp; c" in said
    assert "<code>1</code>" in said


def test_a_config_that_is_not_ours_names_no_class() -> None:
    assert classes_in("") == []
    assert classes_in("no XML") == []
    assert classes_in("<View><Text name='t' value='$t'/></View>") == []

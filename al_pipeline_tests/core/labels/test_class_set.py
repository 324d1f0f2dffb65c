"""The class set: every name that ever was a class means one class of today, or none, whatever was done in between."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from al_pipeline.core.errors import InputError
from al_pipeline.core.labels.annotation import UNSURE
from al_pipeline.core.labels.class_set import ClassSet

PETS = ClassSet(("cat", "dog", "fish"))
NAMES = st.sampled_from([*"abcdefgh"])


@st.composite
def changed(draw: st.DrawFn) -> tuple[ClassSet, list[ClassSet]]:
    """A class set that much was done to, and all sets before it."""
    found, before = ClassSet(("a", "b", "c")), []
    for _ in range(draw(st.integers(0, 8))):
        action = draw(st.sampled_from(["add", "rename", "merge", "split", "remove"]))
        old, other = draw(st.sampled_from(found.names)), draw(st.sampled_from(found.names))
        new, second = draw(NAMES), draw(NAMES)
        try:
            made = {
                "add": lambda old=old, other=other, new=new, second=second, found=found: found.add(new),
                "rename": lambda old=old, other=other, new=new, second=second, found=found: found.rename(old, new),
                "merge": lambda old=old, other=other, new=new, second=second, found=found: found.merge(
                    [old, other], new
                ),
                "split": lambda old=old, other=other, new=new, second=second, found=found: found.split(
                    old, [new, second]
                ),
                "remove": lambda old=old, other=other, new=new, second=second, found=found: found.remove(old),
            }[action]()
        except InputError:
            continue
        before.append(found)
        found = made
    return found, before


@given(changed())
def test_a_name_means_one_class_of_today_or_none(history: tuple[ClassSet, list[ClassSet]]) -> None:
    today, before = history
    assert len(set(today.names)) == len(today.names) >= 2
    assert today.version == len(before)
    for earlier in before:
        # Nothing that was a name is forgotten, and what it means now is what its meaning then has become.
        assert all(today.knows(name) for name in (*earlier.names, *earlier.became))
    former = set(today.became)
    assert {today.of(name) for name in former} <= {*today.names, None}
    assert former == {*today.renamed, *today.retired}
    assert all(today.of(name) == name for name in today.names)


@given(changed(), NAMES)
def test_a_renamed_class_can_have_its_name_back(history: tuple[ClassSet, list[ClassSet]], new: str) -> None:
    today, _ = history
    if not today.knows(new):
        back = today.rename(today.names[0], new).rename(new, today.names[0])
        assert back.names == today.names
        assert all(back.of(name) == today.of(name) for name in today.became)


@given(changed())
def test_merged_classes_that_are_split_again_are_those_of_before(history: tuple[ClassSet, list[ClassSet]]) -> None:
    today, _ = history
    if len(today.names) > 2:
        first, second = today.names[:2]
        back = today.merge([first, second], "both").split("both", [first, second])
        assert back.names == today.names
        assert back.of("both") is None
        assert all(back.of(name) == today.of(name) for name in today.became)


@given(changed())
def test_a_removed_class_comes_back_with_its_answers(history: tuple[ClassSet, list[ClassSet]]) -> None:
    today, _ = history
    if len(today.names) > 2:
        name = today.names[0]
        assert today.remove(name).of(name) is None
        back = today.remove(name).add(name)
        assert all(back.of(name) == today.of(name) for name in (*today.names, *today.became))
        assert today.add("new").remove("new").names == today.names


def test_an_action_after_another_carries_all_former_names_along() -> None:
    today = PETS.rename("cat", "tabby").merge(["tabby", "dog"], "pet").rename("pet", "animal")
    assert today.names == ("animal", "fish")
    assert today.renamed == {"cat": "animal", "tabby": "animal", "dog": "animal", "pet": "animal"}
    split = today.split("animal", ["tabby", "dog"])
    assert [split.of(name) for name in ("cat", "tabby", "dog", "pet", "animal")] == [
        "tabby",
        "tabby",
        "dog",
        None,
        None,
    ]
    assert today.of("never heard of") == "never heard of"
    assert today.of(None) is None


def test_a_class_may_be_split_into_one_that_is_there() -> None:
    today = PETS.split("fish", ["dog", "carp"])
    assert today.names == ("cat", "dog", "carp")
    assert today.retired == ["fish"]


def test_what_is_merged_takes_the_first_place_of_its_parts_so_that_others_keep_their_keys() -> None:
    today = PETS.add("hound").merge(["dog", "hound"], "hound")
    assert today.names == ("cat", "hound", "fish")
    assert PETS.merge(["fish"], "cat").names == ("cat", "dog")


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (lambda: PETS.add("dog"), "'dog' is a class already"),
        (lambda: PETS.add("bird", "bird"), "'bird' is a class already"),
        (lambda: PETS.add(" "), "can be no class"),
        (lambda: PETS.add(UNSURE), "can be no class"),
        (lambda: PETS.rename("bird", "dog"), "'bird' is no class: the classes are 'cat', 'dog', 'fish'"),
        (lambda: PETS.rename("cat", "dog"), "'dog' is a class already"),
        (lambda: PETS.rename("cat", "tabby").add("cat"), "was a class before and is 'tabby' today"),
        (lambda: PETS.merge(["cat"], "cat"), "changes nothing"),
        (lambda: PETS.rename("cat", "cat"), "'cat' is called so already"),
        (lambda: PETS.rename("cat", "tabby").rename("cat", "lion"), "is no class: .*'cat' is 'tabby' today"),
        (lambda: PETS.merge(["cat", "dog"], "fish").merge(["fish"], "x"), "Only 'fish' would be left"),
        (lambda: PETS.split("cat", ["tabby"]), "at least two different classes"),
        (lambda: PETS.split("cat", ["cat", "tabby"]), "cannot stay a class while it is split"),
        (lambda: PETS.remove("cat").remove("dog"), "Only 'fish' would be left"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(act, why: str) -> None:
    with pytest.raises(InputError, match=why):
        act()


def test_an_earlier_set_knows_later_names_where_each_was_one_class() -> None:
    today = PETS.rename("cat", "tabby").add("bird").merge(["dog", "fish"], "wet")
    then = today.seen_by(PETS)
    assert (then.names, then.version) == (PETS.names, PETS.version)
    assert [then.of(name) for name in ("cat", "tabby", "dog", "bird", "wet")] == ["cat", "cat", "dog", None, None]


def test_only_another_name_asks_the_same_question() -> None:
    assert PETS.rename("cat", "tabby").one_to_one(PETS.names)
    assert not PETS.add("bird").one_to_one(PETS.names)
    assert not PETS.remove("cat").one_to_one(PETS.names)
    assert not PETS.merge(["cat", "dog"], "pet").one_to_one(PETS.names)


def test_probabilities_of_merged_classes_add_up() -> None:
    probabilities = np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]])
    sums = PETS.merge(["cat", "dog"], "pet").add("bird").remove("fish").sums(probabilities, PETS.names)
    assert {name: column.tolist() for name, column in sums.items()} == {"pet": [0.75, 0.25], None: [0.25, 0.75]}

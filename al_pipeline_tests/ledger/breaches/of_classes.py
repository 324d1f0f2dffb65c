"""Histories of the class set that cannot be."""

from al_pipeline_tests.ledger.breaches.edits import Breach, class_set

CLASSES: dict[str, Breach] = {
    "a version that is missing": (
        [class_set(2, "declare", {}, ["cat", "dog"], {})],
        ["the class sets have the versions 0, 2, and should be counted from 0"],
        [],
    ),
    "a first version that comes from another": (
        ["UPDATE class_sets SET action = 'add'"],
        ["class set 0 comes from `add`, though there was none before"],
        [],
    ),
    "a class twice": (
        [class_set(1, "add", {"names": ["cat"]}, ["cat", "dog", "cat"], {})],
        ["class set 1: a class is in it twice: cat, dog, cat"],
        [],
    ),
    "too few classes": (
        [class_set(1, "remove", {"name": "cat"}, ["dog"], {"cat": None})],
        ["class set 1: it has 1 classes, and needs two"],
        [],
    ),
    "classes that are no list": (
        [class_set(1, "declare", {}, "cat", {})],
        ["class set 1: its classes are 'cat', which is no list of names"],
        [],
    ),
    "a class that means another": (
        [class_set(1, "declare", {}, ["cat", "dog"], {"cat": "dog"})],
        ["class set 1: 'cat' became 'dog', and is a class of it"],
        [],
    ),
    "a name that means no class": (
        [class_set(1, "declare", {}, ["cat", "dog"], {"cow": "bull"})],
        ["class set 1: 'cow' became 'bull', which is no class of it and never was"],
        [],
    ),
    "a version that its action does not make": (
        [class_set(1, "rename", {"old": "cat", "new": "lion"}, ["kitten", "dog"], {"cat": "kitten"})],
        [
            "class set 1 is kitten, dog, but `rename` with {'old': 'cat', 'new': 'lion'} makes lion, dog of the one "
            "before, or another meaning of former names"
        ],
        [],
    ),
    "a meaning that its action does not make": (
        [class_set(1, "rename", {"old": "cat", "new": "kitten"}, ["kitten", "dog"], {"cat": "dog"})],
        [
            "class set 1 is kitten, dog, but `rename` with {'old': 'cat', 'new': 'kitten'} makes kitten, dog of the "
            "one before, or another meaning of former names"
        ],
        [],
    ),
    "an action that cannot be": (
        [class_set(1, "remove", {"name": "cow"}, ["cat", "dog"], {})],
        [
            "class set 1 comes from `remove` with {'name': 'cow'}, which cannot be: 'cow' is no class: the classes are "
            "'cat', 'dog' (`al classes list`)"
        ],
        [],
    ),
    "an action that is none": (
        [class_set(1, "shuffle", {}, ["dog", "cat"], {})],
        ["class set 1 comes from `shuffle` with {}, which cannot be: there is no such action"],
        [],
    ),
    "a version that is older than the one before": (
        [class_set(1, "add", {"names": ["cow"]}, ["cat", "dog", "cow"], {}, "2000-01-01")],
        ["class set 1 was made before class set 0"],
        [],
    ),
}

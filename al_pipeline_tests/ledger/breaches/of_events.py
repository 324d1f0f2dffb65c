"""Events and current answers that cannot be what people did."""

from al_pipeline_tests.ledger.breaches.edits import GUESS, Breach, both, event, shown

OF_17 = "annotation 17 of label_studio "
BY_12 = "r0001: sample {2} is 'cat' by annotation 12, "
EVENTS: dict[str, Breach] = {
    "an answer about no sample of ours": (
        ["UPDATE annotation_events SET sample_id = 'x' WHERE annotation_id = 13"],
        [
            "annotation 13 of label_studio is about sample x, which is not in the ledger",
            "annotation 13 of label_studio: its current answer is not what its latest event says",
        ],
        [],
    ),
    "an answer that moved to another sample": (
        ["UPDATE annotation_events SET sample_id = '{3}' WHERE value = 'cat' AND annotation_id = 11"],
        ["annotation 11 of label_studio is about more than one sample"],
        [],
    ),
    "an answer that changed its author": (
        ["UPDATE annotation_events SET annotator = 'eve' WHERE value = 'cat' AND annotation_id = 11"],
        ["annotation 11 of label_studio is by 2 people, one after the other"],
        [],
    ),
    "two unknown authors as one": (
        both("annotator = 'unknown author of annotation 18' WHERE annotation_id = 19"),
        [
            "annotation 19 of label_studio has the author of another: unknown author of annotation 18",
            "r0001: sample {6} is 'dog' by annotation 18, but unknown author of annotation 18 has one vote, and it is "
            "annotation 19",
        ],
        [],
    ),
    "people of before who had no name": (
        both("annotator = 'user None' WHERE annotation_id IN (13, 16)"),
        [],
        ["2 annotations of label_studio are by user None"],
    ),
    "a change before the making": (
        both("updated_at = '2000-01-01 00:00:00' WHERE annotation_id = 13"),
        [],
        ["1 states of annotations of label_studio are older than their annotations, the first is 13"],
    ),
    "pulled before it was made": (
        both("created_at = '2080-01-01 00:00:00', updated_at = '2080-01-01 00:00:00' WHERE annotation_id = 13"),
        [],
        ["annotation 13 of label_studio was pulled "],
    ),
    "a kind that is none": (
        both("kind = 'maybe' WHERE annotation_id = 17"),
        [OF_17 + "is of the kind 'maybe', which is none", OF_17 + "is kept as maybe, but Label Studio showed: answer"],
        [],
    ),
    "a kind that the JSON contradicts": (
        both("kind = 'empty', value = NULL WHERE annotation_id = 17"),
        [OF_17 + "is kept as empty, but Label Studio showed: answer"],
        [],
    ),
    "a guess kept as an answer": (
        [event(17, GUESS | {"id": 17})],
        [OF_17 + "is kept as answer, but Label Studio showed: guess"],
        [],
    ),
    "a value that the JSON contradicts": (
        both("value = 'dog' WHERE annotation_id = 17"),
        [OF_17 + "is kept with the class 'dog', but Label Studio showed 'cat'"],
        [],
    ),
    "a place that the JSON contradicts": (
        both("cell = 2 WHERE annotation_id = 17"),
        [OF_17 + "is kept as of image 2 of its task, but Label Studio showed image None"],
        [],
    ),
    "a number that the JSON contradicts": (
        [event(17, shown(71, "cat"))],
        [OF_17 + "has the number 71 in Label Studio"],
        [],
    ),
    "an answer kept as cancelled": (
        both("cancelled = TRUE WHERE annotation_id = 17"),
        [OF_17 + "is kept as answer, but is cancelled", OF_17 + "is kept as cancelled, but was not"],
        [],
    ),
    "a skip with a class": (
        both("value = 'cat' WHERE annotation_id = 13"),
        [
            "annotation 13 of label_studio is kept as skip, but says 'cat'",
            "annotation 13 of label_studio is kept with the class 'cat', but Label Studio showed None",
        ],
        [],
    ),
    "an answer without a class": (
        both("value = NULL WHERE annotation_id = 17"),
        [
            OF_17 + "is kept as answer, but names no class",
            OF_17 + "is kept with the class None, but Label Studio showed 'cat'",
        ],
        [],
    ),
    "haste of no duration": (
        both("kind = 'hasty', lead_time = NULL WHERE annotation_id = 17"),
        [OF_17 + "is kept as hasty, but nobody knows how long it took"],
        [],
    ),
    "a copy of nothing": (
        both("import_id = NULL WHERE annotation_id = 21"),
        ["annotation 21 of label_studio is kept as copy, but of no other annotation"],
        [],
    ),
    "a copy of another than the JSON says": (
        both("import_id = 11 WHERE annotation_id = 21"),
        ["annotation 21 of label_studio is kept as a copy of 11, but Label Studio showed 12"],
        [],
    ),
    "a copy that counts beside its original": (
        both("kind = 'answer' WHERE annotation_id = 21"),
        [
            "annotation 21 of label_studio counts beside annotation 12, of which it is a copy",
            BY_12 + "but ann has one vote, and it is annotation 21",
        ],
        [],
    ),
    "a correction by Label Studio": (
        both("kind = 'correction' WHERE annotation_id = 17"),
        [
            OF_17 + "is kept as correction, but was not brought along",
            OF_17 + "is kept as correction, but Label Studio showed: answer",
        ],
        [],
    ),
    "an answer that was taken back kept as standing": (
        [event(17, {"deleted": True})],
        [OF_17 + "is kept as standing, but was taken back"],
        [],
    ),
    "another annotation among the events": (
        ["UPDATE annotation_events SET created_at = '2025-03-01 11:00:00' WHERE annotation_id = 13"],
        [
            "annotation 13 of label_studio has events, but is missing from the current answers",
            "annotation 13 of label_studio is among the current answers, but no event tells of it",
        ],
        [],
    ),
    "a current answer that is missing": (
        ["DELETE FROM annotations WHERE annotation_id = 12"],
        ["annotation 12 of label_studio has events, but is missing from the current answers"],
        [],
    ),
    "a current answer under another number": (
        ["UPDATE annotations SET annotation_id = 44 WHERE annotation_id = 13"],
        [
            "annotation 13 of label_studio has events, but is missing from the current answers",
            "annotation 44 of label_studio is among the current answers, but no event tells of it",
        ],
        [],
    ),
    "a current answer that says something else": (
        ["UPDATE annotations SET value = 'cat' WHERE annotation_id = 13"],
        ["annotation 13 of label_studio: its current answer is not what its latest event says"],
        [],
    ),
    "a current answer of an older state": (
        ["UPDATE annotations SET value = 'cat', event_id = event_id - 1 WHERE annotation_id = 11"],
        ["annotation 11 of label_studio: its current answer is not what its latest event says"],
        [],
    ),
}

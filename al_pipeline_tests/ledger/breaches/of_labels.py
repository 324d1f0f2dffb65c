"""Frozen labels that are not what people had said."""

from al_pipeline.core.labels.annotation import UNSURE
from al_pipeline_tests.ledger.breaches.edits import (
    GUESS,
    KITTENS,
    Breach,
    both,
    class_set,
    empty_snapshot,
    event,
    frozen,
    shown,
)

HASH = "r0001: the labels are not those that were frozen: their hash differs"
NEVER_SAID = "r0001: no annotation 12 had said 'cat' of sample {2} by then"
BY_12 = "r0001: sample {2} is 'cat' by annotation 12, "
LABELS: dict[str, Breach] = {
    "a label that was changed": (
        frozen("label = 'dog'", 2),
        [HASH, "r0001: no annotation 12 had said 'dog' of sample {2} by then"],
        [],
    ),
    "a hash that was changed": (["UPDATE label_snapshots SET labels_hash = 'x'"], [HASH], []),
    "a label without its annotation": (
        [f"DELETE FROM {table} WHERE annotation_id IN (12, 21)" for table in ("annotations", "annotation_events")],
        [NEVER_SAID],
        [],
    ),
    "a label before its annotation": (
        both("pulled_at = '2090-01-01 00:00:00' WHERE annotation_id = 12"),
        [NEVER_SAID],
        [],
    ),
    "a label of the holdout": (
        ["UPDATE planned_tasks SET purpose = 'holdout' WHERE sample_id = '{1}'"],
        ["r0001: sample {1} is of the holdout, and was trained on"],
        [],
    ),
    "a label by a guess": (
        [*both("kind = 'guess', parent_prediction = 5, lead_time = NULL WHERE annotation_id = 12"), event(12, GUESS)],
        [BY_12 + "which is no answer, but guess"],
        [],
    ),
    "a label by a copy": (
        [*both("kind = 'copy', import_id = 50 WHERE annotation_id = 12"), event(12, shown(12, "cat", import_id=50))],
        [BY_12 + "which is no answer, but copy"],
        [],
    ),
    "a label by a slip of the hand": (
        both("kind = 'hasty' WHERE annotation_id = 12"),
        [BY_12 + "which is no answer, but hasty"],
        [],
    ),
    "a label by an empty annotation": (
        [*both("kind = 'empty', value = NULL WHERE annotation_id = 12"), event(12, shown(12))],
        [NEVER_SAID],
        [],
    ),
    "a label by a skip": (
        [
            *both("kind = 'skip', value = NULL, cancelled = TRUE WHERE annotation_id = 12"),
            event(12, shown(12, skip=True)),
        ],
        [NEVER_SAID],
        [],
    ),
    "a label by somebody who is unsure": (
        [*both(f"kind = 'unsure', value = '{UNSURE}' WHERE annotation_id = 12"), event(12, shown(12, UNSURE))],
        [NEVER_SAID],
        [],
    ),
    "a label by what was taken back": (
        [*both("deleted = TRUE WHERE annotation_id = 12"), event(12, {"deleted": True})],
        [BY_12 + "which was taken back"],
        [],
    ),
    "a label by what was changed before": (
        frozen("label = 'cat'", 1),
        [HASH, "r0001: sample {1} is 'cat' by annotation 11, which said 'dog' by then"],
        [],
    ),
    "a label by a task that was made by hand": (
        ["DELETE FROM planned_tasks WHERE sample_id = '{2}'"],
        [BY_12 + "which answers a task that nobody planned"],
        ["2 annotations of label_studio answer tasks that were made by hand"],
    ),
    "one person with two votes": (
        both("annotator = 'ann' WHERE annotation_id = 15"),
        ["r0001: sample {4} is 'cat' by annotation 14, but ann has one vote, and it is annotation 15"],
        [],
    ),
    "votes that nobody gave": (
        frozen("n_votes = 2, weight = 1", 4),
        ["r0001: sample {4} has 2 of 2 votes for 'cat', but people had said 'cat': 2, 'dog': 1"],
        [],
    ),
    "more votes than annotations": (
        frozen("n_votes = 2, votes = 2", 2),
        ["r0001: sample {2} has 2 of 2 votes, from 1 annotations"],
        [],
    ),
    "a label by a minority": (
        frozen("n_votes = 2, weight = 0.5", 2),
        ["r0001: sample {2} has 1 of 2 votes, from 1 annotations"],
        [],
    ),
    "a weight above 1": (
        frozen("weight = 1.5", 2),
        ["r0001: sample {2} has the weight 1.5, and should have one between 0 and 1"],
        [],
    ),
    "annotations that are no numbers": (
        frozen("annotation_ids = '12,x'", 2),
        ["r0001: sample {2} has the annotations '12,x', which are no numbers"],
        [],
    ),
    "a label since another round": (
        frozen("first_round = 'r0001'", 2),
        ["r0001: sample {2} is 'cat' since r0001, but people had said so first in r0000"],
        [],
    ),
    "a label that was corrected": (
        frozen("label = 'cat', annotation_ids = '17'", 5),
        [HASH, "r0001: sample {5} is 'cat' by annotation 17, which annotation 99 had corrected to 'dog'"],
        [],
    ),
    "a correction that was left out": (
        ["DELETE FROM snapshot_labels WHERE sample_id = '{5}'"],
        [HASH, "r0001: sample {5} has no label, though annotation 99 had corrected it"],
        [],
    ),
    "a label outside of its classes": (
        frozen("label = 'cow'", 2),
        [HASH, "r0001: sample {2} is 'cow', which is no class of its set (cat, dog)"],
        [],
    ),
    "a label of a class set that is not there": (
        ["UPDATE label_snapshots SET class_set = 7"],
        ["r0001: the labels are of the class set 7, which is not in the ledger"],
        [],
    ),
    "a snapshot of no class set": (
        ["UPDATE label_snapshots SET class_set = NULL"],
        ["r0001: the labels are of no class set, though there was one"],
        [],
    ),
    "a snapshot of an older class set": (
        [
            class_set(1, "rename", {"old": "cat", "new": "kitten"}, ["kitten", "dog"], KITTENS),
            empty_snapshot("created_at", 1),
        ],
        [
            "r0001: the labels are of the class set 0, but an earlier round's are of 1",
            "r0000: sample {5} has no label, though annotation 99 had corrected it",
        ],
        [],
    ),
    "a snapshot that is older than the one before": (
        [empty_snapshot("'2090-01-01 00:00:00'", 0)],
        ["r0000: sample {5} has no label, though annotation 99 had corrected it"],
        ["r0001: the labels were frozen before those of r0000, which was run late"],
    ),
}

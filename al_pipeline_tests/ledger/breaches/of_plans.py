"""Plans that no plan can be, and sources that are not ours."""

from al_pipeline_tests.ledger.breaches.edits import Breach

PLANS: dict[str, Breach] = {
    "two live tasks of a sample": (
        [
            "DROP INDEX uq_planned_tasks_live_sample",
            "UPDATE planned_tasks SET sample_id = '{2}' WHERE sample_id = '{7}'",
        ],
        ["sample {2} has 2 tasks at once"],
        [],
    ),
    "a task id without a push": (
        ["UPDATE planned_tasks SET pushed_at = NULL WHERE sample_id = '{1}'"],
        ["r0000: the task of sample {1} has a task id or a time of its push, but not both"],
        [],
    ),
    "withdrawn before its push": (
        ["UPDATE planned_tasks SET withdrawn_at = '2000-01-01 00:00:00' WHERE sample_id = '{1}'"],
        ["r0000: the task of sample {1} was withdrawn before it was pushed"],
        [],
    ),
    "one task for two samples": (
        ["UPDATE planned_tasks SET task_id = 101 WHERE sample_id = '{2}'"],
        ["r0000: task 101 asks about 2 samples"],
        [],
    ),
    "one task for two samples, of which one has a place": (
        ["UPDATE planned_tasks SET task_id = 101, cell = 2 WHERE sample_id = '{2}'"],
        ["r0000: task 101 asks about 2 samples"],
        [],
    ),
    "a place that no task has": (
        ["UPDATE planned_tasks SET cell = 10 WHERE sample_id = '{2}'"],
        ["r0000: sample {2} is image 10 of its task, which shows 9 at most"],
        [],
    ),
    "one task in two rounds": (
        ["UPDATE planned_tasks SET task_id = 101, pushed_at = planned_at WHERE sample_id = '{7}'"],
        [],
        ["1 task ids are of several pushes, the first is 101 of r0000 and r0001"],
    ),
    "a purpose that is none": (
        ["UPDATE planned_tasks SET purpose = 'queries' WHERE sample_id = '{7}'"],
        ["r0001: the purpose of sample {7} is 'queries', which is none of query, holdout, review"],
        [],
    ),
    "a query about the images' holdout": (
        ["UPDATE planned_tasks SET sample_id = '{20}' WHERE sample_id = '{7}'"],
        ["r0001: sample {20} is asked to be trained on, but is of the images' holdout"],
        [],
    ),
    "a query about an earlier holdout": (
        [
            "UPDATE planned_tasks SET purpose = 'holdout', withdrawn_at = '2090-01-01 00:00:00' "
            "WHERE sample_id = '{3}'",
            "UPDATE planned_tasks SET sample_id = '{3}' WHERE sample_id = '{7}'",
        ],
        ["r0001: sample {3} is asked to be trained on, but was of the holdout in r0000"],
        [],
    ),
    "a query about what was drawn for the holdout": (
        ["INSERT INTO drawn_holdout VALUES ('{7}', 0, 0.5, '2026-01-01 00:00:00')"],
        ["r0001: sample {7} was drawn for the holdout, and is asked about as a query"],
        [],
    ),
    "a label of what was drawn for the holdout": (
        ["INSERT INTO drawn_holdout VALUES ('{2}', 0, 0.5, '2026-01-01 00:00:00')"],
        [
            "r0000: sample {2} was drawn for the holdout, and is asked about as a query",
            "r0001: sample {2} is of the holdout, and was trained on",
        ],
        [],
    ),
    "a holdout that was not drawn": (
        [
            "UPDATE planned_tasks SET purpose = 'holdout', propensity = 0.5 WHERE sample_id = '{7}'",
            "INSERT INTO drawn_holdout VALUES ('{9}', 0, 0.5, '2000-01-01 00:00:00')",
        ],
        ["r0001: sample {7} is asked about for the holdout, and was not drawn"],
        [],
    ),
    "a draw with a rank twice, and no probability": (
        [
            "INSERT INTO drawn_holdout VALUES ('{9}', 0, 1.5, '2026-01-01 00:00:00')",
            "INSERT INTO drawn_holdout VALUES ('{10}', 0, 0.5, '2026-01-01 00:00:00')",
        ],
        [
            "the propensity of sample {9}, drawn for the holdout, is 1.5, and should be between 0 and 1",
            "2 samples were drawn for the holdout with the rank 0",
        ],
        [],
    ),
    "a rank twice": (
        ["UPDATE planned_tasks SET rank = 0 WHERE sample_id = '{8}'"],
        ["r0001: 2 samples have the rank 0 of the purpose query"],
        [],
    ),
    "a propensity above 1": (
        ["UPDATE planned_tasks SET propensity = 1.5 WHERE sample_id = '{7}'"],
        ["r0001: the propensity of sample {7} is 1.5, and should be between 0 and 1"],
        [],
    ),
    "a certainty below 0": (
        ["UPDATE planned_tasks SET certainty = -0.5 WHERE sample_id = '{7}'"],
        ["r0001: the certainty of sample {7} is -0.5, and should be between 0 and 1"],
        [],
    ),
    "a probability above 1": (
        ["UPDATE planned_tasks SET predicted_probability = 2 WHERE sample_id = '{7}'"],
        ["r0001: the predicted_probability of sample {7} is 2.0, and should be between 0 and 1"],
        [],
    ),
    "a round that is none": (
        ["INSERT INTO planned_rounds (round, planned_at) VALUES ('x1', '2090-01-01 00:00:00')"],
        ["'x1' is no round (r and four digits)"],
        [],
    ),
    "tasks of a round that is not there": (
        ["DELETE FROM planned_rounds WHERE round = 'r0001'"],
        ["2 rows of planned_tasks speak of something that is not in planned_rounds, the first of round r0001"],
        [],
    ),
    "a task about a sample that is not there": (
        ["DELETE FROM samples WHERE sample_id = '{7}'"],
        ["1 rows of planned_tasks speak of something that is not in samples, the first of sample_id {7}"],
        [],
    ),
    "a snapshot of a round that was never planned": (
        [
            "DELETE FROM planned_tasks WHERE round = 'r0001'",
            "DELETE FROM planned_rounds WHERE round = 'r0001'",
            "INSERT INTO planned_rounds (round, planned_at) VALUES ('r0005', '2090-01-01 00:00:00')",
        ],
        [],
        ["r0001: the labels are frozen, but nothing was planned"],
    ),
    "a project of two identities": (
        [
            "INSERT INTO projects (identity, project_id, created_at, title, url, seen_at) VALUES "
            f"('{name}', 3, '2025-03-01 12:00:00', 'Labels', 'http://127.0.0.1', '2025-03-01 12:00:00')"
            for name in ("label_studio", "another")
        ],
        ["project 3 of 2025-03-01 12:00:00+00:00 has 2 identities, the first is another"],
        [],
    ),
    "annotations of a project that was not adopted": (
        [
            "INSERT INTO projects (identity, project_id, created_at, title, url, seen_at) VALUES "
            "('another', 3, '2025-03-01 12:00:00', 'Labels', 'http://127.0.0.1', '2025-03-01 12:00:00')",
            "INSERT INTO watermarks (name, value) VALUES ('a third', '2025-03-01 12:00:00')",
        ],
        [],
        ["the annotations of label_studio are of no project that is known", "a third was read, but has no annotations"],
    ),
    "a source read up to the future": (
        [
            "INSERT INTO watermarks (name, value, pulled_at) VALUES "
            "('label_studio', '2090-01-01 00:00:00', '2025-03-01 12:00:00')"
        ],
        [],
        ["label_studio was read up to 2090-01-01 00:00:00+00:00 at 2025-03-01 12:00:00+00:00"],
    ),
}

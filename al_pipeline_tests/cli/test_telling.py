"""What the terminal says: a table of cases, from what is the case to the line, and from one look to the next."""

from dataclasses import replace

import pytest

from al_pipeline.cli.telling import news, now_line
from al_pipeline.core.evaluation.metrics import Interval
from al_pipeline.loop.asked import Batch
from al_pipeline.servers.watcher import Failure, Result, Run, Scene, result_of

NOW = 1000.0
OPEN = Batch("r0003", test=(1, 2), training=(3, 6))
DONE = replace(OPEN, test=(2, 2), training=(6, 6), skipped=1)
BEHIND = Batch("r0004", test=(0, 0), training=(0, 8))
BEGUN = replace(BEHIND, training=(1, 8))
MADE = Run("round", "r0004", began=NOW - 5)
DAGSTER = "http://127.0.0.1:3000"

NOW_LINES: dict[str, Scene] = {
    "Nothing has been asked yet": Scene(),
    "r0003: 4 of 8 answered (2 test images, 6 to learn from)": Scene((OPEN,)),
    # With one purpose alone nothing is told apart.
    "r0004: 0 of 8 answered": Scene((BEHIND,)),
    "r0003: 4 of 8 answered (2 test images, 6 to learn from) · r0004 is ready behind it": Scene((OPEN, BEHIND)),
    # Several people: one has come to the next batch.
    "r0003: 4 of 8 answered (2 test images, 6 to learn from) · r0004: 1 of 8 answered": Scene((OPEN, BEGUN)),
    "r0004: 1 of 8 answered": Scene((DONE, BEGUN)),
    # The next round was opened early; there is something to label meanwhile.
    "r0003: 4 of 8 answered (2 test images, 6 to learn from) · r0004 is being made, its batch comes in "
    "about 15 s": Scene((OPEN,), running=MADE, usual=20),
    "r0004 is being made, its batch comes in about 15 s": Scene((DONE,), running=MADE, usual=20),
    "r0004 is being made, for 5 s so far (4 s the last times)": Scene((DONE,), running=MADE, usual=4),
    "r0000 is being made, for 5 s so far": Scene(running=Run("round", "r0000", NOW - 5)),
    "r0003: 4 of 8 answered (2 test images, 6 to learn from) · r0003 is being measured": Scene(
        (OPEN,), running=replace(MADE, key="r0003")
    ),
    "setup runs, for 5 s so far": Scene((DONE,), running=Run("setup", None, NOW - 5)),
    # The sensor looked 2 s ago and looks in 3 s; or in 4 s, where its last look but one is known.
    "r0003 is answered · the next batch comes in about 23 s": Scene((DONE,), usual=20, looked_at=NOW - 2),
    "r0003 is answered · the sensor looks in 4 s": Scene((DONE,), looked_at=NOW - 6),
    "Stalled: r0003: put the images back": Scene((OPEN,), decision="Stalled", reason="r0003: put the images back"),
    "Done: no image is left": Scene((DONE,), decision="Done", reason="no image is left"),
}


@pytest.mark.parametrize(("line", "scene"), NOW_LINES.items(), ids=list(NOW_LINES))
def test_one_line_says_what_people_wait_for(line: str, scene: Scene) -> None:
    assert now_line(scene, NOW) == line


RESULT = Result(
    "r0003",
    labels=48,
    test=100,
    trained=True,
    scores={"accuracy": Interval(0.812, 0.74, 0.87), "roc_auc": Interval(0.93, 0.9, 0.95)},
    changes={"accuracy": Interval(0.041, 0.01, 0.072), "roc_auc": Interval(0.01, -0.004, 0.024)},
    notes=("no test image is a dog",),
    saved="saved so far, at 95 % confidence: 12 to 40 labels",
    advice="Stop: the last 3 models agree.",
)
BRIEF = Result("r0004", 0, 2, trained=False, scores={"accuracy": None, "roc_auc": None}, changes={})
FAILED = Failure("abc", "r0004", canceled=False, cause="The disk is full: make room.", again=True)
STALLED = Scene((OPEN,), decision="Stalled", reason="r0004: 3 of 3 attempts failed")
NEWS: list[tuple[Scene, Scene, list[str]]] = [
    (Scene(), Scene((BEHIND,)), ["r0004 asked: 8 to label: all to learn from"]),
    (Scene(), Scene((OPEN,)), ["r0003 asked: 4 left of 8 to label: 2 test images, 6 to learn from"]),
    (Scene(), Scene((Batch("r0000", (0, 8), (0, 0)),)), ["r0000 asked: 8 to label: all test images"]),
    # That something was answered is what the line below is for.
    (Scene((replace(OPEN, training=(0, 6)),)), Scene((OPEN,)), []),
    (Scene((OPEN,)), Scene((DONE,)), ["r0003 answered: all 8 tasks, 1 of them skipped"]),
    # Before the first model there is nothing to advise.
    (
        Scene(),
        Scene(result=Result("r0000", 0, 0, trained=False, scores={}, changes={}, saved="none yet", advice="Go on.")),
        ["r0000 measured: an untrained model, 0 images to test on"],
    ),
    # People have come to the batch that was ready behind: it was told then.
    (Scene((OPEN, BEHIND)), Scene((DONE, BEGUN)), ["r0003 answered: all 8 tasks, 1 of them skipped"]),
    (Scene((DONE, BEGUN)), Scene((BEGUN,)), []),
    # To who comes later only what is left is of use.
    (Scene(), Scene((DONE, BEGUN)), ["r0004 asked: 7 left of 8 to label: all to learn from"]),
    (Scene(), Scene((DONE,)), ["r0003 asked: none left of 8 to label: 2 test images, 6 to learn from"]),
    # Between two looks people have answered all of a batch that came after the first, and even of the next one.
    (
        Scene((OPEN,), seen=True),
        Scene((DONE, replace(BEGUN, training=(8, 8)), Batch("r0005", (0, 0), (2, 4)))),
        [
            "r0003 answered: all 8 tasks, 1 of them skipped",
            "r0004 asked: 8 to label: all to learn from",
            "r0004 answered: all 8 tasks",
            "r0005 asked: 4 to label: all to learn from",
        ],
    ),
    # So may be the first.
    (
        Scene(seen=True),
        Scene((DONE,)),
        ["r0003 asked: 8 to label: 2 test images, 6 to learn from", "r0003 answered: all 8 tasks, 1 of them skipped"],
    ),
    # A round that asked nobody.
    (
        Scene((OPEN,), seen=True),
        Scene((DONE, Batch("r0004", (0, 0), (0, 0)))),
        ["r0003 answered: all 8 tasks, 1 of them skipped"],
    ),
    (
        Scene((OPEN,)),
        Scene((OPEN,), refining="r0003"),
        ["r0003 refining: the whole network learns from its labels while people label"],
    ),
    (
        Scene((OPEN,), refining="r0003"),
        Scene((OPEN,), refined=("r0003", "the network is better, and serves")),
        ["r0003 refined: the network is better, and serves"],
    ),
    (
        Scene((DONE,), usual=20),
        Scene((DONE,), running=MADE, usual=20),
        ["r0004 begun: it learns and chooses the next batch, which took 20 s the last times"],
    ),
    (Scene((BEHIND,)), Scene((BEHIND,), running=MADE), []),
    (Scene(), Scene(running=Run("setup", None, NOW)), ["setup begun: the images are scanned"]),
    (
        Scene(),
        Scene(result=RESULT),
        [
            "r0003 measured: 48 labels to learn from, 100 images to test on; accuracy 0.812 (0.740 to 0.870), +0.041 "
            "(+0.010 to +0.072): better; ROC-AUC 0.930 (0.900 to 0.950), +0.010 (-0.004 to +0.024): no difference "
            "shown; no test image is a dog",
            "r0003 labels saved: saved so far, at 95 % confidence: 12 to 40 labels",
            "r0003 advice: Stop: the last 3 models agree.",
        ],
    ),
    (Scene(result=RESULT), Scene(result=RESULT), []),
    # Two rounds have come through between two looks; what was told is not told again.
    (
        Scene(result=RESULT),
        Scene(result=replace(BRIEF, key="r0005"), between=(BRIEF,)),
        [f"{key} measured: an untrained model, 2 images to test on" for key in ("r0004", "r0005")],
    ),
    (Scene(result=replace(BRIEF, key="r0005"), between=(BRIEF,)), Scene(result=replace(BRIEF, key="r0005")), []),
    (
        Scene(result=BRIEF),
        Scene(result=replace(BRIEF, key="r0005"), between=(BRIEF,)),
        ["r0005 measured: an untrained model, 2 images to test on"],
    ),
    (
        Scene(),
        Scene(result=Result("r0000", 0, 2, trained=False, scores={"accuracy": None, "roc_auc": None}, changes={})),
        ["r0000 measured: an untrained model, 2 images to test on"],
    ),
    (
        Scene(),
        Scene(failures=(FAILED,)),
        [f"r0004 failed: The disk is full: make room; it is tried again by itself; {DAGSTER}/runs/abc"],
    ),
    (
        Scene(failures=(FAILED,)),
        Scene(failures=(replace(FAILED, run_id="def", again=False, cause=None), FAILED)),
        [
            "r0004 failed: the run told no cause; mend the cause, then re-execute the run in Dagster; "
            f"{DAGSTER}/runs/def"
        ],
    ),
    (
        Scene(),
        Scene(failures=(replace(FAILED, canceled=True, cause=None),)),
        [
            "r0004 canceled: somebody ended the run; the loop goes on once it is re-executed in Dagster; "
            f"{DAGSTER}/runs/abc"
        ],
    ),
    (Scene((OPEN,)), STALLED, ["loop stalled: r0004: 3 of 3 attempts failed"]),
    (STALLED, STALLED, []),
    (
        Scene(),
        Scene(hindered="Label Studio did\nnot answer"),
        ["loop hindered: Label Studio did not answer; the sensor looks again by itself"],
    ),
    (Scene(), Scene(warning="Ignored: 'foo'"), ["loop warning: Ignored: 'foo'"]),
    (Scene((OPEN,)), Scene((OPEN,), remarks="2 labels are unused."), ["r0003 note: 2 labels are unused."]),
    (Scene((OPEN,), remarks="2 labels are unused."), Scene((OPEN,), remarks="3 labels are unused."), []),
]


@pytest.mark.parametrize(("before", "after", "lines"), NEWS)
def test_what_has_happened_is_told_once_and_in_one_line_each(before: Scene, after: Scene, lines: list[str]) -> None:
    assert [each.line for each in news(before, after, DAGSTER)] == lines


def test_who_has_to_do_something_is_told_so() -> None:
    told = news(Scene(), replace(STALLED, failures=(FAILED,), result=RESULT), DAGSTER)
    assert [each.what for each in told if each.alert] == ["failed", "advice", "stalled"]


def test_a_class_that_is_not_found_is_no_remark_on_a_network_that_has_not_learned() -> None:
    document = {"n_labels": 0, "hint": "label more dogs", "evaluation": {"n": 2, "note": "2 images are few"}}
    assert result_of("r0000", document | {"trained": False}).notes == ("2 images are few",)
    assert result_of("r0001", document | {"trained": True}).notes == ("2 images are few", "label more dogs")

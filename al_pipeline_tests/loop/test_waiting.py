"""Whoever has no image to label is told when the next ones come, or why none do."""

from dataclasses import replace

from al_pipeline.core.rounds import Done, RoundStatus, Stalled, Wait
from al_pipeline.labelstudio.notice import kept, noted
from al_pipeline.loop.waiting import coming, lasting

STATUS = RoundStatus(round_number=3, run_state="succeeded", planned=8, labeled=8)


def test_only_what_does_not_go_by_itself_is_told_in_the_instructions() -> None:
    assert lasting(Wait("r0003: 0 of 8 answered")) == ""
    assert lasting(Stalled("r0003: mend it")).endswith("somebody has to look at the loop. r0003: mend it.")
    assert lasting(Done("20 labels exist")) == "Thank you, this was all: 20 labels exist."


def test_the_next_batch_is_promised_when_nothing_is_left_to_answer_and_one_is_made() -> None:
    wait = Wait("")
    assert coming(STATUS, wait, 19.6).startswith("The next batch comes in about 20 s; where Label Studio says “No More")
    assert coming(replace(STATUS, run_state="in_progress"), wait, None).startswith("The next batch comes soon; ")
    assert coming(replace(STATUS, labeled=7), wait, 19.6) == ""
    assert coming(STATUS, Done("over"), 19.6) == coming(RoundStatus(), wait, None) == ""


def test_a_notice_stands_above_the_instructions_and_leaves_nothing_behind() -> None:
    told = noted("<p>Look.</p>", "a < b")
    assert told == '<p class="notice"><b>a &lt; b</b></p><p>Look.</p>'
    assert noted(told, "") == "<p>Look.</p>"
    assert kept(told, "<p>Look twice.</p>") == '<p class="notice"><b>a &lt; b</b></p><p>Look twice.</p>'
    assert noted(told, "c") == '<p class="notice"><b>c</b></p><p>Look.</p>'

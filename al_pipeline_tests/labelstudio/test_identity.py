"""The line in a project's description that says who it is: found, written and kept among what people wrote."""

import pytest

from al_pipeline.labelstudio.identity import marks, signed

ONE, OTHER = "0f2c8a52-6c5e-4f2e-9d3a-5d3c9a1f7b10", "9b0d1c57-3a34-4c55-8f5e-0a1b2c3d4e5f"


@pytest.mark.parametrize("text", ["", "Horses and meadows.", "Two lines,\nof somebody.\n\n"])
def test_what_is_written_is_found_and_peoples_own_text_stays(text: str) -> None:
    first = signed(text, ONE)
    assert marks(first) == (ONE, None)
    second = signed(first, ONE, "r0005")
    assert marks(second) == (ONE, "r0005")
    assert second.startswith(text.rstrip())
    assert signed(second, ONE, "r0005") == second
    assert signed(second, ONE).count("al_pipeline:") == 1


def test_text_that_people_put_around_the_mark_stays_on_its_line() -> None:
    text = f"Ask Ada. al_pipeline:{ONE} r0003, since spring\nBe quick."
    assert signed(text, ONE, "r0004") == f"Ask Ada. al_pipeline:{ONE} r0004, since spring\nBe quick."


@pytest.mark.parametrize(
    "text", ["", "al_pipeline", "al_pipeline: see the wiki", f"AL_PIPELINE:{ONE}", f"al_pipeline:{ONE[:-1]}"]
)
def test_what_is_no_mark_is_none(text: str) -> None:
    assert marks(text) == (None, None)


def test_of_two_marks_the_first_counts() -> None:
    assert marks(f"al_pipeline:{ONE} r0001\nal_pipeline:{OTHER} r0002") == (ONE, "r0001")

"""Whose a project is, and that nothing is changed in one that is another home's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from al_pipeline.core.errors import InputError
from al_pipeline.labelstudio.config import Interface
from al_pipeline.labelstudio.connection import LabelStudioError
from al_pipeline.ledger import Ledger
from al_pipeline.loop.identity import ensure_owned, owned, sign, was_set_back
from al_pipeline_tests.faults.memory_studio import PROJECT, Clock, MemoryStudio
from al_pipeline_tests.ledger.builders import manifest, plan_rows, sample

CLASSES = ("cat", "dog")
TITLE = "memory"


@pytest.fixture
def ledgers(tmp_path: Path) -> Iterator[list[Ledger]]:
    """The ledgers of two homes."""
    both = [Ledger(f"sqlite:///{tmp_path / name}.sqlite3") for name in ("one", "other")]
    for ledger in both:
        ledger.register(manifest())
    yield both
    for ledger in both:
        ledger.close()


@pytest.fixture
def studio() -> MemoryStudio:
    """A server without a project."""
    studio = MemoryStudio(Clock())
    studio.delete_project()
    return studio


def pushed(ledger: Ledger, studio: MemoryStudio, key: str, *numbers: int) -> None:
    ledger.plan(key, plan_rows(*numbers))
    ledger.record_pushed(key, {sample(number): number for number in numbers}, studio.now())


def test_a_project_that_is_made_is_known_from_then_on(ledgers: list[Ledger], studio: MemoryStudio) -> None:
    made = ensure_owned(ledgers[0], studio, TITLE, Interface(CLASSES))
    assert made.identity == studio.project(PROJECT).identity
    assert ensure_owned(ledgers[0], studio, TITLE, Interface(CLASSES)) == made
    assert owned(ledgers[0], studio, studio.project(PROJECT)).source == made.source
    assert len(ledgers[0].projects()) == 1


@pytest.mark.parametrize("request_number", range(4))
@pytest.mark.parametrize("kind", ["before", "after"])
def test_a_home_that_is_killed_while_it_makes_its_project_knows_it(
    ledgers: list[Ledger], studio: MemoryStudio, request_number: int, kind: str
) -> None:
    studio.fail_after(request_number, "before" if kind == "before" else "after")
    with pytest.raises(LabelStudioError):
        ensure_owned(ledgers[0], studio, TITLE, Interface(CLASSES))
    studio.heal()
    made = ensure_owned(ledgers[0], studio, TITLE, Interface(CLASSES))
    assert [known.identity for known in ledgers[0].projects()] == [made.identity]
    assert studio.project(PROJECT).identity == made.identity


def test_another_homes_project_is_refused_and_nothing_is_changed_in_it(
    ledgers: list[Ledger], studio: MemoryStudio
) -> None:
    identity = ensure_owned(ledgers[0], studio, TITLE, Interface(CLASSES)).identity
    before = studio.backup()
    for attempt in (
        lambda: ensure_owned(ledgers[1], studio, TITLE, Interface(CLASSES)),
        lambda: owned(ledgers[1], studio, studio.project(PROJECT)),
    ):
        with pytest.raises(InputError, match=r"belongs to another home.*AL_LABEL_STUDIO_PROJECT") as told:
            attempt()
        assert f"remove the line with al_pipeline:{identity} from its description" in str(told.value)
    assert studio.state == before
    assert ledgers[1].projects() == []


def test_a_home_takes_a_project_over_whose_line_was_removed_and_the_other_is_refused(
    ledgers: list[Ledger], studio: MemoryStudio
) -> None:
    first = ensure_owned(ledgers[0], studio, TITLE, Interface(CLASSES))
    pushed(ledgers[0], studio, "r0000", 1)
    studio.state.description = ""
    # Whoever only looks writes nothing: the other home shall have the time.
    assert owned(ledgers[0], studio, studio.project(PROJECT)).identity == first.identity
    assert studio.state.description == ""
    second = ensure_owned(ledgers[1], studio, TITLE, Interface(CLASSES))
    assert studio.project(PROJECT).identity == second.identity != first.identity
    with pytest.raises(InputError, match="belongs to another home"):
        owned(ledgers[0], studio, studio.project(PROJECT))
    with pytest.raises(LabelStudioError, match="another identity"):
        sign(ledgers[0], studio, first)
    assert studio.project(PROJECT).identity == second.identity


def test_a_copy_of_ones_own_project_is_told_from_it(ledgers: list[Ledger], studio: MemoryStudio) -> None:
    ensure_owned(ledgers[0], studio, TITLE, Interface(CLASSES))
    line = studio.state.description
    studio.delete_project()
    studio.ensure_project(TITLE, Interface(CLASSES))
    studio.state.description = line
    with pytest.raises(InputError, match=r"is a copy: its description names the identity of project 1, made on 05 Jan"):
        ensure_owned(ledgers[0], studio, TITLE, Interface(CLASSES))
    assert studio.state.description == line


def test_a_project_without_a_line_is_adopted_with_what_was_pushed_to_it(
    ledgers: list[Ledger], studio: MemoryStudio
) -> None:
    studio.ensure_project(TITLE, Interface(CLASSES))
    studio.state.description = "Horses and meadows."
    pushed(ledgers[0], studio, "r0000", 1)
    found = owned(ledgers[0], studio, studio.project(PROJECT))
    assert studio.state.description.startswith("Horses and meadows.\n\nMade by al_pipeline")
    assert studio.project(PROJECT) == found
    assert not was_set_back(ledgers[0], found)


def test_a_new_project_and_an_older_state_of_it_are_told_by_the_newest_round(
    ledgers: list[Ledger], studio: MemoryStudio
) -> None:
    ledger = ledgers[0]
    project = ensure_owned(ledger, studio, TITLE, Interface(CLASSES))
    assert not was_set_back(ledger, project)
    pushed(ledger, studio, "r0000", 1)
    sign(ledger, studio, project)
    backup = studio.backup()
    assert not was_set_back(ledger, studio.project(PROJECT))
    pushed(ledger, studio, "r0001", 2)
    sign(ledger, studio, project)
    assert not was_set_back(ledger, studio.project(PROJECT))
    studio.restore(backup)
    assert was_set_back(ledger, owned(ledger, studio, studio.project(PROJECT)))
    studio.delete_project()
    anew = ensure_owned(ledger, studio, TITLE, Interface(CLASSES))
    assert was_set_back(ledger, anew)
    assert anew.identity != project.identity

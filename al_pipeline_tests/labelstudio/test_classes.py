"""A project's labeling interface that somebody has changed: what is noticed, and what brings it back."""

from typing import Any

import pytest

from al_pipeline.core.labels.class_set import ClassSet
from al_pipeline.labelstudio.config import Interface, classes_in
from al_pipeline.labelstudio.connection import LabelStudioError
from al_pipeline.loop.classes import obstacle
from al_pipeline_tests.labelstudio.projects import CLASSES, Project

pytestmark = pytest.mark.labelstudio

HORSE, MEADOW = CLASSES


def edit(project: Project, old: str, new: str) -> None:
    """Change the label config by hand, as on the page Labeling Interface: what its Save sends."""
    connection, config = project.client.connection, config_of(project)
    assert old in config
    change: dict[str, Any] = {"label_config": config.replace(old, new)}
    connection.send("update the project", lambda: connection.sdk.projects.update(id=project.id, **change))


def config_of(project: Project) -> str:
    return project.client.project_counts(project.id).label_config


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (f'value="{HORSE}"', 'value="pony"', "al classes rename 'dark horse' pony"),
        ("</Choices>", '<Choice value="zebra"/></Choices>', "al classes add zebra"),
        ('choice="single-radio"', 'choice="multiple"', "several classes"),
        ('name="label"', 'name="kind"', "'kind'"),
    ],
    ids=["renamed", "added", "multiple", "another tag"],
)
def test_what_somebody_changes_in_the_interface_is_seen_in_the_counters_and_setup_brings_it_back(
    project: Project, old: str, new: str, told: str
) -> None:
    classes = ClassSet(CLASSES)
    tasks = list(project.add(2).values())
    assert obstacle(classes, config_of(project)) is None
    if "kind" not in new:
        # It takes any change of a class that was answered with.
        project.client.annotate(tasks[0], HORSE)
    edit(project, old, new)
    found = obstacle(classes, config_of(project))
    assert found is not None
    assert told in found
    assert "`setup`" in found
    assert project.client.ensure_project(project.title, Interface(CLASSES)) == project.id
    assert obstacle(classes, config_of(project)) is None
    assert [event.value for event in project.client.annotations(project.id)] == [HORSE] * ("kind" not in new)


def test_why_label_studio_refuses_is_told(project: Project) -> None:
    (task,) = project.add(1).values()
    project.client.annotate(task, HORSE)
    with pytest.raises(LabelStudioError) as error:
        edit(project, 'name="label"', 'name="kind"')
    assert "400" in str(error.value)
    assert "label" in str(error.value)
    assert "Validation error" not in str(error.value)


def test_a_page_that_was_open_answers_with_the_old_name(project: Project) -> None:
    (first, second) = project.add(2).values()
    project.client.ensure_project(project.title, Interface(["pony", MEADOW]))
    assert classes_in(config_of(project)) == ["pony", MEADOW]
    project.client.annotate(first, HORSE)
    project.client.annotate(second, "pony")
    classes = ClassSet(CLASSES).rename(HORSE, "pony")
    assert [classes.of(event.value) for event in project.client.annotations(project.id)] == ["pony", "pony"]

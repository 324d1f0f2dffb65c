"""The simulated annotators answer as people would, through Label Studio, the same way every time."""

from collections import defaultdict
from collections.abc import Callable

import pytest

from al_pipeline.core.errors import InputError
from al_pipeline.labelstudio.annotator import Answered, SimulatedAnnotator
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.connection import LabelStudioUnavailableError
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.servers.processes import free_port
from al_pipeline_tests.labelstudio.projects import CLASSES, Project

pytestmark = pytest.mark.labelstudio

Answers = dict[tuple[str, str], str | None]


def truth_of(samples: list[str] | dict[str, int]) -> dict[str, str]:
    """Return a class for each sample, in turn."""
    return {sample: CLASSES[i % 2] for i, sample in enumerate(samples)}


def answers(project: Project) -> Answers:
    """Return what was answered, by sample and annotator."""
    events = project.client.annotations(project.id)
    found = {(str(event.sample_id), event.annotator): event.value for event in events}
    assert len(found) == len(events), "nobody answers a task twice"
    return found


def test_every_open_task_gets_the_true_class_and_no_second_answer(server: LocalLabelStudio, project: Project) -> None:
    truth = truth_of(project.add(5))
    annotator = SimulatedAnnotator(project.client, project.id, truth, CLASSES)
    assert annotator.answer_open_tasks() == Answered(labeled=5)
    assert annotator.answer_open_tasks() == Answered()
    assert answers(project) == {(sample, server.username): label for sample, label in truth.items()}


def test_a_limit_and_a_round_bound_what_is_answered(project: Project) -> None:
    truth = truth_of({**project.add(3, "r0000"), **project.add(3, "r0001")})
    annotator = SimulatedAnnotator(project.client, project.id, truth, CLASSES)
    assert annotator.answer_open_tasks(round_key="r0001", limit=2).labeled == 2
    assert sum(task.annotations for task in project.client.tasks(project.id, "r0000")) == 0
    assert annotator.answer_open_tasks(round_key="r0001").labeled == 1
    assert annotator.answer_open_tasks().labeled == 3


def test_samples_whose_class_is_not_known_are_left_to_people(project: Project) -> None:
    truth = truth_of(list(project.add(4))[:2])
    assert SimulatedAnnotator(project.client, project.id, truth, CLASSES).answer_open_tasks().labeled == 2


def test_errors_and_skips_come_in_the_shares_asked_for_and_depend_on_the_seed_alone(
    make_project: Callable[..., Project],
) -> None:
    def run(seed: int, *, first: int = 0) -> tuple[Answered, Answers]:
        project = make_project()
        samples = [f"{i:032x}" for i in range(20)]
        for part in (samples[first:], samples[:first]):
            project.client.import_tasks(project.id, project.payloads(part))
        truth = truth_of(samples)
        answered = SimulatedAnnotator(
            project.client, project.id, truth, CLASSES, error_rate=0.5, skip_rate=0.3, seed=seed
        ).answer_open_tasks()
        given = answers(project)
        wrong = [sample for (sample, _), value in given.items() if value not in {None, truth[sample]}]
        assert answered == Answered(
            labeled=sum(value is not None for value in given.values()),
            skipped=sum(value is None for value in given.values()),
            wrong=len(wrong),
        )
        return answered, given

    answered, given = run(7)
    # Three standard deviations around 20 × 0.3 and (20 × 0.7) × 0.5.
    assert 1 <= answered.skipped <= 12
    assert 1 <= answered.wrong <= 13
    assert run(7, first=11)[1] == given
    assert run(8)[1] != given


def test_several_annotators_are_several_people_and_each_task_gets_its_answers(
    server: LocalLabelStudio, make_project: Callable[..., Project]
) -> None:
    project = make_project(overlap=2)
    truth = truth_of(project.add(8))
    annotator = SimulatedAnnotator(project.client, project.id, truth, CLASSES, annotators=3, overlap=2)
    assert annotator.answer_open_tasks().labeled == 16
    people = defaultdict(set)
    for (sample, person), value in answers(project).items():
        assert value == truth[sample]
        people[sample].add(person)
    assert all(len(who) == 2 for who in people.values())
    everybody = set.union(*people.values())
    assert len(everybody) == 3
    assert server.username in everybody
    assert all(task.annotations == 2 for task in project.client.tasks(project.id))


def test_the_same_people_come_back_in_a_later_run(make_project: Callable[..., Project]) -> None:
    project = make_project(overlap=2)
    truth = truth_of(project.add(4))

    def run(limit: int | None = None) -> Answered:
        annotator = SimulatedAnnotator(project.client, project.id, truth, CLASSES, annotators=2, overlap=2)
        return annotator.answer_open_tasks(limit=limit)

    assert run(limit=3).labeled == 3
    assert run().labeled == 5
    assert len({person for _, person in answers(project)}) == 2


def test_more_answers_per_task_than_annotators_are_refused(project: Project) -> None:
    with pytest.raises(InputError, match="--annotators 3"):
        SimulatedAnnotator(project.client, project.id, {}, CLASSES, annotators=2, overlap=3)


def test_a_server_that_is_down_is_told_so(server: LocalLabelStudio) -> None:
    down = LabelStudio(f"http://127.0.0.1:{free_port()}", server.token)
    with pytest.raises(LabelStudioUnavailableError):
        SimulatedAnnotator(down, 1, {}, CLASSES, annotators=2)
    with pytest.raises(LabelStudioUnavailableError):
        SimulatedAnnotator(down, 1, {}, CLASSES).answer_open_tasks()

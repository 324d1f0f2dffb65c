"""One batch ahead and the editor flows on; where the queue ends, what is typed there changes no label."""

from pathlib import Path

import pytest
from playwright.sync_api import Page

from al_pipeline.core.rounds import RoundPolicy
from al_pipeline.labelstudio.config import hotkeys
from al_pipeline.labelstudio.notice import tell
from al_pipeline.ledger import Ledger
from al_pipeline.loop.pull import pull
from al_pipeline_tests.browser import press_until
from al_pipeline_tests.labelstudio.projects import CLASSES, Project
from al_pipeline_tests.labelstudio.test_browser import CHOSEN, choose, open_stream, page, submit
from al_pipeline_tests.ledger.builders import manifest, plan_rows, sample

__all__ = ["page"]
pytestmark = [pytest.mark.labelstudio, pytest.mark.browser]
B = 4
HORSE, MEADOW = CLASSES
EMPTY = "Go to Previous Task"


def answer(page: Page, project: Project, count: int) -> None:
    """Answer the task that is shown, once it has been shown anew."""
    page.wait_for_function(f"{CHOSEN}.length === 0")
    # Longer than `min_seconds`: sooner it is a slip of the hand.
    choose(page, hotkeys(CLASSES)[HORSE], [HORSE], settled=500)
    submit(page, project, count)


def test_with_a_batch_ahead_the_queue_never_ends_and_after_it_blind_keys_change_no_label(
    page: Page, project: Project, tmp_path: Path
) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    ledger.register(manifest(pool=2 * B))

    def opened(number: int) -> None:
        key, numbers = f"r{number:04d}", range(number * B, (number + 1) * B)
        ledger.plan(key, plan_rows(*numbers))
        samples = [sample(each) for each in numbers]
        ids = project.client.import_tasks(project.id, project.payloads(samples, key))
        ledger.record_pushed(key, dict(zip(samples, ids, strict=True)), project.client.project_counts(project.id).at)

    def pulled() -> list[str]:
        seconds = RoundPolicy().min_seconds
        pull(ledger, project.client, project.id, source="project flow", min_seconds=seconds)
        answers = ledger.answers().sort_values("annotation_id")
        return answers["kind"].tolist()

    opened(0)
    open_stream(page, project)
    for count in range(1, 2 * B + 1):
        answer(page, project, count)
        ended = page.get_by_text(EMPTY).is_visible()
        assert not ended or count == 2 * B, f"no task was there after {count} answers"
        if count == B // 2:
            opened(1)
    page.get_by_text(EMPTY).wait_for()
    assert pulled() == ["answer"] * 2 * B

    # Somebody types on.
    changed: list[str] = []
    # Answered by the server, not only sent.
    page.on("response", lambda found: changed.append(found.url) if found.request.method == "PATCH" else None)
    page.keyboard.press(hotkeys(CLASSES)[MEADOW])
    page.wait_for_timeout(300)
    press_until(page, "Control+Enter", lambda: bool(changed), settled=500)
    assert pulled() == ["answer"] * (2 * B - 1) + ["hasty"]

    # Whoever loads the page anew is told why nothing comes.
    tell(project.client.connection, project.id, "Thank you, this was all: enough")
    page.goto(project.client.project_url(project.id) + "?labeling=1")
    page.get_by_text("Thank you, this was all: enough").wait_for()
    page.screenshot(path=tmp_path / "ended.png")
    ledger.close()

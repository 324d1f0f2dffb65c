"""What stays beside the servers: being told of answers, where Label Studio can."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from al_pipeline.cli.staying import told_of_answers
from al_pipeline.servers.dagster_api import DagsterApi
from al_pipeline.settings import load_settings


@pytest.mark.parametrize(
    ("url", "webhook", "noted"),
    [
        ("http://127.0.0.1:9", None, True),
        # It would not reach us, or reaches `al webhook`.
        ("https://studio.example.com", None, False),
        ("http://127.0.0.1:9", "https://here.example.com", False),
    ],
)
def test_a_label_studio_that_does_not_tell_is_noted_and_the_loop_goes_on(
    url: str, webhook: str | None, noted: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings(home=tmp_path / "home", webhook_url=webhook)
    stack = cast(Any, SimpleNamespace(label_studio_url=url, api=DagsterApi("http://127.0.0.1:9")))
    with told_of_answers(stack, settings):
        told = " ".join(capsys.readouterr().out.split())
    assert ("does not tell when people answer, the sensor looks every 4 s instead" in told) is noted
    assert bool(told) is noted

"""What is said of a loop: why a round failed, and how the network sees images where that is not as ever."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest

from al_pipeline.core.data.how_read import HowRead
from al_pipeline.core.data.levels import Levels
from al_pipeline.core.errors import InputError
from al_pipeline.loop.how_read import Kept, keep
from al_pipeline.loop.local import Servers
from al_pipeline.servers.observer import Loop
from al_pipeline.settings import load_settings


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Loop(load_settings(home=tmp_path / "home"), instance)


def failed(loop: Loop, error: Exception, cause: Exception | None = None) -> str:
    """Run a job of one step that fails, and return its run."""

    @dg.op
    def step() -> None:
        raise error from cause

    @dg.job
    def of_one_step() -> None:
        step()

    return of_one_step.execute_in_process(instance=loop.instance, raise_on_error=False).run_id


def test_the_cause_of_a_failed_run_is_the_sentence_that_its_step_told(loop: Loop) -> None:
    assert loop.cause(failed(loop, InputError("The disk is full: make room"))) == "The disk is full: make room"
    assert loop.cause(failed(loop, dg.Failure("Nobody has answered"))) == "Nobody has answered"
    # What was made of another error says more than that.
    assert loop.cause(failed(loop, InputError("Mend it"), KeyError("x"))) == "Mend it"
    # It was killed, and whoever found that has told so; or it never began.
    killed = loop.instance.create_run_for_job(dg.GraphDefinition(name="round").to_job())
    loop.instance.report_run_failed(killed, message="Its process is gone")
    assert loop.cause(killed.run_id) == "Its process is gone"
    assert loop.cause("0" * 32) is None


def test_how_the_network_sees_images_is_told_where_it_is_not_as_ever(loop: Loop) -> None:
    assert loop.how_seen() is None
    how = HowRead(Levels(white=4095), channels=(0, 2, 1), truncated="use")
    keep(loop.deployment.artifacts, Kept(how, "auto"))
    read = (
        "Values of more than 8 bits are shown from 0 to 4095 (whole numbers); of several channels 0, 2, 1 are shown; "
        "files that are cut off are used"
    )
    assert loop.how_seen() == read

    def train(said: str) -> None:
        loop.instance.report_runless_asset_event(
            dg.AssetMaterialization("checkpoint", partition="r0000", metadata={"framing": said})
        )

    train("Framing is crop: a crop shows 80% of the median image of the pool")
    assert loop.how_seen() == read
    train("Framing is pad: a crop shows 56% of the median image of the pool")
    assert loop.how_seen() == f"Framing is pad: a crop shows 56% of the median image of the pool. {read}"
    loop.deployment.artifacts.how_read.unlink()
    assert loop.how_seen() == "Framing is pad: a crop shows 56% of the median image of the pool"


def test_labels_of_one_class_are_counted_and_the_network_is_called_untrained(loop: Loop) -> None:
    measured = {"class_names": ["a", "b"], "n": 2, "note": None}
    document = {
        "n_labels": 0,
        "n_frozen": 12,
        "evaluation": measured,
        "untrained": "untrained: all labels so far are 'a'",
    }
    folder = loop.deployment.artifacts.evaluations
    folder.mkdir(parents=True)
    (folder / "r0001.json").write_text(json.dumps(document))
    [row] = loop.rounds()
    assert (row.labels, row.notes) == (12, ("untrained: all labels so far are 'a'",))


def test_who_sets_up_launches_the_first_round_by_himself(loop: Loop) -> None:
    assert not loop.is_setting_up()
    Servers(pid=os.getpid(), started=psutil.Process().create_time(), dagster_url="", label_studio_url="").write(
        loop.settings
    )
    assert loop.is_setting_up()

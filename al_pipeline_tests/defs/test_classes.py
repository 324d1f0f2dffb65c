"""Whole rounds on a real Label Studio while people change the classes with `al classes`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
from typer.testing import CliRunner

from al_pipeline.cli.app import app
from al_pipeline.core.evaluation import compare
from al_pipeline.labelstudio.annotator import sign_up
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.config import classes_in
from al_pipeline.ledger.verify import verify
from al_pipeline.servers.label_studio import LocalLabelStudio
from al_pipeline.servers.observer import truth
from al_pipeline_tests.defs.rounds import checks_of, metadata_of, reason, tick
from al_pipeline_tests.defs.worlds import World, write_images

pytestmark = pytest.mark.labelstudio

HORSE, WOOD, MEADOW = "dark horse", "grüner Wald", "Wiese"
HOLDOUT = 4


@pytest.fixture
def make(make_world: Any, server: LocalLabelStudio, tmp_path: Path) -> Callable[..., World]:
    """A factory of worlds with three classes, a drawn holdout and a project of their own, set up."""
    write_images(tmp_path / "images", 14, seed=0, split=None)

    def made(**overrides: Any) -> World:
        world = make_world(
            tmp_path / "images",
            home=server.document_root.parent,
            label_studio_url=server.url,
            label_studio_token=server.token,
            label_studio_project=f"classes {uuid4()}",
            label_studio_timeout=60,
            database_url=f"sqlite:///{Path.cwd() / 'ledger.sqlite3'}",
            holdout_size=HOLDOUT,
            holdout_share=1,
            classes=[HORSE, WOOD, MEADOW],
            **{"round": {"strategy": "low_certainty", "batch_size": 8, "sample_size": None}} | overrides,
        )
        assert world.run("setup").success
        return world

    return made


def al_classes(world: World, *words: str) -> str:
    """Say `al classes …` in the world's home; return what is told."""
    environment = {name: value or None for name, value in world.settings.environment().items()}
    result = CliRunner().invoke(app, ["classes", *words], env=environment | {"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    return result.output


def labels_of(world: World, key: str) -> dict[str, str]:
    labels = world.value("labeled_pool", key)
    return dict(zip(labels["sample_id"], labels["label"], strict=True))


def test_rounds_go_on_across_every_change_of_the_classes(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    # However few there are.
    monkeypatch.setattr(compare, "FEWEST_COMPARED", HOLDOUT)
    world = make(overlap=2, policy={"min_votes": 2})
    deployment = world.deployment
    client, project, ledger = deployment.label_studio, deployment.project_id(), deployment.ledger
    second = sign_up(client, 1)
    known = truth(world.value("image_pool"))
    woods = sorted(sample for sample, name in known.items() if name == WOOD)
    # The class folders don't know it: every other wood is a meadow.
    seen = known | dict.fromkeys(woods[::2], MEADOW)

    def answer(key: str, say: dict[str, str], by: tuple[LabelStudio, ...] = (client, second)) -> set[str]:
        """Let both people answer a round's tasks with the names of their choice; return its samples."""
        tasks = client.tasks(project, key)
        for task in tasks:
            for who in by:
                who.annotate(task.task_id, say[seen[task.sample_id]])
        return {task.sample_id for task in tasks}

    def turn(key: str) -> dict[str, Any]:
        """Run a round; return what its labeled pool shows."""
        result = world.run("round", key)
        failed = {name for name, passed in checks_of(result).items() if not passed}
        assert failed == ({"labeled_pool.two_classes"} if key == "r0000" else set())
        return metadata_of(result, "labeled_pool") | {"result": result}

    same = {name: name for name in (HORSE, WOOD, MEADOW)}
    turn("r0000")
    holdout = {task.sample_id for task in client.tasks(project, "r0000")} - set(
        ledger.planned("r0000").query("purpose == 'query'")["sample_id"]
    )
    assert len(holdout) == HOLDOUT
    asked = answer("r0000", same)

    al_classes(world, "rename", HORSE, "Rappe")
    assert classes_in(client.project_counts(project).label_config) == ["Rappe", WOOD, MEADOW]
    assert reason(tick(world)) == ""
    turn("r0001")
    named = same | {HORSE: "Rappe"}
    assert labels_of(world, "r0001") == {sample: named[seen[sample]] for sample in asked - holdout}
    trained = world.deployment.artifacts.stored_checkpoint(1)
    assert trained is not None
    assert trained.info.class_names == ("Rappe", WOOD, MEADOW)
    # One of them has an old page open.
    answer("r0001", same, by=(client,))
    answer("r0001", named, by=(second,))

    al_classes(world, "merge", WOOD, MEADOW, "--into", "Grün")
    shown = turn("r0002")
    merged = named | {WOOD: "Grün", MEADOW: "Grün"}
    assert set(labels_of(world, "r0002").values()) == {"Rappe", "Grün"}
    assert shown["n_changed"] == 0
    assert shown["disputed"] == 0
    evaluated = metadata_of(shown["result"], "evaluation")
    assert "accuracy_since_last_round" in evaluated
    assert "whose classes were" not in evaluated.get("note_on_last_round", "")
    answer("r0002", merged)

    told = al_classes(world, "split", "Grün", "--into", f"Wald,{MEADOW}")
    assert "the next batches begin with them" in told
    shown = turn("r0003")
    labels = labels_of(world, "r0003")
    # Who had said meadow before the merger has said it still.
    kept = {sample for sample in asked_in(world, "r0000", "r0001") - holdout if seen[sample] == MEADOW}
    assert {sample for sample, name in labels.items() if name == MEADOW} == kept
    assert "Wald" not in labels.values()
    earlier = asked_in(world, "r0000", "r0001", "r0002")
    gone = {sample for sample in earlier - holdout if seen[sample] != HORSE} - kept
    batch = ledger.planned("r0003")
    assert batch["strategy"].eq("asked again: its class is none any more").all()
    queries = set(batch.loc[batch["purpose"] == "query", "sample_id"])
    assert queries <= gone
    assert len(queries) == min(8, len(gone))
    assert set(batch["sample_id"]) - queries == {sample for sample in holdout if seen[sample] == WOOD}
    finer = {HORSE: "Rappe", WOOD: "Wald", MEADOW: MEADOW}
    answer("r0003", finer)

    al_classes(world, "add", "Schimmel")
    al_classes(world, "remove", MEADOW)
    shown = turn("r0004")
    assert set(labels_of(world, "r0004").values()) == {"Rappe", "Wald"}
    assert world.deployment.artifacts.stored_checkpoint(4).info.class_names == ("Rappe", "Wald", "Schimmel")  # type: ignore[union-attr]
    assert verify(world.settings.ledger_url).problems == []

    # A round that is run again is the round it was.
    assert world.run("round", "r0001").success
    rerun = world.deployment.artifacts.stored_checkpoint(1)
    assert rerun is not None
    assert (rerun.hash, rerun.info.class_names) == (trained.hash, trained.info.class_names)
    listed = al_classes(world, "list")
    assert "Schimmel" in listed
    assert f"{HORSE} is called Rappe" in listed
    assert "Grün is split into Wald, Wiese" in listed


def asked_in(world: World, *keys: str) -> set[str]:
    """Return the samples of rounds."""
    planned = world.deployment.ledger.planned()
    return set(planned.loc[planned["round"].isin(keys), "sample_id"])


def test_while_the_project_shows_other_classes_nothing_is_opened_and_nothing_is_pushed(
    make: Callable[..., World],
) -> None:
    world = make(round={"strategy": "random", "batch_size": 4, "sample_size": None})
    client, project = world.deployment.label_studio, world.deployment.project_id()
    world.run("round", "r0000")
    config = client.project_counts(project).label_config
    connection = client.connection

    def save(label_config: str) -> None:
        connection.send("update", lambda: connection.sdk.projects.update(id=project, label_config=label_config))

    save(config.replace(f'value="{MEADOW}"', 'value="meadow"'))
    for task in client.tasks(project, "r0000"):
        client.annotate(task.task_id, "meadow")
    assert f"`al classes rename {MEADOW} meadow`" in reason(tick(world))
    with pytest.raises(dg.Failure, match="no label is frozen and no task made"):
        world.run("round", "r0001")
    assert not world.deployment.ledger.has_snapshot("r0001")
    assert client.tasks(project, "r0001") == []
    # Both remedies, one after the other.
    al_classes(world, "rename", MEADOW, "meadow")
    save(config)
    assert world.run("setup").success
    assert classes_in(client.project_counts(project).label_config) == [HORSE, WOOD, "meadow"]
    assert world.run("round", "r0001").success
    assert set(labels_of(world, "r0001").values()) == {"meadow"}

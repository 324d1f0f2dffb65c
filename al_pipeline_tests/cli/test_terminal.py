"""The terminal itself: a line that is redrawn on a terminal alone, nowhere cut, coloured only where that is wanted."""

import io
import re
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest
from rich.console import Console

from al_pipeline.cli import terminal
from al_pipeline.cli.telling import News
from al_pipeline.servers.observer import Loop
from al_pipeline.servers.run_words import RunWords
from al_pipeline.settings import load_settings

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
LONG = "r0003: 4 of 8 answered (2 test images, 6 to learn from) · r0004 is ready behind it"


def printing(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool, no_color: bool = False) -> io.StringIO:
    """Have everything printed to what is returned, as if that were a terminal of 80 columns, or a file."""
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=is_terminal, width=80, highlight=False, no_color=no_color, _environ={"TERM": "xterm"}
    )
    monkeypatch.setattr(terminal, "console", console)
    return out


@pytest.mark.parametrize("no_color", [False, True])
def test_on_a_terminal_one_row_is_redrawn_when_it_changes_and_goes_at_the_end(
    monkeypatch: pytest.MonkeyPatch, no_color: bool
) -> None:
    out = printing(monkeypatch, is_terminal=True, no_color=no_color)
    with terminal.bottom_line() as show:
        assert show is not None
        show(LONG)
        drawn = len(out.getvalue())
        show(LONG)
        assert len(out.getvalue()) == drawn
        terminal.tell_news(News("r0003", "measured", ("48 labels", "accuracy " + "0.8 " * 30)))
    text = out.getvalue()
    assert ("\x1b[36m" in text) is not no_color
    rows = [row for row in re.split(r"[\r\n]+", CONTROL.sub("", text)) if row]
    assert max(map(len, rows)) <= 80
    line = f"{LONG[:79]}…"
    # The news goes above the line, in as many rows as it needs; the line is drawn below it, and once more to be erased.
    assert (rows[0], rows[1].rstrip(), rows[-2:]) == (line, "r0003 measured: 48 labels", [line, line])
    assert " ".join(" ".join(rows[2:-2]).split()) == "accuracy " + " ".join(["0.8"] * 30)
    # The row is erased, and the cursor is there again.
    assert text.rindex("\x1b[2K") > text.rindex("answered")
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_off_a_terminal_there_is_a_line_per_event_and_no_row_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    out = printing(monkeypatch, is_terminal=False)
    with terminal.bottom_line() as show:
        assert show is None
        terminal.tell_news(News("r0003", "note", ("[bold]not markup[/bold]", "word " * 40), alert=True))
    assert out.getvalue() == f"r0003 note: [bold]not markup[/bold]; {('word ' * 40).strip()}\n"


def test_failures_are_told_with_cause_and_address_until_a_later_round_has_succeeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = printing(monkeypatch, is_terminal=False)

    @dg.op
    def step(context: dg.OpExecutionContext) -> None:
        context.log.info("12 of 34 files read")
        raise dg.Failure("The disk is full: make room")

    @dg.job(name="round")
    def of_one_step() -> None:
        step()

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        loop = Loop(load_settings(home=tmp_path / "home"), instance)
        tags = {"dagster/partition": "r0000"}
        run = of_one_step.execute_in_process(instance=instance, raise_on_error=False, tags=tags).run_id
        assert RunWords(instance, run).newest() == "step: 12 of 34 files read"
        with terminal.Talk(loop, "http://127.0.0.1:3000").following() as look:
            look()
            look()
        again = f"it is tried again by itself; http://127.0.0.1:3000/runs/{run}\n"
        assert out.getvalue() == f"r0000 failed: The disk is full: make room; {again}"
        instance.add_run(
            dg.DagsterRun(job_name="round", run_id=str(uuid4()), status=dg.DagsterRunStatus.SUCCESS, tags=tags)
        )
        with terminal.Talk(loop, "http://127.0.0.1:3000").following() as look:
            look()
    assert out.getvalue().count("failed") == 1

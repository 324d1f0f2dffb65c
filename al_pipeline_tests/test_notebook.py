"""The notebook runs from top to bottom, and what it shows without being run is what running it shows."""

import base64
import re
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from al_pipeline_tests.notebook import NOTEBOOK, ROOT, execute

# Its cells put out what a network says, which differs in the last digits, and so in the picks, between machines.
VARIES = "cpu"
LARGEST_FILE, LARGEST_PICTURE = 300_000, 40_000


@pytest.fixture(scope="module")
def stored() -> list[NotebookNode]:
    return code_cells(nbformat.read(NOTEBOOK, as_version=4))


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> list[NotebookNode]:
    """The cells after a run in a fresh kernel, which fails at the first error."""
    return code_cells(execute(tmp_path_factory.mktemp("notebook")))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: NotebookNode) -> list[tuple[str, list[str]]]:
    """Return what a cell puts out, but for the content."""
    return [
        (output.output_type, [output.name] if output.output_type == "stream" else sorted(output.data))
        for output in cell.outputs
    ]


def texts(cell: NotebookNode) -> list[str]:
    return [
        output.text if output.output_type == "stream" else output.data["text/plain"]
        for output in cell.outputs
        if output.output_type == "stream" or "image/png" not in output.data
    ]


def printed_lines(cell: NotebookNode) -> list[int]:
    return [len(output.text.splitlines()) for output in cell.outputs if output.output_type == "stream"]


def test_the_notebook_runs_and_puts_out_what_is_stored(
    stored: list[NotebookNode], executed: list[NotebookNode]
) -> None:
    assert [kinds(cell) for cell in executed] == [kinds(cell) for cell in stored]
    for fresh, kept in zip(executed, stored, strict=True):
        if VARIES in kept.metadata.get("tags", []):
            assert printed_lines(fresh) == printed_lines(kept)
        else:
            assert texts(fresh) == texts(kept), fresh.source


def test_the_stored_outputs_come_from_one_run_from_top_to_bottom(stored: list[NotebookNode]) -> None:
    assert [cell.execution_count for cell in stored] == list(range(1, len(stored) + 1))
    found = {kind for cell in stored for kind, _ in kinds(cell)}
    assert {"stream", "display_data", "execute_result"} == found
    assert not [output for cell in stored for output in cell.outputs if output.get("name") == "stderr"]


def test_what_is_stored_is_small_and_tells_nothing_about_the_machine(stored: list[NotebookNode]) -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text.encode()) < LARGEST_FILE
    pictures = [
        base64.b64decode(output.data["image/png"])
        for cell in stored
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 5
    assert max(map(len, pictures)) < LARGEST_PICTURE
    assert not re.search(r"/(home|root|tmp|work|Users)/", "\n".join(line for cell in stored for line in texts(cell)))


def test_the_pipelines_names_and_pages_that_it_points_to_exist() -> None:
    prose = "\n".join(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type != "code")
    linked = re.findall(r"\]\(([^)]+)\)", prose)
    assert linked
    assert all((NOTEBOOK.parent / Path(target)).exists() for target in linked)
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "al_pipeline" / "defs").rglob("*.py"))
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \|", prose, flags=re.MULTILINE)
    names = re.findall(r"`(\w+)`", " ".join(rows))
    assert {"image_pool", "labeled_pool", "checkpoint", "query_batch"} <= set(names)
    missing = [name for name in names if not re.search(rf'def {name}\b|"{name}"', source)]
    assert missing == []

"""Execute the notebook; `python -m al_pipeline_tests.notebook` also saves what its cells put out."""

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "active_learning_loop.ipynb"
# Seconds for one cell, or for the kernel to start, on a busy machine.
PATIENCE = 300


def execute(folder: Path) -> NotebookNode:
    """Return the notebook as a fresh kernel leaves it that works in `folder` and runs this checkout's code.

    Raises
    ------
    CellExecutionError
        A cell failed; the message has its traceback.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=PATIENCE,
        startup_timeout=PATIENCE,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        # Moments, as the interpreter's version below, would change the file although nothing has changed.
        record_timing=False,
    )
    metadata = notebook.metadata.copy()
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # Nothing depends on how somebody has set up their own IPython.
    client.execute(env=os.environ | {"PYTHONPATH": paths, "IPYTHONDIR": str(folder / ".ipython")})
    notebook.metadata = metadata
    return notebook


def main() -> None:
    """Execute and save."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(Path(folder))
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()

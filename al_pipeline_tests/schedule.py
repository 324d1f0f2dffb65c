"""Who runs which tests where there are several workers (pytest-xdist)."""

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

ROOT = "al_pipeline_tests/"


def files(*names: str) -> tuple[str, ...]:
    """Return how the ids of the tests in these files begin."""
    return tuple(f"{ROOT}{name}" for name in names)


# Files of tests that share servers, or need the machine's time as people would have it.
SERVERS = files(
    *(f"labelstudio/test_{name}.py" for name in ("annotator", "browser", "classes", "client", "counts", "flow")),
    *(f"labelstudio/test_{name}.py" for name in ("home", "keys", "people", "push", "web")),
    "defs/test_labeling.py",
    "test_end_to_end.py",
    "servers/test_code_server.py",
    "servers/test_label_studio.py",
)
# These need a Label Studio too, and as long: each of the three has a server of its own.
FAULTS = files("faults/")
PEOPLE = files("defs/test_people.py", "defs/test_classes.py", "defs/test_identity.py")
NO_SERVER = files("faults/test_interleavings.py")
# The longest files first, so that no worker waits for the others in the end. Two keep the other workers busy until the
# first one's Label Studio has a database to copy.
ORDER = (
    SERVERS,
    NO_SERVER,
    files("core/learning/test_finetune.py"),
    FAULTS,
    PEOPLE,
    files("test_compose.py"),
    files(
        "test_notebook.py",
        "core/learning/test_export.py",
        "core/study/test_simulate.py",
        "core/evaluation/test_coverage_of_intervals.py",
        "core/study/test_run.py",
        "cli/test_model.py",
        "cli/test_simulate.py",
        "defs/",
        "labelstudio/",
        "core/data/test_fuzz_images.py",
        "ledger/",
        "servers/",
        "test_location.py",
        "web/",
    ),
)


class FileByFile(LoadScopeScheduling):
    """With several workers (pytest-xdist): three have the tests with servers, a part each; then file by file.

    What a worker leaves that died goes on, which the scheduler below makes a wait without end (pytest-xdist 3.8): it
    hands out files again of which nothing is left, and single tests, with which a worker does not begin before it knows
    what comes next; and it runs the test again that the worker died of.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(NO_SERVER):
            return nodeid.split("::")[0]
        groups = {"servers": SERVERS, "faults": FAULTS, "people": PEOPLE}
        return next((name for name, begins in groups.items() if nodeid.startswith(begins)), nodeid.split("::")[0])

    def remove_node(self, node: WorkerController) -> str | None:
        """Take a worker out; what it had still to do is handed to others, but for the test that it died of.

        Returns
        -------
        str | None
            The id of that test; None where nothing was left to do.
        """
        left = {
            scope: [nodeid for nodeid, done in unit.items() if not done]
            for scope, unit in self.assigned_work.pop(node).items()
        }
        died_of = next((ids.pop(0) for ids in left.values() if ids), None)
        self.workqueue.update({scope: dict.fromkeys(ids, False) for scope, ids in left.items() if ids})
        for other in self.assigned_work:
            self._reschedule(other)
        return died_of

    def _reschedule(self, node: WorkerController) -> None:
        # One that has just been started in the place of another may still collect.
        if node.shutting_down or node not in self.registered_collections:
            return
        while self.workqueue and self._pending_of(self.assigned_work[node]) <= 2:
            self._assign_work_unit(node)
        if not self.workqueue:
            node.shutdown()


def place(nodeid: str) -> int:
    """Return the place of a test's file in the order of beginning."""
    return next((i for i, begins in enumerate(ORDER) if nodeid.startswith(begins)), len(ORDER))

"""Who runs which tests where there are several workers (pytest-xdist)."""

from xdist.scheduler import LoadScopeScheduling

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
    """With several workers (pytest-xdist): three have the tests with servers, a part each; then file by file."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(NO_SERVER):
            return nodeid.split("::")[0]
        groups = {"servers": SERVERS, "faults": FAULTS, "people": PEOPLE}
        return next((name for name, begins in groups.items() if nodeid.startswith(begins)), nodeid.split("::")[0])


def place(nodeid: str) -> int:
    """Return the place of a test's file in the order of beginning."""
    return next((i for i, begins in enumerate(ORDER) if nodeid.startswith(begins)), len(ORDER))

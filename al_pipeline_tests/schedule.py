"""Who runs which tests where there are several workers (pytest-xdist)."""

from xdist.scheduler import LoadScopeScheduling

# Files of tests that share servers, or need the machine's time as people would have it.
SERVERS = tuple(
    f"al_pipeline_tests/{name}"
    for name in (
        "labelstudio/",
        "defs/test_labeling.py",
        "defs/test_people.py",
        "test_end_to_end.py",
        "servers/test_code_server.py",
        "servers/test_label_studio.py",
    )
)
# These need a Label Studio too, and half as long as all of those: they have a server of their own.
FAULTS = "al_pipeline_tests/faults/"
NO_SERVER = "al_pipeline_tests/faults/test_interleavings.py"
# The longest files first, so that no worker waits for the others in the end. Two keep the other workers busy until the
# first one's Label Studio has a database to copy.
ORDER = (
    SERVERS,
    (NO_SERVER,),
    ("al_pipeline_tests/core/learning/test_finetune.py",),
    (FAULTS,),
    tuple(
        f"al_pipeline_tests/{name}"
        for name in (
            "test_notebook.py",
            "core/learning/test_export.py",
            "core/study/test_simulate.py",
            "core/evaluation/test_coverage_of_intervals.py",
            "core/study/test_run.py",
            "cli/test_model.py",
            "cli/test_simulate.py",
            "defs/",
            "ledger/",
            "servers/",
            "test_location.py",
            "web/",
        )
    ),
)


class FileByFile(LoadScopeScheduling):
    """With several workers (pytest-xdist): one has the tests with servers, one the faults; then file by file."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(FAULTS) and not nodeid.startswith(NO_SERVER):
            return "faults"
        return "servers" if nodeid.startswith(SERVERS) else nodeid.split("::")[0]


def place(nodeid: str) -> int:
    """Return the place of a test's file in the order of beginning."""
    return next((i for i, names in enumerate(ORDER) if nodeid.startswith(names)), len(ORDER))

"""Import a Dagster server at once, while another server starts, and run it when that one listens.

    python -m al_pipeline.servers.after PORT MODULE ARGUMENT …

The module has a function `main` that reads the arguments, as those of Dagster's commands have.
"""

import gc
import sys
import time
from importlib import import_module

from al_pipeline.servers.processes import port_in_use


def main() -> None:
    """Import the module, wait for the port without an end (who started us has one), and call its `main`."""
    _, port, name, *arguments = sys.argv
    module = import_module(name)
    # What is imported stays: nobody looks for garbage in it, above all not at the end.
    gc.freeze()
    while not port_in_use(int(port)):
        time.sleep(0.1)
    sys.argv = [name, *arguments]
    module.main()


if __name__ == "__main__":
    main()

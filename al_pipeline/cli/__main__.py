"""The command `al`, also as `python -m al_pipeline.cli`."""

import atexit
import os
import sys
from contextlib import suppress


def main() -> None:
    """Run the command, and end without taking down what it imported, which takes torch and others seconds of a core."""
    code = 0

    # What is registered first is called last: threads have ended by then, and the others have put away what is theirs.
    @atexit.register
    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)

    try:
        from al_pipeline.cli.app import app

        app()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except BaseException:
        code = 1
        raise


if __name__ == "__main__":
    main()

"""How long the code location takes to load: import of al_pipeline.definitions in a fresh process. Bar: < 3 s."""

import subprocess
import sys
import time

from benchmarks.table import print_table

REPEATS = 7
CODE = """
import resource, sys, time
import al_pipeline.definitions
heavy = [m for m in ("torch", "torchvision", "matplotlib", "sklearn", "label_studio_sdk") if m in sys.modules]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, ",".join(heavy) or "none")
"""


def main() -> None:
    """Time fresh processes."""
    rows = []
    for i in range(REPEATS):
        began = time.perf_counter()
        out = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True).stdout.split()
        rows.append([i, f"{time.perf_counter() - began:.2f}", out[0], out[1]])
    print_table("Code location, fresh process", ["run", "seconds", "MB", "heavy imports"], rows)
    print(f"slowest of {REPEATS}: {max(float(row[1]) for row in rows):.2f} s (bar: < 3 s)")


if __name__ == "__main__":
    main()

"""What every run imports, in one place: a warm process imports it once and is forked for each run.

For that process only: whoever imports this has every library, a frozen heap, and children that end with it. Nothing
here reads settings, so each run still sees `al.toml`, `.env` and the environment as they are when it starts.
"""

import gc
import os
import signal
import sys
from functools import partial
from importlib import import_module

from PIL import Image

from al_pipeline.servers.processes import end_with_parent

for name in (
    "dagster._core.execution.plan.active",
    "dagster._core.executor.in_process",
    "dagster._grpc.impl",
    "httpcore",  # httpx imports it with its first request
    "label_studio_sdk.client",
    "label_studio_sdk.core.api_error",
    "label_studio_sdk.core.parse_error",
    "label_studio_sdk.tokens.client_ext",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "pandas.core.arrays.arrow.extension_types",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "scipy.stats",
    "sklearn.metrics",
    "torch._dynamo",  # the first step of an optimizer imports it
    "torchvision.models",
    "al_pipeline.core.data.embeddings",
    "al_pipeline.core.evaluation.evaluate",
    "al_pipeline.core.learning.predict",
    "al_pipeline.core.study.run",
    "al_pipeline.core.learning.train",
    "al_pipeline.labelstudio.images",
    "al_pipeline.labelstudio.push",
    "al_pipeline.ledger",
    "al_pipeline.loop.local",
):
    import_module(name)

# Pillow imports the formats it knows with the first file that is none of the common ones.
Image.init()
# Forked runs share this memory: the garbage collector leaves alone what is in it.
gc.collect()
gc.freeze()
if sys.platform == "linux":
    # Dagster has given up the run when its parent dies.
    os.register_at_fork(after_in_child=partial(end_with_parent, signal.SIGKILL))

"""What every run imports, in one place: a warm process imports it once and is forked for each run.

For that process only: whoever imports this has every library, a frozen heap, and children that end with it. Each run
sees `al.toml`, `.env` and the environment as they are when it starts. Its definitions are those that were built here
while these are as they were, else it builds its own.
"""

import gc
import os
import signal
import sys
from functools import partial
from importlib import import_module

import numpy as np
from PIL import Image

from al_pipeline.core.errors import ALError
from al_pipeline.core.learning.architectures import ARCHITECTURES
from al_pipeline.core.learning.checkpoint import skeleton
from al_pipeline.core.learning.head import fit_head
from al_pipeline.defs import READY, build
from al_pipeline.servers.processes import end_with_parent, give_way
from al_pipeline.settings import Settings, load_settings

for name in (
    "dagster._core.execution.plan.active",
    "dagster._core.executor.in_process",
    "dagster._core.instance.factory",
    "dagster._core.launcher.default_run_launcher",
    "dagster._core.run_coordinator.queued_run_coordinator",
    "dagster._core.storage.legacy_storage",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.root",
    "dagster._core.storage.sqlite_storage",
    "dagster._grpc.impl",
    "httpcore",  # httpx imports it with its first request
    "label_studio_sdk.client",
    "label_studio_sdk.core.api_error",
    "label_studio_sdk.core.parse_error",
    "label_studio_sdk.tokens.client_ext",
    "label_studio_sdk.users.client",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "pandas.core.arrays.arrow.extension_types",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "scipy.stats",
    "sklearn.metrics",
    "sklearn.model_selection",
    "torch._dynamo",  # the first step of an optimizer imports it
    "torchvision.models",
    "al_pipeline.core.data.contact_sheet",
    "al_pipeline.core.data.embeddings",
    "al_pipeline.core.evaluation.compare",
    "al_pipeline.core.evaluation.evaluate",
    "al_pipeline.core.labels.annotators",
    "al_pipeline.core.learning.predict",
    "al_pipeline.core.outlook.random_arm",
    "al_pipeline.core.strategies.kernels.herding",
    "al_pipeline.core.study.run",
    "al_pipeline.core.learning.train",
    "al_pipeline.labelstudio.images",
    "al_pipeline.labelstudio.push",
    "al_pipeline.ledger",
    "al_pipeline.loop.local",
    "al_pipeline.servers.code_server",  # a process imports what the one that starts it runs as
    "al_pipeline.servers.event_log",
):
    import_module(name)

try:
    found = load_settings()
except ALError:
    # Each run says so. Built from the defaults, to have imported all that is imported when definitions are built.
    found = Settings.model_construct()
READY.append((found, build(found)))
READY[0][1].get_repository_def().get_job("round")
# What is made once in a process, and what libraries make ready when they are used first. None of it starts a thread,
# which a fork would not have; nor does anything of torch compute here.
if found.training.architecture in ARCHITECTURES:
    skeleton(found.training.architecture, 2)
fit_head(np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32), np.arange(40) % 2, 2, seed=0)

# Pillow imports the formats it knows with the first file that is none of the common ones.
Image.init()
# Forked runs share this memory: the garbage collector leaves alone what is in it.
gc.collect()
gc.freeze()
# What a run makes in its seconds it mostly keeps: looking through it again and again finds next to nothing.
gc.set_threshold(50_000, 20, 20)
if sys.platform == "linux":
    # Dagster has given up the run when its parent dies.
    os.register_at_fork(after_in_child=partial(end_with_parent, signal.SIGKILL))
    os.register_at_fork(after_in_child=give_way)

"""Importing this warms up the process that others are forked from."""

import os

from al_pipeline_tests.faults.worker import project, warm_up

warm_up()
project(os.environ["AL_FAULT_PROJECT"])

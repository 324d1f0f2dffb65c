"""The fixtures of Label Studio's tests, for those of the faults."""

from al_pipeline_tests.labelstudio.conftest import make_project, project

__all__ = ["make_project", "project"]

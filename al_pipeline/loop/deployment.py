"""Where one installation keeps and finds things: its ledger, its Label Studio, the files of a round."""

from functools import cached_property
from typing import TYPE_CHECKING

from al_pipeline.core.errors import InputError
from al_pipeline.settings import Settings

if TYPE_CHECKING:
    from al_pipeline.labelstudio.client import LabelStudio
    from al_pipeline.ledger import Ledger


class Deployment:
    """Where this installation keeps and finds things; a resource without config, so that no secret enters one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._project: tuple[str, int] | None = None

    @cached_property
    def ledger(self) -> "Ledger":
        """The ledger, opened (and migrated) on first use."""
        from al_pipeline.ledger import Ledger

        return Ledger(self.settings.ledger_url)

    @cached_property
    def label_studio(self) -> "LabelStudio":
        """A client for the configured Label Studio, or for the one that `al up` runs."""
        from al_pipeline.servers import local

        return local.label_studio(self.settings)

    def project_id(self, run_id: str | None = None) -> int:
        """Return the id of the labeling project; within one run Label Studio is asked once.

        Raises
        ------
        InputError
            No project has the configured title yet.
        """
        if run_id is not None and self._project is not None and self._project[0] == run_id:
            return self._project[1]
        title = self.settings.label_studio_project
        project_id = self.label_studio.find_project(title)
        if project_id is None:
            raise InputError(
                f"Label Studio at {self.label_studio.url} has no project titled {title!r} (AL_LABEL_STUDIO_PROJECT): "
                "launch the job `setup`, or materialize labeling_project"
            )
        if run_id is not None:
            self._project = (run_id, project_id)
        return project_id

    def project_url(self, project_id: int) -> str:
        """Return where people open the project in their browser."""
        public = self.settings.label_studio_public_url
        url = self.label_studio.project_url(project_id)
        return url if public is None else url.replace(self.label_studio.url, public.rstrip("/"), 1)

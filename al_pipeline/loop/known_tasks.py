"""Whether a project has just the tasks that it had when they were listed last: to count them takes no time.

For a list of 20,000, in which nothing is amiss, a round would wait half a minute.
"""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from al_pipeline.core.files import whole_file
from al_pipeline.labelstudio.filters import condition, unanswered_ones
from al_pipeline.loop.identity import was_set_back

if TYPE_CHECKING:
    from al_pipeline.labelstudio.identity import Project
    from al_pipeline.loop.deployment import Deployment

# What was pushed at a time has ids that follow each other. So many times are counted one by one.
PIECES = 20


class KnownTasks:
    """The tasks of a project as a look begins, which follows a pull.

    Counted are the tasks between the first and the last of what was pushed at a time, all of the project, and answers:
    so a task that is gone is missed, one that nobody knows is seen, and so is one that has lost its answer, or has
    forgotten that it has one.

    Parameters
    ----------
    deployment : Deployment
    project : Project
    total : int
        Tasks that the project has, as it says.
    """

    def __init__(self, deployment: "Deployment", project: "Project", total: int) -> None:
        self._ledger, self._client, self._project = deployment.ledger, deployment.label_studio, project
        self._file = deployment.artifacts.known_tasks
        planned = self._ledger.planned(columns=("task_id", "withdrawn_at")).dropna(subset="task_id")
        # Of one that was withdrawn without an answer people have deleted the task.
        self._kept = planned.loc[planned["withdrawn_at"].isna(), "task_id"].to_numpy(dtype=np.int64)
        self._pushed = np.unique(planned["task_id"].to_numpy(dtype=np.int64))
        self._found = self._count(total)

    def as_before(self) -> bool:
        """Say whether nothing is amiss that was not when `note` was called; new are the tasks that were pushed since.

        Before the first call nothing is, where the project has the tasks and answers that the ledger has. Of a task
        that has got the id of one that is gone no count tells.
        """
        before: dict[str, Any] = {"project": self._project.source, "gone": 0, "answers": [0, 0]}
        if self._file.exists():
            before = json.loads(self._file.read_text())
        return self._found == before and not was_set_back(self._ledger, self._project) and not self._forgotten()

    def note(self) -> None:
        """Keep what was counted: of these tasks none is amiss."""
        if self._found is not None:
            with whole_file(self._file, "What tasks there are") as file:
                file.write_text(json.dumps(self._found))

    def _forgotten(self) -> bool:
        """Say whether more tasks than can be have no answer by their own counters, by which people are asked."""
        given = self._ledger.answers(nobodys=True)
        answered = given.loc[given["source"] == self._project.source, "task_id"].to_numpy(dtype=np.int64)
        untouched, _ = self._client.count(self._project.project_id, *unanswered_ones())
        return untouched > len(np.setdiff1d(self._kept, answered))

    def _count(self, total: int) -> dict[str, Any] | None:
        """Return what tells one state from another; None where more has to be looked at."""
        pieces = np.split(self._pushed, np.flatnonzero(np.diff(self._pushed) > 1) + 1)
        if not len(self._pushed) or len(pieces) > PIECES:
            return None
        there = 0
        for piece in pieces:
            ends = ("greater", int(piece[0]) - 1), ("less", int(piece[-1]) + 1)
            theirs = (condition("id", side, "Number", end) for side, end in ends)
            there += self._client.count(self._project.project_id, *theirs)[0]
        if total != there:
            # Tasks that nobody has pushed: any of them may ask what another does.
            return None
        mark = self._ledger.watermark(self._project.source)
        # What the ledger has beyond those of Label Studio.
        over = [0, 0] if mark is None else [mark.answers_over, mark.skips_over]
        return {"project": self._project.source, "gone": len(self._pushed) - there, "answers": over}

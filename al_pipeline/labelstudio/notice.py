"""Why no image comes, above the instructions: Label Studio shows them when a page is loaded, an empty one too."""

import re
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from al_pipeline.labelstudio.connection import Connection

NOTICE = re.compile(r'<p class="notice">.*?</p>', re.DOTALL)


def noted(instructions: str, sentence: str) -> str:
    """Return instructions with this sentence above them, and without the last one; none if it is empty."""
    said = f'<p class="notice"><b>{escape(sentence)}</b></p>' if sentence else ""
    return said + NOTICE.sub("", instructions)


def kept(now: str, instructions: str) -> str:
    """Return instructions below the sentence that stands above those of now."""
    return "".join(NOTICE.findall(now)) + instructions


def tell(connection: "Connection", project_id: int, sentence: str) -> None:
    """Put a sentence above a project's instructions in the place of the last one; an empty one takes that away.

    Raises
    ------
    LabelStudioError
        Label Studio could not be asked.
    """
    project = connection.read("read the project", lambda: connection.sdk.projects.get(id=project_id))
    now = project.expert_instruction or ""
    if (text := noted(now, sentence)) != now:
        update = f"write into the instructions of project {project_id}"
        connection.read(update, lambda: connection.sdk.projects.update(id=project_id, expert_instruction=text))

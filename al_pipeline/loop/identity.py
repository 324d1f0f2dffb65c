"""Whose a Label Studio project is: this ledger's, another's, or nobody's yet."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from al_pipeline.core.errors import InputError
from al_pipeline.labelstudio.identity import Project

if TYPE_CHECKING:
    from al_pipeline.labelstudio.client import LabelStudio
    from al_pipeline.labelstudio.config import Interface
    from al_pipeline.ledger import KnownProject, Ledger


def identity_of(project: Project, known: "Sequence[KnownProject]", where: str) -> str | None:
    """Return the identity of a project that belongs to a ledger; None if it belongs to nobody yet.

    Parameters
    ----------
    project : Project
    known : sequence of KnownProject
        The ledger's own.
    where : str
        The project's address, for an error.

    Raises
    ------
    InputError
        It is another ledger's, or a copy of one of this ledger's.
    """
    same = {
        row.identity for row in known if (row.project_id, row.created_at) == (project.project_id, project.created_at)
    }
    if project.identity is None:
        # Somebody took the line away, or the database is from before the line.
        return next(iter(same), None)
    if project.identity in same:
        return project.identity
    ours = next((row for row in known if row.identity == project.identity), None)
    go_on = (
        f"set AL_LABEL_STUDIO_PROJECT to another title than {project.title!r}, or, to go on with its answers in this "
        f"home, remove the line with al_pipeline:{project.identity} from its description and launch `setup`"
    )
    if ours is None:
        raise InputError(
            f"The project {project.title!r} at {where} belongs to another home: this home's ledger does not know the "
            f"identity in its description. Nothing was changed in it: {go_on}"
        )
    if ours.project_id:
        raise InputError(
            f"The project {project.title!r} at {where}, made on {project.created_at:%d %B %Y}, is a copy: its "
            f"description names the identity of project {ours.project_id}, made on {ours.created_at:%d %B %Y}. Nothing "
            f"was changed in it: give the title back to that one, {go_on}"
        )
    return project.identity


def owned(ledger: "Ledger", client: "LabelStudio", project: Project) -> Project:
    """Return a project with the identity that it has in this ledger; one that is nobody's is adopted.

    Raises
    ------
    InputError
        As of `identity_of`; nothing was changed then.
    LabelStudioError
        The identity could not be written into the project. It is in the ledger.
    """
    known, where = ledger.projects(), client.project_url(project.project_id)
    identity = identity_of(project, known, where)
    if any(row.identity == identity and row.project_id for row in known):
        return replace(project, identity=identity)
    identity = ledger.adopt(
        project.project_id, project.created_at, title=project.title, url=client.url, identity=identity
    )
    if project.identity is None:
        # Of older rounds it got none, if it was made after them: then they are pushed again.
        project = replace(project, newest_round=ledger.newest_pushed(project.created_at))
        client.sign(project.project_id, identity, project.newest_round)
    return replace(project, identity=identity)


def ensure_owned(
    ledger: "Ledger", client: "LabelStudio", title: str, interface: "Interface", *, overlap: int = 1
) -> Project:
    """Create the project with this title, or bring it up to date if it is ours or nobody's.

    Raises
    ------
    InputError
        As of `identity_of`; nothing was changed then.
    LabelStudioError
        Label Studio refuses, see `LabelStudio.ensure_project`.
    """
    found = client.find_project(title)
    if found is not None:
        owned(ledger, client, found)
    reserved = ledger.reserve_project(title, client.url) if found is None else None
    project_id = client.ensure_project(title, interface, overlap=overlap, identity=reserved)
    return owned(ledger, client, client.project(project_id))


def sign(ledger: "Ledger", client: "LabelStudio", project: Project) -> None:
    """Write into the project's description which round it has got last."""
    assert project.identity is not None
    client.sign(project.project_id, project.identity, ledger.newest_pushed())


def was_set_back(ledger: "Ledger", project: Project) -> bool:
    """Say whether Label Studio has lost a round that it had: the project is another one, or an older state of it."""
    newest = ledger.newest_pushed()
    return newest is not None and (project.newest_round or "") < newest

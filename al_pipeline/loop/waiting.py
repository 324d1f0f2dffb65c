"""What people are told who have no image to label."""

from al_pipeline.core.rounds import Decision, Done, RoundStatus, Stalled

RELOAD = "where Label Studio says “No More Tasks Left in Queue”, reload the page then"


def lasting(decision: Decision) -> str:
    """Return why no image will come by itself, a sentence for annotators; empty if the loop goes on."""
    if isinstance(decision, Stalled):
        return f"No more images for now: somebody has to look at the loop. {decision.reason}."
    return f"Thank you, this was all: {decision.reason}." if isinstance(decision, Done) else ""


def coming(status: RoundStatus, decision: Decision, seconds: float | None) -> str:
    """Return when the next batch comes, a sentence; empty if nobody waits for one, or none is made.

    Parameters
    ----------
    status : RoundStatus
    decision : Decision
    seconds : float, optional
        What the last round took, if it is known.
    """
    if isinstance(decision, Done | Stalled) or status.run_state not in ("in_progress", "succeeded", "failed"):
        return ""
    if status.run_state == "succeeded" and status.answered < status.open_tasks:
        return ""
    about = "soon" if seconds is None else f"in about {max(1, round(seconds))} s"
    return f"The next batch comes {about}; {RELOAD}"

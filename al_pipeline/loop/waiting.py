"""What annotators are told: what is asked of them, and why there is no image to label."""

from typing import TYPE_CHECKING

from al_pipeline.core.errors import ALError
from al_pipeline.core.rounds import Decision, Done, RoundPolicy, RoundStatus, Stalled, round_key
from al_pipeline.loop.asked import batches_now, first_open, what_is_asked

if TYPE_CHECKING:
    from al_pipeline.ledger import Ledger
    from al_pipeline.loop.deployment import Deployment

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


def tell_annotators(deployment: "Deployment", status: RoundStatus, decision: Decision, told: str) -> str:
    """Put above the instructions what the batch asks that people are at, or why none comes; return what is there.

    Parameters
    ----------
    deployment : Deployment
    status : RoundStatus
    decision : Decision
    told : str
        What they were told before; it stays where Label Studio cannot be asked.
    """
    from al_pipeline.labelstudio.notice import tell

    asked = asked_now(deployment.ledger, status)
    sentence = lasting(decision) or (f"{asked}." if asked else "")
    if sentence != told:
        try:
            tell(deployment.label_studio.connection, deployment.project_id(), sentence)
        except ALError:
            # The next look tries again.
            return told
    return sentence


def asked_now(ledger: "Ledger", status: RoundStatus) -> str | None:
    """Say what the batch asks that people are at; while one is made they are at the newest there is.

    It stays true while they answer: Label Studio is not told anew at each answer.
    """
    if status.round_number is None:
        return None
    known = status.run_state == "succeeded"
    key = round_key(status.round_number - status.ahead) if known else ledger.newest_pushed()
    return None if key is None else what_is_asked(ledger, key)


def left_now(ledger: "Ledger", status: RoundStatus, policy: RoundPolicy) -> str | None:
    """Say what is left to label of the batch that people are at, as far as it was pulled; None where none was asked.

    Parameters
    ----------
    ledger : Ledger
    status : RoundStatus
        Without counts, of a round whose run has not succeeded, they are the ledger's.
    policy : RoundPolicy
    """
    if status.round_number is not None and status.run_state == "succeeded":
        return what_is_asked(ledger, round_key(status.round_number - status.ahead), status.left)
    batch = first_open(batches_now(ledger, ledger.newest_pushed(), policy))
    return None if batch is None else what_is_asked(ledger, batch.key, batch.left)

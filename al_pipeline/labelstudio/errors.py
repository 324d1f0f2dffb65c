"""What can go wrong between us and Label Studio; each message says where, what and what to do."""

from al_pipeline.core.errors import ALError


class LabelStudioError(ALError):
    """Label Studio refused a request, or holds something other than expected."""


class LabelStudioUnavailableError(LabelStudioError):
    """It is down, too slow or in trouble itself: the same request may work later."""


class LabelStudioAuthError(LabelStudioError):
    """The token is missing, wrong, expired, or not allowed to do this."""


class LabelStudioNotFoundError(LabelStudioError):
    """The project or task is not there."""

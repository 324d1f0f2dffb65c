"""Steps that are run again by themselves, for what goes wrong in one part of them."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg


@contextmanager
def tried_again(context: dg.AssetExecutionContext, policy: dg.RetryPolicy) -> Iterator[None]:
    """Have the whole step run again, as often and as late as the policy says, if the body of `with` fails.

    A step may have a policy of its own, but that is for all it does: here the rest fails at once. What comes before
    the body is done again too, and must bear it.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, dg.Failure) and not error.allow_retries:
            raise
        wait = policy.calculate_delay(context.retry_number + 1)
        raise dg.RetryRequested(max_retries=policy.max_retries, seconds_to_wait=wait) from error

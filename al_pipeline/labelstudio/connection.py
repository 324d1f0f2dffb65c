"""One connection to a Label Studio server: a timeout on every request, retries where they are safe, typed errors."""

import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from json import JSONDecodeError
from typing import Any, TypeVar

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from al_pipeline.core.errors import ALError

# The sensor has 60 s for a tick: three tries of 10 s leave room.
TRIES = 3
# The server may have been put in front of us again a moment later.
TROUBLE = {408, 425, 429, 500, 501, 502, 503, 504}
T = TypeVar("T")


class LabelStudioError(ALError):
    """Label Studio refused a request, or holds something other than expected."""


class LabelStudioUnavailableError(LabelStudioError):
    """It is down, too slow or in trouble itself: the same request may work later."""


class LabelStudioAuthError(LabelStudioError):
    """The token is missing, wrong, expired, or not allowed to do this."""


class LabelStudioNotFoundError(LabelStudioError):
    """The project or task is not there."""


def time_of(answer: httpx.Response) -> datetime | None:
    """Return the server's time by its answer, to the second; None where it tells none, as uWSGI without a proxy."""
    told = answer.headers.get("date")
    return parsedate_to_datetime(told) if told else None


class Connection:
    """What `LabelStudio` sends its requests through; its parameters are the same."""

    def __init__(self, url: str, token: str, *, timeout: float) -> None:
        self.url, self.timeout = url.rstrip("/"), timeout
        # Secrets read from files often end with a newline, which no HTTP header may hold.
        self.token = token.strip()

    @cached_property
    def _http(self) -> httpx.Client:
        def trouble(response: httpx.Response) -> None:
            if response.status_code in TROUBLE:
                response.raise_for_status()

        # Label Studio sends head and body of an answer in two packets. On a connection that is used again the second
        # one waits 40 ms for our delayed acknowledgement of the first; a new one, without TLS, costs less than one.
        kept = httpx.Limits(max_keepalive_connections=None if self.url.startswith("https:") else 0)
        client = httpx.Client(
            timeout=self.timeout, follow_redirects=True, event_hooks={"response": [trouble]}, limits=kept
        )
        # Whoever holds a connection need not think of closing it.
        weakref.finalize(self, client.close)
        return client

    @cached_property
    def sdk(self) -> Any:
        """The SDK's client; call it inside of `read` or `send`, it may raise already while it is made."""
        if not self.token:
            raise LabelStudioAuthError(
                f"No access token is set for Label Studio at {self.url}: set AL_LABEL_STUDIO_TOKEN to one from "
                "Label Studio, Account & Settings"
            )
        from label_studio_sdk import LabelStudio

        # Left to itself the SDK repeats a POST that was answered with 5xx, and makes a second task of it. The slash
        # keeps the path of a URL when it asks for tokens.
        return LabelStudio(base_url=f"{self.url}/", api_key=self.token, httpx_client=self._http, max_retries=0)

    def read(self, what: str, call: Callable[[], T]) -> T:
        """Make a call that may be repeated, up to three times while the server is in trouble.

        Parameters
        ----------
        what : str
            Completes "Label Studio could not …" in an error.
        call : callable
        """
        retrying = Retrying(
            retry=retry_if_exception_type(LabelStudioUnavailableError),
            stop=stop_after_attempt(TRIES),
            wait=wait_exponential_jitter(multiplier=0.2, max=2, jitter=0.2),
            reraise=True,
        )
        return retrying(self.send, what, call)

    def send(self, what: str, call: Callable[[], T]) -> T:
        """Make a call once. A 401 is the exception: nothing was done then, and a new access token may help."""
        from label_studio_sdk.core.api_error import ApiError
        from label_studio_sdk.core.parse_error import ParsingError

        where = f"Label Studio at {self.url} could not {what}"
        # `from None` throughout: what is below may hold the request's headers, and they hold the token.
        try:
            try:
                return call()
            except ApiError as error:
                if error.status_code != 401 or not self._renew():
                    raise
                return call()
        except httpx.TimeoutException:
            raise LabelStudioUnavailableError(
                f"{where}: no answer within {self.timeout:g} s. Is it overloaded? AL_LABEL_STUDIO_TIMEOUT is the limit"
            ) from None
        except httpx.HTTPStatusError as error:
            raise LabelStudioUnavailableError(
                f"{where}: {error.response.status_code}, the server is in trouble; look at its log"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise LabelStudioUnavailableError(
                f"{where}: {type(error).__name__}. Does it run, and is AL_LABEL_STUDIO_URL right?"
            ) from None
        except ApiError as error:
            raise _refused(where, error.status_code or 0, error.body) from None
        except (ValueError, KeyError, TypeError, AttributeError, ParsingError) as error:
            raise _nonsense(where, type(error).__name__) from None

    def json(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """Return a path of the API as plain JSON; call it inside of `read`.

        The SDK would build a model of every task and annotation, which takes seconds for thousands.
        """
        return self.request(path, params).json()

    def request(self, path: str, params: Mapping[str, Any] | None = None) -> httpx.Response:
        """Return the answer of a path of the API; call it inside of `read`."""
        from label_studio_sdk.core.api_error import ApiError

        answer = self.get(f"{self.url}/{path}", params)
        if answer.is_success:
            return answer
        body = answer.text
        with suppress(JSONDecodeError):
            body = answer.json()
        raise ApiError(status_code=answer.status_code, body=body)

    def get(self, url: str, params: Mapping[str, Any] | None = None) -> httpx.Response:
        """Fetch a URL of this server, logged in; call it inside of `read`."""
        return self._http.get(url, params=params, headers=self.sdk._client_wrapper.get_headers())

    def _renew(self) -> bool:
        """Forget the access token and say whether a new one can be had for a personal token.

        The SDK trusts our clock and keeps a token that the server, ahead of us or with a new key, takes no more.
        """
        if self.token.count(".") != 2 or "sdk" not in self.__dict__:
            return False
        del self.sdk
        return True


def _refused(where: str, status: int, body: Any) -> LabelStudioError:
    told = body
    if isinstance(body, dict):
        # What is wrong is said there; the detail beside it is only "Validation error".
        told = body.get("validation_errors") or body.get("detail") or body
    detail = " ".join(str(told).split())[:300]
    if status < 400:
        return _nonsense(where, "no JSON")
    if status == 401:
        return LabelStudioAuthError(
            f"{where}: 401, the token is wrong, expired or of another server: {detail} Make a new one in Label Studio, "
            "Account & Settings, and set AL_LABEL_STUDIO_TOKEN"
        )
    if status == 403:
        return LabelStudioAuthError(
            f"{where}: 403, the token's owner is not allowed to: {detail} Use the token (AL_LABEL_STUDIO_TOKEN) of "
            "somebody who may manage the project"
        )
    if status == 404:
        return LabelStudioNotFoundError(
            f"{where}: 404, it is not there: {detail} Was the project deleted? Launch `setup`"
        )
    return LabelStudioError(f"{where}: {status} {detail}")


def _nonsense(where: str, kind: str) -> LabelStudioError:
    return LabelStudioError(
        f"{where}: its answer makes no sense ({kind}). Is AL_LABEL_STUDIO_URL a Label Studio, and "
        "AL_LABEL_STUDIO_TOKEN one of its tokens?"
    )

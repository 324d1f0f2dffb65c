"""Who may see the pages: whoever has come by the link once, and no other site's forms."""

import hashlib
import hmac
from collections.abc import Callable, Collection
from urllib.parse import urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN = "token"  # noqa: S105 (the name of the parameter)
# A browser loads and runs nothing of elsewhere for these pages, and shows them in no other page.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Door:
    """Lets requests through that carry a cookie, which the link with the token sets.

    Cookies of one machine go to all of its ports: the cookie is derived from the token, is not the token, and its name
    tells two homes apart.

    Parameters
    ----------
    token : str
        What the link has.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self.cookie = f"al_page_{self._derived('name')[:8]}"
        self._pass, self.form = self._derived("pass"), self._derived("form")

    def _derived(self, purpose: str) -> str:
        return hmac.new(self._token.encode(), purpose.encode(), hashlib.sha256).hexdigest()

    def opens(self, request: Request) -> bool:
        """Say whether the request carries the cookie."""
        return _same(request.cookies.get(self.cookie), self._pass)

    def redirection(self, request: Request) -> Response | None:
        """Return where to go on without the token, with the cookie; None if the right token is not there."""
        if not _same(request.query_params.get(TOKEN), self._token):
            return None
        others = [(name, value) for name, value in request.query_params.multi_items() if name != TOKEN]
        # One slash: two would name another machine.
        address = "/" + request.url.path.lstrip("/") + ("?" + urlencode(others) if others else "")
        response = RedirectResponse(address, 303)
        response.set_cookie(self.cookie, self._pass, max_age=365 * 86_400, httponly=True, samesite="strict")
        return response

    def is_ours(self, form: str | None) -> bool:
        """Say whether a form comes from one of the pages: it has what no other site can know."""
        return _same(form, self.form)


class Guarded:
    """The application behind the door, with headers that keep everything foreign out of its pages.

    Parameters
    ----------
    app : ASGI application
    door : Door
    open_to_all : collection of str
        Paths that tell nothing.
    refusal : callable
        Returns what whoever does not come by the link gets.
    """

    def __init__(self, app: ASGIApp, door: Door, open_to_all: Collection[str], refusal: Callable[[], Response]) -> None:
        self._app, self._door, self._open, self._refusal = app, door, open_to_all, refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        request = Request(scope)
        app = self._door.redirection(request)
        if app is None:
            allowed = request.url.path in self._open or self._door.opens(request)
            app = self._app if allowed else self._refusal()
        await app(scope, receive, sent)


def _same(given: str | None, expected: str) -> bool:
    return given is not None and hmac.compare_digest(given.encode(), expected.encode())

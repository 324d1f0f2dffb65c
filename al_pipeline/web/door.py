"""The door to Label Studio: an address that lets one person in without typing a password, straight to the first task.

Browsers keep cookies by host and not by port, so a server beside Label Studio on the same host can hand over a session
of it. The address has a secret, is good for one visit, and leads to the login form after that.
"""

import re
import secrets
import threading

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from al_pipeline.core.errors import ALError
from al_pipeline.loop.local import Credentials

SESSION = "sessionid"
# Neither kept by the browser nor told to the page that it leads to.
DISCREET = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


class DoorError(ALError):
    """Label Studio let nobody in."""


def door(label_studio_url: str, credentials: Credentials, target: str) -> tuple[Starlette, str]:
    """Return the application and the path of its one page.

    Parameters
    ----------
    label_studio_url : str
        Of a server on the host that the application listens on.
    credentials : Credentials
        Of the person who is let in.
    target : str
        Address in Label Studio that the visit leads to.
    """
    path = f"/{secrets.token_urlsafe(16)}"
    unused = threading.Semaphore(1)

    def visit(request: Request) -> Response:
        answer = RedirectResponse(target, headers=DISCREET)
        # A program that looks only at the head of the page is nobody's visit.
        if request.method == "GET" and unused.acquire(blocking=False):
            try:
                answer.set_cookie(SESSION, log_in(label_studio_url, credentials), httponly=True, samesite="lax")
            except (httpx.HTTPError, DoorError):
                # The login form, where the address leads to now, says what is wrong.
                unused.release()
        return answer

    return Starlette(routes=[Route(path, visit)]), path


def log_in(label_studio_url: str, credentials: Credentials) -> str:
    """Log in as the form does, and return the session's cookie.

    Raises
    ------
    httpx.HTTPError
        Label Studio does not answer.
    DoorError
        It has no such form, or refuses the password.
    """
    form = "/user/login/"
    with httpx.Client(base_url=label_studio_url, timeout=30) as browser:
        field = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', browser.get(form).text)
        if field is None:
            raise DoorError(f"{label_studio_url}{form} has no login form")
        person = {"email": credentials.username, "password": credentials.password}
        answer = browser.post(form, data={"csrfmiddlewaretoken": field.group(1)} | person)
        session = browser.cookies.get(SESSION)
    # Strangers have a session too; only who is let in is sent on.
    if session is None or not answer.is_redirect:
        raise DoorError(f"{label_studio_url} refused the login of {credentials.username}")
    return session

"""The pages of one home: made on the server, without scripts, from what the ledger and the rounds' files say."""

import logging
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from al_pipeline.core.data.identity import SAMPLE_ID
from al_pipeline.core.errors import ALError
from al_pipeline.core.rounds import is_round, round_number
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.requests import Requests
from al_pipeline.web.page.batch import Batch, Mistake, batch, has_mistakes, mistakes
from al_pipeline.web.page.curve import curve
from al_pipeline.web.page.door import Door, Guarded
from al_pipeline.web.page.labels import Dispute, Doubt, disputes, doubts, is_a_label, learned_from, requested
from al_pipeline.web.page.later import Later
from al_pipeline.web.page.map import COLOURED, HEIGHT, WIDTH, Dots, Places, coloured, places
from al_pipeline.web.page.overview import Overview, overview
from al_pipeline.web.page.people import People, people
from al_pipeline.web.page.standing import Standing
from al_pipeline.web.page.state import State, state
from al_pipeline.web.page.thumbnails import SIZES, Thumbnails
from al_pipeline.web.serve import read_body

log = logging.getLogger(__name__)
FILES = Path(__file__).parent / "templates"
OPEN = ("/health", "/style.css", "/favicon.ico")
# Images that are shown of a list in which the first count most.
MOST = 60
MAX_FORM = 4096
# Where a button may lead back to.
BACK = re.compile(r"/labels|/rounds/r[0-9]{4}")
# A picture is of a sample id, which is a hash of it; how files are read may change.
KEPT = "private, max-age=3600"


def pages(deployment: Deployment, token: str) -> Guarded:
    """Return the application.

    Parameters
    ----------
    deployment : Deployment
    token : str
        Whoever comes by a link that has it may look from then on.
    """
    door = Door(token)
    shown = Shown(deployment, door)
    routes = [
        Route("/", shown.first),
        Route("/rounds/{key}", shown.round),
        Route("/rounds/{key}/map", shown.map),
        Route("/labels", shown.labels),
        Route("/people", shown.people),
        Route("/again", shown.again, methods=["POST"]),
        Route("/pictures/{size}/{sample}", shown.picture),
        Route("/style.css", lambda _: FileResponse(FILES / "style.css", media_type="text/css")),
        Route("/favicon.ico", lambda _: Response(status_code=204)),
        Route("/health", lambda _: JSONResponse({"status": "UP"})),
    ]
    handlers: dict[Any, Any] = {ALError: shown.failed, HTTPException: shown.refused}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=shown.life)
    return Guarded(app, door, OPEN, partial(shown.message, "Closed", CLOSED, 401))


CLOSED = (
    "This page opens by its own link, once for each browser. Ask for it where the loop runs: al page --link, with the "
    "same --home."
)


class Shown:
    """What each address shows. Every method reads no more than that.

    Parameters
    ----------
    deployment : Deployment
    door : Door
        Knows the forms that come from these pages.
    """

    def __init__(self, deployment: Deployment, door: Door) -> None:
        self._deployment, self._door, self._thumbnails = deployment, door, Thumbnails(deployment)
        self._doubts: Later[str, list[Doubt]] = Later(partial(doubts, deployment))
        # The last part of a key tells whether what was made before still holds.
        self._overview: Later[State, Overview] = Later(lambda _: overview(deployment))
        self._batches: Later[tuple[str, State], Batch] = Later(lambda of: batch(deployment, of[0]))
        self._mistakes: Later[tuple[str, State], list[Mistake] | None] = Later(lambda of: mistakes(deployment, of[0]))
        self._dots: Later[tuple[str, str, State], list[Dots]] = Later(
            lambda of: coloured(deployment, of[0], of[1], self._places.whole(of[0]).at)
        )
        self._disputes: Later[State, list[Dispute]] = Later(lambda _: disputes(deployment))
        self._people: Later[State, People] = Later(lambda _: people(deployment))
        self._places: Later[str, Places] = Later(partial(places, deployment))
        self._standing = Standing(deployment)
        made = Environment(loader=FileSystemLoader(FILES), autoescape=True, undefined=StrictUndefined)
        made.filters |= {"duration": duration, "share": share}
        made.trim_blocks = made.lstrip_blocks = True
        self._templates = made
        # Before anybody comes: the first page is there sooner.
        threading.Thread(target=self._prepare, name="page", daemon=True).start()

    def _prepare(self) -> None:
        """Import what tells how the loop stands, which takes seconds, and compile the templates."""
        self._standing.told(patience=0)
        for name in self._templates.list_templates(extensions=["html"]):
            self._templates.get_template(name)

    @asynccontextmanager
    async def life(self, app: Starlette) -> AsyncIterator[None]:
        """Let go at the end of what is kept open."""
        yield
        self._standing.close()

    def first(self, request: Request) -> Response:
        """Show all rounds."""
        found = self._overview.whole(state(self._deployment))
        drawn = curve(found.rounds)
        return self._page("overview.html", here="first", found=found, curve=drawn, standing=self._standing.told())

    def round(self, request: Request) -> Response:
        """Show one round."""
        key, now = _round(request), state(self._deployment)
        lines = {line.key: line for line in self._overview.whole(now).rounds}
        if key not in lines:
            raise HTTPException(404, f"There is no round {key} in this home.")
        keys = list(lines)
        at = keys.index(key)
        around = {"before": keys[at - 1] if at else None, "after": keys[at + 1] if at + 1 < len(keys) else None}
        found: dict[str, Any] = {"line": lines[key], "batch": self._batches.whole((key, now)), "most": MOST}
        wrong = self._mistakes.get((key, now))
        found["pending"] = wrong is None and has_mistakes(self._deployment, key)
        here = None if around["after"] else "round"
        found |= {"requested": requested(self._deployment), "standing": self._standing.told(key)}
        known = self._places.made(key)
        found["near"] = {} if known is None else known.near
        page = self._page("round.html", here=here, mistakes=wrong, **found, **around)
        # Nobody waits for what an image is like: it is found once the page is out, and whoever comes back sees it.
        page.background = BackgroundTask(self._places.get, key, 0)
        return page

    def map(self, request: Request) -> Response:
        """Show where the pool's images lie in a round, coloured by what the address says."""
        key, by = _round(request), request.query_params.get("by", "label")
        if by not in COLOURED or key not in self._deployment.ledger.rounds():
            raise HTTPException(404, f"There is no map by {by} of a round {key}.")
        known = self._places.get(key)
        dots = None if known is None else self._dots.get((key, by, state(self._deployment)))
        values: dict[str, Any] = {"key": key, "by": by, "coloured": COLOURED, "width": WIDTH, "height": HEIGHT}
        return self._page("map.html", here="map", dots=dots, **values)

    def people(self, request: Request) -> Response:
        """Show who has answered."""
        return self._page("people.html", here="people", found=self._people.get(state(self._deployment)))

    def labels(self, request: Request) -> Response:
        """Show labels to look at again."""
        key = learned_from(self._deployment)
        disputed = self._disputes.get(state(self._deployment))
        doubtful = None if key is None else self._doubts.get(key, patience=0)
        found: dict[str, Any] = {"disputes": disputed, "doubts": doubtful, "requested": requested(self._deployment)}
        pending = key is not None and doubtful is None
        return self._page("labels.html", here="labels", key=key, pending=pending, most=MOST, **found)

    async def again(self, request: Request) -> Response:
        """Have people asked once more about a sample, or not after all, and go back to where the button is."""
        form = parse_qs((await read_body(request, MAX_FORM)).decode("latin-1"))
        sample, back, do = (form.get(name, [""])[0] for name in ("sample", "back", "do"))
        if not self._door.is_ours(form.get("form", [""])[0]):
            raise HTTPException(403, "This was not sent by a button of these pages: go back, load the page anew.")
        if not SAMPLE_ID.fullmatch(sample) or not BACK.fullmatch(back) or do not in ("ask", "leave"):
            raise HTTPException(400, "This is no request of these pages.")
        requests = Requests(self._deployment)
        if do == "leave":
            await run_in_threadpool(requests.take_back, sample)
        elif not await run_in_threadpool(is_a_label, self._deployment, sample):
            raise HTTPException(409, "It has no label, is a test image, or people are asked right now.")
        else:
            await run_in_threadpool(requests.add, sample)
        return RedirectResponse(f"{back}#{sample}", 303)

    def picture(self, request: Request) -> Response:
        """Show a sample's image."""
        sample, size = request.path_params["sample"], request.path_params["size"]
        if not SAMPLE_ID.fullmatch(sample) or size not in SIZES:
            raise HTTPException(404, "There is no such picture.")
        path = self._thumbnails.picture(sample, size)
        if path is None:
            return FileResponse(FILES / "gone.svg", media_type="image/svg+xml")
        return FileResponse(path, media_type="image/jpeg", headers={"Cache-Control": KEPT})

    def message(self, title: str, text: str, status: int) -> Response:
        """Show a sentence in place of a page."""
        page = self._templates.get_template("message.html").render(title=title, text=text, here=None, newest=None)
        return HTMLResponse(page, status)

    async def failed(self, request: Request, error: Exception) -> Response:
        """Show what went wrong, in the words of whoever has noticed it."""
        log.error("%s: %s", request.url.path, " ".join(str(error).split()))
        return self.message("This cannot be shown now", str(error), 503)

    async def refused(self, request: Request, error: HTTPException) -> Response:
        """Show why there is no such page."""
        return self.message("Not here", error.detail, error.status_code)

    def _page(self, template: str, **values: Any) -> Response:
        begun = self._deployment.ledger.rounds()
        newest = max(begun, key=round_number, default=None)
        return HTMLResponse(
            self._templates.get_template(template).render(newest=newest, form=self._door.form, **values)
        )


def duration(seconds: float) -> str:
    """Return seconds as a person says them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def share(value: float) -> str:
    """Return a share as a percentage; what is not quite sure is not called so."""
    return ">99\N{NO-BREAK SPACE}%" if 0.99 < value < 1 else f"{value:.0%}".replace("%", "\N{NO-BREAK SPACE}%")


def _round(request: Request) -> str:
    key = request.path_params["key"]
    if not is_round(key):
        raise HTTPException(404, "The address of a round ends with its key, as r0003.")
    return key

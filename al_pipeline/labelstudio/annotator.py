"""Simulated annotators that answer through Label Studio's API, as people would, and err as people do."""

import hashlib
import hmac
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

import httpx
import numpy as np

from al_pipeline.core.errors import InputError
from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.labelstudio.connection import LabelStudioError, LabelStudioNotFoundError, LabelStudioUnavailableError
from al_pipeline.labelstudio.events import TaskStatus

DOMAIN = "simulated.example.com"


@dataclass(frozen=True)
class Answered:
    """What was answered: labels given (`wrong` of them on purpose) and skips."""

    labeled: int = 0
    skipped: int = 0
    wrong: int = 0


@dataclass(repr=False, eq=False)
class SimulatedAnnotator:
    """One or several annotators who know the answers.

    What they answer depends on the seed, the sample and the annotator alone, never on the order of the tasks.

    Parameters
    ----------
    client : LabelStudio
        Its token's owner is the first annotator.
    project_id : int
    truth : mapping
        sample_id → class; tasks about other samples are left to people.
    class_names : sequence of str
    error_rate, skip_rate : float
        Shares of wrong answers among the labels, and of skips among all answers.
    annotators : int
        How many different Label Studio users answer.
    overlap : int
        Answers that each task gets, by different annotators.
    seconds_per_label : float
        Time that each answer takes.
    seed : int
    """

    client: LabelStudio
    project_id: int
    truth: Mapping[str, str]
    class_names: Sequence[str]
    _: KW_ONLY
    error_rate: float = 0.0
    skip_rate: float = 0.0
    annotators: int = 1
    overlap: int = 1
    seconds_per_label: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.overlap > self.annotators:
            raise InputError(
                f"overlap {self.overlap} (AL_OVERLAP) needs as many different annotators, and there are "
                f"{self.annotators}: use --annotators {self.overlap}"
            )
        self._clients = [self.client, *(sign_up(self.client, i) for i in range(1, self.annotators))]

    def answer_open_tasks(self, *, round_key: str | None = None, limit: int | None = None) -> Answered:
        """Give at most `limit` answers to tasks, of one round or of all, that have fewer answers than the overlap.

        A grid is answered whole, also where that makes a few more.
        """
        labeled = skipped = wrong = 0
        for task in self.client.tasks(self.project_id, round_key):
            if not self.truth.keys() >= set(task.samples):
                continue
            for who in self._open_seats(task):
                if limit is not None and labeled + skipped >= limit:
                    return Answered(labeled, skipped, wrong)
                answers = {sample: self._answer(sample, who) for sample in task.samples}
                named = {sample: name for sample, name in answers.items() if name is not None}
                seconds = self.seconds_per_label * len(answers)
                time.sleep(seconds)
                # Of a grid, what would be skipped is left open.
                given = list(answers.values()) if task.grid else answers[task.sample_id]
                try:
                    self._clients[who].annotate(task.task_id, given if named else None, lead_time=seconds)
                except LabelStudioNotFoundError:
                    # Somebody deleted the task after we had listed it.
                    break
                labeled += len(named)
                skipped += len(answers) - len(named)
                wrong += sum(name != self.truth[sample] for sample, name in named.items())
        return Answered(labeled, skipped, wrong)

    def _open_seats(self, task: TaskStatus) -> list[int]:
        """Return the annotators who have yet to answer, in an order that depends on the sample alone."""
        order = np.random.default_rng(self._words(task.sample_id, "seats")).permutation(len(self._clients))
        done = task.annotations + task.cancelled
        return [int(who) for who in order[done : self.overlap]]

    def _answer(self, sample_id: str, who: int) -> str | None:
        rng = np.random.default_rng(self._words(sample_id, f"answer {who}"))
        if rng.random() < self.skip_rate:
            return None
        truth = self.truth[sample_id]
        if rng.random() < self.error_rate:
            return str(rng.choice([name for name in self.class_names if name != truth]))
        return truth

    def _words(self, sample_id: str, purpose: str) -> list[int]:
        digest = hashlib.sha256(f"{sample_id} {purpose}".encode()).digest()
        return [self.seed, int.from_bytes(digest[:8], "big")]


def sign_up(client: LabelStudio, number: int) -> LabelStudio:
    """Return a client of another user of the same organization; makes the user at the first call.

    An API call could set who completed an annotation, but then one person would have done it all. These users are
    real: invited, signed up, each with a token. Their passwords follow from the first annotator's token, so that a
    later run finds them again and none is stored.
    """
    email = f"annotator{number}@{DOMAIN}"
    password = hmac.new(client.secret.encode(), email.encode(), "sha256").hexdigest()[:24]
    try:
        with httpx.Client(base_url=client.url, timeout=30, follow_redirects=True) as browser:
            if not (
                _submit(browser, "/user/login/", email, password)
                or _submit(browser, client.invitation(), email, password)
            ):
                raise LabelStudioError(
                    f"Label Studio at {client.url} did not let the simulated user {email} in. If it was made with "
                    "another token, delete it there"
                )
            answer = browser.get("/api/current-user/token")
    except httpx.HTTPError as error:
        raise LabelStudioUnavailableError(
            f"Label Studio at {client.url} could not sign up the simulated user {email}: {type(error).__name__}. "
            "Does it run, and is AL_LABEL_STUDIO_URL right?"
        ) from None
    if answer.status_code != 200:
        raise LabelStudioError(
            f"Label Studio at {client.url} gave no token to the simulated user {email} ({answer.status_code}): "
            "several simulated annotators need legacy tokens (LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN=true)"
        )
    return LabelStudio(client.url, answer.json()["token"])


def _submit(browser: httpx.Client, form: str, email: str, password: str) -> bool:
    """Send a login or sign-up form and say whether we are in."""
    page = browser.get(form)
    field = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    token = field.group(1) if field else browser.cookies.get("csrftoken", "")
    browser.post(
        form,
        data={"csrfmiddlewaretoken": token, "email": email, "password": password, "allow_newsletters": "false"},
        headers={"Referer": f"{browser.base_url}{form.lstrip('/')}"},
    )
    return browser.get("/api/current-user/whoami").status_code == 200

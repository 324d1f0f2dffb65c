"""Pull what people did from Label Studio into the ledger: only what changed, and nothing is missed for it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from al_pipeline.core.labels.annotation import Annotation, moment
from al_pipeline.ledger import Watermark
from al_pipeline.loop.unseen import changed_unseen

if TYPE_CHECKING:
    from al_pipeline.labelstudio.client import LabelStudio
    from al_pipeline.labelstudio.events import ProjectCounts, TaskAnswers
    from al_pipeline.ledger import Ledger

# Pulls look back this far behind the newest change seen: servers' clocks differ and requests overtake each other.
OVERLAP = timedelta(minutes=5)
# The sensor looks every few seconds, and what it may have missed is read again once a batch is out. A round need not
# read anew what was read so recently.
RECENT = timedelta(seconds=30)
# Of ten people there is always something new, and they wait for the server that lists it: a look reads what is as
# recent as requests are long. What was overtaken by more, and no counter tells, is found when the same moments are read
# once more, half a minute later: so many seconds of them at a time, that no look takes much longer for it.
JUST_NOW, AGAIN = timedelta(seconds=2), timedelta(seconds=10)
# People may answer while we read. Then the counts before and after differ, and what is new is read once more.
TRIES = 3
# Two people who submit at the same moment may get their numbers in the other order.
AT_ONCE = timedelta(seconds=1)
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
# The server tells its time without fractions: it is up to so much later.
SECOND = timedelta(seconds=1)


def pull(
    ledger: "Ledger",
    client: "LabelStudio",
    project_id: int,
    *,
    source: str,
    round_key: str | None = None,
    min_seconds: float | None = None,
    overlap: timedelta = OVERLAP,
) -> int:
    """Append what people did since the last pull to the ledger and return how many events are new.

    Only tasks that changed since the last pull are read. Then the project's own counters are compared with what the
    ledger holds, and if they tell again and again of something that was missed, everything is read: an answer is
    counted a moment before its task is said to have changed. A pull may be killed anywhere and run again, also by two
    at once: what is stored stays, what is not is read again.

    Parameters
    ----------
    ledger : Ledger
    client : LabelStudio
    project_id : int
    source : str
        The name under which the ledger keeps the project's annotations.
    round_key : str, optional
        The round that pulls.
    min_seconds : float, optional
        Answers that took less are kept, but do not count; nor do those that were changed unseen. None takes all.
    overlap : timedelta
        How far before the newest change that was seen it reads again.

    Raises
    ------
    LabelStudioError
        Label Studio could not be read; what was read before is stored.
    """
    reader = _Reader(ledger, client, project_id, source, round_key, min_seconds)
    return reader.pull(client.project_counts(project_id), [overlap] * TRIES)[1]


def pull_news(
    ledger: "Ledger",
    client: "LabelStudio",
    project_id: int,
    *,
    source: str,
    min_seconds: float | None,
    round_key: str | None = None,
) -> "tuple[ProjectCounts, int]":
    """Pull if anything has changed since the last pull; two requests if nothing has. The parameters are `pull`'s.

    It is what a tick of the sensor does: answers live in Label Studio alone for the time between two of them at most.
    What is answered while a tick reads is for the next one; the last moments are read first, and more only if the
    counters tell of more.
    And it is what a round does before it freezes labels, moments after a look has found its batch answered. Whatever
    was given or taken back since then is told by the counters, and what was changed by the newest change. Not told is
    an answer in whose place another was put (the counters stay) by a request that was overtaken: stamped before the
    newest change that the look has read, and stored after it. Such a change is read once the batch is out, when
    `labeling_tasks` pulls the last five minutes, and enters at the next round, as all that comes after the freeze. A
    round that no look came before, within half a minute, reads them first.

    Returns
    -------
    ProjectCounts
        The project's counters just before it was read the last time.
    int
        How many events are new.

    Raises
    ------
    LabelStudioError
        Label Studio could not be read.
    """
    mark, counts = ledger.watermark(source), client.project_counts(project_id)
    lately = round_key is None or (mark and mark.pulled_at and datetime.now(UTC) - mark.pulled_at < RECENT)
    if mark is not None and lately and _over(ledger, source, counts) == (mark.answers_over, mark.skips_over):
        newest = client.newest_change(project_id)
        if newest is None or newest <= mark.until:
            return counts, 0
    reader = _Reader(ledger, client, project_id, source, round_key, min_seconds)
    if round_key is None:
        # What is missing has mostly been counted before its task was said to have changed: it is there a moment later.
        return reader.pull(counts, [JUST_NOW, JUST_NOW, RECENT, OVERLAP], restless=False)
    return reader.pull(counts, [RECENT if lately else OVERLAP] * TRIES)


def _once_more(mark: Watermark | None, counts: "ProjectCounts", now: datetime) -> tuple[datetime, datetime] | None:
    """Return between which moments, by the server's clock, a look reads a second time; None for none.

    Time is cut into pieces of `AGAIN`. A look in another piece than the last pull reads those from that one's on that
    are over since `RECENT`, so each is read once more, whoever looks how often. What is newer than all that the last
    pull saw is read by this one for the first time, and late enough.
    """
    if mark is None or mark.pulled_at is None:
        return None
    begin, end = (moment - (moment - NEVER) % AGAIN for moment in (mark.pulled_at, now))
    ahead = counts.at - now - RECENT
    since, until = begin + ahead - JUST_NOW, min(end + ahead, mark.until)
    return (since, until) if begin < end and since < until else None


def _since(mark: Watermark | None, counts: "ProjectCounts", now: datetime, overlap: timedelta) -> datetime | None:
    """Return the moment, by the server's clock, from which changes are read; None for all there are."""
    if mark is None:
        return None
    elapsed = max(timedelta(0), now - (mark.pulled_at or now))
    return min(mark.until, counts.at - elapsed) - overlap


def _over(ledger: "Ledger", source: str, counts: "ProjectCounts") -> tuple[int, int]:
    answers, skips = ledger.count_annotations(source)
    return answers - counts.annotations, skips - counts.skipped


@dataclass(frozen=True)
class _Reader:
    """Reads a project into the ledger; the attributes are `pull`'s parameters."""

    ledger: "Ledger"
    client: "LabelStudio"
    project_id: int
    source: str
    round_key: str | None
    min_seconds: float | None

    def pull(
        self, counts: "ProjectCounts", overlaps: Sequence[timedelta], *, restless: bool = True
    ) -> "tuple[ProjectCounts, int]":
        """See `pull`, after counters were read; return those from before the last reading, and how many are new.

        Parameters
        ----------
        counts : ProjectCounts
        overlaps : sequence of timedelta
            How far each reading goes back; there is another one while something is missing, or was answered meanwhile.
        restless : bool
            Whether what was answered meanwhile is a reason.
        """
        new, before, after, first = 0, counts, counts, None
        for number, overlap in enumerate(overlaps, 1):
            before, mark, started = after, self.ledger.watermark(self.source), datetime.now(UTC)
            # Each begins where the first has, or further back.
            first = first or mark
            more, newest = self.read(_since(first, before, started, overlap))
            if not restless and (moments := _once_more(mark, before, started)):
                more += self.read(*moments)[0]
            over = _over(self.ledger, self.source, before)
            fits = mark is not None and over == (mark.answers_over, mark.skips_over)
            # What fits has missed nothing, whatever was answered meanwhile.
            after = before if fits and not restless else self.client.project_counts(self.project_id)
            quiet = (before.annotations, before.skipped) == (after.annotations, after.skipped)
            missed = quiet and mark is not None and not fits
            last = number == len(overlaps) or (restless and number > 1)
            if missed and last:
                again, newest = self.read(None)
                more, over = more + again, _over(self.ledger, self.source, after)
            new += more
            # Never later than the server's own time: when its clock is set back, new changes are stamped with that.
            until = min(newest or (mark.until if mark else NEVER), before.at + SECOND)
            if not quiet or (missed and not last):
                # Nothing can be concluded from these counts; those of before stay to be compared with.
                over = (mark.answers_over, mark.skips_over) if mark else (0, 0)
            self.ledger.set_watermark(self.source, Watermark(until, started, *over))
            if (quiet and (last or not missed)) or not (quiet or restless):
                break
        return before, new

    def read(self, since: datetime | None, until: datetime | None = None) -> tuple[int, datetime | None]:
        """Append what changed, page by page; return how many events are new, and the moment of the newest change."""
        new, newest = 0, None
        for page in self.client.answers(self.project_id, updated_since=since, updated_until=until):
            known = self.ledger.known_annotations(self.source, [task.task_id for task in page])
            events = judged([event for task in page for event in task.annotations], known, self.ledger.states)
            if self.min_seconds is not None:
                events = changed_unseen(self.ledger, [hurried(event, self.min_seconds) for event in events], known)
            events += taken_back(page, known)
            new += self.ledger.append(events, datetime.now(UTC), source=self.source, round_key=self.round_key)
            newest = max([task.updated_at for task in page] + ([newest] if newest else []), default=None)
        return new, newest


def judged(
    events: list[Annotation], known: list[Annotation], states: "Callable[[Iterable[str]], list[tuple[Annotation, str]]]"
) -> list[Annotation]:
    """Return the events with what the ledger knows of them: their first author, and whether each is a copy.

    Label Studio forgets who answered when it deletes a user, and gives what was exported and imported again to whoever
    has that number by now. A copy counts once: as the answer that it is a copy of, while it says the same, and as that
    author's changed answer from then on.

    Parameters
    ----------
    events : list of Annotation
        As Label Studio shows them.
    known : list of Annotation
        The latest states that the ledger knows of these tasks' annotations.
    states : callable
        Sample ids → every state of their annotations, with its source: `Ledger.states`.
    """
    authors = {(event.annotation_id, event.created_at): event.annotator for event in known}
    copies = {str(event.sample_id) for event in events if event.import_id is not None and event.sample_id}
    told: defaultdict[tuple[int, str | None], list[Annotation]] = defaultdict(list)
    # The ledger's first, since Label Studio may have forgotten who it was.
    originals = [event for event in events if event.import_id is None]
    for state in [*(state for state, _ in states(copies)), *originals] if copies else []:
        told[state.annotation_id, state.sample_id].append(state)
    found: list[Annotation] = []
    for event in events:
        found.append(_judged(event, authors, told))
        if event.import_id is not None:
            told[event.annotation_id, event.sample_id].append(found[-1])
    return found


def _judged(
    event: Annotation, authors: dict[tuple[int, datetime], str], told: Mapping[tuple[int, str | None], list[Annotation]]
) -> Annotation:
    first = told.get((event.import_id, event.sample_id), []) if event.import_id is not None else []
    # Label Studio may give the number of a deleted annotation to its own copy.
    first = [state for state in first if state.created_at != event.created_at]
    # What is copied may be a copy itself.
    if first := [state for state in first if state.import_id is None] or first:
        same = any((state.value, state.cancelled) == (event.value, event.cancelled) for state in first)
        return replace(event, annotator=first[0].annotator, kind="copy" if same else event.kind)
    # Whose an answer was when it was pulled first stays so, also when that account is deleted, or gets another name.
    return replace(event, annotator=authors.get((event.annotation_id, event.created_at), event.annotator))


def hurried(event: Annotation, min_seconds: float) -> Annotation:
    """Return the event, of the kind ``hasty`` if it took less time than a person needs to look.

    Where nobody took the time, as for what the API was told, it is not known.
    """
    quick = event.lead_time is not None and 0 < event.lead_time < min_seconds
    return replace(event, kind="hasty") if quick and event.kind == "answer" else event


def taken_back(page: "list[TaskAnswers]", known: list[Annotation]) -> list[Annotation]:
    """Return the new state of each annotation that somebody has deleted from a task that is still there.

    The task has changed since the annotation did. A server that was set back to an older state shows a task without
    the annotation too, but one that has not changed since: that is a loss, not a deletion, and the answer stays. So it
    does when the task was made after the answer: Label Studio has given the id of a lost task to another one. And so it
    does when a later annotation has a number that is no larger: numbers go up, but when the server was set back.

    Parameters
    ----------
    page : list of TaskAnswers
        Tasks, and all annotations they have.
    known : list of Annotation
        The latest states that the ledger knows of these tasks' annotations.
    """
    events = [event for task in page for event in task.annotations]
    present = {(event.annotation_id, event.created_at) for event in events}
    tasks = {task.task_id: task for task in page}
    # Copies get whatever number is free.
    numbers = [(event.annotation_id, event.created_at) for event in events if event.import_id is None]

    def is_lost(event: Annotation) -> bool:
        until = event.created_at + AT_ONCE
        return any(number <= event.annotation_id and made > until for number, made in numbers)

    return [
        replace(
            event, updated_at=moment(tasks[event.task_id].updated_at, event.cell), raw={"deleted": True}, deleted=True
        )
        for event in known
        if not event.deleted
        and (event.annotation_id, event.created_at) not in present
        and event.sample_id in tasks[event.task_id].samples
        and tasks[event.task_id].created_at <= event.created_at
        and tasks[event.task_id].updated_at > event.updated_at
        and not is_lost(event)
    ]

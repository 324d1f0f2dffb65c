"""What the terminal says of a loop, in words: pure functions from what is the case to a line, and to what is new."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from al_pipeline.core.evaluation.metrics import METRICS, Difference, Interval
from al_pipeline.loop.asked import Batch, first_open, to_label, what_for
from al_pipeline.servers.watcher import Result, Run, Scene

OVER = {"Stalled", "Done"}


@dataclass(frozen=True)
class News:
    """Something that has happened: to what (a round, ``setup`` or ``loop``), in one word, and the rest in parts.

    `alert`: people are to do something.
    """

    about: str
    what: str
    parts: tuple[str, ...]
    alert: bool = False

    @property
    def line(self) -> str:
        """All of it in one line: the round, the word, a colon, the rest."""
        return f"{self.about} {self.what}: {'; '.join(' '.join(part.split()) for part in self.parts)}"


def now_line(scene: Scene, now: float) -> str:
    """Return what people wait for, in one line; what comes first matters most, since a narrow terminal cuts the end.

    Parameters
    ----------
    scene : Scene
    now : float
        Unix time.
    """
    running, batch = scene.running, first_open(scene.batches)
    if running is None and scene.decision in OVER and not (batch and batch.open and scene.decision == "Done"):
        return f"{scene.decision}: {scene.reason}"
    made = running is not None and not any(each.key == running.key for each in scene.batches)
    # Where two are open, some may answer the first and others have begun the second.
    parts = [
        _answered(each) if each is batch or each.answered else f"{each.key} is ready behind it"
        for each in scene.batches
        if each.open
    ]
    if running is not None:
        # What is only measured keeps nobody waiting.
        parts.append(_made(running, scene.usual, now) if made else f"{running.key} is being measured")
    elif batch and not batch.open:
        parts += [f"{batch.key} is answered", *_to_come(scene, now)]
    return " · ".join(parts) or "Nothing has been asked yet"


def _answered(batch: Batch) -> str:
    # Answered ones are not told apart: whoever sees the row while labeling would know which image was a test.
    kinds = f" ({what_for(batch.training[1], batch.test[1])})" * (batch.test[1] > 0 < batch.training[1])
    return f"{batch.key}: {batch.answered} of {batch.asked} answered{kinds}"


def _made(run: Run, usual: float | None, now: float) -> str:
    spent = max(0.0, now - run.began)
    if run.key is None:
        return f"{run.job} runs, for {spent:.0f} s so far"
    if usual is None or spent >= usual:
        late = "" if usual is None else f" ({usual:.0f} s the last times)"
        return f"{run.key} is being made, for {spent:.0f} s so far{late}"
    return f"{run.key} is being made, its batch comes in about {usual - spent:.0f} s"


def _to_come(scene: Scene, now: float) -> Iterator[str]:
    """Yield when the sensor looks, and when there is something to label again."""
    looks = scene.interval - (now - (scene.looked_at or now)) % scene.interval
    if scene.usual is not None:
        yield f"the next batch comes in about {looks + scene.usual:.0f} s"
    else:
        yield f"the sensor looks in {looks:.0f} s"


def news(before: Scene, after: Scene, address: str) -> list[News]:
    """Return what has happened from one look to the next, in the order in which people care.

    Parameters
    ----------
    before, after : Scene
    address : str
        Of Dagster, where the runs are looked at.
    """
    return [
        *_of_failures(before, after, address),
        *_of_results(before, after),
        *_of_batches(before, after),
        *_of_run(before, after),
        *_of_refining(before, after),
        *_of_words(before, after),
    ]


def _of_failures(before: Scene, after: Scene, address: str) -> Iterator[News]:
    known = {failure.run_id for failure in before.failures}
    for failure in reversed(after.failures):
        if failure.run_id not in known:
            yield News(
                failure.what,
                "canceled" if failure.canceled else "failed",
                (*failure.told, f"{address}/runs/{failure.run_id}"),
                alert=True,
            )


def _of_results(before: Scene, after: Scene) -> Iterator[News]:
    known = {each.key for each in (*before.between, before.result) if each}
    for result in (*after.between, after.result):
        if result is not None and result.key not in known:
            yield from _of_result(result)


def _of_result(result: Result) -> Iterator[News]:
    yield News(result.key, "measured", tuple(_measured(result)))
    # Of what has not learned there is nothing to say but that.
    if not result.trained:
        return
    if result.saved:
        yield News(result.key, "labels saved", (result.saved,))
    if result.advice:
        yield News(result.key, "advice", (result.advice,), alert=result.advice.startswith("Stop"))


def _measured(result: Result) -> Iterator[str]:
    learned = f"{result.labels:,} labels to learn from" if result.trained else "an untrained model"
    yield f"{learned}, {result.test:,} images to test on"
    for metric in METRICS:
        score, change = result.scores.get(metric.name), result.changes.get(metric.name)
        if score is not None:
            yield f"{metric.title} {score.value:.3f} ({score.low:.3f} to {score.high:.3f})" + _changed(change)
    yield from result.notes


def _changed(change: Interval | None) -> str:
    if change is None:
        return ""
    verdict = Difference(*change).verdict
    return f", {change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f}): {verdict}"


def _of_batches(before: Scene, after: Scene) -> Iterator[News]:
    known = {batch.key: batch for batch in before.batches}
    for batch in after.batches:
        was = known.get(batch.key)
        # What has come since the look before was asked and answered, however fast.
        new = was is None and before.seen and batch.key > max(known, default="")
        if was is None and (batch.open or (batch.asked and (new or batch is after.batches[-1]))):
            left = batch.asked if new else batch.left
            yield News(batch.key, "asked", (to_label(batch.training[1], batch.test[1], left=left),))
        if batch.asked and not batch.open and (new or (was is not None and was.open)):
            skipped = f", {batch.skipped} of them skipped" if batch.skipped else ""
            yield News(batch.key, "answered", (f"all {batch.asked} tasks{skipped}",))


def _of_run(before: Scene, after: Scene) -> Iterator[News]:
    run = after.running
    if run is None or (before.running is not None and before.running.began == run.began):
        return
    if run.key is None:
        yield News(run.job, "begun", ("the images are scanned",))
    elif all(batch.key != run.key for batch in after.batches):
        expected = "" if after.usual is None else f", which took {after.usual:.0f} s the last times"
        yield News(run.key, "begun", (f"it learns and chooses the next batch{expected}",))


def _of_refining(before: Scene, after: Scene) -> Iterator[News]:
    if after.refined is not None and after.refined != before.refined:
        yield News(after.refined[0], "refined", after.refined[1:])
    if after.refining is not None and after.refining != before.refining:
        yield News(after.refining, "refining", ("the whole network learns from its labels while people label",))


def _of_words(before: Scene, after: Scene) -> Iterator[News]:
    """Yield what the sensor says; counts in a remark change all the time, and are no news by themselves."""
    if after.hindered and after.hindered != before.hindered:
        yield News("loop", "hindered", (after.hindered, "the sensor looks again by itself"), alert=True)
    if after.decision in OVER and (after.decision, after.reason) != (before.decision, before.reason):
        yield News("loop", str(after.decision).lower(), (str(after.reason),), alert=after.decision == "Stalled")
    if after.warning and after.warning != before.warning:
        yield News("loop", "warning", (after.warning,), alert=True)
    if after.remarks and _without_counts(after.remarks) != _without_counts(before.remarks or ""):
        at = first_open(after.batches)
        yield News(at.key if at else "loop", "note", (after.remarks,))


def _without_counts(text: str) -> str:
    return re.sub(r"\d+", "", text)

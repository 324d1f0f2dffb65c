"""The learning curve as lines of a drawing: places in it, and the marks at its edges."""

from collections.abc import Iterable
from dataclasses import dataclass

from al_pipeline.core.evaluation.metrics import METRICS
from al_pipeline.web.page.overview import RoundLine

# Of the drawing, in its own units, and what is kept free for the marks on the left and below. On a telephone it is
# shown in two thirds of this size.
WIDTH, HEIGHT, LEFT, BELOW, EDGE = 520, 260, 44, 30, 10
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
MOST_MARKS = 6


@dataclass(frozen=True)
class Mark:
    """A place at an edge, and what is written there."""

    place: float
    text: str


@dataclass(frozen=True)
class Line:
    """A metric: where its points lie, its band of 95 %, and what it has come to."""

    name: str
    title: str
    points: list[tuple[float, float, str]]
    band: str

    @property
    def path(self) -> str:
        """The points as SVG wants them."""
        return _path((x, y) for x, y, _ in self.points)


@dataclass(frozen=True)
class Curve:
    """All of it."""

    lines: list[Line]
    across: list[Mark]
    up: list[Mark]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    bottom: int = HEIGHT - BELOW
    right: int = WIDTH - EDGE


def curve(rounds: Iterable[RoundLine]) -> Curve | None:
    """Return the metrics of rounds against labels; None before there are two rounds that have some."""
    rows = [line for line in rounds if line.labels is not None and any(line.scores.values())]
    if len(rows) < 2:
        return None
    scores = [score for line in rows for score in line.scores.values() if score is not None]
    step, low = _scale(min(score.low for score in scores))
    most = max(1, *(line.labels or 0 for line in rows))

    def place(labels: float, share: float) -> tuple[float, float]:
        x = LEFT + labels / most * (WIDTH - LEFT - EDGE)
        y = EDGE + (1 - share) / (1 - low) * (HEIGHT - BELOW - EDGE)
        return round(x, 1), round(y, 1)

    lines = []
    for metric in METRICS:
        found = [(line, score) for line in rows if (score := line.scores.get(metric.name)) is not None]
        if not found:
            continue
        said = [f"{line.key}: {line.labels:,} labels, {metric.title} {score.value:.3f}" for line, score in found]
        at = [line.labels or 0 for line, _ in found]
        scored = [score for _, score in found]
        points = [(*place(n, score.value), text) for n, score, text in zip(at, scored, said, strict=True)]
        top = [place(n, score.high) for n, score in zip(at, scored, strict=True)]
        bottom = [place(n, score.low) for n, score in zip(at, scored, strict=True)]
        lines.append(Line(metric.name, metric.title, points, _path([*top, *reversed(bottom)])))
    up = [Mark(place(0, share)[1], f"{share:.{2 if step < 0.1 else 1}f}") for share in _marks(low, step)]
    return Curve(lines, [Mark(place(n, 1)[0], f"{n:,}") for n in _whole_marks(most)], up)


def _path(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)


def _scale(lowest: float) -> tuple[float, float]:
    """Return the distance of the marks and where the axis begins, at or below the lowest value."""
    step = next((each for each in STEPS if (1 - lowest) / each <= MOST_MARKS), STEPS[-1])
    return step, max(0.0, min(1 - step, int(lowest / step + 1e-9) * step))


def _marks(low: float, step: float) -> list[float]:
    return [low + i * step for i in range(round((1 - low) / step) + 1)]


def _whole_marks(most: int) -> list[int]:
    step = 1
    while most / step > MOST_MARKS:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return list(range(0, most + 1, step))

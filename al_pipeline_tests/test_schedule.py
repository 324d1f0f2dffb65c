"""Whatever worker dies whenever, each test ends once and no worker waits for ever."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from al_pipeline_tests.schedule import FileByFile

FILES = ("one.py", "two.py", "three.py", "four.py", "five.py")


class Worker:
    """What a worker of pytest-xdist does with what it is sent: it begins a test when it knows what comes next."""

    def __init__(self, collection: list[str]) -> None:
        self.collection, self.queue, self.shutting_down = collection, list[int](), False
        self.gateway = SimpleNamespace(id="gw")

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down
        self.queue += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def can_run(self) -> bool:
        return len(self.queue) > (0 if self.shutting_down else 1)


class Session:
    """The controller's side, as far as it calls the scheduler."""

    def __init__(self, collection: list[str], workers: int) -> None:
        config = SimpleNamespace(
            option=SimpleNamespace(loadscopereorder=False), getvalue=lambda _: [f"{workers}*popen"]
        )
        self.scheduler = FileByFile(cast(pytest.Config, config))
        self.collection, self.ended, self.collecting = collection, list[str](), list[Worker]()
        for _ in range(workers):
            self.start()
        while self.collecting:
            self.collected()

    def start(self) -> None:
        worker = Worker(self.collection)
        self.scheduler.add_node(cast(Any, worker))
        self.collecting.append(worker)

    def collected(self) -> None:
        self.scheduler.add_node_collection(cast(Any, self.collecting.pop(0)), self.collection)
        if self.scheduler.collection_is_completed:
            self.scheduler.schedule()

    @property
    def busy(self) -> list[Worker]:
        return [worker for worker in cast(list[Worker], self.scheduler.nodes) if worker.can_run]

    def run(self, worker: Worker) -> None:
        index = worker.queue.pop(0)
        self.ended.append(self.collection[index])
        self.scheduler.mark_test_complete(cast(Any, worker), index)

    def die(self, worker: Worker) -> None:
        running = self.collection[worker.queue[0]]
        assert self.scheduler.remove_node(cast(Any, worker)) == running
        self.ended.append(running)
        self.start()

    def leave(self) -> None:
        """Workers that have nothing left and were told so end."""
        for worker in cast(list[Worker], self.scheduler.nodes):
            if worker.shutting_down and not worker.queue and worker not in self.collecting:
                assert self.scheduler.remove_node(cast(Any, worker)) is None


@given(
    sizes=st.lists(st.integers(1, 5), min_size=3, max_size=5),
    moves=st.lists(st.tuples(st.sampled_from(("run", "run", "run", "die", "collected", "leave")), st.integers(0, 9))),
)
def test_each_test_ends_once_whoever_dies_when(sizes: list[int], moves: list[tuple[str, int]]) -> None:
    collection = [f"{file}::test_{i}" for file, size in zip(FILES, sizes, strict=False) for i in range(size)]
    session = Session(collection, workers=3)
    for move, which in moves:
        if move == "leave":
            session.leave()
        elif move == "collected" and session.collecting:
            session.collected()
        elif move in ("run", "die") and (busy := session.busy):
            getattr(session, move)(busy[which % len(busy)])
    while session.collecting or session.busy:
        if session.collecting:
            session.collected()
        else:
            session.run(session.busy[0])
    assert sorted(session.ended) == sorted(collection)
    assert not session.scheduler.has_pending

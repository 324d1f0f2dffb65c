"""What a run is about, by the newest line of its log."""

import logging

import dagster as dg


class RunWords:
    """Reads the log of one run as it grows.

    Parameters
    ----------
    instance : dagster.DagsterInstance
    run_id : str
    """

    def __init__(self, instance: dg.DagsterInstance, run_id: str) -> None:
        self._instance, self._run_id = instance, run_id
        self._cursor: str | None = None
        self._step = self._said = ""

    def newest(self) -> str:
        """Return the step that began last and what it has said since then; nothing if none has begun."""
        found = self._instance.get_records_for_run(self._run_id, cursor=self._cursor)
        self._cursor = found.cursor
        for record in found.records:
            entry = record.event_log_entry
            if entry.dagster_event is None:
                if int(entry.level) >= logging.INFO:
                    self._said = " ".join(entry.user_message.split())
            elif entry.dagster_event_type == dg.DagsterEventType.STEP_START:
                self._step, self._said = entry.step_key or "", ""
        return ": ".join(filter(None, (self._step, self._said)))

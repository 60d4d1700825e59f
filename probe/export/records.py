"""observations.jsonl: every fact, one JSON object a line, on disk while the run goes on.

`put` only queues; a thread of its own turns facts into text and hands it to the kernel after every batch, so that what
was measured survives a kill -9 up to the last moments. We chose not to fsync: a machine that loses power loses the run
anyway. The queue is bounded; what does not fit, and what a full disk refuses, is counted and never waited for.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
from pathlib import Path

from probe.export.figures import Redact, redacted
from probe.model.observation import Observation, to_json

_log = logging.getLogger(__name__)
QUEUE = 20_000
BATCH = 500
CLOSE_SECONDS = 5.0


class RecordSink:
    """Writes facts to `path` (truncated) until closed. OSError where the file cannot be opened."""

    def __init__(self, path: Path, redact: Redact) -> None:
        # Unbuffered: what the disk refused must not come up again when the file is closed.
        self._file = path.open("wb", buffering=0)
        self._redact = redact
        self._queue: queue.Queue[Observation | None] = queue.Queue(QUEUE)
        self._refused = 0
        self._unwritten = 0
        self._closed = False
        self._thread = threading.Thread(target=self._write, name="records", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Facts that are not in the file."""
        return self._refused + self._unwritten

    def put(self, observation: Observation) -> None:
        """Queue one fact; never waits, never raises."""
        if self._closed:
            self._refused += 1
            return
        try:
            self._queue.put_nowait(observation)
        except queue.Full:
            self._refused += 1

    def close(self) -> None:
        """Write what is queued and close the file; gives up after five seconds. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            self._queue.put(None, timeout=CLOSE_SECONDS)
        except queue.Full:
            pass
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            self._refused += self._queue.qsize()
            _log.warning("observations are not all on disk: %d facts were given up", self.dropped)

    def _write(self) -> None:
        with self._file:
            while True:
                batch = [self._queue.get()]
                while len(batch) < BATCH:
                    try:
                        batch.append(self._queue.get_nowait())
                    except queue.Empty:
                        break
                facts = [fact for fact in batch if fact is not None]
                self._append(facts)
                if len(facts) < len(batch):
                    return

    def _append(self, facts: list[Observation]) -> None:
        lines = [line for fact in facts if (line := self._line(fact))]
        try:
            data = memoryview("".join(lines).encode())
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            if not self._unwritten:
                _log.warning("observations cannot be written: %s", error)
            self._unwritten += len(lines)

    def _line(self, fact: Observation) -> str:
        try:
            return json.dumps(redacted(to_json(fact), self._redact), allow_nan=False, separators=(",", ":")) + "\n"
        except ValueError:
            # A number that is none: JSON has no word for it, and it would poison whoever reads the file.
            self._unwritten += 1
            return ""
